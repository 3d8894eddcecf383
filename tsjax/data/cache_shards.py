"""Shards of a cache: safetensors files that prove what they hold.

The format is the one of the safetensors library, which reads these files too:
eight bytes with the head's length, a head in JSON, the arrays. The head holds
a digest of every array, so that a head that is known to be right makes the
whole file known.
"""

from collections.abc import Iterable, Mapping
import hashlib
import json
import os
from typing import Any

from etils import epath
import numpy as np

from tsjax.core import errors

_DTYPES = {
  "float32": "F32",
  "float16": "F16",
  "int32": "I32",
  "uint8": "U8",
}
_ALIGNED = 64
# Written last, with the digests of all other files.
MANIFEST = "manifest.json"


class Damaged(errors.UserError):
  """A file that is not what was written.

  Args:
    path: the file.
    why: how that shows.
  """

  def __init__(self, path: epath.Path, why: str):
    super().__init__(
      f"{path}: is damaged ({why}); run the same `tsjax cache` again, which"
      " writes it anew"
    )


def digest(data: Any) -> str:
  """BLAKE2b, 128 bits in hexadecimal, of what has a buffer."""
  return hashlib.blake2b(data, digest_size=16).hexdigest()


def is_local(path: epath.Path) -> bool:
  """Whether the path is one of this machine's files."""
  return "://" not in os.fspath(path)


def write_whole(path: epath.Path, parts: Iterable[bytes | memoryview]) -> None:
  """Writes a file that is, at every moment, the old one or the whole new one.

  Raises:
    UserError: it cannot be written.
  """
  # Two processes that write one file must not share the part.
  part = path.parent / f"{path.name}.{os.getpid()}.part"
  try:
    with part.open("wb") as f:
      for chunk in parts:
        f.write(chunk)
      if is_local(path):
        # Else a power cut can leave the name and lose the bytes.
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)
  except OSError as e:
    part.unlink(missing_ok=True)
    raise errors.UserError(
      f"{path}: cannot be written ({e.strerror or e}); make room or name"
      " another folder, and start again with the same command: it goes on"
    ) from e


def head(arrays: Mapping[str, np.ndarray], of: str) -> bytes:
  """The first bytes of a shard: its head's length, and its head.

  Args:
    arrays: what it holds.
    of: the digest of the cache's header, which belongs to it.
  """
  digests, entries, offset = {"header": of}, {}, 0
  for name, array in arrays.items():
    data = np.ascontiguousarray(array)
    digests[name] = digest(data.reshape(-1).view(np.uint8))
    entries[name] = {
      "dtype": _DTYPES[data.dtype.name],
      "shape": list(data.shape),
      "data_offsets": [offset, offset + data.nbytes],
    }
    offset += data.nbytes
  text = json.dumps({"__metadata__": digests, **entries}).encode()
  # Filled up, so that the arrays are aligned in a file that is mapped.
  text += b" " * (-(8 + len(text)) % _ALIGNED)
  return len(text).to_bytes(8, "little") + text


def write(path: epath.Path, arrays: Mapping[str, np.ndarray], of: str) -> None:
  """Writes a shard; arrays of wide dtypes come first.

  Raises:
    UserError: it cannot be written.
  """
  arrays = _wide_first(arrays)
  views = (
    np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    for array in arrays.values()
  )
  write_whole(path, [head(arrays, of), *views])


def is_whole(
  path: epath.Path, like: Mapping[str, tuple[str, Any]], of: str
) -> bool:
  """Whether a shard holds arrays of these dtypes and shapes, undamaged.

  Args:
    path: the file; it need not be there.
    like: name -> (dtype, shape).
    of: the digest of the cache's header.
  """
  if not path.exists():
    return False
  try:
    shard = Shard(path)
    arrays = {name: shard.array(name) for name in like}
    found = {name: (x.dtype.name, x.shape) for name, x in arrays.items()}
  except Damaged:
    return False
  # Every byte of the header follows from the arrays.
  return found == dict(like) and shard.head == head(_wide_first(arrays), of)


class Shard:
  """One file, mapped into memory if it is local, else read.

  Args:
    path: the file.
    size: of the file in bytes, if it is known.
    head_digest: of the file's head, if it is known.

  Raises:
    Damaged: the file is missing or cut short, or its head is another.
  """

  def __init__(
    self,
    path: epath.Path,
    *,
    size: int | None = None,
    head_digest: str | None = None,
  ):
    self._path = path
    self._verified: set[str] = set()
    try:
      self._data = (
        np.memmap(path, np.uint8, "r")
        if is_local(path)
        else np.frombuffer(path.read_bytes(), np.uint8)
      )
    except (OSError, ValueError) as e:  # An empty file cannot be mapped.
      raise Damaged(path, " ".join(str(e).split())) from e
    if size is not None and len(self._data) != size:
      raise Damaged(path, f"{len(self._data)} bytes, written were {size}")
    try:
      length = int.from_bytes(self._data[:8].tobytes(), "little")
      self.head = self._data[: 8 + length].tobytes()
      entries = json.loads(self.head[8:])
      self._digests = entries.pop("__metadata__")
      self._arrays = {name: self._view(x) for name, x in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
      raise Damaged(path, "its head cannot be read") from e
    if head_digest is not None and digest(self.head) != head_digest:
      raise Damaged(path, "its head is another")

  @property
  def size(self) -> int:
    """Bytes of the file."""
    return len(self._data)

  def array(self, name: str) -> np.ndarray:
    """An array of the file, verified when it is first asked for.

    Raises:
      Damaged: it is not what was written, or not there.
    """
    if name not in self._verified:
      try:
        data = self._arrays[name].reshape(-1).view(np.uint8)
        whole = digest(data) == self._digests[name]
      except KeyError as e:
        raise Damaged(self._path, f"it has no array {name!r}") from e
      if not whole:
        raise Damaged(self._path, f"array {name!r} is another")
      self._verified.add(name)
    return self._arrays[name]

  def _view(self, entry: Mapping[str, Any]) -> np.ndarray:
    start, end = (int(x) for x in entry["data_offsets"])
    dtype = {short: name for name, short in _DTYPES.items()}[entry["dtype"]]
    base = len(self.head)
    data = self._data[base + start : base + end]
    return data.view(dtype).reshape(entry["shape"])


def _wide_first(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  # So every array is aligned without gaps, which the format forbids.
  return dict(
    sorted(arrays.items(), key=lambda x: (-x[1].dtype.itemsize, x[0]))
  )
