"""What a run came to, of every kind of stage and task, from real small runs."""

import base64
import json

from flax import linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import config, loop, objectives, optim
from tsjax.config import spec
from tsjax.core import taps
from tsjax.data import sources, views
from tsjax.evaluate import classification as metrics_lib
from tsjax.evaluate import similarity
from tsjax.loop import examples, results
from tsjax.models import mlp
from tsjax.report import pictures
from tsjax.tasks import classification, regression

STEPS = 6


class Funnel(nn.Module):
  """Two hidden layers whose names stand in another order than they."""

  classes: int

  @nn.compact
  def __call__(self, inputs, *, train):
    x = inputs.reshape(inputs.shape[0], -1)
    x = taps.tap(self, "wide", nn.relu(nn.Dense(24)(x)))
    x = taps.tap(self, "narrow", nn.relu(nn.Dense(12)(x)))
    return nn.Dense(self.classes)(x)


def term(loss, **options):
  return config.term(spec(loss), **options)


def make_config(source, task, label, **stages):
  c = config.run(name="small", line_points=3, seeds=(0, 1))
  c.task, c.data.source = spec(task), spec(source)
  c.data.batch_size, c.data.eval_batch_size = 32, 128
  c.data.views.train = spec(views.image)
  classes = 1 if task is regression.Regression else 10
  c.models.large = spec(Funnel, classes=classes)
  for name in ("one", "two"):
    c.models[name] = spec(mlp.MLP, hidden=(8, 8), classes=classes)
  for name, values in stages.items():
    c.stages[name] = config.stage(
      **{
        "objective": {"labels": term(label)},
        "optimizer": spec(optim.sgd, momentum=0.0),
        "learning_rate": 0.3,
        "steps": STEPS,
        **values,
      }
    )
  c.order = tuple(stages)
  return c


def soft(**options):
  return term(objectives.soft_targets, **options)


def numbers():
  """Pictures of the digits whose label is how bright they are."""
  digits = sources.digits()
  return sources.Arrays(
    {
      split: {
        "image": arrays["image"],
        "label": 10 * arrays["image"].mean(axis=(1, 2, 3)),
      }
      for split, arrays in digits.arrays.items()
    },
    target="number",
  )


