"""Losses that ask a model to agree with itself, without labels."""

import jax
import jax.numpy as jnp

from tsjax.core import errors, precision
from tsjax.objectives import labels


def pseudo_labels(
  student: jax.Array, teacher: jax.Array, *, threshold: float = 0.95
) -> jax.Array:
  """Cross-entropy against the teacher's class, where the teacher is sure.

      1[max_c q_c >= threshold] * -log softmax(student)_argmax(q)

  q is softmax(teacher). An example of which the teacher is not sure gives 0 and
  still counts in the mean, so that few sure examples make a small loss. In the
  paper the teacher is the student itself on a weakly augmented view: here, the
  stage's moving average with decay 0 on another view.

  Source: Sohn et al. 2020, FixMatch (2001.07685), equation 4.

  Args:
    student: logits `[..., classes]`, of the strongly augmented view.
    teacher: logits of the same shape, of the weakly augmented view.
    threshold: tau, in [0, 1]; with 0 every example has a pseudo-label.

  Returns:
    `[...]`, at least float32.

  Raises:
    UserError: the shapes differ, or the threshold is no probability.
  """
  if student.shape != teacher.shape:
    raise errors.UserError(
      f"pseudo_labels: student {list(student.shape)} and teacher"
      f" {list(teacher.shape)} differ; both are logits [..., classes]"
    )
  if not 0 <= threshold <= 1:
    raise errors.UserError(
      f"pseudo_labels: threshold={threshold} is not in 0..1"
    )
  teacher = jax.lax.stop_gradient(precision.at_least_float32(teacher))
  sure = jax.nn.softmax(teacher).max(axis=-1) >= threshold
  values = labels.cross_entropy(student, teacher.argmax(axis=-1))
  return jnp.where(sure, values, 0.0)
