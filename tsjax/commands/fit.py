"""`tsjax fit`: trains, evaluates, writes the report."""

import argparse
from collections.abc import Sequence

from tsjax.commands import running

TEXT = "train all stages, evaluate, write the report"
READS_CONFIG = True


def arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  running.add_config(parser)
  running.add_workdir(parser)
  parser.add_argument(
    "--label-study",
    nargs="?",
    const="",
    metavar="0.01,0.1,1",
    help="instead: the score over these fractions of the labels, with a"
    " teacher and without",
  )


def run(
  options: argparse.Namespace, overrides: Sequence[str], argv: Sequence[str]
) -> int:
  """Runs the command and returns its exit code."""
  running.check_workdir(options.workdir)
  from tsjax.config import loading

  running.prepare()
  config = loading.load(options.config, overrides)
  if options.label_study is not None:
    from tsjax.loop import label_study

    config = label_study.expand(
      config, **label_study.parse(options.label_study)
    )
  return running.until_stopped(
    lambda stop: running.experiment(
      options, config, argv, stop_requested=stop
    ).fit()
  )
