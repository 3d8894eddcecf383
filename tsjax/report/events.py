"""Where metrics go: `metrics.jsonl` always, TensorBoard and wandb if asked.

`metrics.jsonl` is what counts. The others are made from its lines: when a run
goes on, what an interrupted one wrote beyond its checkpoint is gone from them
too.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any
import zlib

from etils import epath

from tsjax.core import errors
from tsjax.report import writers


class Log:
  """An arm's metrics.

  Args:
    folder: the arm's; `metrics.jsonl` and the event files stand in it.
    also: of "events" and "wandb".
    run: the run's name, under which wandb files it.
    resume_from: steps of the checkpoint that the run goes on from; None starts
      anew.

  Raises:
    UserError: what is asked for is not installed.
  """

  def __init__(
    self,
    folder: epath.Path,
    *,
    also: Sequence[str] = (),
    run: str = "",
    resume_from: int | None = None,
  ):
    path = folder / "metrics.jsonl"
    self._lines = writers.JsonLines(path, resume_from=resume_from)
    kept = writers.read(path)
    made: dict[str, Any] = {"events": _Events, "wandb": _Wandb}
    self._also = [made[name](folder, run, kept) for name in also]

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """Writes the values of a log ("train") or of an evaluation."""
    self._lines.write(kind, step, values)
    for other in self._also:
      other.write(kind, step, values)

  def close(self) -> None:
    """Ends what has to be ended."""
    for other in self._also:
      other.close()


class _Events:
  """TensorBoard's event files, in the arm's folder; a local one only."""

  def __init__(self, folder: epath.Path, run: str, kept: Sequence[Any]):
    del run
    self._writer = None
    if "://" in str(folder):
      return  # An object store cannot append; metrics.jsonl is there.
    # Late: importing it takes a while.
    import tensorboardX

    for old in pathlib.Path(folder).glob("events.out.tfevents.*"):
      old.unlink()
    self._writer = tensorboardX.SummaryWriter(
      os.fspath(folder), write_to_disk=True
    )
    _replay(self, kept)

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One point of each curve: "train/loss", "validation/f1"."""
    if self._writer is None:
      return
    for name, value in values.items():
      self._writer.add_scalar(f"{kind}/{name}", value, step)

  def close(self) -> None:
    """Writes out what is buffered."""
    if self._writer is not None:
      self._writer.close()


class _Wandb:
  """A run of Weights & Biases for each arm, offline if WANDB_MODE says so."""

  def __init__(self, folder: epath.Path, run: str, kept: Sequence[Any]):
    try:
      import wandb
    except ImportError as e:
      raise errors.UserError(
        "config.writers: 'wandb' is not installed; pip install wandb, or"
        " leave it out"
      ) from e
    name = str(folder)
    try:
      self._run = wandb.init(
        project=run.replace("/", "-") or "tsjax",
        name=name,
        # The same arm in the same folder is the same run, resumed.
        id=f"{zlib.crc32(name.encode()):08x}",
        resume="allow",
        dir=None if "://" in name else name,
      )
    except Exception as e:  # wandb raises many kinds, of network and of login.
      told = " ".join(str(e).split())[:200]
      raise errors.UserError(
        f"config.writers: wandb cannot begin ({type(e).__name__}: {told});"
        " log in with `wandb login`, or set WANDB_MODE=offline"
      ) from e
    # What it has of an earlier start is there still: it drops older steps.
    if self._run.step == 0:
      _replay(self, kept)

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One point of each curve: "train/loss", "validation/f1"."""
    named = {f"{kind}/{name}": value for name, value in values.items()}
    self._run.log({**named, "step": step})

  def close(self) -> None:
    """Ends the run there."""
    self._run.finish()


def _replay(writer: Any, kept: Sequence[Mapping[str, Any]]) -> None:
  """Writes the lines of an earlier start."""
  for line in kept:
    values = {
      k: v for k, v in line.items() if k not in ("format", "kind", "step")
    }
    writer.write(line["kind"], line["step"], values)
