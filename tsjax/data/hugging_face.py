"""A source of data sets of the Hugging Face library `datasets`."""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

import numpy as np

from tsjax.core import errors
from tsjax.data import (
  cells,
  hugging_face_rows,
  images,
  lazy,
  sources,
  table_columns,
  targets,
)
from tsjax.data import splits as splits_lib

__all__ = ["hugging_face"]


def hugging_face(
  name: str | os.PathLike[str],
  config: str | None = None,
  *,
  revision: str | None = None,
  splits: Mapping[str, str] | None = None,
  image: str | None = "image",
  size: int | tuple[int, int] | None = None,
  channels: int = 3,
  label: str = "label",
  target: str = "class",
  classes: Sequence[str] | int | None = None,
  fields: Sequence[str] = (),
  test: float = 0.2,
  seed: int = 0,
  keep_in_memory: bool | None = None,
  memory_limit: int = 2**28,
) -> lazy.Lazy:
  """A Hugging Face data set: a folder of `save_to_disk`, or a name of the Hub.

  Fields: `image` uint8 [height, width, channels], `label`, and the `fields`
  asked for. Rows are read from disk when they are asked for, and images are
  decoded then. Code that comes with a data set is never run.

  Args:
    name: the folder, or "owner/name" on the Hub.
    config: of a data set on the Hub that has several.
    revision: commit of a data set on the Hub, which must be given: without
      one, the data could change between two runs.
    splits: our split -> theirs, such as {"test": "validation"}, beside which
      none is read but those named; None takes theirs as they are.
    image: the feature that becomes the field `image`; None reads none.
    size: (height, width) of the images, or one number for both, to which each
      is stretched; None takes them as they are, which must be of one size.
    channels: 1 (grey), 3 (RGB) or 4 (RGBA), to which images are converted.
    label: the feature that becomes the field `label`.
    target: what the label is: "class" (a ClassLabel, integers, texts),
      "number", or "labels" (lists of one of the former, or of truth values).
    classes: names of the classes or their number; None takes those of the
      ClassLabel, or those that occur in train, sorted.
    fields: further features, kept under their own names: numbers and lists of
      them, and texts as integers, whose texts `names` of the source tells.
    test: share of train that becomes the test split, stratified by the label,
      where there is none.
    seed: of the share.
    keep_in_memory: whether a split is decoded once and kept; None keeps the
      data set if all of it takes no more than `memory_limit`.
    memory_limit: bytes.

  Raises:
    UserError: there is no such data set, it cannot be fetched, or lacks a
      split or a feature; a value does not fit; names split and row.
  """
  told = f"hugging_face {str(name)!r}"
  targets.check(told, target)
  images.check_channels(told, channels)
  parts = _chosen(told, _loaded(told, name, config, revision), splits)
  kinds = _checked_features(told, parts, image, label, fields)
  labels, names_of_classes = _labels(told, parts, label, target, classes)
  rows = {split: np.arange(len(part)) for split, part in parts.items()}
  if "test" not in parts:
    chosen = splits_lib.divide(labels["train"], test, seed, key="test")
    for split, some in (("train", ~chosen), ("test", chosen)):
      rows[split] = np.flatnonzero(some)
    parts["test"] = parts["train"]
    both = labels["train"]
    labels |= {s: both[rows[s]] for s in ("train", "test")}
  words, names = _words(told, parts, fields, kinds)
  numbers = [field for field in fields if field not in words]
  reader = hugging_face_rows.Reader(told, parts, image, size, channels, numbers)

  def decode(split: str, some: np.ndarray) -> dict[str, np.ndarray]:
    theirs = rows[split][some]
    texts = {
      field: by_split[split][theirs] for field, by_split in words.items()
    }
    return {**reader.read(split, theirs), **texts}

  sizes = {split: len(some) for split, some in rows.items()}
  one = decode("train", np.zeros(1, np.int64))
  if keep_in_memory is None:
    each = sum(array.nbytes for array in one.values())
    keep_in_memory = sum(sizes.values()) * each <= memory_limit
  return lazy.Lazy(
    told, sizes, names_of_classes, labels, decode, keep_in_memory, names
  )


