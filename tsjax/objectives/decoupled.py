"""Losses between logits that treat the label's class apart."""

import jax
import jax.numpy as jnp

from tsjax.core import errors, precision
from tsjax.objectives import arrays, logits


def decoupled(
  student: jax.Array,
  teacher: jax.Array,
  target: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  alpha: float = 1.0,
  beta: float = 8.0,
) -> jax.Array:
  """`T^2 (alpha KL(b_t || b_s) + beta KL(n_t || n_s))` (DKD).

  b is the distribution at T over (label, all else), and n the one over all
  classes but the label, scaled to the sum 1. `soft_targets` is alpha = 1 with
  beta = 1 - p_label; a fixed beta hears the other classes also where the
  teacher is sure.

  Source: Zhao et al. 2022 (2203.08679), equation 7.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    target: labels `[...]`, integers; a label outside of the classes gives 0 and
      belongs behind the mask.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    alpha: weight of the label against the rest.
    beta: weight of the rest among itself; 8 and 2 in the paper's tables.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: the shapes do not fit.
  """
  one_hot = _one_hot("decoupled", student, teacher, target)
  student, teacher = arrays.pair(student, teacher)
  p = arrays.log_probabilities(teacher, temperature)
  q = arrays.log_probabilities(student, temperature)
  valid = one_hot.any(axis=-1)
  binary = logits.kl(_label_or_rest(p, one_hot), _label_or_rest(q, one_hot))
  others = logits.kl(_others(p, one_hot), _others(q, one_hot))
  values = jnp.where(valid, alpha * binary + beta * others, 0.0)
  return arrays.times_square(values, temperature)


def normalised(
  student: jax.Array,
  teacher: jax.Array,
  target: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  gamma: float = 1.5,
) -> jax.Array:
  """`-p_y log q_y - gamma T^2 sum_(c != y) n_t,c log n_s,c` (NKD).

  p_y and q_y are the label's probabilities at T = 1; n is the distribution at T
  over all classes but the label, scaled to the sum 1. Cross-entropies, so that
  the least value is the teacher's entropy and not 0.

  Source: Yang et al. 2023 (2303.13005), equation 7.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    target: labels `[...]`, integers; a label outside of the classes gives 0 and
      belongs behind the mask.
    temperature: T, above 0, of the other classes only.
    gamma: weight of the other classes.

  Returns:
    `[...]`, at least float32; never negative.

  Raises:
    UserError: the shapes do not fit.
  """
  one_hot = _one_hot("normalised", student, teacher, target)
  student, teacher = arrays.pair(student, teacher)
  label = logits.cross(
    jnp.where(one_hot, jax.nn.log_softmax(teacher), -jnp.inf),
    jax.nn.log_softmax(student),
  )
  others = logits.cross(
    _others(arrays.log_probabilities(teacher, temperature), one_hot),
    _others(arrays.log_probabilities(student, temperature), one_hot),
  )
  values = label + gamma * arrays.times_square(others, temperature)
  return jnp.where(one_hot.any(axis=-1), values, 0.0)


def virtual_teacher(
  student: jax.Array,
  target: jax.Array,
  *,
  temperature: jax.Array | float = 20.0,
  correct: float = 0.99,
  variant: str = "paper",
) -> jax.Array:
  """KL from a teacher made by hand: the label gets `correct`, others the rest.

  p_y = correct and p_c = (1 - correct) / (classes - 1).

  - "paper": `T^2 KL(softmax(log p / T) || softmax(student / T))`, which is
    `soft_targets` with the logits log p.
  - "code": `KL(softmax(p / T) || softmax(student))`: the authors' code softens
    the probabilities as if they were logits, leaves the student at T = 1 and
    the factor T^2 out. (There the mean is over classes too: a weight w there is
    w / classes here.)

  Source: Yuan et al. 2020, Tf-KD (1909.11723), equations 9 and 10, and the code
  published with it.

  Args:
    student: logits `[..., classes]`, at least 2 classes.
    target: labels `[...]`, integers; a label outside of the classes gives 0 and
      belongs behind the mask.
    temperature: T, above 0.
    correct: the label's probability, in (1 / classes, 1).
    variant: "paper" or "code".

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: an unknown variant, a `correct` out of range, or shapes that do
      not fit.
  """
  arrays.one_of("virtual_teacher: variant", variant, ("paper", "code"))
  one_hot = _one_hot("virtual_teacher", student, student, target)
  classes = student.shape[-1]
  if not 1 / classes < correct < 1:
    raise errors.UserError(
      f"virtual_teacher: correct={correct} must be above 1 / {classes}, the"
      " share of a class, and below 1"
    )
  student = precision.at_least_float32(student)
  correct = jnp.asarray(correct, student.dtype)
  p = jnp.where(one_hot, correct, (1 - correct) / (classes - 1))
  if variant == "paper":
    values = logits.soft_targets(student, jnp.log(p), temperature=temperature)
  else:
    values = logits.kl(
      arrays.log_probabilities(p, temperature), jax.nn.log_softmax(student)
    )
  return jnp.where(one_hot.any(axis=-1), values, 0.0)


