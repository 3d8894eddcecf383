"""Maps of student and teacher brought to one resolution, by a named rule."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import errors
from tsjax.objectives import arrays

Taps = jax.Array | Sequence[jax.Array]
# "same" refuses what differs; "pool" averages the finer one down.
RULES = ("same", "pool")


def pairs(
  name: str, student: Taps, teacher: Taps, rule: str = "same"
) -> list[tuple[jax.Array, jax.Array]]:
  """Pairs of taps in one dtype and of one resolution.

  Args:
    name: the loss, for errors.
    student: `[batch, ..., channels]`, or a tuple of such.
    teacher: as many.
    rule: "same", or "pool": along every axis of positions, the longer is
      averaged down to the shorter (PyTorch's adaptive average).

  Raises:
    UserError: unequal numbers of taps or of axes, an unknown rule, or unequal
      positions under the rule "same".
  """
  arrays.one_of(f"{name}: resolution", rule, RULES)
  students, teachers = listed(student), listed(teacher)
  if len(students) != len(teachers):
    raise errors.UserError(
      f"{name}: {len(students)} student taps and {len(teachers)} teacher taps;"
      " name as many"
    )
  found = []
  for s, t in zip(students, teachers, strict=True):
    s, t = arrays.pair(s, t)
    if s.ndim != t.ndim or s.shape[0] != t.shape[0]:
      raise errors.UserError(
        f"{name}: student tap {s.shape} and teacher tap {t.shape} have not the"
        " same axes; choose taps of one kind"
      )
    if s.shape[1:-1] != t.shape[1:-1]:
      if rule == "same":
        raise errors.UserError(
          f"{name}: student tap {s.shape} and teacher tap {t.shape} differ in"
          " more than channels; choose taps of one resolution, or"
          " resolution='pool'"
        )
      s, t = pooled(s, t)
    found.append((s, t))
  return found


def listed(taps: Taps) -> tuple[jax.Array, ...]:
  """One tap or several, as a tuple."""
  return tuple(taps) if isinstance(taps, Sequence) else (taps,)


def pooled(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Both averaged down to the smaller of their sizes along every axis."""
  for axis in range(1, a.ndim - 1):
    size = min(a.shape[axis], b.shape[axis])
    a, b = averaged(a, axis, size), averaged(b, axis, size)
  return a, b


def averaged(x: jax.Array, axis: int, size: int) -> jax.Array:
  """An axis averaged down to `size` bins, which overlap if they must.

  Bin i is `floor(i n / size) .. ceil((i + 1) n / size)`: PyTorch's
  `adaptive_avg_pool`.
  """
  bins = _bins(x.shape[axis], size)
  if bins is None:
    return x
  rows = np.zeros((size, x.shape[axis]))
  for i, (start, end) in enumerate(bins):
    rows[i, start:end] = 1 / (end - start)
  moved = jnp.moveaxis(x, axis, -1) @ jnp.asarray(rows.T, x.dtype)
  return jnp.moveaxis(moved, -1, axis)


def largest(x: jax.Array, axis: int, size: int) -> jax.Array:
  """As `averaged`, with the largest of each bin: `adaptive_max_pool`."""
  bins = _bins(x.shape[axis], size)
  if bins is None:
    return x
  parts = [
    jax.lax.slice_in_dim(x, start, end, axis=axis).max(axis, keepdims=True)
    for start, end in bins
  ]
  return jnp.concatenate(parts, axis=axis)


def flat_positions(x: jax.Array) -> jax.Array:
  """`[batch, ..., channels]` to `[batch, positions, channels]`."""
  return x.reshape(x.shape[0], -1, x.shape[-1])


def _bins(length: int, size: int) -> list[tuple[int, int]] | None:
  if length == size:
    return None
  return [
    (i * length // size, -(-(i + 1) * length // size)) for i in range(size)
  ]
