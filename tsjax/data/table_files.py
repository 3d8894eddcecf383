"""Files of tables: their columns, and their rows a part at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import csv
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from tsjax.core import errors

# Rows read at a time: bounds the memory of the texts that are not kept.
_ROWS = 4096

# Numbers of some rows, and column -> their values.
Part = tuple[np.ndarray, Mapping[str, Sequence[Any]]]


@dataclasses.dataclass(frozen=True)
class File:
  """A table in a file.

  Attributes:
    name: what errors call it.
    unit: what its rows are counted in: "line", from 1, or "row", from 0.
    columns: their names, in the file's order.
    parts: `parts(columns)` yields the rows, some at a time.
  """

  name: str
  unit: str
  columns: tuple[str, ...]
  parts: Callable[[Sequence[str]], Iterator[Part]]


def read_csv(path: pathlib.Path, *, delimiter: str, encoding: str) -> File:
  """Opens a CSV file, whose first line names the columns.

  Blanks around a cell are no part of it; lines of empty cells are left out.

  Raises:
    UserError: the file is missing, empty or not in this encoding, or its first
      line does not name columns; from `parts`, a row has not as many cells.
  """
  name = f"csv {path}"
  _check_file(name, path)
  if len(delimiter) != 1:
    raise errors.UserError(
      f"{name}: delimiter={delimiter!r} must be one character, such as ','"
    )
  records = _records(name, path, delimiter, encoding)
  line, header = next(records, (0, []))
  if not header:
    raise errors.UserError(f"{name} is empty; its first line names the columns")
  others = [c for c in ";\t|," if c != delimiter and c in header[0]]
  if len(header) == 1 and others:
    raise errors.UserError(
      f"{name}: line {line} is one column, {header[0][:60]!r}; set"
      f" delimiter={others[0]!r}"
    )
  if all(_is_number(cell) for cell in header):
    raise errors.UserError(
      f"{name}: line {line} holds numbers; write the columns' names above it"
    )
  _check_columns(name, f"line {line}", header)

  def parts(columns: Sequence[str]) -> Iterator[Part]:
    places = {column: header.index(column) for column in columns}
    rows = _records(name, path, delimiter, encoding)
    next(rows)
    for lines, cells in _in_parts(_with_all_cells(name, rows, header)):
      turned = list(zip(*cells, strict=True))
      yield lines, {column: turned[i] for column, i in places.items()}

  return File(name, "line", tuple(header), parts)


def read_json_lines(path: pathlib.Path, *, encoding: str) -> File:
  """Opens a file with a JSON object in every line.

  The first object names the columns; blank lines are left out.

  Raises:
    UserError: the file is missing, empty or not in this encoding; also from
      `parts`, a line is no JSON object.
  """
  name = f"json_lines {path}"
  _check_file(name, path)
  first = next(_objects(name, path, encoding), None)
  if first is None:
    raise errors.UserError(f"{name} is empty; write a JSON object in each line")

  def parts(columns: Sequence[str]) -> Iterator[Part]:
    for lines, rows in _in_parts(_objects(name, path, encoding)):
      yield lines, {c: [row.get(c) for row in rows] for c in columns}

  return File(name, "line", tuple(first[1]), parts)


def read_parquet(path: pathlib.Path) -> File:
  """Opens a Parquet file, with pyarrow.

  Raises:
    UserError: pyarrow is not installed, or the file is missing, empty or
      damaged.
  """
  name = f"parquet {path}"
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError as e:
    raise errors.UserError(
      f"{name}: pyarrow cannot be imported ({_reason(e)}); run pip install"
      " 'tsjax[tables]'"
    ) from e
  _check_file(name, path)

  def damaged(e: Exception) -> errors.UserError:
    return errors.UserError(
      f"{name}: cannot be read as Parquet ({_reason(e)}); write it again"
    )

  try:
    with pyarrow.parquet.ParquetFile(path) as file:
      columns = tuple(file.schema_arrow.names)
      size = file.metadata.num_rows
  except (pyarrow.ArrowException, OSError) as e:
    raise damaged(e) from e
  if not size:
    raise errors.UserError(f"{name} has columns and no rows")
  _check_columns(name, "the schema", columns)

  def parts(wanted: Sequence[str]) -> Iterator[Part]:
    start = 0
    try:
      with pyarrow.parquet.ParquetFile(path) as file:
        # Not of threads: what a part holds must not depend on them.
        for batch in file.iter_batches(
          _ROWS, columns=list(wanted), use_threads=False
        ):
          rows = np.arange(start, start + batch.num_rows)
          start += batch.num_rows
          yield rows, {c: _column(batch.column(c)) for c in wanted}
    except (pyarrow.ArrowException, OSError) as e:
      raise damaged(e) from e

  return File(name, "row", columns, parts)


def _column(values: Any) -> Sequence[Any]:
  """An Arrow column as an array of numbers, or else as a list."""
  import pyarrow

  kind = values.type
  is_number = pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind)
  if is_number and not values.null_count:
    return values.to_numpy(zero_copy_only=False)
  return values.to_pylist()


def _records(
  name: str, path: pathlib.Path, delimiter: str, encoding: str
) -> Iterator[tuple[int, list[str]]]:
  """Yields (line, cells) of every line that has a cell with something."""
  try:
    with path.open(encoding=_with_mark(encoding), newline="") as file:
      # Strict, or a quote that is never closed swallows the rest of the file.
      reader = csv.reader(file, delimiter=delimiter, strict=True)
      line = 1
      for cells in reader:
        cells = list(map(str.strip, cells))
        if any(cells):
          yield line, cells
        line = reader.line_num + 1
  except csv.Error as e:
    raise errors.UserError(
      f"{name}: line {reader.line_num} is not CSV ({_reason(e)}); mend its"
      " quotes, or set delimiter="
    ) from e
  except (LookupError, UnicodeError) as e:
    raise _not_text(name, path, encoding) from e


def _with_all_cells(
  name: str, rows: Iterator[tuple[int, list[str]]], header: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
  for line, cells in rows:
    if len(cells) != len(header):
      raise errors.UserError(
        f"{name}: line {line} has {len(cells)} cells and the header"
        f" {len(header)} columns; mend the line, or quote cells that hold the"
        " delimiter"
      )
    yield line, cells


def _objects(
  name: str, path: pathlib.Path, encoding: str
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line, object) of every line that is not blank."""

  def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
      keys = [key for key, _ in pairs]
      twice = next(key for key in keys if keys.count(key) > 1)
      raise ValueError(f"it has the key {twice!r} twice")
    return result

  try:
    with path.open(encoding=_with_mark(encoding)) as file:
      for line, text in enumerate(file, start=1):
        if not text.strip():
          continue
        try:
          value = json.loads(text, object_pairs_hook=once)
        except ValueError as e:
          raise errors.UserError(
            f"{name}: line {line} is not a JSON object ({_reason(e)}); write"
            " one object in each line"
          ) from e
        if not isinstance(value, dict):
          raise errors.UserError(
            f"{name}: line {line} is a {type(value).__name__}, not an object;"
            ' write one object in each line, like {"age": 3}'
          )
        yield line, value
  except (LookupError, UnicodeError) as e:
    raise _not_text(name, path, encoding) from e


