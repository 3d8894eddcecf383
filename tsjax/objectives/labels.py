"""Losses against labels."""

import jax
import jax.numpy as jnp

from tsjax.core import precision


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
    is_class = one_hot.sum(axis=-1, keepdims=True)
    one_hot = one_hot * (1.0 - label_smoothing)
    one_hot = one_hot + is_class * (label_smoothing / classes)
  # An excluded class (logit -inf) that is not the label contributes 0.
  parts = jnp.where(one_hot > 0, one_hot * log_probabilities, 0.0)
  return -jnp.sum(parts, axis=-1)
