"""A loss that is not finite is traced to its step, its term and its place."""

import dataclasses

from etils import epath
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import config, objectives, optim
from tsjax.checkpoint import store as store_lib
from tsjax.config import checked, spec
from tsjax.core import errors, taps
from tsjax.data import order, sources
from tsjax.distill import teachers as teachers_lib
from tsjax.loop import arm as arm_lib
from tsjax.loop import build, diagnose, programs
from tsjax.loop import feed as feed_lib
from tsjax.report import progress
from tsjax.tasks import classification

SIZE, BATCH = 64, 16
PROGRAMS = programs.Programs()


class Block(nn.Module):
  """Offers a tap "z", and then one "a"; the first breaks on large inputs."""

  limit: float

  @nn.compact
  def __call__(self, x):
    # log of a negative number, and only there.
    broken = jnp.where(x.max() > self.limit, jnp.log(-jnp.abs(x) - 1), 0.0)
    x = taps.tap(self, "z", nn.Dense(8, name="dense")(x) + broken[:, :1])
    return taps.tap(self, "a", jnp.tanh(x))


class Model(nn.Module):
  """A tap before the block, which is rematerialised, and one behind it."""

  limit: float = 1e30
  axis_name: str | None = None

  @nn.compact
  def __call__(self, inputs, *, train):
    x = taps.tap(self, "stem", inputs)
    taps.tap(self, "excluded", jnp.full_like(x[:, 0], -jnp.inf))
    x = nn.remat(Block)(self.limit, name="block")(x)
    x = nn.Dropout(0.1, deterministic=not train)(x)
    return taps.tap(self, "logits", nn.Dense(3, name="head")(x))


class Source(sources.Arrays):
  """64 points; the image of example 21 is a power of ten."""

  value: float = 1.0

  def read(self, split, rows):
    batch = super().read(split, rows)
    images = np.array(batch["image"])
    images[np.asarray(rows) == 21, 3] = self.value
    return batch | {"image": images}


def source(value=1.0):
  """The points, with a value for example 21."""
  draws = np.random.default_rng(0)
  arrays = {
    split: {
      "image": draws.normal(size=(SIZE, 8)).astype(np.float32),
      "label": np.arange(SIZE) % 3,
    }
    for split in ("train", "test")
  }
  made = Source(arrays, ("a", "b", "c"))
  object.__setattr__(made, "value", value)
  return made


def image():
  """A view of the image as it is."""
  return lambda example, key: example["image"]


def cliff(student):
  """0 with a slope that is not a number."""
  return jnp.sqrt(student.sum(-1) * 0.0)


def steep():
  """A finite loss whose first update is not."""
  return {"soft": config.term(spec(objectives.soft_targets), weight=1e6)}


@dataclasses.dataclass
class Run:
  """One arm of a student that has a teacher, ready to run."""

  arm: arm_lib.Arm
  lines: list

  def error(self):
    with pytest.raises(errors.UserError) as error:
      arm_lib.train(self.arm)
    assert "\n" not in str(error.value)
    return str(error.value)

  @property
  def checkpoints(self):
    folder = self.arm.folder / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir())


