"""Losses on how the examples of a batch lie to each other.

All of them couple the batch: under `pmap` they are given the global one, and
they return a `Mean` counted as often as there are valid examples. Examples
behind the mask take no part.
"""

import math

import jax
import jax.numpy as jnp

from tsjax.core import errors, metrics
from tsjax.objectives import alignment, arrays


def similarity_preserving(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  mask: jax.Array | None = None,
  norm: int = 2,
) -> metrics.Mean:
  """`1/b^2 |G_t - G_s|^2`, G the rows of X X^T, each scaled to length 1 (SP).

  X are the flattened features; widths and resolutions may differ. Summed over
  pairs of taps.

  Source: Tung and Mori 2019 (1907.09682), equations 1 to 4. norm = 2 is the
  paper and RepDistiller; norm = 1, which scales rows to the sum 1 of absolute
  values, is torchdistill.

  Args:
    student: `[batch, ...]`, or a tuple of such.
    teacher: as many, of the same batch.
    mask: bool `[batch]`.
    norm: 2 or 1.

  Returns:
    The value, never negative, counted for b examples.

  Raises:
    UserError: another norm, or unequal numbers of taps.
  """
  if norm not in (1, 2):
    raise errors.UserError(f"similarity_preserving: norm={norm}: 1 or 2")
  total = 0.0
  students, teachers = alignment.listed(student), alignment.listed(teacher)
  if len(students) != len(teachers):
    raise errors.UserError(
      f"similarity_preserving: {len(students)} student taps and"
      f" {len(teachers)} teacher taps; name as many"
    )
  for own, other in zip(students, teachers, strict=True):
    s, t, valid, count = _rows(own, other, mask)
    both = valid[:, None] & valid[None, :]

    def rows(x: jax.Array, both: jax.Array = both) -> jax.Array:
      gram = jnp.where(both, x @ x.T, 0.0)
      if norm == 2:
        return arrays.unit(gram)
      lengths = jnp.abs(gram).sum(axis=-1, keepdims=True)
      return gram / jnp.maximum(lengths, 1e-12)

    total += jnp.square(rows(t) - rows(s)).sum() / jnp.maximum(count, 1) ** 2
  return metrics.Mean(total * count, count)


def relational_distance(
  student: jax.Array, teacher: jax.Array, *, mask: jax.Array | None = None
) -> metrics.Mean:
  """Mean Huber difference of pairwise distances, each divided by their mean.

  huber(d_s / mean d_s - d_t / mean d_t) over all b^2 pairs; the means are over
  pairs of two examples.

  Source: Park et al. 2019, RKD-D (1904.05068), equations 6 to 8; the mean over
  b^2, the diagonal included, as in RepDistiller.

  Args:
    student: `[batch, ...]`, flattened.
    teacher: `[batch, ...]`, of any width.
    mask: bool `[batch]`.

  Returns:
    The value, never negative, counted for b examples.
  """
  s, t, valid, count = _rows(student, teacher, mask)
  both = valid[:, None] & valid[None, :]
  off = both & ~jnp.eye(len(s), dtype=bool)

  def scaled(x: jax.Array) -> jax.Array:
    squared = jnp.square(x[:, None, :] - x[None, :, :]).sum(axis=-1)
    distance = arrays.root(jnp.where(off, squared, 0.0))
    mean = arrays.masked_mean(distance, off)
    return distance / jnp.where(mean > 0, mean, 1.0)

  value = arrays.masked_mean(arrays.smooth_l1(scaled(s) - scaled(t)), both)
  return metrics.Mean(value * count, count)


def relational_angle(
  student: jax.Array, teacher: jax.Array, *, mask: jax.Array | None = None
) -> metrics.Mean:
  """Mean Huber difference of the cosines of all angles of three examples.

  The cosine at example j between i and k; 0 where two of them are one. Takes
  b^2 times the width of memory.

  Source: Park et al. 2019, RKD-A (1904.05068), equations 9 and 10; the mean
  over b^3, as in RepDistiller.

  Args:
    student: `[batch, ...]`, flattened.
    teacher: `[batch, ...]`, of any width.
    mask: bool `[batch]`.

  Returns:
    The value, never negative, counted for b examples.
  """
  s, t, valid, count = _rows(student, teacher, mask)

  def cosines(x: jax.Array) -> jax.Array:
    sides = arrays.unit(x[None, :, :] - x[:, None, :])
    return jnp.einsum("jid,jkd->jik", sides, sides)

  three = valid[:, None, None] & valid[None, :, None] & valid[None, None, :]
  value = arrays.masked_mean(arrays.smooth_l1(cosines(s) - cosines(t)), three)
  return metrics.Mean(value * count, count)


def relational(
  student: jax.Array,
  teacher: jax.Array,
  *,
  mask: jax.Array | None = None,
  distance: float = 25.0,
  angle: float = 50.0,
) -> metrics.Mean:
  """`distance relational_distance + angle relational_angle` (RKD-DA).

  Source: Park et al. 2019 (1904.05068), equation 5; the weights 25 and 50 are
  the paper's, for its metric learning, and RepDistiller's.

  Args:
    student: `[batch, ...]`, flattened.
    teacher: `[batch, ...]`, of any width.
    mask: bool `[batch]`.
    distance: weight of the distances.
    angle: weight of the angles.

  Returns:
    The value, never negative, counted for b examples.
  """
  by_distance = relational_distance(student, teacher, mask=mask)
  by_angle = relational_angle(student, teacher, mask=mask)
  return metrics.Mean(
    distance * by_distance.total + angle * by_angle.total, by_distance.count
  )


