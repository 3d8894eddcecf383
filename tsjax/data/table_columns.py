"""Columns of a table: which are features, and what the labels are."""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Any

import numpy as np

from tsjax.core import errors
from tsjax.data import cells, sources, table_files


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What is asked of a table; the arguments of `csv`."""

  features: Sequence[str] | str | None
  label: str | Sequence[str]
  target: str
  classes: Sequence[str] | int | None
  fields: Sequence[str]
  separator: str
  standardize: bool
  seed: int

  @property
  def labels(self) -> tuple[str, ...]:
    """The columns of the label."""
    return (self.label,) if isinstance(self.label, str) else tuple(self.label)


def features(table: table_files.File, wanted: Wanted) -> tuple[str, ...]:
  """The columns of the features.

  Raises:
    UserError: a column that is asked for is not there, or there is none.
  """
  own = (*wanted.labels, *wanted.fields)
  _check_there(table, own)
  if wanted.features is not None and not isinstance(wanted.features, str):
    _check_there(table, wanted.features)
    found, told = tuple(wanted.features), "features=()"
  elif wanted.features in table.columns:
    found, told = (wanted.features,), ""
  else:
    # What a label is must not be told to the model.
    others = [c for c in table.columns if c and c not in own]
    if wanted.features is None:
      _, some = next(table.parts(others), (None, None))
      if some is None:
        raise _no_rows(table)
      found = tuple(c for c in others if _column(table, c, some).is_number())
      told = "no column but the label is of numbers"
    else:
      found = _matching(table, wanted.features, others)
      told = f"features={wanted.features!r} matches no column"
  if not found:
    raise errors.UserError(
      f"{table.name}: {told}, so there is no feature; its columns:"
      f" {', '.join(table.columns[:12])}"
    )
  return found


def _matching(
  table: table_files.File, pattern: str, columns: Sequence[str]
) -> tuple[str, ...]:
  try:
    matches = re.compile(pattern).fullmatch
  except re.error as e:
    raise errors.UserError(
      f"{table.name}: features={pattern!r} is no regular expression: {e}"
    ) from e
  return tuple(column for column in columns if matches(column))


def _check_there(table: table_files.File, columns: Sequence[str]) -> None:
  for column in columns:
    if column not in table.columns:
      raise errors.UserError(
        f"{table.name} has no column {column!r};"
        f" {errors.nearest(column, table.columns)}"
      )


def _no_rows(table: table_files.File) -> errors.UserError:
  return errors.UserError(
    f"{table.name} has a header and no rows; leave it out, or fill it"
  )


def _column(
  table: table_files.File, name: str, values: Mapping[str, Any], lines: Any = ()
) -> cells.Column:
  return cells.Column(table.name, table.unit, name, lines, values[name])


def columns(
  table: table_files.File, own: Sequence[str], features: Sequence[str]
) -> dict[str, Any]:
  """Reads a file.

  Args:
    table: the file.
    own: columns that are kept as they are.
    features: columns of numbers.

  Returns:
    `features`, float32 [n, k], and the `cells.Column` of every other one.

  Raises:
    UserError: a column is missing, or a feature is no number.
  """
  _check_there(table, (*own, *features))
  blocks, all_lines = [], []
  kept: dict[str, list[Any]] = {column: [] for column in own}
  for lines, values in table.parts(tuple(dict.fromkeys((*own, *features)))):
    parts = [_column(table, c, values, lines).numbers() for c in features]
    # A column of lists is as many features as they are long.
    block = np.concatenate([p.reshape(len(lines), -1) for p in parts], axis=1)
    if blocks and block.shape[1] != blocks[0].shape[1]:
      raise errors.UserError(
        f"{table.name}: {table.unit} {lines[0]} has {block.shape[1]} features"
        f" and those before {blocks[0].shape[1]}; write as many in each row"
      )
    blocks.append(block.astype(np.float32))
    all_lines.append(lines)
    for column in own:
      kept[column].extend(values[column])
  if not blocks:
    raise _no_rows(table)
  lines = np.concatenate(all_lines)
  return {
    "features": np.concatenate(blocks),
    **{column: _column(table, column, kept, lines) for column in own},
  }


def labels(
  columns: Mapping[str, Mapping[str, Any]], wanted: Wanted
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """The labels of every split, and the names of their classes.

  Args:
    columns: by split, as `columns` gives them.
    wanted: what was asked for.

  Raises:
    UserError: a label is empty, or does not fit the target or the classes.
  """
  given = None
  if wanted.classes is not None:
    given = sources.class_names(wanted.classes)
  of = {
    split: [kept[c] for c in wanted.labels] for split, kept in columns.items()
  }
  if wanted.target == "number":
    return {split: one.numbers() for split, (one,) in of.items()}, ()
  if not isinstance(wanted.label, str):
    labels = {
      split: np.stack([column.truths() for column in several], axis=1)
      for split, several in of.items()
    }
    return labels, given or wanted.labels
  if wanted.target == "labels":
    return _listed({split: one for split, (one,) in of.items()}, given, wanted)
  texts = {split: one.texts() for split, (one,) in of.items()}
  classes = given or cells.classes_of(texts["train"])
  one = of["train"][0]
  if not given and _are_fractions(classes):
    i = next(i for i, t in enumerate(texts["train"]) if "." in t or "e" in t)
    raise one.wrong(
      i,
      f"is {str(texts['train'][i])!r}, a fraction and not a class; set"
      " target='number'",
    )
  labels = {
    split: cells.numbered(of[split][0], texts[split], classes, one.file)
    for split in of
  }
  return labels, classes


def _listed(
  columns: Mapping[str, cells.Column],
  given: tuple[str, ...] | None,
  wanted: Wanted,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """Labels from one column of names, bool [n, classes]."""
  names = {s: c.listed(wanted.separator) for s, c in columns.items()}
  train = columns["train"]
  classes = given or cells.classes_of(
    [n for row in names["train"] for n in row]
  )
  if not classes:
    raise errors.UserError(
      f"{train.file}: column {train.name!r} names no label in any row"
    )
  labels = {}
  for split, column in columns.items():
    rows = np.repeat(np.arange(len(names[split])), [*map(len, names[split])])
    flat = [name for row in names[split] for name in row]
    # Names stand at the lines of their rows, for the error.
    at = dataclasses.replace(column, lines=column.lines[rows], values=flat)
    labels[split] = np.zeros((len(names[split]), len(classes)), bool)
    if flat:
      chosen = cells.numbered(at, flat, classes, train.file)
      labels[split][rows, chosen] = True
  return labels, classes


def _are_fractions(classes: Sequence[str]) -> bool:
  """Whether all are numbers and some are not whole."""
  try:
    numbers = np.array([float(text) for text in classes])
  except ValueError:
    return False
  return not (numbers == np.floor(numbers)).all()