@pytest.fixture
def make(tmp_path):
  """Makes a run that will fail."""

  def start(
    *,
    value=1.0,
    limit=1e30,
    objective=None,
    teacher=lambda variables: variables,
    state=lambda state: state,
    resident=True,
    strategy="jit",
    rate=0.1,
    save=6,
    **options,
  ):
    c = config.run(name="broken", line_points=0)
    c.task = spec(classification.Classification)
    c.data.source = spec(source, value=value)
    c.data.batch_size = BATCH
    c.data.validation = 0.0
    c.data.views.train = spec(image)
    c.models.teacher = spec(Model)
    c.models.student = spec(Model, limit=limit)
    c.mesh.strategy = strategy
    common = dict(optimizer=spec(optim.sgd), steps=20, learning_rate=rate)
    soft = config.term(spec(objectives.soft_targets), temperature=2.0)
    c.stages.teacher = config.stage(
      train="teacher",
      objective={"labels": config.term(spec(objectives.cross_entropy))},
      **common,
    )
    c.stages.student = config.stage(
      train="student",
      teachers=("teacher",),
      objective=objective or {"soft": soft},
      log_every=5,
      save_every=save,
      **common,
      **options,
    )
    c.order = ("teacher", "student")
    parts = build.build(checked.check(c), programs=PROGRAMS)
    stage, whole = parts.stages["student"], parts.splits["train"]
    teacher_variables = parts.stages["teacher"].program.init(0)
    variables = teacher(teacher_variables.variables("teacher"))
    lines = []
    shown = progress.Progress(20)
    shown.line = lines.append
    arm = arm_lib.Arm(
      stage=stage,
      seed=0,
      learning_rate=rate,
      folder=epath.Path(tmp_path / "arm"),
      feed=feed_lib.Feed(
        stage.split,
        batch_size=BATCH,
        whole=whole,
        resident=feed_lib.reside(whole, parts.placement.mesh, 2**20)
        if resident
        else None,
      ),
      teachers=stage.program.put_teachers(
        {teachers_lib.Member("teacher"): variables}
      ),
      begin=lambda: state(stage.program.init(0)),
      evaluate=None,
      sign=1.0,
      keep=2,
      progress=shown,
      stop_requested=lambda: False,
    )
    return Run(arm, lines)

  return start


def step_of(example):
  """The step, from 1, that first sees an example."""
  _, rows = order.Order(SIZE, 0).at(np.arange(SIZE))
  return int(np.flatnonzero(rows == example)[0]) // BATCH + 1


@pytest.mark.parametrize(
  "options",
  [
    {},
    pytest.param({"resident": False}, marks=pytest.mark.slow),
    pytest.param({"steps_per_dispatch": 3}, marks=pytest.mark.slow),
    {"strategy": "pmap"},
    {"steps_per_dispatch": 5, "resident": False, "save": 5},
  ],
)
def test_a_bad_value_in_the_data_is_traced(make, options):
  run = make(value=np.nan, **options)
  step = step_of(21)
  assert step > 2
  text = run.error()
  assert text.startswith(
    "student, seed 0, rate 0.1: term 'soft' is nan at step"
    f" {step}; the first value that is not finite: the input of teacher"
    " 'teacher' (nan); field 'image' of example 21 holds nan; last good"
    " checkpoint: "
  )
  assert text.endswith("; mend that example, or leave it out")
  assert all(saved < step for saved in run.checkpoints)
  (line,) = run.lines
  assert "is nan by step" in line and "repeating the steps from" in line


