"""Sections: every key with its default."""

import pytest

from tsjax import config, objectives
from tsjax.config import spec
from tsjax.core import errors


def test_a_section_shows_its_defaults():
  stage = config.stage(train="student", learning_rate=0.1)
  assert stage.learning_rate == 0.1
  assert stage.steps == "10 epochs"
  assert stage.clip is None
  run = config.run(name="mine")
  assert run.data.batch_size == 64
  assert run.mesh.strategy == "jit"
  assert dict(run.stages) == {}


def test_entries_keep_their_order():
  groups = {"z": config.group(match=".*/kernel"), "a": config.group()}
  stage = config.stage(train="student", groups=groups)
  assert list(stage.groups) == ["z", "a"]
  run = config.run(name="mine")
  run.models = {"z": 1, "a": 2}
  run.models.b = 3
  assert list(run.models) == ["z", "a", "b"]


def test_a_key_that_is_not_known():
  with pytest.raises(
    errors.UserError,
    match=r"stage has no key 'lerning_rate': .*'learning_rate'",
  ):
    config.stage(lerning_rate=0.1)


def test_what_the_term_says_is_not_repeated_in_the_loss():
  term = config.term(spec(objectives.soft_targets), temperature=4.0)
  assert "temperature" not in term.loss
  assert term.temperature == 4.0
  with pytest.raises(errors.UserError, match="set temperature on the term"):
    config.term(spec(objectives.soft_targets, temperature=4.0))
  with pytest.raises(errors.UserError, match=r"write term.spec.soft_targets"):
    config.term(objectives.soft_targets)
