"""Kinds of teachers: a live model, several as one, outputs from a file.

A teacher is an object with

    gather(variables) -> what the step takes as the teacher's argument
    outputs(gathered, inputs, batch) -> forward.Outputs

where `variables` are those of its `members`, the earlier models that it
consists of, in order. The step runs every teacher before the gradient is taken.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors, precision
from tsjax.distill import forward


@dataclasses.dataclass(frozen=True)
class Member:
  """An earlier stage's model that a teacher needs.

  Attributes:
    stage: the stage, or "STAGE.MODEL".
    seed: of which seed; None is the seed of the stage that is taught.
  """

  stage: str
  seed: int | None = None


class Teacher(Protocol):
  """Whatever says something about a batch."""

  @property
  def members(self) -> tuple[Member, ...]:
    """The models whose variables it needs."""

  def gather(self, variables: Sequence[Any]) -> Any:
    """The members' variables as `outputs` takes them."""

  def outputs(
    self, gathered: Any, inputs: Any, batch: Mapping[str, Any]
  ) -> forward.Outputs:
    """What it says about a batch."""


@dataclasses.dataclass(frozen=True)
class Live:
  """A model that an earlier stage trained.

  Attributes:
    member: the model's name.
    module: the model.
  """

  member: Member
  module: nn.Module

  @property
  def members(self) -> tuple[Member, ...]:
    return (self.member,)

  def gather(self, variables: Sequence[Any]) -> Any:
    return variables[0]

  def outputs(
    self, gathered: Any, inputs: Any, batch: Mapping[str, Any]
  ) -> forward.Outputs:
    del batch
    return forward.forward(self.module, gathered, inputs, train=False)[0]


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """The weighted mean of several models' predictions.

  Of "probabilities", `p = sum_i w_i softmax(z_i / T)`, told as the logits
  `T log p`, which at the temperature T are p again; of "logits",
  `sum_i w_i z_i`. Models that are equal but for their variables run as one,
  under `vmap`.

  Source: Hinton, Vinyals and Dean 2015 (1503.02531), section 2: both the
  arithmetic mean of probabilities and the geometric one, which is the mean of
  logits.

  Attributes:
    members: the models' names.
    modules: their models.
    weights: one for each; they are scaled to the sum 1.
    mean: "probabilities" or "logits".
    temperature: T.
  """

  members: tuple[Member, ...]
  modules: tuple[nn.Module, ...]
  weights: tuple[float, ...] = ()
  mean: str = "probabilities"
  temperature: float = 1.0

  def gather(self, variables: Sequence[Any]) -> Any:
    """A tree for each kind of model, stacked `[members, ...]` where several."""
    return tuple(
      jax.tree.map(lambda *x: jnp.stack(x), *(variables[i] for i in group))
      if len(group) > 1
      else variables[group[0]]
      for group in self._groups()
    )

  def outputs(
    self, gathered: Any, inputs: Any, batch: Mapping[str, Any]
  ) -> forward.Outputs:
    """The mean of the members' logits, `[batch, ..., classes]`; no taps.

    Raises:
      UserError: the members' outputs are no logits of one shape.
    """
    del batch
    said: dict[int, jax.Array] = {}
    for group, own in zip(self._groups(), gathered, strict=True):
      module = self.modules[group[0]]

      def run(variables: Any, module: nn.Module = module) -> Any:
        return forward.forward(module, variables, inputs, train=False)[0].output

      outputs = jax.vmap(run)(own) if len(group) > 1 else run(own)
      if not isinstance(outputs, jax.Array):
        raise errors.UserError(
          "an ensemble averages logits, and"
          f" {self.members[group[0]].stage!r} returns"
          f" {type(outputs).__name__}; let terms read its members one by one"
        )
      many = outputs if len(group) > 1 else (outputs,)
      said.update(zip(group, many, strict=True))
    shapes = {m.stage: said[i].shape for i, m in enumerate(self.members)}
    if len(set(shapes.values())) > 1:
      told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
      raise errors.UserError(
        f"an ensemble averages logits of one shape, and these differ: {told}"
      )
    logits = jnp.stack(
      [precision.at_least_float32(said[i]) for i in range(len(said))]
    )
    return forward.Outputs(self._average(logits), {})

  def _average(self, logits: jax.Array) -> jax.Array:
    """`[members, ..., classes]` to `[..., classes]`."""
    weights = jnp.asarray(self.weights or (1.0,) * len(logits), logits.dtype)
    weights = (weights / weights.sum()).reshape(-1, *(1,) * (logits.ndim - 1))
    if self.mean == "logits":
      # A member of weight 0 says nothing, not even that a class is excluded.
      parts = jnp.where(weights > 0, weights * logits, 0.0)
      return jnp.sum(parts, axis=0)
    log_probabilities = jax.nn.log_softmax(logits / self.temperature)
    return self.temperature * jax.nn.logsumexp(
      log_probabilities, axis=0, b=weights
    )

  def _groups(self) -> list[list[int]]:
    """Members by model: those of one group differ in variables only."""
    groups: list[list[int]] = []
    for i, module in enumerate(self.modules):
      for group in groups:
        if self.modules[group[0]] == module:
          group.append(i)
          break
      else:
        groups.append([i])
    return groups


@dataclasses.dataclass(frozen=True)
class Cached:
  """Outputs that lie in the batch: a cache's, joined to the data.

  Attributes:
    name: of the cache; its fields are `teacher/NAME` and below.
    epochs: how many epochs' draws the fields hold, `[batch, epochs, ...]`; 0
      where they hold one output for every example, `[batch, ...]`.
    build: makes the output of the fields by the rest of their names, as a
      top-k structure needs it; None takes the only field, "".
  """

  name: str
  epochs: int = 0
  build: Any = None

  members: tuple[Member, ...] = ()

  def gather(self, variables: Sequence[Any]) -> Any:
    del variables
    return ()

  def outputs(
    self, gathered: Any, inputs: Any, batch: Mapping[str, Any]
  ) -> forward.Outputs:
    del gathered, inputs
    prefix = f"teacher/{self.name}"
    fields = {
      name.removeprefix(prefix).lstrip("/"): value
      for name, value in batch.items()
      if name == prefix or name.startswith(f"{prefix}/")
    }
    if self.epochs:
      rows = jnp.arange(len(batch["epoch"]))
      fields = {k: v[rows, batch["epoch"]] for k, v in fields.items()}
    output = fields[""] if self.build is None else self.build(fields)
    return forward.Outputs(output, {})
