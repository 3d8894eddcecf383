"""The metrics of several labels are scikit-learn's."""

import warnings

import numpy as np
import pytest
import sklearn.exceptions
import sklearn.metrics

from tsjax.core import errors
from tsjax.evaluate import multi_label


def _random(seed, n=200, labels=6):
  rng = np.random.default_rng(seed)
  truth = rng.random((n, labels)) < np.linspace(0.05, 0.7, labels)
  return rng.normal(size=(n, labels)) * 2 + truth, truth


CASES = {
  "random": _random(0),
  "one label": _random(1, labels=1),
  "one example": (
    np.array([[1.0, -1.0, 2.0]]),
    np.array([[True, True, False]]),
  ),
  "no positive example": (_random(2)[0], np.zeros((200, 6), bool)),
  "all positive": (_random(3)[0], np.ones((200, 6), bool)),
  "nothing predicted": (np.full((200, 6), -3.0), _random(4)[1]),
  "everything predicted": (np.full((200, 6), 3.0), _random(5)[1]),
  "nothing there, nothing predicted": (
    np.full((4, 2), -3.0),
    np.zeros((4, 2), bool),
  ),
  "zeros of one example": (np.zeros((1, 3)), np.zeros((1, 3), bool)),
}


@pytest.fixture(params=CASES, name="case")
def _case(request):
  return CASES[request.param]


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_scores_are_scikit_learns(case, average):
  logits, truth = case
  result = multi_label.metrics(logits, truth)
  # One label would be taken for classes 0 and 1, of which it is class 1.
  precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
    truth,
    logits > 0,
    labels=np.arange(truth.shape[1]) if truth.shape[1] > 1 else [1],
    average=average,
    zero_division=0,
  )
  end = "_micro" if average == "micro" else ""
  assert result[f"f1{end}"] == pytest.approx(f1)
  assert result[f"precision{end}"] == pytest.approx(precision)
  assert result[f"recall{end}"] == pytest.approx(recall)


def test_wrong_labels_are_counted_as_scikit_learn_does(case):
  logits, truth = case
  result = multi_label.metrics(logits, truth)
  assert result["subset_accuracy"] == pytest.approx(
    sklearn.metrics.accuracy_score(truth, logits > 0)
  )
  assert result["hamming_loss"] == pytest.approx(
    sklearn.metrics.hamming_loss(truth, logits > 0)
  )


def test_mean_average_precision_is_scikit_learns_over_labels_with_positives(
  case,
):
  logits, truth = case
  kept = truth.any(axis=0)
  expected = 0.0
  if kept.any():
    expected = sklearn.metrics.average_precision_score(
      truth[:, kept], logits[:, kept], average="macro"
    )
  result = multi_label.metrics(logits, truth)
  assert result["mean_average_precision"] == pytest.approx(expected)


def test_cross_entropy_is_the_mean_of_scikit_learns_over_labels(case):
  logits, truth = case
  expected = np.mean(
    [
      sklearn.metrics.log_loss(t, 1 / (1 + np.exp(-x)), labels=[False, True])
      for x, t in zip(logits.T, truth.T, strict=True)
    ]
  )
  result = multi_label.metrics(logits, truth)
  assert result["binary_cross_entropy"] == pytest.approx(expected, rel=1e-6)


def test_every_value_is_finite_and_nobody_is_warned(case):
  logits, truth = case
  with warnings.catch_warnings():
    warnings.simplefilter("error", sklearn.exceptions.UndefinedMetricWarning)
    warnings.simplefilter("error", RuntimeWarning)
    result = multi_label.metrics(logits, truth, reference=logits)
  assert all(type(v) is float and np.isfinite(v) for v in result.values())
  assert result["agreement"] == 1


def test_per_label_is_scikit_learns():
  logits, truth = _random(6)
  result = multi_label.per_label(logits, truth)
  expected = sklearn.metrics.precision_recall_fscore_support(
    truth, logits > 0, zero_division=0
  )
  for name, values in zip(
    ("precision", "recall", "f1", "support"), expected, strict=True
  ):
    np.testing.assert_allclose(result[name], values, err_msg=name)
  np.testing.assert_allclose(
    result["average_precision"],
    sklearn.metrics.average_precision_score(truth, logits, average=None),
  )


def test_the_threshold_is_of_the_probability():
  logits = np.log([[0.7 / 0.3, 0.1 / 0.9, 0.4 / 0.6]])
  truth = np.array([[True, False, True]])
  assert multi_label.metrics(logits, truth)["subset_accuracy"] == 0
  wide = multi_label.metrics(logits, truth, threshold=0.3)
  assert wide["subset_accuracy"] == 1


def test_huge_logits_do_not_overflow():
  result = multi_label.metrics(
    np.array([[1e300, -1e5]]), np.array([[True, True]])
  )
  assert result["binary_cross_entropy"] == pytest.approx(5e4)


def test_agreement_is_the_share_of_equal_decisions():
  logits = np.array([[1.0, -1.0], [1.0, 1.0]])
  result = multi_label.metrics(
    logits, logits > 0, reference=np.array([[9.0, 2.0], [0.1, 0.1]])
  )
  assert result["agreement"] == 0.75


def test_what_cannot_be_measured():
  logits, truth = _random(7)
  with pytest.raises(errors.UserError, match="0 examples"):
    multi_label.metrics(logits[:0], truth[:0])
  with pytest.raises(ValueError, match="do not fit"):
    multi_label.metrics(logits, truth[:, :3])
  logits[5, 2] = np.nan
  with pytest.raises(errors.UserError, match="row 5, label 2 is nan"):
    multi_label.metrics(logits, truth)
