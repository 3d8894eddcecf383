"""What commands that load a config or open a run's folder have in common."""

import argparse
from collections.abc import Callable, Sequence
import importlib.util
import logging
import os
import pathlib
import signal
import sys
from typing import Any

from tsjax.core import errors

# 0: finished. 75: stopped on request with everything saved, start me again.
FINISHED, FAILED, AGAIN = 0, 1, 75


def add_config(parser: argparse.ArgumentParser) -> None:
  """Adds --config."""
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE[:ARG]",
    help="the config file, with its argument",
  )


def add_workdir(parser: argparse.ArgumentParser) -> None:
  """Adds --workdir."""
  parser.add_argument(
    "--workdir", required=True, metavar="DIR", help="the run's folder"
  )


def prepare() -> None:
  """Quiets the libraries, and lets a second start compile nothing again."""
  import jax

  logging.getLogger("absl").setLevel(logging.CRITICAL)
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    base = os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")
    jax.config.update(
      "jax_compilation_cache_dir", str(pathlib.Path(base) / "tsjax" / "xla")
    )


def experiment(
  options: argparse.Namespace,
  config: Any,
  argv: Sequence[str],
  **more: Any,
) -> Any:
  """The experiment of a config in `options.workdir`.

  Args:
    options: of the command line, with `workdir`.
    config: as loaded.
    argv: the command line.
    **more: see `tsjax.loop.Experiment`.

  Raises:
    UserError: whatever config or folder have wrong.
  """
  from tsjax.loop import experiment as experiment_lib

  check_workdir(options.workdir)
  return experiment_lib.Experiment(
    config,
    options.workdir,
    command=" ".join(["tsjax", *argv]),
    **more,
  )


def check_workdir(name: str) -> None:
  """Refuses a folder that cannot be made or written, if it is a local one.

  Raises:
    UserError: the name is empty, a file stands there, or it is not writable.
  """
  if not name:
    raise errors.UserError("--workdir= is empty: name a folder")
  if "://" in name:
    _check_store(name)
    return
  path = pathlib.Path(name).expanduser().absolute()
  there = next(p for p in (path, *path.parents) if os.path.lexists(p))
  if not there.is_dir():
    why = f"{there} is a file"
  elif not os.access(there, os.W_OK | os.X_OK):
    why = f"you may not write in {there}"
  else:
    return
  raise errors.UserError(f"--workdir={name}: {why}; name another folder")


def _check_store(name: str) -> None:
  """Refuses an object store for which the library is missing."""
  known = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}
  scheme = name.partition("://")[0]
  if scheme not in known:
    raise errors.UserError(
      f"--workdir={name}: {scheme}:// is not known; use a folder, gs://, s3://"
      " or az://"
    )
  if importlib.util.find_spec(known[scheme]) is None:
    raise errors.UserError(
      f"--workdir={name}: {scheme}:// needs {known[scheme]}; pip install"
      f" {known[scheme]}"
    )


def until_stopped(work: Callable[["StopOnSignal"], Any]) -> int:
  """Does work that SIGTERM may stop, and returns the exit code."""
  from tsjax.loop import arm

  try:
    work(StopOnSignal())
  except arm.Stopped as e:
    print(f"tsjax: {e}; start again with the same command", file=sys.stderr)
    return AGAIN
  return FINISHED


class StopOnSignal:
  """True once SIGTERM came: the loop saves and ends with code 75."""

  def __init__(self):
    self._requested = False
    signal.signal(signal.SIGTERM, self._note)

  def _note(self, number: int, frame: Any) -> None:
    del number, frame
    self._requested = True

  def __call__(self) -> bool:
    return self._requested
