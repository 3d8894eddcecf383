"""Metrics of predicted numbers, on the host."""

from collections.abc import Callable
from typing import Any
import warnings

import numpy as np

from tsjax.core import errors


def metrics(
  predictions: np.ndarray,
  targets: np.ndarray,
  *,
  reference: np.ndarray | None = None,
) -> dict[str, float]:
  """Measures the predictions of a whole split against its numbers.

  All are finite. A correlation is 0 where the predictions or the targets are
  all equal, or where there is one example, of which nothing can be said; r2 is
  then 1 if every prediction is exact and 0 if not (scikit-learn's
  `r2_score(force_finite=True)`, here also of one example).

  Args:
    predictions: [n], any real dtype; computed in float64.
    targets: [n].
    reference: [n], predictions of the model to compare with.

  Returns:
    mean_squared_error, mean_absolute_error, r2, pearson, spearman and, with a
    `reference`, reference_error: the mean absolute difference to its
    predictions, in the target's units.

  Raises:
    UserError: there is no example, or a prediction is not finite.
    ValueError: the shapes do not fit.
  """
  predictions = np.asarray(predictions).astype(np.float64)
  targets = np.asarray(targets).astype(np.float64)
  if predictions.ndim != 1 or predictions.shape != targets.shape:
    raise ValueError(
      f"targets of shape {targets.shape} do not fit predictions of"
      f" {predictions.shape}"
    )
  if not len(predictions):
    raise errors.UserError(
      "the predictions are of 0 examples: there is nothing to measure; use a"
      " split that is not empty"
    )
  bad = np.flatnonzero(~np.isfinite(predictions))
  if len(bad):
    raise errors.Diverged(
      f"the predictions are not finite: row {bad[0]} is {predictions[bad[0]]}"
      f" ({len(bad)} of {len(predictions)} rows are bad); train with a lower"
      " learning rate, or standardize the target"
    )
  error = predictions - targets
  result = {
    "mean_squared_error": float(np.mean(error**2)),
    "mean_absolute_error": float(np.abs(error).mean()),
    "r2": r2(predictions, targets),
    "pearson": pearson(predictions, targets),
    "spearman": spearman(predictions, targets),
  }
  if reference is not None:
    reference = np.asarray(reference, np.float64)
    if reference.shape != predictions.shape:
      raise ValueError(
        f"the reference's predictions have shape {reference.shape}, the"
        f" model's {predictions.shape}"
      )
    result["reference_error"] = float(np.abs(predictions - reference).mean())
  return result


def r2(predictions: np.ndarray, targets: np.ndarray) -> float:
  """The share of the targets' variance that is explained; at most 1.

  Args:
    predictions: [n].
    targets: [n]; where they are all equal, 1 if all are met and else 0.
  """
  unexplained = np.sum((targets - predictions) ** 2)
  # Equal numbers may have a mean that is not quite theirs.
  if np.ptp(targets) == 0:
    return float(unexplained == 0)
  return float(1 - unexplained / np.sum((targets - targets.mean()) ** 2))


def pearson(a: np.ndarray, b: np.ndarray) -> float:
  """Pearson correlation of [n] and [n], in -1..1; 0 where one is constant."""
  import scipy.stats

  return _correlation(scipy.stats.pearsonr, a, b)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
  """Rank correlation of [n] and [n], in -1..1; 0 where one is constant."""
  import scipy.stats

  return _correlation(scipy.stats.spearmanr, a, b)


def _correlation(
  correlate: Callable[..., Any], a: np.ndarray, b: np.ndarray
) -> float:
  if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  with warnings.catch_warnings():
    # A model that has barely begun predicts nearly one number.
    warnings.simplefilter("ignore")
    value = correlate(a, b).statistic
  return float(value) if np.isfinite(value) else 0.0
