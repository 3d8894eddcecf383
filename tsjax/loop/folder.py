"""A run's folder: whose it is, and what was begun there."""

from collections.abc import Iterator
import pathlib
from typing import Any

from etils import epath

from tsjax.core import errors
from tsjax.loop import results
from tsjax.report import writers

FORMAT = 1
# Keys that may change between two starts of one run.
FREE = (
  "seeds",
  "keep_checkpoints",
  "line_points",
  "reference",
  "mesh",
  "writers",
)


def absolute(path: epath.PathLike) -> epath.Path:
  """The folder as Orbax takes it; a remote one keeps its scheme."""
  path = epath.Path(path)
  if "://" in str(path):
    return path
  return epath.Path(pathlib.Path(path).expanduser().resolve())


def check(workdir: epath.Path, config: Any) -> None:
  """Refuses a folder that another config began.

  Args:
    workdir: the run's folder.
    config: as `config.loading.as_json` writes it.

  Raises:
    UserError: names the first key that differs, with both values.
  """
  path = workdir / "run.json"
  if not path.exists():
    return
  before = writers.read_json(path, needs=("config",), checked=True)["config"]
  for key, was, now in differences(before, config, "config"):
    if key.split(".")[1] not in _free(config):
      raise errors.UserError(
        f"{path}: {key} was {was!r} and is now {now!r}; restore it, or"
        " use another --workdir"
      )


def claim(workdir: epath.Path, config: Any, command: str) -> None:
  """Writes run.json, unless the folder is another config's.

  Raises:
    UserError: see `check`.
  """
  check(workdir, config)
  writers.write_json(
    workdir / "run.json",
    {
      "format": FORMAT,
      "config": config,
      "command": command,
      "versions": results.versions(),
      "device": results.device(),
    },
    checked=True,
  )


def _free(config: Any) -> tuple[str, ...]:
  """What may change; an ensemble over all seeds changes with them."""
  over_seeds = any(
    ensemble.get("over_seeds")
    for stage in config.get("stages", {}).values()
    for ensemble in stage.get("ensembles", {}).values()
  )
  return tuple(k for k in FREE if not (over_seeds and k == "seeds"))


def differences(
  before: Any, now: Any, key: str
) -> Iterator[tuple[str, Any, Any]]:
  """Yields (key, value before, value now) where two trees of JSON differ."""
  if isinstance(before, dict) and isinstance(now, dict):
    for name in sorted(before.keys() | now.keys()):
      yield from differences(before.get(name), now.get(name), f"{key}.{name}")
  elif before != now:
    yield key, before, now
