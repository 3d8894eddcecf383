"""Losses on attention: its maps, and the relations of queries, keys, values."""

import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import alignment, arrays, logits


def attention_mse(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  mask: jax.Array | None = None,
  heads: str = "same",
) -> tuple[jax.Array, jax.Array]:
  """Squared difference of attention, of pairs of valid tokens (TinyBERT).

  The mean is over examples, heads, queries and keys, and over pairs of taps.

  Source: Jiao et al. 2020, TinyBERT (1909.10351), equation 7, of scores before
  the softmax; with heads = "same" and a mask, TextBrewer's att_mse_loss, and
  with "sum" its att_mse_sum_loss.

  Args:
    student: scores `[batch, heads, length, length]`, or a tuple of such.
    teacher: as many, of the student's length.
    mask: bool `[batch]` or `[batch, length]`: which tokens count.
    heads: "same": as many heads, one by one; "sum" or "mean" over the heads
      first, of any numbers of them.

  Returns:
    Values `[batch, length, heads, length]`, at least float32, and which count.

  Raises:
    UserError: an unknown rule, or taps that do not pair.
  """
  found = _maps("attention_mse", student, teacher, heads)
  values = jnp.stack([jnp.square(s - t) for s, t in found]).mean(axis=0)
  valid = _tokens(mask, values.shape[0], values.shape[-1])
  counts = (valid[:, :, None] & valid[:, None, :])[:, None]
  counts = jnp.broadcast_to(counts, values.shape)
  # The axis of queries stands where a mask of tokens has it.
  return jnp.swapaxes(values, 1, 2), jnp.swapaxes(counts, 1, 2)


