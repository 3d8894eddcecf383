"""`Mean(total, count)`: a mean that padding and sharding cannot change."""

import flax.struct
import jax
import jax.numpy as jnp

from tsjax.core import precision


@flax.struct.dataclass
class Mean:
  """A weighted sum and its weight, in at least float32.

  Two means of parts of a batch add up to the mean of the whole, whatever the
  parts' sizes.
  """

  total: jax.Array
  count: jax.Array

  @classmethod
  def of(cls, values: jax.Array, mask: jax.Array | None = None) -> "Mean":
    """The mean of `values` where `mask` is true; both broadcast to one shape.

    A value behind a false mask cannot reach the result, not even as NaN.
    """
    values = precision.at_least_float32(jnp.asarray(values))
    if mask is None:
      return cls(values.sum(), jnp.asarray(values.size, values.dtype))
    mask = jnp.broadcast_to(
      mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape
    )
    kept = jnp.where(mask, values, jnp.zeros((), values.dtype))
    return cls(kept.sum(), mask.sum().astype(values.dtype))

  def __add__(self, other: "Mean") -> "Mean":
    return Mean(self.total + other.total, self.count + other.count)

  def value(self) -> jax.Array:
    """total / count, and 0 where nothing was counted."""
    # A count may be a weight, or a replica's share, and below 1.
    return self.total / jnp.where(self.count > 0, self.count, 1)
