"""`metrics.jsonl`: one line for every log and every evaluation."""

from collections.abc import Mapping
import json
from typing import Any

from etils import epath

from tsjax.core import errors

FORMAT = 1


class JsonLines:
  """Appends lines; what an interrupted run wrote beyond its checkpoint goes.

  Args:
    path: the file.
    resume_from: steps of the checkpoint that the run goes on from; None starts
      the file anew.
  """

  def __init__(self, path: epath.Path, *, resume_from: int | None = None):
    self._path = path
    kept = []
    if resume_from is not None and path.exists():
      kept = [x for x in read(path) if x["step"] <= resume_from]
    path.parent.mkdir(parents=True, exist_ok=True)
    # A kill in the middle must not cost the lines that were kept.
    _replace(path, "".join(json.dumps(x) + "\n" for x in kept))

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One line: `{"format": 1, "kind": "train", "step": 50, "loss": 0.1}`."""
    line = {"format": FORMAT, "kind": kind, "step": step, **values}
    with self._path.open("a") as f:
      f.write(json.dumps(line) + "\n")


def read(path: epath.Path) -> list[dict[str, Any]]:
  """All lines that are whole; a last one cut short by a kill is dropped."""
  lines = []
  for text in path.read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines


def read_json(
  path: epath.Path, *, needs: tuple[str, ...] = ()
) -> dict[str, Any]:
  """Reads a file that `write_json` wrote.

  Raises:
    UserError: it is not JSON, or lacks a key that it needs.
  """
  try:
    value = json.loads(path.read_text())
  except (json.JSONDecodeError, UnicodeDecodeError) as e:
    raise errors.UserError(
      f"{path}: not JSON ({e}); remove it and start the run again"
    ) from e
  if not isinstance(value, dict) or any(key not in value for key in needs):
    raise errors.UserError(
      f"{path}: lacks {', '.join(needs)}; remove it and start the run again"
    )
  return value


def write_json(path: epath.Path, value: Any) -> None:
  """Writes JSON so that the file is either the old one or the whole new one."""
  path.parent.mkdir(parents=True, exist_ok=True)
  _replace(path, json.dumps(value, indent=1) + "\n")


def _replace(path: epath.Path, text: str) -> None:
  part = path.parent / (path.name + ".part")
  part.write_text(text)
  part.replace(path)
