"""Losses on which neurons are active: boundaries (AB), overhaul (OFD)."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
import jax.scipy.stats

from tsjax.core import errors, metrics
from tsjax.objectives import alignment, arrays, connectors


def activation_boundaries(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  margin: float = 1.0,
  scale: float = 0.003,
  resolution: str = "same",
) -> jax.Array:
  """Squared distance of each neuron to the side of 0 that the teacher's is on.

  `scale sum_l 2^(l - n + 1) sum (s + m)^2 [s > -m, t <= 0] + (s - m)^2 [s <= m,
  t > 0]`, of features before the activation, summed over positions and
  channels; the last of n taps weighs 1 and each before it half.

  Source: Heo et al. 2019 (1811.03233), equation 4; the weights of layers, and
  3 / 1000, of the authors' code and RepDistiller.

  Args:
    student: `[batch, ..., channels]` before the activation, or a tuple of such.
    teacher: as many, each with its partner's channels.
    margin: m.
    scale: of the sum.
    resolution: "same", or "pool": the finer of two maps is averaged down.

  Returns:
    `[batch]`, at least float32; 0 where all are a margin beyond the boundary.

  Raises:
    UserError: taps that do not pair.
  """
  name = "activation_boundaries"
  found = alignment.pairs(name, student, teacher, resolution)
  total = 0.0
  for i, (s, t) in enumerate(found):
    _same_channels(name, s, t)
    wrongly_on = (s > -margin) & (t <= 0)
    wrongly_off = (s <= margin) & (t > 0)
    side = jnp.where(wrongly_on, s + margin, s - margin)
    values = jnp.where(wrongly_on | wrongly_off, jnp.square(side), 0.0)
    values = values.sum(axis=tuple(range(1, s.ndim)))
    total += 2.0 ** (i - len(found) + 1) * values
  return scale * total


def overhaul(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  margins: Sequence[jax.Array | float] = (),
  scale: float = 0.001,
  resolution: str = "same",
) -> jax.Array:
  """Partial squared distance to the teacher's features before its ReLU (OFD).

  `scale sum_l 2^(l - n + 1) sum (s - t')^2 [s > t' or t' > 0]`, t' = max(t, m):
  where the teacher is silent the student need only be silent too.

  Source: Heo et al. 2019, A Comprehensive Overhaul of Feature Distillation
  (1904.01866), equations 2 to 5; the weights of layers, and 1 / 1000, of the
  authors' code.

  Args:
    student: `[batch, ..., channels]`, or a tuple of such.
    teacher: as many, before the activation, each with its partner's channels.
    margins: m, not above 0, for each pair: a number, or `[channels]`; () is 0.
    scale: of the sum.
    resolution: "same", or "pool": the finer of two maps is averaged down.

  Returns:
    `[batch]`, at least float32; never negative.

  Raises:
    UserError: taps that do not pair, or margins that are not as many.
  """
  found = alignment.pairs("overhaul", student, teacher, resolution)
  margins = margins or (0.0,) * len(found)
  if len(margins) != len(found):
    raise errors.UserError(
      f"overhaul: {len(margins)} margins for {len(found)} pairs of taps"
    )
  total = 0.0
  for i, ((s, t), margin) in enumerate(zip(found, margins, strict=True)):
    _same_channels("overhaul", s, t)
    margin = jnp.asarray(margin, t.dtype)
    margin = margin.reshape((1,) * (t.ndim - margin.ndim) + margin.shape)
    t = jnp.maximum(t, margin)
    counts = (s > t) | (t > 0)
    values = jnp.where(counts, jnp.square(s - t), 0.0)
    values = values.sum(axis=tuple(range(1, s.ndim)))
    total += 2.0 ** (i - len(found) + 1) * values
  return scale * total


def margin_of_norm(scale: jax.Array, bias: jax.Array) -> jax.Array:
  """The mean of what is below 0 after a batch norm, `[channels]`.

  Of a normal distribution with that deviation and mean; -3 deviations where
  hardly anything is below 0.

  Source: Heo et al. 2019 (1904.01866), appendix, as in the authors' code.

  Args:
    scale: the norm's, `[channels]`.
    bias: the norm's, `[channels]`.
  """
  deviation = jnp.abs(scale)
  below = jax.scipy.stats.norm.cdf(-bias / deviation)
  density = jax.scipy.stats.norm.pdf(bias / deviation)
  enough = below > 0.001
  mean = bias - deviation * density / jnp.where(enough, below, 1.0)
  return jnp.where(enough, mean, -3 * deviation)


class ActivationBoundaries(nn.Module):
  """`activation_boundaries` of features that a connector takes to the teacher.

  A 1x1 convolution with batch norm for each tap, trained beside the student.

  Source: Heo et al. 2019 (1811.03233), section 3.3.

  Attributes:
    margin: m.
    scale: of the sum.
    resolution: "same", or "pool": the finer of two maps is averaged down.
    batch_norm: whether the connectors normalise.
  """

  margin: float = 1.0
  scale: float = 0.003
  resolution: str = "same"
  batch_norm: bool = True

  coupling = "batch"

  @nn.compact
  def __call__(
    self,
    student: alignment.Taps,
    teacher: alignment.Taps,
    *,
    mask: jax.Array | None = None,
  ) -> metrics.Mean:
    """Taps `[batch, ..., channels]` to the `Mean` behind the mask `[batch]`."""
    found = alignment.pairs(
      "ActivationBoundaries", student, teacher, self.resolution
    )
    projected = tuple(
      connectors.Connector(
        t.shape[-1], batch_norm=self.batch_norm, name=f"connector_{i}"
      )(s, mask)
      for i, (s, t) in enumerate(found)
    )
    values = activation_boundaries(
      projected,
      tuple(t for _, t in found),
      margin=self.margin,
      scale=self.scale,
    )
    return metrics.Mean.of(values, mask)


class Overhaul(nn.Module):
  """`overhaul` of connected features, with the margins it has seen.

  A 1x1 convolution with batch norm for each tap, trained beside the student.
  The margin of a channel is the mean of the teacher's negative values over all
  batches so far, this one among them; the sums are saved beside the model. Take
  the teacher's taps before its ReLU.

  Source: Heo et al. 2019 (1904.01866), sections 3.2 and 3.3.

  Attributes:
    scale: of the sum.
    resolution: "same", or "pool": the finer of two maps is averaged down.
    batch_norm: whether the connectors normalise.
    margins: for each pair a tuple with a number for each channel, from
      `margin_of_norm`, say; () measures them.
  """

  scale: float = 0.001
  resolution: str = "same"
  batch_norm: bool = True
  margins: tuple[tuple[float, ...], ...] = ()

  coupling = "batch"

  @nn.compact
  def __call__(
    self,
    student: alignment.Taps,
    teacher: alignment.Taps,
    *,
    mask: jax.Array | None = None,
  ) -> metrics.Mean:
    """Taps `[batch, ..., channels]` to the `Mean` behind the mask `[batch]`."""
    found = alignment.pairs("Overhaul", student, teacher, self.resolution)
    projected = tuple(
      connectors.Connector(
        t.shape[-1], batch_norm=self.batch_norm, name=f"connector_{i}"
      )(s, mask)
      for i, (s, t) in enumerate(found)
    )
    teachers = tuple(t for _, t in found)
    margins = self.margins or tuple(
      self._measured(i, t, mask) for i, t in enumerate(teachers)
    )
    values = overhaul(projected, teachers, margins=margins, scale=self.scale)
    return metrics.Mean.of(values, mask)

  def _measured(
    self, i: int, t: jax.Array, mask: jax.Array | None
  ) -> jax.Array:
    zeros = lambda: jnp.zeros(t.shape[-1:], jnp.float32)
    total = self.variable("memory", f"negative_{i}", zeros)
    count = self.variable("memory", f"count_{i}", zeros)
    below = t < 0
    if mask is not None:
      below = below & arrays.spread(mask, t.ndim)
    axes = tuple(range(t.ndim - 1))
    t = jax.lax.stop_gradient(t)
    sums = jnp.where(below, t, 0.0).sum(axes).astype(jnp.float32) + total.value
    seen = below.sum(axes).astype(jnp.float32) + count.value
    if not self.is_initializing():
      total.value, count.value = sums, seen
    return sums / jnp.maximum(seen, 1.0)


def _same_channels(name: str, s: jax.Array, t: jax.Array) -> None:
  learned = "Overhaul" if name == "overhaul" else "ActivationBoundaries"
  if s.shape != t.shape:
    raise errors.UserError(
      f"{name}: student tap {s.shape} and teacher tap {t.shape} differ in"
      f" channels; objectives.{learned} learns a map between them"
    )
