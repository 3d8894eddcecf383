"""What is computed in which dtype."""

import jax
import jax.numpy as jnp
import pytest

from tsjax.core import precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "int32"])
def test_at_least_float32(dtype):
  assert precision.at_least_float32(jnp.ones(2, dtype)).dtype == jnp.float32


def test_float64_stays():
  with jax.enable_x64(True):
    x = jnp.ones(2, jnp.float64)
    assert precision.at_least_float32(x).dtype == jnp.float64
