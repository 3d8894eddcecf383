"""Losses between intermediate values."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors, precision


class Hint(nn.Module):
  """Mean squared error of a projected student feature and the teacher's.

  A learned linear map (a 1x1 convolution, where there are positions) takes the
  student's width to the teacher's; its parameters are trained beside the
  student's and stay out of it.

  Source: Romero et al. 2015, FitNets (1412.6550), equation 3.
  """

  @nn.compact
  def __call__(self, student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Features `[batch, ..., channels]`, of any channels, to `[batch]`.

    Raises:
      UserError: the shapes differ in more than the channels.
    """
    if student.shape[:-1] != teacher.shape[:-1]:
      raise errors.UserError(
        f"Hint: student tap {student.shape} and teacher tap {teacher.shape}"
        " differ in more than channels; choose taps of one resolution"
      )
    student = precision.at_least_float32(student)
    projected = nn.Dense(
      teacher.shape[-1], param_dtype=student.dtype, name="projection"
    )(student)
    error = jnp.square(projected - precision.at_least_float32(teacher))
    return error.mean(axis=tuple(range(1, error.ndim)))


def attention_transfer(
  student: jax.Array | Sequence[jax.Array],
  teacher: jax.Array | Sequence[jax.Array],
  *,
  power: float = 2.0,
) -> jax.Array:
  """Squared distance of the normalised spatial maps of activity.

  The map of a feature is the mean over channels of |x|^power, flattened and
  scaled to length 1; the value is the mean over positions of the squared
  difference, summed over pairs of taps. (The paper sums over positions and
  weighs with beta / 2; the mean is the authors' code, and the usual weight of
  1000 belongs to it.)

  Source: Zagoruyko and Komodakis 2017 (1612.03928), section 3.1.

  Args:
    student: `[batch, height, width, channels]`, or a tuple of such.
    teacher: as many, each with the student's height and width.
    power: p, at least 1.

  Returns:
    `[batch]`, at least float32.

  Raises:
    UserError: unequal numbers of taps, unequal resolutions, or no positions.
  """
  student = student if isinstance(student, Sequence) else (student,)
  teacher = teacher if isinstance(teacher, Sequence) else (teacher,)
  if len(student) != len(teacher):
    raise errors.UserError(
      f"attention_transfer: {len(student)} student taps and {len(teacher)}"
      " teacher taps; name as many"
    )
  total = 0.0
  for s, t in zip(student, teacher, strict=True):
    if s.shape[:-1] != t.shape[:-1]:
      raise errors.UserError(
        f"attention_transfer: student tap {s.shape} and teacher tap {t.shape}"
        " differ in more than channels; choose taps of one resolution"
      )
    if s.ndim < 3:
      raise errors.UserError(
        f"attention_transfer: tap {s.shape} has no positions; choose one of"
        " shape [batch, height, width, channels]"
      )
    difference = _activity(s, power) - _activity(t, power)
    total += jnp.square(difference).mean(axis=-1)
  return total


def _activity(x: jax.Array, power: float) -> jax.Array:
  x = jnp.abs(precision.at_least_float32(x)) ** power
  flat = x.mean(axis=-1).reshape(x.shape[0], -1)
  # The gradient of a norm at an all-zero map is not finite; this one is 0.
  squared = jnp.sum(jnp.square(flat), axis=-1, keepdims=True)
  return flat * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))