class Own:
  """A user's own task: the least that a run asks for."""

  fields = ("label",)
  lower_is_better = ()

  def scores(self, output):
    return output.astype(jnp.float32)

  def check(self, classes, output, *, key):
    pass

  def metrics(self, scores, fields, *, reference=None):
    return {"hits": float(np.mean(scores.argmax(-1) == fields["label"]))}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A teacher, a student with its control, and two models that teach."""
  c = make_config(
    sources.digits,
    classification.Classification,
    objectives.cross_entropy,
    teacher={"train": "large"},
    alone={"train": "one"},
    student={
      "train": "one",
      "teachers": ("teacher",),
      "objective": {"soft": soft()},
    },
    cohort={
      "train": ("one", "two"),
      "objective": {
        "first": term(objectives.cross_entropy, student="one"),
        "second": soft(student="two", teacher="one"),
      },
    },
  )
  c.reference = "teacher"
  return loop.fit(c, tmp_path_factory.mktemp("run"))


def test_every_judged_model_has_its_entry(run):
  stages = run.results["stages"]
  names = ["teacher", "alone", "student", "cohort.one", "cohort.two"]
  assert list(stages) == names
  assert [s["trains"] for s in stages.values()] == [
    "large",
    *3 * ["one"],
    "two",
  ]
  assert [s["teachers"] for s in stages.values()] == [
    [],
    [],
    ["large"],
    [],
    ["one"],
  ]
  for stage in stages.values():
    assert stage["score"] == "f1" and stage["lower_is_better"] is False
    assert np.sum(stage["confusion"]) == 2 * 360
    assert len(stage["test"]["f1"]["values"]) == 2
    assert np.shape(stage["line"]["loss"]) == (2, 3)
  # A stage that trains two models takes its time once.
  assert run.results["seconds"] == pytest.approx(
    sum(stages[name]["seconds"] for name in names[:-1])
  )
  stored = json.loads((run.report.parent / "results.json").read_text())
  assert stored["stages"].keys() == stages.keys()


def test_the_evaluations_of_a_cohort_are_each_members_own(run):
  curves = {
    name: run.results["stages"][f"cohort.{name}"]["curves"][0]["validation"]
    for name in ("one", "two")
  }
  for name, curve in curves.items():
    assert not any("/" in metric for metric in curve)
    # The last one is of the variables that the stage ended with.
    found = run.parts.task.metrics(
      *run.scores(
        f"cohort.{name}", run.variables(f"cohort.{name}", 0), "validation"
      )
    )
    assert curve["f1"][-1] == pytest.approx(found["f1"], abs=1e-6)
  assert curves["one"]["cross_entropy"] != curves["two"]["cross_entropy"]


def test_reliability_is_that_of_all_seeds_together(run):
  scores, fields = zip(
    *(
      run.scores("student", run.variables("student", s), "test") for s in (0, 1)
    )
  )
  labels = np.concatenate([f["label"] for f in fields])
  expected = metrics_lib.reliability(np.concatenate(scores), labels)
  found = run.results["stages"]["student"]["reliability"]
  for key, values in expected.items():
    np.testing.assert_allclose(found[key], values, atol=1e-6)


def test_similarity_is_of_every_pair_of_taps_with_the_teacher(run):
  assert run.results["stages"]["alone"]["similarity"] is None
  found = run.results["stages"]["student"]["similarity"]
  assert found["with"] == "teacher" and found["examples"] == 360
  assert found["rows"] == ["hidden_1/output", "hidden_2/output", "output"]
  # In the order in which they are computed, whatever their names.
  assert found["columns"] == ["wide", "narrow", "output"]
  # The outputs are the scores of the whole split, so they can be had again.
  scores = [
    run.scores(name, run.variables(name, 0), "test")[0]
    for name in ("student", "teacher")
  ]
  expected = similarity.linear_cka(*scores)
  assert found["cka"][-1][-1] == pytest.approx(expected, abs=2e-4)
  # A peer that teaches is a teacher, too; its own is not compared.
  assert (
    run.results["stages"]["cohort.two"]["similarity"]["with"] == "cohort.one"
  )
  assert run.results["stages"]["cohort.one"]["similarity"] is None


def test_a_model_is_alike_to_itself(run):
  alike = examples.Similarities(run, 64, ())
  found = alike.between("teacher", "teacher")
  assert found["examples"] == 64
  np.testing.assert_allclose(np.diag(found["cka"]), 1, atol=1e-4)


def test_disagreements_are_real_ones_with_pictures_of_their_rows(run):
  found = run.results["stages"]["student"]["disagreements"]
  said = {}
  for role, name in (("student", "student"), ("teacher", "teacher")):
    said[role], fields = run.scores(name, run.variables(name, 0), "test")
  labels = fields["label"]
  classes = {role: scores.argmax(-1) for role, scores in said.items()}
  apart = classes["student"] != classes["teacher"]
  assert sum(found["counts"].values()) == apart.sum() > 0
  only = apart & (classes["teacher"] == labels)
  assert found["counts"]["student_wrong"] == only.sum()
  assert 0 < len(found["rows"]) <= 24
  test = run.parts.source.arrays["test"]
  for row in found["rows"]:
    k = row["row"]
    assert row["true"] == labels[k]
    for role in classes:
      assert row[role] == classes[role][k]
      odds = np.exp(said[role][k] - said[role][k].max())
      assert row[f"{role}_confidence"] == pytest.approx(
        1 / odds.sum(), abs=1e-3
      )
    drawn = run.results["pictures"][str(k)]
    assert drawn == pictures.uri(pictures.pixels(test["image"][[k]])[0])
    assert base64.b64decode(drawn.partition(",")[2]).startswith(b"\x89PNG")
  assert run.results["stages"]["alone"]["disagreements"] is None


def test_the_surest_disagreements_come_first_and_kinds_share_the_list():
  truth = np.zeros(10, int)
  student = np.array([1, 1, 1, 1, 0, 0, 1, 0, 1, 0])
  teacher = np.array([0, 0, 0, 0, 1, 2, 2, 0, 1, 0])
  sure = np.linspace(0.1, 1, 10), np.linspace(1, 0.1, 10)
  found = examples.disagreements(student, teacher, truth, sure=sure, limit=4)
  assert found["counts"] == {
    "student_wrong": 4,
    "teacher_wrong": 2,
    "both_wrong": 1,
  }
  # The less sure of both: 0.1, 0.2, 0.3, 0.4, then 0.5, 0.5.
  assert [(r["row"], r["kind"]) for r in found["rows"]] == [
    (3, "student_wrong"),
    (2, "student_wrong"),
    (4, "teacher_wrong"),
    (5, "teacher_wrong"),
  ]
  more = examples.disagreements(student, teacher, truth, sure=sure, limit=5)
  assert [r["row"] for r in more["rows"]] == [3, 2, 1, 4, 5]
  unknown = examples.disagreements(
    student, teacher, truth, sure=(None, None), limit=2
  )
  assert [r["student_confidence"] for r in unknown["rows"]] == [None, None]


def test_times_are_measured_once_for_a_model(run):
  speeds = {n: s["speed"] for n, s in run.results["stages"].items()}
  assert speeds["alone"] is speeds["student"] is speeds["cohort.one"]
  assert speeds["alone"] is not speeds["teacher"]
  for speed in speeds.values():
    assert 0 < speed["latency"]["median"] <= speed["latency"]["p95"]
    assert speed["batch"] == 128 and speed["examples_per_second"] > 0


def test_what_is_not_asked_for_is_left_out(run):
  extent = results.Extent(similarity=0, disagreements=0, latency=0)
  found = results.collect(run, extent)
  assert found["pictures"] == {}
  for name, stage in found["stages"].items():
    for key in ("speed", "similarity", "disagreements"):
      assert stage[key] is None
    assert stage["test"] == run.results["stages"][name]["test"]


def test_numbers_are_told_beside_their_targets(tmp_path):
  c = make_config(
    numbers,
    regression.Regression,
    objectives.squared_error,
    teacher={"train": "large", "learning_rate": 0.01},
    student={
      "train": "one",
      "teachers": ("teacher",),
      "objective": {"labels": term(objectives.squared_error)},
      "learning_rate": 0.01,
    },
  )
  run = loop.fit(c, tmp_path)
  stage = run.results["stages"]["student"]
  assert stage["score"] == "mean_squared_error" and stage["lower_is_better"]
  assert run.results["loss"] == "mean_squared_error"
  assert run.results["pictures"] == {}
  for key in ("confusion", "per_class", "reliability", "disagreements"):
    assert stage[key] is None
  target, prediction = (
    np.array(stage["targets"][key]) for key in ("target", "prediction")
  )
  scores, fields = run.scores("student", run.variables("student", 0), "test")
  np.testing.assert_allclose(target, fields["label"], rtol=1e-6)
  np.testing.assert_allclose(prediction, scores.reshape(-1), rtol=1e-6)
  assert stage["similarity"]["rows"][-1] == "output"
  assert np.isfinite(stage["line"]["loss"]).all()
  text = run.report.read_text()
  assert "Predictions and targets" in text and "Confusion" not in text


def test_a_task_of_ones_own_needs_no_tables(tmp_path):
  c = make_config(
    sources.digits, Own, objectives.cross_entropy, only={"train": "one"}
  )
  c.stages.only.choose_by, c.seeds = "hits", (0,)
  run = loop.fit(c, tmp_path)
  stage = run.results["stages"]["only"]
  assert stage["score"] == "hits" and stage["line"] is None
  for key in ("confusion", "per_class", "reliability", "targets", "groups"):
    assert stage[key] is None
  assert "reached a hits of" in run.report.read_text()
