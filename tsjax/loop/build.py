"""Builds a checked config into the parts of a run, before any training.

Whatever a person can have got wrong shows here: models are traced, taps looked
up, batches divided, and every error names the config key.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tsjax.config import checked, sections, specs
from tsjax.core import errors, schedules
from tsjax.data import splits as splits_lib
from tsjax.distill import objective
from tsjax.loop import checks
from tsjax.optim import groups as groups_lib
from tsjax.sharding import mesh as mesh_lib
from tsjax.train import program as program_lib
from tsjax.train import state as state_lib
from tsjax.train import step as step_lib

# Name -> (matmul precision, compute dtype of models).
PRECISIONS = {
  "float32": ("highest", None),
  "tensorfloat32": ("tensorfloat32", None),
  "bfloat16": ("bfloat16", jnp.bfloat16),
}


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage, built.

  Attributes:
    name: its name.
    config: its section.
    program: its compiled step.
    timeline: its length.
    split: its training examples.
    learning_rate: factor of the learning rate by step.
    weights: by term, by step.
    temperatures: by term, by step.
    group_sizes: parameters in each group of the optimizer.
    pull: alpha of the pull towards a teacher's weights by step.
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

  @property
  def model(self) -> str:
    """The model that the stage is judged by: the first that it trains."""
    return checked.trained(self.config)[0]

  def steps_of(self, duration: int | str, key: str) -> int:
    """A duration of this stage in steps, at least 1."""
    return max(
      self.timeline.to_steps(duration, f"config.stages.{self.name}.{key}"), 1
    )

  def end_variables(self, state: state_lib.TrainState) -> Any:
    """The variables with which the stage ends, if this is its last state."""
    if self.config.use == "average":
      return state.averages[self.model]
    return state.variables(self.model)

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


@dataclasses.dataclass(frozen=True)
class Parts:
  """Everything that a run consists of."""

  run: sections.Run
  source: Any
  splits: Mapping[str, splits_lib.Split]
  task: Any
  views: Mapping[str, Callable[..., Any]]
  modules: Mapping[str, nn.Module]
  placement: program_lib.Placement
  matmul_precision: str
  stages: Mapping[str, Stage]

  def predict(self, stage: str) -> Callable[[Any, Any], jax.Array]:
    """The compiled predictions of a stage's model."""
    config = self.stages[stage].config
    return self._predict(self.stages[stage].model, config.view)

  @functools.cached_property
  def _predict(self) -> Callable[[str, str], Callable[[Any, Any], jax.Array]]:
    @functools.cache
    def make(model: str, view: str) -> Callable[[Any, Any], jax.Array]:
      return program_lib.make_predict(
        self.modules[model],
        self.views[view],
        self.task.scores,
        self.placement.mesh,
      )

    return make


def build(run: sections.Run) -> Parts:
  """Builds and checks all parts; nothing is trained and nothing written.

  Raises:
    UserError: whatever a config can have wrong.
  """
  if run.precision not in PRECISIONS:
    raise errors.UserError(
      f"config.precision={run.precision!r}:"
      f" {errors.nearest(run.precision, PRECISIONS)}"
    )
  precision, dtype = PRECISIONS[run.precision]
  if run.mesh.strategy not in ("jit", "pmap"):
    raise errors.UserError(
      f"config.mesh.strategy={run.mesh.strategy!r}:"
      f" {errors.nearest(run.mesh.strategy, ('jit', 'pmap'))}"
    )
  placement = program_lib.Placement(
    run.mesh.strategy,
    mesh_lib.make_mesh(data=run.mesh.data, fsdp=run.mesh.fsdp),
    run.mesh.rules,
  )
  mesh_lib.check_batch(
    run.data.eval_batch_size,
    placement.devices,
    key="config.data.eval_batch_size",
  )
  source = checks.build(
    run.data.source,
    "config.data.source",
    needs=("splits", "classes", "read", "labels"),
  )
  parts = checks.call(
    "config.data", splits_lib.carve, source, run.data.validation, run.data.seed
  )
  task = checks.build(
    run.task, "config.task", needs=("fields", "scores", "check", "metrics")
  )
  views = {
    name: checks.build(view, f"config.data.views.{name}", needs=("__call__",))
    for name, view in run.data.views.items()
  }
  modules = {
    name: _module(spec, dtype, f"config.models.{name}")
    for name, spec in run.models.items()
  }
  with jax.default_matmul_precision(precision):
    stages: dict[str, Stage] = {}
    for name in run.order:
      stages[name] = _stage(
        run, name, source, parts, views, modules, placement, stages, task
      )
  return Parts(
    run, source, parts, task, views, modules, placement, precision, stages
  )


