"""`tsjax explain`: the run as it will be."""

import argparse
from collections.abc import Sequence

from tsjax.commands import running

TEXT = "print the run as it will be, without training"
READS_CONFIG = True


def arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  running.add_config(parser)
  parser.add_argument(
    "--time", action="store_true", help="time ten steps of every stage"
  )


def run(
  options: argparse.Namespace, overrides: Sequence[str], argv: Sequence[str]
) -> int:
  """Runs the command and returns its exit code."""
  del argv
  from tsjax.config import checked, loading
  from tsjax.loop import build, explain

  running.prepare()
  parts = build.build(checked.check(loading.load(options.config, overrides)))
  for line in explain.lines(parts):
    print(line)
  if options.time:
    print("\ntime, from ten steps each:")
    for line in explain.times(parts):
      print(line)
  return running.FINISHED
