"""Finished runs side by side: read, checked, compared, told."""

from collections.abc import Iterator, Mapping, Sequence
import json
from typing import Any

from etils import epath

from tsjax.core import errors
from tsjax.report import compare_intervals as intervals
from tsjax.report import compare_page, compare_runs, words

FORMAT = 1
# Metrics of which less is better, as far as a page can know without the task.
LOWER = frozenset(
  {
    "cross_entropy",
    "calibration_error",
    "mean_squared_error",
    "mean_absolute_error",
    "root_mean_squared_error",
    "log_loss",
    "brier_score",
    "hamming_loss",
  }
)
# What each run measures of itself: no difference between models.
_OWN = ("examples_per_second",)
# Keys in which runs may differ without differing in what they trained.
_IDLE = ("name", "keep_checkpoints", "line_points", "seeds")


def write(
  folders: Sequence[epath.PathLike],
  out: epath.PathLike = "comparison",
  *,
  metric: str = "",
) -> epath.Path:
  """Compares finished runs: writes `index.html` and `comparison.json`.

  Args:
    folders: of the runs, at least two; the first is the one that the others
      are compared with.
    out: the folder to write to; made if missing.
    metric: which to compare by; by default F1, else accuracy, else the first
      that all runs have.

  Returns:
    The path of `index.html`.

  Raises:
    UserError: a run is missing, unfinished or damaged, or the runs are of
      different data, classes or tasks.
  """
  comparison = compare(folders, metric=metric)
  out = epath.Path(out).expanduser()
  for folder in folders:
    if compare_runs.same_place(out, epath.Path(folder).expanduser()):
      raise errors.UserError(
        f"--out={out}: is the folder of a run that is compared; name another"
      )
  return compare_page.write(
    out,
    {
      "comparison.json": compare_page.as_json(comparison),
      "index.html": compare_page.render(comparison),
    },
  )


def compare(
  folders: Sequence[epath.PathLike], *, metric: str = ""
) -> dict[str, Any]:
  """The content of `comparison.json`; see `write`."""
  if len(folders) < 2:
    raise errors.UserError(
      "a comparison needs two runs or more; the page of one is written by"
      " `tsjax report --workdir=DIR`"
    )
  paths = [epath.Path(f).expanduser() for f in folders]
  for k, path in enumerate(paths):
    if any(compare_runs.same_place(path, other) for other in paths[:k]):
      raise errors.UserError(f"{path}: is named twice; name each run once")
  runs = {
    name: (path, *compare_runs.read(path))
    for name, path in zip(compare_runs.names(paths), paths, strict=True)
  }
  compare_runs.check_alike(runs)
  results = {name: r for name, (_, r, _) in runs.items()}
  metric = _metric(results, metric)
  differences = list(_differences(results, metric))
  corrected = intervals.holm([d["p"] for d in differences])
  for found, p in zip(differences, corrected, strict=True):
    found["p_holm"] = p
    found["told"] = p is not None and p < 1 - intervals.LEVEL
  return {
    "format": FORMAT,
    "metric": metric,
    "lower_is_better": metric in LOWER,
    "baseline": next(iter(runs)),
    "level": intervals.LEVEL,
    "runs": {
      name: {
        "folder": str(path),
        **{
          key: found.get(key)
          for key in (
            "name",
            "date",
            "seeds",
            "seconds",
            "device",
            "command",
            "versions",
          )
        },
      }
      for name, (path, found, _) in runs.items()
    },
    "stages": _stages(results),
    "differences": differences,
    "configs": _configs({n: c for n, (_, _, c) in runs.items()}),
  }


def _metric(results: Mapping[str, Any], asked: str) -> str:
  common: list[str] | None = None
  for found in results.values():
    own = {m: None for s in found["stages"].values() for m in s["test"]}
    common = [m for m in (own if common is None else common) if m in own]
  kept = [m for m in common or () if m not in _OWN]
  if asked:
    if asked not in kept:
      raise errors.UserError(
        f"--metric={asked!r}: {errors.nearest(asked, kept)}"
      )
    return asked
  if not kept:
    raise errors.UserError("these runs have no metric in common")
  return next((m for m in ("f1", "accuracy") if m in kept), kept[0])


