"""What is looked at example by example: taps, disagreements, pictures, targets.

Of the first seed only and of a bounded number of test examples, so that a run
of many stages and seeds pays for it once a stage.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.config import stages
from tsjax.core import taps as taps_lib
from tsjax.data import pipeline
from tsjax.data import splits as splits_lib
from tsjax.distill import forward
from tsjax.evaluate import similarity as similarity_lib
from tsjax.report import pictures as pictures_lib
from tsjax.sharding import mesh as mesh_lib

if TYPE_CHECKING:
  from tsjax.loop import experiment as experiment_lib

# Of the scatter of predictions over targets.
TARGETS = 400
# Beyond so many stages each shows half as many disagreements, and so on.
STAGES = 8


def partner(experiment: "experiment_lib.Experiment", name: str) -> str | None:
  """The trained model with which a judged one is compared, None without one.

  Its teacher; a peer that teaches it in the same stage; where its teachers are
  several as one or files, the run's reference, or else the first of the
  several. A model that learnt from nobody has none.
  """
  parts = experiment.parts
  stage, model = parts.stage(name), parts.model(name)
  config = stage.config
  if config.teachers:
    return config.teachers[0]
  names = {m: n for n, m in stages.judged(stage.name, config).items()}
  for term in config.objective.values():
    if term.student == model and term.teacher in names:
      return names[term.teacher]
  if not (config.ensembles or config.cached):
    return None
  if experiment.run.reference and experiment.run.reference != name:
    return experiment.run.reference
  members = (m for e in config.ensembles.values() for m in e.members)
  return next(members, None)


def make_taps(parts: Any, name: str) -> Any:
  """A compiled `(variables, batch) -> {tap: [batch, features]}` of a model.

  Every tap, and the output where it is one array, in the order in which they
  are computed; features are averaged over positions (`similarity.pooled`).
  """
  model, view = parts.model(name), parts.stage(name).config.view
  made_from = {
    "taps": parts.run.models[model],
    "view": parts.run.data.views[view],
    "precision": parts.run.precision,
    "mesh": parts.placement.mesh,
  }
  return parts.programs.shared(
    made_from,
    lambda: _Taps(
      parts.modules[model], parts.views[view], parts.placement.mesh
    ),
  )


class _Taps:
  """See `make_taps`."""

  def __init__(self, module: Any, view: Any, mesh: jax.sharding.Mesh):
    self._names: list[str] = []

    def call(variables: Any, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
      inputs = jax.vmap(lambda example: view(example, None))(dict(batch))
      with taps_lib.recorded() as order:
        found, _ = forward.forward(module, variables, inputs, train=False)
      # A tap that a lifted transformation moved keeps its value, not its rank.
      names = [n for n in dict.fromkeys(order) if n in found.taps]
      offered = {n: found.taps[n] for n in (*names, *found.taps)}
      offered[forward.OUTPUT] = found.output
      size = len(batch["mask"])
      kept = {
        tap: similarity_lib.pooled(value.astype(jnp.float32))
        for tap, value in offered.items()
        if _is_features(value, size)
      }
      # What leaves a compiled function is a dict in order of its names.
      self._names = list(kept)
      return kept

    self._call = jax.jit(
      call,
      in_shardings=(None, mesh_lib.batch_sharding(mesh)),
      out_shardings=mesh_lib.replicated(mesh),
    )

  def __call__(self, variables: Any, batch: Any) -> dict[str, jax.Array]:
    found = self._call(variables, batch)
    return {name: found[name] for name in self._names}


def _is_features(value: Any, size: int) -> bool:
  return (
    isinstance(value, jax.Array)
    and jnp.issubdtype(value.dtype, jnp.floating)
    and value.ndim > 0
    and value.shape[0] == size
  )


class Similarities:
  """Similarity of layers between models of one seed; each runs once.

  Args:
    experiment: the run.
    examples: of the test split, evenly spread over it.
    wanted: names of the models whose features are needed more than once.
  """

  def __init__(
    self,
    experiment: "experiment_lib.Experiment",
    examples: int,
    wanted: Iterable[str],
  ):
    self._experiment = experiment
    self._wanted = frozenset(wanted)
    self._kept: dict[str, dict[str, np.ndarray | None]] = {}
    test = experiment.parts.splits["test"]
    chosen = spread(test.size, max(examples, 1))
    self._split = dataclasses.replace(
      test, rows=test.rows[chosen], labelled=test.labelled[chosen]
    )

  def between(self, name: str, other: str) -> dict[str, Any] | None:
    """As results.json holds it; None where there is nothing to compare."""
    if self._split.size < similarity_lib.EXAMPLES:
      return None
    rows, columns = self._grams(name), self._grams(other)
    if len(rows) < 2 and len(columns) < 2:  # At most their outputs.
      return None
    empty = np.full((self._split.size,) * 2, np.nan)
    table = similarity_lib.cross_cka(
      *(
        [empty if gram is None else gram for gram in grams.values()]
        for grams in (rows, columns)
      )
    )
    return {
      "with": other,
      "seed": self._experiment.run.seeds[0],
      "examples": self._split.size,
      "rows": list(rows),
      "columns": list(columns),
      "cka": np.round(table, 4).tolist(),
    }

  def _grams(self, name: str) -> dict[str, np.ndarray | None]:
    """Gram matrices by tap; None where features are not finite."""
    if name in self._kept:
      return self._kept[name]
    experiment = self._experiment
    taps = make_taps(experiment.parts, name)
    variables = experiment.variables(name, experiment.run.seeds[0])
    found: dict[str, list[np.ndarray]] = {}
    for batch in pipeline.eval_batches(
      self._split, experiment.run.data.eval_batch_size
    ):
      # One by one: `device_get` of a dict would lose the order of the taps.
      for tap, value in taps(variables, batch).items():
        found.setdefault(tap, []).append(np.asarray(value)[batch["mask"]])
    features = {tap: np.concatenate(parts) for tap, parts in found.items()}
    grams = {
      tap: similarity_lib.gram(x) if np.isfinite(x).all() else None
      for tap, x in features.items()
    }
    if name in self._wanted:
      self._kept[name] = grams
    return grams


def disagreements(
  student: np.ndarray,
  teacher: np.ndarray,
  truth: np.ndarray,
  *,
  sure: tuple[np.ndarray | None, np.ndarray | None],
  limit: int,
) -> dict[str, Any]:
  """Examples of which two models say different classes.

  Args:
    student: [n], the classes that one says.
    teacher: [n], the other.
    truth: [n].
    sure: how sure each is, [n]; None where that is not known.
    limit: how many to list, half of each kind where there are as many.

  Returns:
    `counts` by kind, and `rows`: of those where one of the two is right, first
    the ones of which the less sure of both is surest.
  """
  apart = student != teacher
  kinds = {
    "student_wrong": apart & (teacher == truth),
    "teacher_wrong": apart & (student == truth),
    "both_wrong": apart & (student != truth) & (teacher != truth),
  }
  known = [s for s in sure if s is not None]
  least = np.min(known, axis=0) if known else np.zeros(len(truth))
  ranked = {
    kind: sorted(np.flatnonzero(kinds[kind]), key=lambda k: (-least[k], k))
    for kind in ("student_wrong", "teacher_wrong")
  }
  first, second = map(len, ranked.values())
  share = max(limit // 2, limit - second), max(limit // 2, limit - first)
  rows = [
    {
      "row": int(k),
      "kind": kind,
      "true": int(truth[k]),
      "student": int(student[k]),
      "teacher": int(teacher[k]),
      **{
        f"{role}_confidence": None if s is None else round(float(s[k]), 4)
        for role, s in zip(("student", "teacher"), sure, strict=True)
      },
    }
    for (kind, found), most in zip(ranked.items(), share, strict=True)
    for k in found[:most]
  ]
  return {
    "examples": len(truth),
    "counts": {kind: int(found.sum()) for kind, found in kinds.items()},
    "rows": rows[:limit],
  }


def confidence(scores: np.ndarray) -> np.ndarray | None:
  """The largest probability of logits [n, classes]; None of other scores."""
  if scores.ndim != 2 or scores.shape[1] < 2:
    return None
  scores = scores.astype(np.float64)
  odds = np.exp(scores - scores.max(axis=1, keepdims=True))
  return 1 / odds.sum(axis=1)


def targets(
  scores: np.ndarray, truth: np.ndarray
) -> dict[str, list[float]] | None:
  """Predicted numbers beside their targets, `TARGETS` of them at most."""
  if scores.size != len(scores) or truth.ndim != 1 or truth.dtype.kind != "f":
    return None
  kept = spread(len(truth), TARGETS)
  return {
    "target": truth[kept].astype(np.float64).tolist(),
    "prediction": scores.reshape(-1)[kept].astype(np.float64).tolist(),
  }


def pictures(split: splits_lib.Split, rows: Iterable[int]) -> dict[str, str]:
  """Examples of a split as pictures, by row; {} where they are none."""
  rows = np.array(sorted(set(rows)), np.int64)
  if not len(rows):
    return {}
  fields = split.read(rows)
  names = sorted(
    (n for n, x in fields.items() if pictures_lib.is_picture(x)),
    key=lambda name: name != "image",
  )
  if not names:
    return {}
  drawn = pictures_lib.pixels(fields[names[0]])
  return {
    str(row): pictures_lib.uri(image)
    for row, image in zip(rows, drawn, strict=True)
  }


def spread(size: int, count: int) -> np.ndarray:
  """At most `count` of the numbers below `size`, evenly spread."""
  return np.unique(
    np.linspace(0, size - 1, min(size, count)).round().astype(np.int64)
  )
