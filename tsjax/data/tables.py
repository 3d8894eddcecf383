"""Sources of tables: CSV, JSON lines and Parquet, read into memory."""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib

import numpy as np

from tsjax.core import errors
from tsjax.data import (
  cells,
  sources,
  splits,
  table_columns,
  table_files,
  targets,
)

__all__ = ["csv", "json_lines", "parquet"]

Path = str | os.PathLike[str]


def csv(
  train: Path,
  test: Path | float = 0.2,
  validation: Path | None = None,
  *,
  features: Sequence[str] | str | None = None,
  label: str | Sequence[str] = "label",
  target: str = "class",
  classes: Sequence[str] | int | None = None,
  fields: Sequence[str] = (),
  separator: str = "|",
  standardize: bool = False,
  seed: int = 0,
  delimiter: str = ",",
  encoding: str = "utf-8",
) -> sources.Arrays:
  """A table in CSV files: columns of numbers and a label.

  Fields: `features` float32 [n], `label`, and the `fields` asked for. The first
  line of a file names its columns. `names` of the source tells which columns
  the features are.

  Args:
    train: the file; `~` is the home folder.
    test: its file, or the share of train that becomes the test split,
      stratified by the label.
    validation: its file, if there is one.
    features: columns, in this order; or a regular expression that matches
      their whole names; or None, which takes every named column whose first
      cell is a number, but the label and the `fields`: an identifier, too.
    label: the column; with target "labels" it may be several, of 0 and 1.
    target: what the label is: "class"; "number", for regression; or "labels",
      of which an example may have several: columns, or one column of names
      between separators, empty where there is none.
    classes: their names, or how many there are (0, 1, ...); None takes those
      that occur in train, sorted. A cell may also hold the number of a class.
    fields: further columns, kept under their own names: numbers as they are,
      and texts as integers, whose texts `names` of the source tells.
    separator: between the names of one cell, with target "labels".
    standardize: whether each feature is given mean 0 and deviation 1, by the
      means and deviations of train.
    seed: of the share.
    delimiter: between cells.
    encoding: of the text.

  Raises:
    UserError: a file or a column is missing, or a cell does not fit; names
      file, line and column.
  """

  def read(path: pathlib.Path) -> table_files.File:
    return table_files.read_csv(path, delimiter=delimiter, encoding=encoding)

  wanted = table_columns.Wanted(
    features, label, target, classes, fields, separator, standardize, seed
  )
  return _source("csv", read, train, test, validation, wanted)


def json_lines(
  train: Path,
  test: Path | float = 0.2,
  validation: Path | None = None,
  *,
  features: Sequence[str] | str | None = None,
  label: str | Sequence[str] = "label",
  target: str = "class",
  classes: Sequence[str] | int | None = None,
  fields: Sequence[str] = (),
  separator: str = "|",
  standardize: bool = False,
  seed: int = 0,
  encoding: str = "utf-8",
) -> sources.Arrays:
  """A table in files of JSON lines: an object for each example.

  The keys of the first object are the columns. A value may also be a list: of
  numbers, which are as many features; or of names, with target "labels".

  Args and errors are those of `csv`.
  """

  def read(path: pathlib.Path) -> table_files.File:
    return table_files.read_json_lines(path, encoding=encoding)

  wanted = table_columns.Wanted(
    features, label, target, classes, fields, separator, standardize, seed
  )
  return _source("json_lines", read, train, test, validation, wanted)


def parquet(
  train: Path,
  test: Path | float = 0.2,
  validation: Path | None = None,
  *,
  features: Sequence[str] | str | None = None,
  label: str | Sequence[str] = "label",
  target: str = "class",
  classes: Sequence[str] | int | None = None,
  fields: Sequence[str] = (),
  separator: str = "|",
  standardize: bool = False,
  seed: int = 0,
) -> sources.Arrays:
  """A table in Parquet files, read with pyarrow.

  A value may also be a list: of numbers, which are as many features; or of
  names, with target "labels". Errors count rows from 0.

  Args and errors are those of `csv`.
  """
  wanted = table_columns.Wanted(
    features, label, target, classes, fields, separator, standardize, seed
  )
  read = table_files.read_parquet
  return _source("parquet", read, train, test, validation, wanted)


