"""`tsjax sweep`: a grid of runs, chosen on validation, tested once."""

import argparse
from collections.abc import Sequence

from tsjax.commands import running

TEXT = "run a grid of values, choose on validation, test the chosen one"
READS_CONFIG = True


def arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  running.add_config(parser)
  running.add_workdir(parser)
  parser.add_argument(
    "--sweep",
    action="append",
    default=[],
    metavar="config.KEY=V1,V2",
    help="values of a key; several make a grid (default: the config file's"
    " own function sweep())",
  )
  parser.add_argument(
    "--stage", default="", help="whose validation chooses (default: the last)"
  )
  parser.add_argument(
    "--unequal",
    action="store_true",
    help="let points differ in steps, batch size, arms or models trained",
  )


def run(
  options: argparse.Namespace, overrides: Sequence[str], argv: Sequence[str]
) -> int:
  """Runs the command and returns its exit code."""
  running.check_workdir(options.workdir)
  from tsjax.loop import sweep

  running.prepare()
  return running.until_stopped(
    lambda stop: sweep.run(
      options.config,
      overrides,
      options.sweep,
      options.workdir,
      stage=options.stage,
      unequal=options.unequal,
      command=" ".join(["tsjax", *argv]),
      stop_requested=stop,
    )
  )
