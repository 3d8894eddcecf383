"""Factor transfer (FT): a paraphrase of the teacher, translated to."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import alignment, arrays, connectors


def factor_transfer(
  student: jax.Array,
  teacher: jax.Array,
  *,
  over: str = "maps",
  power: float = 2.0,
  p: float = 1.0,
  resolution: str = "same",
) -> jax.Array:
  """`mean |f_s / |f_s| - f_t / |f_t||^p` of two factors (FT).

  - over = "maps": f is the mean over channels of |x|^power at each position:
    RepDistiller, any channels.
  - over = "factor": f is the whole factor, flattened: the paper (with a sum in
    the place of the mean) and torchdistill; the channels are one by one.

  Source: Kim, Park and Kwak 2018 (1802.04977), equation 3.

  Args:
    student: the translated factor `[batch, ..., channels]`.
    teacher: the paraphrased factor.
    over: by name.
    power: of the activity, with "maps".
    p: of the difference, at least 1.
    resolution: "same", or "pool": the finer of two maps is averaged down.

  Returns:
    `[batch]`, at least float32; never negative.

  Raises:
    UserError: an unknown name, or shapes that do not fit.
  """
  arrays.one_of("factor_transfer: over", over, ("maps", "factor"))
  ((s, t),) = alignment.pairs("factor_transfer", student, teacher, resolution)
  if over == "factor" and s.shape != t.shape:
    raise errors.UserError(
      f"factor_transfer: student {s.shape} and teacher {t.shape} differ in"
      " channels; over='maps' compares any"
    )

  def factor(x: jax.Array) -> jax.Array:
    if over == "maps":
      x = (jnp.abs(x) ** power).mean(axis=-1)
    return arrays.unit(arrays.flat(x))

  difference = jnp.abs(factor(s) - factor(t))
  if p == 1:
    return difference.mean(axis=-1)
  some = difference > 0
  # A power below 2 has no finite second factor at 0.
  raised = jnp.where(some, jnp.where(some, difference, 1.0) ** p, 0.0)
  return raised.mean(axis=-1)


class FactorTransfer(nn.Module):
  """`factor_transfer` with the paraphraser and the translator that it learns.

  The paraphraser, an autoencoder of the teacher's features with `rate` times
  its channels in the middle, learns by its own mean squared error; the
  translator takes the student's features to the middle, which the student's
  loss does not move. Both are trained in the same steps; in the paper the
  paraphraser is trained before. Three 3x3 convolutions each, with leaky ReLU,
  without batch norm (RepDistiller's use_bn=False).

  Source: Kim, Park and Kwak 2018 (1802.04977), sections 3.1 to 3.3.

  Attributes:
    rate: channels of the factor, as a share of the teacher's.
    p: of the difference.
    over: "factor" or "maps".
    reconstruction: weight of the paraphraser's error.
    resolution: "same", or "pool": the finer of two maps is averaged down.
  """

  rate: float = 0.5
  p: float = 1.0
  over: str = "factor"
  reconstruction: float = 1.0
  resolution: str = "same"

  @nn.compact
  def __call__(self, student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Features `[batch, ..., channels]`, of any channels, to `[batch]`.

    Raises:
      UserError: the shapes differ in more than the channels, or no rate.
    """
    if self.rate <= 0:
      raise errors.UserError(
        f"FactorTransfer: rate={self.rate} must be above 0"
      )
    ((s, t),) = alignment.pairs(
      "FactorTransfer", student, teacher, self.resolution
    )
    channels = max(1, round(self.rate * t.shape[-1]))

    def layers(x: jax.Array, name: str, *widths: int) -> jax.Array:
      for i, width in enumerate(widths):
        x = connectors.convolution(width, 3, x, bias=True, name=f"{name}_{i}")
        x = nn.leaky_relu(x, 0.1)
      return x

    width = t.shape[-1]
    factor = layers(t, "paraphraser", width, channels, channels)
    back = layers(factor, "decoder", channels, width, width)
    translated = layers(s, "translator", s.shape[-1], channels, channels)
    values = factor_transfer(
      translated, jax.lax.stop_gradient(factor), over=self.over, p=self.p
    )
    error = arrays.flat(jnp.square(back - t)).mean(axis=-1)
    return values + self.reconstruction * error
