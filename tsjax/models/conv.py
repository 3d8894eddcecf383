"""Convolutions, and grouped ones whose gradient is also fast on a CPU.

XLA on CPU computes the kernel gradient of a grouped convolution tens of times
slower than that of a dense one. `grouped_conv` therefore has two forms there,
and everywhere else it is XLA's own:

block-dense
  The kernel becomes a dense one whose blocks off the diagonal are zero, and
  the blocks on the diagonal are read back from its gradient. It multiplies
  `groups` times as much, at full speed. Taken up to 128 channels.
taps
  The gradient is one batched matrix product for each kernel position, and
  forward is XLA's own, which is slow only backward. Taken above 128 channels.

Milliseconds of forward + backward of 3x3 kernels at stride 1 in float32, from
`python -m tests.benchmarks.conv --seconds 1` on a 2-core x86 machine,
2026-11-23 (other work ran beside it, so read them as ratios):

  batch, size, channels, groups   XLA's own   block-dense  taps        im2col
  64, 8x8, 16, 4                  1.0 + 20    0.2 + 0.5    0.6 + 0.7   0.4 + 0.9
  64, 8x8, 32, 4                  1.7 + 41    0.7 + 1.6    1.4 + 1.2   0.8 + 1.3
  64, 8x8, 64, 4                  2.9 + 106   2.9 + 7.1    3.2 + 3.8   3.2 + 4.0
  32, 32x32, 64, 8                66 + 1993   26 + 54      68 + 114    102 + 125
  32, 28x28, 128, 32              126 + 11531 42 + 153     282 + 361   413 + 325
  32, 14x14, 256, 32              55 + 4916   41 + 109     75 + 73     100 + 108
  32, 7x7, 512, 32                13 + 2025   45 + 88      25 + 32     36 + 35

The taps gain a few milliseconds on some activations below a megabyte; that is
within the noise between runs, so the rule does not ask for it.
"""

from collections.abc import Sequence
import functools

from flax import linen as nn
import flax.linen.dtypes
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from tsjax.core import errors
from tsjax.models import axes

# The largest number of channels that is cheaper as one dense block; measured
# by tests/benchmarks/conv.py.
BLOCK_DENSE_CHANNELS = 128

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def grouped_conv(
  inputs: jax.Array,
  kernel: jax.Array,
  *,
  strides: Strides,
  padding: Padding,
  groups: int,
) -> jax.Array:
  """A two-dimensional convolution of groups of channels.

  The form is chosen per platform when the program is lowered, so a program for
  a TPU that is lowered on a machine without one has the TPU's form. Reverse
  derivatives of any order and `vmap` work; forward mode (`jax.jvp`) does not.
  Under a `vmap` over kernels XLA merges the batch into groups of its own, so
  the values stay right but the gradient on a CPU is slow again.

  Args:
    inputs: `[batch, height, width, channels_in]`.
    kernel: `[height, width, channels_in / groups, channels_out]`, of the
      inputs' dtype.
    strides: of height and width.
    padding: `((top, bottom), (left, right))`, zeros.
    groups: divides both numbers of channels; 1 is XLA's own everywhere.

  Returns:
    `[batch, height, width, channels_out]`, of the inputs' dtype.
  """
  if groups == 1:
    return native(
      inputs, kernel, strides=strides, padding=padding, groups=groups
    )
  return _grouped_conv(inputs, kernel, strides, padding, groups)


