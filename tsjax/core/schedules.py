"""Schedules: numbers that change with the step.

A config writes `spec(schedules.cosine, warmup="5%")`; the run builds it with a
`Timeline`, which knows how long the stage is. The result is a function of the
step on the host; its values enter the compiled step as traced scalars, so that
schedules never cause a compilation.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math

from tsjax.core import durations, errors

__all__ = ["constant", "cosine", "linear", "piecewise"]

Schedule = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Timeline:
  """The length of a stage, against which durations are read."""

  steps: int
  examples: int  # in an epoch
  batch_size: int

  def to_steps(self, duration: int | str, key: str) -> int:
    """A duration in steps."""
    return durations.steps(
      duration,
      key=key,
      examples=self.examples,
      batch_size=self.batch_size,
      total=self.steps,
    )


def constant(timeline: Timeline, *, value: float = 1.0) -> Schedule:
  """The same value at every step."""
  del timeline
  return lambda step: value


def linear(
  timeline: Timeline,
  *,
  start: float = 1.0,
  end: float = 0.0,
  over: int | str = "100%",
) -> Schedule:
  """A straight line from `start` to `end`, constant after `over`."""
  length = max(timeline.to_steps(over, "linear.over"), 1)
  return lambda step: start + (end - start) * min(step / length, 1.0)


def cosine(
  timeline: Timeline,
  *,
  peak: float = 1.0,
  end: float = 0.0,
  warmup: int | str = 0,
  over: int | str = "100%",
) -> Schedule:
  """A linear warm-up from 0 to `peak`, then half a cosine down to `end`.

  Source: Loshchilov and Hutter 2017 (1608.03983), without restarts.
  """
  rise = timeline.to_steps(warmup, "cosine.warmup")
  length = timeline.to_steps(over, "cosine.over")

  def schedule(step: int) -> float:
    if step < rise:
      return peak * (step + 1) / rise
    share = min((step - rise) / max(length - rise, 1), 1.0)
    return end + (peak - end) * 0.5 * (1.0 + math.cos(math.pi * share))

  return schedule


def piecewise(
  timeline: Timeline,
  *,
  values: Sequence[float] = (1.0, 0.1, 0.01),
  boundaries: Sequence[int | str] = ("50%", "75%"),
) -> Schedule:
  """`values[i]` until `boundaries[i]`; one value more than boundaries."""
  if len(values) != len(boundaries) + 1:
    raise errors.UserError(
      f"piecewise: {len(values)} values and {len(boundaries)} boundaries; one"
      " value more than boundaries is needed"
    )
  edges = [timeline.to_steps(b, "piecewise.boundaries") for b in boundaries]
  if edges != sorted(edges):
    raise errors.UserError(
      f"piecewise.boundaries={tuple(boundaries)}: not in rising order"
    )
  return lambda step: values[sum(step >= edge for edge in edges)]
