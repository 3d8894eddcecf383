"""Losses between the student's and the teacher's logits."""

import math

import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import arrays


def soft_targets(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  scaled: bool = True,
) -> jax.Array:
  """`T^2 KL(softmax(teacher / T) || softmax(student / T))`.

  The factor T^2 keeps the gradient's size when T changes. A class that the
  teacher excludes (logit -inf) contributes 0.

  Source: Hinton, Vinyals and Dean 2015 (1503.02531), section 2.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    scaled: whether the factor T^2 is there; DistillKit leaves it out.

  Returns:
    `[...]`, at least float32; never negative but for rounding.
  """
  p, q = _both("soft_targets", student, teacher, temperature)
  return arrays.times_square(kl(p, q), temperature, scaled)


def tempered_cross_entropy(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  scaled: bool = False,
) -> jax.Array:
  """`-sum_c p_c log q_c` of p = softmax(teacher / T), q = softmax(student / T).

  The gradient of `soft_targets`, with the teacher's entropy left in: least, and
  not 0, where the student is the teacher.

  Source: Hinton, Vinyals and Dean 2015 (1503.02531), section 2; without T^2, as
  in TextBrewer's kd_ce_loss, unless `scaled`.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    scaled: whether the value is multiplied by T^2.

  Returns:
    `[...]`, at least float32; never negative.
  """
  p, q = _both("tempered_cross_entropy", student, teacher, temperature)
  return arrays.times_square(cross(p, q), temperature, scaled)


def reverse_kl(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  scaled: bool = True,
) -> jax.Array:
  """`T^2 KL(softmax(student / T) || softmax(teacher / T))`.

  It seeks a mode of the teacher where `soft_targets` covers all. Infinite where
  the student gives something to a class that the teacher excludes.

  Source: Gu et al. 2024, MiniLLM (2306.08543), equation 1, per token.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    scaled: whether the value is multiplied by T^2.

  Returns:
    `[...]`, at least float32; never negative but for rounding.
  """
  p, q = _both("reverse_kl", student, teacher, temperature)
  return arrays.times_square(kl(q, p), temperature, scaled)


def generalised_jsd(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  beta: float = 0.5,
  scaled: bool = False,
) -> jax.Array:
  """`beta KL(p || m) + (1 - beta) KL(q || m)`, m = beta p + (1 - beta) q.

  p is the teacher's and q the student's distribution at T. At the ends, where
  that is 0, it is what the quotient by beta (1 - beta) tends to: beta = 0 is
  KL(p || q) and beta = 1 is KL(q || p).

  Source: Agarwal et al. 2024, GKD (2306.13649), equation 1; the ends, and no
  factor T^2 unless `scaled`, as in TRL's GKD.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    beta: the teacher's share of the mixture, in [0, 1].
    scaled: whether the value is multiplied by T^2.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: beta is no share, or the shapes differ.
  """
  _share("generalised_jsd: beta", beta)
  p, q = _both("generalised_jsd", student, teacher, temperature)
  return arrays.times_square(jsd(p, q, beta), temperature, scaled)


def skew_kl(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  alpha: float = 0.1,
  scaled: bool = True,
) -> jax.Array:
  """`T^2 KL(p || alpha p + (1 - alpha) q)`, p the teacher's, q the student's.

  The mixture keeps the quotient, and so the gradient, bounded.

  Source: Ko et al. 2024, DistiLLM (2402.03898), equation 4 (SKL).

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    alpha: the teacher's share of the mixture; 0 is `soft_targets`.
    scaled: whether the value is multiplied by T^2.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: alpha is no share, or the shapes differ.
  """
  _share("skew_kl: alpha", alpha)
  p, q = _both("skew_kl", student, teacher, temperature)
  return arrays.times_square(kl(p, mixture(p, q, alpha)), temperature, scaled)


def skew_reverse_kl(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  alpha: float = 0.1,
  scaled: bool = True,
) -> jax.Array:
  """`T^2 KL(q || (1 - alpha) p + alpha q)`, p the teacher's, q the student's.

  Source: Ko et al. 2024, DistiLLM (2402.03898), section 3.1 (SRKL).

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    alpha: the student's share of the mixture; 0 is `reverse_kl`.
    scaled: whether the value is multiplied by T^2.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: alpha is no share, or the shapes differ.
  """
  _share("skew_reverse_kl: alpha", alpha)
  p, q = _both("skew_reverse_kl", student, teacher, temperature)
  return arrays.times_square(kl(q, mixture(q, p, alpha)), temperature, scaled)


