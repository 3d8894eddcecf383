"""Keys of examples: 128 bits of BLAKE2b over what an example holds.

The key is of the content, so that it outlives another order, another division
into splits and another framework; `tsjax cache --keys` writes the keys down.
"""

from collections.abc import Mapping
import hashlib
import json

import numpy as np

from tsjax.data import sources

BYTES = 16
# The label is what a teacher predicts, and no part of the question.
_LEFT_OUT = (*sources.RESERVED, "label")


def key_fields(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The fields of a batch that its examples' keys are made of, by name.

  All numbers of the source but the label; not what batches and caches add.
  """
  return {
    name: batch[name]
    for name in sorted(batch)
    if name not in _LEFT_OUT
    and "/" not in name
    and batch[name].dtype.kind in "biuf"
  }


def schema(fields: Mapping[str, np.ndarray]) -> dict[str, str]:
  """Dtype and shape of one example's fields: `{"image": "uint8[8, 8, 1]"}`."""
  return {
    name: f"{fields[name].dtype.name}{list(fields[name].shape[1:])}"
    for name in sorted(fields)
  }


def content_keys(
  fields: Mapping[str, np.ndarray], index: np.ndarray | None = None
) -> np.ndarray:
  """The keys of a batch's examples.

  A key is BLAKE2b, 16 bytes, of the fields' names, dtypes and shapes as JSON,
  a zero byte, then every field's bytes in the order of the names, little end
  first, each example for itself.

  Args:
    fields: arrays `[n, ...]`; see `key_fields`.
    index: integers [n], for keys that tell equal examples at different places
      apart: a view's random draw depends on the place.

  Returns:
    uint8 [n, 16].
  """
  told = json.dumps({"fields": schema(fields), "index": index is not None})
  base = hashlib.blake2b(told.encode() + b"\0", digest_size=BYTES)
  columns = [fields[name] for name in sorted(fields)]
  if index is not None:
    columns.append(np.asarray(index, np.int64))
  size = len(columns[0])
  rows = [_bytes(column, size) for column in columns]
  keys = np.empty((size, BYTES), np.uint8)
  for i in range(size):
    digest = base.copy()
    for row in rows:
      digest.update(row[i])
    keys[i] = np.frombuffer(digest.digest(), np.uint8)
  return keys


def to_text(keys: np.ndarray) -> np.ndarray:
  """Keys uint8 [n, 16] as 32 hexadecimal digits, `<U32` [n]."""
  whole = np.ascontiguousarray(keys).tobytes().hex()
  step = 2 * BYTES
  return np.array(
    [whole[i : i + step] for i in range(0, len(whole), step)], f"<U{step}"
  )


class Table:
  """Finds rows by their keys; of equal keys, the first row.

  It takes 24 bytes of memory for a key.

  Args:
    keys: uint8 [n, 16].
  """

  def __init__(self, keys: np.ndarray):
    high, low = _halves(keys)
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    new = np.ones(len(order), bool)
    new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    self._high, self._low, self._rows = high[new], low[new], order[new]

  @property
  def size(self) -> int:
    """Number of different keys."""
    return len(self._rows)

  def find(self, keys: np.ndarray) -> np.ndarray:
    """Rows of the keys uint8 [m, 16], int64 [m]; -1 where there is none."""
    high, low = _halves(keys)
    places = np.searchsorted(self._high, high)
    while True:
      inside = places < self.size
      at = np.minimum(places, self.size - 1)
      same = inside & (self._high[at] == high)
      # Keys of which one half is the same stand side by side.
      passing = same & (self._low[at] < low)
      if not passing.any():
        break
      places = places + passing
    found = same & (self._low[at] == low)
    return np.where(found, self._rows[at], -1)


def _halves(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Both halves of the keys as numbers that sort like the keys."""
  halves = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)
  return halves[:, 0], halves[:, 1]


def _bytes(column: np.ndarray, size: int) -> np.ndarray:
  """One example's bytes in a row, uint8 [n, bytes], little end first."""
  little = column.astype(column.dtype.newbyteorder("<"), copy=False)
  flat = np.ascontiguousarray(little).reshape(size, -1)
  return flat.view(np.uint8)