class Conv(nn.Module):
  """A convolution of `[batch, height, width, channels]`, grouped or not.

  Attributes:
    features: output channels.
    kernel_size: height and width, or one number for both.
    strides: of height and width, or one number for both.
    groups: divides the input channels and `features`.
    padding: zeros on each side of height and of width, or one number for both;
      None is `kernel_size // 2`, which keeps the size at stride 1 and an odd
      kernel and, unlike "SAME", is symmetric at stride 2.
    use_bias: whether to add a bias.
    dtype: of the computation; None is that of the inputs and parameters.
      Parameters are float32.
    kernel_init: for `[height, width, channels_in / groups, features]`; He et
      al. (2015, arXiv:1502.01852), equation 14 (fan-out).

  Raises:
    UserError: a number is not positive, or `groups` divides not both channels.
  """

  features: int
  kernel_size: int | tuple[int, int] = (3, 3)
  strides: int | tuple[int, int] = 1
  groups: int = 1
  padding: int | tuple[int, int] | None = None
  use_bias: bool = False
  dtype: DTypeLike | None = None
  kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
    2.0, "fan_out", "normal"
  )

  def __post_init__(self):
    self.kernel_size = _pair(self.kernel_size, "kernel_size", at_least=1)
    self.strides = _pair(self.strides, "strides", at_least=1)
    if self.padding is None:
      self.padding = tuple(size // 2 for size in self.kernel_size)
    self.padding = _pair(self.padding, "padding", at_least=0)
    if self.features < 1 or self.groups < 1 or self.features % self.groups:
      raise errors.UserError(
        f"features={self.features} cannot be cut into groups={self.groups}:"
        " choose features that are a multiple of groups"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Convolves `[batch, height, width, channels]`."""
    channels = inputs.shape[-1]
    if channels % self.groups:
      raise errors.UserError(
        f"{channels} input channels cannot be cut into groups={self.groups}:"
        " choose a number of groups that divides them"
      )
    kernel = self.param(
      "kernel",
      nn.with_logical_partitioning(self.kernel_init, axes.CONV_KERNEL),
      (*self.kernel_size, channels // self.groups, self.features),
      jnp.float32,
    )
    inputs, kernel = flax.linen.dtypes.promote_dtype(
      inputs, kernel, dtype=self.dtype
    )
    height, width = self.padding
    outputs = grouped_conv(
      inputs,
      kernel,
      strides=self.strides,
      padding=((height, height), (width, width)),
      groups=self.groups,
    )
    if self.use_bias:
      bias = self.param(
        "bias",
        nn.with_logical_partitioning(
          nn.initializers.zeros_init(), axes.CONV_BIAS
        ),
        (self.features,),
        jnp.float32,
      )
      outputs += bias.astype(outputs.dtype).reshape(1, 1, 1, -1)
    return outputs


def _pair(value: int | Sequence[int], key: str, *, at_least: int) -> Strides:
  pair = (value, value) if isinstance(value, int) else tuple(value)
  if len(pair) != 2 or any(number < at_least for number in pair):
    raise errors.UserError(
      f"{key}={value!r}: write one number or two, each at least {at_least}"
    )
  return pair


def native(
  inputs: jax.Array,
  kernel: jax.Array,
  *,
  strides: Strides,
  padding: Padding,
  groups: int,
) -> jax.Array:
  """XLA's own convolution, with XLA's own gradient."""
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=strides,
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def block_dense(
  inputs: jax.Array,
  kernel: jax.Array,
  *,
  strides: Strides,
  padding: Padding,
  groups: int,
) -> jax.Array:
  """The grouped convolution as a dense one with a block-diagonal kernel.

  A value that is not finite reaches all groups, as zero times it is NaN.
  """
  height, width, channels, features = kernel.shape
  blocks = kernel.reshape(height, width, 1, channels, groups, -1)
  diagonal = jnp.eye(groups, dtype=bool).reshape(1, 1, groups, 1, groups, 1)
  # [height, width, groups, channels / groups, groups, features / groups]
  dense = jnp.where(diagonal, blocks, jnp.zeros((), kernel.dtype))
  dense = dense.reshape(height, width, groups * channels, features)
  return native(inputs, dense, strides=strides, padding=padding, groups=1)


def taps(
  inputs: jax.Array,
  kernel: jax.Array,
  *,
  strides: Strides,
  padding: Padding,
  groups: int,
) -> jax.Array:
  """The grouped convolution as a sum over kernel positions."""
  batch = inputs.shape[0]
  height, width, channels, features = kernel.shape
  padded = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
  rows = (padded.shape[1] - height) // strides[0] + 1
  columns = (padded.shape[2] - width) // strides[1] + 1
  sum_dtype = np.promote_types(inputs.dtype, np.float32)
  total = jnp.zeros((), sum_dtype)
  for i in range(height):
    for j in range(width):
      window = padded[
        :,
        i : i + (rows - 1) * strides[0] + 1 : strides[0],
        j : j + (columns - 1) * strides[1] + 1 : strides[1],
      ]
      total = total + jnp.einsum(
        "nhwgc,cgf->nhwgf",
        window.reshape(batch, rows, columns, groups, channels),
        kernel[i, j].reshape(channels, groups, -1),
        preferred_element_type=sum_dtype,
      )
  total = total.reshape(batch, rows, columns, features)
  return total.astype(inputs.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _grouped_conv(inputs, kernel, strides, padding, groups):
  sizes = {"strides": strides, "padding": padding, "groups": groups}
  form = block_dense if _is_block_dense(kernel, groups) else native
  return jax.lax.platform_dependent(
    inputs,
    kernel,
    cpu=functools.partial(form, **sizes),
    default=functools.partial(native, **sizes),
  )


def _forward(inputs, kernel, strides, padding, groups):
  outputs = _grouped_conv(inputs, kernel, strides, padding, groups)
  return outputs, (inputs, kernel)


def _backward(strides, padding, groups, residuals, cotangent):
  sizes = {"strides": strides, "padding": padding, "groups": groups}
  form = block_dense if _is_block_dense(residuals[1], groups) else taps
  return jax.lax.platform_dependent(
    *residuals,
    cotangent,
    cpu=_pullback(functools.partial(form, **sizes)),
    default=_pullback(functools.partial(native, **sizes)),
  )


_grouped_conv.defvjp(_forward, _backward)


def _is_block_dense(kernel: jax.Array, groups: int) -> bool:
  channels, features = kernel.shape[2] * groups, kernel.shape[3]
  return max(channels, features) <= BLOCK_DENSE_CHANNELS


def _pullback(function):
  """`(inputs, kernel, cotangent)` to the gradients of inputs and kernel."""

  def pull(inputs, kernel, cotangent):
    _, vjp = jax.vjp(function, inputs, kernel)
    return vjp(cotangent)

  return pull
