"""The student's stage of configs/digits.py, built to be timed."""

from collections.abc import Callable, Mapping
import time
from typing import Any

import jax
import numpy as np

from tsjax.config import checked, loading
from tsjax.distill import teachers
from tsjax.loop import build, feed

RATE = 1e-2
SEED = 0

# Seconds by the clock, and seconds of work on all cores.
Seconds = tuple[float, float]
Contest = Callable[[], Seconds]


def now() -> np.ndarray:
  """The clock, and the work that this process has done so far."""
  return np.array([time.perf_counter(), time.process_time()])


class Stage:
  """The student's stage, its teacher drawn at random, and its first batches.

  Args:
    steps: of the stage.
    started: `time.time()` when Python was started, for `laps`.
  """

  def __init__(self, steps: int, *, started: float | None = None):
    self._started = time.time() if started is None else started
    self.laps = {"import": time.time() - self._started}
    config = loading.load(f"configs/digits.py:steps={steps}")
    self.parts = build.build(checked.check(config))
    self.built = self.parts.stages["student"]
    self.program = self.built.program
    self._lap("build")
    self.teacher = self.parts.stages["teacher"].program.init(SEED)
    self.teachers = self.program.put_teachers(
      {teachers.Member("teacher"): self.teacher.variables("teacher")}
    )
    self.feed = feed.Feed(
      self.built.split,
      batch_size=self.parts.run.data.batch_size,
      whole=self.parts.splits["train"],
      resident=feed.reside(
        self.parts.splits["train"], self.parts.placement.mesh, 2**28
      ),
    )
    jax.block_until_ready(self.begin())
    self._lap("initialise")

  def _lap(self, name: str) -> None:
    self.laps[name] = time.time() - self._started - sum(self.laps.values())

  def begin(self) -> Any:
    """A first state."""
    return self.program.init(SEED)

  def inputs(self, steps: int, together: int = 1) -> list[tuple[Any, Any]]:
    """Batches and scalars of the first `steps` steps, on the host."""
    stream = self.feed.steps(SEED, 0)
    return [
      (
        stream.next(together),
        self.built.scalars(SEED, RATE, at * together, together),
      )
      for at in range(steps // together)
    ]

  def run(self, state: Any, sums: Any, batch: Any, scalars: Any) -> Any:
    """What the loop does in a turn."""
    return self.program.run(
      state, self.teachers, self.feed.resident, batch, scalars, sums
    )

  def first_step(self) -> dict[str, float]:
    """Seconds from the start of Python to the end of the first step."""
    ((batch, scalars),) = self.inputs(1)
    jax.block_until_ready(
      self.run(self.begin(), self.program.zeros(), batch, scalars)
    )
    self._lap("first step")
    return {**self.laps, "sum": sum(self.laps.values())}

  def examples(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """One batch's fields, `[batch, ...]`, as the step gathers them."""
    whole = {k: v[0] for k, v in batch.items()}
    rows = whole.pop("row")
    return whole | {k: v[rows] for k, v in self.feed.resident.items()}
