"""Teachers' outputs in files, found by the content of the example.

A folder holds

    header.json              what the outputs are, and of what they were made
    shard_00000.safetensors  keys and outputs, some thousand examples a file
    manifest.json            written last: sizes and digests of all the others

Every file appears whole, so that a writer that was killed goes on from the
shards that are there, and ends in the same bytes. `header.json` and the heads
and keys of the shards are verified when a cache is opened; outputs when
something of their shard is first read.
"""

from collections.abc import Mapping
import dataclasses

from etils import epath
import numpy as np

from tsjax.core import errors
from tsjax.data import cache_header, cache_keys, cache_shards, sources, splits

# Splits up to this size are looked up whole before a run; of larger ones, some
# examples, for reading all of them may take an hour.
_CHECK_BYTES, _CHECK_EXAMPLES, _CHUNK = 2**30, 4096, 512


class Cache:
  """A finished cache, opened by `open`.

  Attributes:
    folder: where it lies.
    header: what its outputs are.
  """

  def __init__(
    self,
    folder: epath.Path,
    header: cache_header.Header,
    shards: list[cache_shards.Shard],
  ):
    self.folder, self.header, self._shards = folder, header, shards
    self._table = cache_keys.Table(
      np.concatenate([shard.array("key") for shard in shards])
    )

  @property
  def size(self) -> int:
    """Number of different examples."""
    return self._table.size

  def check(self, facts: cache_header.Facts) -> None:
    """Refuses a cache that does not hold what a run asks for.

    Raises:
      UserError: see `cache_header.check`.
    """
    cache_header.check(self.header, facts, str(self.folder))

  def check_examples(self, split: splits.Split, key: str) -> None:
    """Refuses a cache that lacks examples of a split.

    A split of more than 1 GiB is not read whole: 4,096 of its examples are
    looked up, evenly spread, and the others when they are read.

    Args:
      split: the training examples.
      key: the config key that names the cache, for the error.

    Raises:
      UserError: examples are missing, or have other fields.
    """
    one = cache_keys.key_fields(split.read(np.zeros(1, np.int64)))
    asked, step = split.size, 1
    if sum(x.nbytes for x in one.values()) * split.size > _CHECK_BYTES:
      asked = min(asked, _CHECK_EXAMPLES)
      step = split.size // asked
    missing: list[np.ndarray] = []
    for start in range(0, asked, _CHUNK):
      batch = split.read(np.arange(start, min(start + _CHUNK, asked)) * step)
      rows = self._find(batch, batch["index"])
      missing.append(batch["index"][rows < 0])
    lacking = np.concatenate(missing)
    if lacking.size:
      raise errors.UserError(
        f"{key}={self.folder}: lacks {lacking.size} of {asked} examples of"
        f" split {split.name!r} (the first: index {lacking[0]}); write the"
        " cache from this config, or set config.data as in the run that wrote"
        " it"
      )

  def has(
    self, fields: Mapping[str, np.ndarray], index: np.ndarray
  ) -> np.ndarray:
    """Which examples of a batch are there, bool [n]; see `lookup`."""
    return self._find(fields, index) >= 0

  def lookup(
    self, fields: Mapping[str, np.ndarray], index: np.ndarray
  ) -> dict[str, np.ndarray]:
    """The outputs of a batch's examples, as they are stored.

    Args:
      fields: of the source, `[n, ...]`.
      index: integers [n], the examples' rows in the source's split.

    Returns:
      `logits` `[n, ..., classes]`; or `log_probabilities` and `indices`
      `[n, ..., k]` with `log_sum_exp` `[n, ...]`. With the draws of several
      epochs, an axis of epochs comes after the first.

    Raises:
      UserError: an example is not there, or its shard is damaged.
    """
    rows = self._find(fields, index)
    if (rows < 0).any():
      lacking = np.asarray(index)[rows < 0]
      raise errors.UserError(
        f"{self.folder}: lacks {len(lacking)} of {len(rows)} examples of a"
        f" batch (the first: index {lacking[0]}); write the cache from this"
        " config"
      )
    numbers, places = np.divmod(rows, self.header.shard_examples)
    found = {
      name: np.empty((len(rows), *shape), dtype)
      for name, (dtype, shape) in self.header.arrays().items()
    }
    for number in np.unique(numbers):
      here = numbers == number
      for name, values in found.items():
        values[here] = self._shards[number].array(name)[places[here]]
    return found

  def verify(self) -> None:
    """Reads and verifies everything at once.

    Raises:
      Damaged: names the file.
    """
    for shard in self._shards:
      for name in self.header.arrays():
        shard.array(name)

  def _find(
    self, fields: Mapping[str, np.ndarray], index: np.ndarray
  ) -> np.ndarray:
    """Rows of the cache, -1 where there is none."""
    for name in self.header.fields:
      if name not in fields:
        raise errors.UserError(
          f"{self.folder}: finds examples by field {name!r}, which the data"
          f" has not: {errors.nearest(name, cache_keys.key_fields(fields))}"
        )
    own = {name: fields[name] for name in self.header.fields}
    for key, was, now in cache_header.differences(
      dict(self.header.fields), cache_keys.schema(own), "field"
    ):
      raise errors.UserError(
        f"{self.folder}: is of examples with {key} {was}, and this data has"
        f" {now}; read the data as the run did that wrote the cache"
      )
    drawn = index if self.header.augmentation else None
    return self._table.find(cache_keys.content_keys(own, drawn))


