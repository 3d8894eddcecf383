"""Learned maps from the student's features to the teacher's widths."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.objectives import arrays


class BatchNorm(nn.Module):
  """Normalises channels by the valid examples of this batch alone.

  A connector is used in training only, so that no running average is kept.
  """

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """`[batch, ..., channels]`; what is not valid comes out as 0."""
    shape = (1,) * (x.ndim - 1) + x.shape[-1:]
    scale = self.param("scale", nn.initializers.ones, shape[-1:], x.dtype)
    bias = self.param("bias", nn.initializers.zeros, shape[-1:], x.dtype)
    valid = jnp.ones(x.shape[:-1], bool)
    if mask is not None:
      valid = valid & arrays.spread(mask, x.ndim - 1)
    valid = valid[..., None]
    axes = tuple(range(x.ndim - 1))
    count = jnp.maximum(valid.sum().astype(x.dtype), 1.0)

    def mean(values: jax.Array) -> jax.Array:
      return jnp.where(valid, values, 0.0).sum(axes, keepdims=True) / count

    centred = x - mean(x)
    normal = centred * jax.lax.rsqrt(mean(jnp.square(centred)) + 1e-5)
    moved = normal * scale.reshape(shape) + bias.reshape(shape)
    return jnp.where(valid, moved, 0.0)


class Connector(nn.Module):
  """A convolution to the teacher's channels, batch-normalised.

  Attributes:
    channels: the teacher's.
    kernel: size of the kernel along every axis of positions.
    batch_norm: False leaves the norm out, and puts a bias in its place.
  """

  channels: int
  kernel: int = 1
  batch_norm: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """`[batch, ..., any]` to `[batch, ..., channels]`."""
    x = convolution(
      self.channels, self.kernel, x, bias=not self.batch_norm, name="map"
    )
    return BatchNorm(name="norm")(x, mask) if self.batch_norm else x


def convolution(
  channels: int, kernel: int, x: jax.Array, *, bias: bool, name: str
) -> jax.Array:
  """Convolves every axis of positions, padded to the same size.

  To be called inside a module's compact method.
  """
  if kernel == 1 or x.ndim == 2:
    layer = nn.Dense(channels, use_bias=bias, param_dtype=x.dtype, name=name)
  else:
    layer = nn.Conv(
      channels,
      (kernel,) * (x.ndim - 2),
      use_bias=bias,
      param_dtype=x.dtype,
      name=name,
    )
  return layer(x)
