"""Checks of a run's parts before any training: nothing is computed.

Parts are called with shapes instead of values, and whatever their authors' code
raises is told in one line that names the config key.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from tsjax.config import specs
from tsjax.core import errors
from tsjax.distill import forward
from tsjax.train import step as step_lib


def build(
  spec: Any, key: str, *supplied: Any, needs: tuple[str, ...] = ()
) -> Any:
  """Builds a spec of something that has the attributes `needs`."""
  result = call(key, specs.build, spec, *supplied)
  for name in needs:
    if not hasattr(result, name):
      raise errors.UserError(
        f"{key}: {specs.qualified_name(spec[specs.CALL])} returned"
        f" {type(result).__name__}, which has no `{name}`; see Contracts in"
        " docs/design.md"
      )
  return result


def call(key: str, function: Callable[..., Any], *given: Any) -> Any:
  """Calls what may run its author's own code; errors name the key."""
  try:
    return function(*given)
  except errors.UserError as e:
    raise errors.UserError(f"{key}: {e}") from e
  except Exception as e:  # It may raise anything.
    first = " ".join(str(e).split())[:300]
    raise errors.UserError(f"{key}: {type(e).__name__}: {first}") from e


def trace(function: Callable[..., Any], given: Any, key: str) -> Any:
  """Calls with shapes and returns shapes."""
  return call(key, jax.eval_shape, function, *given)


def trace_models(
  structure: step_lib.Structure,
  example: Mapping[str, jax.ShapeDtypeStruct],
  task: Any,
  source: Any,
) -> Any:
  """Traces view and models by themselves, so that errors name them.

  Returns:
    The shape of the first model's output.
  """
  seed = jax.ShapeDtypeStruct((), np.uint32)
  names = dict.fromkeys(
    filter(None, (structure.student_view, structure.teacher_view))
  )
  seen, outputs = {}, []
  for view in names:
    seen[view] = trace(
      lambda batch, s, view=view: step_lib.apply_view(
        structure, view, batch, s
      ),
      (dict(example), seed),
      f"config.data.views.{view}",
    )
  for name, module in structure.models.items():

    def apply(inputs: Any, module: nn.Module = module) -> Any:
      variables = forward.initialise(module, jax.random.key(0), inputs)
      return forward.forward(
        module, nn.meta.unbox(variables), inputs, train=False
      )[0].output

    output = trace(
      apply, (seen[structure.student_view],), f"config.models.{name}"
    )
    task.check(source.classes, output, key=f"config.models.{name}")
    outputs.append(output)
  return outputs[0]


def check_metric(
  task: Any,
  output: Any,
  example: Mapping[str, jax.ShapeDtypeStruct],
  metric: str,
  key: str,
) -> None:
  """Refuses a metric that the task has not when it measures zeros."""
  for field in task.fields:
    if field not in example:
      raise errors.UserError(
        f"config.task reads field {field!r}, which the data has not:"
        f" {errors.nearest(field, example)}"
      )
  scores = trace(task.scores, (output,), "config.task")
  zeros, fields = jax.tree.map(
    lambda x: np.zeros((1, *x.shape[1:]), x.dtype),
    (scores, {field: example[field] for field in task.fields}),
  )
  known = call("config.task", task.metrics, zeros, fields)
  if metric not in known:
    raise errors.UserError(
      f"{key}={metric!r} is no metric of the task:"
      f" {errors.nearest(metric, known)}"
    )


def trace_start(
  start: Any, variables: Any, stages: Mapping[str, Any], key: str
) -> None:
  """Starts from shapes: an unknown stage, and nothing that fits, show here."""

  def shapes(own: Any) -> Any:
    try:
      return jax.eval_shape(
        lambda own, others: specs.build(start, own, others)[0], own, stages
      )
    except (
      jax.errors.TracerArrayConversionError,
      jax.errors.ConcretizationTypeError,
    ):
      return own  # It reads values: only the real start can tell.

  result = call(key, shapes, variables)
  if jax.tree.map(np.shape, result) != jax.tree.map(np.shape, variables):
    raise errors.UserError(
      f"{key}: returns variables of other names or shapes than the model's"
    )
