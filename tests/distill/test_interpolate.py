"""The interpolation equation: its ends bit for bit, its line to 2 units."""

import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.distill import interpolate

SMALLEST = float(np.finfo(np.float32).tiny)
JITTED = jax.jit(interpolate.interpolate)

# Zeros of both signs, infinities, quiet and signalling NaNs with a payload,
# subnormal numbers, and ordinary ones.
BITS = {
  "float32": (
    0x80000000, 0, 0x7F800000, 0xFF800000, 0x7FC12345, 0x7F812345, 1, 0x3F9D70A4
  ),
  "bfloat16": (0x8000, 0, 0x7F80, 0xFF80, 0x7FC5, 0x7F85, 1, 0x3F9D),
  "float16": (0x8000, 0, 0x7C00, 0xFC00, 0x7E05, 0x7C05, 1, 0x3C9D),
}  # fmt: skip


def unsigned(dtype):
  return np.dtype(f"uint{8 * jnp.dtype(dtype).itemsize}")


def awkward(dtype, shift=0):
  bits = np.roll(np.array(BITS[dtype], unsigned(dtype)), shift)
  return bits.view(jnp.dtype(dtype))


def exact(student, teacher, alpha):
  """The equation in rational arithmetic, rounded once to float64."""
  alpha = fractions.Fraction(float(np.float32(alpha)))
  values = []
  for s, t in zip(student.ravel(), teacher.ravel()):
    s, t = fractions.Fraction(float(s)), fractions.Fraction(float(t))
    values.append(float(t + alpha * (t - s)))
  return np.array(values).reshape(student.shape)


def assert_on_the_line(student, teacher, alpha):
  """Eager and compiled values are within 2 units in the last place."""
  expected = exact(student, teacher, alpha)
  with np.errstate(over="ignore"):
    rounded = expected.astype(student.dtype)
  fits = np.isfinite(rounded.astype(np.float64))
  unit = np.spacing(np.abs(rounded)) if student.dtype.kind == "f" else None
  if unit is None:  # NumPy has no spacing of bfloat16: 7 digits, not 23.
    unit = np.spacing(np.abs(rounded.astype(np.float32))) * 2.0**16
  # XLA flushes subnormal numbers to zero on some platforms.
  limit = np.maximum(2 * unit.astype(np.float64), SMALLEST)
  for function in (interpolate.interpolate, JITTED):
    actual = function({"x": student}, {"x": teacher}, alpha)["x"]
    assert actual.dtype == student.dtype
    actual = np.asarray(actual).astype(np.float64)
    assert (np.abs(actual - expected) <= limit)[fits].all()
    np.testing.assert_array_equal(actual[~fits], expected[~fits] * np.inf)


@pytest.mark.parametrize("function", [interpolate.interpolate, JITTED])
@pytest.mark.parametrize("dtype", BITS)
def test_the_ends_are_the_inputs_bit_for_bit(function, dtype):
  student, teacher = awkward(dtype), awkward(dtype, shift=3)
  for alpha, expected in ((0.0, teacher), (-1.0, student)):
    actual = function({"x": student}, {"x": teacher}, alpha)["x"]
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(
      np.asarray(actual).view(unsigned(dtype)), expected.view(unsigned(dtype))
    )


@pytest.mark.parametrize("alpha", [-0.999, -0.5, -1e-3, 0.3, 2.7])
def test_random_leaves(alpha):
  generator = np.random.default_rng(0)
  student, teacher = generator.standard_normal((2, 500)).astype(np.float32)
  assert_on_the_line(student, teacher, alpha)


@pytest.mark.parametrize("alpha", [-0.999, -0.5, 0.3])
def test_badly_scaled_leaves(alpha):
  generator = np.random.default_rng(1)
  sign = generator.choice([-1.0, 1.0], (2, 500))
  # Up to the largest number, and down to the smallest normal one, where
  # differences overflow or vanish.
  scale = 10 ** generator.uniform(-37.9, 38.5, (2, 500))
  pair = np.minimum(scale, 3.4e38) * sign
  student, teacher = pair.astype(np.float32)
  assert_on_the_line(student, teacher, alpha)
  near = (student * (1 + 1e-3 * sign[0])).astype(np.float32)
  near = np.where(np.isfinite(near), near, student)
  assert_on_the_line(student, near, alpha)


