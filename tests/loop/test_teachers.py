"""Teachers of every kind in real stages, on the digits."""

import jax
import numpy as np
import pytest

from tsjax import config, loop, objectives, optim
from tsjax.config import spec
from tsjax.core import errors
from tsjax.data import sources, views
from tsjax.loop import feed as feed_lib
from tsjax.models import mlp
from tsjax.tasks import classification

STEPS, RATE = 6, 0.5


def make_config(**stages):
  """Plain models and plain descent: a step can be written out again."""
  c = config.run(name="teachers", seeds=(0, 1), line_points=0)
  c.task = spec(classification.Classification)
  c.data.source = spec(sources.digits)
  c.data.batch_size = 32
  c.data.views.train = spec(views.image)
  for name in ("teacher", "one", "two"):
    c.models[name] = spec(mlp.MLP, hidden=(16,), classes=10)
  labels = config.term(spec(objectives.cross_entropy))
  common = dict(
    optimizer=spec(optim.sgd, momentum=0.0), learning_rate=RATE, steps=STEPS
  )
  for name, values in stages.items():
    c.stages[name] = config.stage(
      **{"objective": {"labels": labels}, **common, **values}
    )
  c.order = tuple(stages)
  return c


def soft(**options):
  return config.term(spec(objectives.soft_targets), **options)


COHORT = {
  "train": ("one", "two"),
  "objective": {
    "labels": config.term(spec(objectives.cross_entropy), student="one"),
    "first": soft(student="one", teacher="two"),
    "second": soft(student="two", teacher="one", temperature=2.0),
  },
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
  c = make_config(
    teacher={"train": "teacher"},
    cohort=COHORT,
    student={
      "train": "teacher",
      "teachers": ("cohort.two",),
      "objective": {"soft": soft()},
    },
  )
  return loop.fit(c, tmp_path_factory.mktemp("cohort"))


def test_members_of_a_cohort_are_judged_by_themselves(cohort):
  names = ("teacher", "cohort.one", "cohort.two", "student")
  assert cohort.parts.judged == names
  assert tuple(cohort.results["stages"]) == names
  kernels = [
    cohort.variables(name, 0)["params"]["head"]["kernel"]
    for name in ("cohort.one", "cohort.two")
  ]
  assert not np.array_equal(*kernels)
  validation = cohort.record("cohort", 0)["validation"]
  assert validation["f1"] == pytest.approx(
    (validation["one/f1"] + validation["two/f1"]) / 2
  )
  with pytest.raises(errors.UserError, match="'cohort' is no trained model"):
    cohort.variables("cohort", 0)


def one_step(experiment, name, seed=0):
  """A stage's first batch, and its parameters before and after the step."""
  stage = experiment.parts.stages[name]
  stream = feed_lib.Feed(stage.split, batch_size=32).steps(seed, 0)
  batch = stream.next(1)
  stream.close()
  state = stage.program.init(seed)
  # Read now: the step takes the state's memory over.
  before = jax.device_get(state.params["models"])
  taught = stage.program.put_teachers(
    {
      m: experiment.variables(m.stage, seed if m.seed is None else m.seed)
      for m in stage.program.members
    }
  )
  scalars = stage.scalars(seed, RATE, 0, 1)
  state, _ = stage.program.run(
    state, taught, None, batch, scalars, stage.program.zeros()
  )
  after = jax.device_get(state.params["models"])
  return {k: v[0] for k, v in batch.items()}, before, after


def apply(experiment, name, params, batch):
  module = experiment.parts.modules[name]
  return module.apply({"params": params}, batch["image"], train=False)


def test_members_of_a_cohort_see_each_other_in_the_same_step(cohort):
  batch, before, after = one_step(cohort, "cohort")
  said = {
    name: apply(cohort, name, before[name], batch) for name in ("one", "two")
  }

  def loss(params):
    # Of `two`: its peer is taken as it is before the step.
    own = apply(cohort, "two", params, batch)
    return objectives.soft_targets(own, said["one"], temperature=2.0).mean()

  expected = jax.tree.map(
    lambda p, g: p - RATE * g, before["two"], jax.grad(loss)(before["two"])
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    after["two"],
    expected,
  )
  # And not after it, which this measure would tell apart.
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
  assert max(jax.tree.leaves(moved["one"])) > 1e-3


def test_a_member_of_a_cohort_teaches_later(cohort):
  batch, before, after = one_step(cohort, "student")
  teacher = cohort.variables("cohort.two", 0)["params"]
  target = apply(cohort, "two", teacher, batch)

  def loss(params):
    own = apply(cohort, "teacher", params, batch)
    return objectives.soft_targets(own, target).mean()

  gradient = jax.grad(loss)(before["teacher"])
  jax.tree.map(
    lambda a, b, g: np.testing.assert_allclose(
      a, b - RATE * g, rtol=1e-5, atol=1e-6
    ),
    after["teacher"],
    before["teacher"],
    gradient,
  )


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory):
  c = make_config(
    teacher={"train": "teacher"},
    other={"train": "one"},
    student={
      "train": "two",
      "ensembles": {
        "both": config.ensemble(
          members=("teacher", "other"), weights=(1.0, 3.0), over_seeds=True
        )
      },
      "objective": {"soft": soft(temperature=2.0)},
    },
  )
  folder = tmp_path_factory.mktemp("ensembles")
  return loop.fit(c, folder), c, folder


