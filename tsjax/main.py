"""The command line: `tsjax fit --config=FILE --workdir=DIR`."""

import argparse
from collections.abc import Sequence
import importlib
import sys
from typing import Any

from tsjax.commands import running
from tsjax.core import errors

# What a person types -> the module of `tsjax.commands`.
COMMANDS = {
  "fit": "fit",
  "evaluate": "evaluate",
  "cache": "cache",
  "sweep": "sweep",
  "report": "report",
  "explain": "explain",
  "list": "listing",
}
_CONFIG = (
  "--config.KEY=VALUE overrides a value of the config. A config is a Python"
  " file and is run: load only files that you trust."
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  try:
    options, overrides = _parse(argv)
    return options.command.run(options, overrides, argv)
  except errors.UserError as e:
    # One line, whatever a message quotes.
    print("tsjax: error:", *str(e).split(), file=sys.stderr)
    return running.FAILED


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
  parser = _Parser(
    prog="tsjax", description="A large model, the teacher, trains a small one."
  )
  commands = parser.add_subparsers(dest="name", metavar="COMMAND")
  for name, module_name in COMMANDS.items():
    module = importlib.import_module(f"tsjax.commands.{module_name}")
    command = commands.add_parser(
      name,
      help=module.TEXT,
      description=module.TEXT,
      epilog=_CONFIG if module.READS_CONFIG else None,
    )
    command.set_defaults(command=module)
    module.arguments(command)
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
    raise SystemExit(running.FINISHED)
  if overrides and not options.command.READS_CONFIG:
    raise errors.UserError(
      f"--config.{overrides[0]}: `tsjax {options.name}` reads no config"
    )
  return options, overrides


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one line, with exit code 1."""

  def error(self, message: str) -> Any:
    raise errors.UserError(f"{message}; see `{self.prog} --help`")
