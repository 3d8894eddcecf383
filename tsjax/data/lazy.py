"""A source whose examples are decoded when they are read."""

from collections.abc import Callable, Mapping
import dataclasses
import threading

import numpy as np

from tsjax.data import sources


@dataclasses.dataclass(frozen=True, eq=False)
class Lazy:
  """A source that decodes the rows that it is asked for.

  Attributes:
    name: what errors call the source.
    splits: sizes by split.
    classes: names of the classes, or ().
    targets: split -> its labels, as `Source.labels` gives them.
    decode: `decode(split, rows)`, the fields of some rows but the label.
    keep_in_memory: whether a split is decoded once, when it is first read.
    names: as `sources.Arrays.names`.
  """

  name: str
  splits: Mapping[str, int]
  classes: tuple[str, ...]
  targets: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
  decode: Callable[[str, np.ndarray], dict[str, np.ndarray]] = (
    dataclasses.field(repr=False)
  )
  keep_in_memory: bool = False
  names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  _kept: dict[str, dict[str, np.ndarray]] = dataclasses.field(
    default_factory=dict, init=False, repr=False
  )
  # Threads that read ahead meet at a split's first read.
  _lock: threading.Lock = dataclasses.field(
    default_factory=threading.Lock, init=False, repr=False
  )

  def read(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    rows = sources.checked_rows(self.name, self.splits, split, rows)
    label = {"label": self.targets[split][rows]}
    if not self.keep_in_memory:
      return {**self.decode(split, rows), **label}
    with self._lock:
      if split not in self._kept:
        self._kept[split] = self.decode(split, np.arange(self.splits[split]))
    return {**{f: a[rows] for f, a in self._kept[split].items()}, **label}

  def labels(self, split: str) -> np.ndarray:
    sources.check_split(self.name, self.splits, split)
    return self.targets[split]
