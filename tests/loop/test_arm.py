"""A run that is stopped, killed or damaged ends as one that was not."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from etils import epath
import jax.numpy as jnp
import numpy as np
import pytest

from tests.loop import pair
from tsjax import config, main
from tsjax.checkpoint import store as store_lib
from tsjax.config import spec
from tsjax.core import errors
from tsjax.loop import arm, experiment
from tsjax.report import progress, writers

STAGES = ("teacher", "student")


class Killed(BaseException):
  """Ends a run at once, as far as that can be done within one process."""


def at_turn(turn, error=None):
  """Asks the run to stop at its n-th turn, or breaks it off there."""
  turns = iter(range(10**9))

  def stop_requested():
    if next(turns) != turn:
      return False
    if error is not None:
      raise error
    return True

  return stop_requested


def arms(workdir, stage):
  """The folders of a stage's arms."""
  return sorted(p.parent for p in pathlib.Path(workdir).glob(
    f"{stage}/seed_*/**/checkpoints"
  ))


def outcome(workdir, kinds=("train", "validation")):
  """What a run came to: checksums of final states, results, metric lines."""
  found = {}
  for stage in STAGES:
    record = json.loads(
      (pathlib.Path(workdir) / stage / "seed_0" / "result.json").read_text()
    )
    del record["seconds"]
    found[stage] = {"result.json": record}
    for folder in arms(workdir, stage):
      store = store_lib.Store(folder / "checkpoints")
      manifest = store.manifest(max(store.steps()))
      store.close()
      found[stage][folder.name] = {
        "step": manifest["step"],
        "position": manifest["position"],
        "checksums": manifest["checksums"],
        "lines": [
          line
          for line in writers.read(epath.Path(folder / "metrics.jsonl"))
          if line["kind"] in kinds
        ],
      }
  return found


@pytest.fixture(scope="module", params=["", "dispatch=4"])
def undisturbed(request, tmp_path_factory):
  """A config's argument, and what it comes to when nothing happens."""
  workdir = tmp_path_factory.mktemp("undisturbed")
  experiment.fit(pair.get_config(request.param), workdir)
  return request.param, outcome(workdir)


def test_a_run_that_is_stopped_ends_with_the_same_bits(undisturbed, tmp_path):
  argument, expected = undisturbed
  steps = []
  # Before the first step, off the schedule of saves, in other arms and stages.
  for turn in (0, 3, 9, 13, 13):
    run = experiment.Experiment(
      pair.get_config(argument), tmp_path, stop_requested=at_turn(turn)
    )
    with pytest.raises(arm.Stopped, match="saved at step") as stopped:
      run.fit()
    steps.append(int(str(stopped.value).split()[-1]))
  assert len(set(steps)) > 2 and steps[0] == 0
  experiment.fit(pair.get_config(argument), tmp_path)
  # A stop writes a line of the training so far; the rest is the same.
  found = outcome(tmp_path, kinds=("validation",))
  for stage in STAGES:
    for name, value in found[stage].items():
      if name != "result.json":
        lines = expected[stage][name]["lines"]
        lines = [x for x in lines if x["kind"] == "validation"]
        assert value == {**expected[stage][name], "lines": lines}
    assert found[stage]["result.json"] == expected[stage]["result.json"]


def test_a_run_that_is_killed_ends_with_the_same_bits(undisturbed, tmp_path):
  argument, expected = undisturbed
  for turn in (2, 11, 9, 14):
    run = experiment.Experiment(
      pair.get_config(argument),
      tmp_path,
      stop_requested=at_turn(turn, error=Killed()),
    )
    with pytest.raises(Killed):
      run.fit()
  experiment.fit(pair.get_config(argument), tmp_path)
  assert outcome(tmp_path) == expected


