"""One arm of a stage: one seed, one learning rate, from start to end.

The order of one turn is a contract: evaluate what is due; save what is due;
then fetch; then step. What is saved is then the state of one instant, and what
was read is never older than what is saved.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from etils import epath

from tsjax.checkpoint import store as store_lib
from tsjax.core import errors
from tsjax.loop import diagnose
from tsjax.loop import feed as feed_lib
from tsjax.loop import pace as pace_lib
from tsjax.loop import stage as stage_lib
from tsjax.report import events
from tsjax.report import progress as progress_lib


class Stopped(Exception):
  """The run was asked to stop; everything is saved."""

  def __init__(self, step: int):
    super().__init__(f"stopped on request: saved at step {step}")


@dataclasses.dataclass(frozen=True)
class Arm:
  """What an arm needs.

  Attributes:
    stage: the built stage.
    seed: of initialisation, order, views and dropout.
    learning_rate: the base rate.
    folder: where it writes.
    feed: its examples.
    teachers: variables by stage, on the devices.
    begin: makes the first state, for a run that has no checkpoint.
    evaluate: variables -> validation metrics; None without a validation split.
    sign: +1 where more of the choosing metric is better, else -1.
    keep: latest checkpoints to keep.
    progress: told what happens.
    stop_requested: asked once a turn.
    also: where metrics go besides metrics.jsonl; see `report.events`.
    run: the run's name.
  """

  stage: stage_lib.Stage
  seed: int
  learning_rate: float
  folder: epath.Path
  feed: feed_lib.Feed
  teachers: Mapping[str, Any]
  begin: Callable[[], Any]
  evaluate: Callable[[Any], dict[str, float]] | None
  sign: float
  keep: int
  progress: progress_lib.Progress
  stop_requested: Callable[[], bool]
  also: tuple[str, ...] = ()
  run: str = ""

  @property
  def title(self) -> str:
    """What lines and errors call it."""
    return f"{self.stage.name}, seed {self.seed}, rate {self.learning_rate:g}"


@dataclasses.dataclass(frozen=True)
class Ended:
  """What an arm came to: its variables, and its score on validation."""

  variables: Any
  step: int
  score: float | None
  validation: Mapping[str, float]


def train(arm: Arm) -> Ended:
  """Trains an arm to its end, from its latest checkpoint if there is one.

  Raises:
    Stopped: a stop was requested; the state is saved.
    Diverged: the loss is not finite; says where that began.
    UserError: a checkpoint cannot be written.
  """
  store = store_lib.Store(
    arm.folder / "checkpoints", keep=arm.keep, warn=arm.progress.line
  )
  try:
    while True:
      try:
        return _Turns(arm, store).run()
      except _BestLost as e:
        arm.progress.line(f"{arm.title}: {e}; trained again up to it")
        arm.progress.skip(-arm.stage.timeline.steps)
        store.drop_from(e.step)
      except diagnose.NotFinite as e:
        failure = diagnose.NotFinite(e.since, e.step, e.what)
        break
    # Out here the spoilt state, which the exception held, is gone.
    raise diagnose.explain(arm, store, failure)
  finally:
    store.close()


class _BestLost(Exception):
  """The checkpoint with the best weights is damaged.

  Args:
    step: its step.
  """

  def __init__(self, step: int, why: str):
    super().__init__(why)
    self.step = step


class _Turns:
  """The loop's own variables: state, sums, what is pending."""

  def __init__(self, arm: Arm, store: store_lib.Store):
    self._arm, self._store = arm, store
    self._program = arm.stage.program
    self._pace = pace_lib.Pace.of(arm.stage)
    # The last step by which all that was read was finite.
    self._well = 0
    self._pending: tuple[int, Any] | None = None
    self._scores: dict[str, float] = {}

  def run(self) -> Ended:
    """All turns."""
    arm, program, pace = self._arm, self._program, self._pace
    restored = self._store.latest(program.abstract, program.shardings)
    whole = restored[0] if restored else arm.begin()
    step = int(restored[1]["step"]) if restored else 0
    self._resumed_at, self._well = step if restored else None, step
    self._writer = events.Log(
      arm.folder,
      also=arm.also,
      run=arm.run,
      title=arm.title,
      resume_from=step if restored else None,
      warn=arm.progress.line,
    )
    if restored:
      arm.progress.line(f"{arm.title}: resumed at step {step}")
    arm.progress.skip(step)
    state, sums = program.enter(whole), program.zeros()
    stream = arm.feed.steps(arm.seed, step)
    try:
      while True:
        if pace.evaluates(step):
          # Training that came apart is told by its loss, not by the metrics.
          self._settle()
          self._means(step, sums)
          self._evaluate(program.leave(state), step)
        stopping = arm.stop_requested() and step < pace.total
        if pace.saves(step) or stopping:
          sums = self._log(step, sums)
          self._settle()
          self._save(program.leave(state), step)
        if stopping:
          self._store.wait()
          raise Stopped(step)
        if step >= pace.total:
          break
        count = pace.block(step)
        batches = stream.next(count)
        scalars = arm.stage.scalars(arm.seed, arm.learning_rate, step, count)
        state, sums = program.run(
          state, arm.teachers, arm.feed.resident, batches, scalars, sums
        )
        step += count
        arm.progress.advance(count)
        if pace.logs(step):
          sums = self._log(step, sums)
    finally:
      stream.close()
      self._writer.close()
    return self._end(program.leave(state), step)

  def _log(self, step: int, sums: Any) -> Any:
    """Keeps the sums for the next log and starts new ones.

    They are read one log later, when the device has long computed them, so
    that the loop never waits.
    """
    self._settle()
    self._pending = (step, sums)
    return self._program.zeros()

  def _settle(self) -> None:
    """Reads and writes the sums that are pending."""
    if self._pending is None:
      return
    (step, sums), self._pending = self._pending, None
    values = self._means(step, sums)
    if values:
      self._writer.write("train", step, values)
      self._arm.progress.loss(values["loss"])

  def _means(self, step: int, sums: Any) -> dict[str, float]:
    """The sums as means, on the host; {} where nothing was added.

    Raises:
      NotFinite: the loss or the gradient is not finite.
    """
    values = diagnose.means_of(self._program.leave(sums))
    diagnose.check(values, self._well, step)
    self._well = step
    return values

  def _evaluate(self, state: Any, step: int) -> None:
    if self._arm.evaluate is None:
      return
    variables = self._judged(state)
    try:
      self._scores = self._arm.evaluate(variables)
    except errors.UserError as e:
      raise type(e)(f"{self._arm.title}, step {step}: {e}") from e
    # The line of a checkpoint's own step was written before the checkpoint.
    if step != self._resumed_at:
      self._writer.write("validation", step, self._scores)

  def _judged(self, state: Any) -> Any:
    """The variables with which the stage would end now."""
    return self._arm.stage.end_variables(state)

  def _score(self) -> float | None:
    value = self._scores.get(self._arm.stage.config.choose_by)
    return None if value is None else self._arm.sign * value

  def _save(self, state: Any, step: int) -> None:
    diagnose.check_state(state, step)
    # A run that goes on from this state keeps the lines up to it.
    self._writer.flush()
    due = self._pace.evaluates(step)
    self._store.save(
      state,
      step=step,
      manifest={"position": step * self._arm.stage.timeline.batch_size},
      score=self._score() if due else None,
    )

  def _end(self, state: Any, step: int) -> Ended:
    program = self._program
    self._settle()
    self._store.wait()
    if self._arm.stage.config.use == "best":
      best = self._store.best()
      if best is not None and best != step:
        try:
          state, manifest = self._store.restore(
            best, program.abstract, program.shardings
          )
        except store_lib.Damaged as e:
          raise _BestLost(best, str(e)) from e
        self._scores = self._arm.evaluate(self._judged(state))
        step = int(manifest["step"])
    return Ended(self._judged(state), step, self._score(), self._scores)
