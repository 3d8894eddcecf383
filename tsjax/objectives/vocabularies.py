"""Losses where student and teacher do not share classes, or not all of them."""

import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import arrays, logits


def universal_logits(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  length: str = "same",
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """`sum_i |p_(i) - q_(i)|` of probabilities at T, each sorted downwards.

  The smaller vocabulary is filled with probabilities of 0. No class is matched
  with another: it is the distance to move one sorted distribution to the other,
  for a teacher with another tokenizer.

  Source: Boizard et al. 2024, ULD (2402.12030), equation 4, as in TRL's GOLD.

  Args:
    student: logits `[batch, ..., classes]`.
    teacher: logits `[batch, ..., other classes]`.
    temperature: T, above 0.
    length: "same": both have the same positions; "truncated": axis 1 may
      differ, and what one has beyond the other does not count.

  Returns:
    `[batch, ...]` in [0, 2], at least float32; with "truncated", the values of
    the student's positions and which of them count.

  Raises:
    UserError: an unknown `length`, or leading axes that do not fit.
  """
  arrays.one_of("universal_logits: length", length, ("same", "truncated"))
  own = student.shape[:-1]
  if length == "truncated" and min(student.ndim, teacher.ndim) > 2:
    common = min(student.shape[1], teacher.shape[1])
    student, teacher = student[:, :common], teacher[:, :common]
  if student.shape[:-1] != teacher.shape[:-1]:
    raise errors.UserError(
      f"universal_logits: student {list(student.shape)} and teacher"
      f" {list(teacher.shape)} differ in more than classes; of two lengths,"
      " length='truncated' reads what both have"
    )
  student, teacher = arrays.pair(student, teacher)
  classes = max(student.shape[-1], teacher.shape[-1])

  def ordered(x: jax.Array) -> jax.Array:
    p = jnp.sort(
      jnp.exp(arrays.log_probabilities(x, temperature)),
      axis=-1,
      descending=True,
    )
    fill = [(0, 0)] * (p.ndim - 1) + [(0, classes - p.shape[-1])]
    return jnp.pad(p, fill)

  values = jnp.abs(ordered(student) - ordered(teacher)).sum(axis=-1)
  if length == "same":
    return values
  missing = [(0, n - m) for n, m in zip(own, values.shape, strict=True)]
  valid = jnp.pad(jnp.ones(values.shape, bool), missing)
  return jnp.pad(values, missing), valid


def student_top_k(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  k: int = 100,
  beta: float = 0.0,
  scaled: bool = False,
) -> jax.Array:
  """Generalised JSD on the *student's* top k, the rest of each in one bucket.

  The teacher is asked only about what the student says, and what else it says
  itself is one class. Never above `generalised_jsd` over all classes.

  Source: TRL's self-distillation trainer (SDFT), whose alpha is beta; beta = 0
  is KL(teacher || student), 1 is KL(student || teacher).

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    k: how many of the student's classes, 1..classes.
    beta: the teacher's share of the mixture, in [0, 1].
    scaled: whether the value is multiplied by T^2.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: there are not so many classes, or the shapes differ.
  """
  arrays.same_shape("student_top_k", student, teacher)
  if not 1 <= k <= student.shape[-1]:
    raise errors.UserError(
      f"student_top_k: k={k} must be in 1..{student.shape[-1]}, the classes"
    )
  if not 0 <= beta <= 1:
    raise errors.UserError(f"student_top_k: beta={beta} is not in 0..1")
  student, teacher = arrays.pair(student, teacher)
  q = arrays.log_probabilities(student, temperature)
  p = arrays.log_probabilities(teacher, temperature)
  _, classes = jax.lax.top_k(q, k)

  def bucketed(x: jax.Array) -> jax.Array:
    kept = jnp.take_along_axis(x, classes, axis=-1)
    if k == x.shape[-1]:
      return kept
    rest = jnp.put_along_axis(x, classes, -jnp.inf, axis=-1, inplace=False)
    some = (rest > -jnp.inf).any(axis=-1, keepdims=True)
    # The gradient at a sum over nothing is not a number; here it is 0.
    rest = jax.nn.logsumexp(jnp.where(some, rest, 0.0), axis=-1, keepdims=True)
    return jnp.concatenate([kept, jnp.where(some, rest, -jnp.inf)], axis=-1)

  values = logits.jsd(bucketed(p), bucketed(q), beta)
  return arrays.times_square(values, temperature, scaled)
