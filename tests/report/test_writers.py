"""Metric lines and JSON files: what was written, or a line why not."""

import json
import os

from etils import epath
import pytest

from tsjax.core import errors
from tsjax.report import writers


@pytest.fixture
def path(tmp_path):
  return epath.Path(tmp_path / "arm" / "metrics.jsonl")


def write(path, steps, **options):
  lines = writers.JsonLines(path, **options)
  for step in steps:
    lines.write("train", step, {"loss": 1 / step, "loss/soft": float("nan")})
  return lines


def steps(lines):
  return [x["step"] for x in lines]


def test_lines_are_read_as_they_were_written(path):
  write(path, (10, 20)).write("validation", 20, {"f1": 0.5})
  lines = writers.read(path)
  assert lines[0].keys() == {"format", "kind", "step", "loss", "loss/soft"}
  assert lines[0]["loss"] == 0.1 and lines[0]["loss/soft"] != 0
  assert lines[2] == {
    "format": 1, "kind": "validation", "step": 20, "f1": 0.5
  }  # fmt: skip


def test_what_lies_beyond_the_checkpoint_goes(path):
  write(path, (10, 20, 30))
  lines = write(path, (30, 40), resume_from=20)
  assert steps(writers.read(path)) == [10, 20, 30, 40]
  assert steps(lines.kept) == [10, 20]
  write(path, (5,))
  assert steps(writers.read(path)) == [5]


def test_a_flipped_byte_leaves_its_line_out(path):
  write(path, (10, 20, 30))
  first, second, third = path.read_bytes().splitlines(keepends=True)
  for offset in range(len(second)):
    content = bytearray(second)
    content[offset] ^= 0x01
    path.write_bytes(first + content + third)
    warned = []
    lines = writers.read(path, warn=warned.append)
    # Without its end, the second is one with the third.
    assert steps(lines) == ([10, 30] if offset < len(second) - 1 else [10])
    assert [x["loss"] for x in lines] == [1 / x for x in steps(lines)]
    assert warned == [
      f"{path}: line 2 damaged: left out, and missing from the curves"
    ]


def test_a_line_that_a_kill_cut_short_is_no_damage(path):
  write(path, (10, 20, 30))
  path.write_bytes(path.read_bytes()[:-20])
  warned = []
  assert steps(writers.read(path, warn=warned.append)) == [10, 20]
  write(path, (30,), resume_from=20, warn=warned.append)
  assert steps(writers.read(path)) == [10, 20, 30]
  assert not warned


@pytest.mark.parametrize("left", [None, b"", b'{"format": 1'])
def test_a_file_that_lacks_the_checkpoints_line_is_told(path, left):
  write(path, (10, 20))
  path.unlink()
  if left is not None:
    path.write_bytes(left)
  warned = []
  write(path, (30,), resume_from=20, warn=warned.append)
  assert steps(writers.read(path)) == [30]
  (line,) = warned
  assert line.startswith(f"{path}: lines up to step 20 are missing")


@pytest.mark.parametrize("checked", [False, True])
def test_json_is_read_as_it_was_written(tmp_path, checked):
  path = epath.Path(tmp_path / "new" / "result.json")
  value = {"rate": 0.1, "arms": {"a": None}, "steps": [1, 2]}
  writers.write_json(path, value, checked=checked)
  assert writers.read_json(path, needs=("rate",), checked=checked) == value
  assert os.listdir(path.parent) == ["result.json"]
  with pytest.raises(writers.Damaged, match="lacks rates; remove it"):
    writers.read_json(path, needs=("rates",), checked=checked)


def test_no_damage_of_a_checked_file_is_read(tmp_path):
  path = epath.Path(tmp_path / "result.json")
  writers.write_json(path, {"rate": 0.1, "step": 12}, checked=True)
  content = path.read_bytes()
  damaged = [content[:0], content[: len(content) // 2]]
  for offset in range(len(content) - 1):
    for bit in (0x01, 0x80):
      flipped = bytearray(content)
      flipped[offset] ^= bit
      damaged.append(bytes(flipped))
  for new in damaged:
    path.write_bytes(new)
    try:
      value = writers.read_json(path, needs=("rate", "step"), checked=True)
    except writers.Damaged as e:
      assert str(path) in str(e) and "\n" not in str(e)
      assert "remove it and start the run again" in str(e)
    else:
      assert value == {"rate": 0.1, "step": 12}  # Space that JSON skips.


def test_a_value_changed_by_hand_is_told(tmp_path):
  path = epath.Path(tmp_path / "result.json")
  writers.write_json(path, {"score": 0.91}, checked=True)
  path.write_text(path.read_text().replace("0.91", "0.99"))
  with pytest.raises(writers.Damaged, match="damaged, or changed by hand"):
    writers.read_json(path, checked=True)


def test_what_cannot_be_written_is_told_with_folder_and_remedy(tmp_path):
  (tmp_path / "file").write_text("")
  path = epath.Path(tmp_path / "file" / "metrics.jsonl")
  for act in (
    lambda: writers.JsonLines(path),
    lambda: writers.write_json(path, {}),
  ):
    with pytest.raises(errors.UserError) as error:
      act()
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/file: cannot be written (")
    assert "mend that and start again" in text and "\n" not in text


def test_a_full_disk_is_told_as_one(tmp_path):
  said = str(
    writers.cannot_write(tmp_path, OSError(28, "No space left on device"))
  )
  assert said.startswith(f"{tmp_path}: cannot be written (No space left on")
  assert "; make room and start again with the same command" in said


@pytest.fixture
def remote(monkeypatch):
  """A store that takes whole objects only."""
  monkeypatch.setattr(writers, "is_remote", lambda path: True)
  kind = type(epath.Path("/"))
  real = kind.open

  def refuse(self, mode="r", **options):
    assert "a" not in mode, "an object store cannot append"
    return real(self, mode, **options)

  monkeypatch.setattr(kind, "open", refuse)


def test_an_object_store_gets_whole_files(path, remote):
  lines = write(path, (10, 20))
  assert writers.read(path) == []
  lines.flush()
  assert steps(writers.read(path)) == [10, 20]
  lines = write(path, (20,), resume_from=10)
  lines.flush()
  assert steps(writers.read(path)) == [10, 20]


def test_an_object_store_is_written_now_and_then(path, remote, monkeypatch):
  monkeypatch.setattr(writers, "REWRITE", 0.0)
  write(path, (10, 20))
  assert steps(writers.read(path)) == [10, 20]


def test_the_checksum_is_the_last_of_a_line(path):
  write(path, (10,))
  assert list(json.loads(path.read_text()))[-1] == "crc"
