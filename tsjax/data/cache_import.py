"""Teachers' outputs that another framework dumped: npz or Parquet.

A dump names its examples by `key` (32 hexadecimal digits, as `tsjax cache
--keys` writes them) or by `index` (the row in the source's split), and holds
`logits` `[n, classes]`; or, of the top k at one temperature,
`log_probabilities` and `indices` `[n, k]` with `log_sum_exp` `[n]`.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import hashlib
import pathlib
import re
from typing import Any

import numpy as np

from tsjax.core import errors
from tsjax.data import cache_columns, cache_keys

SUFFIXES = (".npz", ".parquet")
# Kind of outputs -> its columns.
KINDS = {
  "logits": ("logits",),
  "top_k": ("log_probabilities", "indices", "log_sum_exp"),
}
_KEY = re.compile(r"[0-9a-fA-F]{32}")
# By how much rounding may lift the sum of a dump's probabilities above 1.
_SLACK = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Dump:
  """A file of outputs, of which keys or index are in memory.

  Attributes:
    path: the file.
    size: number of rows.
    kind: of `KINDS`.
    keys: uint8 [n, 16], or None.
    index: int64 [n], or None; one of both is there.
    width: classes of logits, or k of a top k.
    read: yields arrays of the kind's columns for some next rows, in order.
  """

  path: pathlib.Path
  size: int
  kind: str
  keys: np.ndarray | None
  index: np.ndarray | None
  width: int
  read: Callable[[], Iterator[Mapping[str, np.ndarray]]]

  def blocks(self, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """The outputs in blocks of so many rows; the last may be shorter.

    Raises:
      UserError: the file is damaged.
    """
    held: list[Mapping[str, np.ndarray]] = []
    count = 0
    for part in self.read():
      held.append(part)
      count += len(next(iter(part.values())))
      while count >= rows:
        whole = _joined(held)
        yield {name: x[:rows] for name, x in whole.items()}
        held, count = [{k: x[rows:] for k, x in whole.items()}], count - rows
    if count:
      yield _joined(held)

  def checksum(self) -> str:
    """BLAKE2b of the file, 128 bits in hexadecimal."""
    with self.path.open("rb") as f:
      return hashlib.file_digest(
        f, lambda: hashlib.blake2b(digest_size=16)
      ).hexdigest()


def open_dump(path: str | pathlib.Path) -> Dump:
  """Opens a dump.

  Raises:
    UserError: the file is missing, damaged, of another kind, or its columns
      do not fit together.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix not in SUFFIXES:
    raise errors.UserError(
      f"--from={path}: is neither {' nor '.join(SUFFIXES)}; write it as one of"
      " them"
    )
  if not path.is_file():
    there = [p.name for s in SUFFIXES for p in path.parent.glob(f"*{s}")]
    near = errors.nearest(path.name, there)
    raise errors.UserError(f"--from={path}: there is no such file; {near}")
  opened = cache_columns.Npz if path.suffix == ".npz" else cache_columns.Parquet
  table = opened(path, ("key", "index", *KINDS["logits"], *KINDS["top_k"]))
  kind = _kind(path, table.shapes)
  shapes = {name: table.shapes[name] for name in KINDS[kind]}
  named = "key" if "key" in table.shapes else "index"
  size = table.shapes[named][0]
  for name, shape in shapes.items():
    rank = 1 if name == "log_sum_exp" else 2
    if len(shape) != rank:
      raise errors.UserError(
        f"{path}: {name!r} is {list(shape)}; it must be"
        f" {'[examples]' if rank == 1 else '[examples, values]'}"
      )
    if shape[0] != size:
      raise errors.UserError(
        f"{path}: {name!r} has {shape[0]} rows and {named!r} {size}; write one"
        " row for each example"
      )
  if not size:
    raise errors.UserError(f"{path}: holds no rows")
  if kind == "top_k" and shapes["indices"] != shapes["log_probabilities"]:
    raise errors.UserError(
      f"{path}: 'indices' is {list(shapes['indices'])} and 'log_probabilities'"
      f" {list(shapes['log_probabilities'])}; write a class for each"
    )
  return Dump(
    path,
    size,
    kind,
    _keys(path, table.column("key")) if named == "key" else None,
    _index(path, table.column("index")) if named == "index" else None,
    shapes[KINDS[kind][0]][1],
    lambda: table.blocks(KINDS[kind]),
  )


