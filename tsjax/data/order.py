"""The order of training examples: a pure function of (seed, position)."""

from collections.abc import Callable
import dataclasses
import functools

import numpy as np

from tsjax.core import errors, random


def permutation(size: int, seed: int, name: str, epoch: int = 0) -> np.ndarray:
  """A random order of `size` things, int64 [size].

  It sorts raw Philox words, whose stream NumPy promises to keep; the methods of
  `np.random.Generator` may change from one release to the next (NEP 19).

  Args:
    size: how many things.
    seed: of the run, 0 and up.
    name: the stream, such as "order", so that two uses of a seed differ.
    epoch: each epoch has its own order.
  """
  if not 0 <= seed < 2**64:
    raise errors.UserError(f"seed={seed} must be 0 or more")
  # The counter's lowest word counts the draws, so epochs never overlap.
  bits = np.random.Philox(
    key=np.array([seed, random.stream(name)], np.uint64),
    counter=np.array([0, epoch, 0, 0], np.uint64),
  )
  return np.argsort(bits.random_raw(size), kind="stable")


@dataclasses.dataclass(frozen=True)
class Order:
  """Which example stands at which position of an endless training stream.

  Attributes:
    size: examples in an epoch.
    seed: of the shuffling.
    shuffle: False keeps the examples in their own order in every epoch.

  Raises:
    UserError: there are no examples, or the seed is negative.
  """

  size: int
  seed: int = 0
  shuffle: bool = True
  _epoch: Callable[[int], np.ndarray] = dataclasses.field(
    init=False, repr=False, compare=False
  )

  def __post_init__(self) -> None:
    if self.size < 1:
      raise errors.UserError(f"an order of {self.size} examples has no first")
    if not 0 <= self.seed < 2**64:
      raise errors.UserError(f"seed={self.seed} must be 0 or more")
    # Two permutations: a batch may run across the end of an epoch.
    epoch = functools.lru_cache(maxsize=2)(
      functools.partial(permutation, self.size, self.seed, "order")
    )
    object.__setattr__(self, "_epoch", epoch)

  def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The examples at `positions`.

    Args:
      positions: int64 [n], counted over all epochs from 0.

    Returns:
      (epoch, row): int32 [n], how often the order came past the example
      before, and int64 [n], the example in 0..size-1.
    """
    epochs, rows = np.divmod(np.asarray(positions, np.int64), self.size)
    if self.shuffle:
      for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = self._epoch(int(epoch))[rows[here]]
    return epochs.astype(np.int32), rows


def host_slice(
  step: int, batch_size: int, process: int = 0, processes: int = 1
) -> np.ndarray:
  """Positions of one host's part of a global batch, int64 [batch / hosts].

  The parts of all hosts, one after the other, are the global batch, whatever
  the number of hosts.

  Args:
    step: number of global batches before this one.
    batch_size: examples in the global batch.
    process: this host, in 0..processes-1.
    processes: number of hosts.

  Raises:
    UserError: the batch cannot be shared out evenly.
  """
  check_batch_size(batch_size, processes)
  if not 0 <= process < processes:
    raise errors.UserError(
      f"process={process} is not one of {processes}: 0..{processes - 1}"
    )
  share = batch_size // processes
  start = step * batch_size + process * share
  return np.arange(start, start + share, dtype=np.int64)


def check_batch_size(batch_size: int, processes: int) -> None:
  """Raises UserError unless every host gets the same share of a batch."""
  if batch_size < 1 or processes < 1 or batch_size % processes:
    below = max(batch_size // max(processes, 1), 1) * processes
    raise errors.UserError(
      f"batch_size={batch_size} cannot be shared out evenly among {processes}"
      f" hosts; {below} can"
    )
