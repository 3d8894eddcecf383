"""A run that is stopped, killed or damaged ends as one that was not."""

import dataclasses
import functools
import json
import os
import random
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest

from tests.loop import pair, runs
from tsjax import config, main
from tsjax.config import spec
from tsjax.core import errors
from tsjax.loop import arm, experiment
from tsjax.report import progress


class Killed(BaseException):
  """Ends a run at once, as far as that can be done within one process."""


def at_turn(turn, error=None):
  """Asks the run to stop at its n-th turn, or breaks it off there."""
  turns = iter(range(10**9))

  def stop_requested():
    if next(turns) < turn:
      return False
    if error is not None:
      raise error
    return True

  return stop_requested


@dataclasses.dataclass(frozen=True)
class Undisturbed:
  """A run to which nothing happened."""

  outcome: dict
  variables: dict


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """Makes undisturbed runs, once for each argument of the config."""

  @functools.cache
  def make(argument=""):
    workdir = tmp_path_factory.mktemp("undisturbed")
    run = experiment.fit(pair.get_config(argument), workdir)
    return Undisturbed(
      runs.outcome(workdir),
      {stage: pair.leaves(run.variables(stage, 0)) for stage in runs.STAGES},
    )

  return make


def assert_only_lines_differ(found, expected):
  """A stop writes a line of the training until then; the rest is the same."""
  for stage in runs.STAGES:
    assert found[stage].keys() == expected[stage].keys()
    for name, ours in found[stage].items():
      theirs = dict(expected[stage][name])
      for side in (ours, theirs):
        side["lines"] = [
          x for x in side.get("lines", ()) if x["kind"] == "validation"
        ]
      assert ours == theirs


@pytest.mark.parametrize(
  ("argument", "turns"),
  [
    # Before the first step, off the schedule of saves, in later arms and
    # stages.
    ("", (0, 9, 45)),
    pytest.param("dispatch=4", (0, 3, 9, 4, 15), marks=pytest.mark.slow),
  ],
)
def test_a_run_that_is_stopped_ends_with_the_same_bits(
  undisturbed, tmp_path, argument, turns
):
  steps = []
  for turn in turns:
    run = experiment.Experiment(
      pair.get_config(argument), tmp_path, stop_requested=at_turn(turn)
    )
    with pytest.raises(arm.Stopped, match="saved at step") as stopped:
      run.fit()
    steps.append(int(str(stopped.value).split()[-1]))
  assert len(set(steps)) > 2 and steps[0] == 0
  experiment.fit(pair.get_config(argument), tmp_path)
  expected = undisturbed(argument).outcome
  assert_only_lines_differ(runs.outcome(tmp_path), expected)


@pytest.mark.parametrize(
  ("argument", "turns"),
  [("", (11, 27, 45)), ("dispatch=4", (6, 22))],
)
def test_a_run_that_is_killed_ends_with_the_same_bits(
  undisturbed, tmp_path, argument, turns
):
  for turn in turns:
    run = experiment.Experiment(
      pair.get_config(argument),
      tmp_path,
      stop_requested=at_turn(turn, error=Killed()),
    )
    with pytest.raises(Killed):
      run.fit()
  experiment.fit(pair.get_config(argument), tmp_path)
  assert runs.outcome(tmp_path) == undisturbed(argument).outcome


# Orbax leaves futures behind whose reading failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_costs_time_and_no_bits(
  undisturbed, tmp_path, capsys
):
  run = experiment.Experiment(
    pair.get_config(), tmp_path, stop_requested=at_turn(18, error=Killed())
  )
  with pytest.raises(Killed):
    run.fit()
  (folder,) = runs.arms(tmp_path, "teacher")
  for path in (folder / "checkpoints" / "16" / "state").rglob("d/*"):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
  capsys.readouterr()
  experiment.fit(pair.get_config(), tmp_path)
  said = capsys.readouterr().err
  assert "passed over a checkpoint" in said
  assert "resumed at step 8" in said
  assert runs.outcome(tmp_path) == undisturbed().outcome


def test_batches_from_the_host_give_the_same_bits(undisturbed, tmp_path):
  c = pair.get_config()
  c.data.on_device_mib = 0
  experiment.fit(c, tmp_path)
  assert runs.outcome(tmp_path) == undisturbed().outcome


def test_one_and_four_steps_of_a_dispatch_agree(undisturbed):
  one, four = undisturbed().variables, undisturbed("dispatch=4").variables
  for stage in runs.STAGES:
    for x, y in zip(one[stage], four[stage], strict=True):
      np.testing.assert_allclose(x, y, atol=1e-5)


def test_a_checkpoint_holds_the_learned_term_and_no_teacher(undisturbed):
  expected = undisturbed().outcome
  (name, *_) = [n for n in expected["student"] if n != "result.json"]
  paths = expected["student"][name]["checksums"]
  assert "params/objective/hint/projection/kernel" in paths
  assert "params/models/student/dense/kernel" in paths
  assert "collections/models/student/batch_stats/norm/var" in paths
  assert not [path for path in paths if "teacher" in path]