def check_top_k(
  block: Mapping[str, np.ndarray], classes: int, told: Callable[[int], str]
) -> dict[str, np.ndarray]:
  """Checks a block of a top-k dump, and puts the likeliest class first.

  Args:
    block: arrays of `KINDS["top_k"]`.
    classes: number of classes.
    told: row of the block -> what errors call it.

  Raises:
    UserError: a class that there is not, or that stands twice in a row, or
      what cannot be probabilities.
  """
  indices = block["indices"]
  if indices.dtype.kind not in "iu":
    raise errors.UserError(
      f"{told(0)}: 'indices' are {indices.dtype}; write integers"
    )
  log_probabilities = block["log_probabilities"].astype(np.float32)
  outside = (indices < 0) | (indices >= classes)
  if outside.any():
    row, place = np.argwhere(outside)[0]
    raise errors.UserError(
      f"{told(int(row))}: names class {indices[row, place]}, and the classes of"
      f" the data are 0..{classes - 1}"
    )
  ranked = np.sort(indices, axis=1)
  twice = (ranked[:, 1:] == ranked[:, :-1]).any(axis=1)
  if twice.any():
    raise errors.UserError(
      f"{told(int(np.flatnonzero(twice)[0]))}: names a class twice; name every"
      " class of the top k once"
    )
  total = np.exp(log_probabilities.astype(np.float64)).sum(axis=1)
  above = total > 1 + _SLACK
  if above.any():
    row = int(np.flatnonzero(above)[0])
    raise errors.UserError(
      f"{told(row)}: its probabilities add up to {total[row]:.4g}; write"
      " log_softmax(logits / T) over all classes"
    )
  best_first = np.argsort(-log_probabilities, axis=1, kind="stable")
  return {
    "log_probabilities": np.take_along_axis(
      log_probabilities, best_first, axis=1
    ),
    "indices": np.take_along_axis(indices, best_first, axis=1),
    "log_sum_exp": block["log_sum_exp"],
  }


def _kind(path: pathlib.Path, columns: Mapping[str, Any]) -> str:
  """The kind of outputs that a dump's columns hold."""
  told = f"its columns are {', '.join(sorted(columns)) or 'none'}"
  if ("key" in columns) == ("index" in columns):
    raise errors.UserError(
      f"{path}: names examples by one of 'key' and 'index', and {told}"
    )
  there = {
    kind: [name for name in names if name in columns]
    for kind, names in KINDS.items()
  }
  if bool(there["logits"]) == bool(there["top_k"]):
    raise errors.UserError(
      f"{path}: holds either 'logits', or 'log_probabilities', 'indices' and"
      f" 'log_sum_exp'; {told}"
    )
  kind = "logits" if there["logits"] else "top_k"
  for name in KINDS[kind]:
    if name not in columns:
      more = (
        "; zeros take the log-probabilities for logits"
        if name == "log_sum_exp"
        else ""
      )
      raise errors.UserError(
        f"{path}: has no {name!r}, which belongs to a top k:"
        f" {errors.nearest(name, columns)}{more}"
      )
  return kind


def _keys(path: pathlib.Path, column: np.ndarray) -> np.ndarray:
  """Keys as bytes, uint8 [n, 16]."""
  size = cache_keys.BYTES
  if column.dtype == np.uint8 and column.shape[1:] == (size,):
    return np.ascontiguousarray(column)
  if column.ndim != 1 or column.dtype.kind not in "USO":
    raise errors.UserError(
      f"{path}: 'key' is {column.dtype} {list(column.shape)}; write"
      f" {2 * size} hexadecimal digits for each row"
    )
  texts = [
    x.decode("ascii", "replace") if isinstance(x, bytes) else str(x)
    for x in column.tolist()
  ]
  for row, text in enumerate(texts):
    if not _KEY.fullmatch(text):
      raise errors.UserError(
        f"{path}: 'key' of row {row} is {text[:40]!r}, which is not"
        f" {2 * size} hexadecimal digits; write them down with"
        " `tsjax cache --keys`"
      )
  whole = bytes.fromhex("".join(texts))
  return np.frombuffer(whole, np.uint8).reshape(-1, size)


def _index(path: pathlib.Path, column: np.ndarray) -> np.ndarray:
  """Rows of the source's split, int64 [n], each once."""
  if column.ndim != 1 or column.dtype.kind not in "iu":
    raise errors.UserError(
      f"{path}: 'index' is {column.dtype} {list(column.shape)}; write an"
      " integer for each row"
    )
  rows, first, counts = np.unique(column, return_index=True, return_counts=True)
  if (counts > 1).any():
    place = np.flatnonzero(counts > 1)[0]
    raise errors.UserError(
      f"{path}: 'index' has {rows[place]} in {counts[place]} rows, the first of"
      f" them {first[place]}; write one row for each example"
    )
  return column.astype(np.int64)


def _joined(
  parts: list[Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  if len(parts) == 1:
    return dict(parts[0])
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
