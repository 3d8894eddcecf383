"""A source that reads prepared TFDS data sets, without TensorFlow."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import threading
from typing import Any

import numpy as np

from tsjax.core import errors
from tsjax.data import sources

__all__ = ["tfds"]

# Records deserialized at a time; bounds the memory of reading all labels.
_CHUNK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
  """A source of a prepared TFDS data set, read at random from ArrayRecord.

  Attributes:
    name: what errors call the source.
    splits: sizes by split.
    classes: names of the classes, or ().
    labels_count: number of classes, or 0 where it is not known.
    features: field -> feature of the data set.
    shapes: field -> shape of one example, None where sides vary.
    dtypes: field -> NumPy dtype.
    full: split -> the `tfds.data_source` that decodes `features`.
    light: split -> the one that decodes the label only.
    keep_in_memory: whether a split is decoded once, when it is first read.
  """

  name: str
  splits: Mapping[str, int]
  classes: tuple[str, ...]
  labels_count: int
  features: Mapping[str, str]
  shapes: Mapping[str, tuple[int | None, ...]]
  dtypes: Mapping[str, np.dtype]
  full: Mapping[str, Sequence[Any]] = dataclasses.field(repr=False)
  light: Mapping[str, Sequence[Any]] = dataclasses.field(repr=False)
  keep_in_memory: bool = False
  _kept: dict[str, dict[str, np.ndarray]] = dataclasses.field(
    default_factory=dict, init=False, repr=False
  )
  _labels: dict[str, np.ndarray] = dataclasses.field(
    default_factory=dict, init=False, repr=False
  )
  # Threads that read ahead meet at a split's first read.
  _lock: threading.Lock = dataclasses.field(
    default_factory=threading.Lock, init=False, repr=False
  )

  def read(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    rows = sources.checked_rows(self.name, self.splits, split, rows)
    if not self.keep_in_memory:
      return self._decode(split, rows)
    with self._lock:
      if split not in self._kept:
        self._kept[split] = self._decode(split, np.arange(self.splits[split]))
    return {field: a[rows] for field, a in self._kept[split].items()}

  def labels(self, split: str) -> np.ndarray:
    sources.check_split(self.name, self.splits, split)
    with self._lock:
      if split not in self._labels:
        feature = self.features["label"]
        labels = np.empty(self.splits[split], np.int64)
        for start in range(0, len(labels), _CHUNK):
          rows = range(start, min(start + _CHUNK, len(labels)))
          records = self._records(self.light, split, rows)
          labels[rows.start : rows.stop] = [r[feature] for r in records]
        self._labels[split] = sources.checked_labels(
          self.name, split, labels, self.labels_count
        )
    return self._labels[split]

  def _decode(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Decodes rows into arrays [n, ...], one for each field."""
    arrays: dict[str, np.ndarray] = {}
    for start in range(0, len(rows), _CHUNK):
      chunk = rows[start : start + _CHUNK]
      records = self._records(self.full, split, chunk.tolist())
      for field, feature in self.features.items():
        values = [np.asarray(record[feature]) for record in records]
        shape = self._one_shape(split, chunk, field, values)
        if field not in arrays:
          arrays[field] = np.empty((len(rows), *shape), self.dtypes[field])
        elif arrays[field].shape[1:] != shape:
          raise self._unlike(split, chunk[0], field, shape)
        arrays[field][start : start + len(chunk)] = values
    if not len(rows):
      arrays = {
        field: np.empty((0, *(side or 0 for side in shape)), self.dtypes[field])
        for field, shape in self.shapes.items()
      }
    return arrays

  def _one_shape(
    self, split: str, rows: np.ndarray, field: str, values: list[np.ndarray]
  ) -> tuple[int, ...]:
    for row, value in zip(rows, values, strict=True):
      if value.shape != values[0].shape:
        raise self._unlike(split, row, field, value.shape)
    return values[0].shape

  def _unlike(
    self, split: str, row: int, field: str, shape: tuple[int, ...]
  ) -> errors.UserError:
    return errors.UserError(
      f"{self.name}: split {split!r} row {row} has {field!r} of shape"
      f" {list(shape)}, unlike the rows before; examples of one batch need"
      " one shape"
    )

  def _records(
    self, by_split: Mapping[str, Any], split: str, rows: Sequence[int]
  ) -> list[dict[str, Any]]:
    """Reads records; where they cannot be read, names the first bad row."""
    try:
      return by_split[split].__getitems__(list(rows))
    # The readers raise whatever their C++ and their image library raise.
    except Exception as whole:
      for row in rows:
        try:
          by_split[split].__getitems__([row])
        except Exception as e:
          raise errors.UserError(
            f"{self.name}: split {split!r} row {row} is corrupt"
            f" ({_reason(e)}); prepare the data set again"
          ) from e
      raise errors.UserError(
        f"{self.name}: split {split!r} rows {rows[0]}..{rows[-1]} cannot be"
        f" read ({_reason(whole)}); prepare the data set again"
      ) from whole


