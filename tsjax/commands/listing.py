"""`tsjax list`: what a config can name."""

import argparse
from collections.abc import Sequence

from tsjax.commands import running

TEXT = "what there is to name in a config, with a line each"
READS_CONFIG = False


def arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument(
    "kind", help="models, objectives, sources, views, tasks, configs, ..."
  )


def run(
  options: argparse.Namespace, overrides: Sequence[str], argv: Sequence[str]
) -> int:
  """Runs the command and returns its exit code."""
  del overrides, argv
  from tsjax.loop import listing

  for line in listing.lines(options.kind):
    print(line)
  return running.FINISHED
