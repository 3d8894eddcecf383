"""The metrics of numbers are scikit-learn's and SciPy's, and always finite."""

import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from tsjax.core import errors
from tsjax.evaluate import regression


def _random(seed, n=100):
  rng = np.random.default_rng(seed)
  targets = rng.normal(size=n) * 3 + 5
  return (targets + rng.normal(size=n)).astype(np.float32), targets


DEGENERATE = {
  "constant predictions": (np.full(9, 2.5), np.arange(9.0)),
  "constant targets": (np.arange(9.0), np.full(9, 0.1)),
  "constant targets, met": (np.full(9, 0.1), np.full(9, 0.1)),
  "one example": (np.array([1.0]), np.array([3.0])),
  "one example, met": (np.array([3.0]), np.array([3.0])),
  "zeros of one example": (np.zeros(1), np.zeros(1)),
  "two examples": (np.array([1.0, 2.0]), np.array([4.0, 3.0])),
  "nearly constant": (1 + np.arange(9) * 1e-16, np.arange(9.0)),
}


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_the_libraries(seed):
  predictions, targets = _random(seed)
  result = regression.metrics(predictions, targets)
  wide = predictions.astype(np.float64)
  assert result["mean_squared_error"] == pytest.approx(
    sklearn.metrics.mean_squared_error(targets, wide)
  )
  assert result["mean_absolute_error"] == pytest.approx(
    sklearn.metrics.mean_absolute_error(targets, wide)
  )
  assert result["r2"] == pytest.approx(sklearn.metrics.r2_score(targets, wide))
  assert result["pearson"] == pytest.approx(
    scipy.stats.pearsonr(targets, wide).statistic
  )
  assert result["spearman"] == pytest.approx(
    scipy.stats.spearmanr(targets, wide).statistic
  )
  assert {type(v) for v in result.values()} == {float}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_input_is_finite_and_nobody_is_warned(case):
  predictions, targets = DEGENERATE[case]
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    result = regression.metrics(predictions, targets)
  assert all(np.isfinite(v) for v in result.values())
  if len(targets) > 1:
    assert result["r2"] == pytest.approx(
      sklearn.metrics.r2_score(targets, predictions)
    )
  if "constant" in case and "nearly" not in case:
    assert result["pearson"] == result["spearman"] == 0


def test_r2_of_one_example_is_one_only_if_it_is_met():
  assert regression.metrics(np.array([1.0]), np.array([3.0]))["r2"] == 0
  assert regression.metrics(np.array([3.0]), np.array([3.0]))["r2"] == 1


def test_by_hand():
  # Errors 1, 0, -1, 0; the targets' squares about their mean 2.5 add up to 5.
  result = regression.metrics(
    np.array([2.0, 2.0, 2.0, 4.0]),
    np.array([1.0, 2.0, 3.0, 4.0]),
    reference=np.array([2.0, 2.0, 2.0, 0.0]),
  )
  assert result["mean_squared_error"] == 0.5
  assert result["mean_absolute_error"] == 0.5
  assert result["r2"] == pytest.approx(0.6)
  assert result["reference_error"] == 1


def test_what_cannot_be_measured():
  predictions, targets = _random(4)
  with pytest.raises(errors.UserError, match="0 examples"):
    regression.metrics(predictions[:0], targets[:0])
  with pytest.raises(ValueError, match="do not fit"):
    regression.metrics(predictions[:, None], targets)
  with pytest.raises(ValueError, match="reference"):
    regression.metrics(predictions, targets, reference=targets[:5])
  predictions[7] = np.inf
  with pytest.raises(errors.UserError, match=r"row 7 is inf \(1 of 100"):
    regression.metrics(predictions, targets)
