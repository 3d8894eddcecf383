"""ReviewKD: deep features of the student explain the teacher's shallow ones."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import errors, metrics
from tsjax.objectives import alignment, arrays, connectors


def hierarchical_context(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  levels: Sequence[int] = (4, 2, 1),
) -> jax.Array:
  """Squared errors of features and of their averages on coarse grids (HCL).

  `(e + sum_i 2^-i e_i) / (1 + sum_i 2^-i)`: e is the mean squared error, and
  e_i the one of both averaged to levels[i] along every axis of positions, of
  the levels below the first axis's length. Summed over pairs of taps.

  Source: Chen et al. 2021, ReviewKD (2104.09044), section 3.4, as in
  mdistiller's hcl_loss.

  Args:
    student: `[batch, ..., channels]`, or a tuple of such.
    teacher: as many, each of its partner's shape.
    levels: sizes of the grids, falling.

  Returns:
    `[batch]`, at least float32; never negative.

  Raises:
    UserError: taps that do not pair.
  """
  total = 0.0
  for s, t in alignment.pairs("hierarchical_context", student, teacher):
    if s.shape != t.shape:
      raise errors.UserError(
        f"hierarchical_context: student tap {s.shape} and teacher tap"
        f" {t.shape} differ in channels; objectives.Review learns a map"
      )
    value = arrays.flat(jnp.square(s - t)).mean(axis=-1)
    weight, weights = 1.0, 1.0
    for level in levels:
      if s.ndim < 3 or level >= s.shape[1]:
        continue
      small = s - t
      for axis in range(1, s.ndim - 1):
        small = alignment.averaged(small, axis, level)
      weight /= 2
      value += weight * arrays.flat(jnp.square(small)).mean(axis=-1)
      weights += weight
    total += value / weights
  return total


class Review(nn.Module):
  """`hierarchical_context` of features that are fused from deep to shallow.

  From the deepest tap on, each is mapped to a middle width, mixed with what
  came from deeper (resized to it) by two learned maps of attention, resized to
  the teacher's map, and taken to the teacher's channels by a 3x3 convolution,
  batch-normalised. Taps `[batch, channels]` (the pooled features) have one
  position.

  Source: Chen et al. 2021 (2104.09044), equation 7 and figure 3, as in
  mdistiller.

  Attributes:
    middle: the middle width; 0 is the deepest tap's, at most 512.
    levels: of `hierarchical_context`.
    batch_norm: whether the convolutions normalise.
  """

  middle: int = 0
  levels: Sequence[int] = (4, 2, 1)
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
    """Taps in order of depth to the `Mean` behind the mask `[batch]`.

    Raises:
      UserError: unequal numbers of taps, or taps of several kinds.
    """
    students, teachers = alignment.listed(student), alignment.listed(teacher)
    if len(students) != len(teachers):
      raise errors.UserError(
        f"Review: {len(students)} student taps and {len(teachers)} teacher"
        " taps; name as many"
      )
    both = [arrays.pair(s, t) for s, t in zip(students, teachers, strict=True)]
    ndim = max(x.ndim for pair in both for x in pair)

    def positioned(x: jax.Array) -> jax.Array:
      if x.ndim == 2:
        return x.reshape(x.shape[0], *(1,) * (ndim - 2), x.shape[-1])
      if x.ndim != ndim:
        raise errors.UserError(
          f"Review: tap {x.shape}: all have {ndim} axes, or [batch, channels]"
        )
      return x

    both = [(positioned(s), positioned(t)) for s, t in both]
    middle = self.middle or min(512, both[-1][0].shape[-1])
    fused, deeper = [], None
    for i, (x, t) in reversed(list(enumerate(both))):
      x = connectors.Connector(
        middle, batch_norm=self.batch_norm, name=f"map_{i}"
      )(x, mask)
      if deeper is not None:
        deeper = resized(deeper, x.shape[1:-1])
        gates = connectors.convolution(
          2,
          1,
          jnp.concatenate([x, deeper], axis=-1),
          bias=True,
          name=f"attention_{i}",
        )
        gates = jax.nn.sigmoid(gates)
        x = x * gates[..., :1] + deeper * gates[..., 1:]
      deeper = resized(x, t.shape[1:-1])
      fused.append(
        connectors.Connector(
          t.shape[-1], kernel=3, batch_norm=self.batch_norm, name=f"out_{i}"
        )(deeper, mask)
      )
    values = hierarchical_context(
      tuple(reversed(fused)), tuple(t for _, t in both), levels=self.levels
    )
    return metrics.Mean.of(values, mask)


def resized(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """The nearest value at `floor(i n / size)`, PyTorch's "nearest"."""
  for axis, size in enumerate(shape, start=1):
    length = x.shape[axis]
    if size != length:
      x = jnp.take(x, np.arange(size) * length // size, axis=axis)
  return x
