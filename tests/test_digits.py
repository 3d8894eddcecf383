"""The main job: configs/digits.py, whole on digits, short on cifar10."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# No finder finds TensorFlow, as on a machine that has none.
WITHOUT_TENSORFLOW = """
import sys

class Hiding:
  def __init__(self, finder):
    self.finder = finder

  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] == "tensorflow":
      return None
    return self.finder.find_spec(name, path, target)

  def __getattr__(self, name):
    return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from tsjax import main
sys.exit(main.main())
"""


def fit(config: str, workdir: pathlib.Path, *overrides: str, **environment):
  done = subprocess.run(
    [
      sys.executable, "-c", WITHOUT_TENSORFLOW, "fit", f"--config={config}",
      f"--workdir={workdir}", *overrides,
    ],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": "", **environment},
    capture_output=True,
    text=True,
    check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return json.loads((workdir / "report" / "results.json").read_text())


@pytest.mark.slow
def test_teacher_is_worth_its_place_on_digits(tmp_path):
  results = fit("configs/digits.py", tmp_path / "run")
  stages = results["stages"]
  f1 = {name: stage["test"]["f1"]["mean"] for name, stage in stages.items()}
  assert stages["teacher"]["test"]["accuracy"]["mean"] >= 0.98
  assert f1["student"] >= f1["alone"] + 0.04
  assert f1["student"] >= f1["teacher"] - 0.02
  assert len(stages["student"]["test"]["f1"]["values"]) == 3
  for stage in ("alone", "student"):
    for chosen in stages[stage]["chosen"]:
      scores = chosen["validation"]
      rate = f"learning_rate={chosen['arm']['learning_rate']:g}"
      assert scores[rate] == max(scores.values())
  page = (tmp_path / "run" / "report" / "index.html").read_text()
  assert "<svg" in page and "<script" not in page


@pytest.mark.slow
def test_same_pair_on_cifar10_without_tensorflow(shared, tmp_path):
  prepared = subprocess.run(
    [
      sys.executable, str(shared / "tools" / "prepare_tfds.py"),
      "--data-dir", str(tmp_path / "tfds"), "cifar10",
    ],
    capture_output=True,
    text=True,
    check=False,
  )  # fmt: skip
  assert prepared.returncode == 0, prepared.stderr
  results = fit(
    "configs/digits.py:data=cifar10,steps=40,seeds=1",
    tmp_path / "run",
    "--config.stages.alone.arms.learning_rate=(0.01,)",
    "--config.stages.student.arms.learning_rate=(0.01,)",
    TFDS_DATA_DIR=str(tmp_path / "tfds"),
  )
  assert len(results["classes"]) == 10
  test = results["stages"]["student"]["test"]
  # Forty steps teach something: chance is 0.1.
  assert results["stages"]["teacher"]["test"]["accuracy"]["mean"] > 0.2
  assert 0 < test["accuracy"]["mean"] < 1
  assert (tmp_path / "run" / "report" / "index.html").exists()


def test_every_config_is_built():
  from tsjax.config import checked, loading
  from tsjax.loop import build

  paths = sorted((ROOT / "configs").glob("*.py"))
  assert paths
  for path in paths:
    build.build(checked.check(loading.load(str(path))))
