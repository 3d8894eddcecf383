"""Losses compute in at least float32, whatever the model's dtype."""

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
  """bfloat16 and float16 to float32; float32 and float64 as they are."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