def total_variation(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  k: int = 0,
) -> jax.Array:
  """`1/2 sum_c |p_c - q_c|` of the distributions at T.

  With `k`, p is the teacher's scaled to the sum 1 over its k largest, and 0
  elsewhere: what a cache of the top k can give (DistillKit's tvd). A student
  that is the teacher is then not at its least.

  Source: Wen et al. 2023, f-Distill (2307.15190), section 3.2.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    k: how many of the teacher's classes are read; 0 reads all.

  Returns:
    `[...]` in [0, 1], at least float32.

  Raises:
    UserError: there are not so many classes, or the shapes differ.
  """
  p, q = _both("total_variation", student, teacher, temperature)
  if not 0 <= k <= p.shape[-1]:
    raise errors.UserError(
      f"total_variation: k={k} must be in 0..{p.shape[-1]}, the classes"
    )
  if k:
    kept, classes = jax.lax.top_k(p, k)
    p = jnp.full_like(p, -jnp.inf)
    p = jnp.put_along_axis(
      p, classes, jax.nn.log_softmax(kept), axis=-1, inplace=False
    )
  return 0.5 * jnp.abs(jnp.exp(p) - jnp.exp(q)).sum(axis=-1)


def logit_mse(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  reduction: str = "mean",
) -> jax.Array:
  """`mean_c (student_c / T - teacher_c / T)^2`, or the sum over classes.

  For high T, `soft_targets` tends to half of the sum over classes of the
  centred logits' squares, divided by the number of classes.

  Source: Ba and Caruana 2014 (1312.6184), equation 1; with T as in TextBrewer's
  kd_mse_loss.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    reduction: "mean" over classes, or their "sum".

  Returns:
    `[...]`, at least float32; never negative.

  Raises:
    UserError: an unknown reduction, or the shapes differ.
  """
  arrays.one_of("logit_mse: reduction", reduction, ("mean", "sum"))
  arrays.same_shape("logit_mse", student, teacher)
  student, teacher = arrays.pair(student, teacher)
  difference = student - teacher
  # Excluded by both: no difference, and not inf - inf.
  excluded = jnp.isneginf(student) & jnp.isneginf(teacher)
  difference = jnp.where(excluded, 0.0, difference)
  squared = jnp.square(
    difference / arrays.temperature_like(temperature, difference)
  )
  return squared.mean(-1) if reduction == "mean" else squared.sum(-1)


def standardised_soft_targets(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  epsilon: float = 1e-7,
) -> jax.Array:
  """`soft_targets` of logits scaled to mean 0 and deviation 1 of each example.

  z = (x - mean x) / (epsilon + std x), the deviation with classes - 1 in its
  denominator. The student need not match the teacher's range, only its order
  and proportions; one T then suits all examples.

  Source: Sun et al. 2024 (2403.01427), algorithm 1.

  Args:
    student: logits `[..., classes]`, at least 2 classes.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    epsilon: added to the deviation.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: the shapes differ, or there is one class only.
  """
  arrays.same_shape("standardised_soft_targets", student, teacher)
  if student.shape[-1] < 2:
    raise errors.UserError(
      f"standardised_soft_targets: logits {list(student.shape)} have one class,"
      " and so no deviation; it needs 2"
    )

  def standardised(x: jax.Array) -> jax.Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).sum(-1, keepdims=True) / (x.shape[-1] - 1)
    return centred / (epsilon + arrays.root(variance))

  student, teacher = arrays.pair(student, teacher)
  return soft_targets(
    standardised(student), standardised(teacher), temperature=temperature
  )


def kl(p: jax.Array, q: jax.Array) -> jax.Array:
  """KL(p || q) of log-probabilities over the last axis, with 0 log 0 = 0."""
  probability = jnp.exp(p)
  difference = jnp.where(probability > 0, p - q, 0.0)
  return jnp.sum(probability * difference, axis=-1)


def cross(p: jax.Array, q: jax.Array) -> jax.Array:
  """-sum of p log q of log-probabilities over the last axis, 0 log 0 = 0."""
  probability = jnp.exp(p)
  return -jnp.sum(probability * jnp.where(probability > 0, q, 0.0), axis=-1)


def mixture(p: jax.Array, q: jax.Array, share: float) -> jax.Array:
  """log(share exp(p) + (1 - share) exp(q)); -inf only where both are."""
  if share == 0.0:
    return q
  if share == 1.0:
    return p
  p, q = p + math.log(share), q + math.log1p(-share)
  top = jnp.maximum(p, q)
  some = top > -jnp.inf
  # Where both are excluded the gradient would be that of inf - inf.
  p, q, top = (jnp.where(some, x, 0.0) for x in (p, q, top))
  mixed = top + jnp.log1p(jnp.exp(jnp.minimum(p, q) - top))
  return jnp.where(some, mixed, -jnp.inf)


def jsd(p: jax.Array, q: jax.Array, beta: float) -> jax.Array:
  """Generalised Jensen-Shannon divergence of log-probabilities."""
  if beta == 0.0:
    return kl(p, q)
  if beta == 1.0:
    return kl(q, p)
  mixed = mixture(p, q, beta)
  return beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)


def _both(
  name: str,
  student: jax.Array,
  teacher: jax.Array,
  temperature: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
  """The teacher's and the student's log-probabilities at T, in this order."""
  arrays.same_shape(name, student, teacher)
  student, teacher = arrays.pair(student, teacher)
  return (
    arrays.log_probabilities(teacher, temperature),
    arrays.log_probabilities(student, temperature),
  )


def _share(name: str, value: float) -> None:
  if not 0 <= value <= 1:
    raise errors.UserError(f"{name}={value} is not in 0..1")
