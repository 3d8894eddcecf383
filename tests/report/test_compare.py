"""Finished runs side by side: what is told, and what is refused."""

import html
import json
import re

from etils import epath
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.evaluate import classification
from tsjax.report import compare, compare_page

CLASSES = [str(k) for k in range(4)]
METRICS = ("accuracy", "f1", "cross_entropy", "calibration_error")


def stage(sharpness, seeds, *, classes=4, size=400, **changes):
  """A stage whose logits are right more often where `sharpness` is larger."""
  random = np.random.default_rng(7)
  labels = random.permutation(np.arange(size) % classes)
  results, counts = [], 0
  for seed in seeds:
    random = np.random.default_rng([seed, 1])
    logits = sharpness * np.eye(classes)[labels]
    logits = logits + random.normal(size=logits.shape)
    results.append(classification.metrics(logits, labels))
    counts = counts + classification.confusion(
      labels, logits.argmax(-1), classes
    )
  return {
    "trains": "small",
    "model": {"kind": "MLP", "parameters": 1234, "bytes": 4936},
    "steps": 100,
    "labels": 0.1,
    "teachers": [],
    "test": {
      m: {
        "mean": float(np.mean([r[m] for r in results])),
        "std": float(np.std([r[m] for r in results], ddof=1))
        if len(seeds) > 1
        else 0.0,
        "values": [float(r[m]) for r in results],
      }
      for m in METRICS
    },
    "confusion": np.asarray(counts).tolist(),
  } | changes


def results(sharpness, seeds=(0, 1, 2), **changes):
  """Results of a run of two stages; of `student` by the sharpness."""
  return {
    "format": 1,
    "name": "study",
    "seeds": list(seeds),
    "classes": CLASSES,
    "device": "cpu",
    "date": "2026-01-02",
    "stages": {
      "alone": stage(1.0, seeds),
      "student": stage(sharpness, seeds),
    },
  } | changes


def config(**changes):
  data = {"source": {"call": "tsjax.data.sources.digits"}, "validation": 0.1}
  return {
    "name": "study",
    "task": {"call": "tsjax.tasks.classification.Classification"},
    "data": data,
    "stages": {"student": {"learning_rate": 0.1}},
  } | changes


def save(folder, content, settings=None):
  """A run's folder."""
  path = folder / "report" / "results.json"
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(content))
  if settings is not None:
    (folder / "run.json").write_text(json.dumps({"config": settings}))
  return folder


@pytest.fixture
def pair(tmp_path):
  return [
    save(tmp_path / "A", results(1.0), config()),
    save(
      tmp_path / "B",
      results(3.0),
      config(stages={"student": {"learning_rate": 0.2}}),
    ),
  ]


def text_of(path):
  """What a reader sees."""
  body = path.read_text().partition("<body>")[2]
  return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", body)))


def test_a_clear_difference_is_told_and_a_none_is_not(pair, tmp_path):
  page = compare.write(pair, tmp_path / "out")
  told = json.loads((tmp_path / "out" / "comparison.json").read_text())
  alone, student = told["differences"]
  assert student["told"] and student["low"] > 0
  assert not alone["told"] and alone["mean"] == 0
  assert student["p_holm"] == 2 * student["p"]
  text = text_of(page)
  assert "1 of 2 differences to A can be told from chance" in text
  points = f"{100 * student['mean']:.1f}"
  assert f"B’s student is {points} points of F1 better than A’s" in text
  assert "and A’s are equal in F1" in text
  assert "(3 common seeds): distinguishable." in text


def test_the_keys_that_differ_are_shown_and_no_other(pair, tmp_path):
  found = compare.compare(pair)["configs"]
  assert found == [
    {
      "key": "config.stages.student.learning_rate",
      "values": {"A": 0.1, "B": 0.2},
    }
  ]
  assert "config.stages.student.learning_rate" in text_of(
    compare.write(pair, tmp_path / "out")
  )


def test_the_page_loads_nothing_and_is_whole(pair, tmp_path):
  text = compare.write(pair, tmp_path / "out").read_text()
  assert "<script" not in text and "http" not in text.replace("http-equiv", "")
  assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
  assert text.count("<svg") >= 2 and text.count("<figcaption>") == 2
  # Two writings leave nothing beside the two files.
  compare.write(pair, tmp_path / "out")
  names = sorted(p.name for p in (tmp_path / "out").iterdir())
  assert names == ["comparison.json", "index.html"]


def test_one_seed_says_what_its_interval_is_of(tmp_path):
  runs = [
    save(tmp_path / name, results(sharpness, seeds=(0,)))
    for name, sharpness in (("A", 1.0), ("B", 3.0))
  ]
  found = compare.compare(runs)
  student = found["stages"]["student"]["A"]["test"]
  assert student["accuracy"]["interval"] == "wilson"
  assert student["f1"]["interval"] == "bootstrap"
  assert student["cross_entropy"]["interval"] is None
  assert found["differences"][1]["interval"] == "bootstrap"
  text = text_of(compare.write(runs, tmp_path / "out"))
  assert "only the luck of the test examples is known" in text


def test_an_interval_leaving_out_0_is_not_enough_among_many(tmp_path):
  def with_f1(values):
    content = results(1.0)
    for k in range(12):
      content["stages"][f"s{k}"] = stage(1.0, (0, 1, 2))
    content["stages"]["student"]["test"]["f1"] = {
      "mean": float(np.mean(values)),
      "std": 0.01,
      "values": values,
    }
    return content

  runs = [
    save(tmp_path / "A", with_f1([0.80, 0.81, 0.82])),
    save(tmp_path / "B", with_f1([0.83, 0.845, 0.86])),
  ]
  student = next(
    d for d in compare.compare(runs)["differences"] if d["stage"] == "student"
  )
  assert student["low"] > 0 and not student["told"]
  text = text_of(compare.write(runs, tmp_path / "out"))
  assert "one among 14 comparisons may do so by chance" in text


