"""The section of a label study: drawn from results.json alone, and honest."""

import html
import re

import numpy as np
import pytest

from tsjax.report import compare_page, labels

SEEDS = [0, 1, 2, 3, 4]
METHODS = ("alone", "distilled", "both")


def stage(values, labels_, *, teachers=("teacher",), **changes):
  values = [float(v) for v in values]
  found = {
    "mean": float(np.mean(values)),
    "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
    "values": values,
  }
  return {
    "trains": "student",
    "labels": labels_,
    "steps": 100,
    "teachers": list(teachers),
    "test": {"f1": found, "accuracy": found},
    "confusion": (36 * len(values) * np.eye(10, dtype=int)).tolist(),
  } | changes


def results(table, seeds=SEEDS, **more):
  """A study; `table` is fraction -> method -> mean."""
  noise = np.random.default_rng(0)
  stages = {
    "teacher": stage(
      0.99 + 0.001 * noise.normal(size=len(seeds)), 1.0, teachers=()
    )
    | {"trains": "teacher"}
  }
  for fraction, means in table.items():
    for method, mean in means.items():
      values = mean + 0.004 * noise.normal(size=len(seeds))
      stages[labels.stage_name(method, fraction)] = stage(
        values, fraction, teachers=() if method == "alone" else ("teacher",)
      )
  return {"format": 1, "seeds": list(seeds), "stages": stages | more}


TABLE = {
  0.01: {"alone": 0.60, "distilled": 0.90, "both": 0.901},
  0.1: {"alone": 0.91, "distilled": 0.93, "both": 0.96},
  1.0: {"alone": 0.97, "distilled": 0.97, "both": 0.97},
}


def text_of(parts):
  body = compare_page.shell("t", *parts).partition("<body>")[2]
  return html.unescape(
    re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", body))
  ).replace(" .", ".")


def test_names_and_fractions_are_one_to_one():
  for fraction in (0.005, 0.01, 0.029, 0.07, 0.25, 1 / 3, 1.0):
    name = labels.stage_name("both", fraction)
    assert re.fullmatch(r"both_[0-9p]+pc", name)
  assert labels.stage_name("alone", 0.07) == "alone_7pc"
  assert labels.stage_name("alone", 0.005) == "alone_0p5pc"


def test_the_words_follow_the_numbers():
  text = text_of(labels.section(results(TABLE)))
  _, first, second, third = text.split("Intervals")[0].split(" of the labels:")
  assert "points above alone" in first and "not told from chance" not in first
  # 90 % alone is first reached with a tenth of the labels.
  assert "first reaches as much with 10 % of them" in first
  assert "Not told apart from it:" in first
  assert "both is ahead with 96." in second
  assert "All others are clearly behind it." in second
  assert "first reaches as much with 100 %" in second
  assert "Chance alone could have put any of the methods ahead." in third


def test_the_headline_is_of_the_fewest_and_the_most_labels():
  found = re.sub("<[^>]+>", "", labels.headline(results(TABLE)))
  assert re.fullmatch(
    r"With 1 % of the labels, (both|distilled) reaches 9\d\.\d % F1, the"
    r" student alone [56]\d\.\d %; with 100 %, they reach 9\d\.\d and"
    r" 9\d\.\d %\.",
    found,
  )
  table = {f: {"alone": 0.9, "distilled": 0.9} for f in (0.1, 1.0)}
  found = labels.headline(results(table))
  assert "no method is clearly ahead" in found
  assert labels.headline({"stages": {}}) is None


def test_a_method_that_does_harm_is_not_hidden():
  table = {f: {"alone": 0.9, "pseudo": 0.5} for f in (0.1, 1.0)}
  text = text_of(labels.section(results(table)))
  assert "alone is ahead with 9" in text
  assert "All others are clearly behind it." in text
  assert re.search(r"pseudo − alone −(39|40)\.\d", text)


def test_figures_and_table_hold_every_method_and_the_teacher():
  page = str(compare_page.shell("t", *labels.section(results(TABLE))))
  scores, gains = re.findall(r"<svg[^>]*role=\"img\".*?</svg>", page, re.S)
  for method in METHODS:
    assert scores.count(f"<title>{method}: ") == len(TABLE)
  assert scores.count("stroke-dasharray") == 1
  assert "<title>alone" not in gains
  # What is not told from chance is drawn as an outline.
  assert 0 < gains.count("fill:var(--panel)") < gains.count("<title>")
  text = text_of(labels.section(results(TABLE)))
  assert re.search(r"Its teacher, teacher ?, reached 99\.\d ± 0\.\d %", text)


def test_one_seed_says_what_is_not_known():
  text = text_of(labels.section(results(TABLE, seeds=[0])))
  assert "the luck of a training is not known" in text
  assert "0.0 ±" not in text


@pytest.mark.parametrize(
  "stages",
  [
    {},
    {"teacher": stage([0.9], 1.0)},
    {"alone": stage([0.9], 0.1), "student": stage([0.9], 0.1)},
    # The name says 5 %, the run had 10 %.
    {"alone_5pc": stage([0.9], 0.1), "both_5pc": stage([0.9], 0.1)},
    {"alone_5pc": stage([0.9], 0.05)},
  ],
)
def test_other_runs_have_no_such_section(stages):
  assert labels.section({"format": 1, "seeds": [0], "stages": stages}) == []


def test_other_stages_of_the_run_are_left_alone():
  found = results(TABLE, spare=stage([0.5] * 5, 0.3, teachers=()))
  assert len(labels.study(found)) == 3
  assert "spare" not in text_of(labels.section(found))


def test_unequal_steps_and_a_second_start_are_said():
  found = results({0.1: {"alone": 0.9, "pseudo": 0.92}})
  assert "All methods take as many steps;" in text_of(labels.section(found))
  found["stages"]["pseudo_10pc"]["transfer"] = {"exact": 1}
  assert "pseudo on top of those of alone" in text_of(labels.section(found))
  found["stages"]["pseudo_10pc"]["steps"] = 7
  assert "Not all methods take as many steps" in text_of(labels.section(found))
