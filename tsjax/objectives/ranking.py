"""Losses on the order in which a teacher puts the classes."""

import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import arrays
from tsjax.objectives import top_k as top_k_lib

# Two classes closer than this are not ordered by the teacher, and one below it
# is not known to him: DistillKit's eps.
_HINGE_EPSILON = 1e-8
_LOGISTIC_EPSILON = 1e-9


def hinge_ranking(
  student: jax.Array,
  teacher: top_k_lib.TopK | jax.Array,
  *,
  margin: float | None = None,
  k: int = 0,
) -> tuple[jax.Array, jax.Array]:
  """`max(0, margin - (q_i - q_j))` for each pair that the teacher orders.

  q is softmax(student), and the teacher, with p, ranks i above j. The mean is
  over pairs of classes, not over examples.

  Source: DistillKit's hinge loss.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape, or a `TopK`.
    margin: the lead that is asked for; None asks for the teacher's, p_i - p_j,
      and is then 0 where the student is the teacher.
    k: how many of the teacher's classes are compared; 0 compares all, which
      takes classes^2 numbers for each example.

  Returns:
    Values `[..., k, k]`, at least float32, and which pairs count.

  Raises:
    UserError: a `k` that there is not.
  """
  p, indices = _ranked("hinge_ranking", student, teacher, k)
  student, p = arrays.pair(student, p)
  q = jnp.take_along_axis(jax.nn.softmax(student), indices, axis=-1)
  wanted = _pairs(p) if margin is None else jnp.asarray(margin, p.dtype)
  values = jax.nn.relu(wanted - _pairs(q))
  return _counted(values, p, _HINGE_EPSILON)


def logistic_ranking(
  student: jax.Array,
  teacher: top_k_lib.TopK | jax.Array,
  *,
  k: int = 0,
) -> tuple[jax.Array, jax.Array]:
  """`log(1 + exp(-(s_i - s_j)))` for each pair that the teacher orders.

  s are the student's logits, and the teacher ranks i above j. The mean is over
  pairs of classes, not over examples; never 0.

  Source: Burges et al. 2005, RankNet, equation 3, as in DistillKit's logistic
  ranking loss.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape, or a `TopK`.
    k: how many of the teacher's classes are compared; 0 compares all, which
      takes classes^2 numbers for each example.

  Returns:
    Values `[..., k, k]`, at least float32, and which pairs count.

  Raises:
    UserError: a `k` that there is not.
  """
  p, indices = _ranked("logistic_ranking", student, teacher, k)
  student, p = arrays.pair(student, p)
  s = jnp.take_along_axis(student, indices, axis=-1)
  difference = _pairs(s)
  # Of two classes that the student excludes neither is above the other.
  difference = jnp.where(jnp.isnan(difference), 0.0, difference)
  return _counted(jax.nn.softplus(-difference), p, _LOGISTIC_EPSILON)


def _ranked(
  name: str, student: jax.Array, teacher: top_k_lib.TopK | jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
  """Probabilities `[..., k]` at T = 1 and their classes."""
  if not isinstance(teacher, top_k_lib.TopK):
    arrays.same_shape(name, student, teacher)
    classes = student.shape[-1]
    if not 0 <= k <= classes:
      raise errors.UserError(f"{name}: k={k} must be in 0..{classes}")
    teacher = top_k_lib.top_k(teacher, k or classes)
  elif k not in (0, teacher.log_probabilities.shape[-1]):
    raise errors.UserError(
      f"{name}: k={k}, but the teacher holds its top"
      f" {teacher.log_probabilities.shape[-1]}; leave k out"
    )
  return jnp.exp(teacher.log_probabilities), teacher.indices


def _pairs(x: jax.Array) -> jax.Array:
  """x_i - x_j, `[..., i, j]`."""
  return x[..., :, None] - x[..., None, :]


def _counted(
  values: jax.Array, p: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array]:
  known = p > epsilon
  above = p[..., :, None] > p[..., None, :] + epsilon
  counts = above & known[..., :, None] & known[..., None, :]
  return jnp.where(counts, values, 0.0), counts
