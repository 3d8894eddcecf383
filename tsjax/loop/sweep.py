"""A grid of runs: equal budgets, chosen on validation, tested once."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import json
import os
import pathlib
import shlex
import sys
import time
from typing import Any

from etils import epath
import numpy as np

from tsjax.config import checked, loading, stages
from tsjax.core import errors, trees
from tsjax.loop import build, chosen, experiment, folder, lock, results
from tsjax.loop import programs as programs_lib
from tsjax.loop import sweep_grid as grid
from tsjax.report import page, writers
from tsjax.report import sweep as sweep_page

FORMAT = 1
# Keys that may change between two starts of one sweep.
_FREE = tuple(key for key in folder.FREE if key != "seeds")


def run(
  path: str,
  overrides: Sequence[str],
  sweeps: Sequence[str],
  workdir: epath.PathLike,
  *,
  stage: str = "",
  unequal: bool = False,
  command: str | None = None,
  stop_requested: Callable[[], bool] = lambda: False,
  say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict[str, Any]:
  """Trains every point, chooses one on validation, tests that one.

  Every point is a run in `workdir/points/NAME`. A stage that points share is
  trained once, by the first of them. Started again, a sweep goes on.

  Args:
    path: the config, `FILE` or `FILE:ARGUMENT`.
    overrides: "stages.teacher.learning_rate=0.1", for all points.
    sweeps: "config.KEY=V1,V2", one for each key; with none, the config file's
      own `sweep()` says.
    workdir: the sweep's folder.
    stage: whose validation metric chooses; the last by default.
    unequal: lets points differ in steps, batch size, arms or models trained.
    command: how the sweep was started.
    stop_requested: asked once a turn; True saves and raises `arm.Stopped`.
    say: told what happens, line by line.

  Returns:
    What `report/sweep.json` holds.

  Raises:
    UserError: whatever config, grid or folder have wrong; all points are
      checked before any is trained.
    arm.Stopped: a stop was requested and everything is saved.
  """
  command = command or shlex.join(["tsjax", *sys.argv[1:]])
  base = loading.load(path, overrides)
  points = grid.points(base, _assignments(path, sweeps))
  stage = stage or base.order[-1]
  programs = programs_lib.Programs()
  built = _check(points, stage, unequal, programs)
  workdir = folder.absolute(workdir)
  if (workdir / "run.json").exists():
    raise errors.UserError(
      f"{workdir}: is the folder of a run; name another --workdir"
    )
  homes = _homes(points, workdir)
  with lock.Lock(workdir, command, warn=say):
    _claim(workdir, base, points, stage)

    def made(point: grid.Point) -> experiment.Experiment:
      text = command
      if point.flags:
        flags = [f"--config={path}", *(f"--config.{o}" for o in overrides)]
        place = f"--workdir={workdir / 'points' / point.name}"
        text = shlex.join(["tsjax", "fit", *flags, *point.flags, place])
      return experiment.Experiment(
        point.config,
        workdir / "points" / point.name,
        command=text,
        stop_requested=stop_requested,
        programs=programs,
        homes=homes[point.name],
      )

    found = []
    for number, point in enumerate(points):
      say(f"point {number + 1} of {len(points)}, {point.name}")
      found.append(_train(made(point), point, stage, homes[point.name], say))
    sweep = {
      "format": FORMAT,
      "name": base.name,
      "command": command,
      "config": path,
      "stage": stage,
      "seeds": list(base.seeds),
      **built,
      "device": results.device(),
      "versions": results.versions(),
      "keys": list(points[0].values),
      "points": found,
    }
    best = _choose(found, built["lower_is_better"])
    sweep["chosen"] = best["name"]
    say(f"chosen on validation: {best['name']}; testing it")
    point = next(p for p in points if p.name == best["name"])
    sweep["test"] = _test(made(point), point, stage)
    say(f"report: {sweep_page.write(sweep, workdir / 'report')}")
  return sweep


def _assignments(path: str, sweeps: Sequence[str]) -> list[dict[str, Any]]:
  if sweeps:
    return grid.from_flags(sweeps)
  file = path.partition(":")[0]
  module = loading.module(pathlib.Path(file))
  if not hasattr(module, "sweep"):
    raise errors.UserError(
      f"{file} defines no function sweep(): write one, or give --sweep"
      " config.KEY=VALUE,VALUE"
    )
  try:
    return grid.from_function(module.sweep())
  except errors.UserError as e:
    raise errors.UserError(f"{file}: {e}") from e
  except Exception as e:  # Whatever the file's author wrote, in one line.
    told = " ".join(str(e).split())[:300]
    raise errors.UserError(
      f"{file}: sweep() raised {type(e).__name__}: {told}"
    ) from e


def _check(
  points: Sequence[grid.Point],
  stage: str,
  unequal: bool,
  programs: programs_lib.Programs,
) -> dict[str, Any]:
  """Builds every point, so that what is wrong shows before any training."""
  first: dict[str, Any] = {}
  trained: dict[str, str] = {}
  notes: list[str] = []
  for point in points:
    if stage not in point.config.stages:
      raise errors.UserError(
        f"--stage={stage!r}: {errors.nearest(stage, point.config.stages)}"
      )
    try:
      parts = build.build(checked.check(point.config), programs=programs)
    except errors.UserError as e:
      raise errors.UserError(f"point {point.name}: {e}") from e
    if "validation" not in parts.splits:
      raise errors.UserError(
        f"point {point.name}: a sweep chooses on a validation split and there"
        " is none: set config.data.validation"
      )
    judged = parts.stages[stage]
    facts = {
      "metric": judged.config.choose_by,
      "budget": grid.budget(
        parts.run, {n: s.timeline.steps for n, s in parts.stages.items()}
      ),
      "validation_size": parts.splits["validation"].size,
      "lower_is_better": judged.config.choose_by in parts.task.lower_is_better,
      "sizes": {},
    }
    first = first or facts
    first["sizes"][point.name] = sum(
      trees.size(judged.program.abstract.params["models"][model])
      for model in judged.models
    )
    if facts["metric"] != first["metric"]:
      raise errors.UserError(
        f"point {point.name} is chosen by {facts['metric']} and"
        f" {points[0].name} by {first['metric']}: points are compared by one"
        " metric"
      )
    told = _unequal(points[0], point, first["budget"], facts["budget"])
    if told and not unequal:
      raise errors.UserError(
        f"the sweep changes the budget: {told}; keep it equal, or allow it with"
        " --unequal"
      )
    notes += [told] if told else []
    recipe = grid.recipe(point.config, stage)
    if recipe in trained:
      raise errors.UserError(
        f"points {trained[recipe]} and {point.name} train the same stage"
        f" {stage!r}: what is swept does not reach it; name another --stage"
      )
    trained[recipe] = point.name
  return {**first, "unequal": notes}


def _unequal(
  a: grid.Point, b: grid.Point, was: Mapping[str, Any], now: Mapping[str, Any]
) -> str:
  for key in dict.fromkeys((*was, *now)):
    if was.get(key) != now.get(key):
      return (
        f"config.{key} is {was.get(key)} at {a.name} and {now.get(key)} at"
        f" {b.name}"
      )
  return ""


def _homes(
  points: Sequence[grid.Point], workdir: epath.Path
) -> dict[str, dict[str, epath.Path]]:
  """Point -> stage -> the folder of the point that trains it for both."""
  owners: dict[tuple[str, str], str] = {}
  homes: dict[str, dict[str, epath.Path]] = {}
  for point in points:
    homes[point.name] = {}
    for name in point.config.order:
      # Under the name too: it is the name of the folder.
      key = name, grid.recipe(point.config, name)
      owner = owners.setdefault(key, point.name)
      if owner != point.name:
        homes[point.name][name] = workdir / "points" / owner
  return homes


def _claim(
  workdir: epath.Path,
  base: Any,
  points: Sequence[grid.Point],
  stage: str,
) -> None:
  """Writes grid.json, unless the folder is another sweep's."""
  path = workdir / "grid.json"
  now = {
    "format": FORMAT,
    "stage": stage,
    "config": {
      k: v for k, v in loading.as_json(base).items() if k not in _FREE
    },
    "points": {point.name: point.values for point in points},
  }
  # As JSON reads it back: tuples are lists.
  now = json.loads(json.dumps(now))
  if not path.exists():
    writers.write_json(path, now)
    return
  before = writers.read_json(path, needs=("points", "config", "stage"))
  for name in (*before["points"], *now["points"]):
    was, new = (x["points"].get(name) for x in (before, now))
    if was != new:
      told = "was not in" if was is None else "is no more in"
      raise errors.UserError(
        f"{path}: point {name} {told} the sweep that this folder was begun for"
        f" ({len(before['points'])} points); restore it, or use another"
        " --workdir"
      )
  for key, was, new in folder.differences(before, now, ""):
    raise errors.UserError(
      f"{path}: {key.lstrip('.')} was {was!r} and is now {new!r}; restore it,"
      " or use another --workdir"
    )