def attention_cross_entropy(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  mask: jax.Array | None = None,
  heads: str = "same",
  keys: str = "before",
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of the student's attention under the teacher's.

  `-sum_k p_k log q_k` for each query, p and q softmax over the keys of teacher
  and student: least, and not 0, where the two are equal. The mean is over
  examples, heads and queries, and over pairs of taps.

  Source: TextBrewer's att_ce_loss; keys = "after" is its definition.

  Args:
    student: scores `[batch, heads, length, length]`, or a tuple of such.
    teacher: as many, of the student's length.
    mask: bool `[batch]` or `[batch, length]`: which tokens count.
    heads: "same": as many heads, one by one; "sum" or "mean" of the scores over
      the heads first, of any numbers of them.
    keys: where the mask takes keys out: "before" the softmax, so that padding
      cannot reach the value, or "after" it, for scores that are masked already.

  Returns:
    Values `[batch, length, heads]`, at least float32, and which count.

  Raises:
    UserError: an unknown rule, or taps that do not pair.
  """
  name = "attention_cross_entropy"
  arrays.one_of(f"{name}: keys", keys, ("before", "after"))
  values = []
  found = _maps(name, student, teacher, heads)
  batch, _, _, length = found[0][0].shape
  valid = _tokens(mask, batch, length)
  shown = valid[:, None, None, :]
  for s, t in found:
    if keys == "before":
      s, t = _shown(s, shown), _shown(t, shown)
    p = jax.nn.log_softmax(t)
    p = jnp.where(shown, p, -jnp.inf)
    values.append(logits.cross(p, jax.nn.log_softmax(s)))
  mean = jnp.swapaxes(jnp.stack(values).mean(axis=0), 1, 2)
  return mean, jnp.broadcast_to(valid[:, :, None], mean.shape)


def attention_relations(
  student: tuple[jax.Array, ...],
  teacher: tuple[jax.Array, ...],
  *,
  mask: jax.Array | None = None,
  heads: int = 12,
  relations: tuple[str, ...] = ("q-q", "k-k", "v-v"),
) -> tuple[jax.Array, jax.Array]:
  """KL of the relations of queries, keys and values (MiniLM, MiniLMv2).

  A relation of x and y, cut into `heads` of width d, is the softmax over tokens
  j of `x_i . y_j / sqrt(d)`. The value of token i is the sum over relations of
  `KL(teacher || student)`, the mean over heads. Student and teacher are cut
  into the same number of heads whatever their own is; widths may differ.

  - `("q-q", "k-k", "v-v")`, any `heads`: MiniLMv2, of one layer of each (an
    upper one of a large teacher).
  - `("q-k", "v-v")`, `heads` those of both models: MiniLM, whose first part is
    attention itself, of the last layer of each.

  Source: Wang et al. 2020, MiniLM (2002.10957), equations 5 to 8; Wang et al.
  2021, MiniLMv2 (2012.15828), equations 4 to 6.

  Args:
    student: queries, keys, values: three taps `[batch, length, width]` or
      `[batch, length, heads, width]`.
    teacher: the same three, of the student's length.
    mask: bool `[batch]` or `[batch, length]`: which tokens count.
    heads: of the relations; divides both widths.
    relations: which are compared, "x-y" with x and y of q, k, v.

  Returns:
    Values `[batch, length]`, at least float32, never negative but for rounding,
    and which count.

  Raises:
    UserError: not three taps, an unknown relation, or heads that do not divide.
  """
  name = "attention_relations"
  taps = [alignment.listed(x) for x in (student, teacher)]
  if [len(x) for x in taps] != [3, 3]:
    raise errors.UserError(
      f"{name}: {len(taps[0])} student taps and {len(taps[1])} teacher taps;"
      " name three of each: queries, keys, values"
    )
  known = tuple(f"{x}-{y}" for x in "qkv" for y in "qkv")
  for relation in relations:
    arrays.one_of(f"{name}: relations", relation, known)
  both = [arrays.pair(s, t) for s, t in zip(*taps, strict=True)]
  sides = [
    dict(zip("qkv", (_heads(name, x, heads) for x in side), strict=True))
    for side in zip(*both, strict=True)
  ]
  if sides[0]["q"].shape[:3] != sides[1]["q"].shape[:3]:
    raise errors.UserError(
      f"{name}: student {list(taps[0][0].shape)} and teacher"
      f" {list(taps[1][0].shape)} differ in length"
    )
  valid = _tokens(mask, *sides[0]["q"].shape[:2])
  shown = valid[:, None, None, :]
  total = 0.0
  for relation in relations:
    q, p = (_relation(side, relation, shown) for side in sides)
    total += logits.kl(p, q).mean(axis=1)
  return total, valid


def _relation(
  side: dict[str, jax.Array], relation: str, shown: jax.Array
) -> jax.Array:
  """Log-probabilities `[batch, heads, length, length]`."""
  x, y = (side[name] for name in relation.split("-"))
  scores = jnp.einsum("bihd,bjhd->bhij", x, y) / x.shape[-1] ** 0.5
  relations = jax.nn.log_softmax(_shown(scores, shown))
  return jnp.where(shown, relations, -jnp.inf)


def _heads(name: str, x: jax.Array, heads: int) -> jax.Array:
  """`[batch, length, ...]` to `[batch, length, heads, width / heads]`."""
  if x.ndim not in (3, 4):
    raise errors.UserError(
      f"{name}: tap {x.shape}: it takes [batch, length, width] or [batch,"
      " length, heads, width]"
    )
  x = x.reshape(*x.shape[:2], -1)
  if heads < 1 or x.shape[-1] % heads:
    raise errors.UserError(
      f"{name}: heads={heads} do not divide the width {x.shape[-1]}"
    )
  return x.reshape(*x.shape[:2], heads, -1)


def _shown(scores: jax.Array, shown: jax.Array) -> jax.Array:
  """Scores whose hidden keys take no part in the softmax.

  Finite, and so far below the rest that they add 0: rows without any key keep
  a finite gradient.
  """
  return jnp.where(shown, scores, -1e30)


def _tokens(mask: jax.Array | None, batch: int, length: int) -> jax.Array:
  """Which tokens count, `[batch, length]`."""
  valid = jnp.ones((batch, length), bool)
  return valid if mask is None else valid & arrays.spread(mask, 2)


def _maps(
  name: str, student: alignment.Taps, teacher: alignment.Taps, heads: str
) -> list[tuple[jax.Array, jax.Array]]:
  """Pairs of scores `[batch, heads, length, length]`."""
  arrays.one_of(f"{name}: heads", heads, ("same", "sum", "mean"))
  students, teachers = alignment.listed(student), alignment.listed(teacher)
  if len(students) != len(teachers):
    raise errors.UserError(
      f"{name}: {len(students)} student taps and {len(teachers)} teacher taps;"
      " name as many"
    )
  found = []
  for s, t in zip(students, teachers, strict=True):
    s, t = arrays.pair(s, t)
    if s.ndim != 4 or s.shape[-1] != s.shape[-2]:
      raise errors.UserError(
        f"{name}: tap {s.shape}: it takes [batch, heads, length, length]"
      )
    if heads == "sum":
      s, t = (x.sum(axis=1, keepdims=True) for x in (s, t))
    if heads == "mean":
      s, t = (x.mean(axis=1, keepdims=True) for x in (s, t))
    if s.shape != t.shape:
      raise errors.UserError(
        f"{name}: student tap {s.shape} and teacher tap {t.shape} differ; for"
        " other numbers of heads take heads='mean', or attention_relations"
      )
    found.append((s, t))
  return found
