"""`metrics.jsonl`: one line for every log and every evaluation."""

from collections.abc import Mapping
import json
from typing import Any

from etils import epath

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
      kept = [x for x in read(path) if _before(x, resume_from)]
    path.parent.mkdir(parents=True, exist_ok=True)
    self._lines = [json.dumps(x) for x in kept]
    self._flush()

  def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
    """One line: `{"format": 1, "kind": "train", "step": 50, "loss": 0.1}`."""
    line = {"format": FORMAT, "kind": kind, "step": step, **values}
    self._lines.append(json.dumps(line))
    with self._path.open("a") as f:
      f.write(self._lines[-1] + "\n")

  def _flush(self) -> None:
    self._path.write_text("".join(line + "\n" for line in self._lines))


def _before(line: Mapping[str, Any], step: int) -> bool:
  # A resumed run evaluates again at the step of its checkpoint.
  if line["kind"] == "train":
    return line["step"] <= step
  return line["step"] < step


def read(path: epath.Path) -> list[dict[str, Any]]:
  """All lines that are whole; a last one cut short by a kill is dropped."""
  lines = []
  for text in path.read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines


def write_json(path: epath.Path, value: Any) -> None:
  """Writes JSON so that the file is either the old one or the whole new one."""
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.parent / (path.name + ".part")
  part.write_text(json.dumps(value, indent=1) + "\n")
  part.replace(path)
