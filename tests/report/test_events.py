"""TensorBoard and wandb show what metrics.jsonl says, also after a kill."""

import builtins

from etils import epath
import pytest
from tensorboard.backend.event_processing import event_accumulator

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


@pytest.mark.slow
def test_wandb_is_written_offline(tmp_path, monkeypatch):
  pytest.importorskip("wandb", reason="wandb is an extra")
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_SILENT", "true")
  log = events.Log(epath.Path(tmp_path), also=("wandb",), run="digits")
  write(log, (10, 20))
  log.close()
  written = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
  assert len(written) == 1
  assert b"train/loss" in written[0].read_bytes()
