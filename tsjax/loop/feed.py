"""Feeds a stage: whole batches from the host, or rows of a resident split."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np

from tsjax.data import order as order_lib
from tsjax.data import pipeline
from tsjax.data import splits as splits_lib
from tsjax.sharding import mesh as mesh_lib


def reside(
  split: splits_lib.Split, mesh: jax.sharding.Mesh, limit_bytes: int
) -> dict[str, jax.Array] | None:
  """Puts a split on every device, or returns None where it is too large.

  Args:
    split: all that stages train on.
    mesh: the devices.
    limit_bytes: the largest split that is kept there.
  """
  if jax.process_count() > 1:
    return None
  one = _numbers(split.read(np.zeros(1, np.int64)))
  if sum(x.nbytes for x in one.values()) * split.size > limit_bytes:
    return None
  everything = _numbers(split.read(np.arange(split.size)))
  # Which labels may be used is the stage's to say.
  everything.pop("labelled")
  return jax.device_put(everything, mesh_lib.replicated(mesh))


class Feed:
  """Batches of a stage from any step on.

  Where the whole split is on the devices a batch is its row numbers; the
  values are the same either way.

  Args:
    split: the training examples.
    batch_size: global.
    whole: what `resident` was made of, and what `split` is a part of.
    resident: `reside(whole)`; None reads batches from the host.
  """

  def __init__(
    self,
    split: splits_lib.Split,
    *,
    batch_size: int,
    whole: splits_lib.Split | None = None,
    resident: dict[str, jax.Array] | None = None,
  ):
    self._split, self._batch_size = split, batch_size
    self.resident = resident
    if resident is not None:
      # Rows ascend in the whole split, and so in each part.
      self._rows = np.searchsorted(whole.rows, split.rows).astype(np.int32)
    one = split.read(np.zeros(1, np.int64))
    self._fields = (*_numbers(one), "epoch", "mask")

  def steps(self, seed: int, start: int) -> "_Rows | _Batches":
    """A stream of batches for one seed, from step `start` on."""
    order = order_lib.Order(self._split.size, seed)
    if self.resident is not None:
      return _Rows(
        order, self._rows, self._split.labelled, self._batch_size, start
      )
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

  def __init__(
    self,
    order: order_lib.Order,
    rows: np.ndarray,
    labelled: np.ndarray,
    batch_size: int,
    step: int,
  ):
    self._order, self._rows, self._labelled = order, rows, labelled
    self._batch_size, self._step = batch_size, step

  def next(self, count: int) -> dict[str, np.ndarray]:
    """The next `count` batches, `[count, batch]`."""
    first = self._step * self._batch_size
    positions = np.arange(first, first + count * self._batch_size)
    self._step += count
    epoch, chosen = self._order.at(positions)
    shape = (count, self._batch_size)
    return {
      "row": self._rows[chosen].reshape(shape),
      "labelled": self._labelled[chosen].reshape(shape),
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


def _numbers(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The fields that a device can hold."""
  return {k: v for k, v in batch.items() if v.dtype.kind in "biuf"}
