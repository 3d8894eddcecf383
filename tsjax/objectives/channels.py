"""Losses on how the channels, or the tokens, of one example lie together."""

import itertools

import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import alignment, arrays


def neuron_selectivity(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  kernel: str = "polynomial",
  resolution: str = "same",
) -> jax.Array:
  """Squared maximum mean discrepancy of the channels' activity maps (NST).

  `mean k(s, s) + mean k(t, t) - 2 mean k(s, t)` over pairs of channels, each
  channel's map scaled to length 1. Any numbers of channels; summed over pairs
  of taps.

  Source: Huang and Wang 2017 (1707.01219), equations 4 to 7; "polynomial"
  `(a . b)^2` is the paper's choice and RepDistiller, "linear" is `a . b`,
  "gaussian" is `exp(-|a - b|^2 / (2 s))`, s the mean of |a - b|^2.

  Args:
    student: `[batch, ..., channels]`, or a tuple of such.
    teacher: as many.
    kernel: by name.
    resolution: "same", or "pool" (see `alignment.pairs`).

  Returns:
    `[batch]`, at least float32; never negative but for rounding.

  Raises:
    UserError: an unknown kernel, or taps that do not pair.
  """
  kernels = ("polynomial", "linear", "gaussian")
  arrays.one_of("neuron_selectivity: kernel", kernel, kernels)
  total = 0.0
  for s, t in alignment.pairs(
    "neuron_selectivity", student, teacher, resolution
  ):
    s = arrays.unit(alignment.flat_positions(s), axis=1)
    t = arrays.unit(alignment.flat_positions(t), axis=1)

    def kernel_mean(scale: jax.Array | None, a: jax.Array, b: jax.Array):
      products = jnp.einsum("bpi,bpj->bij", a, b)
      if kernel == "polynomial":
        products = jnp.square(products)
      elif kernel == "gaussian":
        products = jnp.exp(-(1 - products) / scale[:, None, None])
      return products.mean(axis=(1, 2))

    scale = None
    if kernel == "gaussian":
      # |a - b|^2 is 2 - 2 a . b of unit maps; a constant, as in the paper.
      cross = jnp.einsum("bpi,bpj->bij", s, t).mean(axis=(1, 2))
      scale = jax.lax.stop_gradient(jnp.maximum(2 - 2 * cross, 1e-6))
    total += (
      kernel_mean(scale, s, s)
      + kernel_mean(scale, t, t)
      - 2 * kernel_mean(scale, s, t)
    )
  return total


def inter_channel_correlation(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  variant: str = "paper",
) -> jax.Array:
  """Squared difference of the channels' Gram matrices (ICKD).

  G_ij is the product of channels i and j over positions, its rows scaled to
  length 1. Resolutions may differ, channels may not: project before.

  - "paper": `1/c^2 |G_t - G_s|^2`, c channels.
  - "code": `1/c |G_t - G_s|^2`. (torchdistill's ChSimLoss divides by the batch
    twice; the mean of this one over a batch of b is b times that.)

  Source: Liu et al. 2021, ICKD, equations 2 to 4, and torchdistill.

  Args:
    student: `[batch, ..., channels]`, or a tuple of such.
    teacher: as many, of the student's channels.
    variant: "paper" or "code".

  Returns:
    `[batch]`, at least float32; never negative.

  Raises:
    UserError: an unknown variant, or channels that differ.
  """
  name = "inter_channel_correlation"
  arrays.one_of(f"{name}: variant", variant, ("paper", "code"))
  total = 0.0
  students, teachers = alignment.listed(student), alignment.listed(teacher)
  _as_many(name, students, teachers)
  for s, t in zip(students, teachers, strict=True):
    s, t = arrays.pair(s, t)
    _same_channels(name, s, t)

    def gram(x: jax.Array) -> jax.Array:
      x = alignment.flat_positions(x)
      return arrays.unit(jnp.einsum("bpi,bpj->bij", x, x))

    squared = jnp.square(gram(s) - gram(t)).sum(axis=(1, 2))
    total += squared / s.shape[-1] ** (2 if variant == "paper" else 1)
  return total


