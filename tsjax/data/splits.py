"""Splits: which rows of a source a stage uses, and which labels it may see."""

import dataclasses
import math

import numpy as np

from tsjax.core import errors
from tsjax.data import order, sources, targets


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
    """Labels of the split's examples, in the order of `rows`.

    int32 [size], float32 [size] or bool [size, classes]; see `Source.labels`.
    """
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
  train, see `divide`. `Split.name` tells which: "validation" or "train".

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
  carved = divide(train.labels(), validation, seed, key="validation")
  return {
    "train": _subset(train, ~carved),
    "validation": _subset(train, carved),
    "test": splits["test"],
  }


def divide(
  labels: np.ndarray, share: float, seed: int, *, key: str = "share"
) -> np.ndarray:
  """Takes a stratified share away and leaves something of everything.

  A stratum with a single example stays behind; where every stratum of numbers
  or of several labels has but one, the share is drawn without strata.

  Args:
    labels: as `Source.labels` gives them, [size] or [size, classes].
    share: in (0, 1).
    seed: of the division.
    key: what errors call the share.

  Returns:
    bool [size], True where taken away.

  Raises:
    UserError: the share leaves one of the two without an example of some
      class, or without any example.
  """
  strata = targets.strata(labels)
  _, inverse, counts = np.unique(
    strata, return_inverse=True, return_counts=True
  )
  many = counts[inverse] > 1
  taken = np.zeros(len(labels), bool)
  if not many.any():
    if targets.is_class(labels):
      raise errors.UserError(
        f"{key}={share}: every class of train has one example, so none can be"
        f" carved; use {key}=0"
      )
    many[:] = True
  taken[many] = stratified(labels[many], share, seed, key=key)
  if targets.is_class(labels):
    bare = np.setdiff1d(labels, labels[~taken])
    if bare.size:
      raise errors.UserError(
        f"{key}={share} leaves train no example of class {bare[0]}, which has"
        f" {(labels == bare[0]).sum()}; use a smaller share"
      )
  if taken.all():
    raise errors.UserError(
      f"{key}={share} leaves train none of {len(labels)} examples; use a"
      " smaller share"
    )
  return taken


def stratified(
  labels: np.ndarray, fraction: float, seed: int, *, key: str = "fraction"
) -> np.ndarray:
  """Chooses a share of the examples, the same share of every stratum.

  Strata are the classes; of numbers and of several labels, see
  `targets.strata`.

  The examples are ranked once for a seed and the first
  round(fraction * size) are taken, so what a smaller fraction chooses is part
  of what a larger one chooses. Within a class the rank is random; the k-th of
  a class's n examples (from 0) stands at (k + 1/2) / n among the classes, the
  method of Webster and Sainte-Lague. (The largest remainder gives the same
  counts where classes are of one size, but a class can lose an example when
  the fraction grows, the Alabama paradox: Balinski and Young, Fair
  Representation, 1982.) The first example of every class comes before all.

  Args:
    labels: as `Source.labels` gives them, [size] or [size, classes].
    fraction: in (0, 1].
    seed: of the ranks.
    key: what errors call the fraction.

  Returns:
    bool [size], True where chosen; at least once per class. A share of numbers
    or of several labels may be smaller than there are strata, which then has
    the first examples of the largest.

  Raises:
    UserError: the fraction is outside (0, 1], or so small that some class
      would have none, or nothing would be chosen.
  """
  if not 0 < fraction <= 1:
    raise errors.UserError(
      f"{key}={fraction!r} must be more than 0 and at most 1"
    )
  size = len(labels)
  _, inverse, counts = np.unique(
    targets.strata(labels), return_inverse=True, return_counts=True
  )
  total = math.floor(fraction * size + 0.5)
  least = len(counts) if targets.is_class(labels) else 1
  if total < least:
    needed = math.ceil(least / size * 1e4) / 1e4
    than = f"the {least} classes" if targets.is_class(labels) else "one"
    raise errors.UserError(
      f"{key}={fraction!r} of {size} examples is {total}, fewer than {than};"
      f" use at least {needed}"
    )
  shuffled = order.permutation(size, seed, "stratified")
  # Rows by class, and in shuffled order within a class.
  by_class = shuffled[np.argsort(inverse[shuffled], kind="stable")]
  starts = np.cumsum(counts) - counts
  rank = np.empty(size, np.int64)
  rank[by_class] = np.arange(size) - np.repeat(starts, counts)
  place = (rank + 0.5) / counts[inverse]
  # First examples come before all, and those of the largest strata lead them.
  place = np.where(rank == 0, place - 1, place)
  # Classes of one size tie: the shuffled order decides, not the class number.
  ranked = shuffled[np.argsort(place[shuffled], kind="stable")]
  chosen = np.zeros(size, bool)
  chosen[ranked[:total]] = True
  return chosen


def with_labels(split: Split, fraction: float, seed: int) -> Split:
  """The same examples, with labels for a stratified share of them only.

  Raises:
    UserError: see `stratified`.
  """
  chosen = stratified(split.labels(), fraction, seed, key="labels")
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