def _train(
  made: experiment.Experiment,
  point: grid.Point,
  stage: str,
  homes: Mapping[str, epath.Path],
  say: Callable[[str], None],
) -> dict[str, Any]:
  """Trains a point; one that diverges is told and left out of the choice."""
  found = {
    "name": point.name,
    "values": point.values,
    "shared": {name: home.name for name, home in homes.items()},
    "validation": None,
    "failed": None,
  }
  begun = time.monotonic()
  try:
    made.train()
    records = [made.record(stage, seed) for seed in made.run.seeds]
  except errors.Diverged as e:
    say(f"point {point.name} failed and is left out: {e}")
    return found | {"failed": " ".join(str(e).split())}
  _link(made.workdir, homes)
  metric = made.parts.stages[stage].config.choose_by
  scores = [record["validation"][metric] for record in records]
  found["validation"] = results.summary(scores)
  say(
    f"point {point.name}: validation {metric} {np.mean(scores):.4f}"
    f" ({time.monotonic() - begun:.0f}s)"
  )
  return found


def _link(workdir: epath.Path, homes: Mapping[str, epath.Path]) -> None:
  """Makes the point's folder whole where the file system has links."""
  if "://" in str(workdir):
    return
  for name, home in homes.items():
    link = pathlib.Path(workdir) / name
    if not os.path.lexists(link):
      with contextlib.suppress(OSError):
        link.symlink_to(pathlib.Path("..") / home.name / name)


def _choose(
  found: Sequence[Mapping[str, Any]], lower: bool
) -> Mapping[str, Any]:
  """The best mean over seeds; of equals, the first of the grid."""
  ended = [point for point in found if point["validation"] is not None]
  if not ended:
    raise errors.UserError(
      f"no point of the sweep came to an end; the first: {found[0]['failed']}"
    )
  sign = -1.0 if lower else 1.0
  return max(
    ended, key=lambda point: chosen.rank(sign * point["validation"]["mean"])
  )


def _test(
  made: experiment.Experiment, point: grid.Point, stage: str
) -> dict[str, Any]:
  """The chosen point's test scores; the split is read once for all starts."""
  path = made.workdir / "report" / "results.json"
  if path.exists():
    found = writers.read_json(path, needs=("stages",))
    page.write(found, path.parent)
  else:
    found = made.fit()
  names = stages.judged(stage, made.run.stages[stage])
  return {name: found["stages"][name]["test"] for name in names}