def _stages(results: Mapping[str, Any]) -> dict[str, Any]:
  """Every stage's scores with their intervals: stage -> run -> what it is."""
  stages: dict[str, Any] = {}
  for run, found in results.items():
    for name, stage in found["stages"].items():
      test = {}
      for metric, score in stage["test"].items():
        interval = intervals.of_score(score, metric, stage.get("confusion"))
        test[metric] = {
          "mean": score.get("mean"),
          "std": score.get("std"),
          "values": score.get("values"),
          **_interval(None if metric in _OWN else interval),
        }
      stages.setdefault(name, {})[run] = {
        "trains": stage.get("trains"),
        "parameters": (stage.get("model") or {}).get("parameters"),
        "steps": stage.get("steps"),
        "labels": stage.get("labels"),
        "teachers": stage.get("teachers"),
        "seeds": len(found["seeds"]),
        "test": test,
      }
  return stages


def _interval(found: intervals.Interval | None) -> dict[str, Any]:
  if found is None:
    return {"low": None, "high": None, "interval": None}
  return {"low": found.low, "high": found.high, "interval": found.kind}


def _differences(
  results: Mapping[str, Any], metric: str
) -> Iterator[dict[str, Any]]:
  """Every run against the first, stage by stage."""
  first = next(iter(results))
  for stage, a in results[first]["stages"].items():
    for run, found in results.items():
      b = found["stages"].get(stage)
      if run == first or b is None:
        continue
      if metric not in a["test"] or metric not in b["test"]:
        continue
      by_seed = [
        dict(zip(r["seeds"], s["test"][metric]["values"], strict=True))
        for r, s in ((found, b), (results[first], a))
      ]
      one = all(len(values) == 1 for values in by_seed)
      counts = [intervals.counts_of(s.get("confusion")) for s in (b, a)]
      result = intervals.difference(
        *by_seed,
        size=intervals.resolution(
          metric, a.get("confusion"), len(results[first]["seeds"])
        ),
        draws=tuple(
          intervals.bootstrap(c, metric, seed=k)
          if one and c is not None
          else None
          for k, c in enumerate(counts)
        ),
      )
      yield {
        "stage": stage,
        "run": run,
        "metric": metric,
        "mean": result.mean if words.finite(result.mean) else None,
        **_interval(result.interval),
        "p": result.p,
        "seeds": result.seeds,
        "unequal": list(_unequal(b, a)),
      }


def _unequal(b: Mapping[str, Any], a: Mapping[str, Any]) -> Iterator[str]:
  """What of the effort differs, so that the recipe alone is not compared."""
  for what, key in (
    ("model", lambda s: (s.get("model") or {}).get("kind")),
    ("parameters", lambda s: (s.get("model") or {}).get("parameters")),
    ("steps", lambda s: s.get("steps")),
    ("share of labels", lambda s: s.get("labels")),
    ("teachers", lambda s: ", ".join(map(str, s.get("teachers") or ()))),
  ):
    new, old = key(b), key(a)
    if new != old:
      new, old = (
        f"{v:,}" if isinstance(v, int) else v or "none" for v in (new, old)
      )
      yield f"{what} {new} against {old}"


def _configs(configs: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The keys of the configs whose values are not the same in all runs."""
  flat = {
    name: dict(_flat(config, "config")) if config else {}
    for name, config in configs.items()
  }
  if not all(flat.values()):
    return []
  keys = dict.fromkeys(key for values in flat.values() for key in values)
  return [
    {"key": key, "values": {name: v.get(key) for name, v in flat.items()}}
    for key in keys
    if key.split(".")[1] not in _IDLE
    and len({json.dumps(v.get(key, "–")) for v in flat.values()}) > 1
  ]


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
  if isinstance(value, dict):
    for name, inner in value.items():
      yield from _flat(inner, f"{key}.{name}")
  else:
    yield key, value