def _loaded(
  told: str,
  name: str | os.PathLike[str],
  config: str | None,
  revision: str | None,
) -> Any:
  """A `Dataset` or a `DatasetDict`."""
  try:
    import datasets
  except ImportError as e:
    raise errors.UserError(
      f"{told}: datasets cannot be imported ({_reason(e)}); run pip install"
      " 'tsjax[hugging_face]'"
    ) from e
  path = pathlib.Path(name).expanduser()
  if path.is_dir():
    try:
      return datasets.load_from_disk(str(path))
    # Neither kind of folder, or files that are cut or damaged.
    except Exception as e:
      raise errors.UserError(
        f"{told}: cannot be loaded ({_reason(e)}); write it again with"
        " save_to_disk"
      ) from e
  if path.is_absolute() or str(name).startswith((".", "~")):
    there = (
      [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    )
    raise errors.UserError(
      f"{told}: there is no such folder; {errors.nearest(path.name, there)}"
    )
  if revision is None:
    raise errors.UserError(
      f"{told} is no folder here, and a data set of the Hub needs revision=,"
      " the commit that its page shows, so that two runs read the same data"
    )
  try:
    return datasets.load_dataset(str(name), config, revision=revision)
  except ConnectionError as e:
    raise errors.UserError(
      f"{told}: the Hub cannot be reached ({_reason(e)}); give the folder of a"
      " data set that save_to_disk wrote where there is a network"
    ) from e
  # An unknown name, config or revision, or what their files raise.
  except Exception as e:
    raise errors.UserError(f"{told}: cannot be loaded ({_reason(e)})") from e


def _chosen(
  told: str, loaded: Any, splits: Mapping[str, str] | None
) -> dict[str, Any]:
  """Our split -> `Dataset`."""
  parts = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
  ours = splits or {split: split for split in parts}
  for theirs in ours.values():
    if theirs not in parts:
      raise errors.UserError(
        f"{told}: has no split {theirs!r}; {errors.nearest(theirs, parts)}"
      )
    if not len(parts[theirs]):
      raise errors.UserError(
        f"{told}: split {theirs!r} is empty; leave it out with splits="
      )
  if "train" not in ours:
    raise errors.UserError(
      f"{told}: has no split 'train'; name one with splits={{'train': ...}}:"
      f" known: {', '.join(parts)}"
    )
  return {
    split: parts[theirs].with_format(None) for split, theirs in ours.items()
  }


def _checked_features(
  told: str,
  parts: Mapping[str, Any],
  image: str | None,
  label: str,
  fields: Sequence[str],
) -> Mapping[str, Any]:
  """The features of train, or an error about those that are asked for."""
  for part in parts.values():
    for feature in (*fields, label, *((image,) if image else ())):
      if feature not in part.features:
        none = "; image=None reads no image" if feature == image else ""
        raise errors.UserError(
          f"{told}: has no feature {feature!r};"
          f" {errors.nearest(feature, part.features)}{none}"
        )
  features = parts["train"].features
  if image and type(features[image]).__name__ != "Image":
    raise errors.UserError(
      f"{told}: feature {image!r} is {features[image]}, not an Image;"
      " image=None reads none"
    )
  if not image and not fields:
    raise errors.UserError(
      f"{told}: nothing is read but the label; name fields=, or image="
    )
  for field in fields:
    if field in ("image", "label", *sources.RESERVED):
      raise errors.UserError(
        f"{told}: fields: {field!r} is a name that batches use themselves;"
        " rename it with rename_column"
      )
  return features


def _column(told: str, part: Any, split: str, feature: str) -> cells.Column:
  values = part.select_columns([feature]).with_format("arrow")[:]
  return cells.Column(
    f"{told}, split {split!r}",
    "row",
    feature,
    np.arange(len(part)),
    values.column(0).to_pylist(),
  )


def _labels(
  told: str,
  parts: Mapping[str, Any],
  label: str,
  target: str,
  classes: Sequence[str] | int | None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """Labels by split, and the names of their classes."""
  columns = {
    split: _column(told, part, split, label) for split, part in parts.items()
  }
  feature = parts["train"].features[label]
  inner = getattr(feature, "feature", feature)
  names = getattr(inner, "names", None)
  if target == "class" and names:
    # -1, where a test split keeps its labels to itself, is no class.
    labels = {
      split: sources.checked_labels(
        told, split, column.numbers().astype(np.int64), len(names)
      )
      for split, column in columns.items()
    }
    return labels, tuple(names)
  if target == "labels" and getattr(inner, "dtype", "") == "bool":
    labels = {
      split: targets.checked(
        told, split, column.numbers().astype(np.int64), 0, target
      )
      for split, column in columns.items()
    }
    count = labels["train"].shape[1]
    return labels, sources.class_names(count if classes is None else classes)
  if target == "labels" and inner is feature:
    raise errors.UserError(
      f"{told}: feature {label!r} is {feature}, and target='labels' reads a"
      " list of labels"
    )
  wanted = table_columns.Wanted(
    features=None,
    label=label,
    target=target,
    classes=names if classes is None and names else classes,
    fields=(),
    separator="|",
    standardize=False,
    seed=0,
  )
  labels, names = table_columns.labels(
    {split: {label: column} for split, column in columns.items()}, wanted
  )
  if target == "number":
    labels = {
      split: targets.checked(told, split, values, 0, target)
      for split, values in labels.items()
    }
  return labels, names


def _words(
  told: str,
  parts: Mapping[str, Any],
  fields: Sequence[str],
  kinds: Mapping[str, Any],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, tuple[str, ...]]]:
  """Fields of texts as integers by split, and their texts."""
  words, names = {}, {}
  for field in fields:
    if getattr(kinds[field], "dtype", "") in ("string", "large_string"):
      columns = {s: _column(told, part, s, field) for s, part in parts.items()}
      words[field], texts = cells.codes(columns)
      if texts:
        names[field] = texts
    elif getattr(kinds[field], "names", None):
      names[field] = tuple(kinds[field].names)
  return words, names


def _reason(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0].strip()[:200] if lines else type(error).__name__
