"""Cells of a table: numbers, texts and classes, or whose cell is to blame."""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Any

import numpy as np

from tsjax.core import errors

_WHOLE = re.compile(r"(-?\d+)(\.0*)?")


@dataclasses.dataclass(frozen=True)
class Column:
  """The cells of a column, and where they stand.

  Attributes:
    file: what errors call the file.
    unit: what rows are counted in: "line" or "row".
    name: of the column.
    lines: integers [n], where the cells stand in the file.
    values: [n], as the file gives them: texts, numbers, lists or None.
  """

  file: str
  unit: str
  name: str
  lines: np.ndarray
  values: Sequence[Any]

  def wrong(self, i: int, told: str) -> errors.UserError:
    """An error about cell `i`."""
    return errors.UserError(
      f"{self.file}: {self.unit} {self.lines[i]}, column {self.name!r} {told}"
    )

  def numbers(self) -> np.ndarray:
    """The cells as float64 [n], or [n, k] where they hold lists.

    Raises:
      UserError: a cell is empty, no number, or not finite in float32.
    """
    values = self.values
    try:
      # NumPy reads texts as Python's `float` does.
      array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
      array = None
    if array is None or array.ndim > 2:
      raise self._no_number()
    with np.errstate(over="ignore"):
      finite = np.isfinite(array.astype(np.float32))
    bad = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
    if bad.size:
      i = int(bad[0])
      if _is_empty(values[i]):
        raise self._empty(i)
      raise self.wrong(i, f"is {_shown(values[i])}, no finite float32; mend it")
    return array

  def truths(self) -> np.ndarray:
    """The cells as bool [n].

    Raises:
      UserError: a cell is empty, or neither 0 nor 1.
    """
    known = {"0": False, "1": True, "false": False, "true": True}
    texts = [_text(value).lower() for value in self.values]
    for i, text in enumerate(texts):
      if text not in known:
        if _is_empty(self.values[i]):
          raise self._empty(i)
        raise self.wrong(
          i, f"is {_shown(self.values[i])}; a label is 0 or 1 for each example"
        )
    return np.array([known[text] for text in texts], bool)

  def texts(self) -> np.ndarray:
    """The cells as texts [n]; a whole number has no point.

    Raises:
      UserError: a cell is empty.
    """
    for i, value in enumerate(self.values):
      if _is_empty(value):
        raise self._empty(i)
    return np.array([_text(value) for value in self.values])

  def listed(self, separator: str) -> list[list[str]]:
    """The names in every cell: a list of them, or one text that is parted.

    An empty cell has none.
    """
    return [
      [_text(name) for name in value if not _is_empty(name)]
      if isinstance(value, list | tuple | np.ndarray)
      else []
      if _is_empty(value)
      else [
        name.strip() for name in _text(value).split(separator) if name.strip()
      ]
      for value in self.values
    ]

  def is_number(self) -> bool:
    """Whether the first cell that is not empty holds a number, or a list."""
    for value in self.values:
      if not _is_empty(value):
        try:
          np.asarray(value, np.float64)
        except (TypeError, ValueError):
          return False
        return True
    return False

  def _empty(self, i: int) -> errors.UserError:
    return self.wrong(i, f"is empty; fill it, or leave the {self.unit} out")

  def _no_number(self) -> errors.UserError:
    """Blames the first cell that is no number, or unlike the first."""
    shape = None
    for i, value in enumerate(self.values):
      if _is_empty(value):
        return self._empty(i)
      try:
        cell = np.asarray(value, np.float64)
      except (TypeError, ValueError):
        return self.wrong(
          i, f"is {_shown(value)}, not a number; mend it, or use other columns"
        )
      shape = cell.shape if shape is None else shape
      if cell.shape != shape or cell.ndim > 1:
        return self.wrong(
          i,
          f"has the shape {list(cell.shape)}; write as many numbers in each"
          " row, in one list",
        )
    raise AssertionError(f"{self.name}: every cell is a number")


def classes_of(texts: Sequence[str]) -> tuple[str, ...]:
  """The distinct texts: whole numbers by their size, others as texts.

  Args:
    texts: as `Column.texts` gives them.
  """
  distinct = sorted(set(map(str, texts)))
  if all(_WHOLE.fullmatch(text) for text in distinct):
    distinct.sort(key=int)
  return tuple(distinct)


def numbered(
  column: Column, texts: Sequence[str], classes: Sequence[str], told: str
) -> np.ndarray:
  """The class of every text, int32 [n].

  Where the classes are words and a text is a whole number, it is the class's
  number already.

  Args:
    column: where the texts stand.
    texts: [n].
    classes: names.
    told: whose classes they are, for the error.

  Raises:
    UserError: a text is none of the classes.
  """
  place = {name: i for i, name in enumerate(classes)}
  if not any(_WHOLE.fullmatch(name) for name in classes):
    place |= {str(i): i for i in range(len(classes))}
  distinct, first, inverse = np.unique(
    np.asarray(texts, str), return_index=True, return_inverse=True
  )
  unknown = [i for i, text in zip(first, distinct) if str(text) not in place]
  if unknown:
    i = min(unknown)
    raise column.wrong(
      i,
      f"is {_shown(str(texts[i]))}, no class of {told};"
      f" {errors.nearest(texts[i], classes)}",
    )
  return np.array([place[str(t)] for t in distinct], np.int32)[inverse]


def codes(
  columns: Mapping[str, Column],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """Arrays of a column by split, and the texts that they are numbers of.

  Args:
    columns: split -> the column.

  Returns:
    split -> int32 [n] where all numbers are whole, float32 [n] or [n, k] where
    they are not, with (); and int32 [n] with the names, sorted, for texts.

  Raises:
    UserError: a cell is empty; or one is no number and the first of all is.
  """
  first = next(iter(columns.values()))
  if not first.is_number():
    texts = {split: column.texts() for split, column in columns.items()}
    names = classes_of(np.concatenate(list(texts.values())))
    return {
      split: numbered(columns[split], texts[split], names, "the column")
      for split in columns
    }, names
  arrays = {split: column.numbers() for split, column in columns.items()}
  limit = np.iinfo(np.int32)
  whole = all(
    (array == np.floor(array)).all()
    and array.min() >= limit.min
    and array.max() <= limit.max
    for array in arrays.values()
  )
  kind = np.int32 if whole else np.float32
  return {split: array.astype(kind) for split, array in arrays.items()}, ()


def _is_empty(value: Any) -> bool:
  return value is None or (isinstance(value, str) and not value.strip())


def _text(value: Any) -> str:
  """A cell as a text; 1.0 is "1", for a missing value makes floats of all."""
  text = str(value).strip()
  whole = _WHOLE.fullmatch(text)
  return whole[1] if whole else text


def _shown(value: Any) -> str:
  value = value.item() if isinstance(value, np.generic) else value
  text = " ".join(repr(value).split())
  return text if len(text) <= 60 else f"{text[:57]}..."
