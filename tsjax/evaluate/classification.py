"""Metrics of class logits, in NumPy on the host."""

from typing import Any

import numpy as np

from tsjax.core import errors

BINS = 15


def metrics(
  logits: np.ndarray,
  labels: np.ndarray,
  *,
  reference: np.ndarray | None = None,
  beta: float | None = None,
) -> dict[str, float]:
  """Measures the logits of a whole split against its labels.

  The prediction is the largest logit, the first of equals. Precision, recall
  and F1 are unweighted means over the classes that occur among the labels or
  the predictions: scikit-learn's `average="macro", zero_division=0` with its
  default `labels=None`. A class that is in neither says nothing about the
  model and would only pull the mean to 0; for a mean over all classes, take
  that of `per_class`. The `_micro` ones pool the counts of all classes and
  all equal the accuracy where every example has one label.

  Args:
    logits: [n, classes], any real dtype; computed in float64.
    labels: [n], integers in [0, classes).
    reference: [n, classes], the logits of the model to agree with.
    beta: how many times recall matters more than precision in f_beta, which
      is a mean over classes as f1 is; None leaves it out.

  Returns:
    accuracy, precision, recall, f1, f1_micro, precision_micro, recall_micro,
    matthews (see there), cross_entropy (nats), calibration_error (see there)
    and, with a `reference`, agreement: the share of examples with equal
    predictions; with a `beta`, f_beta.

  Raises:
    UserError: there is no example, a logit is not finite, or a label is not
      in [0, classes); the message names the first such row.
    ValueError: the shapes do not fit.
  """
  logits, labels = _checked(logits, labels)
  predictions = logits.argmax(axis=-1)
  counts = confusion(labels, predictions, logits.shape[-1])
  scores = per_class(counts)
  occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
  accuracy = float(np.mean(predictions == labels))
  log_likelihoods = _log_softmax(logits)[np.arange(len(labels)), labels]
  result = {
    "accuracy": accuracy,
    "precision": float(scores["precision"][occurs].mean()),
    "recall": float(scores["recall"][occurs].mean()),
    "f1": float(scores["f1"][occurs].mean()),
    # One label and one prediction an example: each false positive of a class
    # is a false negative of another, so the pooled scores are the accuracy.
    "f1_micro": accuracy,
    "precision_micro": accuracy,
    "recall_micro": accuracy,
    "matthews": matthews(counts),
    "cross_entropy": float(-log_likelihoods.mean()),
    "calibration_error": calibration_error(logits, labels),
  }
  if beta is not None:
    result["f_beta"] = float(f_beta(counts, beta)[occurs].mean())
  if reference is not None:
    reference = _finite(reference, "the reference's logits")
    if reference.shape != logits.shape:
      raise ValueError(
        f"the reference's logits have shape {reference.shape}, the model's"
        f" {logits.shape}"
      )
    result["agreement"] = float(
      np.mean(predictions == reference.argmax(axis=-1))
    )
  return result


def confusion(
  labels: np.ndarray, predictions: np.ndarray, classes: int
) -> np.ndarray:
  """Counts examples by class.

  Args:
    labels: [n], the true classes, integers in [0, classes).
    predictions: [n], the predicted ones.
    classes: how many classes there are.

  Returns:
    int64 [classes, classes]: rows true, columns predicted.

  Raises:
    UserError: a label or prediction is not in [0, classes).
    ValueError: the shapes do not fit.
  """
  labels = _classes(labels, classes, "label")
  predictions = _classes(predictions, classes, "prediction")
  if labels.shape != predictions.shape:
    raise ValueError(
      f"{labels.shape} labels do not fit {predictions.shape} predictions"
    )
  cells = np.bincount(labels * classes + predictions, minlength=classes**2)
  return cells.reshape(classes, classes)


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
  """Scores each class from [classes, classes] counts, rows true.

  Returns:
    precision, recall and f1, float64 [classes], 0 where nothing was there to
    divide by (scikit-learn's `zero_division=0`); support, int64 [classes],
    the true examples of each class.
  """
  confusion = np.asarray(confusion)
  hits = np.diagonal(confusion)
  predicted, support = confusion.sum(axis=0), confusion.sum(axis=1)
  return {
    "precision": _ratio(hits, predicted),
    "recall": _ratio(hits, support),
    "f1": _ratio(2 * hits, predicted + support),
    "support": support,
  }


def f_beta(confusion: np.ndarray, beta: float) -> np.ndarray:
  """F-beta of each class from [classes, classes] counts, rows true.

      (1 + beta^2) P R / (beta^2 P + R), P the precision and R the recall

  Args:
    confusion: [classes, classes], rows true.
    beta: above 0; 1 is F1, and 2 weighs recall higher.

  Returns:
    float64 [classes], 0 where a class is in neither labels nor predictions.
  """
  confusion = np.asarray(confusion)
  hits = np.diagonal(confusion)
  predicted, support = confusion.sum(axis=0), confusion.sum(axis=1)
  whole = beta**2 * support + predicted
  return (1 + beta**2) * hits / np.where(whole > 0, whole, 1)


def matthews(confusion: np.ndarray) -> float:
  """Matthews correlation of labels and predictions, of any number of classes.

  1 where all predictions are right, 0 where they are no better than chance, and
  0 where labels or predictions are all of one class, of which nothing can be
  said (scikit-learn's `matthews_corrcoef`).

  Source: Gorodkin 2004, "Comparing two K-category assignments by a
  K-category correlation coefficient", equation 8.

  Args:
    confusion: [classes, classes] counts, rows true.
  """
  confusion = np.asarray(confusion, np.float64)
  predicted, support = confusion.sum(axis=0), confusion.sum(axis=1)
  size = confusion.sum()
  spread = (size**2 - predicted @ predicted) * (size**2 - support @ support)
  if not spread > 0:
    return 0.0
  shared = size * np.trace(confusion) - predicted @ support
  return float(shared / np.sqrt(spread))


