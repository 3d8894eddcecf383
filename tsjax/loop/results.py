"""What a run came to: the test split, read once, and `results.json`."""

from collections.abc import Mapping, Sequence
import datetime
import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tsjax.config import specs
from tsjax.core import trees
from tsjax.data import pipeline
from tsjax.distill import interpolate
from tsjax.evaluate import speed
from tsjax.report import writers

if TYPE_CHECKING:
  from tsjax.loop import experiment as experiment_lib

FORMAT = 1


def collect(experiment: "experiment_lib.Experiment") -> dict[str, Any]:
  """Evaluates every stage and seed on the test split, and adds the rest.

  Returns:
    The content of `results.json`; its schema stands in docs/design.md.
  """
  run = experiment.run
  reference = {}
  if run.reference:
    reference = {
      seed: {
        split: experiment.scores(
          run.reference, experiment.variables(run.reference, seed), split
        )[0]
        for split in experiment.parts.splits
        if split != "train"
      }
      for seed in run.seeds
    }
  stages = {name: _stage(experiment, name, reference) for name in run.order}
  return {
    "format": FORMAT,
    "name": run.name,
    "command": experiment.command,
    "seeds": list(run.seeds),
    "seconds": sum(stage["seconds"] for stage in stages.values()),
    "device": device(),
    "date": datetime.date.today().isoformat(),
    "versions": versions(),
    "classes": list(experiment.parts.source.classes),
    "reference": run.reference,
    "stages": stages,
  }


def versions() -> dict[str, str]:
  """Versions of what the numbers depend on."""
  names = ("tsjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
  found = {"python": platform.python_version()}
  for name in names:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def device() -> str:
  """The devices in words: "cpu x 1 (2 cores)"."""
  first = jax.devices()[0]
  cores = f" ({os.cpu_count()} cores)" if first.platform == "cpu" else ""
  return f"{first.device_kind} x {jax.device_count()}{cores}"


def summary(values: Sequence[float]) -> dict[str, Any]:
  """Mean and standard deviation (of a sample) over the seeds."""
  array = np.asarray(values, np.float64)
  return {
    "mean": float(array.mean()),
    "std": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
    "values": [float(v) for v in array],
  }


def _stage(
  experiment: "experiment_lib.Experiment",
  name: str,
  reference: Mapping[int, Mapping[str, np.ndarray]],
) -> dict[str, Any]:
  run, parts = experiment.run, experiment.parts
  built = parts.stages[name]
  records = {seed: experiment.record(name, seed) for seed in run.seeds}
  tables: dict[str, list[dict[str, float]]] = {}
  confusion: Any = 0
  for seed in run.seeds:
    variables = experiment.variables(name, seed)
    for split in parts.splits:
      if split == "train":
        continue
      scores, fields = experiment.scores(name, variables, split)
      others = reference.get(seed, {}).get(split)
      values = parts.task.metrics(scores, fields, reference=others)
      if split == "test":
        confusion = confusion + parts.task.confusion(scores, fields)
        values["examples_per_second"] = _speed(experiment, name, variables)
      tables.setdefault(split, []).append(values)
  params = built.program.abstract.params["models"][built.model]
  account = experiment.account(name, run.seeds[0])
  return {
    "trains": built.model,
    "model": {
      "kind": run.models[built.model][specs.CALL].__name__,
      "parameters": trees.size(params),
      "bytes": trees.nbytes(params),
    },
    "steps": built.timeline.steps,
    "seconds": sum(record["seconds"] for record in records.values()),
    "teachers": [parts.stages[t].model for t in built.config.teachers],
    "labels": built.config.labels,
    **{
      split: {m: summary([row[m] for row in rows]) for m in rows[0]}
      for split, rows in tables.items()
    },
    "per_class": {
      k: np.asarray(v).tolist()
      for k, v in parts.task.per_class(confusion).items()
    },
    "confusion": np.asarray(confusion).tolist(),
    "chosen": [
      {
        "seed": seed,
        "arm": {"learning_rate": record["learning_rate"]},
        "validation": record["arms"],
      }
      for seed, record in records.items()
    ],
    "curves": [
      _curve(experiment, name, seed, record["learning_rate"])
      for seed, record in records.items()
    ],
    "line": _line(experiment, name),
    "transfer": None if account is None else account.as_json(),
  }


def _speed(
  experiment: "experiment_lib.Experiment", name: str, variables: Any
) -> float:
  batch = next(
    iter(
      pipeline.eval_batches(
        experiment.parts.splits["test"], experiment.run.data.eval_batch_size
      )
    )
  )
  return speed.examples_per_second(
    experiment.parts.predict(name), variables, batch
  )


def _curve(
  experiment: "experiment_lib.Experiment", name: str, seed: int, rate: float
) -> dict[str, Any]:
  path = experiment.folder(name, seed, rate) / "metrics.jsonl"
  curve: dict[str, Any] = {"seed": seed, "train": {}, "validation": {}}
  for line in writers.read(path) if path.exists() else []:
    for key, value in line.items():
      if key not in ("format", "kind"):
        curve[line["kind"]].setdefault(key, []).append(value)
  return curve


def _line(
  experiment: "experiment_lib.Experiment", name: str
) -> dict[str, Any] | None:
  """The validation loss along the line from a stage's start to its end."""
  points = experiment.run.line_points
  built = experiment.parts.stages[name]
  has_loss = "validation" in experiment.parts.splits and points > 1
  if not has_loss or not built.timeline.steps:
    return None
  alphas = [round(a, 4) for a in np.linspace(-1.0, 0.0, points)]
  along = jax.jit(interpolate.interpolate)
  losses = []
  for seed in experiment.run.seeds:
    begun = experiment.start(name, seed).variables(built.model)
    ended = experiment.variables(name, seed)
    losses.append(
      [_loss(experiment, name, along(begun, ended, alpha)) for alpha in alphas]
    )
  return {"alpha": alphas, "loss": losses}


def _loss(
  experiment: "experiment_lib.Experiment", name: str, variables: Any
) -> float:
  scores, fields = experiment.scores(name, variables, "validation")
  metrics = experiment.parts.task.metrics(scores, fields)
  return metrics["cross_entropy"]
