"""Metrics of several labels for an example, on the host."""

import numpy as np

from tsjax.core import errors


def metrics(
  logits: np.ndarray,
  labels: np.ndarray,
  *,
  threshold: float = 0.5,
  reference: np.ndarray | None = None,
) -> dict[str, float]:
  """Measures the logits of a whole split, each label a question of its own.

  A label is predicted where its probability, sigmoid(logit), is above the
  threshold. Means over labels are unweighted, over all labels, and a label of
  which there is nothing to divide by counts as 0: scikit-learn's
  `average="macro", zero_division=0`. The `_micro` ones pool the counts of all
  labels.

  Args:
    logits: [n, labels], any real dtype; computed in float64.
    labels: [n, labels], truth values.
    threshold: in (0, 1).
    reference: [n, labels], the logits of the model to agree with.

  Returns:
    f1, precision, recall, f1_micro, precision_micro, recall_micro;
    subset_accuracy, the share of examples all of whose labels are right;
    hamming_loss, the share of wrong labels; mean_average_precision, the mean
    of `average_precision` over the labels that have a positive example, 0
    where none has; binary_cross_entropy (nats, mean over labels) and, with a
    `reference`, agreement: the share of labels with equal predictions.

  Raises:
    UserError: there is no example, or a logit is not finite.
    ValueError: the shapes do not fit.
  """
  logits, labels = _checked(logits, labels)
  predictions = _decide(logits, threshold)
  scores = per_label(logits, labels, threshold=threshold)
  has_positive = scores["support"] > 0
  average_precision = scores["average_precision"][has_positive]
  hits = np.sum(predictions & labels)
  predicted, support = predictions.sum(), labels.sum()
  # -log sigmoid(x) and -log sigmoid(-x), without overflow.
  losses = np.logaddexp(0.0, np.where(labels, -logits, logits))
  result = {
    "f1": float(scores["f1"].mean()),
    "precision": float(scores["precision"].mean()),
    "recall": float(scores["recall"].mean()),
    "f1_micro": float(2 * hits / max(predicted + support, 1)),
    "precision_micro": float(hits / max(predicted, 1)),
    "recall_micro": float(hits / max(support, 1)),
    "subset_accuracy": float((predictions == labels).all(axis=1).mean()),
    "hamming_loss": float((predictions != labels).mean()),
    "mean_average_precision": (
      float(average_precision.mean()) if has_positive.any() else 0.0
    ),
    "binary_cross_entropy": float(losses.mean()),
  }
  if reference is not None:
    if np.shape(reference) != logits.shape:
      raise ValueError(
        f"the reference's logits have shape {np.shape(reference)}, the model's"
        f" {logits.shape}"
      )
    other = _decide(np.asarray(reference, np.float64), threshold)
    result["agreement"] = float((predictions == other).mean())
  return result


def per_label(
  logits: np.ndarray, labels: np.ndarray, *, threshold: float = 0.5
) -> dict[str, np.ndarray]:
  """Scores each label by itself.

  Returns:
    precision, recall, f1 and average_precision, float64 [labels], 0 where
    nothing was there to divide by; support, int64 [labels], the examples that
    have the label.

  Raises:
    UserError, ValueError: as `metrics`.
  """
  logits, labels = _checked(logits, labels)
  predictions = _decide(logits, threshold)
  hits = np.sum(predictions & labels, axis=0)
  predicted, support = predictions.sum(axis=0), labels.sum(axis=0)
  return {
    "precision": hits / np.maximum(predicted, 1),
    "recall": hits / np.maximum(support, 1),
    "f1": 2 * hits / np.maximum(predicted + support, 1),
    "average_precision": np.array(
      [
        average_precision(column, truth)
        for column, truth in zip(logits.T, labels.T, strict=True)
      ]
    ),
    "support": support,
  }


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
  """Area under precision over recall, 0 where there is no positive example.

      AP = sum_n (R_n - R_(n-1)) P_n

  scikit-learn's `average_precision_score`.

  Args:
    scores: [n], higher is more likely.
    truth: bool [n].
  """
  import sklearn.metrics

  if not truth.any():
    return 0.0
  return float(sklearn.metrics.average_precision_score(truth, scores))


def _decide(logits: np.ndarray, threshold: float) -> np.ndarray:
  return logits > np.log(threshold / (1 - threshold))


def _checked(
  logits: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """float64 and bool [n, labels], or an error."""
  logits, labels = np.asarray(logits).astype(np.float64), np.asarray(labels)
  if logits.ndim != 2 or not logits.shape[1] or labels.shape != logits.shape:
    raise ValueError(
      f"labels of shape {labels.shape} do not fit logits of {logits.shape}"
    )
  if not len(logits):
    raise errors.UserError(
      "the logits are of 0 examples: there is nothing to measure; use a split"
      " that is not empty"
    )
  bad = np.argwhere(~np.isfinite(logits))
  if len(bad):
    row, column = bad[0]
    raise errors.Diverged(
      f"the logits are not finite: row {row}, label {column} is"
      f" {logits[row, column]}; train with a lower learning rate or a wider"
      " compute dtype"
    )
  return logits, labels.astype(bool)
