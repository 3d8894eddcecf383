"""Hint and attention transfer: laws, published values, degenerate maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import objectives
from tsjax.core import errors

attention_transfer = jax.jit(
  objectives.attention_transfer, static_argnames="power"
)


def maps(seed, batch, channels, height, width):
  """Maps drawn as `[batch, channel, height, width]`, given as NHWC."""
  drawn = np.random.RandomState(seed).randn(batch, channels, height, width)
  return drawn.transpose(0, 2, 3, 1)


def students():
  return maps(20, 4, 6, 8, 8), maps(22, 4, 12, 4, 4)


def teachers():
  return maps(21, 4, 6, 8, 8), maps(23, 4, 12, 4, 4)


def cast(arrays, dtype):
  return tuple(jnp.asarray(x, dtype) for x in arrays)


def identity(channels, dtype=jnp.float32):
  """Parameters of a Hint whose projection changes nothing."""
  kernel, bias = jnp.eye(channels, dtype=dtype), jnp.zeros(channels, dtype)
  return {"params": {"projection": {"kernel": kernel, "bias": bias}}}


def test_attention_is_zero_for_itself_and_positive_for_others():
  student, teacher = cast(students(), "float32"), cast(teachers(), "float32")
  np.testing.assert_array_equal(
    objectives.attention_transfer(teacher, teacher), np.zeros(4)
  )
  values = attention_transfer(student, teacher)
  assert values.shape == (4,)
  assert (values > 0).all()


def test_attention_ignores_scale_and_number_of_channels():
  student, teacher = cast(students(), "float32")[0], teachers()[0]
  teacher = jnp.asarray(teacher, jnp.float32)
  values = attention_transfer(student, teacher)
  doubled = jnp.concatenate([teacher, teacher], axis=-1)
  np.testing.assert_allclose(
    objectives.attention_transfer(7 * student, doubled), values, rtol=1e-5
  )


def test_attention_values_examples_one_by_one():
  student, teacher = cast(students(), "float32"), cast(teachers(), "float32")
  order = np.array([2, 0, 3, 1])
  values = attention_transfer(student, teacher)
  permuted = attention_transfer(
    tuple(s[order] for s in student), tuple(t[order] for t in teacher)
  )
  np.testing.assert_allclose(permuted, values[order], rtol=1e-6)


def test_attention_value_of_a_public_implementation():
  # p = 2, two pairs of maps; RepDistiller.
  expected = 0.025293277692240677
  with jax.enable_x64(True):
    values = attention_transfer(
      cast(students(), "float64"), cast(teachers(), "float64")
    )
    assert values.dtype == jnp.float64
    np.testing.assert_allclose(values.mean(), expected, rtol=1e-6)
  values = attention_transfer(
    cast(students(), "float32"), cast(teachers(), "float32")
  )
  np.testing.assert_allclose(values.mean(), expected, rtol=1e-4)


def test_attention_by_hand():
  # Maps (1, 0) and (0, 1): the mean of two squared differences of 1.
  student = jnp.asarray([1.0, 0.0]).reshape(1, 1, 2, 1)
  value = objectives.attention_transfer(student, student[:, :, ::-1])
  np.testing.assert_allclose(value, [1.0])


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("teacher_is_zero", [False, True])
def test_attention_of_dead_maps_has_finite_gradients(power, teacher_is_zero):
  student = jnp.zeros((2, 3, 3, 4))
  teacher = student if teacher_is_zero else student + 1
  value, gradient = jax.jit(
    jax.value_and_grad(
      lambda s: objectives.attention_transfer(s, teacher, power=power).sum()
    )
  )(student)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_attention_of_bfloat16_is_computed_in_float32():
  student, teacher = cast(students(), "bfloat16"), cast(teachers(), "bfloat16")
  values = attention_transfer(student, teacher)
  assert values.dtype == jnp.float32
  with jax.enable_x64(True):
    wide = attention_transfer(
      *(
        tuple(jnp.asarray(np.asarray(x, np.float64)) for x in side)
        for side in (student, teacher)
      )
    )
  np.testing.assert_allclose(values, wide, rtol=1e-4)


def test_attention_refuses_taps_that_do_not_pair():
  student, teacher = cast(students(), "float32"), cast(teachers(), "float32")
  with pytest.raises(errors.UserError, match="2 student taps and 1 teacher"):
    objectives.attention_transfer(student, teacher[:1])
  with pytest.raises(errors.UserError, match="2 student taps and 1 teacher"):
    objectives.attention_transfer(student, teacher[0])
  with pytest.raises(errors.UserError, match="1 student taps and 2 teacher"):
    objectives.attention_transfer(student[0], teacher)
  with pytest.raises(errors.UserError, match="one resolution"):
    objectives.attention_transfer(student[0], teacher[1])
  # One position has a constant map: the term would be 0 for ever.
  with pytest.raises(errors.UserError, match="no positions"):
    objectives.attention_transfer(jnp.ones((4, 6)), jnp.ones((4, 6)))


def test_hint_error_of_a_public_implementation():
  # Mean squared error; RepDistiller.
  expected = 1.9759554260782437
  hint = objectives.Hint()
  student, teacher = students()[0], teachers()[0]
  values = hint.apply(identity(6), *cast((student, teacher), "float32"))
  assert values.shape == (4,)
  assert values.dtype == jnp.float32
  np.testing.assert_allclose(values.mean(), expected, rtol=1e-4)
  with jax.enable_x64(True):
    values = hint.apply(
      identity(6, "float64"), *cast((student, teacher), "float64")
    )
    np.testing.assert_allclose(values.mean(), expected, rtol=1e-6)


def test_hint_is_zero_for_itself_and_values_examples_one_by_one():
  student, teacher = cast((students()[0], teachers()[0]), "float32")
  hint = objectives.Hint()
  np.testing.assert_allclose(
    hint.apply(identity(6), teacher, teacher), 0, atol=1e-12
  )
  values = hint.apply(identity(6), student, teacher)
  np.testing.assert_allclose(
    hint.apply(identity(6), student[::-1], teacher[::-1]),
    values[::-1],
    rtol=1e-6,
  )


@pytest.mark.parametrize("shape", [(3,), (7, 3), (4, 4, 3)])
def test_hint_learns_a_map_to_the_teachers_width(shape):
  generator = np.random.RandomState(0)
  student = jnp.asarray(generator.randn(2, *shape), jnp.float32)
  teacher = jnp.asarray(generator.randn(2, *shape[:-1], 5), jnp.float32)
  hint = objectives.Hint()
  variables = hint.init(jax.random.key(0), student, teacher)
  assert jax.tree.map(jnp.shape, variables) == {
    "params": {"projection": {"kernel": (3, 5), "bias": (5,)}}
  }

  def loss(variables):
    values = hint.apply(variables, student, teacher)
    assert values.shape == (2,)
    return values.mean()

  value, gradient = jax.jit(jax.value_and_grad(loss))(variables)
  stepped = jax.tree.map(lambda p, g: p - 0.1 * g, variables, gradient)
  assert loss(stepped) < value


def test_hint_of_bfloat16_is_computed_in_float32():
  student, teacher = cast((students()[0], teachers()[0]), "bfloat16")
  values = objectives.Hint().apply(identity(6), student, teacher)
  assert values.dtype == jnp.float32
  difference = np.asarray(student, np.float64) - np.asarray(teacher, np.float64)
  np.testing.assert_allclose(
    values, (difference**2).mean(axis=(1, 2, 3)), rtol=1e-4
  )


def test_hint_refuses_another_resolution():
  with pytest.raises(errors.UserError, match="one resolution"):
    objectives.Hint().init(
      jax.random.key(0), jnp.ones((2, 8, 8, 3)), jnp.ones((2, 4, 4, 3))
    )