@pytest.mark.parametrize(
  "accumulate", [1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_the_first_tap_is_the_first_of_the_forward_pass(make, accumulate):
  # Rematerialised, and so sorted: "a" would stand before "z". And what is
  # -inf by design is not it.
  run = make(value=50.0, limit=20.0, accumulate=accumulate)
  text = run.error()
  assert "the first value that is not finite: tap 'block/z' of model" in text
  assert f"term 'soft' is nan at step {step_of(21)}; " in text
  assert "holds" not in text and "already" not in text
  assert text.endswith("lower learning_rate, or set clip")


def test_the_last_good_checkpoint_is_named_and_kept(make):
  step = step_of(21)
  run = make(value=np.nan, save=step - 1)
  kept = f"step {step - 1}, from which the next start goes on"
  text = run.error()
  assert f"last good checkpoint: {kept}; " in text
  assert run.checkpoints == [step - 1]
  assert f"repeating the steps from {step - 1} on" in run.lines[0]
  # The next start says the same.
  assert run.error() == text


def test_without_a_checkpoint_there_is_none(make):
  assert "last good checkpoint: none; " in make(value=np.nan, save=20).error()


def test_a_teacher_that_is_not_finite_is_named(make):
  def broken(variables):
    kernel = variables["params"]["block"]["dense"]["kernel"]
    kernel = kernel.at[0, 0].set(jnp.nan)
    params = {**variables["params"]}
    params["block"] = {"dense": {**params["block"]["dense"], "kernel": kernel}}
    return {"params": params}

  text = make(teacher=broken).error()
  assert "term 'soft' is nan at step 1; " in text
  # In a first step nothing tells what is -inf by design.
  assert "tap 'excluded' of teacher 'teacher' (inf), the first nan: tap" in text
  assert "the first nan: tap 'block/z' of teacher 'teacher'; last" in text
  assert text.endswith("look at that teacher")


def test_an_update_that_went_too_far_is_told_from_its_loss(make):
  text = make(objective=steep(), rate=1e38).error()
  assert "term 'soft' is nan at step 2; the first value" in text
  assert "tap 'block/z' of model 'student' (nan); parameter 'models/stu" in text
  assert "/bias' was inf already after the update of step 1; last" in text
  assert text.endswith("lower learning_rate, or set clip")


def test_a_start_that_is_not_finite_is_told(make):
  objective = {
    "hint": config.term(
      spec(objectives.Hint), student_tap="stem", teacher_tap="stem"
    )
  }

  def spoil(state):
    projection = state.params["objective"]["hint"]["projection"]
    kernel = projection["kernel"].at[0, 0].set(jnp.nan)
    learned = {"hint": {"projection": {**projection, "kernel": kernel}}}
    return state.replace(params={**state.params, "objective": learned})

  text = make(objective=objective, state=spoil).error()
  assert "term 'hint' is nan at step 1" in text
  assert (
    "parameter 'objective/hint/projection/kernel' was nan already when the"
    " stage began" in text
  )
  assert text.endswith("look at the stage's start")


def test_a_gradient_that_is_not_finite_is_told_from_the_loss(make):
  text = make(objective={"cliff": config.term(spec(cliff))}).error()
  assert (
    "the gradient is not finite at step 1, though every loss is; the first"
    " value that is not finite: the gradient of 'block/dense/bias' of model"
    " 'student' (nan); last good checkpoint: none; look for a function" in text
  )


def test_a_weight_that_overflows_in_the_last_step_is_not_saved(make):
  # The loss of a step is that of the weights before it.
  run = make(objective=steep(), rate=1e38, save=1)
  text = run.error()
  assert "by step 1; last good checkpoint: none;" in text
  assert "though the loss is finite still" in text
  assert run.checkpoints == []


def test_a_step_that_cannot_be_repeated_still_ends_in_a_line(make, monkeypatch):
  def fail(*args, **kwargs):
    raise MemoryError("no room\nfor two states")

  monkeypatch.setattr(diagnose, "_copy", fail)
  text = make(value=np.nan).error()
  assert "the loss is nan by step" in text
  assert "(where could not be found: MemoryError: no room for two" in text
  assert text.endswith("lower learning_rate, or set clip")


def test_a_failure_that_does_not_come_again_is_told(make, tmp_path):
  run = make()
  store = store_lib.Store(tmp_path / "arm" / "checkpoints")
  failure = diagnose.NotFinite(0, 5, "the loss is nan")
  text = str(diagnose.explain(run.arm, store, failure))
  store.close()
  assert "the loss is nan by step 5 (not when the steps were repeated)" in text


def test_the_watch_takes_the_same_step(make):
  run = make()
  program = run.arm.stage.program
  watch = diagnose.watch_lib.Watch(program)
  batch = run.arm.feed.steps(0, 0).next(1)
  scalars = run.arm.stage.scalars(0, 0.1, 0, 1)
  ends = [
    p.run(
      program.enter(program.init(0)),
      run.arm.teachers,
      run.arm.feed.resident,
      batch,
      scalars,
      program.zeros(),
    )
    for p in (program, watch.program)
  ]
  for x, y in zip(*map(jax.tree.leaves, ends), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6)
  # What it saw is what is so by design.
  assert set(watch.seen().values()) == {"inf"}
  assert watch.seen() == {}
