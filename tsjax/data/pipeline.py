"""Batches of training and evaluation, read ahead by Grain's threads."""

from collections.abc import Callable, Iterator
import math

import grain
import numpy as np

from tsjax.core import errors
from tsjax.data import order as order_lib
from tsjax.data import splits

Batch = dict[str, np.ndarray]

# Grain wants a length; a training stream has none. No run has so many steps.
_ENDLESS = 2**40


def train_batches(
  split: splits.Split,
  order: order_lib.Order,
  *,
  batch_size: int,
  start_step: int = 0,
  process: int = 0,
  processes: int = 1,
  prefetch: int = 2,
) -> Iterator[Batch]:
  """This host's share of the global batches from `start_step` on, endlessly.

  Batches run across the end of an epoch and are never padded.

  Args:
    split: the examples.
    order: of the same size.
    batch_size: examples in the global batch, of all hosts together.
    start_step: number of the first batch; a resumed run needs nothing else.
    process: this host, in 0..processes-1.
    processes: number of hosts.
    prefetch: batches read ahead, each by its own thread; 0 reads none ahead.

  Returns:
    An iterator of batches [batch_size / processes, ...]: the source's fields,
    `index`, `epoch`, `labelled`, and `mask`, which is all True.

  Raises:
    UserError: the batch cannot be shared out, or (from the iterator) a record
      cannot be read.
  """
  if order.size != split.size:
    raise ValueError(f"{order.size=} but {split.size=}")
  if start_step < 0:
    raise errors.UserError(f"start_step={start_step} must be 0 or more")
  order_lib.host_slice(start_step, batch_size, process, processes)

  def read(step: int) -> Batch:
    positions = order_lib.host_slice(step, batch_size, process, processes)
    epoch, chosen = order.at(positions)
    mask = np.ones(len(positions), bool)
    return {**split.read(chosen), "epoch": epoch, "mask": mask}

  return _batches(read, start_step, _ENDLESS, prefetch)


def eval_batches(
  split: splits.Split,
  batch_size: int,
  *,
  process: int = 0,
  processes: int = 1,
  prefetch: int = 2,
) -> Iterator[Batch]:
  """This host's share of one pass over a split, in the order of its rows.

  All batches have one shape: the last is padded with the split's first
  example, whose `mask` and `labelled` are then False. Every host has the same
  number of batches.

  Args:
    split: the examples.
    batch_size: examples in the global batch, of all hosts together.
    process: this host, in 0..processes-1.
    processes: number of hosts.
    prefetch: batches read ahead, each by its own thread; 0 reads none ahead.

  Returns:
    An iterator of batches as of `train_batches`; `epoch` is 0.

  Raises:
    UserError: the batch cannot be shared out, or (from the iterator) a record
      cannot be read.
  """
  order_lib.host_slice(0, batch_size, process, processes)

  def read(step: int) -> Batch:
    positions = order_lib.host_slice(step, batch_size, process, processes)
    mask = positions < split.size
    batch = split.read(np.where(mask, positions, 0))
    batch["labelled"] = batch["labelled"] & mask
    return {**batch, "epoch": np.zeros(len(mask), np.int32), "mask": mask}

  return _batches(read, 0, math.ceil(split.size / batch_size), prefetch)


def _batches(
  read: Callable[[int], Batch], start: int, stop: int, prefetch: int
) -> Iterator[Batch]:
  """Maps `read` over batch numbers: one call of the source for a batch."""
  if prefetch < 0:
    raise errors.UserError(f"prefetch={prefetch} must be 0 or more")
  dataset = (
    grain.MapDataset.range(start, stop)
    .map(read)
    .to_iter_dataset(
      grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)
    )
  )

  def iterate() -> Iterator[Batch]:
    iterator = iter(dataset)
    try:
      yield from iterator
    finally:
      iterator.close()  # Ends the threads of an endless stream.

  return iterate()
