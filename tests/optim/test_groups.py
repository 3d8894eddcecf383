"""Groups: every parameter belongs to exactly one."""

import jax
import numpy as np
import pytest

from tsjax import config
from tsjax.config import sections
from tsjax.core import errors
from tsjax.optim import groups


@pytest.fixture
def params():
  return {
    "models": {
      "student": {
        "stem": {"conv": {"kernel": np.zeros((3, 3, 1, 4))}},
        "norm": {"scale": np.zeros(4), "bias": np.zeros(4)},
        "head": {"kernel": np.zeros((4, 2)), "bias": np.zeros(2)},
      }
    }
  }


def group(**values):
  return sections.Group(**values)


def test_without_groups_biases_and_scales_do_not_decay(params):
  rates, decays, sizes = groups.factors(params, {}, key="groups")
  assert set(jax.tree.leaves(rates)) == {1.0}
  student = decays["models"]["student"]
  assert student["stem"]["conv"]["kernel"] == 1.0
  assert student["head"]["kernel"] == 1.0
  assert student["norm"] == {"scale": 0.0, "bias": 0.0}
  assert student["head"]["bias"] == 0.0
  assert sizes == {"decay": 36 + 8, "no_decay": 4 + 4 + 2}


def test_a_name_that_only_ends_like_a_bias_decays():
  params = {"prebias": np.zeros(2), "bias": np.zeros(3)}
  _, decays, _ = groups.factors(params, {}, key="groups")
  assert decays == {"prebias": 1.0, "bias": 0.0}


def test_the_first_group_that_matches_wins(params):
  named = {
    "frozen": group(match=".*/stem/.*", rate=0.0),
    "kernels": group(match=".*/kernel", decay=0.5),
    "rest": group(match=".*", rate=2.0, decay=0.0),
  }
  rates, decays, sizes = groups.factors(params, named, key="groups")
  rates, decays = rates["models"]["student"], decays["models"]["student"]
  assert rates["stem"]["conv"]["kernel"] == 0.0
  assert decays["stem"]["conv"]["kernel"] == 1.0
  assert rates["head"] == {"kernel": 1.0, "bias": 2.0}
  assert decays["head"] == {"kernel": 0.5, "bias": 0.0}
  assert sizes == {"frozen": 36, "kernels": 8, "rest": 10}


def test_the_groups_cover_every_parameter(params):
  with pytest.raises(
    errors.UserError,
    match=r"stage.groups: no group matches parameter .*(bias|scale)'.*'\.\*'",
  ):
    groups.factors(
      params, {"kernels": group(match=".*/kernel")}, key="stage.groups"
    )


def test_a_group_without_parameters_is_a_mistake(params):
  named = {"rest": group(match=".*"), "late": group(match=".*/bias")}
  with pytest.raises(
    errors.UserError, match=r"stage.groups.late.match='\.\*/bias' matches no"
  ):
    groups.factors(params, named, key="stage.groups")


def test_a_match_that_is_no_regular_expression(params):
  with pytest.raises(errors.UserError, match="not a regular expression"):
    groups.factors(params, {"bad": group(match="(")}, key="stage.groups")


def test_layerwise_rates_fall_from_the_output_to_the_input(params):
  order = (".*/stem/.*", ".*/norm/.*", ".*/head/.*")
  params["objective"] = {"hint": {"kernel": np.zeros(3)}}
  entries = groups.layerwise(order, factor=0.5)
  # As a config writes them.
  written = {name: config.group(**entry) for name, entry in entries.items()}
  rates, decays, _ = groups.factors(params, written, key="groups")
  student = rates["models"]["student"]
  assert student["stem"]["conv"]["kernel"] == 0.25
  assert student["norm"] == {"scale": 0.5, "bias": 0.5}
  assert student["head"] == {"kernel": 1.0, "bias": 1.0}
  assert rates["objective"]["hint"]["kernel"] == 1.0
  assert set(jax.tree.leaves(decays)) == {1.0}