def test_a_damaged_checkpoint_costs_time_and_no_bits(
  undisturbed, tmp_path, capsys
):
  argument, expected = undisturbed
  run = experiment.Experiment(
    pair.get_config(argument),
    tmp_path,
    # The first arm of the teacher has saved at 8 and at 16.
    stop_requested=at_turn(
      18 if argument == "" else 6, error=Killed()
    ),
  )
  with pytest.raises(Killed):
    run.fit()
  (folder,) = arms(tmp_path, "teacher")
  newest = folder / "checkpoints" / "16"
  largest = max(newest.rglob("*"), key=lambda p: p.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(content)
  capsys.readouterr()
  experiment.fit(pair.get_config(argument), tmp_path)
  said = capsys.readouterr().err
  assert "passed over a checkpoint" in said
  assert "resumed at step 8" in said
  assert outcome(tmp_path) == expected


def test_batches_from_the_host_give_the_same_bits(undisturbed, tmp_path):
  argument, expected = undisturbed
  c = pair.get_config(argument)
  c.data.on_device_mib = 0
  experiment.fit(c, tmp_path)
  assert outcome(tmp_path) == expected


def test_a_checkpoint_holds_the_learned_term_and_no_teacher(undisturbed):
  _, expected = undisturbed
  (name, *_) = [n for n in expected["student"] if n != "result.json"]
  paths = expected["student"][name]["checksums"]
  assert "params/objective/hint/projection/kernel" in paths
  assert "params/models/student/dense/kernel" in paths
  assert "collections/models/student/batch_stats/norm/var" in paths
  assert not [path for path in paths if "teacher" in path]


def test_dispatches_of_one_and_four_steps_agree(tmp_path):
  variables = {}
  for argument in ("", "dispatch=4"):
    run = experiment.fit(
      pair.get_config(argument), tmp_path / f"run{argument}"
    )
    variables[argument] = run.variables("student", 0)
  for x, y in zip(*(pair.leaves(v) for v in variables.values()), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)


def test_sigterm_saves_and_ends_with_75(tmp_path, monkeypatch, capsys):
  workdir = str(tmp_path / "run")
  argv = ["fit", f"--config={pair.__file__}", f"--workdir={workdir}"]
  advance, steps = progress.Progress.advance, []

  def interrupt(self, count):
    advance(self, count)
    steps.append(count)
    if sum(steps) == 51:  # Step 11 of the student's first arm.
      os.kill(os.getpid(), signal.SIGTERM)

  handler = signal.getsignal(signal.SIGTERM)
  monkeypatch.setattr(progress.Progress, "advance", interrupt)
  try:
    assert main.main(argv) == 75
    said = capsys.readouterr().err
    assert "saved at step 11; start again with the same command" in said
    assert "Traceback" not in said
    assert main.main(argv) == 0
    assert "resumed at step 11" in capsys.readouterr().err
  finally:
    signal.signal(signal.SIGTERM, handler)
  experiment.fit(pair.get_config(), tmp_path / "whole")
  found, expected = (
    outcome(tmp_path / name, kinds=("validation",)) for name in ("run", "whole")
  )
  for stage in STAGES:
    # A config that is loaded from a file has names of its own; the bits are
    # the same.
    assert found[stage] == expected[stage]


def best_config(steps=32):
  """A teacher whose best moment is early: it learns, then falls apart."""
  c = pair.get_config(f"steps={steps},save=4")
  c.order = ("teacher",)
  c.stages.teacher.update(
    {"use": "best", "choose_by": "cross_entropy", "learning_rate": 0.5}
  )
  c.stages.teacher.arms = {}
  c.stages.teacher.schedule = spec(rising)
  return c


def rising(timeline):
  """A learning rate that ends far too high."""
  return lambda step: 40.0 * (step / timeline.steps) ** 4 + 0.1


def test_the_best_weights_outlive_restarts(tmp_path):
  whole = experiment.fit(best_config(), tmp_path / "whole")
  expected = whole.record("teacher", 0)
  # The best is not among the latest two, which are kept in any case.
  assert 0 < expected["step"] < 24
  for turn in (13, 11, 7):
    run = experiment.Experiment(
      best_config(), tmp_path / "run", stop_requested=at_turn(turn, Killed())
    )
    with pytest.raises(Killed):
      run.fit()
  run = experiment.fit(best_config(), tmp_path / "run")
  found = run.record("teacher", 0)
  del expected["seconds"], found["seconds"]
  assert found == expected
  for x, y in zip(
    pair.leaves(run.variables("teacher", 0)),
    pair.leaves(whole.variables("teacher", 0)),
    strict=True,
  ):
    np.testing.assert_array_equal(x, y)


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(tmp_path):
  c = pair.get_config("steps=12")
  c.order = ("teacher",)
  c.stages.teacher.arms.learning_rate = (1e30,)
  with pytest.raises(errors.UserError) as error:
    experiment.fit(c, tmp_path)
  text = str(error.value)
  assert text.startswith("teacher, seed 0, rate 1e+30: the loss is nan by step")
  assert "lower learning_rate" in text and "\n" not in text
  # What was spoilt is not saved.
  (folder,) = arms(tmp_path, "teacher")
  assert not list((folder / "checkpoints").iterdir())


def cliff(student):
  """0 with a gradient that is not a number."""
  return jnp.sqrt(student.sum(-1) * 0.0)


def test_a_gradient_that_is_not_finite_is_not_saved(tmp_path):
  c = pair.get_config("steps=1,save=1")
  c.order = ("teacher",)
  c.stages.teacher.objective = {"cliff": config.term(spec(cliff))}
  with pytest.raises(
    errors.UserError, match="the gradient's norm is nan by step 1; lower"
  ):
    experiment.fit(c, tmp_path)
  assert not list((arms(tmp_path, "teacher")[0] / "checkpoints").iterdir())


class Started:
  """`tsjax fit` in a process of its own."""

  def __init__(self, workdir, cache):
    self.since = time.time()
    self.workdir = workdir
    environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(cache),
      "XLA_FLAGS": "",
      "PYTHONPATH": os.pathsep.join(sys.path),
    }
    self.process = subprocess.Popen(
      [
        sys.executable,
        "-m",
        "tsjax",
        "fit",
        f"--config={pair.__file__}:steps=40,save=10,slow",
        f"--workdir={workdir}",
      ],
      env=environment,
      stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      text=True,
    )

  def wait_until_it_trains(self):
    while self.process.poll() is None:
      files = self.workdir.glob("*/seed_0/*/metrics.jsonl")
      if any(f.stat().st_mtime > self.since for f in files):
        return
      time.sleep(0.01)

  def end(self):
    _, said = self.process.communicate(timeout=240)
    return self.process.returncode, said