def open(folder: epath.PathLike) -> Cache:
  """Opens a finished cache; local files are mapped, remote ones are loaded.

  Sizes of all files, the header, and all keys are verified here; outputs, when
  something of their shard is first read.

  Raises:
    UserError: there is no cache, or it is unfinished, or another version's.
    Damaged: a file is not what was written.
  """
  folder = epath.Path(folder).expanduser()
  if not (folder / cache_header.FILE).exists():
    raise errors.UserError(
      f"{folder}: holds no cache, for {cache_header.FILE} is not there; write"
      " one with `tsjax cache`"
    )
  told = cache_header.read(folder / cache_header.FILE)
  if told.get("format") != cache_header.FORMAT:
    raise errors.UserError(
      f"{folder}: format {told.get('format')}, and this version reads"
      f" {cache_header.FORMAT}; write the cache anew"
    )
  if not (folder / cache_shards.MANIFEST).exists():
    written = sum(p.suffix == ".safetensors" for p in folder.iterdir())
    raise errors.UserError(
      f"{folder}: unfinished, with {written} of its shards written; run the"
      " same `tsjax cache` again, which goes on"
    )
  path = folder / cache_shards.MANIFEST
  manifest = cache_header.read(path)
  claimed = manifest.pop("digest", None)
  if claimed != cache_header.digest(manifest):
    raise cache_shards.Damaged(path, "its digest is another")
  if manifest[cache_header.FILE] != cache_header.digest(told):
    raise cache_shards.Damaged(
      folder / cache_header.FILE, "its digest is another"
    )
  header = cache_header.from_json(told)
  shards = [
    cache_shards.Shard(
      folder / entry["file"], size=entry["bytes"], head_digest=entry["head"]
    )
    for entry in manifest["shards"]
  ]
  return Cache(folder, header, shards)


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
  """A split whose batches hold what caches say of their examples.

  A cache of logits adds the field `teacher/NAME`; one of the top k,
  `teacher/NAME/log_probabilities`, `.../indices` and `.../log_sum_exp`.

  Attributes:
    split: the examples.
    caches: by the teachers' names.
  """

  split: splits.Split
  caches: Mapping[str, Cache]

  @property
  def source(self) -> sources.Source:
    """Where the examples are read."""
    return self.split.source

  @property
  def name(self) -> str:
    """The source's name of the split."""
    return self.split.name

  @property
  def rows(self) -> np.ndarray:
    """Rows of the source's split, int64 [size]."""
    return self.split.rows

  @property
  def labelled(self) -> np.ndarray:
    """bool [size], True where a stage may use the label."""
    return self.split.labelled

  @property
  def size(self) -> int:
    """Number of examples."""
    return self.split.size

  def labels(self) -> np.ndarray:
    """Labels of the split's examples."""
    return self.split.labels()

  def read(self, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Reads examples by their positions; see `splits.Split.read`.

    Raises:
      UserError: a record cannot be read, or a cache lacks it or is damaged.
    """
    batch = self.split.read(positions)
    joined = dict(batch)
    for teacher, cache in self.caches.items():
      for name, values in cache.lookup(batch, batch["index"]).items():
        joined[field(teacher, name)] = values
    return joined


def field(teacher: str, name: str) -> str:
  """The field of a batch that holds an array of a cache."""
  return f"teacher/{teacher}" + ("" if name == "logits" else f"/{name}")
