"""Losses between the student's and the teacher's logits."""

import jax
import jax.numpy as jnp

from tsjax.core import precision


def soft_targets(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
) -> jax.Array:
  """`T^2 KL(softmax(teacher / T) || softmax(student / T))`.

  The factor T^2 keeps the gradient's size when T changes. A class that the
  teacher excludes (logit -inf) contributes 0.

  Source: Hinton, Vinyals and Dean 2015 (1503.02531), section 2.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0.

  Returns:
    `[...]`, at least float32; never negative but for rounding.
  """
  student = jax.nn.log_softmax(
    precision.at_least_float32(student) / temperature
  )
  teacher = jax.nn.log_softmax(
    precision.at_least_float32(teacher) / temperature
  )
  return kl(teacher, student) * temperature**2


def kl(p: jax.Array, q: jax.Array) -> jax.Array:
  """KL(p || q) of log-probabilities over the last axis, with 0 log 0 = 0."""
  probability = jnp.exp(p)
  difference = jnp.where(probability > 0, p - q, 0.0)
  return jnp.sum(probability * difference, axis=-1)
