"""What every task promises to the loop, and what each refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import tasks
from tsjax.core import errors

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(60, 4)).astype(np.float32)
CLASSES = RNG.integers(0, 4, 60).astype(np.int32)
WRITERS = (np.arange(60) % 3).astype(np.int32)

# Task, its output, the fields of the batch.
CASES = {
  "classification": (
    tasks.Classification(),
    LOGITS,
    {"label": CLASSES},
  ),
  "by group": (
    tasks.Classification(group="writer", beta=2.0),
    LOGITS,
    {"label": CLASSES, "writer": WRITERS},
  ),
  "several labels": (
    tasks.MultiLabel(),
    LOGITS,
    {"label": RNG.random((60, 4)) < 0.3},
  ),
  "regression": (
    tasks.Regression(),
    LOGITS[:, :1],
    {"label": RNG.normal(size=60).astype(np.float32)},
  ),
}


@pytest.fixture(params=CASES, name="case")
def _case(request):
  return CASES[request.param]


def test_every_task_keeps_the_contract(case):
  task, output, fields = case
  assert set(task.fields) == set(fields)
  scores = np.asarray(jax.jit(task.scores)(jnp.asarray(output, jnp.bfloat16)))
  assert scores.dtype == np.float32 and len(scores) == 60
  metrics = task.metrics(scores, fields, reference=scores)
  assert {type(v) for v in metrics.values()} == {float}
  assert task.choose_by in metrics and task.loss in metrics
  assert task.loss in task.lower_is_better
  assert set(task.lower_is_better) <= set(metrics)
  assert isinstance(task.tables(scores, fields), dict)


def test_every_task_measures_zeros_of_one_example(case):
  """The loop asks so which metrics there are, before any training."""
  task, output, fields = case
  zeros = np.zeros_like(np.asarray(task.scores(jnp.asarray(output)))[:1])
  metrics = task.metrics(
    zeros, {k: np.zeros_like(v[:1]) for k, v in fields.items()}
  )
  assert all(np.isfinite(v) for v in metrics.values())


def test_classification_decides_for_the_largest_logit():
  task = tasks.Classification()
  np.testing.assert_array_equal(task.decide(LOGITS), LOGITS.argmax(-1))
  tables = task.tables(LOGITS, {"label": CLASSES})
  assert set(tables) == {"confusion", "per_class"}
  assert tables["confusion"].sum() == 60
  assert tables["per_class"]["support"].sum() == 60


def test_the_worst_group_is_the_least_accurate():
  task, _, fields = CASES["by group"]
  logits = np.eye(4, dtype=np.float32)[CLASSES]
  # Of writer 1, one in four is wrong; of writer 2, one in ten.
  for writer, wrong in ((1, 5), (2, 2)):
    rows = np.flatnonzero(writer == WRITERS)[:wrong]
    logits[rows] = np.roll(logits[rows], 1, axis=1)
  assert task.metrics(logits, fields)["accuracy_worst_group"] == 0.75
  groups = task.tables(logits, fields)["groups"]
  assert [groups[g]["accuracy"] for g in (0, 1, 2)] == [1, 0.75, 0.9]
  assert groups[1]["count"] == 20


def test_several_labels_and_numbers_decide_no_class():
  assert tasks.MultiLabel().decide(LOGITS) is None
  assert tasks.Regression().decide(LOGITS[:, 0]) is None


def test_several_labels_are_listed_one_by_one():
  task, logits, fields = CASES["several labels"]
  table = task.tables(logits, fields)["per_class"]
  assert all(len(column) == 4 for column in table.values())
  np.testing.assert_array_equal(table["support"], fields["label"].sum(0))


def test_a_standardized_number_is_measured_in_its_own_units():
  task = tasks.Regression(mean=100.0, std=10.0)
  scores = np.asarray(task.scores(jnp.asarray([[0.0], [2.0]])))
  np.testing.assert_array_equal(scores, [100, 120])
  metrics = task.metrics(scores, {"label": np.array([100, 123], np.float32)})
  assert metrics["mean_absolute_error"] == 1.5


def output(*shape):
  return jax.ShapeDtypeStruct(shape, np.float32)


@pytest.mark.parametrize(
  "call, told",
  [
    (
      lambda: tasks.Classification().metrics(
        LOGITS, CASES["several labels"][2]
      ),
      r"field 'label' is bool \[60, 4\]; use the task MultiLabel",
    ),
    (
      lambda: tasks.Classification().metrics(LOGITS, CASES["regression"][2]),
      r"float32 \[60\]; use the task Regression",
    ),
    (
      lambda: tasks.MultiLabel().metrics(LOGITS, {"label": CLASSES}),
      r"int32 \[60\]; set target='labels' of the source",
    ),
    (
      lambda: tasks.Regression().metrics(LOGITS[:, 0], {"label": CLASSES}),
      r"int32 \[60\]; set target='number' of the source",
    ),
    (
      lambda: tasks.Regression().check((), output(8, 4), key="config.models.m"),
      r"config.models.m: Regression .* returns \(8, 4\); set classes=1",
    ),
    (
      lambda: tasks.Regression().check(("a", "b"), output(8, 1), key="m"),
      "m: the data has 2 classes and Regression predicts a number",
    ),
    (
      lambda: tasks.MultiLabel().check(("a", "b"), output(8, 4), key="m"),
      "m: 4 logits, but the data has 2 labels; set classes=2",
    ),
    (
      lambda: tasks.MultiLabel().check((), (output(8, 4),) * 2, key="m"),
      r"m: MultiLabel reads logits \[batch, labels\], .*returns tuple",
    ),
    (lambda: tasks.MultiLabel(threshold=50.0), "threshold=50.0 must be"),
    (lambda: tasks.Classification(beta=0.0), "beta=0.0 must be more than 0"),
    (lambda: tasks.Regression(std=0.0), "std=0.0 must be more than 0"),
  ],
)
def test_what_does_not_fit_is_refused(call, told):
  with pytest.raises(errors.UserError, match=told) as e:
    call()
  assert "\n" not in str(e.value)
