"""`Mean`: a mean that padding and sharding cannot change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import metrics


def test_parts_add_up_to_the_whole():
  values = jnp.asarray(np.random.RandomState(0).randn(10), jnp.float32)
  mask = jnp.arange(10) % 3 > 0
  whole = metrics.Mean.of(values, mask)
  parts = metrics.Mean.of(values[:3], mask[:3]) + metrics.Mean.of(
    values[3:], mask[3:]
  )
  np.testing.assert_allclose(parts.value(), whole.value(), rtol=1e-6)
  np.testing.assert_allclose(whole.value(), values[mask].mean(), rtol=1e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_a_masked_value_cannot_reach_the_result(garbage):
  mean = metrics.Mean.of(
    jnp.asarray([1.0, garbage, 3.0]), jnp.asarray([True, False, True])
  )
  assert mean.value() == 2.0


def test_a_mask_of_examples_covers_their_tokens():
  values = jnp.asarray([[1.0, 2.0], [10.0, 20.0]])
  mean = metrics.Mean.of(values, jnp.asarray([True, False]))
  assert (mean.total, mean.count) == (3.0, 2.0)
  assert metrics.Mean.of(values).value() == 33 / 4


def test_nothing_counted_is_zero():
  mean = metrics.Mean.of(jnp.ones(3), jnp.zeros(3, bool))
  assert mean.value() == 0


def test_a_count_below_one_is_a_count():
  mean = metrics.Mean(jnp.float32(1.0), jnp.float32(0.5))
  assert mean.value() == 2.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "bool"])
def test_sums_are_at_least_float32(dtype):
  mean = metrics.Mean.of(jnp.ones(4097, dtype))
  assert mean.total.dtype == mean.count.dtype == jnp.float32
  assert (mean.total, mean.count) == (4097, 4097)


def test_a_mean_is_a_tree():
  mean = jax.jit(lambda x: metrics.Mean.of(x) + metrics.Mean.of(x))(jnp.ones(3))
  assert (mean.total, mean.count) == (6.0, 6.0)
