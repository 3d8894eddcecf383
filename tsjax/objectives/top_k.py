"""Losses against the teacher's top k, and what is left beyond them."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from tsjax.core import errors, precision
from tsjax.objectives import logits

# Tail rules: what becomes of the classes beyond the teacher's top k.
TAILS = ("bucket", "renormalised", "teacher_renormalised", "none")


@flax.struct.dataclass
class TopK:
  """The k classes to which a teacher gives most, at one temperature T.

  Attributes:
    log_probabilities: `[..., k]`, of softmax(logits / T) over all classes, the
      largest first; -inf for a class that the teacher excludes.
    indices: integers `[..., k]`, the classes.
    log_sum_exp: `[...]`, of logits / T over all classes, so that
      `log_probabilities + log_sum_exp` are logits / T again.
  """

  log_probabilities: jax.Array
  indices: jax.Array
  log_sum_exp: jax.Array

  def __getattr__(self, name: str) -> Any:
    # A loss that reads logits asks this for `dtype` or `shape`.
    raise AttributeError(
      f"{name}: the teacher's output is its top k, not logits; compare it by"
      " objectives.soft_targets_top_k"
    )


def from_fields(fields: Mapping[str, jax.Array]) -> TopK:
  """The top k of a batch's fields, which are named as its attributes are."""
  return TopK(**fields)


def top_k(teacher: jax.Array, k: int, *, temperature: Any = 1.0) -> TopK:
  """The teacher's top k of its logits.

  Args:
    teacher: logits `[..., classes]`.
    k: how many, 1..classes.
    temperature: T, above 0.

  Raises:
    UserError: there are not so many classes.
  """
  if not 1 <= k <= teacher.shape[-1]:
    raise errors.UserError(
      f"k={k!r} must be in 1..{teacher.shape[-1]}, the number of classes"
    )
  scaled = precision.at_least_float32(teacher) / temperature
  log_sum_exp = jax.nn.logsumexp(scaled, axis=-1)
  values, indices = jax.lax.top_k(scaled, k)
  return TopK(values - log_sum_exp[..., None], indices, log_sum_exp)


def soft_targets_top_k(
  student: jax.Array,
  teacher: TopK | jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  tail: str = "bucket",
  k: int = 0,
) -> jax.Array:
  """`T^2 KL(teacher || student)` on the teacher's top k, with a tail rule.

  With p and q the probabilities of teacher and student at T, over all classes:

  - "bucket": the teacher's top k as they are, and the rest of each in one more
    class. Never above the KL over all classes, and equal to it for k = classes.
  - "renormalised": p and q, each scaled to the sum 1 over the top k. It does
    not see how much either gives to the rest.
  - "teacher_renormalised": p scaled to the sum 1 over the top k, q as it is.
    It is least where the student gives nothing to the rest.
  - "none": the sum of p log(p / q) over the top k and nothing besides. Not a
    divergence: it can be below 0, and a student that is the teacher is not at
    its least.

  Source: Hinton, Vinyals and Dean 2015 (1503.02531), section 2, for the dense
  loss; "bucket" is its value after a map of classes onto classes, which cannot
  raise it (the data-processing inequality).

  Args:
    student: logits `[..., classes]`.
    teacher: a top k of the same leading axes at the same temperature; or
      logits `[..., classes]`, of which the `k` largest are read.
    temperature: T, above 0.
    tail: the rule, by name.
    k: for a teacher that gives logits.

  Returns:
    `[...]`, at least float32.

  Raises:
    UserError: an unknown rule, or a `k` that is missing or not needed.
  """
  if tail not in TAILS:
    raise errors.UserError(f"tail={tail!r}: {errors.nearest(tail, TAILS)}")
  if not isinstance(teacher, TopK):
    if not k:
      raise errors.UserError(
        "soft_targets_top_k: the teacher gives logits, so say how many classes"
        " to read: k=10"
      )
    teacher = top_k(teacher, k, temperature=temperature)
  kept = teacher.log_probabilities.shape[-1]
  if k not in (0, kept):
    raise errors.UserError(
      f"soft_targets_top_k: k={k}, but the teacher holds its top {kept}; leave"
      " k out"
    )
  student = jax.nn.log_softmax(
    precision.at_least_float32(student) / temperature
  )
  p = precision.at_least_float32(teacher.log_probabilities)
  p = p.astype(student.dtype)
  q = jnp.take_along_axis(student, teacher.indices, axis=-1)
  if tail in ("renormalised", "teacher_renormalised"):
    p = _renormalised(p)
  if tail == "renormalised":
    q = _renormalised(q)
  # With all classes there is no rest, and nothing to be taken for one.
  if tail == "bucket" and kept < student.shape[-1]:
    p = jnp.concatenate([p, _rest_of_teacher(p)], axis=-1)
    rest = _rest_of_student(student, teacher.indices)
    q = jnp.concatenate([q, rest], axis=-1)
  return logits.kl(p, q) * temperature**2


def _renormalised(x: jax.Array) -> jax.Array:
  """Log-probabilities scaled to the sum 1; all -inf stay -inf."""
  total = jax.nn.logsumexp(x, axis=-1, keepdims=True)
  return x - jnp.where(jnp.isfinite(total), total, 0.0)


def _rest_of_teacher(p: jax.Array) -> jax.Array:
  """log(1 - sum of exp(p)), `[..., 1]`; -inf where rounding leaves nothing.

  1 - exp(p) of the first, the largest, by expm1: near 1 it would be lost.
  """
  rest = -jnp.expm1(p[..., :1])
  rest = rest - jnp.exp(p[..., 1:]).sum(axis=-1, keepdims=True)
  # What is stored in float16 may add up to more than 1.
  return jnp.where(rest > 0, jnp.log(jnp.where(rest > 0, rest, 1.0)), -jnp.inf)


def _rest_of_student(q: jax.Array, indices: jax.Array) -> jax.Array:
  """Log of what is given to all but the indices, `[..., 1]`.

  Added up, not subtracted from 1: it may be far below what 1 resolves.
  """
  rest = jnp.put_along_axis(q, indices, -jnp.inf, axis=-1, inplace=False)
  # The gradient at a sum over nothing is not a number; here it is 0.
  some = (rest > -jnp.inf).any(axis=-1, keepdims=True)
  total = jax.nn.logsumexp(jnp.where(some, rest, 0.0), axis=-1, keepdims=True)
  return jnp.where(some, total, -jnp.inf)
