"""The state of a stage: everything that a checkpoint holds, and no teacher."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
  """What a step takes and gives back.

  Attributes:
    step: int32, steps done.
    params: {"models": {NAME: tree}, "objective": {TERM: tree}}.
    collections: the same layout: batch statistics, banks.
    optimizer: optax's state over `params`.
    averages: {NAME: variables}, moving averages of models; {} for none.
  """

  step: jax.Array
  params: Any
  collections: Any
  optimizer: Any
  averages: Any = flax.struct.field(default_factory=dict)

  def variables(self, model: str) -> dict[str, Any]:
    """A model's variables, as `module.apply` takes them."""
    return join(self.params["models"][model], self.collections["models"][model])


@flax.struct.dataclass
class Scalars:
  """The traced numbers of a step: changing them never compiles anew."""

  seed: jax.Array  # uint32
  learning_rate: jax.Array
  clip: jax.Array  # largest norm of the gradient; inf for none
  weights: dict[str, jax.Array]  # by term
  temperatures: dict[str, jax.Array]  # by term
  pull: jax.Array  # alpha towards the teacher's weights; -1 leaves them
  decay: jax.Array  # of the moving average


def split(variables: Any) -> tuple[Any, dict[str, Any]]:
  """Variables into parameters and collections."""
  rest = {k: v for k, v in variables.items() if k != "params"}
  return variables.get("params", {}), rest


def join(params: Any, collections: Any) -> dict[str, Any]:
  """The inverse of `split`."""
  return {"params": params, **collections}
