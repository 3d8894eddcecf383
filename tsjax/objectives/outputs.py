"""Losses between the outputs of student and teacher that are not one class."""

import jax
import jax.numpy as jnp

from tsjax.core import errors, precision


def binary_soft_targets(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
) -> jax.Array:
  """Mean over labels of `T^2 KL(Bernoulli(p_teacher) || Bernoulli(p_student))`.

  p is sigmoid(logits / T): `soft_targets` where an example has several labels,
  each a question of its own. With two classes and logits (0, x) the two are the
  same loss.

  Source: Hinton, Vinyals and Dean 2015 (1503.02531), section 2, for each label.

  Args:
    student: logits `[..., labels]`.
    teacher: logits of the same shape.
    temperature: T, above 0.

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: the shapes differ.
  """
  _check("binary_soft_targets", student, teacher)
  student = precision.at_least_float32(student) / temperature
  teacher = precision.at_least_float32(teacher) / temperature
  probability = jax.nn.sigmoid(teacher)
  positive = jax.nn.log_sigmoid(teacher) - jax.nn.log_sigmoid(student)
  negative = jax.nn.log_sigmoid(-teacher) - jax.nn.log_sigmoid(-student)
  divergence = probability * positive + (1 - probability) * negative
  return divergence.mean(axis=-1) * temperature**2


def squared_difference(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Mean over outputs of `(student - teacher)^2`.

  For regression, and for logits as they are (Ba and Caruana 2014, 1312.6184,
  equation 1).

  Args:
    student: `[batch]` or `[batch, ...]`.
    teacher: of the same shape.

  Returns:
    `[batch]`, at least float32.

  Raises:
    UserError: the shapes differ.
  """
  _check("squared_difference", student, teacher)
  error = jnp.square(
    precision.at_least_float32(student) - precision.at_least_float32(teacher)
  )
  return error.mean(axis=tuple(range(1, error.ndim)))


def _check(name: str, student: jax.Array, teacher: jax.Array) -> None:
  # Broadcast, [batch] against [batch, 1] would compare all with all.
  if student.shape != teacher.shape:
    raise errors.UserError(
      f"{name}: student {list(student.shape)} and teacher"
      f" {list(teacher.shape)} differ; it compares outputs of one shape"
    )
