"""One call of a model: its output, the taps asked for, its new collections."""

from typing import Any

from flax import linen as nn
import flax.struct
import jax

from tsjax.core import taps as taps_lib

OUTPUT = "output"


@flax.struct.dataclass
class Outputs:
  """What a model said about a batch."""

  output: Any
  taps: dict[str, jax.Array]

  def read(self, names: str | tuple[str, ...], *, of: str) -> Any:
    """The output, a tap, or a tuple of them, by name."""
    if not isinstance(names, str):
      return tuple(self.read(name, of=of) for name in names)
    if names == OUTPUT:
      return self.output
    return taps_lib.select(self.taps, names, of=of)


def forward(
  module: nn.Module,
  variables: Any,
  inputs: Any,
  *,
  train: bool,
  key: jax.Array | None = None,
) -> tuple[Outputs, dict[str, Any]]:
  """Applies a module; every tap is offered, and costs nothing if not read.

  Args:
    module: a Linen module that takes `(inputs, train=...)`.
    variables: "params" and the module's other collections.
    inputs: what the module takes, `[batch, ...]`.
    train: whether statistics are updated and dropout is on.
    key: random key of this call, for dropout.

  Returns:
    The outputs, and the collections other than parameters after the call.
  """
  kept = [name for name in variables if name != "params"]
  output, changed = module.apply(
    variables,
    inputs,
    train=train,
    rngs=None if key is None else {"dropout": key},
    mutable=[*(kept if train else ()), taps_lib.COLLECTION],
  )
  taps = taps_lib.named(changed.pop(taps_lib.COLLECTION, {}))
  collections = dict(changed) if train else {n: variables[n] for n in kept}
  return Outputs(output, taps), collections


def initialise(module: nn.Module, key: jax.Array, inputs: Any) -> Any:
  """A module's variables, boxed with their axes' names, without taps."""
  variables = dict(module.init(key, inputs, train=False))
  variables.pop(taps_lib.COLLECTION, None)
  return variables
