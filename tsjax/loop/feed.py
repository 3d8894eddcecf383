"""Feeds a stage: whole batches from the host, or rows of a resident split."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np

from tsjax.data import order as order_lib
from tsjax.data import pipeline
from tsjax.data import splits as splits_lib
from tsjax.sharding import mesh as mesh_lib


class Feed:
  """Batches of a stage from any step on.

  A split that fits is put on the devices once, and a batch is then its row
  numbers; the values are the same either way.

  Args:
    split: the training examples.
    batch_size: global.
    mesh: the devices.
    limit_bytes: the largest split that is kept on the devices.
  """

  def __init__(
    self,
    split: splits_lib.Split,
    *,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    limit_bytes: int,
  ):
    self._split, self._batch_size = split, batch_size
    one = split.read(np.zeros(1, np.int64))
    fields = [name for name, x in one.items() if x.dtype.kind in "biuf"]
    size = sum(one[name].nbytes for name in fields) * split.size
    self.resident = None
    if size <= limit_bytes and jax.process_count() == 1:
      everything = split.read(np.arange(split.size))
      self.resident = jax.device_put(
        {name: everything[name] for name in fields}, mesh_lib.replicated(mesh)
      )
    self._fields = (*fields, "epoch", "mask")

  def steps(self, seed: int, start: int) -> "_Rows | _Batches":
    """A stream of batches for one seed, from step `start` on."""
    order = order_lib.Order(self._split.size, seed)
    if self.resident is not None:
      return _Rows(order, self._batch_size, start)
    stream = pipeline.train_batches(
      self._split,
      order,
      batch_size=self._batch_size,
      start_step=start,
      process=jax.process_index(),
      processes=jax.process_count(),
    )
    return _Batches(stream, self._fields)


class _Rows:
  """Row numbers of a resident split."""

  def __init__(self, order: order_lib.Order, batch_size: int, step: int):
    self._order, self._batch_size, self._step = order, batch_size, step

  def next(self, count: int) -> dict[str, np.ndarray]:
    """The next `count` batches, `[count, batch]`."""
    first = self._step * self._batch_size
    positions = np.arange(first, first + count * self._batch_size)
    self._step += count
    epoch, row = self._order.at(positions)
    shape = (count, self._batch_size)
    return {
      "row": row.astype(np.int32).reshape(shape),
      "epoch": epoch.astype(np.int32).reshape(shape),
      "mask": np.ones(shape, bool),
    }

  def close(self) -> None:
    """Nothing to release."""


class _Batches:
  """Whole batches from the host."""

  def __init__(
    self,
    stream: Iterator[Mapping[str, np.ndarray]],
    fields: tuple[str, ...],
  ):
    self._stream, self._fields = stream, fields

  def next(self, count: int) -> dict[str, np.ndarray]:
    """The next `count` batches, `[count, batch, ...]`."""
    batches = [next(self._stream) for _ in range(count)]
    return {
      name: np.stack([batch[name] for batch in batches])
      for name in self._fields
    }

  def close(self) -> None:
    """Ends the reading threads."""
    self._stream.close()
