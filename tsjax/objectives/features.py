"""Losses between intermediate values."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import alignment, arrays


class Hint(nn.Module):
  """Mean squared error of a projected student feature and the teacher's.

  A learned linear map (a 1x1 convolution, where there are positions) takes the
  student's width to the teacher's; its parameters are trained beside the
  student's and stay out of it.

  Source: Romero et al. 2015, FitNets (1412.6550), equation 3.

  Attributes:
    resolution: "same", or "pool": the finer of the two is averaged down.
  """

  resolution: str = "same"

  @nn.compact
  def __call__(self, student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Features `[batch, ..., channels]`, of any channels, to `[batch]`.

    Raises:
      UserError: the shapes differ in more than the channels.
    """
    ((student, teacher),) = alignment.pairs(
      "Hint", student, teacher, self.resolution
    )
    projected = nn.Dense(
      teacher.shape[-1], param_dtype=student.dtype, name="projection"
    )(student)
    error = jnp.square(projected - teacher)
    return error.mean(axis=tuple(range(1, error.ndim)))


def attention_transfer(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  power: float = 2.0,
  distance: str = "mean_squared",
  resolution: str = "same",
) -> jax.Array:
  """Distance of the normalised spatial maps of activity (AT).

  The map of a feature is the mean over channels of |x|^power, flattened and
  scaled to length 1; the value is summed over pairs of taps.

  - "mean_squared": the mean over positions of the squared difference: the
    authors' code, to which the usual weight of 1000 belongs.
  - "norm": the length of the difference: the paper, weighed there by beta / 2.

  Source: Zagoruyko and Komodakis 2017 (1612.03928), section 3.1, equation 2.

  Args:
    student: `[batch, height, width, channels]`, or a tuple of such.
    teacher: as many, each with the student's height and width.
    power: p, at least 1.
    distance: by name.
    resolution: "same", or "pool": the finer of two maps is averaged down.

  Returns:
    `[batch]`, at least float32.

  Raises:
    UserError: unequal numbers of taps, unequal resolutions, or no positions.
  """
  name = "attention_transfer"
  arrays.one_of(f"{name}: distance", distance, ("mean_squared", "norm"))
  total = 0.0
  for s, t in alignment.pairs(name, student, teacher, resolution):
    if s.ndim < 3:
      raise errors.UserError(
        f"attention_transfer: tap {s.shape} has no positions; choose one of"
        " shape [batch, height, width, channels]"
      )
    squared = jnp.square(_activity(s, power) - _activity(t, power))
    if distance == "norm":
      total += arrays.root(squared.sum(axis=-1))
    else:
      total += squared.mean(axis=-1)
  return total


def _activity(x: jax.Array, power: float) -> jax.Array:
  x = jnp.abs(x) ** power
  return arrays.unit(x.mean(axis=-1).reshape(x.shape[0], -1))
