"""Intervals for a score and for a difference, and what may be told apart.

Two kinds of chance are in a score: the training (seeds) and the examples that
it is measured on. Where there are several seeds, an interval is of the first
kind, the examples taken as they are; of a single seed, only the second kind can
be had. Every interval says of which kind it is.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np
import scipy.special

from tsjax.report import words

LEVEL = 0.95
DRAWS = 2000
_AT_ONCE = 100  # draws in memory at a time
# How an interval was made, as a page names it.
KINDS = {
  "seeds": "Student's t over seeds",
  "paired": "Student's t over the differences of common seeds",
  "unpaired": "Welch's t over the seeds of each",
  "single": "Student's t, the spread of the run with several seeds for both",
  "wilson": "Wilson's, from the counts of one seed's test examples",
  "bootstrap": "bootstrap of one seed's test examples",
}


@dataclasses.dataclass(frozen=True)
class Interval:
  """From `low` to `high`, and how it was made: a key of `KINDS`."""

  low: float
  high: float
  kind: str


@dataclasses.dataclass(frozen=True)
class Difference:
  """What one score is above another.

  Attributes:
    mean: the difference; of common seeds where it is paired.
    interval: None where nothing tells how far chance goes.
    p: how often chance alone would give as much, two-sided; None likewise.
    seeds: how many seeds it rests on, the fewer of the two sides.
  """

  mean: float
  interval: Interval | None
  p: float | None
  seeds: int


def of_score(
  found: Mapping[str, Any], metric: str, confusion: Any = None
) -> Interval | None:
  """The interval of one metric of one stage on one split.

  Args:
    found: `{"values": [one per seed]}` as results.json has it.
    metric: its name.
    confusion: counts [classes, classes] of the same split, rows true, summed
      over the seeds; or nothing.

  Returns:
    Student's t over seeds; of one seed Wilson's for the accuracy and a
    bootstrap for what else the counts give; None where there is neither.
  """
  values = [v for v in found.get("values") or () if _finite(v)]
  if len(values) > 1:
    spread = _spread(values, resolution(metric, confusion, len(values)))
    half = _quantile(len(values) - 1) * spread / math.sqrt(len(values))
    return Interval(*_around(float(np.mean(values)), half), "seeds")
  counts = counts_of(confusion)
  if len(values) != 1 or counts is None:
    return None
  if metric == "accuracy":
    return wilson(int(np.trace(counts)), int(counts.sum()))
  draws = bootstrap(counts, metric)
  if draws is None:
    return None
  tail = (1 - LEVEL) / 2
  return Interval(*np.quantile(draws, [tail, 1 - tail]).tolist(), "bootstrap")


def wilson(hits: int, size: int) -> Interval:
  """The interval of a share (Wilson 1927, "Probable Inference")."""
  z = float(scipy.special.ndtri((1 + LEVEL) / 2))
  share, n = hits / size, size
  middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
  half = (
    z
    / (1 + z**2 / n)
    * math.hypot(math.sqrt(share * (1 - share) / n), z / (2 * n))
  )
  # Of all or none, the formula gives the end itself but for its rounding.
  low = 0.0 if hits == 0 else middle - half
  high = 1.0 if hits == size else middle + half
  return Interval(low, high, "wilson")


def bootstrap(
  counts: np.ndarray, metric: str, *, seed: int = 0
) -> np.ndarray | None:
  """The metric of test sets redrawn from these examples.

  To draw examples with replacement is to draw counts of their cells, so the
  confusion matrix is all that it takes (Efron 1979, "Bootstrap Methods").

  Args:
    counts: [classes, classes], rows true.
    metric: accuracy, or the macro precision, recall or f1.
    seed: of the draws.

  Returns:
    float64 [DRAWS]; None for a metric that counts do not give.
  """
  if metric not in _FROM_COUNTS:
    return None
  # Only cells that hold something can be drawn.
  cells = np.argwhere(counts)
  shares = counts[tuple(cells.T)] / counts.sum()
  right = (cells[:, 0] == cells[:, 1])[:, None]
  true, predicted = (np.eye(len(counts))[cells[:, k]] for k in (0, 1))
  random = np.random.default_rng(seed)
  result = []
  for _ in range(0, DRAWS, _AT_ONCE):
    drawn = random.multinomial(int(counts.sum()), shares, size=_AT_ONCE)
    result.append(
      _FROM_COUNTS[metric](
        drawn @ (true * right), drawn @ true, drawn @ predicted
      )
    )
  return np.concatenate(result)


def difference(
  a: Mapping[int, float],
  b: Mapping[int, float],
  *,
  paired: bool = True,
  size: int = 0,
  draws: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> Difference:
  """How far `a` is above `b`, from their values by seed.

  Args:
    a: the one.
    b: the other.
    paired: whether a seed means the same data in both, so that the values of
      a common seed differ by the models alone.
    size: examples that each value is a mean over; 0 where it is none. A score
      in steps of 1 / size may agree over seeds by its rounding.
    draws: of each side, `bootstrap`; used where each has a single seed.
  """
  a, b = ({s: v for s, v in x.items() if _finite(v)} for x in (a, b))
  if not a or not b:
    return Difference(math.nan, None, None, 0)
  common = sorted(a.keys() & b.keys())
  if paired and len(common) > 1:
    values = [a[s] - b[s] for s in common]
    mean, n = float(np.mean(values)), len(values)
    error = _spread(values, size) / math.sqrt(n)
    return _of_t(mean, error, n - 1, "paired", n)
  mean = float(np.mean(list(a.values())) - np.mean(list(b.values())))
  seeds = min(len(a), len(b))
  if seeds > 1:
    parts = [_spread(list(x.values()), size) ** 2 / len(x) for x in (a, b)]
    weights = [p**2 / (len(x) - 1) for p, x in zip(parts, (a, b), strict=True)]
    # Welch 1947: the degrees of freedom that the two spreads are worth.
    freedom = sum(parts) ** 2 / sum(weights) if sum(weights) else seeds - 1
    return _of_t(mean, math.sqrt(sum(parts)), freedom, "unpaired", seeds)
  if len(a) != len(b):
    # A single value beside several: theirs is the only spread there is.
    several = max(a, b, key=len)
    error = _spread(list(several.values()), size) * math.sqrt(
      1 + 1 / len(several)
    )
    return _of_t(mean, error, len(several) - 1, "single", seeds)
  if any(d is None for d in draws):
    return Difference(mean, None, None, seeds)
  # Which examples both got wrong is not in the counts, so the two are drawn
  # apart; that is too wide rather than too narrow.
  random = np.random.default_rng(0)
  apart = random.permutation(draws[0]) - draws[1]
  tail = (1 - LEVEL) / 2
  low, high = np.quantile(apart, [tail, 1 - tail]).tolist()
  beyond = min(np.mean(apart <= 0), np.mean(apart >= 0))
  p = min(1.0, 2 * max(float(beyond), 1 / DRAWS))
  return Difference(mean, Interval(low, high, "bootstrap"), p, seeds)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
  """Each p among all of them (Holm 1979): to call all below 0.05 different
  is wrong in any of them for at most one page in twenty.

  Args:
    p_values: None where there is none; it stays None and does not count.
  """
  known = [k for k, p in enumerate(p_values) if p is not None]
  result: list[float | None] = [None] * len(p_values)
  highest = 0.0
  for rank, k in enumerate(sorted(known, key=lambda k: p_values[k])):
    highest = max(highest, min(1.0, (len(known) - rank) * p_values[k]))
    result[k] = highest
  return result


def resolution(metric: str, confusion: Any, seeds: int) -> int:
  """Examples of which the metric is a share, 0 where it is none."""
  counts = counts_of(confusion)
  if counts is None or metric not in words.SHARES or not seeds:
    return 0
  return int(counts.sum()) // seeds


def counts_of(confusion: Any) -> np.ndarray | None:
  """A confusion matrix as int64 [classes, classes], None where it is none."""
  try:
    counts = np.asarray(confusion)
  except ValueError:
    return None
  if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
    return None
  if counts.dtype.kind not in "iu" or counts.min() < 0 or not counts.sum():
    return None
  return counts.astype(np.int64)


def _of_t(
  mean: float, error: float, freedom: float, kind: str, seeds: int
) -> Difference:
  interval = Interval(*_around(mean, _quantile(freedom) * error), kind)
  if error > 0:
    t = abs(mean) / error
    p = float(2 * scipy.special.stdtr(freedom, -t))
  else:
    p = 0.0 if mean else 1.0
  return Difference(mean, interval, p, seeds)


def _spread(values: Sequence[float], size: int) -> float:
  """The deviation, at least that which rounding to 1 / size alone makes."""
  least = 1 / (size * math.sqrt(12)) if size else 0.0
  return max(float(np.std(values, ddof=1)), least)


def _quantile(freedom: float) -> float:
  return float(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2))


def _around(mean: float, half: float) -> tuple[float, float]:
  return mean - half, mean + half


def _finite(value: object) -> bool:
  return isinstance(value, int | float) and math.isfinite(value)


def _macro(hits: np.ndarray, of: np.ndarray, occurs: np.ndarray) -> np.ndarray:
  """The mean over the classes that occur, as `evaluate.classification`."""
  scores = hits / np.maximum(of, 1)
  return (scores * occurs).sum(axis=1) / occurs.sum(axis=1)


# Of right ones, true ones and predicted ones, [draws, classes] each.
_FROM_COUNTS = {
  "accuracy": lambda h, t, p: h.sum(axis=1) / t.sum(axis=1),
  "precision": lambda h, t, p: _macro(h, p, t + p > 0),
  "recall": lambda h, t, p: _macro(h, t, t + p > 0),
  "f1": lambda h, t, p: _macro(2 * h, t + p, t + p > 0),
}
