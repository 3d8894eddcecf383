"""One stage, built and traced: its step, its examples, its numbers by step."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import numpy as np

from tsjax.config import sections, stages
from tsjax.core import errors, schedules
from tsjax.data import cache as cache_lib
from tsjax.data import splits as splits_lib
from tsjax.loop import cached, checks, structure
from tsjax.loop import programs as programs_lib
from tsjax.sharding import mesh as mesh_lib
from tsjax.train import program as program_lib
from tsjax.train import state as state_lib


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage, built.

  Attributes:
    name: its name.
    config: its section; `choose_by` is filled in.
    program: its compiled step; stages of equal shape share it.
    timeline: its length.
    split: its training examples.
    learning_rate: factor of the learning rate by step.
    weights: by term, by step.
    temperatures: by term, by step.
    group_sizes: parameters in each group of the optimizer.
    pull: alpha of the pull towards a teacher's weights by step.
    caches: outputs of teachers, by seed and by the teacher's name.
  """

  name: str
  config: sections.Stage
  program: program_lib.Program
  timeline: schedules.Timeline
  split: splits_lib.Split
  learning_rate: schedules.Schedule
  weights: Mapping[str, schedules.Schedule]
  temperatures: Mapping[str, schedules.Schedule]
  group_sizes: Mapping[str, int]
  pull: schedules.Schedule
  caches: Mapping[int, Mapping[str, cache_lib.Cache]]

  @property
  def models(self) -> tuple[str, ...]:
    """The models that the stage trains."""
    return stages.trained(self.config)

  @property
  def model(self) -> str:
    """The only model that the stage trains, or the first."""
    return self.models[0]

  def steps_of(self, duration: int | str, key: str) -> int:
    """A duration of this stage in steps, at least 1."""
    return max(
      self.timeline.to_steps(duration, f"config.stages.{self.name}.{key}"), 1
    )

  def examples(self, seed: int) -> splits_lib.Split | cache_lib.Joined:
    """The training examples, with what caches hold of a seed's teachers."""
    if not self.caches:
      return self.split
    return cache_lib.Joined(self.split, self.caches[seed])

  def end_variables(self, state: state_lib.TrainState) -> dict[str, Any]:
    """Variables by model with which the stage ends, if this is its last state.

    Args:
      state: the state; shapes will do.
    """
    if self.config.use == "average":
      return {model: state.averages[model] for model in self.models}
    return {model: state.variables(model) for model in self.models}

  def scalars(
    self, seed: int, base_rate: float, step: int, count: int
  ) -> state_lib.Scalars:
    """The traced numbers of `count` steps, leaves `[count]`."""

    def over(schedule: schedules.Schedule) -> np.ndarray:
      return np.array(
        [schedule(step + i) for i in range(count)], dtype=np.float32
      )

    clip = np.inf if self.config.clip is None else self.config.clip
    return state_lib.Scalars(
      seed=np.full(count, seed, np.uint32),
      learning_rate=np.float32(base_rate) * over(self.learning_rate),
      clip=np.full(count, clip, np.float32),
      weights={k: over(s) for k, s in self.weights.items()},
      temperatures={k: over(s) for k, s in self.temperatures.items()},
      pull=over(self.pull),
      decay=np.full(count, self.config.average or 0.0, np.float32),
    )


