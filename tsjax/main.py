"""The command line: `tsjax fit --config=FILE --workdir=DIR`."""

import argparse
from collections.abc import Sequence
import json
import logging
import os
import pathlib
import signal
import sys
from typing import Any

from tsjax.core import errors

# 0: finished. 75: stopped on request with everything saved, start me again.
FINISHED, FAILED, AGAIN = 0, 1, 75


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  try:
    options, overrides = _parse(argv)
    return options.command(options, overrides, argv)
  except errors.UserError as e:
    # One line, whatever a message quotes.
    print("tsjax: error:", *str(e).split(), file=sys.stderr)
    return FAILED


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
  parser = _Parser(
    prog="tsjax", description="A large model, the teacher, trains a small one."
  )
  commands = parser.add_subparsers(dest="name", metavar="COMMAND")
  for name, function, text in (
    ("fit", _fit, "train all stages, evaluate, write the report"),
    ("evaluate", _evaluate, "evaluate a finished run's stage on a split"),
    ("report", _report, "write the report's page again from results.json"),
    ("explain", _explain, "print the run as it will be, without training"),
  ):
    command = commands.add_parser(
      name,
      help=text,
      description=text,
      epilog="--config.KEY=VALUE overrides a value of the config. A config is"
      " a Python file and is run: load only files that you trust.",
    )
    command.set_defaults(command=function)
    command.add_argument(
      "--config",
      required=name != "report",
      metavar="FILE[:ARG]",
      help="the config file, with its argument",
    )
    if name != "explain":
      command.add_argument(
        "--workdir", required=True, metavar="DIR", help="the run's folder"
      )
    if name == "explain":
      command.add_argument(
        "--time", action="store_true", help="time ten steps of every stage"
      )
    if name == "evaluate":
      command.add_argument("--stage", default=None, help="default: all stages")
      command.add_argument("--split", default="test", help="default: test")
  listing = commands.add_parser(
    "list", help="what there is to name in a config, with a line each"
  )
  listing.set_defaults(command=_list)
  listing.add_argument(
    "kind", help="models, objectives, sources, views, tasks, configs, ..."
  )
  plain, overrides = [], []
  for item in argv:
    if item.startswith("--config."):
      if "=" not in item:
        raise errors.UserError(f"{item}: write {item}=VALUE")
      overrides.append(item.removeprefix("--config."))
    else:
      plain.append(item)
  options = parser.parse_args(plain)
  if options.name is None:
    parser.print_help()
    raise SystemExit(FINISHED)
  if overrides and options.name in ("report", "list"):
    raise errors.UserError(
      f"--config.{overrides[0]}: `tsjax {options.name}` reads no config"
    )
  return options, overrides


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one line, with exit code 1."""

  def error(self, message: str) -> Any:
    raise errors.UserError(f"{message}; see `{self.prog} --help`")


def _experiment(
  options: argparse.Namespace, overrides: list[str], argv: list[str]
) -> Any:
  _check_workdir(options.workdir)
  # Here, not above: --help and a mistyped flag answer without JAX.
  from tsjax.config import loading
  from tsjax.loop import experiment

  logging.getLogger("absl").setLevel(logging.CRITICAL)
  _cache_compilations()
  config = loading.load(options.config, overrides)
  stop = _StopOnSignal()
  return experiment.Experiment(
    config,
    options.workdir,
    command=" ".join(["tsjax", *argv]),
    stop_requested=stop,
  )


def _check_workdir(name: str) -> None:
  """Refuses a folder that cannot be made or written, if it is a local one."""
  if not name:
    raise errors.UserError("--workdir= is empty: name a folder")
  if "://" in name:
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


def _cache_compilations() -> None:
  """A second start of the same program need not compile again."""
  import jax

  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    base = os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")
    jax.config.update(
      "jax_compilation_cache_dir", str(pathlib.Path(base) / "tsjax" / "xla")
    )


class _StopOnSignal:
  """True once SIGTERM came: the loop saves and ends with code 75."""

  def __init__(self):
    self._requested = False
    signal.signal(signal.SIGTERM, self._note)

  def _note(self, number: int, frame: Any) -> None:
    del number, frame
    self._requested = True

  def __call__(self) -> bool:
    return self._requested


def _fit(
  options: argparse.Namespace, overrides: list[str], argv: list[str]
) -> int:
  from tsjax.loop import arm

  experiment = _experiment(options, overrides, argv)
  try:
    experiment.fit()
  except arm.Stopped as e:
    print(f"tsjax: {e}; start again with the same command", file=sys.stderr)
    return AGAIN
  return FINISHED


def _evaluate(
  options: argparse.Namespace, overrides: list[str], argv: list[str]
) -> int:
  experiment = _experiment(options, overrides, argv)
  experiment.check_folder()
  run, parts = experiment.run, experiment.parts
  if options.stage is not None and options.stage not in run.stages:
    raise errors.UserError(
      f"--stage={options.stage!r}: {errors.nearest(options.stage, run.stages)}"
    )
  if options.split not in parts.splits:
    raise errors.UserError(
      f"--split={options.split!r}:"
      f" {errors.nearest(options.split, parts.splits)}"
    )
  answer = {}
  for stage in [options.stage] if options.stage else run.order:
    answer[stage] = {}
    for seed in run.seeds:
      variables = experiment.variables(stage, seed)
      scores, fields = experiment.scores(stage, variables, options.split)
      answer[stage][f"seed_{seed}"] = parts.task.metrics(scores, fields)
  print(json.dumps({options.split: answer}, indent=1))
  return FINISHED


def _explain(
  options: argparse.Namespace, overrides: list[str], argv: list[str]
) -> int:
  del argv
  from tsjax.config import checked, loading
  from tsjax.loop import build, explain

  logging.getLogger("absl").setLevel(logging.CRITICAL)
  _cache_compilations()
  parts = build.build(checked.check(loading.load(options.config, overrides)))
  for line in explain.lines(parts):
    print(line)
  if options.time:
    print("\ntime, from ten steps each:")
    for line in explain.times(parts):
      print(line)
  return FINISHED


def _list(
  options: argparse.Namespace, overrides: list[str], argv: list[str]
) -> int:
  del overrides, argv
  from tsjax.loop import listing

  for line in listing.lines(options.kind):
    print(line)
  return FINISHED


def _report(
  options: argparse.Namespace, overrides: list[str], argv: list[str]
) -> int:
  del overrides, argv
  from etils import epath

  from tsjax.report import page

  folder = epath.Path(options.workdir).expanduser() / "report"
  path = folder / "results.json"
  if not path.exists():
    raise errors.UserError(
      f"{path}: no such file; `tsjax fit` writes it at the end of a run"
    )
  try:
    results = json.loads(path.read_text())
  # A text that is not UTF-8 is a ValueError too.
  except ValueError as e:
    raise errors.UserError(
      f"{path}: not JSON ({e}); run `tsjax fit` again, which writes it"
    ) from e
  stages = results.get("stages") if isinstance(results, dict) else None
  if not isinstance(stages, dict):
    raise errors.UserError(f"{path}: holds no results of a run")
  print(page.write(results, folder))
  return FINISHED