def test_less_is_better_of_a_loss(pair, tmp_path):
  page = compare.write(pair, tmp_path / "out", metric="cross_entropy")
  text = text_of(page)
  assert "better in cross-entropy than A’s" in text
  assert "To the left of the line a run is better" in text


def test_stages_of_one_run_only_and_other_efforts_are_named(tmp_path):
  other = results(3.0)
  other["stages"]["extra"] = stage(1.0, (0, 1, 2))
  other["stages"]["student"]["steps"] = 300
  runs = [
    save(tmp_path / "A", results(1.0)),
    save(tmp_path / "B", other),
  ]
  text = text_of(compare.write(runs, tmp_path / "out"))
  assert re.search(r"Not compared: *extra *is only in B", text)
  assert "The recipes differ: steps 300 against 100." in text


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
  runs = [
    save(tmp_path / name / "run", results(1.0)) for name in ("one", "two")
  ]
  assert list(compare.compare(runs)["runs"]) == ["one/run", "two/run"]


def test_names_cannot_break_the_page(tmp_path):
  runs = [
    save(tmp_path / "<b>A", results(1.0)),
    save(tmp_path / "B", results(3.0, date="<script>")),
  ]
  assert "<b>A" not in compare.write(runs, tmp_path / "out").read_text()


def test_values_that_are_not_finite_are_dashes(tmp_path):
  broken = results(1.0)
  broken["stages"]["student"]["test"]["f1"] = {
    "mean": None,
    "std": None,
    "values": [None, None, None],
  }
  runs = [save(tmp_path / "A", results(1.0)), save(tmp_path / "B", broken)]
  assert "have no value to compare" in text_of(
    compare.write(runs, tmp_path / "out")
  )


def _drop(content, *keys):
  for key in keys[:-1]:
    content = content[key]
  del content[keys[-1]]


@pytest.mark.parametrize(
  ("spoil", "told"),
  [
    (lambda b: b.rename(b.with_name("C")), "no such folder"),
    (lambda b: (b / "report/results.json").unlink(), "has not finished"),
    (lambda b: (b / "report/results.json").write_text("{"), "is damaged"),
    (lambda b: (b / "report/results.json").write_bytes(b"\xff"), "is damaged"),
    (lambda b: (b / "report/results.json").write_text("[]"), "no object"),
    (lambda b: (b / "run.json").write_text("{"), "run.json: is damaged"),
    (lambda b: _edit(b, format=2), "format=2, and this version reads 1"),
    (lambda b: _edit(b, seeds="0"), "`seeds` is no list"),
    (lambda b: _edit(b, stages={}), "it has no `stages`"),
    (lambda b: _edit(b, stages={"x": {}}), "stages.x has no `test`"),
    (lambda b: _edit(b, seeds=[0]), "not one value for each of 1 seeds"),
    (lambda b: _edit(b, classes=["a", "b"]), "has other classes than A"),
    (
      lambda b: _edit(b, stages={"student": stage(1.0, (0, 1, 2), size=200)}),
      "its test split differs from A's, 200 examples against 400",
    ),
    (
      lambda b: (b / "run.json").write_text(
        json.dumps({"config": config(task={"call": "tasks.Regression"})})
      ),
      "has another task than A",
    ),
  ],
)
def test_what_cannot_be_compared_is_told_in_one_line(pair, spoil, told):
  spoil(pair[1])
  with pytest.raises(errors.UserError, match=re.escape(told)) as caught:
    compare.compare(pair)
  assert "\n" not in str(caught.value) and str(pair[1]) in str(caught.value)


def _edit(folder, **changes):
  path = folder / "report" / "results.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_wrong_arguments_are_told(pair, tmp_path):
  with pytest.raises(errors.UserError, match="two runs or more"):
    compare.write(pair[:1], tmp_path / "out")
  with pytest.raises(errors.UserError, match="named twice"):
    compare.write([pair[0], str(pair[0]) + "/"], tmp_path / "out")
  with pytest.raises(errors.UserError, match="did you mean 'f1'"):
    compare.write(pair, tmp_path / "out", metric="f2")
  with pytest.raises(errors.UserError, match="a run that is compared"):
    compare.write(pair, pair[1])
  with pytest.raises(errors.UserError, match="the report of a run"):
    compare.write([pair[0], pair[1] / "report"], tmp_path / "out")
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match="is a file"):
    compare.write([pair[0], tmp_path / "file"], tmp_path / "out")
  with pytest.raises(errors.UserError, match="cannot be written"):
    compare.write(pair, tmp_path / "file" / "out")
  point = tmp_path / "swept" / "points" / "rate=1"
  point.mkdir(parents=True)
  (tmp_path / "swept" / "grid.json").write_text("{}")
  with pytest.raises(errors.UserError, match="was not chosen"):
    compare.write([pair[0], point], tmp_path / "out")
  (tmp_path / "empty").mkdir()
  with pytest.raises(errors.UserError, match="holds no run"):
    compare.write([pair[0], tmp_path / "empty"], tmp_path / "out")


def test_the_shell_replaces_whole_files_only(tmp_path):
  compare_page.write(tmp_path, {"a.json": "1", "index.html": "old"})
  with pytest.raises(AttributeError):
    compare_page.write(tmp_path, {"a.json": "2", "index.html": None})
  assert (tmp_path / "a.json").read_text() == "1"
  assert sorted(p.name for p in epath.Path(tmp_path).iterdir()) == [
    "a.json",
    "index.html",
  ]