def _module(spec: Any, dtype: Any, key: str) -> nn.Module:
  module = checks.build(spec, key)
  if not isinstance(module, nn.Module):
    raise errors.UserError(
      f"{key}: {specs.qualified_name(spec[specs.CALL])} is not a Linen module"
    )
  if dtype is None:
    return module
  if not hasattr(module, "dtype"):
    raise errors.UserError(
      f"config.precision: {key} has no field `dtype`; add one, or use float32"
    )
  return module.clone(dtype=dtype)


def _stage(
  run: sections.Run,
  name: str,
  source: Any,
  parts: Mapping[str, splits_lib.Split],
  views: Mapping[str, Any],
  modules: Mapping[str, nn.Module],
  placement: program_lib.Placement,
  earlier: Mapping[str, Stage],
  task: Any,
) -> Stage:
  """One stage, traced in the abstract."""
  config, key = run.stages[name], f"config.stages.{name}"
  mesh_lib.check_batch(
    run.data.batch_size,
    placement.devices * config.accumulate,
    key="config.data.batch_size",
  )
  if "validation" not in parts and (config.arms or config.use == "best"):
    raise errors.UserError(
      f"{key} chooses on a validation split and there is none: set"
      " config.data.validation"
    )
  split = parts["train"]
  if config.labels < 1:
    split = checks.call(
      key, splits_lib.with_labels, split, config.labels, run.data.seed
    )
  if config.examples == "labelled":
    split = splits_lib.only_labelled(split)
  timeline = _timeline(config, split.size, run.data.batch_size, key)
  example = checks.call(
    "config.data.source", _example, split, run.data.batch_size
  )
  terms = checks.call(f"{key}.objective", objective.bind, config)
  trained = {m: modules[m] for m in checked.trained(config)}
  teaching = {t: modules[earlier[t].model] for t in config.teachers}
  taught = {t: _variables(earlier[t]) for t in config.teachers}
  structure = step_lib.Structure(
    models=trained,
    teachers=teaching,
    terms=terms,
    optimizer=None,
    rates=None,
    views=views,
    student_view=config.view,
    teacher_view=config.teacher_view,
    accumulate=config.accumulate,
    averaged=() if config.average is None else tuple(trained),
    pull_from="" if config.pull is None else config.pull.teacher,
  )
  output = checks.trace_models(structure, example, task, source)
  checks.check_metric(
    task, output, example, config.choose_by, f"{key}.choose_by"
  )
  structure, sizes = _with_optimizer(structure, config, example, taught, key)
  program = program_lib.Program(structure, placement, example, taught)
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
  )
  for field in ("log_every", "evaluate_every", "save_every"):
    stage.steps_of(getattr(config, field), field)
  scalars = jax.tree.map(lambda x: x[0], stage.scalars(0, 1.0, 0, 1))
  checks.trace(
    step_lib.make_step(structure),
    (program.abstract, taught, example, scalars),
    key,
  )
  if config.start is not None:
    before = {n: _variables(s) for n, s in earlier.items()}
    checks.trace_start(config.start, _variables(stage), before, f"{key}.start")
  return stage


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
  split: splits_lib.Split, batch_size: int
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


def _variables(stage: Stage) -> Any:
  """Shapes of the variables that a stage ends with."""
  return stage.program.abstract.variables(stage.model)


def _with_optimizer(
  structure: step_lib.Structure,
  config: sections.Stage,
  example: Mapping[str, jax.ShapeDtypeStruct],
  taught: Mapping[str, Any],
  key: str,
) -> tuple[step_lib.Structure, dict[str, int]]:
  """The structure with optimizer and groups, which need the parameters."""
  bare = dataclasses.replace(structure, optimizer=optax.identity())
  state = checks.trace(
    lambda seed, teachers: nn.meta.unbox(
      program_lib.initial_state(bare, example, seed, teachers)
    ),
    (jax.ShapeDtypeStruct((), np.uint32), dict(taught)),
    key,
  )
  rates, decays, sizes = groups_lib.factors(
    state.params, config.groups, key=f"{key}.groups"
  )
  optimizer = checks.build(
    config.optimizer, f"{key}.optimizer", decays, needs=("init", "update")
  )
  checks.trace(
    lambda params: optimizer.update(params, optimizer.init(params), params),
    (state.params,),
    f"{key}.optimizer",
  )
  return dataclasses.replace(structure, optimizer=optimizer, rates=rates), sizes
