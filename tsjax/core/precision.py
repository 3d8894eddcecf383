"""Sums and losses compute in at least float32, whatever the model's dtype."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def accumulator(dtype: DTypeLike) -> DTypeLike:
  """float64 for float64, float32 for all else (never by promotion)."""
  return jnp.float64 if dtype == jnp.float64 else jnp.float32


def at_least_float32(x: jax.Array) -> jax.Array:
  """bfloat16 and float16 to float32; float32 and float64 as they are."""
  return x.astype(accumulator(x.dtype))
