"""Writes a cache, from where an earlier writer stopped."""

from collections.abc import Callable, Mapping

from etils import epath
import numpy as np

from tsjax.core import errors
from tsjax.data import cache_header, cache_shards

# How the names of a cache's files begin.
_OWN = ("shard_", cache_header.FILE, cache_shards.MANIFEST)


class Writer:
  """Writes a cache shard by shard.

  What is there already and undamaged is kept, whoever wrote it and in whatever
  order; the finished folder holds the same bytes.

  Args:
    folder: where; made when missing.
    header: what is written.

  Raises:
    UserError: the folder holds another cache, or other things.
  """

  def __init__(self, folder: epath.PathLike, header: cache_header.Header):
    self.folder, self.header = epath.Path(folder).expanduser(), header
    self._digest = cache_header.digest(header.as_json())
    self._claim()
    self._whole = [
      cache_shards.is_whole(self._path(i), header.stored(i), self._digest)
      for i in range(header.shards)
    ]

  @property
  def missing(self) -> list[int]:
    """Numbers of the shards that are still to be written."""
    return [i for i, whole in enumerate(self._whole) if not whole]

  def write(self, shard: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes one shard.

    Args:
      shard: its number.
      arrays: `key` uint8 [n, 16] and the header's arrays, `[n, ...]`, for the
        rows `header.rows(shard)`.

    Raises:
      UserError: it cannot be written.
    """
    given = {name: (x.dtype.name, x.shape) for name, x in arrays.items()}
    if given != self.header.stored(shard):
      raise ValueError(f"{given} is not {self.header.stored(shard)}")
    # Of a shard that is about to change it would say what is no longer so.
    (self.folder / cache_shards.MANIFEST).unlink(missing_ok=True)
    cache_shards.write(self._path(shard), arrays, self._digest)
    self._whole[shard] = True

  def finish(self) -> None:
    """Writes the manifest, once every shard is there.

    Raises:
      UserError: it cannot be written.
    """
    if self.missing:
      raise ValueError(f"shards {self.missing} are missing")
    shards = []
    for i in range(self.header.shards):
      shard = cache_shards.Shard(self._path(i))
      shards.append(
        {
          "file": self._path(i).name,
          "examples": len(self.header.rows(i)),
          "bytes": shard.size,
          "head": cache_shards.digest(shard.head),
        }
      )
    manifest = {
      "format": cache_header.FORMAT,
      cache_header.FILE: self._digest,
      "shards": shards,
    }
    manifest["digest"] = cache_header.digest(manifest)
    for path in self.folder.iterdir():
      if path.suffix == ".part":  # Of a writer that was killed.
        path.unlink(missing_ok=True)
    cache_shards.write_whole(
      self.folder / cache_shards.MANIFEST, [cache_header.text(manifest)]
    )

  def _claim(self) -> None:
    """Writes the header, unless the folder is another's."""
    if self.folder.exists() and not self.folder.is_dir():
      raise errors.UserError(f"--out={self.folder}: is a file; name a folder")
    path, mine = self.folder / cache_header.FILE, self.header.as_json()
    try:
      found = cache_header.read(path) if path.exists() else None
    except cache_shards.Damaged:
      found = None
    if found == mine:
      return
    if found is not None and not self._was_mine():
      for key, was, now in cache_header.differences(found, mine, "header"):
        raise errors.UserError(
          f"{path}: {key} was {was!r} and is now {now!r}; restore it, or name"
          " another --out"
        )
    if found is None and self.folder.exists():
      for other in sorted(p.name for p in self.folder.iterdir()):
        if not other.startswith(_OWN) and not other.endswith(".part"):
          raise errors.UserError(
            f"--out={self.folder}: holds other things ({other}); name a new"
            " folder"
          )
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
      raise errors.UserError(
        f"--out={self.folder}: cannot be made ({e.strerror or e}); name"
        " another folder"
      ) from e
    cache_shards.write_whole(path, [cache_header.text(mine)])

  def _was_mine(self) -> bool:
    """Whether the manifest says that the header was the one to be written."""
    path = self.folder / cache_shards.MANIFEST
    try:
      return (
        path.exists()
        and cache_header.read(path).get(cache_header.FILE) == self._digest
      )
    except cache_shards.Damaged:
      return False

  def _path(self, shard: int) -> epath.Path:
    return self.folder / f"shard_{shard:05d}.safetensors"


def stored(
  values: Mapping[str, np.ndarray],
  header: cache_header.Header,
  told: Callable[[int], str],
) -> dict[str, np.ndarray]:
  """Values as the cache stores them.

  Args:
    values: the header's arrays `[n, ...]`, in float32 or wider.
    header: of the cache.
    told: row -> what errors call it.

  Raises:
    UserError: a value is not a number, or too large for the dtype.
  """
  found = {}
  for name, (dtype, _) in header.arrays().items():
    value = np.asarray(values[name])
    if value.dtype.kind == "f":
      bad = np.isnan(value)
      # An excluded class is -inf, and stays so.
      bad |= (value == np.inf) | ((value == -np.inf) & (name == "log_sum_exp"))
      _refuse(bad, value, name, told, "is not finite; it cannot teach")
    with np.errstate(over="ignore"):
      kept = value.astype(dtype)
    if value.dtype.kind == "f":
      _refuse(
        np.isinf(kept) & np.isfinite(value),
        value,
        name,
        told,
        f"is too large for {dtype}; store it with --dtype=float32",
      )
    found[name] = kept
  return found


def _refuse(
  bad: np.ndarray,
  value: np.ndarray,
  name: str,
  told: Callable[[int], str],
  why: str,
) -> None:
  if bad.any():
    place = np.unravel_index(np.flatnonzero(bad)[0], bad.shape)
    raise errors.UserError(
      f"{told(int(place[0]))}: {name} holds {value[place]:g}, which {why}"
    )
