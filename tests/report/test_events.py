"""TensorBoard and wandb show what metrics.jsonl says, also after a kill."""

import builtins
import json
import pathlib
import struct

from etils import epath
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.backend.event_processing import (
  plugin_event_multiplexer as event_multiplexer,
)

from tsjax.core import errors
from tsjax.report import events, writers


def curves(folder):
  """Tag -> (step, value) of all event files, read by TensorBoard itself."""
  reader = event_accumulator.EventAccumulator(
    str(folder), purge_orphaned_data=False
  )
  reader.Reload()
  return {
    tag: [(e.step, pytest.approx(e.value)) for e in reader.Scalars(tag)]
    for tag in reader.Tags()["scalars"]
  }


def write(log, steps):
  for step in steps:
    log.write("train", step, {"loss": 1 / step, "loss/soft": 0.5})
    if step % 20 == 0:
      log.write("validation", step, {"f1": step / 100})


def test_event_files_hold_the_lines(tmp_path):
  log = events.Log(epath.Path(tmp_path), also=("events",))
  write(log, (10, 20, 30))
  log.close()
  assert curves(tmp_path) == {
    "train/loss": [(10, 0.1), (20, 0.05), (30, 1 / 30)],
    "train/loss/soft": [(10, 0.5), (20, 0.5), (30, 0.5)],
    "validation/f1": [(20, 0.2)],
  }


def test_a_resumed_run_shows_no_point_twice(tmp_path):
  folder = epath.Path(tmp_path)
  log = events.Log(folder, also=("events",))
  write(log, (10, 20, 30, 40))
  log.close()
  # Killed at 45, with a checkpoint at 20.
  log = events.Log(folder, also=("events",), resume_from=20)
  write(log, (30, 40, 50))
  log.close()
  found = curves(tmp_path)
  assert [step for step, _ in found["train/loss"]] == [10, 20, 30, 40, 50]
  assert [step for step, _ in found["validation/f1"]] == [20, 40]
  lines = writers.read(folder / "metrics.jsonl")
  assert [x["step"] for x in lines if x["kind"] == "train"] == [
    step for step, _ in found["train/loss"]
  ]


def points(folder, **options):
  """(wall time, step) of the training loss, and what TensorBoard purged."""
  reader = event_accumulator.EventAccumulator(str(folder), **options)
  reader.Reload()
  return [(e.wall_time, e.step) for e in reader.Scalars("train/loss")]


def test_points_keep_the_times_at_which_they_were_written(
  tmp_path, monkeypatch
):
  now = [1000.0]
  monkeypatch.setattr(events.time, "time", lambda: now[0])
  folder = epath.Path(tmp_path)
  for resume_from, steps in ((None, (10, 20, 30)), (20, (30,)), (30, (40,))):
    log = events.Log(folder, also=("events",), resume_from=resume_from)
    write(log, steps)
    log.close()
    now[0] += 1000
  assert points(tmp_path) == [
    (1000.0, 10), (1000.0, 20), (2000.0, 30), (3000.0, 40)
  ]  # fmt: skip


def test_who_looks_on_sees_points_before_the_run_ends(tmp_path):
  log = events.Log(epath.Path(tmp_path), also=("events",))
  write(log, (10,))
  assert [step for _, step in points(tmp_path)] == [10]
  log.close()


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_event_files_are_made_anew(tmp_path, damage):
  folder = epath.Path(tmp_path)
  log = events.Log(folder, also=("events",))
  write(log, (10, 20, 30))
  log.close()
  (path,) = tmp_path.glob("events.*")
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content if damage == "flipped" else content[:-20])
  if damage == "gone":
    path.unlink()
  log = events.Log(folder, also=("events",), resume_from=30)
  write(log, (40,))
  log.close()
  assert [step for _, step in points(tmp_path)] == [10, 20, 30, 40]


