"""`tsjax evaluate`: a finished run's models on a split."""

import argparse
from collections.abc import Sequence
import json

from tsjax.commands import running
from tsjax.core import errors

TEXT = "evaluate a finished run's stage on a split"
READS_CONFIG = True


def arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  running.add_config(parser)
  running.add_workdir(parser)
  parser.add_argument("--stage", default=None, help="default: all stages")
  parser.add_argument("--split", default="test", help="default: test")


def run(
  options: argparse.Namespace, overrides: Sequence[str], argv: Sequence[str]
) -> int:
  """Runs the command and returns its exit code."""
  running.check_workdir(options.workdir)
  from tsjax.config import loading

  running.prepare()
  config = loading.load(options.config, overrides)
  experiment = running.experiment(options, config, argv)
  experiment.check_folder()
  parts = experiment.parts
  if options.stage is not None and options.stage not in parts.judged:
    raise errors.UserError(
      f"--stage={options.stage!r}:"
      f" {errors.nearest(options.stage, parts.judged)}"
    )
  if options.split not in parts.splits:
    raise errors.UserError(
      f"--split={options.split!r}:"
      f" {errors.nearest(options.split, parts.splits)}"
    )
  answer: dict[str, dict[str, dict[str, float]]] = {}
  for name in [options.stage] if options.stage else parts.judged:
    answer[name] = {}
    for seed in experiment.run.seeds:
      variables = experiment.variables(name, seed)
      scores, fields = experiment.scores(name, variables, options.split)
      answer[name][f"seed_{seed}"] = parts.task.metrics(scores, fields)
  print(json.dumps({options.split: answer}, indent=1))
  return running.FINISHED
