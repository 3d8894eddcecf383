"""The verdict claims what the stages tell, and no more."""

import html
import re

import numpy as np
import pytest

from tsjax.report import markup, verdict, words


def _metric(values):
  return {"mean": float(np.mean(values)), "values": values}


def _pair(taught, control, **changes):
  """A taught stage and its control of the same model, F1 by seed."""
  common = {"trains": "small", "labels": 0.1, "steps": 100}
  return {
    "alone": common | {"teachers": [], "test": {"f1": _metric(control)}},
    "student": common
    | {"teachers": ["large"], "test": {"f1": _metric(taught)}}
    | changes,
  }


def _plain_text(*parts):
  return html.unescape(re.sub("<[^>]*>", "", markup.join(*parts)))


@pytest.mark.parametrize(
  "taught, control, told",
  [
    (
      [0.94, 0.95],
      [0.90, 0.91],
      "The teacher was worth 4.0 points of F1: student reached 94.5 % with it,"
      " alone 90.5 % without.",
    ),
    (
      [0.90, 0.91],
      [0.94, 0.95],
      "The teacher cost 4.0 points of F1: student reached 90.5 % with it,"
      " alone 94.5 % without.",
    ),
    # +4 on one seed, -3 on the other: +0.5 with a spread of 4.9.
    (
      [0.94, 0.90],
      [0.90, 0.93],
      "The teacher made no clear difference: student reached 92.0 % with it,"
      " alone 91.5 % without.",
    ),
    (
      [0.94],
      [0.90],
      "On a single seed, the teacher was worth 4.0 points of F1: student"
      " reached 94.0 % with it, alone 90.0 % without.",
    ),
    (
      [0.9, 0.9],
      [0.9, 0.9],
      "The teacher made no clear difference: student reached 90.0 % with it,"
      " alone 90.0 % without.",
    ),
  ],
)
def test_the_headline_says_what_the_teacher_was_worth(taught, control, told):
  assert _plain_text(verdict.headline(_pair(taught, control))) == told


@pytest.mark.parametrize(
  "metric, taught, control, told",
  [
    (
      "mean_squared_error",
      [1.0, 1.2],
      [2.0, 2.3],
      "The teacher lowered mean squared error by 1.05: student reached 1.10"
      " with it, alone 2.15 without.",
    ),
    (
      "mean_squared_error",
      [2.0, 2.3],
      [1.0, 1.2],
      "The teacher raised mean squared error by 1.05, which is worse: student"
      " reached 2.15 with it, alone 1.10 without.",
    ),
    (
      "calibration_error",
      [0.02, 0.03],
      [0.1, 0.12],
      "The teacher lowered calibration error by 8.5 points: student reached"
      " 2.5 % with it, alone 11.0 % without.",
    ),
  ],
)
def test_where_less_is_better_the_headline_says_so(
  metric, taught, control, told
):
  stages = _pair(taught, control)
  for stage in stages.values():
    stage["test"] = {metric: stage["test"]["f1"]}
    stage |= {"score": metric, "lower_is_better": True}
  assert _plain_text(verdict.headline(stages)) == told
  ahead = 2 if taught < control else 0
  text = _plain_text(verdict.details(stages))
  assert f"ahead on {ahead} of 2" in text


def test_the_metric_that_chose_is_the_one_that_is_told():
  stages = _pair([0.9, 0.9], [0.8, 0.8])
  for name, stage in stages.items():
    value = {"student": 0.7, "alone": 0.5}[name]
    stage["test"]["matthews"] = _metric([value, value])
    stage["score"] = "matthews"
  assert _plain_text(verdict.headline(stages)).startswith(
    "The teacher raised Matthews correlation by 0.200"
  )
  # Of stages that chose by different metrics, one that all have is told.
  stages["alone"]["score"] = "accuracy"
  assert "points of F1" in _plain_text(verdict.headline(stages))


def test_the_evidence_pairs_seeds():
  stages = _pair([0.94, 0.95, 0.90], [0.90, 0.91, 0.91])
  text = _plain_text(verdict.details(stages))
  # Differences of 4, 4 and -1 points: mean 2.33, standard deviation 2.89.
  assert "+2.3 ± 2.9 points" in text
  assert "ahead on 2 of 3" in text


def test_a_seed_without_a_score_leaves_its_pair_out():
  stages = _pair([0.94, 0.95, 0.96], [0.90, 0.91, 0.92])
  stages["alone"]["test"]["f1"]["values"][1] = None
  (comparison,) = words.comparisons(stages)
  assert (comparison.seeds, comparison.wins) == (2, 2)


def test_the_gap_to_the_teacher_is_told():
  stages = _pair([0.94, 0.94], [0.90, 0.90])
  for name, stage in stages.items():
    stages[name] = stage | {"model": {"parameters": 50}}
  stages["big"] = {
    "trains": "large",
    "model": {"parameters": 500},
    "test": {"f1": _metric([0.98, 0.98])},
  }
  text = _plain_text(verdict.details(stages))
  assert "(big) reached 98.0 % with 10 times the parameters" in text
  assert "of the 8.0 points" in text and "made up 50 %" in text


def test_whatever_else_differs_is_told():
  stages = _pair(
    [0.94, 0.95], [0.9, 0.9], labels=0.5, steps=900, transfer={"exact": 3}
  )
  text = _plain_text(verdict.details(stages))
  assert "50.0 % of the labels, its control 10.0 %" in text
  assert "900 steps, its control for 100" in text
  assert "transferred weights" in text
  fair = _plain_text(verdict.details(_pair([0.94, 0.95], [0.9, 0.9])))
  assert "not the only difference" not in fair


def test_the_control_is_the_one_with_as_many_labels():
  stages = _pair([0.94, 0.95], [0.9, 0.9])
  full = stages["alone"] | {"labels": 1.0}
  (comparison,) = words.comparisons({"full": full} | stages)
  assert comparison.control == "alone"


def test_many_taught_stages_are_counted_not_picked():
  stages = _pair([0.94, 0.95], [0.9, 0.9])
  worse = stages["student"] | {"test": {"f1": _metric([0.8, 0.8])}}
  unclear = stages["student"] | {"test": {"f1": _metric([0.8, 1.0])}}
  stages |= {"worse": worse, "unclear": unclear}
  assert _plain_text(verdict.headline(stages)) == (
    "Of 3 stages that learnt from a teacher, 1 clearly beat their control"
    " without one and 1 clearly fell short of it."
  )
  text = _plain_text(verdict.details(stages))
  assert all(name in text for name in ("student", "worse", "unclear"))


def test_without_a_control_nothing_is_claimed():
  stages = _pair([0.94, 0.95], [0.9, 0.9])
  del stages["alone"]
  text = _plain_text(verdict.headline(stages))
  assert "is not known, as no stage trains the same model" in text
  assert not verdict.details(stages)


def test_accuracy_and_validation_stand_in_for_what_is_missing():
  stages = _pair([0.94, 0.95], [0.9, 0.9])
  for stage in stages.values():
    stage["validation"] = {"accuracy": stage.pop("test")["f1"]}
  text = _plain_text(verdict.headline(stages))
  assert "4.5 points of accuracy on validation" in text


@pytest.mark.parametrize(
  "value, shown",
  [(0, "0 B"), (999, "999 B"), (13864, "13.9 kB"), (2.5e9, "2.5 GB")]
  + [(None, "–"), (float("nan"), "–")],
)
def test_sizes(value, shown):
  assert words.size(value) == shown
