"""Columns of npz and Parquet files, read some rows at a time."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import pathlib
from typing import Any, BinaryIO
import zipfile
import zlib

import numpy as np

from tsjax.core import errors

# Rows read at a time.
_ROWS = 4096


class Npz:
  """An npz archive.

  Attributes:
    shapes: name -> shape of the columns asked for; () of any others.

  Args:
    path: the file.
    names: of the columns that may be read.

  Raises:
    UserError: it cannot be read, or a column holds objects.
  """

  def __init__(self, path: pathlib.Path, names: Sequence[str]):
    self._path = path
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._dtypes: dict[str, np.dtype] = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
      for entry in archive.namelist():
        name = entry.removesuffix(".npy")
        if name not in names:
          self.shapes[name] = ()
          continue
        with archive.open(entry) as f:
          shape, columns_first, dtype = _array_head(f)
        if dtype.hasobject:
          raise errors.UserError(
            f"{path}: {name!r} holds objects, which can run code; write"
            " numbers, and keys as np.array(keys, 'U32')"
          )
        if columns_first and len(shape) > 1:
          raise errors.UserError(
            f"{path}: {name!r} lies column after column; write it with"
            " np.ascontiguousarray"
          )
        self.shapes[name], self._dtypes[name] = shape, dtype

  def column(self, name: str) -> np.ndarray:
    """A whole column.

    Raises:
      UserError: it cannot be read.
    """
    return np.concatenate([x[name] for x in self.blocks([name])])

  def blocks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yields some next rows of columns of one length, in order.

    Raises:
      UserError: a column cannot be read.
    """
    size = self.shapes[names[0]][0]
    with (
      _reading(self._path),
      zipfile.ZipFile(self._path) as archive,
      contextlib.ExitStack() as stack,
    ):
      files = {}
      for name in names:
        files[name] = stack.enter_context(archive.open(f"{name}.npy"))
        _array_head(files[name])
      for start in range(0, max(size, 1), _ROWS):
        rows = min(_ROWS, size - start)
        yield {name: self._next(files[name], name, rows) for name in names}

  def _next(self, f: BinaryIO, name: str, rows: int) -> np.ndarray:
    shape, dtype = (rows, *self.shapes[name][1:]), self._dtypes[name]
    size = int(np.prod(shape)) * dtype.itemsize
    data = f.read(size)
    if len(data) < size:
      raise EOFError(f"{name!r} is cut short")
    return np.frombuffer(data, dtype).reshape(shape)


class Parquet:
  """A Parquet file; as `Npz`, with lists of one length as rows."""

  def __init__(self, path: pathlib.Path, names: Sequence[str]):
    self._path, self._parquet = path, _pyarrow(path)
    self.shapes: dict[str, tuple[int, ...]] = {}
    with _reading(path), self._parquet.ParquetFile(path) as file:
      size = file.metadata.num_rows
      for name in file.schema_arrow.names:
        self.shapes[name] = ()
        if name in names:
          first = next(file.iter_batches(batch_size=1, columns=[name]), None)
          one = () if first is None else self._array(first, name, 0).shape[1:]
          self.shapes[name] = (size, *one)

  def column(self, name: str) -> np.ndarray:
    """A whole column."""
    return np.concatenate([x[name] for x in self.blocks([name])])

  def blocks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yields some next rows of columns, in order."""
    start = 0
    with _reading(self._path), self._parquet.ParquetFile(self._path) as file:
      for batch in file.iter_batches(batch_size=_ROWS, columns=list(names)):
        yield {name: self._array(batch, name, start) for name in names}
        start += batch.num_rows

  def _array(self, batch: Any, name: str, start: int) -> np.ndarray:
    """A column of some rows, stacked."""
    column = batch.column(name)
    shape: tuple[int, ...] = (len(column),)
    if hasattr(column, "flatten") and hasattr(column, "value_lengths"):
      lengths = column.value_lengths().to_numpy(zero_copy_only=False)
      width = self.shapes[name][1] if len(self.shapes[name]) > 1 else lengths[0]
      unlike = np.flatnonzero(lengths != width)
      if unlike.size:
        raise errors.UserError(
          f"{self._path}: {name!r} of row {start + unlike[0]} has"
          f" {lengths[unlike[0]]:g} values, and the first row has {width:g};"
          " write as many in every row"
        )
      shape, column = (len(column), int(width)), column.flatten()
    if column.null_count:
      raise errors.UserError(
        f"{self._path}: {name!r} has a row from {start} on that holds nothing;"
        " fill it or leave the row out"
      )
    return column.to_numpy(zero_copy_only=False).reshape(shape)


def write_parquet(
  to: BinaryIO, columns: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
  """Writes columns as Parquet.

  Args:
    to: where.
    columns: one value for each row.
    path: what errors call the file.
  """
  parquet = _pyarrow(path)
  import pyarrow

  parquet.write_table(pyarrow.table(dict(columns)), to)


def _pyarrow(path: pathlib.Path) -> Any:
  try:
    import pyarrow.parquet
  except ImportError as e:
    raise errors.UserError(
      f"{path}: reading and writing Parquet needs pyarrow: pip install"
      " 'tsjax[tables]', or use an .npz"
    ) from e
  return pyarrow.parquet


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
  """Tells what readers raise of a damaged file in one line."""
  try:
    yield
  except errors.UserError:
    raise
  except (
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
  ) as e:
    reason = " ".join(str(e).split())[:200] or type(e).__name__
    raise errors.UserError(
      f"{path}: cannot be read ({reason}); write it again"
    ) from e


def _array_head(f: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Shape, order and dtype of an array in an archive."""
  version = np.lib.format.read_magic(f)
  if version == (1, 0):
    return np.lib.format.read_array_header_1_0(f)
  if version == (2, 0):
    return np.lib.format.read_array_header_2_0(f)
  raise ValueError(f"an array of npy version {version}")
