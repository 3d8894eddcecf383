"""Outputs that come from another framework, and the keys that it needs."""

from collections.abc import Iterator
import dataclasses
import io
import os
import pathlib
from typing import Any

from etils import epath
import numpy as np

from tsjax.config import loading
from tsjax.core import errors
from tsjax.data import (
  cache,
  cache_columns,
  cache_header,
  cache_import,
  cache_keys,
  cache_shards,
  cache_writer,
  still,
)
from tsjax.data import splits as splits_lib
from tsjax.loop import cache_account, caching
from tsjax.report import progress as progress_lib

# Examples by which a dump is tried against the data; rows read at a time.
_TRIED, _ROWS = 4096, 512


def import_file(
  parts: Any,
  file: str | os.PathLike[str],
  out: epath.PathLike,
  *,
  dtype: str = "float32",
  temperature: float | None = None,
  view: str = "",
  split: str = "train",
  shard_examples: int | None = None,
) -> cache.Cache:
  """Writes a cache of the outputs that another framework dumped.

  Args:
    parts: of the run whose data the outputs are of, from `build.build`.
    file: npz or Parquet; see `data.cache_import`.
    out: the cache's folder.
    dtype: in which logits or log-probabilities are stored.
    temperature: T of the dump's log-probabilities; with a top k only.
    view: what the teacher saw, without random draws; "" is the only one.
    split: of `parts.splits`; an index counts in the source's split of it.
    shard_examples: rows of a file; None chooses.

  Returns:
    The cache, open.

  Raises:
    UserError: the file or an option does not fit, or a row of the file.
  """
  chosen = caching.checked_split(parts, split)
  if not view and len(parts.views) > 1:
    raise errors.UserError(
      "--view is missing: say what the teacher saw, one of"
      f" {', '.join(sorted(parts.views))}"
    )
  view = caching.checked_view(parts, view or next(iter(parts.views)))
  dump = cache_import.open_dump(file)
  top_k = dump.width if dump.kind == "top_k" else 0
  _check_temperature(dump, temperature)
  caching.check_options(dtype, top_k, temperature)
  classes = len(parts.source.classes)
  _check_width(dump, classes)
  whole = splits_lib.whole(parts.source, chosen.name)
  _check_rows(dump, chosen, whole.size)
  one = cache_keys.key_fields(chosen.read(np.zeros(1, np.int64)))
  header = cache_header.Header(
    kind=dump.kind,
    dtype=dtype,
    shape=(classes or dump.width,),
    top_k=top_k or None,
    temperature=None if temperature is None else float(temperature),
    examples=dump.size,
    fields=cache_keys.schema(one),
    view=view,
    view_spec=still.within(loading.as_json(parts.run.data.views[view])),
    augmentation=None,
    teacher={"file": dump.path.name, "checksum": dump.checksum()},
    computed={},
    shard_examples=0,
  )
  rows = shard_examples or cache_header.shard_examples(header, _ROWS)
  header = dataclasses.replace(header, shard_examples=rows)
  writer = cache_writer.Writer(out, header)
  _copy(writer, dump, whole)
  opened = cache.open(writer.folder)
  for line in _trial(opened, chosen, split):
    progress_lib.Progress(1).line(line)
  return opened


