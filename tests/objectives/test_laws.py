"""What holds for every loss: the laws, over the table of loss_cases.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives import loss_cases as cases

BATCH = cases.BATCH
every = pytest.mark.parametrize("name", cases.CASES)


def where(condition):
  """The cases for which a law is stated."""
  return pytest.mark.parametrize(
    "name", [n for n, case in cases.CASES.items() if condition(case)]
  )


def finite(tree):
  return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def mapped(given, function):
  """`function` on every array that has a row for each example."""
  return {
    key: tuple(map(function, x)) if isinstance(x, tuple) else function(x)
    for key, x in given.items()
  }


@every
def test_value_and_gradient_are_finite_and_something_is_learned(name):
  case = cases.CASES[name]
  found = cases.evaluate(name, case.make())
  assert found.count > 0
  assert finite((found.value, found.gradient))
  assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(found.gradient))
  if case.positive:
    assert found.value >= 0


@where(lambda case: case.zero)
def test_zero_where_the_student_is_the_teacher(name):
  given = dict(cases.CASES[name].make())
  other = cases.evaluate(name, given).value
  given["student"] = given["teacher"]
  same = cases.evaluate(name, given)
  assert abs(same.value) < 1e-5 * max(other, 1e-2)
  assert other > 0
  assert finite(same.gradient)


@every
def test_what_is_behind_the_mask_cannot_reach_value_or_gradient(name):
  given = cases.CASES[name].make()
  mask = np.arange(BATCH) < BATCH - 2
  found = cases.evaluate(name, given, mask)

  def spoilt(x):
    x = np.array(x)
    x[~mask] = 1e3 if x.dtype.kind == "f" else 0
    return x

  other = cases.evaluate(name, mapped(given, spoilt), mask)
  np.testing.assert_allclose(other.value, found.value, rtol=1e-5)
  np.testing.assert_allclose(other.count, found.count)
  for a, b in zip(
    jax.tree.leaves(other.gradient),
    jax.tree.leaves(found.gradient),
    strict=True,
  ):
    np.testing.assert_array_equal(a[~mask], 0)
    scale = np.abs(b).max()
    np.testing.assert_allclose(a[mask], b[mask], atol=1e-4 * scale + 1e-12)


@where(lambda case: not case.ordered)
def test_the_order_of_examples_does_not_matter(name):
  given = cases.CASES[name].make()
  order = np.random.RandomState(5).permutation(BATCH)
  found = cases.evaluate(name, given)
  other = cases.evaluate(name, mapped(given, lambda x: x[order]))
  np.testing.assert_allclose(other.value, found.value, rtol=1e-4)
  if not cases.CASES[name].couples:
    for a, b in zip(
      jax.tree.leaves(other.values), jax.tree.leaves(found.values), strict=True
    ):
      np.testing.assert_allclose(a, b[order], rtol=1e-4, atol=1e-6)


@where(lambda case: not case.couples and not case.ordered)
def test_examples_are_valued_one_by_one(name):
  """So the value of a batch is the mean of its parts, however it is cut."""
  given = cases.CASES[name].make()
  values = cases.evaluate(name, given).values
  others = mapped(given, lambda x: np.concatenate([x[:3], x[:3]]))
  for a, b in zip(
    jax.tree.leaves(cases.evaluate(name, others).values),
    jax.tree.leaves(values),
    strict=True,
  ):
    np.testing.assert_allclose(a[:3], b[:3], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a[3:], b[:3], rtol=1e-4, atol=1e-6)


@where(lambda case: case.couples)
def test_a_masked_batch_is_the_batch_without_what_is_masked(name):
  given = cases.CASES[name].make()
  kept = np.arange(BATCH) < BATCH - 2
  masked = cases.evaluate(name, given, kept)
  alone = cases.evaluate(name, mapped(given, lambda x: x[kept]), kept[kept])
  np.testing.assert_allclose(masked.value, alone.value, rtol=1e-5)
  assert 0 < masked.count == alone.count


@every
def test_degenerate_input_has_finite_values_and_gradients(name):
  given = cases.CASES[name].make()
  zeros = mapped(given, np.zeros_like)
  same_rows = mapped(given, lambda x: np.repeat(x[:1], BATCH, axis=0))
  one, none = np.arange(BATCH) == 2, np.zeros(BATCH, bool)
  for tried, mask in (
    (zeros, None),
    ({**given, "student": zeros["student"]}, None),
    ({**given, "teacher": zeros.get("teacher")}, None),
    (same_rows, None),
    (given, one),
    (zeros, none),
    (given, none),
  ):
    tried = {key: x for key, x in tried.items() if x is not None}
    found = cases.evaluate(name, tried, mask)
    assert finite((found.value, found.gradient))
    if mask is none:
      assert found.value == 0
      assert not any(np.abs(g).max() for g in jax.tree.leaves(found.gradient))


@every
def test_bfloat16_inputs_are_computed_in_float32(name):
  case = cases.CASES[name]

  def rounded(x):
    if np.asarray(x).dtype.kind != "f":
      return x
    return np.asarray(jnp.asarray(x, jnp.bfloat16)).astype(np.float64)

  given = mapped(case.make(), rounded)
  narrow = cases.evaluate(name, given, dtype="bfloat16").value
  wide = cases.evaluate(name, given, dtype="float64").value
  assert narrow.dtype == np.float32
  assert wide.dtype == np.float64
  np.testing.assert_allclose(narrow, wide, rtol=case.tolerance, atol=1e-7)