def _source(
  kind: str,
  read: Callable[[pathlib.Path], table_files.File],
  train: Path,
  test: Path | float,
  validation: Path | None,
  wanted: table_columns.Wanted,
) -> sources.Arrays:
  paths: dict[str, Path] = {"train": train}
  if not isinstance(test, int | float):
    paths["test"] = test
  if validation is not None:
    paths["validation"] = validation
  files = {
    split: pathlib.Path(path).expanduser() for split, path in paths.items()
  }
  name = f"{kind} {files['train']}"
  _check(name, files, wanted)
  tables = {split: read(path) for split, path in files.items()}
  features = table_columns.features(tables["train"], wanted)
  columns = {
    split: table_columns.columns(
      table, (*wanted.labels, *wanted.fields), features
    )
    for split, table in tables.items()
  }
  labels, classes = table_columns.labels(columns, wanted)
  arrays = {
    split: {"features": kept["features"], "label": labels[split]}
    for split, kept in columns.items()
  }
  names = {"features": features}
  for field in wanted.fields:
    by_split, texts = cells.codes(
      {s: kept[field] for s, kept in columns.items()}
    )
    for split, array in by_split.items():
      arrays[split][field] = array
    if texts:
      names[field] = texts
  if "test" not in arrays:
    arrays = _with_test(arrays, float(test), wanted.seed)
  if wanted.standardize:
    _standardize(arrays)
  return sources.Arrays(
    arrays, classes=classes, name=name, target=wanted.target, names=names
  )


def _check(
  name: str, files: Mapping[str, pathlib.Path], wanted: table_columns.Wanted
) -> None:
  """Raises UserError for what is wrong whatever the files hold."""
  targets.check(name, wanted.target)
  if len(set(files.values())) < len(files):
    raise errors.UserError(
      f"{name}: two splits are one file; give test= another, or a share such as"
      " 0.2"
    )
  if not wanted.labels or (
    wanted.target != "labels" and not isinstance(wanted.label, str)
  ):
    raise errors.UserError(
      f"{name}: label={wanted.label!r}: several columns are target='labels',"
      " and every other target has one"
    )
  named = wanted.features or ()
  named = (named,) if isinstance(named, str) else tuple(named)
  own = (*wanted.labels, *wanted.fields)
  for column in named:
    if column in wanted.labels:
      raise errors.UserError(
        f"{name}: features name the label, column {column!r}; leave it out"
      )
  for column in (*named, *own):
    if (*named, *own).count(column) > 1:
      raise errors.UserError(
        f"{name}: column {column!r} is asked for twice; leave one out"
      )
  for field in wanted.fields:
    if field in ("features", "label", *sources.RESERVED):
      raise errors.UserError(
        f"{name}: fields: {field!r} is a name that batches use themselves;"
        " rename the column"
      )


def _with_test(
  arrays: Mapping[str, Mapping[str, np.ndarray]], share: float, seed: int
) -> dict[str, dict[str, np.ndarray]]:
  """Takes the test split out of train, stratified by label."""
  chosen = splits.divide(arrays["train"]["label"], share, seed, key="test")
  divided = {
    split: {field: a[rows] for field, a in arrays["train"].items()}
    for split, rows in (("train", ~chosen), ("test", chosen))
  }
  return {**arrays, **divided}


def _standardize(arrays: Mapping[str, dict[str, np.ndarray]]) -> None:
  train = arrays["train"]["features"]
  mean = train.mean(axis=0, dtype=np.float64)
  std = train.std(axis=0, dtype=np.float64)
  # A feature that never varies says nothing, and stays 0.
  std[std == 0] = 1
  for fields in arrays.values():
    fields["features"] = ((fields["features"] - mean) / std).astype(np.float32)
