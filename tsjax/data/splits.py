"""Splits: which rows of a source a stage uses, and which labels it may see."""

import dataclasses
import math

import numpy as np

from tsjax.core import errors
from tsjax.data import order, sources


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Some rows of one split of a source.

  Attributes:
    source: where the examples are read.
    name: the source's name of the split that the rows count in. A validation
      split carved from train is named "train" here.
    rows: int64 [size], rows of the source's split.
    labelled: bool [size], True where a stage may use the label.

  Raises:
    UserError: the source has no such split, or there are no rows.
  """

  source: sources.Source
  name: str
  rows: np.ndarray
  labelled: np.ndarray

  def __post_init__(self) -> None:
    sources.check_split("the source", self.source.splits, self.name)
    if not len(self.rows):
      raise errors.UserError(f"the split of {self.name!r} has no examples")
    if len(self.rows) != len(self.labelled):
      raise ValueError(f"{len(self.rows)=} but {len(self.labelled)=}")

  @property
  def size(self) -> int:
    """Number of examples."""
    return len(self.rows)

  def labels(self) -> np.ndarray:
    """Labels of the split's examples, int32 [size], in the order of `rows`."""
    return self.source.labels(self.name)[self.rows]

  def read(self, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Reads examples by their positions in `rows`.

    Args:
      positions: integers [n] in 0..size-1.

    Returns:
      The source's fields, `index` int32 [n] (row in the source's split) and
      `labelled` bool [n].

    Raises:
      UserError: a record cannot be read; names split and row.
    """
    rows = self.rows[positions]
    batch = self.source.read(self.name, rows)
    return {
      **batch,
      "index": rows.astype(np.int32),
      "labelled": self.labelled[positions],
    }


def whole(source: sources.Source, name: str) -> Split:
  """All rows of a split of the source, all labelled."""
  sources.check_split("the source", source.splits, name)
  size = source.splits[name]
  return Split(source, name, np.arange(size), np.ones(size, bool))


def carve(
  source: sources.Source, validation: float = 0.1, seed: int = 0
) -> dict[str, Split]:
  """Divides a source into train, validation and test.

  The source's own validation split is used where it has one; else a share of
  train, stratified by label. `Split.name` tells which: "validation" or "train".
  A class with a single example in train stays in train.

  Args:
    source: with the splits "train" and "test".
    validation: share of train, in [0, 1). With 0 nothing is carved, and there
      is no "validation" in the answer unless the source has its own.
    seed: of the carving.

  Raises:
    UserError: a split is missing, or the share leaves train or validation
      without an example of some class.
  """
  if not 0 <= validation < 1:
    raise errors.UserError(
      f"validation={validation!r} must be at least 0 and less than 1"
    )
  splits = {"train": whole(source, "train"), "test": whole(source, "test")}
  if "validation" in source.splits:
    return {**splits, "validation": whole(source, "validation")}
  if not validation:
    return splits
  train = splits["train"]
  labels = train.labels()
  carved = np.zeros(train.size, bool)
  many = np.bincount(labels)[labels] > 1
  if not many.any():
    raise errors.UserError(
      f"validation={validation}: every class of train has one example, so none"
      " can be carved; use validation=0"
    )
  carved[many] = _chosen(labels[many], validation, seed, key="validation")
  bare = np.setdiff1d(labels, labels[~carved])
  if bare.size:
    raise errors.UserError(
      f"validation={validation} leaves train no example of class {bare[0]},"
      f" which has {(labels == bare[0]).sum()}; use a smaller share"
    )
  return {
    "train": _subset(train, ~carved),
    "validation": _subset(train, carved),
    "test": splits["test"],
  }


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
  """Chooses a share of the examples, the same share of every class.

  The examples are ranked once for a seed and the first
  round(fraction * size) are taken, so what a smaller fraction chooses is part
  of what a larger one chooses. Within a class the rank is random; the k-th of
  a class's n examples (from 0) stands at (k + 1/2) / n among the classes, the
  method of Webster and Sainte-Lague. (The largest remainder gives the same
  counts where classes are of one size, but a class can lose an example when
  the fraction grows, the Alabama paradox: Balinski and Young, Fair
  Representation, 1982.) The first example of every class comes before all.

  Args:
    labels: integers [size].
    fraction: in (0, 1].
    seed: of the ranks.

  Returns:
    bool [size], True where chosen; at least once per class.

  Raises:
    UserError: the fraction is outside (0, 1], or so small that some class
      would have none.
  """
  return _chosen(labels, fraction, seed, key="fraction")


def with_labels(split: Split, fraction: float, seed: int) -> Split:
  """The same examples, with labels for a stratified share of them only.

  Raises:
    UserError: see `stratified`.
  """
  chosen = _chosen(split.labels(), fraction, seed, key="labels")
  return dataclasses.replace(split, labelled=chosen)


def only_labelled(split: Split) -> Split:
  """The examples whose labels may be used.

  Raises:
    UserError: there are none.
  """
  return _subset(split, split.labelled)


def _subset(split: Split, chosen: np.ndarray) -> Split:
  return dataclasses.replace(
    split, rows=split.rows[chosen], labelled=split.labelled[chosen]
  )


def _chosen(
  labels: np.ndarray, fraction: float, seed: int, *, key: str
) -> np.ndarray:
  """`stratified`, with the config's key for the errors."""
  if not 0 < fraction <= 1:
    raise errors.UserError(
      f"{key}={fraction!r} must be more than 0 and at most 1"
    )
  size = len(labels)
  _, inverse, counts = np.unique(
    labels, return_inverse=True, return_counts=True
  )
  total = math.floor(fraction * size + 0.5)
  if total < len(counts):
    least = math.ceil(len(counts) / size * 1e4) / 1e4
    raise errors.UserError(
      f"{key}={fraction!r} of {size} examples is {total}, fewer than the"
      f" {len(counts)} classes; use at least {least}"
    )
  shuffled = order.permutation(size, seed, "stratified")
  # Rows by class, and in shuffled order within a class.
  by_class = shuffled[np.argsort(inverse[shuffled], kind="stable")]
  starts = np.cumsum(counts) - counts
  rank = np.empty(size, np.int64)
  rank[by_class] = np.arange(size) - np.repeat(starts, counts)
  place = np.where(rank == 0, 0.0, (rank + 0.5) / counts[inverse])
  # Classes of one size tie: the shuffled order decides, not the class number.
  ranked = shuffled[np.argsort(place[shuffled], kind="stable")]
  chosen = np.zeros(size, bool)
  chosen[ranked[:total]] = True
  return chosen
