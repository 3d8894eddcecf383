"""Teachers: what a stage learns from, as one call.

A teacher has two parts. `gather` runs once for a seed, on the host: it takes
the variables of earlier stages and returns the teacher's own. The call is part
of the step: variables, inputs and batch in, outputs out; it is never
differentiated.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.distill import forward

MEANS = ("probabilities", "logits")


class Teacher(Protocol):
  """Anything that can teach."""

  def gather(self, stages: Mapping[str, Any]) -> Any:
    """The teacher's variables, from those of earlier stages."""

  def __call__(
    self, variables: Any, inputs: Any, batch: Mapping[str, Any]
  ) -> forward.Outputs:
    """What the teacher says about a batch."""


@dataclasses.dataclass(frozen=True)
class Live:
  """The model with which an earlier stage ended, run in every step."""

  stage: str
  module: nn.Module

  def gather(self, stages: Mapping[str, Any]) -> Any:
    """The stage's variables."""
    return stages[self.stage]

  def __call__(
    self, variables: Any, inputs: Any, batch: Mapping[str, Any]
  ) -> forward.Outputs:
    """Output and taps of the model, in evaluation mode."""
    del batch
    return forward.forward(self.module, variables, inputs, train=False)[0]


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """The mean of several teachers; those of one architecture in one `vmap`.

  Attributes:
    members: (stage, module) of every member.
    weights: one for each, summing to 1.
    mean: "probabilities": the output is the logarithm of the weighted mean of
      the members' probabilities, whose softmax is that mean; "logits": the
      weighted mean of the logits.
  """

  members: tuple[tuple[str, nn.Module], ...]
  weights: tuple[float, ...]
  mean: str = "probabilities"

  def gather(self, stages: Mapping[str, Any]) -> Any:
    """Variables by architecture, those of one stacked along a new axis."""
    return [
      jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *(stages[self.members[i][0]] for i in group),
      )
      for group in self._groups()
    ]

  def __call__(
    self, variables: Any, inputs: Any, batch: Mapping[str, Any]
  ) -> forward.Outputs:
    """The members' mean; an ensemble offers no taps."""
    del batch
    logits: list[Any] = [None] * len(self.members)
    for group, stacked in zip(self._groups(), variables, strict=True):
      module = self.members[group[0]][1]

      def one(own: Any, module: nn.Module = module) -> jax.Array:
        return forward.forward(module, own, inputs, train=False)[0].output

      outputs = jax.vmap(one)(stacked)
      for row, member in enumerate(group):
        logits[member] = outputs[row].astype(jnp.float32)
    return forward.Outputs(mean_of(logits, self.weights, self.mean), {})

  def _groups(self) -> list[list[int]]:
    """Members of equal modules, in order."""
    groups: dict[nn.Module, list[int]] = {}
    for i, (_, module) in enumerate(self.members):
      groups.setdefault(module, []).append(i)
    return list(groups.values())


def mean_of(
  logits: list[jax.Array], weights: tuple[float, ...], mean: str
) -> jax.Array:
  """The members' mean as logits `[..., classes]`.

  Args:
    logits: of every member, of one shape.
    weights: one for each.
    mean: see `Ensemble`.

  Raises:
    UserError: members of different numbers of classes, or no such mean.
  """
  if mean not in MEANS:
    raise errors.UserError(f"mean={mean!r}: {errors.nearest(mean, MEANS)}")
  shapes = {x.shape for x in logits}
  if len(shapes) > 1:
    raise errors.UserError(
      f"an ensemble's members return different shapes: {sorted(shapes)}"
    )
  if mean == "logits":
    return sum(w * x for w, x in zip(weights, logits, strict=True))
  log_probabilities = jnp.stack(
    [
      jax.nn.log_softmax(x) + jnp.log(jnp.float32(w))
      for w, x in zip(weights, logits, strict=True)
    ]
  )
  return jax.nn.logsumexp(log_probabilities, axis=0)
