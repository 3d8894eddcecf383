"""Targets: what a label may be, and what follows for a whole split of them."""

from typing import Any

import numpy as np

from tsjax.core import errors

# One class, a number (regression), or any of several labels.
TARGETS = ("class", "number", "labels")

# Quantiles that a share of numbers is stratified by.
_BINS = 10


def check(name: str, target: str) -> None:
  """Raises UserError unless `target` is one of `TARGETS`."""
  if target not in TARGETS:
    raise errors.UserError(
      f"{name}: target={target!r}: {errors.nearest(target, TARGETS)}"
    )


def checked(
  name: str, split: str, labels: np.ndarray, classes: int, target: str
) -> np.ndarray:
  """Labels that are no classes, as `Source.labels` gives them.

  Args:
    name: what errors call the source.
    split: the split, for the errors.
    labels: [size], or [size, classes] for "labels".
    classes: number of classes, or 0 where it is not known.
    target: "number" or "labels".

  Returns:
    float32 [size] or bool [size, classes].

  Raises:
    UserError: the labels are of another kind or shape, or one is not finite.
  """
  told = (
    f"{name}: labels of split {split!r} are {labels.dtype} {list(labels.shape)}"
  )
  if target == "number":
    if labels.dtype.kind not in "iuf" or labels.ndim != 1:
      raise errors.UserError(
        f"{told}; target='number' is floats or integers [size]"
      )
    with np.errstate(over="ignore"):
      narrow = labels.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(narrow))
    if wrong.size:
      raise errors.UserError(
        f"{name}: split {split!r} row {wrong[0]} has label {labels[wrong[0]]},"
        " no finite float32; mend the label or leave the row out"
      )
    return narrow
  if labels.dtype.kind not in "biu" or labels.ndim != 2:
    raise errors.UserError(
      f"{told}; target='labels' is truth values [size, classes]"
    )
  if classes and labels.shape[1] != classes:
    raise errors.UserError(f"{told}, but there are {classes} classes")
  rows = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1))
  if rows.size:
    raise errors.UserError(
      f"{name}: split {split!r} row {rows[0]} has labels"
      f" {labels[rows[0]].tolist()}; each is 0 or 1"
    )
  return labels.astype(bool)


def is_class(labels: np.ndarray) -> bool:
  """Whether labels of a split are classes, one for each example."""
  return labels.ndim == 1 and labels.dtype.kind in "iu"


def strata(labels: np.ndarray) -> np.ndarray:
  """The stratum of every example, integers [size].

  It is the class itself; of a number, the tenth of the split that it lies in
  (fewer parts where a tenth would hold fewer than two examples); and of several
  labels, the rarest one that the example has, with a stratum of its own for
  examples that have none.

  Args:
    labels: as `Source.labels` gives them.
  """
  if is_class(labels):
    return labels
  if labels.ndim == 1:
    bins = int(np.clip(len(labels) // 2, 1, _BINS))
    inner = np.quantile(labels.astype(np.float64), np.arange(1, bins) / bins)
    # Equal numbers fall into one bin, whatever the quantiles.
    return np.searchsorted(inner, labels, side="right")
  counts = labels.sum(axis=0)
  rarity = np.where(labels, counts, len(labels) + 1)
  has_none = ~labels.any(axis=1)
  return np.where(has_none, labels.shape[1], rarity.argmin(axis=1))


def balanced(
  labels: np.ndarray, classes: int | None = None
) -> tuple[float, ...]:
  """Weights that make rare classes count as much as common ones.

  For a loss of a config in one line:
  `spec(cross_entropy, class_weights=targets.balanced(labels))`.

  Args:
    labels: classes, integers [size], for `cross_entropy`: the weight is size /
      (classes * count), scikit-learn's "balanced". Or several labels, bool
      [size, classes], for `binary_cross_entropy`: the weight of the positive
      examples, negatives / positives.
    classes: how many classes there are; None is what the labels show.

  Raises:
    UserError: a class has no example, or labels are numbers.
  """
  if is_class(labels):
    counts = np.bincount(labels, minlength=classes or 0)
    others = np.full(len(counts), len(labels) / len(counts))
  elif labels.ndim == 2:
    counts = labels.sum(axis=0)
    others = len(labels) - counts
  else:
    raise errors.UserError(
      f"balanced: labels {labels.dtype} {list(labels.shape)} are no classes"
    )
  bare = np.flatnonzero(counts == 0)
  if bare.size:
    raise errors.UserError(
      f"balanced: class {bare[0]} has no example, so it has no weight; give"
      " the weights by hand"
    )
  return tuple((others / counts).tolist())


def moments(labels: np.ndarray) -> dict[str, Any]:
  """Mean and deviation of a regression target, as keywords.

  A model learns a target of mean 0 and deviation 1 more easily: give these to
  both `squared_error` and the task `Regression`, whose metrics are then in
  the target's own units: `spec(squared_error, **targets.moments(labels))`.

  Args:
    labels: numbers [size], of train.

  Raises:
    UserError: all numbers are equal, or there are none.
  """
  values = np.asarray(labels, np.float64)
  if values.ndim != 1 or not values.size or values.std() == 0:
    raise errors.UserError(
      f"moments: labels {list(values.shape)} do not vary; leave mean and std"
      " as they are"
    )
  return {"mean": float(values.mean()), "std": float(values.std())}