def minifinetuning(
  student: jax.Array,
  teacher: jax.Array,
  target: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  threshold: float = 0.2,
  correct_too: bool = True,
) -> jax.Array:
  """`T^2 KL(p' || softmax(student / T))`, p' the teacher's corrected by labels.

  Where the teacher at T is wrong, p' mixes in the label until it leads the
  teacher's class by `threshold`; where it is right, `threshold` (or what is
  left up to 1) is added to the label (with `correct_too`). The teacher may be
  the student before its training.

  Source: Belcak et al. 2025, Minifinetuning (2506.15702), section 3, as in
  NVIDIA Model-Optimizer's MFTLoss.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    target: labels `[...]`, integers; a label outside of the classes gives 0 and
      belongs behind the mask.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    threshold: the lead, in [0, 1].
    correct_too: whether a teacher that is right is corrected as well.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: the shapes do not fit.
  """
  one_hot = _one_hot("minifinetuning", student, teacher, target)
  student, teacher = arrays.pair(student, teacher)
  p = jnp.exp(arrays.log_probabilities(teacher, temperature))
  most = p.max(axis=-1)
  own = jnp.where(one_hot, p, 0.0).sum(axis=-1)
  wrong = p.argmax(axis=-1).astype(target.dtype) != target
  # 1e-7 as in the source: a teacher that is all sure has nothing left to mix.
  to_label = (most - own + threshold) / (1 + most - own + 1e-7)
  raised = jnp.where(own > 1 - threshold, 1.0, own + threshold)
  more = (raised - most) / (1 - most + 1e-7) if correct_too else 0.0
  mixed = jnp.where(wrong, to_label, more)[..., None]
  p = p * (1 - mixed) + jnp.where(one_hot, mixed, 0.0)
  positive = p > 0
  log_p = jnp.log(jnp.where(positive, p, 1.0))
  values = logits.kl(
    jnp.where(positive, log_p, -jnp.inf),
    arrays.log_probabilities(student, temperature),
  )
  values = jnp.where(one_hot.any(axis=-1), values, 0.0)
  return arrays.times_square(values, temperature)


def _one_hot(
  name: str, student: jax.Array, teacher: jax.Array, target: jax.Array
) -> jax.Array:
  """Bool `[..., classes]`, all false for a label outside of the classes."""
  arrays.same_shape(name, student, teacher)
  if not jnp.issubdtype(target.dtype, jnp.integer) or (
    target.shape != student.shape[:-1]
  ):
    raise errors.UserError(
      f"{name}: target {target.dtype}{list(target.shape)} and output"
      f" {list(student.shape)}: it takes logits [..., classes] and one class"
      " [...] for each"
    )
  if student.shape[-1] < 2:
    raise errors.UserError(
      f"{name}: logits {list(student.shape)} have one class; it needs another"
      " beside the label's"
    )
  return jax.nn.one_hot(target, student.shape[-1], dtype=bool)


def _label_or_rest(p: jax.Array, one_hot: jax.Array) -> jax.Array:
  """Log-probabilities `[..., 2]` of the label and of all other classes."""
  label = jnp.where(one_hot, p, 0.0).sum(axis=-1)
  rest, some = _log_sum(p, one_hot)
  return jnp.stack([label, jnp.where(some, rest, -jnp.inf)], axis=-1)


def _others(p: jax.Array, one_hot: jax.Array) -> jax.Array:
  """Log-probabilities over all classes but the label; -inf at the label."""
  rest, some = _log_sum(p, one_hot)
  rest = jnp.where(some, rest, 0.0)[..., None]
  return jnp.where(one_hot, -jnp.inf, p - rest)


def _log_sum(p: jax.Array, one_hot: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Log of the sum over all but the label, and where that sum is not 0.

  Added up, not 1 minus the label's: it may be far below what 1 resolves.
  """
  rest = jnp.where(one_hot, -jnp.inf, p)
  some = (rest > -jnp.inf).any(axis=-1)
  return jax.nn.logsumexp(jnp.where(some[..., None], rest, 0.0), axis=-1), some