def tfds(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  image: str | None = "image",
  label: str = "label",
  fields: Sequence[str] = (),
  splits: Mapping[str, str] | None = None,
  keep_in_memory: bool | None = None,
  memory_limit: int = 2**28,
) -> Records:
  """A TFDS data set that is prepared on this machine.

  Args:
    name: of the data set, "cifar10" or "glue/sst2:2.0.0".
    data_dir: where it is prepared; None is TFDS's own default.
    image: the feature that becomes the field `image`, uint8
      [height, width, channels]; None for a data set without.
    label: the feature that becomes the field `label`.
    fields: further features, numbers only, under their own names.
    splits: our split -> theirs, such as {"train": "train[:10%]",
      "test": "validation"}; None takes theirs as they are.
    keep_in_memory: whether a split is decoded once and kept; None keeps the
      data set if all of it takes no more than `memory_limit`.
    memory_limit: bytes.

  Raises:
    UserError: there is no such data set, it is not prepared, or it lacks the
      feature or the split.
  """
  told = f"tfds {name!r}"
  builder = _builder(told, name, data_dir)
  wanted = {"label": label, **({"image": image} if image is not None else {})}
  wanted |= {field: field for field in fields}
  features = builder.info.features
  for field, feature in wanted.items():
    _check_feature(told, features, field, feature)
  classes = getattr(features[label], "num_classes", None) or 0
  theirs = splits or {split: split for split in builder.info.splits}
  sizes = {s: _size(told, builder, s, theirs[s]) for s in theirs}
  shapes = {f: tuple(features[wanted[f]].shape) for f in wanted}
  dtypes = {f: np.dtype(features[wanted[f]].np_dtype) for f in wanted}
  dtypes["label"] = np.dtype(np.int32)
  if keep_in_memory is None:
    keep_in_memory = _fits(shapes, dtypes, sum(sizes.values()), memory_limit)
  return Records(
    name=told,
    splits=sizes,
    classes=tuple(features[label].names or ()) if classes else (),
    labels_count=classes,
    features=wanted,
    shapes=shapes,
    dtypes=dtypes,
    full={s: _open(told, builder, theirs[s], wanted.values()) for s in theirs},
    light={s: _open(told, builder, theirs[s], [label]) for s in theirs},
    keep_in_memory=keep_in_memory,
  )


def _builder(told: str, name: str, data_dir: str | os.PathLike[str] | None):
  """The builder of a prepared data set."""
  try:
    import tensorflow_datasets
  except ImportError as e:
    raise errors.UserError(
      f"{told}: tensorflow_datasets cannot be imported ({_reason(e)}); run pip"
      " install tensorflow-datasets array-record importlib-resources"
    ) from e
  if data_dir is not None:
    data_dir = str(pathlib.Path(data_dir).expanduser())
  missing = tensorflow_datasets.core.registered.DatasetNotFoundError
  try:
    try:
      builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    except missing:
      # Without TensorFlow, GLUE and others are registered by this import only.
      import tensorflow_datasets.text

      builder = tensorflow_datasets.builder(name, data_dir=data_dir)
  except missing as e:
    # The community's data sets are listed by a server and need TensorFlow.
    known = tensorflow_datasets.list_builders(with_community_datasets=False)
    raise errors.UserError(
      f"{told}: there is no such data set; {errors.nearest(name, known)}"
    ) from e
  # An unknown config or version: ValueError, AssertionError and others.
  except Exception as e:
    reason = _unknown_config(name) or f"cannot be opened: {_reason(e)}"
    raise errors.UserError(f"{told}: {reason}") from e
  if not builder.info.splits:
    root = data_dir or tensorflow_datasets.core.constants.DATA_DIR
    argument = f"{name!r}, data_dir={str(root)!r}, file_format='array_record'"
    raise errors.UserError(
      f"{told}: is not prepared in {root}; run python -c"
      ' "import tensorflow_datasets as tfds, tensorflow_datasets.text;'
      f' tfds.builder({argument}).download_and_prepare()"'
    )
  return builder


