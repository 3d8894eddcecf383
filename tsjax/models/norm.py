"""Batch norm as all convolutional models here use it."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from tsjax.models import axes

MOMENTUM = 0.9
EPSILON = 1e-5


def batch_norm(
  *,
  train: bool,
  dtype: DTypeLike | None = None,
  axis_name: str | None = None,
  zero_scale: bool = False,
  name: str | None = None,
) -> nn.BatchNorm:
  """A batch norm over the global batch, its statistics float32.

  Under `jit` on a mesh the batch is one array, so its mean is the global one;
  under `pmap` each device sees its part, so `axis_name` must be bound. Call it
  inside a compact method.

  Args:
    train: whether to use the batch's statistics, and update the running ones,
      rather than use the running ones.
    dtype: of the output; None is that of the input.
    axis_name: the axis of `pmap` to average over; None elsewhere.
    zero_scale: start the scale at zero rather than one, so that a residual
      block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, 5.1).
    name: of the submodule.
  """
  scale = (
    nn.initializers.zeros_init if zero_scale else nn.initializers.ones_init
  )
  return nn.BatchNorm(
    use_running_average=not train,
    momentum=MOMENTUM,
    epsilon=EPSILON,
    dtype=dtype,
    param_dtype=jnp.float32,
    axis_name=axis_name,
    scale_init=nn.with_logical_partitioning(scale(), axes.NORM),
    bias_init=nn.with_logical_partitioning(
      nn.initializers.zeros_init(), axes.NORM
    ),
    name=name,
  )
