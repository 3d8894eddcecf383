"""The classification metrics are scikit-learn's, to the last digit."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from tsjax.core import errors
from tsjax.evaluate import classification


def _random(seed, n=200, classes=7):
  random = np.random.default_rng(seed)
  logits = random.normal(size=(n, classes)) * 2
  return logits, random.integers(0, classes, n)


def _one_hot(predictions, classes):
  return 4.0 * np.eye(classes)[np.asarray(predictions)]


CASES = {
  "random": _random(0),
  "many classes, few examples": _random(1, n=12, classes=40),
  "two classes": _random(2, n=50, classes=2),
  "one example, right": (_one_hot([2], 4), np.array([2])),
  "one example, wrong": (_one_hot([2], 4), np.array([1])),
  "class 3 in neither": (
    _one_hot([0, 1, 2, 2, 1], 4),
    np.array([0, 1, 2, 1, 0]),
  ),
  "class 2 never predicted": (
    _one_hot([0, 1, 1, 0], 3),
    np.array([0, 1, 2, 2]),
  ),
  "class 2 only predicted": (_one_hot([0, 1, 2, 2], 3), np.array([0, 1, 1, 0])),
  "all wrong": (_one_hot([1, 2, 0], 3), np.array([0, 1, 2])),
  "one label only": (_one_hot([0, 0, 0], 3), np.array([0, 0, 0])),
  "ties": (np.zeros((6, 3)), np.array([0, 1, 2, 0, 0, 1])),
}


@pytest.fixture(params=CASES, name="case")
def _case(request):
  return CASES[request.param]


def test_macro_scores_are_scikit_learns_with_its_default_labels(case):
  logits, labels = case
  result = classification.metrics(logits, labels)
  precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
    labels, logits.argmax(-1), average="macro", zero_division=0
  )
  assert result["precision"] == pytest.approx(precision, abs=1e-6)
  assert result["recall"] == pytest.approx(recall, abs=1e-6)
  assert result["f1"] == pytest.approx(f1, abs=1e-6)


def test_micro_scores_and_accuracy_are_scikit_learns(case):
  logits, labels = case
  result = classification.metrics(logits, labels)
  precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
    labels, logits.argmax(-1), average="micro", zero_division=0
  )
  assert result["precision_micro"] == pytest.approx(precision, abs=1e-6)
  assert result["recall_micro"] == pytest.approx(recall, abs=1e-6)
  assert result["f1_micro"] == pytest.approx(f1, abs=1e-6)
  assert result["accuracy"] == pytest.approx(
    sklearn.metrics.accuracy_score(labels, logits.argmax(-1)), abs=1e-6
  )


def test_per_class_is_scikit_learns_with_all_labels(case):
  logits, labels = case
  classes = logits.shape[1]
  counts = classification.confusion(labels, logits.argmax(-1), classes)
  result = classification.per_class(counts)
  expected = sklearn.metrics.precision_recall_fscore_support(
    labels, logits.argmax(-1), labels=np.arange(classes), zero_division=0
  )
  for name, values in zip(
    ("precision", "recall", "f1", "support"), expected, strict=True
  ):
    np.testing.assert_allclose(result[name], values, atol=1e-6, err_msg=name)
  macro = sklearn.metrics.f1_score(
    labels,
    logits.argmax(-1),
    labels=np.arange(classes),
    average="macro",
    zero_division=0,
  )
  assert result["f1"].mean() == pytest.approx(macro, abs=1e-6)


def test_confusion_is_scikit_learns(case):
  logits, labels = case
  classes = logits.shape[1]
  counts = classification.confusion(labels, logits.argmax(-1), classes)
  np.testing.assert_array_equal(
    counts,
    sklearn.metrics.confusion_matrix(
      labels, logits.argmax(-1), labels=np.arange(classes)
    ),
  )
  assert counts.dtype.kind == "i"


def test_cross_entropy_is_scikit_learns(case):
  logits, labels = case
  exponentials = np.exp(logits)
  probabilities = exponentials / exponentials.sum(-1, keepdims=True)
  expected = sklearn.metrics.log_loss(
    labels, probabilities, labels=np.arange(logits.shape[1])
  )
  result = classification.metrics(logits, labels)
  assert result["cross_entropy"] == pytest.approx(expected, abs=1e-6)


def test_a_class_in_neither_is_left_out_of_the_macro_mean():
  # Classes 0 and 1 are perfect; class 2 never occurs.
  logits, labels = _one_hot([0, 1], 3), np.array([0, 1])
  assert classification.metrics(logits, labels)["f1"] == 1
  counts = classification.confusion(labels, labels, 3)
  np.testing.assert_array_equal(
    classification.per_class(counts)["f1"], [1, 1, 0]
  )


def test_a_single_class_is_always_right():
  result = classification.metrics(np.ones((4, 1)), np.zeros(4, np.int32))
  assert result["accuracy"] == result["f1"] == result["precision"] == 1
  assert result["cross_entropy"] == 0
  assert result["calibration_error"] == 0


def test_of_equal_logits_the_first_is_the_prediction():
  logits = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
  assert classification.metrics(logits, np.array([1, 0]))["accuracy"] == 1


def test_huge_logits_do_not_overflow():
  result = classification.metrics(
    np.array([[1e300, 0.0], [-1e5, 0.0]]), np.array([0, 0])
  )
  assert result["cross_entropy"] == pytest.approx(5e4)


def test_a_constant_added_to_a_row_changes_nothing():
  logits, labels = _random(3)
  shift = np.random.default_rng(4).normal(size=(len(logits), 1))
  one = classification.metrics(logits, labels)
  other = classification.metrics(logits + shift, labels)
  assert one == pytest.approx(other, abs=1e-9)


def test_device_and_half_precision_arrays_are_taken():
  logits, labels = _random(5)
  half = jnp.asarray(logits, jnp.bfloat16)
  result = classification.metrics(half, jnp.asarray(labels))
  expected = classification.metrics(np.asarray(half, np.float64), labels)
  assert result == expected


def test_every_value_is_a_float():
  logits, labels = _random(6)
  result = classification.metrics(logits, labels, reference=logits)
  assert {type(v) for v in result.values()} == {float}


def test_agreement_is_the_share_of_equal_predictions():
  logits, labels = _one_hot([0, 1, 2, 2], 3), np.array([0, 0, 0, 0])
  reference = _one_hot([0, 1, 1, 2], 3) * 0.1
  result = classification.metrics(logits, labels, reference=reference)
  assert result["agreement"] == 0.75
  assert "agreement" not in classification.metrics(logits, labels)


def test_calibration_error_by_hand():
  # Two classes, confidences 0.6, 0.6, 0.9 and 0.9; right, wrong, right, right.
  #   bin (8/15, 9/15]:   2 examples, accuracy 0.5, confidence 0.6: gap 0.1
  #   bin (13/15, 14/15]: 2 examples, accuracy 1.0, confidence 0.9: gap 0.1
  # ECE = 2/4 * 0.1 + 2/4 * 0.1 = 0.1
  confidence = np.array([0.6, 0.6, 0.9, 0.9])
  logits = np.stack([np.log(confidence), np.log(1 - confidence)], axis=-1)
  labels = np.array([0, 1, 0, 0])
  table = classification.reliability(logits, labels)
  assert classification.calibration_error(logits, labels) == pytest.approx(0.1)
  assert table["count"].sum() == 4
  assert table["count"][13] == 2
  assert table["confidence"][13] == pytest.approx(0.9)
  assert table["accuracy"][13] == 1
  empty = table["count"] == 0
  assert not table["confidence"][empty].any()
  assert not table["accuracy"][empty].any()


def test_gaps_of_opposite_sign_do_not_cancel():
  # One bin would see accuracy 0.5 at confidence 0.75: ECE 0.25. With four,
  # (0.5, 0.75] is right at 0.6 (gap 0.4), (0.75, 1] wrong at 0.9 (gap 0.9).
  confidence = np.array([0.6, 0.9])
  logits = np.stack([np.log(confidence), np.log(1 - confidence)], axis=-1)
  labels = np.array([0, 1])
  error = classification.calibration_error
  assert error(logits, labels, 1) == pytest.approx(0.25)
  assert error(logits, labels, 4) == pytest.approx(0.65)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
  # Equal logits of two classes: confidence 0.5, the edge of 2 bins.
  table = classification.reliability(np.zeros((3, 2)), np.zeros(3, int), 2)
  np.testing.assert_array_equal(table["count"], [3, 0])
  sure = np.array([[1000.0, 0.0]])
  table = classification.reliability(sure, np.array([0]), 15)
  assert table["count"][14] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_name_the_first_row(value):
  logits, labels = _random(7)
  logits[5, 2] = logits[9, 0] = value
  with pytest.raises(errors.UserError, match=r"row 5, class 2 .*2 of 200"):
    classification.metrics(logits, labels)
  with pytest.raises(errors.UserError, match=r"reference's logits .*row 5"):
    classification.metrics(np.zeros_like(logits), labels, reference=logits)


def test_a_label_out_of_range_names_its_row():
  logits, labels = _random(8)
  labels[3] = 7
  with pytest.raises(errors.UserError, match=r"row 3 has label 7, .*7 classes"):
    classification.metrics(logits, labels)
  labels[3] = -1
  with pytest.raises(errors.UserError, match="row 3 has label -1"):
    classification.metrics(logits, labels)


def test_no_example_is_an_error():
  with pytest.raises(errors.UserError, match="0 examples"):
    classification.metrics(np.zeros((0, 3)), np.zeros(0, int))


@pytest.mark.parametrize(
  "logits, labels, reference",
  [
    (np.zeros((4, 3)), np.zeros(5, int), None),
    (np.zeros((4, 3, 2)), np.zeros(4, int), None),
    (np.zeros((4, 3)), np.zeros((4, 1), int), None),
    (np.zeros((4, 3)), np.zeros(4), None),
    (np.zeros((4, 3)), np.zeros(4, int), np.zeros((4, 2))),
  ],
)
def test_shapes_that_do_not_fit_are_errors(logits, labels, reference):
  with pytest.raises(ValueError):
    classification.metrics(logits, labels, reference=reference)


@pytest.mark.filterwarnings("ignore:A single label was found")
def test_matthews_is_scikit_learns(case):
  logits, labels = case
  expected = sklearn.metrics.matthews_corrcoef(labels, logits.argmax(-1))
  result = classification.metrics(logits, labels)
  assert result["matthews"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0, 2.0])
def test_f_beta_is_scikit_learns(case, beta):
  logits, labels = case
  expected = sklearn.metrics.fbeta_score(
    labels, logits.argmax(-1), beta=beta, average="macro", zero_division=0
  )
  result = classification.metrics(logits, labels, beta=beta)
  assert result["f_beta"] == pytest.approx(expected, abs=1e-9)
  if beta == 1.0:
    assert result["f_beta"] == pytest.approx(result["f1"], abs=1e-12)


def test_groups_are_measured_as_splits_of_their_own():
  logits, labels = _random(9)
  groups = np.arange(200) % 3 * 7
  result = classification.by_group(logits, labels, groups)
  assert list(result) == [0, 7, 14]
  for group, values in result.items():
    here = groups == group
    alone = classification.metrics(logits[here], labels[here])
    assert values["accuracy"] == pytest.approx(alone["accuracy"])
    assert values["f1"] == pytest.approx(alone["f1"])
    assert values["count"] == here.sum() == values["confusion"].sum()
  total = sum(values["confusion"] for values in result.values())
  np.testing.assert_array_equal(
    total, classification.confusion(labels, logits.argmax(-1), 7)
  )


def test_groups_need_one_for_each_example():
  logits, labels = _random(10)
  with pytest.raises(errors.UserError, match=r"groups have shape \[200, 2\]"):
    classification.by_group(logits, labels, np.zeros((200, 2)))