def _in_parts(
  rows: Iterator[tuple[int, Any]],
) -> Iterator[tuple[np.ndarray, list[Any]]]:
  lines, values = [], []
  for line, value in rows:
    lines.append(line)
    values.append(value)
    if len(lines) == _ROWS:
      yield np.array(lines), values
      lines, values = [], []
  if lines:
    yield np.array(lines), values


def _check_file(name: str, path: pathlib.Path) -> None:
  if path.is_file():
    return
  if path.is_dir():
    raise errors.UserError(f"{name} is a folder; name the file in it")
  there = (
    [p.name for p in path.parent.iterdir() if p.is_file()]
    if path.parent.is_dir()
    else []
  )
  raise errors.UserError(
    f"{name}: there is no such file; {errors.nearest(path.name, there)}"
  )


def _check_columns(name: str, where: str, columns: Sequence[str]) -> None:
  for column in columns:
    if column and list(columns).count(column) > 1:
      raise errors.UserError(
        f"{name}: {where} names column {column!r} twice; rename one"
      )


def _with_mark(encoding: str) -> str:
  """The encoding that leaves a byte-order mark out of the first column."""
  is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
  return "utf-8-sig" if is_utf8 else encoding


def _not_text(name: str, path: pathlib.Path, encoding: str) -> errors.UserError:
  """Says in which line the bytes are not of the encoding."""
  try:
    "".encode(encoding)
  except LookupError:
    return errors.UserError(
      f"{name}: encoding={encoding!r} is not known; the usual one is 'utf-8'"
    )
  with path.open("rb") as file:
    bad = (i for i, text in enumerate(file, 1) if not _decodes(text, encoding))
    line = next(bad, 1)
  return errors.UserError(
    f"{name}: line {line} is not {encoding} text; set encoding=, such as"
    " 'latin-1' or 'utf-16'"
  )


def _decodes(text: bytes, encoding: str) -> bool:
  try:
    text.decode(encoding)
  except UnicodeError:
    return False
  return True


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _reason(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0].strip()[:200] if lines else type(error).__name__
