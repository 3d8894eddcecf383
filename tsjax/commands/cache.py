"""`tsjax cache`: a teacher's outputs in files."""

import argparse
from collections.abc import Sequence

from tsjax.commands import running
from tsjax.core import errors

TEXT = "write a teacher's outputs to a folder that later runs can learn from"
READS_CONFIG = True


def arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  running.add_config(parser)
  parser.add_argument(
    "--workdir", metavar="DIR", help="the run that trained the teacher"
  )
  parser.add_argument(
    "--stage", metavar="NAME", help="the stage whose model speaks"
  )
  parser.add_argument(
    "--from",
    dest="file",
    metavar="FILE",
    help="instead of a stage: outputs that another framework dumped, npz or"
    " Parquet",
  )
  parser.add_argument(
    "--keys",
    metavar="FILE",
    help="instead: write key and index of every example, npz or Parquet, for"
    " another framework to label its dump with",
  )
  parser.add_argument("--out", metavar="DIR", help="the cache's folder")
  parser.add_argument(
    "--dtype",
    default="float32",
    help="in which outputs are stored: float32 or float16 (default: float32)",
  )
  parser.add_argument(
    "--top-k",
    type=int,
    default=0,
    metavar="K",
    help="keep the K likeliest classes (default: all logits)",
  )
  parser.add_argument(
    "--temperature",
    type=float,
    metavar="T",
    help="T of the top-k log-probabilities: that of the term that reads them",
  )
  parser.add_argument(
    "--view",
    default="",
    help="what the teacher sees (default: its own view; with --from, the"
    " only one)",
  )
  parser.add_argument(
    "--epochs",
    type=int,
    default=0,
    metavar="E",
    help="the view's random draws of so many epochs (default: none drawn)",
  )
  parser.add_argument(
    "--seed",
    type=int,
    metavar="S",
    help="of the draws (default: the run's first seed)",
  )
  parser.add_argument(
    "--teacher-seed",
    type=int,
    metavar="S",
    help="with which the teacher was trained (default: --seed where the run"
    " has it, else the run's first)",
  )
  parser.add_argument(
    "--split",
    default="train",
    help="the split of the run that is written (default: train)",
  )


def run(
  options: argparse.Namespace, overrides: Sequence[str], argv: Sequence[str]
) -> int:
  """Runs the command and returns its exit code."""
  wanted = [
    flag
    for flag, value in (
      ("--stage", options.stage),
      ("--from", options.file),
      ("--keys", options.keys),
    )
    if value is not None
  ]
  if len(wanted) != 1:
    raise errors.UserError(
      "cache: name what to write, one of --stage=NAME, --from=FILE and"
      f" --keys=FILE{'; not ' + ' and '.join(wanted) if wanted else ''}"
    )
  needs = {"--stage": ("workdir", "out"), "--from": ("out",), "--keys": ()}
  for name in needs[wanted[0]]:
    if not getattr(options, name):
      raise errors.UserError(
        f"cache {wanted[0]}: --{name}=DIR is missing; name a folder"
      )
  from tsjax.config import checked, loading
  from tsjax.loop import build, cache_files, caching

  running.prepare()
  config = loading.load(options.config, overrides)
  if options.stage is not None:
    experiment = running.experiment(options, config, argv)
    caching.write(
      experiment,
      options.stage,
      options.out,
      seed=options.seed,
      teacher_seed=options.teacher_seed,
      dtype=options.dtype,
      top_k=options.top_k,
      temperature=options.temperature,
      view=options.view,
      epochs=options.epochs,
      split=options.split,
    )
    return running.FINISHED
  parts = build.build(checked.check(config))
  if options.keys is not None:
    cache_files.write_keys(parts, options.keys, split=options.split)
  else:
    cache_files.import_file(
      parts,
      options.file,
      options.out,
      dtype=options.dtype,
      temperature=options.temperature,
      view=options.view,
      split=options.split,
    )
  return running.FINISHED
