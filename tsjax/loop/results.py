"""What a run came to: the test split, read once, and `results.json`."""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tsjax.config import specs, stages
from tsjax.core import trees
from tsjax.distill import interpolate
from tsjax.evaluate import classification
from tsjax.loop import cost, examples, tables
from tsjax.report import writers

if TYPE_CHECKING:
  from tsjax.loop import experiment as experiment_lib

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Extent:
  """How much the report looks into; each costs time once a model or stage.

  Attributes:
    similarity: test examples of which layers are compared; 0 for none.
    disagreements: examples listed on which student and teacher disagree; 0 for
      none.
    latency: calls to measure, for about a second at most; 0 for none.
  """

  similarity: int = 512
  disagreements: int = 24
  latency: int = 100


def collect(
  experiment: "experiment_lib.Experiment", extent: Extent | None = None
) -> dict[str, Any]:
  """Evaluates every judged model and seed on the test split, and adds the rest.

  Args:
    experiment: a run whose stages have all ended.
    extent: how much to look into; None is all of it.

  Returns:
    The content of `results.json`; its schema stands in docs/design.md.
  """
  run, parts = experiment.run, experiment.parts
  collected = _Collection(experiment, extent or Extent())
  entries = {name: collected.entry(name) for name in parts.judged}
  # A stage that trained several models took its time once.
  seconds = {parts.stage(n).name: e["seconds"] for n, e in entries.items()}
  return {
    "format": FORMAT,
    "name": run.name,
    "command": experiment.command,
    "seeds": list(run.seeds),
    "seconds": sum(seconds.values()),
    "device": device(),
    "date": datetime.date.today().isoformat(),
    "versions": versions(),
    "classes": list(parts.source.classes),
    "reference": run.reference,
    "loss": _loss_name(parts.task),
    "pictures": examples.pictures(parts.splits["test"], collected.rows),
    "stages": entries,
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


class _Collection:
  """What is gathered model by model, and what models need of each other."""

  def __init__(self, experiment: "experiment_lib.Experiment", extent: Extent):
    self.rows: set[int] = set()
    self._experiment, self._extent = experiment, extent
    run, parts = experiment.run, experiment.parts
    self._partners = {
      name: other
      for name in parts.judged
      if (other := examples.partner(experiment, name))
    }
    many = len(self._partners) / examples.STAGES
    self._listed = int(extent.disagreements / max(many, 1))
    self._similarities = examples.Similarities(
      experiment, extent.similarity, self._partners.values()
    )
    # Scores that others are compared with: of the reference all, of a teacher
    # the first seed's on test.
    self._kept: dict[tuple[str, int, str], np.ndarray] = {}
    self._keeps = {
      (name, run.seeds[0], "test") for name in self._partners.values()
    }
    if run.reference:
      self._keeps |= {
        (run.reference, seed, split)
        for seed in run.seeds
        for split in parts.splits
        if split != "train"
      }

  def entry(self, name: str) -> dict[str, Any]:
    """A judged model's part of results.json."""
    experiment, parts = self._experiment, self._experiment.parts
    run, built, model = experiment.run, parts.stage(name), parts.model(name)
    records = {seed: experiment.record(built.name, seed) for seed in run.seeds}
    measured: dict[str, list[dict[str, float]]] = {}
    listed, reliable, first = [], [], {}
    for seed in run.seeds:
      for split in parts.splits:
        if split == "train":
          continue
        scores, fields = self._scores(name, seed, split)
        reference = (
          self._scores(run.reference, seed, split)[0] if run.reference else None
        )
        values = parts.task.metrics(scores, fields, reference=reference)
        measured.setdefault(split, []).append(values)
        if split != "test":
          continue
        listed.append(tables.of(parts.task, scores, fields))
        truth = tables.truth(parts.task, fields)
        if "calibration_error" in values and truth is not None:
          reliable.append(classification.reliability(scores, truth))
        if not first:
          first = self._examples(name, scores, fields)
    params = built.program.abstract.params["models"][model]
    account = experiment.account(built.name, run.seeds[0])
    shown = tables.together(listed)
    score = built.config.choose_by or getattr(parts.task, "choose_by", "f1")
    return {
      "trains": model,
      "model": {
        "kind": run.models[model][specs.CALL].__name__,
        "parameters": trees.size(params),
        "bytes": trees.nbytes(params),
      },
      "steps": built.timeline.steps,
      "seconds": sum(record["seconds"] for record in records.values()),
      "teachers": _teachers(parts, name),
      "labels": built.config.labels,
      "score": score,
      "lower_is_better": score in parts.task.lower_is_better,
      **{
        split: {m: summary([row[m] for row in rows]) for m in rows[0]}
        for split, rows in measured.items()
      },
      "per_class": shown.get("per_class"),
      "confusion": shown.get("confusion"),
      "groups": tables.named_groups(parts, shown.get("groups")),
      "reliability": tables.pooled(reliable),
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
      "speed": cost.speed(experiment, name, self._extent.latency),
      **first,
    }

  def _scores(
    self, name: str, seed: int, split: str
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    key = name, seed, split
    if key in self._kept:
      return self._kept[key]
    variables = self._experiment.variables(name, seed)
    found = self._experiment.scores(name, variables, split)
    if key in self._keeps:
      self._kept[key] = found
    return found

  def _examples(
    self, name: str, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> dict[str, Any]:
    """What is told of single test examples, with the first seed."""
    experiment, seed = self._experiment, self._experiment.run.seeds[0]
    task = experiment.parts.task
    truth, said = tables.truth(task, fields), tables.decided(task, scores)
    found: dict[str, Any] = {
      "targets": None,
      "similarity": None,
      "disagreements": None,
    }
    if said is None and truth is not None:
      pairs = examples.targets(scores, truth)
      found["targets"] = pairs and {"seed": seed, **pairs}
    other = self._partners.get(name)
    if other is None:
      return found
    if self._extent.similarity:
      found["similarity"] = self._similarities.between(name, other)
    if not self._listed or said is None or truth is None:
      return found
    theirs = self._scores(other, seed, "test")[0]
    apart = examples.disagreements(
      said,
      tables.decided(task, theirs),
      truth,
      sure=(examples.confidence(scores), examples.confidence(theirs)),
      limit=self._listed,
    )
    self.rows |= {row["row"] for row in apart["rows"]}
    found["disagreements"] = {"with": other, "seed": seed, **apart}
    return found


def _teachers(parts: Any, name: str) -> list[str]:
  """The models that taught a judged one; other teachers by their names."""
  stage, model = parts.stage(name), parts.model(name)
  config = stage.config
  own = {*stages.judged(stage.name, config).values(), stages.AVERAGE}
  taught = [
    term.teacher
    for term in config.objective.values()
    if term.student in ("", model) and term.teacher in own
  ]
  return [
    *(parts.model(t) for t in config.teachers),
    *config.ensembles,
    *config.cached,
    *dict.fromkeys(taught),
  ]


def _curve(
  experiment: "experiment_lib.Experiment", name: str, seed: int, rate: float
) -> dict[str, Any]:
  """A model's lines of metrics.jsonl, by step.

  Of a stage that trains several models, the evaluations that are its own.
  """
  parts = experiment.parts
  built, model = parts.stage(name), parts.model(name)
  path = experiment.folder(built.name, seed, rate) / "metrics.jsonl"
  curve: dict[str, Any] = {"seed": seed, "train": {}, "validation": {}}
  for line in writers.read(path) if path.exists() else []:
    kind = curve.get(line["kind"])
    if not isinstance(kind, dict):
      continue
    if line["kind"] == "validation" and len(built.models) > 1:
      own = f"{model}/"
      line = {"step": line["step"]} | {
        k.removeprefix(own): v for k, v in line.items() if k.startswith(own)
      }
    for key, value in line.items():
      if key not in ("format", "kind"):
        kind.setdefault(key, []).append(value)
  return curve


def _line(
  experiment: "experiment_lib.Experiment", name: str
) -> dict[str, Any] | None:
  """The validation loss along the line from a stage's start to its end."""
  points, parts = experiment.run.line_points, experiment.parts
  built, model = parts.stage(name), parts.model(name)
  has_loss = "validation" in parts.splits and points > 1
  if not has_loss or not built.timeline.steps:
    return None
  alphas = [round(a, 4) for a in np.linspace(-1.0, 0.0, points)]
  losses = []
  for seed in experiment.run.seeds:
    begun = experiment.start(built.name, seed).variables(model)
    ended = experiment.variables(name, seed)
    losses.append(
      [_loss(experiment, name, _along(begun, ended, alpha)) for alpha in alphas]
    )
  if any(loss is None for found in losses for loss in found):
    return None
  return {"alpha": alphas, "loss": losses}


_along = jax.jit(interpolate.interpolate)


def _loss(
  experiment: "experiment_lib.Experiment", name: str, variables: Any
) -> float | None:
  task = experiment.parts.task
  found = task.metrics(*experiment.scores(name, variables, "validation"))
  return found.get(_loss_name(task))


def _loss_name(task: Any) -> str:
  return getattr(task, "loss", "cross_entropy")