def build(
  name: str, among: structure.Surroundings, earlier: Mapping[str, Stage]
) -> Stage:
  """One stage, traced in the abstract.

  Args:
    name: of the stage.
    among: the rest of the run.
    earlier: the stages before it, built.

  Raises:
    UserError: whatever its section can have wrong.
  """
  run, task = among.run, among.task
  config, key = run.stages[name], f"config.stages.{name}"
  if not config.choose_by:
    config = dataclasses.replace(config, choose_by=_choose_by(task))
  mesh_lib.check_batch(
    run.data.batch_size,
    among.placement.devices * config.accumulate,
    key="config.data.batch_size",
  )
  if "validation" not in among.splits and (config.arms or config.use == "best"):
    raise errors.UserError(
      f"{key} chooses on a validation split and there is none: set"
      " config.data.validation"
    )
  split = among.splits["train"]
  if config.labels < 1:
    split = checks.call(
      key, splits_lib.with_labels, split, config.labels, run.data.seed
    )
  if config.examples == "labelled":
    split = splits_lib.only_labelled(split)
  timeline = _timeline(config, split.size, run.data.batch_size, key)
  caches = _caches(config, among, split, timeline, key)
  seen = cache_lib.Joined(split, caches[run.seeds[0]]) if caches else split
  read = f"{key}.cached" if caches else "config.data.source"
  example = checks.call(read, _example, seen, run.data.batch_size)
  program, sizes = structure.program(
    config, among, earlier, example, key, caches.get(run.seeds[0], {})
  )
  stage = Stage(
    name,
    config,
    program,
    timeline,
    split,
    _schedule(config.schedule, timeline, f"{key}.schedule"),
    *(
      {
        term: _schedule(
          getattr(section, field), timeline, f"{key}.objective.{term}.{field}"
        )
        for term, section in config.objective.items()
      }
      for field in ("weight", "temperature")
    ),
    sizes,
    _pull(config.pull, timeline, f"{key}.pull"),
    caches,
  )
  for field in ("log_every", "evaluate_every", "save_every"):
    stage.steps_of(getattr(config, field), field)
  if config.start is not None:
    _check_start(stage, earlier, among.programs, f"{key}.start")
  return stage


def _caches(
  config: sections.Stage,
  among: structure.Surroundings,
  split: splits_lib.Split,
  timeline: schedules.Timeline,
  key: str,
) -> dict[int, dict[str, cache_lib.Cache]]:
  """Opens a stage's caches for every seed, and compares them with the run."""
  if not config.cached:
    return {}
  found = {}
  for seed in among.run.seeds:
    found[seed] = cached.open_all(config, key, seed)
    cached.check(
      found[seed],
      config,
      among,
      steps=timeline.steps,
      split=split,
      key=key,
      seed=seed,
    )
    cached.check_examples(found[seed], split, key)
  return found


def _choose_by(task: Any) -> str:
  return getattr(task, "choose_by", "f1")


def _check_start(
  stage: Stage,
  earlier: Mapping[str, Stage],
  programs: programs_lib.Programs,
  key: str,
) -> None:
  before = structure.variables_before(earlier)
  own = stage.program.abstract.variables(stage.model)
  programs.shared(
    ("start", stage.config.start, stage.program, tuple(before)),
    lambda: checks.trace_start(stage.config.start, own, before, key),
  )


def _timeline(
  config: sections.Stage, examples: int, batch_size: int, key: str
) -> schedules.Timeline:
  whole = schedules.Timeline(0, examples, batch_size)
  if isinstance(config.steps, str) and "%" in config.steps:
    raise errors.UserError(
      f"{key}.steps={config.steps!r}: a stage's length cannot be a percentage"
    )
  steps = whole.to_steps(config.steps, f"{key}.steps")
  return dataclasses.replace(whole, steps=steps)


def _schedule(
  value: Any, timeline: schedules.Timeline, key: str
) -> schedules.Schedule:
  if value is None:
    return lambda step: 1.0
  if isinstance(value, float):
    return lambda step: value
  schedule = checks.build(value, key, timeline, needs=("__call__",))
  first = checks.call(key, schedule, 0)
  if not isinstance(first, int | float | np.generic) or not np.isfinite(first):
    raise errors.UserError(
      f"{key} is {first!r} at step 0: a schedule gives a number for a step, see"
      " tsjax.core.schedules"
    )
  return schedule


def _pull(
  config: sections.Pull | None, timeline: schedules.Timeline, key: str
) -> schedules.Schedule:
  """alpha by step: -1, which leaves the weights, unless a pull is due."""
  if config is None:
    return lambda step: -1.0
  every = max(timeline.to_steps(config.every, f"{key}.every"), 1)
  alpha = _schedule(config.alpha, timeline, f"{key}.alpha")
  return lambda step: alpha(step) if (step + 1) % every == 0 else -1.0


def _example(
  split: splits_lib.Split | cache_lib.Joined, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of a training batch, from reading one example."""
  one = split.read(np.zeros(1, np.int64))
  shapes = {
    name: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype)
    for name, x in one.items()
    if x.dtype.kind in "biuf"
  }
  return shapes | {
    "epoch": jax.ShapeDtypeStruct((batch_size,), np.int32),
    "mask": jax.ShapeDtypeStruct((batch_size,), np.bool_),
  }
