"""A disk that fills up costs one line, and nothing that was saved."""

import pathlib
import subprocess

import pytest

from tests.loop import pair, runs
from tsjax.core import errors
from tsjax.loop import experiment

SIZE = "5m"


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 5 MB, as a folder; and a function that enlarges it."""
  folder = tmp_path / "disk"
  folder.mkdir()

  def mount(options):
    return subprocess.run(
      ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
      capture_output=True,
      text=True,
    )

  try:
    made = mount(f"size={SIZE}")
  except FileNotFoundError:
    pytest.skip("needs the command mount")
  if made.returncode:
    pytest.skip(f"may not mount a small file system here: {made.stderr}")
  try:
    yield folder, lambda size: mount(f"remount,size={size}")
  finally:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_config():
  c = pair.get_config("steps=24,save=8")
  # So wide that a checkpoint, or a few, fill the disk.
  c.models.teacher.width = c.models.student.width = 3000
  del c.stages.student.objective["hint"]
  for stage in c.stages.values():
    stage.arms, stage.learning_rate = {}, 0.03
  c.keep_checkpoints = 3
  return c


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_told_and_costs_no_bit(small_disk, tmp_path, capsys):
  folder, enlarge = small_disk
  workdir = folder / "run"
  with pytest.raises(errors.UserError) as told:
    experiment.fit(make_config(), workdir)
  line = str(told.value)
  assert "\n" not in line
  assert str(workdir) in line
  assert "No space left" in line or "full" in line, line
  saved = [p for p in pathlib.Path(workdir).glob("*/seed_0/checkpoints/*")]
  print(line)
  assert saved, "the disk was too small for the first checkpoint"
  assert enlarge("64m").returncode == 0
  capsys.readouterr()
  experiment.fit(make_config(), workdir)
  assert "resumed at step" in capsys.readouterr().err
  experiment.fit(make_config(), tmp_path / "alone")
  assert runs.outcome(workdir) == runs.outcome(tmp_path / "alone")
