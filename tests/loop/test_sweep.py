"""A sweep: equal budgets, shared stages, one choice, one test, resumable."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tests.loop import pair
from tsjax import config
from tsjax.core import errors
from tsjax.loop import arm, experiment, sweep, sweep_grid

PAIR = f"{pathlib.Path(pair.__file__)}:steps=6,save=6"
SEEDS = "seeds=(0,1)"
SWEEP = (
  "config.stages.student.objective.soft.temperature=1,4",
  "stages.student.objective.soft.weight=0.5,2",
)


def run(workdir, sweeps=SWEEP, path=PAIR, overrides=(SEEDS,), **options):
  said = []
  options.setdefault("command", "tsjax sweep ...")
  found = sweep.run(
    path, overrides, sweeps, workdir, say=said.append, **options
  )
  return found, said


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("sweep") / "here"
  return workdir, *run(workdir)


def student(workdir, name, seed=0):
  path = workdir / "points" / name / "student" / f"seed_{seed}" / "result.json"
  return json.loads(path.read_text())


def test_every_point_is_a_run_and_the_best_on_validation_is_chosen(swept):
  workdir, found, _ = swept
  names = [p["name"] for p in found["points"]]
  assert names == [
    f"temperature={t},weight={w}" for t in (1, 4) for w in (0.5, 2)
  ]
  for point in found["points"]:
    folder = workdir / "points" / point["name"]
    assert (folder / "run.json").exists()
    values = [
      student(workdir, point["name"], seed)["validation"]["f1"]
      for seed in (0, 1)
    ]
    assert point["validation"]["values"] == values
  best = max(found["points"], key=lambda p: np.mean(p["validation"]["values"]))
  assert found["chosen"] == best["name"]
  settings = json.loads(
    (workdir / "points" / names[2] / "run.json").read_text()
  )["config"]["stages"]["student"]["objective"]["soft"]
  assert (settings["temperature"], settings["weight"]) == (4, 0.5)


def test_the_test_split_is_read_for_the_chosen_point_only(swept):
  workdir, found, _ = swept
  reports = sorted(p.parent.name for p in workdir.glob("points/*/report"))
  assert reports == [found["chosen"]]
  results = json.loads(
    (workdir / "points" / reports[0] / "report" / "results.json").read_text()
  )
  assert found["test"] == {"student": results["stages"]["student"]["test"]}


def test_a_shared_teacher_is_trained_once(swept):
  workdir, found, _ = swept
  first, *others = found["points"]
  assert first["shared"] == {}
  assert all(p["shared"] == {"teacher": first["name"]} for p in others)
  for point in others:
    link = workdir / "points" / point["name"] / "teacher"
    assert link.is_symlink() and (link / "seed_1" / "result.json").exists()


def test_a_point_is_the_run_that_its_command_says(swept, tmp_path):
  workdir, found, _ = swept
  name = found["points"][-1]["name"]
  command = json.loads((workdir / "points" / name / "run.json").read_text())
  flags = shlex.split(command["command"])
  assert flags[:2] == ["tsjax", "fit"]
  overrides = [
    f.removeprefix("--config.") for f in flags if f.startswith("--config.")
  ]
  made = experiment.Experiment(config.load(PAIR, overrides), tmp_path)
  made.train()
  again = experiment.Experiment(
    config.load(PAIR, overrides), workdir / "points" / name
  )
  for seed in (0, 1):
    a, b = (pair.leaves(x.variables("student", seed)) for x in (made, again))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_stopped_sweep_ends_as_one_that_was_not(swept, tmp_path):
  _, whole, _ = swept
  calls = []

  def stop():
    calls.append(None)
    return len(calls) == 60

  with pytest.raises(arm.Stopped):
    run(tmp_path, stop_requested=stop)
  begun = sorted(p.name for p in (tmp_path / "points").iterdir())
  assert 0 < len(begun) < 4
  found, _ = run(tmp_path)
  assert [p["validation"] for p in found["points"]] == [
    p["validation"] for p in whole["points"]
  ]
  test = whole["test"]["student"]["f1"]
  assert found["test"]["student"]["f1"] == test


def test_started_again_nothing_is_trained_or_tested(swept):
  workdir, found, _ = swept
  path = workdir / "points" / found["chosen"] / "report" / "results.json"
  before = path.read_text()
  again, said = run(workdir)
  # With the times that were measured: the split was not read again.
  assert path.read_text() == before
  assert again["chosen"] == found["chosen"] and again["test"] == found["test"]
  assert (workdir / "report" / "index.html").exists()
  assert json.loads((workdir / "report" / "sweep.json").read_text())[
    "points"
  ] == json.loads(json.dumps(again["points"]))
  assert said[0] == "point 1 of 4, temperature=1,weight=0.5"


def test_a_point_that_diverges_is_left_out(tmp_path):
  found, said = run(
    tmp_path,
    ("config.stages.student.arms.learning_rate=(0.1,),(1e30,)",),
    overrides=(),
  )
  good, bad = found["points"]
  assert found["chosen"] == good["name"] == "learning_rate=0.1"
  assert bad["validation"] is None and "rate 1e+30" in bad["failed"]
  assert any("failed and is left out" in line for line in said)
  assert "came apart" in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(
  ("change", "told"),
  [
    (
      {"sweeps": (SWEEP[0], "stages.student.objective.soft.weight=0.5,3")},
      "point temperature=1,weight=2 is no more in the sweep",
    ),
    (
      {"sweeps": (SWEEP[0].replace("1,4", "1,4,8"), SWEEP[1])},
      "point temperature=8,weight=0.5 was not in the sweep",
    ),
    (
      {"overrides": (SEEDS, "data.batch_size=16")},
      "config.data.batch_size was 32 and is now 16",
    ),
    ({"overrides": ("seeds=(0,1,2)",)}, "config.seeds was [0, 1]"),
  ],
)
def test_another_sweep_in_a_begun_folder_is_refused(swept, change, told):
  with pytest.raises(errors.UserError) as caught:
    run(swept[0], **change)
  assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("sweeps", "told"),
  [
    (["stages.student.steps=6,8"], "config.stages.student.steps is 6 at"),
    (["seeds=(0,),(0,1)"], "config.seeds is [0] at"),
    (["data.batch_size=16,32"], "config.data.batch_size is 16 at"),
    (["line_points=0,3"], "what is swept does not reach it"),
    (["stages.student.clip=1,none,1.5,low"], "clip='low': expected"),
    (["data.validation=0.1,0"], "chooses on a validation split"),
  ],
)
def test_points_that_cannot_be_compared_are_refused(tmp_path, sweeps, told):
  with pytest.raises(errors.UserError) as caught:
    run(tmp_path / "new", sweeps, overrides=())
  assert told in str(caught.value) and "\n" not in str(caught.value)
  assert not (tmp_path / "new").exists()


def test_an_unequal_budget_may_be_allowed():
  base = config.load(PAIR)
  points = sweep_grid.points(
    base, sweep_grid.from_flags(["stages.student.steps=2,3"])
  )
  facts = sweep._check(points, "student", True, sweep.programs_lib.Programs())
  assert facts["unequal"] == [
    "config.stages.student.steps is 2 at steps=2 and 3 at steps=3"
  ]


def test_a_stage_that_is_not_swept_cannot_choose(tmp_path):
  with pytest.raises(errors.UserError, match="does not reach it"):
    run(tmp_path, stage="teacher")
  with pytest.raises(errors.UserError, match="did you mean 'student'"):
    run(tmp_path, stage="studnet")


def test_a_runs_folder_is_refused(tmp_path):
  (tmp_path / "run.json").write_text("{}")
  with pytest.raises(errors.UserError, match="is the folder of a run"):
    run(tmp_path)


def test_the_config_can_say_what_is_swept(tmp_path):
  text = pathlib.Path(pair.__file__).read_text()
  path = tmp_path / "mine.py"
  for body, told in (
    ("", "defines no function sweep()"),
    ("def sweep():\n  return 1 / 0\n", "ZeroDivisionError: division by zero"),
    ("def sweep():\n  return 3\n", "sweep() returned 3"),
  ):
    path.write_text(f"{text}\n\n{body}")
    with pytest.raises(errors.UserError) as caught:
      run(tmp_path / "w", (), path=str(path))
    assert told in str(caught.value) and str(path) in str(caught.value)


def test_a_sweep_of_the_demonstration(tmp_path):
  path = pathlib.Path(__file__).parents[2] / "configs" / "digits_sweep.py"
  base = config.load(str(path))
  points = sweep_grid.points(base, sweep._assignments(str(path), ()))
  assert len(points) == 9
  assert len({sweep_grid.recipe(p.config, "teacher") for p in points}) == 1
  assert len({sweep_grid.recipe(p.config, "student") for p in points}) == 9


@pytest.mark.slow
def test_the_demonstration_runs(tmp_path):
  root = pathlib.Path(__file__).parents[2]
  # By itself, on one device: eight of them on two cores wait for each other
  # until XLA gives up.
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "tsjax",
      "sweep",
      "--config=configs/digits_sweep.py",
      f"--workdir={tmp_path}",
    ],
    cwd=root,
    env=os.environ | {"XLA_FLAGS": ""},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "report" / "sweep.json").read_text())
  assert len(found["points"]) == 9
  assert found["test"]["student"]["f1"]["mean"] > 0.9