def test_an_ensemble_teaches_the_mean_over_members_and_seeds(ensembles):
  experiment, _, _ = ensembles
  batch, before, after = one_step(experiment, "student", seed=1)
  logits = {
    (name, seed): apply(
      experiment, "teacher", experiment.variables(name, seed)["params"], batch
    )
    for name in ("teacher", "other")
    for seed in (0, 1)
  }
  weights = {"teacher": 1 / 8, "other": 3 / 8}
  mean = sum(weights[k[0]] * jax.nn.softmax(x) for k, x in logits.items())

  def loss(params):
    own = apply(experiment, "two", params, batch)
    return objectives.soft_targets(own, np.log(mean), temperature=2.0).mean()

  gradient = jax.grad(loss)(before["two"])
  jax.tree.map(
    lambda a, b, g: np.testing.assert_allclose(
      a, b - RATE * g, rtol=1e-5, atol=1e-6
    ),
    after["two"],
    before["two"],
    gradient,
  )


def test_an_ensemble_over_seeds_holds_the_seeds_fast(ensembles):
  _, c, folder = ensembles
  c = c.copy_and_resolve_references()
  c.seeds = (0, 1, 2)
  with pytest.raises(errors.UserError, match=r"config\.seeds was \[0, 1\]"):
    loop.fit(c, folder)


def test_stages_of_one_shape_share_a_program(ensembles):
  experiment, _, _ = ensembles
  stages = experiment.parts.stages
  # The models differ in name only, which their keys are drawn from.
  assert stages["teacher"].program is not stages["other"].program
  c = make_config(
    teacher={"train": "teacher"},
    again={"train": "teacher", "learning_rate": 0.1, "steps": 9, "labels": 0.1},
    soft={
      "train": "one",
      "teachers": ("teacher",),
      "objective": {"soft": soft(weight=2.0)},
    },
    warm={
      "train": "one",
      "teachers": ("teacher",),
      "objective": {"soft": soft(temperature=8.0)},
    },
    other={
      "train": "one",
      "teachers": ("again",),
      "objective": {"soft": soft()},
    },
  )
  shared = loop.Experiment(c, "unused").parts.stages
  assert shared["teacher"].program is shared["again"].program
  assert shared["soft"].program is shared["warm"].program
  # Another teacher is another argument of the step.
  assert shared["soft"].program is not shared["other"].program
