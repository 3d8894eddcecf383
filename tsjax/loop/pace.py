"""When something is due in a stage, and how many steps go at once."""

import dataclasses

from tsjax.loop import stage as stage_lib


@dataclasses.dataclass(frozen=True)
class Pace:
  """A stage's beats, in steps.

  Attributes:
    total: its length.
    log: steps between two lines of metrics.
    save: steps between two checkpoints.
    evaluate: steps between two evaluations.
    dispatch: steps that are sent to the device at once, where they fit.
    best: whether every evaluation is saved, as it may be the best.
  """

  total: int
  log: int
  save: int
  evaluate: int
  dispatch: int
  best: bool

  @classmethod
  def of(cls, stage: stage_lib.Stage) -> "Pace":
    """The beats that a stage's config asks for."""
    config = stage.config
    return cls(
      stage.timeline.steps,
      stage.steps_of(config.log_every, "log_every"),
      stage.steps_of(config.save_every, "save_every"),
      stage.steps_of(config.evaluate_every, "evaluate_every"),
      config.steps_per_dispatch,
      config.use == "best",
    )

  def logs(self, step: int) -> bool:
    """Whether a line is due after `step` steps."""
    return step > 0 and step % self.log == 0

  def evaluates(self, step: int) -> bool:
    """Whether an evaluation is due after `step` steps."""
    return step > 0 and (step % self.evaluate == 0 or step == self.total)

  def saves(self, step: int) -> bool:
    """Whether a checkpoint is due after `step` steps."""
    if step == 0:
      return self.total == 0
    due = step % self.save == 0 or step == self.total
    return due or (self.best and self.evaluates(step))

  def block(self, step: int) -> int:
    """Steps to send after `step`: several, if nothing is due among them."""
    ends = [self.total - step]
    for every in (self.log, self.save, self.evaluate):
      ends.append(every - step % every)
    return self.dispatch if self.dispatch <= min(ends) else 1
