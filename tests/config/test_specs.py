"""Specs: a call that is written now and made later."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import pytest

from tsjax.config import spec, specs
from tsjax.core import errors, schedules
from tsjax.models import resnet


def scale(x, *, factor=2.0, shift=None, axes=(1, 2)):
  return x, factor, shift, axes


def keep(**values):
  return values


class Scale:
  """A plain class."""

  def __init__(self, factor=2.0):
    self.factor = factor

  def __call__(self, student, teacher):
    return self.factor * (student - teacher)


def test_a_spec_records_given_values_and_defaults():
  recorded = spec(scale, factor=3.0)
  assert recorded.call is scale
  assert recorded.factor == 3.0
  assert recorded.shift is None
  assert recorded.axes == (1, 2)
  assert "x" not in recorded
  assert specs.is_spec(recorded)
  assert not specs.is_spec({"call": scale})


def test_a_default_of_none_may_be_set_to_anything():
  for value in (1, "one", (1, 2)):
    recorded = spec(scale)
    recorded.shift = value
    assert specs.build(recorded, 0)[2] == value


def test_every_schedule_can_be_recorded():
  # `values` is a method of dicts, and an argument of this one.
  recorded = spec(schedules.piecewise, values=(1.0, 0.5), boundaries=(3,))
  timeline = schedules.Timeline(steps=10, examples=10, batch_size=1)
  assert specs.build(recorded, timeline)(3) == 0.5


def test_build_supplies_what_the_config_does_not_know():
  assert specs.build(spec(scale, factor=3.0), 7) == (7, 3.0, None, (1, 2))
  assert specs.build(spec(scale), x=7, factor=5.0)[1] == 5.0


def test_specs_among_the_values_are_built_first():
  inner = spec(keep, a=1)
  built = specs.build(
    spec(keep, one=inner, many=(inner, inner), named={"x": inner, "y": 2})
  )
  made = {"a": 1}
  assert built == {
    "one": made, "many": (made, made), "named": {"x": made, "y": 2}
  }  # fmt: skip


def test_a_dict_keeps_its_order_and_its_keys():
  patterns = {r"b/(.*)": r"c.\1", "a.b": "d"}
  built = specs.build(spec(keep, rename=patterns))
  assert list(built["rename"].items()) == list(patterns.items())


def test_partial_binds_a_function_and_makes_a_class():
  bound = specs.partial(spec(scale, factor=3.0))
  assert bound(7) == (7, 3.0, None, (1, 2))
  made = specs.partial(spec(Scale, factor=3.0))
  assert made(2.0, 1.0) == 3.0
  takes = specs.parameters(specs.called(spec(Scale)))
  assert {"student", "teacher"} <= takes.keys()


def test_a_module_leaves_to_the_run_what_the_run_sets():
  recorded = spec(resnet.ResNet, stage_sizes=(1,), width=4, classes=2)
  for name in ("parent", "name", "dtype", "axis_name"):
    assert name not in recorded
    with pytest.raises(errors.UserError, match=f"no argument '{name}'"):
      spec(resnet.ResNet, **{name: None})
  module = specs.build(recorded)
  assert isinstance(module, nn.Module)
  assert module.stage_sizes == (1,)


def test_mistakes_are_told_where_they_are_written():
  with pytest.raises(
    errors.UserError, match=r"scale takes no argument 'facto': .*'factor'"
  ):
    spec(scale, facto=1)
  with pytest.raises(errors.UserError, match="not a function or a class"):
    spec(3)
  for builtin in (min, int, map):
    with pytest.raises(errors.UserError, match="has no signature to check"):
      spec(builtin)
  with pytest.raises(errors.UserError, match="arguments as keywords"):
    spec(functools.partial(scale, factor=1))
  with pytest.raises(errors.UserError, match="argument named 'call'"):
    spec(lambda call: call)
  with pytest.raises(errors.UserError, match=r"scale\): missing .*'x'"):
    specs.build(spec(scale))


def test_the_name_of_any_callable():
  assert specs.qualified_name(resnet.ResNet) == "tsjax.models.resnet.ResNet"
  assert specs.qualified_name(jnp.add).endswith("add")
  assert (
    specs.qualified_name(functools.partial(specs.build, 1))
    == "partial(tsjax.config.specs.build)"
  )