def test_sigterm_saves_and_ends_with_75(
  undisturbed, tmp_path, monkeypatch, capsys
):
  argv = ["fit", f"--config={pair.__file__}", f"--workdir={tmp_path}"]
  advance, steps = progress.Progress.advance, []

  def interrupt(self, count):
    advance(self, count)
    steps.append(count)
    if sum(steps) == 59:  # Step 11 of the student's first arm.
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
  assert_only_lines_differ(runs.outcome(tmp_path), undisturbed().outcome)


def best_config(steps=32):
  """A teacher whose best moment is early: it learns, then falls apart."""
  c = pair.get_config(f"steps={steps},save=4,alone")
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


@pytest.mark.parametrize("where", ["manifest/metadata", "state/d/*"])
def test_a_damaged_best_is_trained_again(tmp_path, where, capsys):
  run = experiment.fit(best_config(), tmp_path)
  expected = run.record("teacher", 0)
  before = runs.outcome(tmp_path, ("teacher",))
  # As a run that was killed just before it wrote what it came to.
  (tmp_path / "teacher" / "seed_0" / "result.json").unlink()
  best = (
    runs.arms(tmp_path, "teacher")[0] / "checkpoints" / str(expected["step"])
  )
  for path in best.glob(where):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
  capsys.readouterr()
  experiment.fit(best_config(), tmp_path)
  (line,) = [
    x for x in capsys.readouterr().err.splitlines() if "trained again" in x
  ]
  assert f"checkpoints/{expected['step']}: " in line
  assert runs.outcome(tmp_path, ("teacher",)) == before


def test_damaged_lines_are_left_out_with_a_line(tmp_path, capsys):
  c = pair.get_config("alone")
  run = experiment.Experiment(
    c, tmp_path, stop_requested=at_turn(18, error=Killed())
  )
  with pytest.raises(Killed):
    run.fit()
  path = runs.arms(tmp_path, "teacher")[0] / "metrics.jsonl"
  text = path.read_text()
  path.write_text(text.replace('"loss": 2.', '"loss": 3.', 1))
  assert path.read_text() != text
  capsys.readouterr()
  experiment.fit(c, tmp_path)
  assert "metrics.jsonl: line 1 damaged: left out" in capsys.readouterr().err
  results = json.loads((tmp_path / "report" / "results.json").read_text())
  curve = results["stages"]["teacher"]["curves"][0]["train"]
  assert curve["step"] == [8, 10, 15, 16, 20, 24]


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(tmp_path):
  c = pair.get_config("steps=12,alone")
  c.stages.teacher.arms.learning_rate = (1e30,)
  with pytest.raises(errors.UserError) as error:
    experiment.fit(c, tmp_path)
  text = str(error.value)
  assert text == (
    "teacher, seed 0, rate 1e+30: term 'labels' is nan at step 2; the first"
    " value that is not finite: tap 'hidden' of model 'teacher' (nan); last"
    " good checkpoint: none; lower learning_rate, or set clip"
  )
  # What was spoilt is not saved.
  (folder,) = runs.arms(tmp_path, "teacher")
  assert not list((folder / "checkpoints").iterdir())


def cliff(student):
  """0 with a gradient that is not a number."""
  return jnp.sqrt(student.sum(-1) * 0.0)


def test_a_gradient_that_is_not_finite_is_not_saved(tmp_path):
  c = pair.get_config("steps=1,save=1,alone")
  c.stages.teacher.objective = {"cliff": config.term(spec(cliff))}
  with pytest.raises(
    errors.UserError, match="the gradient is not finite at step 1, though"
  ):
    experiment.fit(c, tmp_path)
  assert not list((runs.arms(tmp_path, "teacher")[0] / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def slow_run(tmp_path_factory):
  """A run in a process of its own that is left alone, and its cache."""
  folder = tmp_path_factory.mktemp("slow")
  code, said = runs.Started(folder / "run", folder / "cache").end()
  assert code == 0, said
  return runs.outcome(folder / "run"), folder / "cache"


@pytest.mark.slow
def test_a_process_killed_five_times_ends_with_the_same_bits(
  slow_run, tmp_path
):
  expected, cache = slow_run
  moments = random.Random(0)
  killed = 0
  while killed < 5:
    started = runs.Started(tmp_path, cache)
    started.wait_until_it_trains()
    time.sleep(moments.uniform(0.0, 1.5))
    started.process.kill()
    code, said = started.end()
    assert code in (0, -signal.SIGKILL), said
    if code == 0:
      break
    killed += 1
  assert killed > 2  # Else the machine is too fast for the moments above.
  code, said = runs.Started(tmp_path, cache).end()
  assert code == 0, said
  assert runs.outcome(tmp_path) == expected
  assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.slow
def test_a_process_asked_to_end_saves_and_goes_on(slow_run, tmp_path):
  expected, cache = slow_run
  started = runs.Started(tmp_path, cache)
  started.wait_until_it_trains()
  time.sleep(0.7)
  started.process.terminate()
  code, said = started.end()
  assert code == 75, said
  assert "saved at step" in said and "Traceback" not in said
  code, said = runs.Started(tmp_path, cache).end()
  assert code == 0, said
  assert "resumed at step" in said
  assert_only_lines_differ(runs.outcome(tmp_path), expected)
