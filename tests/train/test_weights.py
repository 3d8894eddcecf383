"""Moving average and pull: the interpolation equation inside the step."""

import jax
import numpy as np
import pytest

from tsjax import config, loop, objectives, optim
from tsjax.config import spec
from tsjax.core import errors
from tsjax.data import sources, views
from tsjax.distill import interpolate
from tsjax.loop import arm
from tsjax.loop import feed as feed_lib
from tsjax.models import mlp
from tsjax.tasks import classification


def make_config(**student):
  c = config.run(name="weights", line_points=0)
  c.task = spec(classification.Classification)
  c.data.source = spec(sources.digits)
  c.data.views.train = spec(views.image, shift=1)
  c.models.teacher = spec(mlp.MLP, hidden=(16,))
  c.models.student = spec(mlp.MLP, hidden=(16,))
  labels = config.term(spec(objectives.cross_entropy))
  common = {"optimizer": spec(optim.adam), "learning_rate": 1e-2}
  common |= {"objective": {"labels": labels}, "steps": 6}
  c.stages.teacher = config.stage(train="teacher", **common)
  c.stages.student = config.stage(train="student", **(common | student))
  c.order = ("teacher", "student")
  return c


def states(experiment, stage="student", seed=0, steps=6, teachers=None):
  """Every state of a stage, stepped by hand."""
  built = experiment.parts.stages[stage]
  program = built.program
  feed = feed_lib.Feed(built.split, batch_size=64)
  state, sums = experiment.start(stage, seed), program.zeros()
  stream = feed.steps(seed, 0)
  seen = [jax.tree.map(np.asarray, state)]
  for step in range(steps):
    state, sums = program.run(
      state,
      teachers or {},
      None,
      stream.next(1),
      built.scalars(seed, 1e-2, step, 1),
      sums,
    )
    seen.append(jax.tree.map(np.asarray, state))
  return seen


def test_average_equals_its_recurrence(tmp_path):
  experiment = loop.Experiment(make_config(average=0.9), tmp_path)
  seen = states(experiment)
  average = seen[0].variables("student")
  for state in seen[1:]:
    average = jax.tree.map(
      lambda a, s: np.float64(0.9) * a + np.float64(0.1) * s,
      average,
      state.variables("student"),
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
      average,
      state.averages["student"],
    )


def test_a_stage_ends_with_its_average_and_resumes_it(tmp_path):
  c = make_config(average=0.9, use="average", save_every=2)
  whole = loop.fit(c, tmp_path / "whole")
  counted = iter(range(10**6))
  stopped = loop.Experiment(
    c, tmp_path / "cut", stop_requested=lambda: next(counted) == 9
  )
  with pytest.raises(arm.Stopped):
    stopped.fit()
  again = loop.fit(c, tmp_path / "cut")
  for run in (whole, again):
    assert run.record("student", 0)["step"] == 6
  jax.tree.map(
    np.testing.assert_array_equal,
    whole.variables("student", 0),
    again.variables("student", 0),
  )
  last = states(whole)[-1]
  jax.tree.map(
    np.testing.assert_array_equal,
    last.averages["student"],
    jax.tree.map(np.asarray, whole.variables("student", 0)),
  )


def test_the_average_teaches(tmp_path):
  soft = config.term(spec(objectives.soft_targets), teacher="average")
  # Not Adam: it makes full steps of gradients that are rounding errors.
  c = make_config(
    average=0.5, objective={"soft": soft}, optimizer=spec(optim.sgd)
  )
  seen = states(loop.Experiment(c, tmp_path))
  # At the first step student and average are one: no loss and no gradient.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    seen[0].params["models"],
    seen[1].params["models"],
  )


def test_pull_is_the_equation_on_the_steps_that_are_due(tmp_path):
  # A rate of zero: whatever moves the weights is the pull.
  c = make_config(
    teachers=("teacher",),
    pull=config.pull(teacher="teacher", every=3, alpha=-0.75),
    learning_rate=0.0,
  )
  experiment = loop.fit(c, tmp_path)
  teacher = experiment.variables("teacher", 0)["params"]
  begun = experiment.start("student", 0).params["models"]["student"]
  once = interpolate.interpolate(begun, teacher, -0.75)
  twice = interpolate.interpolate(once, teacher, -0.75)
  jax.tree.map(
    np.testing.assert_array_equal,
    twice,
    experiment.variables("student", 0)["params"],
  )


def test_pull_leaves_what_does_not_match():
  student = {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}
  teacher = {"a": np.ones(2, np.float32), "b": np.ones(4, np.float32)}
  moved = interpolate.pull(student, teacher, 0)
  np.testing.assert_array_equal(moved["a"], np.ones(2))
  np.testing.assert_array_equal(moved["b"], np.zeros(3))
  with pytest.raises(errors.UserError, match="no leaf of the student"):
    interpolate.pull(student, {"c": np.ones(2, np.float32)}, 0)
