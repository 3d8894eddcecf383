"""Sources: sizes, class names, and any rows of a split as NumPy arrays."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
import pathlib
from typing import Protocol
import zipfile
import zlib

import numpy as np

from tsjax.core import errors
from tsjax.data import targets

# Names of a batch that are not the source's to give: docs/design.md, "Batch".
RESERVED = ("index", "epoch", "mask", "labelled")

__all__ = ["Arrays", "digits", "npz"]


class Source(Protocol):
  """A map-style data set: it knows its sizes and reads any rows."""

  @property
  def splits(self) -> Mapping[str, int]:
    """Number of examples by split: "train", "test", perhaps "validation"."""

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of the classes, or () where there are none."""

  def read(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Reads examples, stacked: row i of the answer is example `rows[i]`.

    Raises:
      UserError: the split, the row or the record cannot be read.
    """

  def labels(self, split: str) -> np.ndarray:
    """All labels of a split, read once; images are not decoded.

    Returns:
      int32 [size] where a label is a class, float32 [size] where it is a
      number, bool [size, classes] where an example has several labels or none.

    Raises:
      UserError: there is no such split, or a label is not a class.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
  """A source of arrays in memory.

  Attributes:
    arrays: split -> field -> array [size, ...]. Every split has the same
      fields, and `label` is one of them.
    classes: names of the classes; with (), labels need only be >= 0.
    name: what errors call the source.
    target: what `label` is: "class", integers [size], kept as int32; "number",
      floats or integers [size], kept as float32; or "labels", truth values or
      0 and 1 [size, classes], kept as bool.
    names: field -> what its numbers stand for: the texts that integers are
      numbers of, or the columns of a field that was put together of several.

  Raises:
    UserError: a split is empty, lacks a field or has arrays of different
      lengths; a label does not fit the target; a value is not finite.
  """

  arrays: Mapping[str, Mapping[str, np.ndarray]]
  classes: tuple[str, ...] = ()
  name: str = "arrays"
  target: str = "class"
  names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    targets.check(self.name, self.target)
    if not self.arrays:
      raise errors.UserError(
        f"{self.name}: has no split; give at least 'train'"
      )
    object.__setattr__(self, "classes", tuple(map(str, self.classes)))
    fields = sorted({f for split in self.arrays.values() for f in split})
    arrays = {
      split: _checked_split(self, split, given, fields)
      for split, given in self.arrays.items()
    }
    first = next(iter(arrays))
    for split, field in ((s, f) for s in arrays for f in fields):
      shapes = arrays[first][field].shape[1:], arrays[split][field].shape[1:]
      if shapes[0] != shapes[1]:
        raise errors.UserError(
          f"{self.name}: {field!r} is {list(shapes[1])} in split {split!r} but"
          f" {list(shapes[0])} in {first!r}; one example has one shape"
        )
    object.__setattr__(self, "arrays", arrays)

  @functools.cached_property
  def splits(self) -> dict[str, int]:
    return {
      split: len(fields["label"]) for split, fields in self.arrays.items()
    }

  def read(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    rows = checked_rows(self.name, self.splits, split, rows)
    return {field: a[rows] for field, a in self.arrays[split].items()}

  def labels(self, split: str) -> np.ndarray:
    check_split(self.name, self.splits, split)
    return self.arrays[split]["label"]


def digits(test: float = 0.2, seed: int = 0) -> Arrays:
  """The 1,797 handwritten digits that come with scikit-learn.

  Fields: `image` float32 [8, 8, 1] in 0..1, and `label`.

  Args:
    test: share of the examples in the test split, stratified by label.
    seed: of the division into train and test.

  Raises:
    UserError: `test` leaves a split without an example of some class.
  """
  import sklearn.datasets
  import sklearn.model_selection

  images, labels = sklearn.datasets.load_digits(return_X_y=True)
  classes = len(set(labels.tolist()))
  if not classes <= test * len(labels) <= len(labels) - classes:
    raise errors.UserError(
      f"digits: test={test!r} must be a share that leaves both splits an"
      f" example of each of {classes} classes; the usual one is 0.2"
    )
  rows = sklearn.model_selection.train_test_split(
    np.arange(len(labels)), test_size=test, random_state=seed, stratify=labels
  )
  images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
  return Arrays(
    {
      split: {"image": images[chosen], "label": labels[chosen]}
      for split, chosen in zip(("train", "test"), rows, strict=True)
    },
    classes=tuple(map(str, range(classes))),
    name="digits",
  )


def npz(
  path: str | os.PathLike[str],
  classes: Sequence[str] | int | None = None,
  target: str = "class",
) -> Arrays:
  """A NumPy archive with the keys `train/image`, `train/label`, ....

  Args:
    path: the file; `~` is the home folder.
    classes: names of the classes or their number. None takes the array
      `classes` of the file, or counts the classes of train's labels.
    target: what a label is: "class", "number" or "labels"; see `Arrays`.

  Raises:
    UserError: the file is missing or damaged, or its arrays do not fit
      (see `Arrays`).
  """
  path = pathlib.Path(path).expanduser()
  name = f"npz {path}"
  if not path.is_file():
    there = [p.name for p in path.parent.glob("*.npz")]
    near = errors.nearest(path.name, there) if there else "nor another npz"
    raise errors.UserError(f"{name}: there is no such file; {near}")
  arrays = _load(name, path)
  stored = arrays.pop("classes", None)
  if classes is None:
    classes = stored
  splits: dict[str, dict[str, np.ndarray]] = {}
  for key, array in arrays.items():
    split, _, field = key.partition("/")
    if not split or not field:
      raise errors.UserError(
        f"{name}: key {key!r} is not SPLIT/FIELD, such as 'train/image'"
      )
    splits.setdefault(split, {})[field] = array
  if classes is None:
    classes = _count(splits, target)
  return Arrays(splits, classes=class_names(classes), name=name, target=target)


def class_names(classes: Sequence[str] | int) -> tuple[str, ...]:
  """Names of classes that were given by name, or by their number."""
  if isinstance(classes, int):
    return tuple(map(str, range(classes)))
  return tuple(map(str, classes))


def check_split(name: str, splits: Mapping[str, int], split: str) -> None:
  """Raises UserError unless `split` is one of `splits`."""
  if split not in splits:
    raise errors.UserError(
      f"{name}: has no split {split!r}; {errors.nearest(split, splits)}"
    )


def checked_rows(
  name: str, splits: Mapping[str, int], split: str, rows: np.ndarray
) -> np.ndarray:
  """Rows as int64 [n], or UserError: NumPy would read row -1 as the last."""
  check_split(name, splits, split)
  rows = np.asarray(rows, np.int64)
  outside = rows[(rows < 0) | (rows >= splits[split])]
  if outside.size:
    raise errors.UserError(
      f"{name}: split {split!r} has no row {outside[0]}; its rows are"
      f" 0..{splits[split] - 1}"
    )
  return rows


def checked_labels(
  name: str, split: str, labels: np.ndarray, classes: int
) -> np.ndarray:
  """Labels as int32 [size].

  Args:
    name: what errors call the source.
    split: the split, for the errors.
    labels: class numbers, [size].
    classes: number of classes, or 0 where it is not known.

  Raises:
    UserError: labels are not integers [size], or one is no class.
  """
  if labels.dtype.kind not in "iu" or labels.ndim != 1:
    number = labels.dtype.kind == "f" and labels.ndim == 1
    hint = ", or set target='number'" if number else ""
    raise errors.UserError(
      f"{name}: labels of split {split!r} are {labels.dtype}"
      f" {list(labels.shape)}; store class numbers, integers [size]{hint}"
    )
  limit = classes or np.iinfo(np.int32).max
  wrong = np.flatnonzero((labels < 0) | (labels >= limit))
  if wrong.size:
    row = int(wrong[0])
    known = f"0..{classes - 1}" if classes else "0 and up"
    raise errors.UserError(
      f"{name}: split {split!r} row {row} has label {labels[row]}, outside"
      f" {known}; mend the label or leave the row out"
    )
  return labels.astype(np.int32)


def _checked_split(
  source: Arrays,
  split: str,
  given: Mapping[str, np.ndarray],
  fields: Sequence[str],
) -> dict[str, np.ndarray]:
  """The arrays of one split, all of one length, or UserError."""
  name = source.name
  for field in dict.fromkeys([*fields, "label"]):
    if field not in given:
      raise errors.UserError(
        f"{name}: split {split!r} has no field {field!r};"
        f" {errors.nearest(field, given)}"
      )
    if field in RESERVED:
      raise errors.UserError(
        f"{name}: field {field!r} is a name that batches use themselves;"
        " give it another"
      )
  arrays = {field: np.asarray(given[field]) for field in fields}
  sizes = {f: len(a) if a.ndim else 0 for f, a in arrays.items()}
  if len(set(sizes.values())) > 1:
    told = ", ".join(f"{field} {size}" for field, size in sizes.items())
    raise errors.UserError(
      f"{name}: split {split!r} has arrays of different lengths: {told}"
    )
  if not sizes["label"]:
    raise errors.UserError(f"{name}: split {split!r} is empty; leave it out")
  for field, array in arrays.items():
    if array.dtype.kind not in "biuf" and field != "label":
      raise errors.UserError(
        f"{name}: field {field!r} of split {split!r} is {array.dtype}; a batch"
        " holds numbers only"
      )
    if field != "label" and array.dtype.kind == "f":
      _check_finite(name, split, field, array)
  labels, classes = arrays["label"], len(source.classes)
  arrays["label"] = (
    checked_labels(name, split, labels, classes)
    if source.target == "class"
    else targets.checked(name, split, labels, classes, source.target)
  )
  return arrays


def _check_finite(name: str, split: str, field: str, array: np.ndarray) -> None:
  # A sum is finite only if every value is: one pass, no mask of array's size.
  with np.errstate(over="ignore", invalid="ignore"):
    if np.isfinite(array.sum(dtype=np.float64)):
      return
  for row, value in enumerate(array):
    if not np.isfinite(value).all():
      raise errors.UserError(
        f"{name}: split {split!r} row {row} is corrupt: {field!r} has a value"
        " that is not finite"
      )


def _load(name: str, path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads every array of an archive, and says which one it cannot."""
  key = None
  try:
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
      raise ValueError("it holds one array, not arrays with names")
    with archive:
      arrays = {}
      for key in archive.files:
        arrays[key] = archive[key]
      return arrays
  except (
    EOFError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
  ) as e:
    what = "the file" if key is None else f"array {key!r}"
    reason = str(e).splitlines()[0] if str(e) else type(e).__name__
    raise errors.UserError(
      f"{name}: {what} cannot be read ({reason}); write it again with"
      " np.savez and without objects"
    ) from e


def _count(splits: Mapping[str, Mapping[str, np.ndarray]], target: str) -> int:
  """Number of classes by the labels of train; 0 where it cannot be told."""
  labels = splits.get("train", {}).get("label")
  if labels is None or target == "number":
    return 0
  if target == "labels":
    return labels.shape[1] if labels.ndim == 2 else 0
  if labels.dtype.kind not in "iu" or not labels.size:
    return 0
  return max(int(labels.max()) + 1, 0)
