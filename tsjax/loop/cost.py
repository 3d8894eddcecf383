"""How long a trained model takes, on this machine; once for each model."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tsjax.data import pipeline
from tsjax.evaluate import speed as speed_lib
from tsjax.sharding import mesh as mesh_lib
from tsjax.train import program as program_lib

if TYPE_CHECKING:
  from tsjax.loop import experiment as experiment_lib


def speed(
  experiment: "experiment_lib.Experiment", name: str, calls: int
) -> dict[str, Any] | None:
  """Times of a judged model, as results.json holds them.

  Weights change no time, so stages that train one model share its numbers.

  Args:
    experiment: the run.
    name: of the judged model.
    calls: calls of which the latency is measured; 0 leaves all times out.
  """
  if not calls:
    return None
  parts, run = experiment.parts, experiment.run
  made_from = {
    "speed": run.models[parts.model(name)],
    "view": run.data.views[parts.stage(name).config.view],
    "task": run.task,
    "precision": run.precision,
    "mesh": parts.placement.mesh,
    "batch": run.data.eval_batch_size,
    "calls": calls,
  }

  def measure() -> dict[str, Any]:
    variables = experiment.variables(name, run.seeds[0])
    batch = _batch(experiment, run.data.eval_batch_size)
    rate = speed_lib.examples_per_second(parts.predict(name), variables, batch)
    return {
      "batch": run.data.eval_batch_size,
      "examples_per_second": rate,
      "latency": _latency(experiment, name, variables, calls),
    }

  return parts.programs.shared(made_from, measure)


def _latency(
  experiment: "experiment_lib.Experiment", name: str, variables: Any, calls: int
) -> dict[str, Any] | None:
  """Of one example on one device, as a user would ask."""
  parts = experiment.parts
  leaves = jax.tree.leaves(variables)
  if not all(getattr(x, "is_fully_addressable", True) for x in leaves):
    return None  # No single process holds the whole model.
  device = parts.placement.mesh.local_devices[0]
  alone = jax.sharding.Mesh(np.array(device).reshape(1, 1), mesh_lib.BATCH_AXES)
  predict = program_lib.make_predict(
    parts.module(name),
    parts.views[parts.stage(name).config.view],
    parts.task.scores,
    alone,
  )
  found = speed_lib.latency(
    predict,
    jax.device_put(variables, device),
    _batch(experiment, 1),
    calls=calls,
  )
  return dataclasses.asdict(found)


def _batch(experiment: "experiment_lib.Experiment", size: int) -> Any:
  batches = pipeline.eval_batches(
    experiment.parts.splits["test"], size, prefetch=0
  )
  return next(batches)
