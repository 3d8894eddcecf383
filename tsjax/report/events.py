"""Where metrics go: `metrics.jsonl` always, TensorBoard and wandb if asked.

`metrics.jsonl` is what counts. The others are made from its lines: when a run
goes on, what an interrupted one wrote beyond its checkpoint is gone from them
too.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import socket
import struct
import time
from typing import Any
import uuid

from etils import epath

from tsjax.core import errors
from tsjax.report import writers

# TensorBoard finds its files by this part of their names.
EVENTS = "events.out.tfevents"


class Log:
  """An arm's metrics.

  Args:
    folder: the arm's; `metrics.jsonl` and the event files stand in it.
    also: of "events" and "wandb".
    run: the run's name, under which wandb files it.
    title: the arm's, as wandb shows it.
    resume_from: steps of the checkpoint that the run goes on from; None starts
      anew.
    warn: takes a line about damage in what there is.

  Raises:
    UserError: what is asked for is not installed, or cannot be written.
  """

  def __init__(
    self,
    folder: epath.Path,
    *,
    also: Sequence[str] = (),
    run: str = "",
    title: str = "",
    resume_from: int | None = None,
    warn: Callable[[str], None] = writers.tell,
  ):
    self._lines = writers.JsonLines(
      folder / "metrics.jsonl", resume_from=resume_from, warn=warn
    )
    self._also: list[Any] = []
    resumed = resume_from is not None
    for name in also:
      if name == "events":
        self._also.append(_Events(folder, self._lines.kept))
      else:
        self._also.append(
          _Wandb(folder, run, title, self._lines.kept, resumed=resumed)
        )

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """Writes the values of a log ("train") or of an evaluation."""
    self._lines.write(kind, step, values)
    for other in self._also:
      other.write(kind, step, values)

  def flush(self) -> None:
    """Sees to it that everything is in the files; before every checkpoint."""
    self._lines.flush()
    for other in self._also:
      other.flush()

  def close(self) -> None:
    """Ends what has to be ended."""
    for other in self._also:
      other.close()


class _Events:
  """TensorBoard's event file, in the arm's folder.

  A resumed run writes a new one from the lines that it keeps, at the times at
  which they were first written, and removes the old: no point is there twice.
  Records are appended at once, or, on an object store, written by `flush`.
  """

  def __init__(self, folder: epath.Path, kept: Sequence[Mapping[str, Any]]):
    # Late: importing it takes a while.
    from tensorboardX.proto import event_pb2

    self._event = event_pb2.Event
    self._remote = writers.is_remote(folder)
    old = [p for p in folder.iterdir() if EVENTS in p.name]
    times = {}
    for path in old:
      times.update(self._times(path.read_bytes()))
    # TensorBoard reads a folder's files in the order of their names.
    name = (
      f"{EVENTS}.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
    )
    self._path = folder / name
    self._records = [
      self._record(file_version="brain.Event:2"),
      # One that is looking on forgets what it read before.
      self._record(step=0, session_log={"status": "START"}),
    ]
    for line in kept:
      values = {
        k: v for k, v in line.items() if k not in ("format", "kind", "step")
      }
      when = times.get((line["kind"], line["step"]))
      self._records.append(
        self._point(line["kind"], line["step"], values, when)
      )
    with writers.writing(self._path):
      self._path.write_bytes(b"".join(self._records))
      for path in old:
        path.unlink()

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One point of each curve: "train/loss", "validation/f1"."""
    record = self._point(kind, step, values)
    if self._remote:
      self._records.append(record)
      return
    with writers.writing(self._path), self._path.open("ab") as f:
      f.write(record)

  def flush(self) -> None:
    """Sees to it that all points are in the file."""
    if self._remote:
      with writers.writing(self._path):
        self._path.write_bytes(b"".join(self._records))

  def close(self) -> None:
    """Nothing is open, but what is kept here is written."""
    self.flush()

  def _point(
    self,
    kind: str,
    step: int,
    values: Mapping[str, float],
    when: float | None = None,
  ) -> bytes:
    scalars = [
      {"tag": f"{kind}/{name}", "simple_value": value}
      for name, value in values.items()
    ]
    return self._record(when, step=step, summary={"value": scalars})

  def _record(self, when: float | None = None, **content: Any) -> bytes:
    """An event as a record: length, its checksum, content, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    now = time.time() if when is None else when
    data = self._event(wall_time=now, **content).SerializeToString()
    length = struct.pack("<Q", len(data))
    ends = [struct.pack("<I", masked_crc32c(x)) for x in (length, data)]
    return b"".join((length, ends[0], data, ends[1]))

  def _times(self, content: bytes) -> dict[tuple[str, int], float]:
    """When the points of a file were written, by kind and step."""
    from tensorboardX.record_writer import masked_crc32c

    times, at = {}, 0
    while at + 12 <= len(content):
      (length,) = struct.unpack("<Q", content[at : at + 8])
      data = content[at + 12 : at + 12 + length]
      end = content[at + 12 + length : at + 16 + length]
      # What a kill cut short, or damage: the times of the rest are new.
      if end != struct.pack("<I", masked_crc32c(data)):
        break
      event = self._event.FromString(data)
      for value in event.summary.value:
        kind = value.tag.partition("/")[0]
        times[kind, event.step] = event.wall_time
      at += 16 + length
    return times


class _Wandb:
  """A run of Weights & Biases for each arm, offline if WANDB_MODE says so.

  The run's id stands in the arm's folder, so that a resumed arm goes on in it.
  It drops steps that it has already: what was written after the checkpoint is
  the same there, as every step is.
  """

  def __init__(
    self,
    folder: epath.Path,
    run: str,
    title: str,
    kept: Sequence[Mapping[str, Any]],
    *,
    resumed: bool,
  ):
    try:
      import wandb
    except ImportError as e:
      raise errors.UserError(
        "config.writers: 'wandb' is not installed; pip install wandb, or"
        " leave it out"
      ) from e
    path = folder / "wandb_run.json"
    if not resumed or not path.exists():
      # Another start in this folder is another run.
      writers.write_json(path, {"format": 1, "id": uuid.uuid4().hex[:16]})
    named = writers.read_json(path, needs=("id",))
    try:
      self._run = wandb.init(
        project=run.replace("/", "-") or "tsjax",
        name=title or str(folder),
        id=named["id"],
        resume="allow",
        dir=None if writers.is_remote(folder) else os.fspath(folder),
        # Arms are runs of one process.
        reinit="create_new",
      )
    except Exception as e:  # wandb raises many kinds, of network and of login.
      told = " ".join(str(e).split())[:200]
      raise errors.UserError(
        f"config.writers: wandb cannot begin ({type(e).__name__}: {told});"
        " log in with `wandb login`, or set WANDB_MODE=offline"
      ) from e
    if resumed and self._run.step == 0:
      # It knows nothing of the start before: it was offline, or is new.
      for line in kept:
        values = {
          k: v for k, v in line.items() if k not in ("format", "kind", "step")
        }
        self.write(line["kind"], line["step"], values)

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One point of each curve: "train/loss", "validation/f1"."""
    named = {f"{kind}/{name}": value for name, value in values.items()}
    if step >= self._run.step:
      self._run.log(named, step=step)

  def flush(self) -> None:
    """It sees to that by itself."""

  def close(self) -> None:
    """Ends the run there."""
    self._run.finish()