def flow_of_solution(
  student: tuple[jax.Array, ...],
  teacher: tuple[jax.Array, ...],
  *,
  mask: jax.Array | None = None,
  distance: str = "mean_squared",
  pool: str = "average",
) -> jax.Array:
  """Squared difference of the Gram matrices between taps that follow (FSP).

  G_ij is the mean over positions of channel i of one tap times channel j of the
  next; of two resolutions, the finer is pooled down. The value is summed over
  the pairs of neighbours. Of tokens, those behind the mask do not count.

  - "mean_squared": the mean over i and j of the squared difference:
    RepDistiller, and TextBrewer on tokens.
  - "column_norm": the sum over j of the length of column j: torchdistill, with
    pool="largest".

  Source: Yim et al. 2017, A Gift from Knowledge Distillation, equations 1, 2.

  Args:
    student: two or more taps `[batch, ..., channels]`, in order.
    teacher: as many, each with the channels of its partner.
    mask: bool `[batch]`, or `[batch, length]` for taps `[batch, length, c]`.
    distance: by name.
    pool: "average" or "largest".

  Returns:
    `[batch]`, at least float32; never negative.

  Raises:
    UserError: one tap only, or taps that do not pair.
  """
  name = "flow_of_solution"
  arrays.one_of(f"{name}: distance", distance, ("mean_squared", "column_norm"))
  arrays.one_of(f"{name}: pool", pool, ("average", "largest"))
  students, teachers = alignment.listed(student), alignment.listed(teacher)
  _as_many(name, students, teachers)
  if len(students) < 2:
    raise errors.UserError(f"{name}: one tap; it compares taps that follow")
  both = [arrays.pair(s, t) for s, t in zip(students, teachers, strict=True)]
  for s, t in both:
    _same_channels(name, s, t)
  shrink = alignment.averaged if pool == "average" else alignment.largest

  def gram(first: jax.Array, second: jax.Array) -> jax.Array:
    if first.ndim != second.ndim:
      raise errors.UserError(
        f"{name}: taps {first.shape} and {second.shape} have not the same axes"
      )
    if mask is not None and mask.ndim > 1:
      if first.shape[1:-1] != second.shape[1:-1]:
        raise errors.UserError(
          f"{name}: taps {first.shape} and {second.shape} of tokens with a mask"
          " differ in length"
        )
      valid = arrays.spread(mask, first.ndim)
      first, second = (jnp.where(valid, x, 0.0) for x in (first, second))
    for axis in range(1, first.ndim - 1):
      size = min(first.shape[axis], second.shape[axis])
      first, second = shrink(first, axis, size), shrink(second, axis, size)
    first = alignment.flat_positions(first)
    second = alignment.flat_positions(second)
    sums = jnp.einsum("bpi,bpj->bij", first, second)
    if mask is None or mask.ndim == 1:
      return sums / first.shape[1]
    count = mask.reshape(mask.shape[0], -1).sum(1).astype(sums.dtype)
    return sums / jnp.maximum(count, 1)[:, None, None]

  total = 0.0
  for (s, t), (s_next, t_next) in itertools.pairwise(both):
    difference = gram(s, s_next) - gram(t, t_next)
    if distance == "mean_squared":
      total += jnp.square(difference).mean(axis=(1, 2))
    else:
      squared = jnp.square(difference).sum(axis=1)
      total += arrays.root(squared).sum(axis=1)
  return total


def token_similarity(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Squared difference of the tokens' products between two taps (NST-MMD).

  `(x_i . y_j / width)` of tokens i and j, x from the first and y from the
  second tap; of one tap, x = y. Any widths; the mean is over pairs of valid
  tokens of one example.

  Source: TextBrewer's mmd_loss, after Huang and Wang 2017 (1707.01219).

  Args:
    student: `[batch, length, width]`, or two of such.
    teacher: as many, of the student's length.
    mask: bool `[batch]` or `[batch, length]`.

  Returns:
    Values `[batch, length, length]`, at least float32, and which count.

  Raises:
    UserError: more than two taps, or taps that do not pair.
  """
  found = alignment.pairs("token_similarity", student, teacher)
  if len(found) > 2 or found[0][0].ndim != 3:
    raise errors.UserError(
      f"token_similarity: {len(found)} taps of {found[0][0].ndim} axes; it"
      " takes one or two of [batch, length, width]"
    )

  def products(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.einsum("bic,bjc->bij", first, second) / first.shape[-1]

  (s, t), (s_next, t_next) = found[0], found[-1]
  values = jnp.square(products(s, s_next) - products(t, t_next))
  valid = jnp.ones(s.shape[:2], bool)
  if mask is not None:
    valid = valid & arrays.spread(mask, 2)
  return values, valid[:, :, None] & valid[:, None, :]


def _as_many(
  name: str, students: tuple[jax.Array, ...], teachers: tuple[jax.Array, ...]
) -> None:
  if len(students) != len(teachers):
    raise errors.UserError(
      f"{name}: {len(students)} student taps and {len(teachers)} teacher taps;"
      " name as many"
    )


def _same_channels(name: str, s: jax.Array, t: jax.Array) -> None:
  if s.shape[-1] != t.shape[-1]:
    raise errors.UserError(
      f"{name}: student tap {s.shape} and teacher tap {t.shape} differ in"
      " channels; choose taps of one width"
    )
