"""How long a compiled model takes, on the device that runs this."""

from collections.abc import Callable, Mapping
import dataclasses
import time
from typing import Any

import jax
import numpy as np

WARM_UP = 3
CALLS = 100
SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Latency:
  """Seconds of a call.

  Attributes:
    median: half of the calls were faster.
    p95: 95 of 100 calls were faster.
    calls: how many were measured.
  """

  median: float
  p95: float
  calls: int


def latency(
  predict: Callable[[Any, Any], jax.Array],
  variables: Any,
  batch: Mapping[str, np.ndarray],
  *,
  calls: int = CALLS,
  seconds: float = SECONDS,
  clock: Callable[[], float] = time.perf_counter,
) -> Latency:
  """The time from handing over a batch until its scores are there.

  Each call is waited for before the next one starts, as one user would.

  Args:
    predict: compiled `(variables, batch) -> scores`.
    variables: of the model, on the device already.
    batch: on the host; the way to the device is part of the time.
    calls: how many to measure, at most.
    seconds: no call is begun after so many, but one is always measured.
    clock: seconds, from any start.
  """
  for _ in range(WARM_UP):
    jax.block_until_ready(predict(variables, batch))
  times, begun = [], clock()
  while len(times) < calls and (not times or clock() - begun < seconds):
    start = clock()
    jax.block_until_ready(predict(variables, batch))
    times.append(clock() - start)
  return Latency(
    float(np.median(times)), float(np.percentile(times, 95)), len(times)
  )


def examples_per_second(
  predict: Callable[[Any, Any], jax.Array],
  variables: Any,
  batch: Mapping[str, np.ndarray],
  *,
  repeats: int = 5,
) -> float:
  """The median rate of `predict` on one batch, padding counted as examples.

  Args:
    predict: compiled `(variables, batch) -> scores`.
    variables: of the model.
    batch: with `mask`, which tells the batch's size.
    repeats: calls to measure, after one to warm up.
  """
  jax.block_until_ready(predict(variables, batch))
  rates = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(predict(variables, batch))
    rates.append(len(batch["mask"]) / (time.perf_counter() - start))
  return float(np.median(rates))
