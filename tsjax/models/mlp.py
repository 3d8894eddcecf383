"""A multilayer perceptron.

Taps: `hidden_1/output`, `hidden_2/output` and so on, `[batch, width]`, each
before its dropout.
"""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from tsjax.core import errors, taps
from tsjax.models import axes


class MLP(nn.Module):
  """Fully connected layers over flattened inputs.

  The defaults are the teacher of Hinton et al. (2015, arXiv:1503.02531,
  section 3) without its dropout.

  Attributes:
    hidden: widths of the hidden layers; () is a linear model.
    classes: number of logits.
    dropout: the share of hidden activations dropped in training.
    input_dropout: the share of inputs dropped in training.
    dtype: of the computation; None is that of the inputs. Parameters and
      logits are float32.

  Raises:
    UserError: a field is out of its range.
  """

  hidden: Sequence[int] = (1200, 1200)
  classes: int = 10
  dropout: float = 0.0
  input_dropout: float = 0.0
  dtype: DTypeLike | None = None

  def __post_init__(self):
    self.hidden = tuple(self.hidden)
    if any(width < 1 for width in self.hidden):
      raise errors.UserError(
        f"hidden={self.hidden}: give each layer a width of at least 1"
      )
    if self.classes < 1:
      raise errors.UserError(f"classes={self.classes} must be at least 1")
    for key in ("dropout", "input_dropout"):
      if not 0 <= getattr(self, key) < 1:
        raise errors.UserError(
          f"{key}={getattr(self, key)}: choose a share from 0 to below 1"
        )
    super().__post_init__()

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
    """Maps `[batch, ...]` to `[batch, classes]`.

    In training a dropout above 0 needs the random stream "dropout".
    """
    if inputs.ndim < 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
      raise errors.UserError(
        f"inputs {inputs.dtype}{list(inputs.shape)} are not examples: give"
        " floats of shape [batch, ...]"
      )
    outputs = inputs.reshape(inputs.shape[0], -1)
    outputs = nn.Dropout(self.input_dropout, deterministic=not train)(outputs)
    for i, width in enumerate(self.hidden, start=1):
      outputs = Hidden(width, self.dtype, name=f"hidden_{i}")(outputs)
      outputs = nn.Dropout(self.dropout, deterministic=not train)(outputs)
    return nn.Dense(
      self.classes,
      dtype=jnp.float32,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), axes.HEAD_KERNEL
      ),
      bias_init=nn.with_logical_partitioning(
        nn.initializers.zeros_init(), axes.HEAD_BIAS
      ),
      name="head",
    )(outputs)


class Hidden(nn.Module):
  """A dense layer and its ReLU."""

  width: int
  dtype: DTypeLike | None

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps `[batch, features]` to `[batch, width]`."""
    outputs = nn.Dense(
      self.width,
      dtype=self.dtype,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.he_normal(), axes.HIDDEN_KERNEL
      ),
      bias_init=nn.with_logical_partitioning(
        nn.initializers.zeros_init(), axes.HIDDEN_BIAS
      ),
      name="dense",
    )(inputs)
    return taps.tap(self, "output", nn.relu(outputs))