@pytest.mark.parametrize("alpha", [0.3, -0.7, 1000.3])
def test_leaves_that_cancel(alpha):
  teacher = np.random.default_rng(2).standard_normal(500).astype(np.float32)
  # Where the line crosses zero, nearly all digits of the sum vanish.
  student = (teacher * (1 + 1 / alpha)).astype(np.float32)
  assert_on_the_line(student, teacher, alpha)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_leaves(dtype):
  generator = np.random.default_rng(3)
  pair = generator.standard_normal((2, 200)) * 10 ** generator.uniform(-2, 2)
  student, teacher = pair.astype(jnp.dtype(dtype))
  assert_on_the_line(student, teacher, -0.3)


def test_float64_leaves():
  with jax.enable_x64(True):
    generator = np.random.default_rng(4)
    student, teacher = generator.standard_normal((2, 200)) * 1e200
    value = interpolate.interpolate({"x": student}, {"x": teacher}, -0.5)["x"]
    assert value.dtype == jnp.float64
    expected = exact(student, teacher, -0.5)
    limit = 2 * np.spacing(np.abs(expected))
    assert (np.abs(np.asarray(value) - expected) <= limit).all()


@pytest.mark.parametrize("alpha,beta", [(0.5, -0.25), (-0.3, -0.3), (2.0, 0.5)])
def test_twice_is_once_with_minus_the_product(alpha, beta):
  student, teacher = np.random.default_rng(5).standard_normal((2, 50))
  student, teacher = ({"x": x.astype(np.float32)} for x in (student, teacher))
  once = JITTED(student, teacher, alpha)
  twice = JITTED(once, teacher, beta)
  direct = JITTED(student, teacher, -alpha * beta)
  np.testing.assert_allclose(twice["x"], direct["x"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [interpolate.interpolate, JITTED])
def test_integers_are_the_teachers_but_for_minus_one(function):
  student = {"count": np.int32([1, 2]), "flag": np.array([True, False])}
  teacher = {"count": np.int32([7, 8]), "flag": np.array([False, False])}
  for alpha in (-1.0, -0.9, 0.0, 0.5):
    actual = function(student, teacher, alpha)
    expected = student if alpha == -1 else teacher
    for name in expected:
      np.testing.assert_array_equal(actual[name], expected[name])
      assert actual[name].dtype == expected[name].dtype


def test_a_variance_does_not_become_negative():
  student = {"norm": {"var": np.float32([4.0]), "mean": np.float32([4.0])}}
  teacher = {"norm": {"var": np.float32([1.0]), "mean": np.float32([1.0])}}
  past = interpolate.interpolate(student, teacher, 1.0)["norm"]
  np.testing.assert_array_equal(past["var"], [0.0])
  np.testing.assert_array_equal(past["mean"], [-2.0])
  between = interpolate.interpolate(student, teacher, -0.5)["norm"]
  np.testing.assert_array_equal(between["var"], [2.5])


@pytest.mark.parametrize("function", [interpolate.interpolate, JITTED])
def test_infinities_do_as_in_the_equation(function):
  student = {"x": np.float32([1.0, -np.inf, np.inf])}
  teacher = {"x": np.float32([np.inf, 1.0, 1.0])}
  np.testing.assert_array_equal(
    function(student, teacher, 0.5)["x"], [np.inf, np.inf, -np.inf]
  )


def test_trees_that_do_not_match_are_refused():
  leaf = np.zeros((2, 3), np.float32)
  cases = (
    ({"a": leaf}, {"a": leaf, "b": leaf}, "the student has no leaf 'b'"),
    ({"a": leaf, "b": leaf}, {"a": leaf}, "the teacher has no leaf 'b'"),
    ({"a": leaf}, {"a": leaf.T}, r"leaf 'a' is \(2, 3\).* and \(3, 2\)"),
    ({"a": leaf}, {"a": leaf.astype(np.int32)}, "float32 .* and int32"),
  )
  for student, teacher, message in cases:
    with pytest.raises(errors.UserError, match=message):
      interpolate.interpolate(student, teacher, 0.5)