def by_group(
  logits: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> dict[Any, dict[str, Any]]:
  """Measures the examples of each group by themselves.

  Args:
    logits: [n, classes].
    labels: [n], integers in [0, classes).
    groups: [n], which group an example belongs to.

  Returns:
    Group -> accuracy, f1 (as in `metrics`, over the group's examples), count,
    and confusion, int64 [classes, classes]. In the groups' order.

  Raises:
    UserError, ValueError: as `metrics`, or the groups do not fit.
  """
  logits, labels = _checked(logits, labels)
  groups = np.asarray(groups)
  if groups.shape != labels.shape:
    raise errors.UserError(
      f"the groups have shape {list(groups.shape)} for {len(labels)} examples;"
      " give one group for each"
    )
  predictions = logits.argmax(axis=-1)
  result = {}
  for group in np.unique(groups):
    here = groups == group
    counts = confusion(labels[here], predictions[here], logits.shape[-1])
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    result[group.item()] = {
      "accuracy": float(np.trace(counts) / counts.sum()),
      "f1": float(per_class(counts)["f1"][occurs].mean()),
      "count": int(here.sum()),
      "confusion": counts,
    }
  return result


def reliability(
  logits: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> dict[str, np.ndarray]:
  """Sorts examples by confidence, the largest probability, into equal bins.

  Bin b of `bins` holds the confidences in (b / bins, (b + 1) / bins].

  Args:
    logits: [n, classes].
    labels: [n], integers in [0, classes).
    bins: how many bins of equal width.

  Returns:
    count, int64 [bins]; confidence and accuracy, float64 [bins], the means
    over the examples of each bin, 0 where there is none.

  Raises:
    UserError, ValueError: as `metrics`.
  """
  logits, labels = _checked(logits, labels)
  if bins < 1:
    raise ValueError(f"bins={bins}: there must be at least one")
  confidence = np.exp(_log_softmax(logits).max(axis=-1))
  hits = logits.argmax(axis=-1) == labels
  inner_edges = np.arange(1, bins) / bins
  # side="left": a confidence on an edge belongs to the bin below it.
  bin_of = np.searchsorted(inner_edges, confidence, side="left")
  count = np.bincount(bin_of, minlength=bins)
  return {
    "count": count,
    "confidence": _ratio(np.bincount(bin_of, confidence, bins), count),
    "accuracy": _ratio(np.bincount(bin_of, hits, bins), count),
  }


def calibration_error(
  logits: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> float:
  """Expected calibration error: 0 where confidence is honest, at most 1.

      ECE = sum_b count_b / n * |accuracy_b - confidence_b|

  over the bins of `reliability` (Guo et al. 2017, "On Calibration of Modern
  Neural Networks", eq. 3). Arguments and errors are those of `reliability`.
  """
  table = reliability(logits, labels, bins)
  gaps = np.abs(table["accuracy"] - table["confidence"])
  return float(np.sum(table["count"] * gaps) / table["count"].sum())


def _checked(
  logits: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """float64 [n, classes] and int64 [n], or an error."""
  logits = _finite(logits, "the logits")
  labels = _classes(labels, logits.shape[1], "label")
  if len(logits) != len(labels):
    raise ValueError(
      f"{len(labels)} labels do not fit logits of shape {logits.shape}"
    )
  return logits, labels


def _finite(logits: np.ndarray, what: str) -> np.ndarray:
  logits = np.asarray(logits).astype(np.float64)
  if logits.ndim != 2 or not logits.shape[1]:
    raise ValueError(f"{what} have shape {logits.shape}, not [n, classes]")
  if not len(logits):
    raise errors.UserError(
      f"{what} are of 0 examples: there is nothing to measure; use a split"
      " that is not empty"
    )
  bad = np.argwhere(~np.isfinite(logits))
  if len(bad):
    row, column = bad[0]
    raise errors.Diverged(
      f"{what} are not finite: row {row}, class {column} is"
      f" {logits[row, column]} ({len(np.unique(bad[:, 0]))} of"
      f" {len(logits)} rows are bad); train with a lower learning rate or a"
      " wider compute dtype"
    )
  return logits


def _classes(values: np.ndarray, classes: int, what: str) -> np.ndarray:
  values = np.asarray(values)
  if values.ndim != 1:
    raise ValueError(f"{what}s have shape {values.shape}, not [n]")
  if values.dtype.kind not in "iu":
    raise ValueError(f"{what}s have dtype {values.dtype}, not an integer one")
  bad = np.flatnonzero((values < 0) | (values >= classes))
  if len(bad):
    raise errors.UserError(
      f"row {bad[0]} has {what} {values[bad[0]]}, but there are {classes}"
      f" classes: a {what} is in [0, {classes})"
    )
  return values.astype(np.int64)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
  shifted = logits - logits.max(axis=-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """float64 numerator / denominator, and 0 where the latter is 0."""
  # Every numerator here counts a part of its denominator, so it is 0 wherever
  # the denominator is, and dividing by 1 there gives the 0 that is wanted.
  return np.asarray(numerator, np.float64) / np.maximum(denominator, 1)
