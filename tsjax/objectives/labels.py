"""Losses against labels."""

import jax
import jax.numpy as jnp

from tsjax.objectives import precision


def cross_entropy(
  student: jax.Array, target: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """`-sum_c q_c log softmax(student)_c`, q the smoothed one-hot label.

  Args:
    student: logits `[..., classes]`.
    target: labels `[...]`, integers; a label outside of the classes (-100,
      say) gives 0 and belongs behind the mask.
    label_smoothing: share of the label spread evenly over all classes
      (Szegedy et al. 2016, 1512.00567).

  Returns:
    `[...]`, at least float32.
  """
  log_probabilities = jax.nn.log_softmax(precision.at_least_float32(student))
  classes = student.shape[-1]
  one_hot = jax.nn.one_hot(target, classes, dtype=log_probabilities.dtype)
  if label_smoothing:
    one_hot = one_hot * (1.0 - label_smoothing) + label_smoothing / classes
  return -jnp.sum(one_hot * log_probabilities, axis=-1)
