"""What a sweep's points are, and when two of them share a stage."""

import copy
import json
import pathlib

import pytest

from tests.loop import pair
from tsjax import config
from tsjax.config import loading, spec
from tsjax.core import errors, schedules
from tsjax.loop import sweep_grid as grid

PAIR = str(pathlib.Path(pair.__file__))


@pytest.fixture(scope="module")
def base():
  return config.load(PAIR)


def points(base, *flags):
  return grid.points(base, grid.from_flags(flags))


def test_every_combination_is_a_point_with_its_values(base):
  found = points(
    base,
    "--config.stages.student.labels=0.1,0.3",
    "stages.student.objective.hint.weight=1,2,3",
  )
  assert len(found) == 6
  assert found[4].values == {
    "stages.student.labels": 0.3,
    "stages.student.objective.hint.weight": 2,
  }
  assert found[4].name == "labels=0.3,weight=2"
  assert found[4].config.stages.student.labels == 0.3
  assert base.stages.student.objective.hint.weight == 0.1
  assert found[4].flags == (
    "--config.stages.student.labels=0.3",
    "--config.stages.student.objective.hint.weight=2",
  )
  # The flags of a point make its config of the base.
  again = config.load(
    PAIR, [f.removeprefix("--config.") for f in found[4].flags]
  )
  assert loading.as_json(again) == loading.as_json(found[4].config)


def test_commas_within_brackets_and_quotes_are_the_values_own(base):
  found = points(base, "stages.student.arms.learning_rate=(0.1,0.2),[0.3]")
  assert [p.config.stages.student.arms.learning_rate for p in found] == [
    (0.1, 0.2),
    (0.3,),
  ]
  found = points(base, "name='a,b',c")
  assert found[0].config.name == "'a,b'"


def test_names_are_folders_that_tell_keys_apart(base):
  found = points(
    base,
    "stages.student.objective.soft.weight=1,2",
    "stages.student.objective.hint.weight=1,2",
  )
  assert found[0].name == "soft.weight=1,hint.weight=1"
  found = points(base, "name=a/b,a b,../c," + "x" * 200)
  names = [p.name for p in found]
  assert len(set(names)) == 4
  assert all(len(n) < 100 and "/" not in n and " " not in n for n in names)


def test_a_function_gives_values_or_whole_points(base):
  schedule = [spec(schedules.constant), spec(schedules.cosine)]
  found = grid.points(
    base, grid.from_function({"stages.student.schedule": schedule})
  )
  assert [p.name for p in found] == ["schedule=constant", "schedule=cosine"]
  assert found[0].flags == ()
  chosen = [
    {"stages.student.labels": 0.1, "stages.teacher.clip": 1.0},
    {"stages.student.labels": 0.2},
  ]
  found = grid.points(base, grid.from_function(chosen))
  assert found[1].values == {"stages.student.labels": 0.2}
  assert found[1].config.stages.teacher.clip is None


@pytest.mark.parametrize(
  ("flags", "told"),
  [
    (["stages.student.labels"], "write --sweep config.KEY=VALUE"),
    (["stages.student.labels="], "write --sweep config.KEY=VALUE"),
    (["stages.student.labels=0.1,"], "write --sweep config.KEY=VALUE"),
    (["stages.student.labels=0.1"], "this has one: give two values"),
    (["stages.student.labels=0.1,0.1"], "'0.1' comes twice"),
    (["stages.student.labels=0.1,0.10"], "again; drop one"),
    (["seeds=0,1", "config.seeds=2,3"], "config.seeds comes twice"),
    (["stages.studnet.labels=0.1,1"], "did you mean 'student'"),
    (["stages.student=0.1,1"], "this is a section"),
    (["data.source.slow=true,7"], "--sweep config.data.source.slow='7'"),
  ],
)
def test_a_wrong_flag_is_told(base, flags, told):
  with pytest.raises(errors.UserError) as caught:
    points(base, *flags)
  assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("given", "told"),
  [
    ({}, "sweep() returned {}"),
    ([], "sweep() returned []"),
    ([3], "sweep() returned [3]"),
    ({"seeds": 3}, "give a list of values"),
    ({"seeds": []}, "give a list of values"),
    ({3: [1, 2]}, "a key is a text"),
    ({"labels": [1, 2]}, "config.labels is not known"),
    ({"models.student.width": ["wide", "w"]}, "models.student.width='wide'"),
  ],
)
def test_a_wrong_function_is_told(base, given, told):
  with pytest.raises(errors.UserError) as caught:
    grid.points(base, grid.from_function(given))
  assert told in str(caught.value)


def changed(base, key, value):
  c = copy.deepcopy(base)
  node = c
  *path, last = key.split(".")
  for part in path:
    node = node[part]
  node[last] = value
  return c


@pytest.mark.parametrize(
  ("key", "value", "teacher", "student"),
  [
    ("stages.student.labels", 0.2, True, False),
    ("stages.student.objective.soft.weight", 7.0, True, False),
    ("models.student.width", 8, True, False),
    ("stages.teacher.clip", 1.0, False, False),
    ("models.teacher.width", 8, False, False),
    ("data.batch_size", 16, False, False),
    ("data.views.train.shift", 0, False, False),
    ("data.views.other", spec(pair.views.image), True, True),
    ("precision", "bfloat16", False, False),
    ("name", "another", True, True),
    ("seeds", (3, 4), True, True),
    ("line_points", 5, True, True),
  ],
)
def test_a_recipe_is_all_that_training_depends_on(
  base, key, value, teacher, student
):
  other = changed(base, key, value)
  for name, same in (("teacher", teacher), ("student", student)):
    assert (grid.recipe(base, name) == grid.recipe(other, name)) == same


def test_an_ensemble_over_seeds_depends_on_them(base):
  one = copy.deepcopy(base)
  one.stages.student.ensembles.all = config.ensemble(
    members=("teacher",), over_seeds=True
  )
  other = changed(one, "seeds", (3, 4))
  assert grid.recipe(one, "student") != grid.recipe(other, "student")
  assert json.loads(grid.recipe(one, "student"))["needs"].keys() == {"teacher"}
