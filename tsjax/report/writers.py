"""Files of a run that people and tools read: metric lines, and JSON.

A byte that flips in a number leaves a number: every metric line, and every JSON
file that is written `checked`, carries a checksum of itself.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import json
import sys
import time
from typing import Any
import zlib

from etils import epath

from tsjax.core import errors

FORMAT = 1
# An object store takes whole files only: this many seconds between two.
REWRITE = 30.0


def tell(line: str) -> None:
  """Prints a line beside the program's output."""
  print(line, file=sys.stderr)


class Damaged(errors.UserError):
  """A file that is not what was written."""


class JsonLines:
  """`metrics.jsonl`: one line for every log and every evaluation.

  What an interrupted run wrote beyond its checkpoint goes. Lines are appended
  at once; on an object store, which cannot append, they are kept here, and the
  whole file is written by `flush`, and now and then.

  Args:
    path: the file.
    resume_from: steps of the checkpoint that the run goes on from; None starts
      the file anew.
    warn: takes a line about damage in what there is.

  Raises:
    UserError: it cannot be written (a full disk, say).
  """

  def __init__(
    self,
    path: epath.Path,
    *,
    resume_from: int | None = None,
    warn: Callable[[str], None] = tell,
  ):
    self._path, self._remote = path, is_remote(path)
    self.kept: list[dict[str, Any]] = []
    if resume_from is not None:
      before = read(path, warn=warn) if path.exists() else []
      self.kept = [x for x in before if x["step"] <= resume_from]
      # A checkpoint is saved after its line.
      if resume_from > 0 and not any(
        x["step"] == resume_from and x["kind"] == "train" for x in self.kept
      ):
        warn(
          f"{path}: lines up to step {resume_from} are missing, and will be"
          " from the curves"
        )
    self._texts = [_line(x) for x in self.kept]
    self._written = time.monotonic()
    with writing(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      # A kill in the middle must not cost the lines that were kept.
      _replace(path, "".join(self._texts))

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One line: `{"format": 1, "kind": "train", "step": 50, "loss": 0.1}`."""
    text = _line({"format": FORMAT, "kind": kind, "step": step, **values})
    if not self._remote:
      with writing(self._path), self._path.open("a") as f:
        f.write(text)
      return
    self._texts.append(text)
    if time.monotonic() - self._written > REWRITE:
      self.flush()

  def flush(self) -> None:
    """Sees to it that all lines are in the file."""
    if self._remote:
      self._written = time.monotonic()
      with writing(self._path):
        _replace(self._path, "".join(self._texts))


def read(
  path: epath.Path, *, warn: Callable[[str], None] = tell
) -> list[dict[str, Any]]:
  """All lines that are whole.

  Args:
    path: of a `metrics.jsonl`.
    warn: takes a line about damaged lines; a last one cut short by a kill is
      none.
  """
  lines, damaged = [], []
  *whole, cut = path.read_bytes().split(b"\n")
  for number, content in enumerate(whole, 1):
    try:
      line = json.loads(content)
      if line.pop("crc") != _checksum(line):
        raise ValueError
      lines.append(line)
    except (ValueError, KeyError, AttributeError, TypeError):
      damaged.append(number)
  if damaged:
    shown = ", ".join(map(str, damaged[:5])) + (", ..." if damaged[5:] else "")
    warn(
      f"{path}: {'line' if len(damaged) == 1 else 'lines'} {shown} damaged:"
      " left out, and missing from the curves"
    )
  return lines


def read_json(
  path: epath.Path, *, needs: tuple[str, ...] = (), checked: bool = False
) -> dict[str, Any]:
  """Reads a file that `write_json` wrote.

  Args:
    path: the file.
    needs: keys that it must have.
    checked: whether it was written so.

  Raises:
    Damaged: it is not JSON, lacks a key that it needs, or is not what was
      written.
  """
  try:
    value = json.loads(path.read_text())
  # A text that is not UTF-8 is a ValueError too.
  except ValueError as e:
    raise Damaged(
      f"{path}: not JSON ({e}); remove it and start the run again"
    ) from e
  if not isinstance(value, dict) or any(key not in value for key in needs):
    raise Damaged(
      f"{path}: lacks {', '.join(needs)}; remove it and start the run again"
    )
  if checked and value.pop("checksum", None) != _checksum(value):
    raise Damaged(
      f"{path}: damaged, or changed by hand; remove it and start the run again"
    )
  return value


def write_json(path: epath.Path, value: Any, *, checked: bool = False) -> None:
  """Writes JSON so that the file is either the old one or the whole new one.

  Args:
    path: the file.
    value: what JSON can hold; a dict, if `checked`.
    checked: adds a checksum, which `read_json` asks for.

  Raises:
    UserError: it cannot be written (a full disk, say).
  """
  if checked:
    # As JSON reads it back: tuples are lists, keys are texts.
    value = json.loads(json.dumps(value))
    value = {**value, "checksum": _checksum(value)}
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(value, indent=1) + "\n")


def is_remote(path: epath.PathLike) -> bool:
  """Whether a path names an object store: gs://bucket/folder."""
  return "://" in str(path)


@contextlib.contextmanager
def writing(path: epath.PathLike) -> Iterator[None]:
  """Tells in one line that something cannot be written.

  Raises:
    UserError: names the folder, the reason and the remedy.
  """
  try:
    yield
  except errors.UserError:
    raise
  # Each store raises its own.
  except Exception as e:
    if not is_remote(path) and not isinstance(e, OSError):
      raise
    raise cannot_write(epath.Path(path).parent, e) from e


def cannot_write(
  folder: epath.PathLike, error: BaseException
) -> errors.UserError:
  """The line about a folder that cannot be written, with the remedy."""
  reason = " ".join(str(getattr(error, "strerror", None) or error).split())
  full = "space" in reason or "quota" in reason.lower()
  remedy = "make room" if full else "mend that"
  return errors.UserError(
    f"{folder}: cannot be written ({reason[:200]}); {remedy} and start again"
    " with the same command, which goes on from the last checkpoint"
  )


def _line(line: Mapping[str, Any]) -> str:
  return json.dumps({**line, "crc": _checksum(line)}) + "\n"


def _checksum(value: Mapping[str, Any]) -> str:
  return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def _replace(path: epath.Path, text: str) -> None:
  if is_remote(path):
    # An object is there as a whole or not at all.
    path.write_text(text)
    return
  part = path.parent / (path.name + ".part")
  try:
    part.write_text(text)
    part.replace(path)
  except OSError:
    with contextlib.suppress(OSError):
      part.unlink()
    raise