def probabilistic_transfer(
  student: jax.Array,
  teacher: jax.Array,
  *,
  mask: jax.Array | None = None,
  epsilon: float = 1e-7,
) -> metrics.Mean:
  """`1/b^2 sum_ij t_ij log((t_ij + e) / (s_ij + e))` of affinities (PKT).

  An affinity is (1 + cosine) / 2 of two examples' features, and a row of them
  is scaled to the sum 1.

  Source: Passalis and Tefas 2018, equations 4 to 7; the mean over b^2 and e of
  the authors' code, which RepDistiller keeps.

  Args:
    student: `[batch, ...]`, flattened.
    teacher: `[batch, ...]`, of any width.
    mask: bool `[batch]`.
    epsilon: e, in the quotient and added to the features' lengths.

  Returns:
    The value, never negative but for rounding and e, counted for b examples.
  """
  s, t, valid, count = _rows(student, teacher, mask)
  both = valid[:, None] & valid[None, :]

  def affinities(x: jax.Array) -> jax.Array:
    length = arrays.root(jnp.square(x).sum(axis=1, keepdims=True))
    x = x / (length + epsilon)
    affinity = jnp.where(both, (x @ x.T + 1) / 2, 0.0)
    total = affinity.sum(axis=1, keepdims=True)
    return affinity / jnp.where(total > 0, total, 1.0)

  s, t = affinities(s), affinities(t)
  # Two logs, and the smaller of errors: a quotient near 1 rounds.
  parts = t * (jnp.log(t + epsilon) - jnp.log(s + epsilon))
  value = jnp.where(both, parts, 0.0).sum() / jnp.maximum(count, 1) ** 2
  return metrics.Mean(value * count, count)


def correlation_congruence(
  student: jax.Array,
  teacher: jax.Array,
  *,
  mask: jax.Array | None = None,
  kernel: str = "gaussian",
  gamma: float = 0.4,
  order: int = 2,
  distance: str = "squared",
) -> metrics.Mean:
  """`1/b^2 |K(t) - K(s)|^2` of the kernel between all examples (CC).

  - "gaussian": `exp(-2 gamma) sum_(p <= order) (2 gamma)^p / p! (x_i . x_j)^p`,
    the Taylor series of a Gaussian of features of length 1.
  - "bilinear": `x_i . x_j`.
  - "consecutive": `mean_i |s_i - t_i| . |s_(i+1) - t_(i+1)|`: RepDistiller,
    from the paper's authors. The order of the batch is part of it, student and
    teacher have one width, and `distance` is not read. Over pairs of which both
    are valid.

  Source: Peng et al. 2019 (1904.01802), equations 4 to 8. `distance="norm"`,
  `1/b^2 |K(t) - K(s)|` without the square, is torchdistill.

  Args:
    student: `[batch, ...]`, flattened.
    teacher: `[batch, ...]`, of any width but for "consecutive".
    mask: bool `[batch]`.
    kernel: by name.
    gamma: of the Gaussian.
    order: P, where the series ends.
    distance: "squared" or "norm".

  Returns:
    The value, never negative, counted for b examples.

  Raises:
    UserError: an unknown kernel or distance, or widths that differ.
  """
  name = "correlation_congruence"
  kernels = ("gaussian", "bilinear", "consecutive")
  arrays.one_of(f"{name}: kernel", kernel, kernels)
  arrays.one_of(f"{name}: distance", distance, ("squared", "norm"))
  s, t, valid, count = _rows(student, teacher, mask)
  if kernel == "consecutive":
    if s.shape != t.shape:
      raise errors.UserError(
        f"{name}: student {list(s.shape)} and teacher {list(t.shape)} differ in"
        " width; kernel='gaussian' compares any widths"
      )
    delta = jnp.abs(s - t)
    value = arrays.masked_mean(
      (delta[:-1] * delta[1:]).sum(axis=1), valid[:-1] & valid[1:]
    )
    return metrics.Mean(value * count, count)
  both = valid[:, None] & valid[None, :]

  def kernel_of(x: jax.Array) -> jax.Array:
    gram = jnp.where(both, x @ x.T, 0.0)
    if kernel == "bilinear":
      return gram
    series, power = jnp.ones_like(gram), jnp.ones_like(gram)
    for p in range(1, order + 1):
      power = power * gram
      series = series + (2 * gamma) ** p / math.factorial(p) * power
    return jnp.where(both, series * math.exp(-2 * gamma), 0.0)

  value = jnp.square(kernel_of(t) - kernel_of(s)).sum()
  if distance == "norm":
    value = arrays.root(value)
  value = value / jnp.maximum(count, 1) ** 2
  return metrics.Mean(value * count, count)


for _loss in (
  similarity_preserving,
  relational_distance,
  relational_angle,
  relational,
  probabilistic_transfer,
  correlation_congruence,
):
  _loss.coupling = "batch"


def _rows(
  student: jax.Array, teacher: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Features `[batch, width]`, which rows count, and how many they are.

  What does not count is 0, so that not even a NaN of it reaches a gradient.
  """
  s, t = arrays.pair(arrays.flat(student), arrays.flat(teacher))
  valid = jnp.ones(s.shape[0], bool) if mask is None else mask
  s, t = (jnp.where(valid[:, None], x, 0.0) for x in (s, t))
  return s, t, valid, valid.sum().astype(s.dtype)
