"""ResNet and ResNeXt whose matching parts have the same names.

Both are built by one function from the same modules, so weights map from one to
the other by path: `stem/conv`, `stage_1/block_1/conv_2`, `head`. They differ
only in the width and the groups of the 3x3 convolution in a block.

Taps: `stem/output`, `stage_1/output` and so on, `[batch, height, width,
channels]`, and `features`, the pooled `[batch, channels]` that the head reads.
"""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from tsjax.core import errors, taps
from tsjax.models import axes, conv, norm

STEMS = ("small", "imagenet")
# A bottleneck block puts out this many times the channels of its stage.
EXPANSION = 4


class ResNet(nn.Module):
  """A residual network; He et al. (2015, arXiv:1512.03385).

  Stage i of `stage_sizes` has `width * 2^(i - 1)` channels inside its blocks,
  and from stage 2 on halves height and width in its first block. ResNet-50 is
  `stage_sizes=(3, 4, 6, 3), width=64, classes=1000, bottleneck=True,
  stem="imagenet"`.

  Attributes:
    stage_sizes: blocks in each stage.
    width: channels of the stem and of stage 1.
    classes: number of logits.
    bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions, the stride in the 3x3
      ("v1.5"), that put out 4 times their stage's channels; else of two 3x3.
    stem: "small", a 3x3 convolution, or "imagenet", a 7x7 one with stride 2 and
      a 3x3 maximum with stride 2.
    zero_scale: start each block's last norm at scale 0.
    dtype: of the computation; None is that of the inputs. Parameters,
      statistics, features and logits are float32.
    axis_name: the axis of `pmap` that norms average over; None elsewhere.

  Raises:
    UserError: a field is out of its range.
  """

  stage_sizes: Sequence[int]
  width: int
  classes: int
  bottleneck: bool = False
  stem: str = "small"
  zero_scale: bool = False
  dtype: DTypeLike | None = None
  axis_name: str | None = None

  def __post_init__(self):
    self.stage_sizes = tuple(self.stage_sizes)
    _validate(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `[batch, classes]`."""
    return _logits(
      self, inputs, train=train, inner_width=self.width, cardinality=1
    )


class ResNeXt(nn.Module):
  """A residual network of grouped convolutions; Xie et al. (2016,
  arXiv:1611.05431).

  The 3x3 convolution of a bottleneck block is grouped. In a basic block the
  second of the two is, because the paper's section 3.3 shows that grouping both
  would only be a wider ResNet whose groups never meet. Stage i has
  `cardinality * group_width * 2^(i - 1)` channels around the grouped
  convolution. ResNeXt-50 32x4d is `stage_sizes=(3, 4, 6, 3), width=64,
  cardinality=32, group_width=4, classes=1000, stem="imagenet"`.

  Attributes:
    stage_sizes: blocks in each stage.
    width: channels of the stem; a basic block of stage 1 puts out as many, a
      bottleneck block 4 times as many.
    cardinality: groups of the grouped convolution; 1 is a ResNet.
    classes: number of logits.
    group_width: channels of one group in stage 1; None is `width //
      cardinality`, which gives all kernels the shapes of a ResNet of that
      width, but for the channels into the grouped one.
    bottleneck: as in `ResNet`, but on by default.
    stem: as in `ResNet`.
    zero_scale: as in `ResNet`.
    dtype: as in `ResNet`.
    axis_name: as in `ResNet`.

  Raises:
    UserError: a field is out of its range, or `width` is not a multiple of
      `cardinality` where the groups are cut from it.
  """

  stage_sizes: Sequence[int]
  width: int
  cardinality: int
  classes: int
  group_width: int | None = None
  bottleneck: bool = True
  stem: str = "small"
  zero_scale: bool = False
  dtype: DTypeLike | None = None
  axis_name: str | None = None

  def __post_init__(self):
    self.stage_sizes = tuple(self.stage_sizes)
    _validate(self)
    _require_positive("cardinality", self.cardinality)
    if self.group_width is not None:
      _require_positive("group_width", self.group_width)
    # A basic block cuts its output into groups too.
    cut = self.group_width is None or not self.bottleneck
    if cut and self.width % self.cardinality:
      raise errors.UserError(
        f"width={self.width} cannot be cut into cardinality="
        f"{self.cardinality} groups: choose a width that is a multiple of it"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `[batch, classes]`."""
    group_width = self.group_width or self.width // self.cardinality
    return _logits(
      self,
      inputs,
      train=train,
      inner_width=self.cardinality * group_width,
      cardinality=self.cardinality,
    )


class Stem(nn.Module):
  """The first convolution, and for "imagenet" a maximum after it."""

  width: int
  kind: str
  dtype: DTypeLike | None
  axis_name: str | None

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `width` channels."""
    size, stride = (3, 1) if self.kind == "small" else (7, 2)
    outputs = conv.Conv(
      self.width, size, stride, dtype=self.dtype, name="conv"
    )(inputs)
    outputs = norm.batch_norm(
      outputs, train=train, axis_name=self.axis_name, name="norm"
    )
    outputs = nn.relu(outputs)
    if self.kind == "imagenet":
      outputs = nn.max_pool(outputs, (3, 3), (2, 2), ((1, 1), (1, 1)))
    return taps.tap(self, "output", outputs)


class Stage(nn.Module):
  """Blocks of one width; the first may halve height and width."""

  blocks: int
  inner_width: int
  outer_width: int
  stride: int
  cardinality: int
  bottleneck: bool
  zero_scale: bool
  dtype: DTypeLike | None
  axis_name: str | None

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `outer_width` channels."""
    outputs = inputs
    for i in range(self.blocks):
      outputs = Block(
        inner_width=self.inner_width,
        outer_width=self.outer_width,
        stride=self.stride if i == 0 else 1,
        cardinality=self.cardinality,
        bottleneck=self.bottleneck,
        zero_scale=self.zero_scale,
        dtype=self.dtype,
        axis_name=self.axis_name,
        name=f"block_{i + 1}",
      )(outputs, train=train)
    return taps.tap(self, "output", outputs)


class Block(nn.Module):
  """A residual block; its `conv_2` is the grouped one, its last norm the last
  thing before the shortcut is added."""

  inner_width: int
  outer_width: int
  stride: int
  cardinality: int
  bottleneck: bool
  zero_scale: bool
  dtype: DTypeLike | None
  axis_name: str | None

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
    """Maps `[batch, height, width, channels]` to `outer_width` channels."""
    inner, outer, stride = self.inner_width, self.outer_width, self.stride
    # (features, kernel size, stride, groups) of each convolution
    if self.bottleneck:
      layers = (
        (inner, 1, 1, 1),
        (inner, 3, stride, self.cardinality),
        (outer, 1, 1, 1),
      )
    else:
      layers = ((inner, 3, stride, 1), (outer, 3, 1, self.cardinality))

    outputs = inputs
    for i, (features, size, strides, groups) in enumerate(layers, start=1):
      is_last = i == len(layers)
      outputs = conv.Conv(
        features, size, strides, groups, dtype=self.dtype, name=f"conv_{i}"
      )(outputs)
      outputs = norm.batch_norm(
        outputs,
        train=train,
        axis_name=self.axis_name,
        zero_scale=self.zero_scale and is_last,
        name=f"norm_{i}",
      )
      if not is_last:
        outputs = nn.relu(outputs)

    shortcut = inputs
    if inputs.shape != outputs.shape:
      shortcut = conv.Conv(
        outer, 1, stride, dtype=self.dtype, name="shortcut_conv"
      )(inputs)
      shortcut = norm.batch_norm(
        shortcut, train=train, axis_name=self.axis_name, name="shortcut_norm"
      )
    return nn.relu(outputs + shortcut)


def _logits(
  module: ResNet | ResNeXt,
  inputs: jax.Array,
  *,
  train: bool,
  inner_width: int,
  cardinality: int,
) -> jax.Array:
  """The network of `module`, its submodules made in its compact method."""
  if inputs.ndim != 4 or not jnp.issubdtype(inputs.dtype, jnp.floating):
    raise errors.UserError(
      f"inputs {inputs.dtype}{list(inputs.shape)} are not images: give floats"
      " of shape [batch, height, width, channels]"
    )
  outputs = Stem(
    module.width, module.stem, module.dtype, module.axis_name, name="stem"
  )(inputs, train=train)
  expansion = EXPANSION if module.bottleneck else 1
  for i, blocks in enumerate(module.stage_sizes):
    outputs = Stage(
      blocks=blocks,
      inner_width=inner_width * 2**i,
      outer_width=module.width * 2**i * expansion,
      stride=1 if i == 0 else 2,
      cardinality=cardinality,
      bottleneck=module.bottleneck,
      zero_scale=module.zero_scale,
      dtype=module.dtype,
      axis_name=module.axis_name,
      name=f"stage_{i + 1}",
    )(outputs, train=train)
  features = outputs.mean(axis=(1, 2), dtype=jnp.float32)  # [batch, channels]
  features = taps.tap(module, "features", features)
  return nn.Dense(
    module.classes,
    dtype=jnp.float32,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), axes.HEAD_KERNEL
    ),
    bias_init=nn.with_logical_partitioning(
      nn.initializers.zeros_init(), axes.HEAD_BIAS
    ),
    name="head",
  )(features)


def _validate(module: ResNet | ResNeXt) -> None:
  if not module.stage_sizes or any(blocks < 1 for blocks in module.stage_sizes):
    raise errors.UserError(
      f"stage_sizes={module.stage_sizes}: give each stage at least one block,"
      " as in (2, 2)"
    )
  _require_positive("width", module.width)
  _require_positive("classes", module.classes)
  if module.stem not in STEMS:
    raise errors.UserError(
      f"stem={module.stem!r}: {errors.nearest(module.stem, STEMS)}"
    )


def _require_positive(key: str, value: int) -> None:
  if value < 1:
    raise errors.UserError(f"{key}={value} must be at least 1")
