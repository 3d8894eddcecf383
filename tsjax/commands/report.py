"""`tsjax report`: a run's page again, or several runs side by side."""

import argparse
from collections.abc import Sequence
import json

from tsjax.commands import running
from tsjax.core import errors

TEXT = "write a run's page again, or compare finished runs"
READS_CONFIG = False


def arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the command's arguments."""
  parser.add_argument(
    "runs", nargs="*", metavar="DIR", help="folders of runs to compare"
  )
  parser.add_argument(
    "--workdir", metavar="DIR", help="the run whose page is written again"
  )
  parser.add_argument(
    "--out",
    metavar="DIR",
    help="where the comparison is written (default: comparison)",
  )


def run(
  options: argparse.Namespace, overrides: Sequence[str], argv: Sequence[str]
) -> int:
  """Runs the command and returns its exit code."""
  del overrides, argv
  runs = [*([options.workdir] if options.workdir else []), *options.runs]
  if not runs:
    raise errors.UserError(
      "report: name a run's folder, --workdir=DIR, or several to compare"
    )
  if len(runs) == 1:
    if options.out:
      raise errors.UserError(
        f"--out={options.out}: one run's page is written in its own folder;"
        " name a second run to compare with"
      )
    print(_rewrite(runs[0]))
    return running.FINISHED
  from tsjax.report import compare

  print(compare.write(runs, options.out or "comparison"))
  return running.FINISHED


def _rewrite(workdir: str) -> object:
  from etils import epath

  from tsjax.report import page

  folder = epath.Path(workdir).expanduser() / "report"
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
  return page.write(results, folder)