def _unknown_config(name: str) -> str:
  """Says so if `name` asks for a config that its data set has not, or ""."""
  import tensorflow_datasets

  data_set, _, config = name.partition(":")[0].partition("/")
  try:
    known = tensorflow_datasets.builder_cls(data_set).builder_configs
  # No name of TFDS's at all: what went wrong is something else.
  except Exception:
    return ""
  if not config or config in known:
    return ""
  return f"has no config {config!r}; {errors.nearest(config, known)}"


def _check_feature(
  told: str, features: Mapping[str, Any], field: str, feature: str
) -> None:
  """Raises UserError unless the feature fits the field."""
  if feature not in features:
    none = "; image=None reads no image" if field == "image" else ""
    raise errors.UserError(
      f"{told}: has no feature {feature!r} for field {field!r};"
      f" {errors.nearest(feature, features)}{none}"
    )
  if field in sources.RESERVED:
    raise errors.UserError(
      f"{told}: field {field!r} is a name that batches use themselves; read"
      " another feature"
    )
  kind = getattr(features[feature], "np_dtype", None)
  shape = getattr(features[feature], "shape", None)
  try:
    kind = np.dtype(kind).kind if kind is not None else "O"
  except TypeError:
    kind = "O"
  if field == "label" and (kind not in "iu" or shape != ()):
    raise errors.UserError(
      f"{told}: feature {feature!r} is {features[feature]}, not an integer, so"
      " it cannot be the label"
    )
  if kind not in "biuf" or not isinstance(shape, tuple):
    raise errors.UserError(
      f"{told}: feature {feature!r} is {features[feature]}; a batch holds"
      " numbers only"
    )


def _size(told: str, builder: Any, ours: str, theirs: str) -> int:
  try:
    size = builder.info.splits[theirs].num_examples
  except Exception as e:
    raise errors.UserError(
      f"{told}: has no split {theirs!r};"
      f" {errors.nearest(theirs, builder.info.splits)}"
    ) from e
  if not size:
    raise errors.UserError(
      f"{told}: split {ours!r} is empty; leave it out with splits="
    )
  return size


def _open(told: str, builder: Any, split: str, features: Any) -> Any:
  """The random-access reader of a split that decodes `features` only."""
  from tensorflow_datasets import decode

  skipped = set(builder.info.features) - set(features)
  try:
    return builder.as_data_source(
      split=split, decoders={f: decode.SkipDecoding() for f in skipped}
    )
  # A missing or cut file, or one that is not ArrayRecord.
  except Exception as e:
    raise errors.UserError(
      f"{told}: split {split!r} cannot be opened ({_reason(e)}); prepare it"
      " again with file_format='array_record' in another data_dir"
    ) from e


def _fits(
  shapes: Mapping[str, tuple[int | None, ...]],
  dtypes: Mapping[str, np.dtype],
  examples: int,
  limit: int,
) -> bool:
  """Whether all examples decoded take no more than `limit` bytes."""
  if any(side is None for shape in shapes.values() for side in shape):
    return False
  one = sum(int(np.prod(shapes[f])) * dtypes[f].itemsize for f in shapes)
  return one * examples <= limit


def _reason(error: Exception) -> str:
  """The first line of an exception's message, or its class."""
  lines = str(error).strip().splitlines()
  return lines[0].strip()[:200] if lines else type(error).__name__
