"""Finished runs read from their folders, and whether they can be compared."""

from collections.abc import Iterator, Mapping, Sequence
import json
import os
from typing import Any

from etils import epath

from tsjax.core import errors
from tsjax.report import compare_intervals as intervals

FORMAT = 1


def read(folder: epath.Path) -> tuple[dict[str, Any], Any]:
  """A run's results, and its config as run.json has it (None without one).

  Raises:
    UserError: there is no finished run in the folder, or it is damaged.
  """
  if not folder.exists():
    raise errors.UserError(
      f"{folder}: no such folder; name the folder of a run"
    )
  if not folder.is_dir():
    raise errors.UserError(f"{folder}: is a file; name the folder of a run")
  path = folder / "report" / "results.json"
  if not path.exists():
    if (folder / "report" / "sweep.json").exists():
      why = "is a sweep's folder; its runs are in its folder points"
    elif (folder.parent.parent / "grid.json").exists():
      why = "is a point of a sweep that was not chosen, so it was not tested"
    elif (folder / "run.json").exists():
      why = "has not finished; `tsjax fit` with the same config goes on with it"
    elif (folder / "results.json").exists():
      why = "is the report of a run; name the run's folder, which holds it"
    else:
      why = "holds no run; name the --workdir of a `tsjax fit`"
    raise errors.UserError(f"{folder}: {why}")
  results = _json(path)
  for fault in _faults(results):
    raise errors.UserError(
      f"{path}: {fault}; `tsjax fit` with the run's config writes it again"
    )
  beside = folder / "run.json"
  config = _json(beside).get("config") if beside.exists() else None
  return results, config if isinstance(config, dict) else None


def names(paths: Sequence[epath.Path]) -> list[str]:
  """The shortest ends of the paths that tell them apart."""
  parts = [str(p.resolve()).rstrip("/").split("/") for p in paths]
  for length in range(1, max(map(len, parts)) + 1):
    names = ["/".join(p[-length:]) for p in parts]
    if len(set(names)) == len(names):
      break
  return names


def same_place(a: epath.Path, b: epath.Path) -> bool:
  """Whether two paths are one folder, links followed."""
  return os.path.realpath(a) == os.path.realpath(b)


def check_alike(runs: Mapping[str, tuple[epath.Path, Any, Any]]) -> None:
  """Refuses runs whose scores are not of one and the same thing."""
  (first, (_, a, a_config)), *rest = runs.items()
  rest = [found for _, found in rest]
  remedy = "only runs of the same data can be compared"
  for path, b, b_config in rest:
    for key, was, now in (
      (
        "other classes",
        list(a.get("classes") or ()),
        list(b.get("classes") or ()),
      ),
      ("another task", *(_at(c, "task", "call") for c in (a_config, b_config))),
    ):
      if was != now and None not in (was, now):
        raise errors.UserError(
          f"{path}: has {key} than {first}, {_told(now)} against"
          f" {_told(was)}; {remedy}"
        )
    was, now = (_support(r) for r in (a, b))
    if was != now and None not in (was, now):
      raise errors.UserError(
        f"{path}: its test split differs from {first}'s, {sum(now)} examples"
        f" against {sum(was)}, or other ones of each class; {remedy}"
      )
    was, now = (_at(c, "data", "source") for c in (a_config, b_config))
    if _support(a) is None and was != now and None not in (was, now):
      raise errors.UserError(
        f"{path}: its config.data.source differs from {first}'s; {remedy}"
      )


def _json(path: epath.Path) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text())
  # A text that is not UTF-8 is a ValueError too.
  except ValueError as e:
    raise errors.UserError(
      f"{path}: is damaged ({e}); `tsjax fit` with the run's config writes it"
      " again"
    ) from e
  if not isinstance(value, dict):
    raise errors.UserError(f"{path}: is damaged: it holds no object")
  return value


def _faults(results: Mapping[str, Any]) -> Iterator[str]:
  if results.get("format") != FORMAT:
    yield (
      f"has format={results.get('format')!r}, and this version reads {FORMAT}"
    )
  seeds, stages = results.get("seeds"), results.get("stages")
  if not isinstance(seeds, list) or not all(isinstance(s, int) for s in seeds):
    yield "is damaged: `seeds` is no list of numbers"
  if not isinstance(stages, dict) or not stages:
    yield "is damaged: it has no `stages`"
    return
  for name, stage in stages.items():
    test = stage.get("test") if isinstance(stage, dict) else None
    if not isinstance(test, dict) or not test:
      yield f"is damaged: stages.{name} has no `test`"
      continue
    for metric, found in test.items():
      values = found.get("values") if isinstance(found, dict) else None
      if not isinstance(values, list) or len(values) != len(seeds):
        yield (
          f"is damaged: stages.{name}.test.{metric} has not one value for each"
          f" of {len(seeds)} seeds"
        )


def _at(config: Any, *keys: str) -> Any:
  for key in keys:
    config = config.get(key) if isinstance(config, dict) else None
  return config


def _told(value: Any) -> str:
  if isinstance(value, list):
    return f"{len(value)} ({', '.join(map(str, value[:3]))}, ...)"
  return str(value)


def _support(results: Mapping[str, Any]) -> list[int] | None:
  """Test examples of each class."""
  for stage in results["stages"].values():
    counts = intervals.counts_of(stage.get("confusion"))
    if counts is not None:
      return (counts.sum(axis=1) // max(len(results["seeds"]), 1)).tolist()
  return None