def test_every_arm_is_a_run_of_tensorboard(tmp_path):
  names = {"teacher/seed_0", "student/seed_0/learning_rate=0.1"}
  for name in names:
    (tmp_path / name).mkdir(parents=True)
    log = events.Log(epath.Path(tmp_path / name), also=("events",))
    write(log, (10,))
    log.close()
  runs = event_multiplexer.EventMultiplexer()
  runs.AddRunsFromDirectory(str(tmp_path))
  runs.Reload()
  assert runs.Runs().keys() == names


def test_without_writers_there_is_only_metrics_jsonl(tmp_path):
  log = events.Log(epath.Path(tmp_path))
  write(log, (10,))
  log.close()
  assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_wandb_that_is_asked_for_and_missing_is_told(tmp_path, monkeypatch):
  real = builtins.__import__

  def without(name, *args, **kwargs):
    if name == "wandb":
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", without)
  with pytest.raises(errors.UserError, match="pip install wandb"):
    events.Log(epath.Path(tmp_path), also=("wandb",))


@pytest.fixture
def offline(monkeypatch):
  """Weights & Biases, as it runs without a network and an account."""
  import wandb

  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_SILENT", "true")
  return wandb


def records(content):
  """The records of a file of wandb's: LevelDB's log, after a header."""
  at, parts = 7, []
  while at + 7 <= len(content):
    left = 2**15 - at % 2**15
    if left < 7:  # The end of a block that no header fits in.
      at += left
      continue
    _, length, kind = struct.unpack("<IHB", content[at : at + 7])
    parts.append(content[at + 7 : at + 7 + length])
    at += 7 + length
    if kind in (1, 4):  # Whole, or the last part.
      yield b"".join(parts)
      parts = []


def histories(folder):
  """Id and (step, values) of every run that wandb wrote under a folder."""
  from wandb.proto import wandb_internal_pb2

  found = []
  for path in sorted(pathlib.Path(folder).rglob("*.wandb")):
    name, history = "", {}
    for content in records(path.read_bytes()):
      record = wandb_internal_pb2.Record.FromString(content)
      name = record.run.run_id or name
      if record.HasField("history"):
        items = {
          (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
          for item in record.history.item
        }
        step = record.history.step.num or items.get("_step", 0)
        history[step] = {
          k: v for k, v in items.items() if not k.startswith("_")
        }
    found.append((name, history))
  return found


@pytest.mark.slow
def test_wandb_is_written_offline_and_resumed_by_its_id(offline, tmp_path):
  folder = epath.Path(tmp_path)
  log = events.Log(folder, also=("wandb",), run="digits", title="student")
  write(log, (10, 20, 30))
  log.close()
  # Killed after 30, with a checkpoint at 20.
  log = events.Log(folder, also=("wandb",), run="digits", resume_from=20)
  write(log, (30, 40))
  log.close()
  (first, before), (second, after) = histories(tmp_path)
  assert first == second
  assert before == {
    10: {"train/loss": 0.1, "train/loss/soft": 0.5},
    20: {"train/loss": 0.05, "train/loss/soft": 0.5, "validation/f1": 0.2},
    30: {"train/loss": 1 / 30, "train/loss/soft": 0.5},
  }
  # The second has all of it, as nothing says what came of the first.
  assert {step: after[step] for step in before} == before
  assert after[40]["validation/f1"] == 0.4 and len(after) == 4
  # What starts anew is another run.
  events.Log(folder, also=("wandb",), run="digits").close()
  assert len({name for name, _ in histories(tmp_path)}) == 2


@pytest.mark.slow
def test_two_arms_of_one_process_are_two_runs_of_wandb(offline, tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
    log = events.Log(epath.Path(tmp_path / name), also=("wandb",), run="x")
    write(log, (10,))
    log.close()
  found = histories(tmp_path)
  assert len({name for name, _ in found}) == 2
  assert all(list(history) == [10] for _, history in found)
