"""A config, read back: keys, types, names."""

import dataclasses
import pathlib

import pytest

from tsjax import config, objectives, optim
from tsjax.config import checked, loading, sections, spec, stages
from tsjax.core import errors, schedules
from tsjax.data import sources, views
from tsjax.models import mlp
from tsjax.tasks import classification

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def stage(**values):
  values.setdefault("optimizer", spec(optim.sgd))
  values.setdefault(
    "objective", {"labels": config.term(spec(objectives.cross_entropy))}
  )
  return config.stage(**values)


@pytest.fixture
def c():
  """A teacher that teaches a student."""
  c = config.run(name="mine")
  c.task = spec(classification.Classification)
  c.data.source = spec(sources.digits)
  c.data.views.train = spec(views.image)
  for name in ("teacher", "student"):
    c.models[name] = spec(mlp.MLP, hidden=(8,), classes=10)
  c.stages.teacher = stage(train="teacher", learning_rate=1)
  c.stages.student = stage(
    train="student",
    teachers=("teacher",),
    objective={
      "labels": config.term(spec(objectives.cross_entropy)),
      "soft": config.term(spec(objectives.soft_targets), temperature=4),
    },
    groups={"all": config.group(match=".*")},
  )
  c.order = ("teacher", "student")
  return c


def test_a_checked_run_is_frozen_and_typed(c):
  run = checked.check(c)
  assert isinstance(run, sections.Run)
  soft = run.stages["student"].objective["soft"]
  assert isinstance(soft.temperature, float)
  assert isinstance(run.stages["teacher"].learning_rate, float)
  assert run.stages["student"].groups["all"] == sections.Group()
  assert run.seeds == (0,)
  assert stages.trained(run.stages["student"]) == ("student",)
  with pytest.raises(dataclasses.FrozenInstanceError):
    run.name = "other"


def test_numbers_may_become_schedules(c):
  schedule = spec(schedules.linear)
  c.stages.student.objective.soft.weight = schedule
  c.stages.student.objective.soft.temperature = schedule
  soft = checked.check(c).stages["student"].objective["soft"]
  assert soft.weight.call is schedules.linear


@pytest.mark.parametrize(
  "path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.name
)
def test_every_config_in_the_repository_is_right(path):
  assert checked.check(loading.load(str(path))).order


@pytest.mark.parametrize(
  "key,value,message",
  [
    ("name", 3, "config.name=3: expected str, not int"),
    ("seeds", 3, "config.seeds=3: expected a tuple"),
    ("seeds", ("a",), r"config.seeds\[0\]='a': expected int"),
    ("seeds", (1, 1), "each once"),
    ("seeds", (-1,), "-1 is no seed"),
    ("data.batch_size", True, "batch_size=True: expected int, not bool"),
    ("data.batch_size", 0, "must be at least 1"),
    ("data.source", "digits", r"source='digits': expected spec\(function"),
    ("mesh", 8, "config.mesh=8: expected a section"),
    ("reference", "techer", "is no stage: did you mean 'teacher'"),
    ("order", ("teacher",), "'student' must stand in it once"),
    ("order", ("teacher", "studnet"), "no stage: did you mean 'student'"),
    ("stages.student.clip", "1", "clip='1': expected float or None"),
    ("stages.student.lr", 1.0, "config.stages.student.lr is not known"),
    ("stages.student.train", "studnet", "is no model: did you mean 'student'"),
    ("stages.teacher.teachers", ("student",), "does not come before it"),
    ("stages.student.view", "trian", "is no view: did you mean 'train'"),
    ("stages.student.teachers", (), "needs a teacher and the stage has 0"),
    ("stages.student.labels", 0.0, r"a share of the labels in \(0, 1\]"),
    ("stages.student.accumulate", 7, "does not divide config.data.batch_size"),
    ("stages.student.objective", {}, "objective is empty"),
    ("stages.student.objective.soft.on", "labeled", "did you mean 'labelled'"),
    ("stages.student.objective.soft.temperature", 0.0, "must be above 0"),
    ("stages.student.objective.soft.teacher", "x", "does not teach here"),
    (
      "stages.student.objective.labels.temperature",
      2.0,
      "the loss takes no temperature",
    ),
    (
      "stages.student.objective.labels.teacher",
      "teacher",
      "the loss does not read a teacher",
    ),
  ],
)
def test_mistakes_name_key_value_and_remedy(c, key, value, message):
  node = c
  *path, last = key.split(".")
  for name in path:
    node = node[name]
  node[last] = value
  with pytest.raises(errors.UserError, match=message) as told:
    checked.check(c)
  assert "\n" not in str(told.value)


def test_a_value_without_a_default_must_be_set(c):
  del c.task
  with pytest.raises(errors.UserError, match=r"config.task is missing"):
    checked.check(c)


def test_models_trained_together_say_who_learns(c):
  c.stages.student.train = ("student", "teacher")
  with pytest.raises(
    errors.UserError, match="student is missing: the stage trains student, te"
  ):
    checked.check(c)
