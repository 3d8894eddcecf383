"""Where a loss or a gradient stopped being a number.

The loop reads sums of many steps, long after they were computed. Every step is
a function of (seed, stream, step), so the first bad one is found by repeating
them from the last good checkpoint; the hot loop pays nothing for it. That step
is then taken once more by a program that tells of every tap whether it was
finite, in the order of the forward pass.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.checkpoint import store as store_lib
from tsjax.core import errors, trees
from tsjax.loop import pace as pace_lib
from tsjax.loop import watch as watch_lib

if TYPE_CHECKING:
  from tsjax.loop import arm as arm_lib


class NotFinite(Exception):
  """The loss or the gradient is not finite.

  Args:
    since: a step at which all was well.
    step: the step by which it was not.
    what: "the loss is nan".
  """

  def __init__(self, since: int, step: int, what: str):
    super().__init__(f"{what} by step {step}")
    self.since, self.step, self.what = since, step, what


@dataclasses.dataclass(frozen=True)
class _Moment:
  """The first bad step.

  Attributes:
    step: its number, from 1.
    state: the state before it, on the host.
    start: the step from which the steps were repeated.
    first: the state there.
    batch: `[1, batch, ...]`, as `Program.run` takes it.
    scalars: leaves `[1]`.
    means: its metrics.
  """

  step: int
  state: Any
  start: int
  first: Any
  batch: Mapping[str, np.ndarray]
  scalars: Any
  means: Mapping[str, float]


def check(means: Mapping[str, float], since: int, step: int) -> None:
  """Raises `NotFinite` if the loss or the gradient of a log is not finite."""
  # A gradient that is not finite spoils the parameters that the next loss is
  # made of, and these must not be saved.
  for name, what in (("loss", "loss"), ("gradient_norm", "gradient's norm")):
    if name in means and not math.isfinite(means[name]):
      raise NotFinite(since, step, f"the {what} is {means[name]}")


def check_state(state: Any, step: int) -> None:
  """Raises `NotFinite` if a state that is to be saved has a bad weight."""
  found = _first(_weights(state))
  if found:
    raise NotFinite(
      step, step, f"{found[0]} is {found[1]}, though the loss is finite still,"
    )


def explain(
  arm: "arm_lib.Arm", store: store_lib.Store, failure: NotFinite
) -> errors.Diverged:
  """Says in one line what was not finite, where first, and what remains."""
  # A write that failed leaves the checkpoint before it.
  with contextlib.suppress(errors.UserError):
    store.wait()
  good = store.latest(arm.stage.program.abstract, arm.stage.program.shardings)
  start = int(good[1]["step"]) if good else 0
  told, remedy = f"{failure.what} by step {failure.step}", ""
  moment = None
  if failure.since < failure.step:
    arm.progress.line(
      f"{arm.title}: {told}; repeating the steps from {start} on to find where"
    )
    try:
      whole = good[0] if good else arm.begin()
      moment = _replay(arm, whole, start, failure)
      if moment is not None:
        told, remedy = _tell(arm, moment)
    except errors.UserError:
      raise
    # A repetition needs more memory than the training did.
    except Exception as e:
      reason = " ".join(str(e).split())[:200]
      told += f" (where could not be found: {type(e).__name__}: {reason})"
    else:
      if moment is None:
        told += " (not when the steps were repeated)"
  kept = "none"
  if good:
    kept = f"step {start}, from which the next start goes on"
  remedy = remedy or "lower learning_rate, or set clip"
  return errors.Diverged(
    f"{arm.title}: {told}; last good checkpoint: {kept}; {remedy}"
  )


def _replay(
  arm: "arm_lib.Arm", whole: Any, start: int, failure: NotFinite
) -> _Moment | None:
  """Repeats the steps, as they were sent, up to the first that is bad."""
  stage, pace = arm.stage, pace_lib.Pace.of(arm.stage)
  step = start
  stream = arm.feed.steps(arm.seed, start)
  first = _copy(whole)
  state = stage.program.enter(whole)
  try:
    while step < failure.step and not arm.stop_requested():
      count = pace.block(step)
      suspect = step + count > failure.since
      before = _copy(stage.program.leave(state)) if suspect else None
      batches = stream.next(count)
      scalars = stage.scalars(arm.seed, arm.learning_rate, step, count)
      state, means = _take(arm, state, batches, scalars)
      if suspect and not _finite(means):
        return _single(arm, (start, first), before, step, batches, scalars)
      step += count
  finally:
    stream.close()
  return None


def _single(
  arm: "arm_lib.Arm",
  first: tuple[int, Any],
  before: Any,
  step: int,
  batches: Any,
  scalars: Any,
) -> _Moment | None:
  """The same steps one by one."""
  program = arm.stage.program
  for i in range(len(scalars.learning_rate)):
    one = jax.tree.map(lambda x, i=i: x[i : i + 1], (batches, scalars))
    state, means = _take(arm, _enter(program, before), *one)
    if not _finite(means):
      return _Moment(step + i + 1, before, *first, *one, means)
    before = _copy(program.leave(state))
  return None


def _take(
  arm: "arm_lib.Arm",
  state: Any,
  batches: Any,
  scalars: Any,
  program: Any = None,
) -> tuple[Any, dict[str, float]]:
  """The state after some steps, and their metrics."""
  program = program or arm.stage.program
  state, sums = program.run(
    state, arm.teachers, arm.feed.resident, batches, scalars, program.zeros()
  )
  return state, means_of(program.leave(sums))


def means_of(sums: Any) -> dict[str, float]:
  """Sums of metrics as means, on the host; nothing where nothing was added."""
  return {
    name: float(mean.total / mean.count)
    for name, mean in jax.device_get(sums).items()
    if mean.count
  }


def _finite(means: Mapping[str, float]) -> bool:
  return all(
    math.isfinite(means.get(name, 0.0)) for name in ("loss", "gradient_norm")
  )


def _copy(state: Any) -> Any:
  # A copy: on a CPU the host sees the device's own buffers, which the next
  # step takes.
  return jax.tree.map(lambda x: np.array(x), state)


def _enter(program: Any, state: Any) -> Any:
  return program.enter(program.put_state(state))


def _tell(arm: "arm_lib.Arm", moment: _Moment) -> tuple[str, str]:
  """What was not finite in a step, and what to do."""
  told, remedy = [], ""
  bad = {
    name.removeprefix("loss/"): value
    for name, value in moment.means.items()
    if name.startswith("loss/") and not math.isfinite(value)
  }
  at = f"at step {moment.step}"
  if bad:
    named = ", ".join(f"term {name!r} is {x}" for name, x in bad.items())
    told.append(f"{named} {at}")
  elif not math.isfinite(moment.means["loss"]):
    loss = moment.means["loss"]
    told.append(f"the weighted loss is {loss} {at}, though no term is")
  else:
    told.append(f"the gradient is not finite {at}, though every loss is")
    remedy = (
      "look for a function whose slope is infinite there (sqrt, log or a norm"
      " at 0), or lower learning_rate"
    )
  seen, sure = _watch(arm, moment)
  if not bad:
    seen = {k: v for k, v in seen.items() if k.startswith("the gradient of")}
  if seen:
    name, value = next(iter(seen.items()))
    told.append(f"the first value that is not finite: {name} ({value})")
    nan = next((k for k, v in seen.items() if v == "nan"), name)
    if nan != name and not sure:
      told[-1] += f", the first nan: {nan}"
    if " teacher " in nan:
      remedy = "look at that teacher"
  weight = _first(_weights(moment.state))
  if weight:
    when = f"after the update of step {moment.step - 1}"
    if moment.step == 1:
      when = "when the stage began"
      remedy = "look at the stage's start"
    told.append(f"{weight[0]} was {weight[1]} already {when}")
  field = _bad_field(arm, moment)
  if field:
    told.append(field)
    remedy = "mend that example, or leave it out"
  return "; ".join(told), remedy


def _watch(arm: "arm_lib.Arm", moment: _Moment) -> tuple[dict[str, str], bool]:
  """What was not finite in a step, first things first.

  Returns:
    "nan" or "inf" by name; and whether what is so by design is not among it.
  """
  watch = watch_lib.Watch(arm.stage.program)

  def look(state: Any, batch: Any) -> tuple[dict[str, str], bool]:
    entered = _enter(arm.stage.program, state)
    _, means = _take(arm, entered, batch, moment.scalars, watch.program)
    return watch.seen(), _finite(means)

  seen, _ = look(moment.state, moment.batch)
  if len(seen) > 1:
    # What is -inf by design (an excluded class) is so in a good step too: the
    # first of the repetition, or this state's with other examples.
    other = moment.start if moment.start < moment.step - 1 else moment.step
    stream = arm.feed.steps(arm.seed, other)
    try:
      usual, well = look(moment.first, stream.next(1))
    finally:
      stream.close()
    if not well:
      return seen, False
    seen = {k: v for k, v in seen.items() if k not in usual} or seen
  return seen, True


def _weights(state: Any) -> dict[str, Any]:
  return {
    "parameter": state.params,
    "statistic": state.collections["models"],
    "average": state.averages,
  }


def _first(named: Mapping[str, Any]) -> tuple[str, str] | None:
  """The first leaf of several trees that is not finite, and what it is."""
  for kind, tree in named.items():
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
      value = kind_of(np.asarray(leaf))
      if value:
        return f"{kind} {trees.path_string(path)!r}", value
  return None


def kind_of(value: np.ndarray) -> str:
  """ "nan", "inf", or "" for what is finite, or is no float."""
  if not jnp.issubdtype(value.dtype, jnp.inexact) or np.isfinite(value).all():
    return ""
  return "nan" if np.isnan(value).any() else "inf"


def _bad_field(arm: "arm_lib.Arm", moment: _Moment) -> str:
  """The field of the batch, and the example, that is not finite."""
  batch = {name: np.asarray(x[0]) for name, x in moment.batch.items()}
  if arm.feed.resident is not None:
    rows = batch.pop("row")
    batch |= {k: np.asarray(v[rows]) for k, v in arm.feed.resident.items()}
  for name, values in batch.items():
    for i in np.flatnonzero(batch["mask"]):
      value = kind_of(values[i])
      if value:
        return f"field {name!r} of example {batch['index'][i]} holds {value}"
  return ""