def write_keys(
  parts: Any, out: str | os.PathLike[str], *, split: str = "train"
) -> pathlib.Path:
  """Writes key and index of every example of a split, and its label.

  Args:
    parts: of the run, from `build.build`.
    out: an .npz or .parquet file.
    split: of `parts.splits`.

  Returns:
    The file, with `key` (32 hexadecimal digits), `index` int64 (the row in the
    source's split) and, where they are integers, `label`.

  Raises:
    UserError: another suffix, no such split, or the file cannot be written.
  """
  path = pathlib.Path(out).expanduser()
  if path.suffix not in cache_import.SUFFIXES:
    raise errors.UserError(
      f"--out={path}: is neither {' nor '.join(cache_import.SUFFIXES)}; name a"
      " file of one of them"
    )
  if path.is_dir():
    raise errors.UserError(f"--out={path}: is a folder; name a file")
  chosen = caching.checked_split(parts, split)
  progress = progress_lib.Progress(-(-chosen.size // _ROWS))
  progress.begin(f"keys of {split}")
  keys = []
  try:
    for start in range(0, chosen.size, _ROWS):
      batch = chosen.read(np.arange(start, min(start + _ROWS, chosen.size)))
      keys.append(cache_keys.content_keys(cache_keys.key_fields(batch)))
      progress.advance(1)
    columns = {
      "key": cache_keys.to_text(np.concatenate(keys)),
      "index": chosen.rows.astype(np.int64),
    }
    labels = chosen.labels()
    if labels.dtype.kind in "iu" and labels.ndim == 1:
      columns["label"] = labels.astype(np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    cache_shards.write_whole(epath.Path(path), [_file(path, columns)])
    progress.line(
      f"keys: {path}: {chosen.size:,} examples of split {split!r}, field"
      f" {', '.join(cache_keys.key_fields(batch))}"
    )
  finally:
    progress.close()
  return path


def _check_temperature(
  dump: cache_import.Dump, temperature: float | None
) -> None:
  if dump.kind == "logits" and temperature is not None:
    raise errors.UserError(
      f"--temperature={temperature:g}: {dump.path} holds logits, which have"
      " none; leave it out"
    )
  if dump.kind == "top_k" and temperature is None:
    raise errors.UserError(
      f"{dump.path}: holds a top k; say of what temperature its"
      " log-probabilities are: --temperature=T"
    )


def _check_width(dump: cache_import.Dump, classes: int) -> None:
  if dump.kind == "logits" and classes and dump.width != classes:
    raise errors.UserError(
      f"{dump.path}: 'logits' are of {dump.width} classes, and the data has"
      f" {classes}; write them in the order of the data's classes"
    )
  if dump.kind == "top_k" and not classes:
    raise errors.UserError(
      f"{dump.path}: holds a top k, and the data does not say how many classes"
      " there are; give its source the classes"
    )
  if dump.kind == "top_k" and dump.width > classes:
    raise errors.UserError(
      f"{dump.path}: holds a top {dump.width}, and the data has {classes}"
      " classes; write fewer"
    )


def _check_rows(
  dump: cache_import.Dump, split: splits_lib.Split, size: int
) -> None:
  """Refuses an index outside of the data, and keys of other data."""
  if dump.index is not None:
    outside = np.flatnonzero((dump.index < 0) | (dump.index >= size))
    if outside.size:
      raise errors.UserError(
        f"{dump.path}: 'index' of row {outside[0]} is"
        f" {dump.index[outside[0]]}, and split {split.name!r} of the source has"
        f" rows 0..{size - 1}"
      )
    return
  found = 0
  table = cache_keys.Table(dump.keys)
  for batch in _some(split):
    keys = cache_keys.content_keys(cache_keys.key_fields(batch))
    found += int((table.find(keys) >= 0).sum())
  if not found:
    raise errors.UserError(
      f"{dump.path}: no 'key' is of an example of split {split.name!r}; write"
      " the keys with `tsjax cache --keys` and this config"
    )


def _some(split: splits_lib.Split) -> Iterator[dict[str, np.ndarray]]:
  """Yields batches of some examples, evenly spread over a split."""
  count = min(split.size, _TRIED)
  places = np.arange(count) * (split.size // count)
  for start in range(0, count, _ROWS):
    yield split.read(places[start : start + _ROWS])


def _copy(
  writer: cache_writer.Writer,
  dump: cache_import.Dump,
  whole: splits_lib.Split,
) -> None:
  """Writes the shards that are missing, and the manifest."""
  header, missing = writer.header, set(writer.missing)
  progress = progress_lib.Progress(header.shards)
  progress.begin(f"shards of {dump.path.name}")
  try:
    blocks = dump.blocks(header.shard_examples)
    for shard, block in enumerate(blocks):
      if shard not in missing:
        progress.skip(1)
        continue
      rows = header.rows(shard)

      def told(row: int, start: int = rows.start) -> str:
        return f"{dump.path}: row {start + row}"

      if header.kind == "top_k":
        block = cache_import.check_top_k(block, header.classes, told)
      arrays = cache_writer.stored(block, header, told)
      keys = (
        _keys(header, whole, dump.index[rows.start : rows.stop])
        if dump.keys is None
        else dump.keys[rows.start : rows.stop]
      )
      writer.write(shard, {"key": keys, **arrays})
      progress.advance(1)
    writer.finish()
  finally:
    progress.close()


def _keys(
  header: cache_header.Header, whole: splits_lib.Split, index: np.ndarray
) -> np.ndarray:
  """Keys of rows of the source."""
  keys = []
  for start in range(0, len(index), _ROWS):
    batch = whole.read(index[start : start + _ROWS])
    keys.append(
      cache_keys.content_keys({name: batch[name] for name in header.fields})
    )
  return np.concatenate(keys)


def _trial(
  opened: cache.Cache, split: splits_lib.Split, name: str
) -> Iterator[str]:
  """Lines on how a cache fits the data, from some examples of a split."""
  tried = there = agreed = compared = 0
  for batch in _some(split):
    known = opened.has(batch, batch["index"])
    tried, there = tried + len(known), there + int(known.sum())
    if known.any():
      kept = {field: x[known] for field, x in batch.items()}
      more = cache_account.agreement(
        opened.lookup(kept, kept["index"]), kept.get("label"), opened.header
      )
      agreed, compared = agreed + more[0], compared + more[1]
  yield cache_account.summary(opened, agreed, compared)
  if there < tried:
    yield (
      f"cache: {opened.folder}: lacks {tried - there:,} of {tried:,} examples"
      f" of split {name!r}; a stage that trains on them will refuse it"
    )


def _file(path: pathlib.Path, columns: dict[str, np.ndarray]) -> bytes:
  """The bytes of an .npz or a .parquet file."""
  buffer = io.BytesIO()
  if path.suffix == ".npz":
    np.savez(buffer, **columns)
  else:
    cache_columns.write_parquet(buffer, columns, path)
  return buffer.getvalue()
