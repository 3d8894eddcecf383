"""Batch norm as all convolutional models here use it."""

from flax import linen as nn
import jax
import numpy as np

from tsjax.models import axes

MOMENTUM = 0.9
EPSILON = 1e-5


def batch_norm(
  inputs: jax.Array,
  *,
  train: bool,
  axis_name: str | None = None,
  zero_scale: bool = False,
  name: str | None = None,
) -> jax.Array:
  """Normalizes over the global batch; call it inside a compact method.

  Under `jit` on a mesh the batch is one array, so its mean is the global one;
  under `pmap` each device sees its part, so `axis_name` must be bound.

  Args:
    inputs: `[..., channels]`.
    train: whether to use the batch's statistics, and update the running ones,
      rather than use the running ones.
    axis_name: the axis of `pmap` to average over; None elsewhere.
    zero_scale: start the scale at zero rather than one, so that a residual
      block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, 5.1).
    name: of the submodule.

  Returns:
    An array like `inputs`. Statistics, parameters and the arithmetic are
    float32 whatever the dtype.
  """
  initial_scale = nn.initializers.zeros if zero_scale else nn.initializers.ones
  # The casts stand here because Flax's own are refused under strict promotion.
  dtype = np.promote_types(inputs.dtype, np.float32)
  outputs = nn.BatchNorm(
    use_running_average=not train,
    momentum=MOMENTUM,
    epsilon=EPSILON,
    dtype=dtype,
    axis_name=axis_name,
    scale_init=nn.with_logical_partitioning(initial_scale, axes.NORM),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes.NORM),
    name=name,
  )(inputs.astype(dtype))
  return outputs.astype(inputs.dtype)
