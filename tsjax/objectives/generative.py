"""Losses that predict the teacher's features: VID and MGD."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import alignment, arrays, connectors


class VariationalInformation(nn.Module):
  """Negative log-likelihood of the teacher's features, a Gaussian's (VID).

  `mean 1/2 ((m(s) - t)^2 / v + log v)`; m is three 1x1 convolutions with ReLU
  between, and v = softplus(x) + epsilon a variance for each of the teacher's
  channels, both learned. It can be below 0; the constant log(2 pi) / 2 is left
  out.

  Source: Ahn et al. 2019 (1904.05835), equations 5 to 7, as in the authors'
  code and RepDistiller.

  Attributes:
    variance: v at first.
    epsilon: the least v.
    hidden: channels between the convolutions; 0 is the teacher's.
    resolution: "same", or "pool": the finer of two maps is averaged down.
  """

  variance: float = 5.0
  epsilon: float = 1e-5
  hidden: int = 0
  resolution: str = "same"

  @nn.compact
  def __call__(self, student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Features `[batch, ..., channels]`, of any channels, to `[batch]`.

    Raises:
      UserError: the shapes differ in more than the channels, or a variance that
        is not above epsilon.
    """
    if not self.variance > self.epsilon > 0:
      raise errors.UserError(
        f"VariationalInformation: variance={self.variance} must be above"
        f" epsilon={self.epsilon}, and that above 0"
      )
    ((x, t),) = alignment.pairs(
      "VariationalInformation", student, teacher, self.resolution
    )
    channels = t.shape[-1]
    hidden = self.hidden or channels
    for i, width in enumerate((hidden, hidden, channels)):
      x = nn.relu(x) if i else x
      x = connectors.convolution(width, 1, x, bias=False, name=f"regressor_{i}")
    start = math.log(math.expm1(self.variance - self.epsilon))
    scale = self.param(
      "scale", nn.initializers.constant(start), (channels,), x.dtype
    )
    variance = jax.nn.softplus(scale) + self.epsilon
    variance = variance.reshape((1,) * (t.ndim - 1) + (channels,))
    values = 0.5 * (jnp.square(x - t) / variance + jnp.log(variance))
    return arrays.flat(values).mean(axis=-1)


class MaskedGeneration(nn.Module):
  """Squared error of features generated from a part of the student's (MGD).

  A share `masked` of the positions of the student's map (taken to the teacher's
  channels by a 1x1 convolution, where they differ) is set to 0, and two 3x3
  convolutions with a ReLU between make the teacher's map of it. Which positions
  is drawn for every step and example; the step is saved beside the model.

  Source: Yang et al. 2022 (2205.01529), equations 4 and 5; "mean" over
  positions and channels is NVIDIA Model-Optimizer, "sum" the authors' code.

  Attributes:
    masked: share of the positions, 0.65 and 0.5 in the paper's tables.
    reduction: "mean" or "sum".
    seed: of the draw.
    resolution: "same", or "pool": the finer of two maps is averaged down.
  """

  masked: float = 0.65
  reduction: str = "mean"
  seed: int = 0
  resolution: str = "same"

  @nn.compact
  def __call__(self, student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Features `[batch, ..., channels]`, of any channels, to `[batch]`.

    Raises:
      UserError: the shapes differ in more than the channels, no positions, or
        an option out of range.
    """
    arrays.one_of(
      "MaskedGeneration: reduction", self.reduction, ("mean", "sum")
    )
    if not 0 <= self.masked < 1:
      raise errors.UserError(
        f"MaskedGeneration: masked={self.masked} must be in 0..1, and below 1"
      )
    ((s, t),) = alignment.pairs(
      "MaskedGeneration", student, teacher, self.resolution
    )
    if s.ndim < 3:
      raise errors.UserError(
        f"MaskedGeneration: tap {s.shape} has no positions; choose one of shape"
        " [batch, height, width, channels]"
      )
    step = self.variable("memory", "step", lambda: jnp.int32(0))
    key = jax.random.fold_in(jax.random.key(self.seed), step.value)
    if not self.is_initializing():
      step.value = step.value + 1
    channels = t.shape[-1]
    if s.shape[-1] != channels:
      s = connectors.convolution(channels, 1, s, bias=True, name="align")
    drawn = jax.random.uniform(key, (*s.shape[:-1], 1), jnp.float32)
    x = jnp.where(drawn > 1 - self.masked, 0.0, s)
    x = connectors.convolution(channels, 3, x, bias=True, name="generate_0")
    x = connectors.convolution(
      channels, 3, nn.relu(x), bias=True, name="generate_1"
    )
    values = arrays.flat(jnp.square(x - t))
    return values.mean(-1) if self.reduction == "mean" else values.sum(-1)
