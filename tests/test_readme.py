"""The README's code runs as it stands."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def block(name: str) -> str:
  """The Python block of the README behind `<!-- test: NAME -->`."""
  text = (ROOT / "README.md").read_text()
  found = re.search(
    rf"<!-- test: {name} -->\n```python\n(.*?)```", text, re.DOTALL
  )
  assert found, f"the README has no block {name!r}"
  return found[1]


def run(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=cwd,
    env={**os.environ, "XLA_FLAGS": ""},  # One device, as a user has.
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def test_ten_lines_lower_the_loss(tmp_path):
  program = block("ten-lines") + (
    "\nbefore = loss(theta_s)\n"
    "for _ in range(20):\n"
    "  theta_s, state = step(theta_s, state)\n"
    "print(float(before), float(loss(theta_s)))\n"
  )
  done = run("-c", program, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  before, after = map(float, done.stdout.split())
  assert after < 0.8 * before


@pytest.fixture
def mine(tmp_path):
  """A config outside of the repository, and a short run of it."""
  path = tmp_path / "mine.py"
  path.write_text(block("own-config"))
  return path


def fit(path: pathlib.Path) -> subprocess.CompletedProcess:
  return run(
    "-m", "tsjax", "fit", f"--config={path}:steps=40", "--workdir=run",
    "--config.stages.student.save_every=10",
    cwd=path.parent,
  )  # fmt: skip


def test_own_config_trains_distils_and_resumes(mine):
  done = fit(mine)
  assert done.returncode == 0, done.stderr
  folder = mine.parent / "run"
  results = json.loads((folder / "report" / "results.json").read_text())
  student = results["stages"]["student"]
  assert student["teachers"] == ["teacher"]
  assert student["model"]["kind"] == "Net"
  # The learned projection trained, and is no part of the student.
  assert student["model"]["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
  first, last = student["curves"][0]["train"]["loss/mine"][0], 1.0
  assert 0 < first < last

  # Without its last checkpoint and result, the run goes on from step 30.
  seed = folder / "student" / "seed_0"
  before = (seed / "result.json").read_text()
  (seed / "result.json").unlink()
  steps = sorted(int(p.name) for p in (seed / "checkpoints").iterdir())
  assert steps == [30, 40]
  for file in sorted((seed / "checkpoints" / "40").rglob("*"), reverse=True):
    file.rmdir() if file.is_dir() else file.unlink()
  (seed / "checkpoints" / "40").rmdir()
  done = fit(mine)
  assert done.returncode == 0, done.stderr
  assert "resumed at step 30" in done.stderr
  again = json.loads((seed / "result.json").read_text())
  assert again["validation"] == json.loads(before)["validation"]


def test_own_config_takes_argument_and_override(mine):
  done = run(
    "-m", "tsjax", "fit", f"--config={mine}:steps=5", "--workdir=run",
    "--config.models.student.width=6", cwd=mine.parent,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  text = (mine.parent / "run" / "run.json").read_text()
  config = json.loads(text)["config"]
  assert config["models"]["student"]["width"] == 6
  assert config["stages"]["student"]["steps"] == 5


def test_own_config_with_a_mistake_is_told_in_one_line(mine):
  text = mine.read_text().replace('student_tap="hidden"', 'student_tap="hiden"')
  mine.write_text(text)
  done = fit(mine)
  assert done.returncode == 1
  assert done.stdout == ""
  assert done.stderr.count("\n") == 1
  assert "'hiden'" in done.stderr and "'hidden'" in done.stderr


def test_every_file_that_the_readme_names_exists():
  text = (ROOT / "README.md").read_text()
  for target in re.findall(r"\]\(([^)#:]+)\)", text):
    assert (ROOT / target).exists(), target