@pytest.fixture(scope="module")
def slow_run(tmp_path_factory):
  """A run in a process of its own that is left alone, and its cache."""
  folder = tmp_path_factory.mktemp("slow")
  code, said = Started(folder / "run", folder / "cache").end()
  assert code == 0, said
  return outcome(folder / "run"), folder / "cache"


@pytest.mark.slow
def test_a_process_killed_five_times_ends_with_the_same_bits(
  slow_run, tmp_path
):
  expected, cache = slow_run
  moments = random.Random(0)
  killed = 0
  while killed < 5:
    started = Started(tmp_path, cache)
    started.wait_until_it_trains()
    time.sleep(moments.uniform(0.0, 1.5))
    started.process.kill()
    code, said = started.end()
    assert code in (0, -signal.SIGKILL), said
    if code == 0:
      break
    killed += 1
  assert killed > 2  # Else the machine is too fast for the moments above.
  code, said = Started(tmp_path, cache).end()
  assert code == 0, said
  assert outcome(tmp_path) == expected
  assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.slow
def test_a_process_asked_to_end_saves_and_goes_on(slow_run, tmp_path):
  expected, cache = slow_run
  started = Started(tmp_path, cache)
  started.wait_until_it_trains()
  time.sleep(0.7)
  started.process.terminate()
  code, said = started.end()
  assert code == 75, said
  assert "saved at step" in said and "Traceback" not in said
  code, said = Started(tmp_path, cache).end()
  assert code == 0, said
  assert "resumed at step" in said
  found = outcome(tmp_path, kinds=())
  for stage in STAGES:
    for name in found[stage].keys() - {"result.json"}:
      assert found[stage][name]["checksums"] == (
        expected[stage][name]["checksums"]
      )
    assert found[stage]["result.json"] == expected[stage]["result.json"]
