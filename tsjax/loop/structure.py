"""What a stage's step closes over; stages of one shape share a program."""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from tsjax.config import sections, stages
from tsjax.data import cache as cache_lib
from tsjax.data import splits as splits_lib
from tsjax.distill import objective
from tsjax.distill import teachers as teachers_lib
from tsjax.loop import cached, checks
from tsjax.loop import programs as programs_lib
from tsjax.optim import groups as groups_lib
from tsjax.train import initial
from tsjax.train import program as program_lib
from tsjax.train import state as state_lib
from tsjax.train import step as step_lib


@dataclasses.dataclass(frozen=True)
class Surroundings:
  """What a stage is built among.

  Attributes:
    run: the checked config.
    source: the data's source.
    splits: by name.
    task: what is predicted.
    views: by name.
    modules: by model.
    placement: the devices.
    programs: what is compiled already.
  """

  run: sections.Run
  source: Any
  splits: Mapping[str, splits_lib.Split]
  task: Any
  views: Mapping[str, Any]
  modules: Mapping[str, nn.Module]
  placement: program_lib.Placement
  programs: programs_lib.Programs


def program(
  config: sections.Stage,
  among: Surroundings,
  earlier: Mapping[str, Any],
  example: Mapping[str, jax.ShapeDtypeStruct],
  key: str,
  caches: Mapping[str, cache_lib.Cache],
) -> tuple[program_lib.Program, dict[str, int]]:
  """The compiled step and the optimizer's groups, made once for a shape.

  Args:
    config: the stage's section.
    among: the rest of the run.
    earlier: the stages before it, built.
    example: shapes of a batch.
    key: the stage's config key, for errors.
    caches: the stage's cached teachers.

  Raises:
    UserError: model, view, term, teacher or optimizer do not fit.
  """
  run = among.run
  teachers = checks.call(key, _teachers, config, among, earlier, caches)
  made_from = {
    "models": {m: run.models[m] for m in stages.trained(config)},
    "teachers": teachers,
    "terms": {
      name: dataclasses.replace(term, weight=1.0, temperature=1.0)
      for name, term in config.objective.items()
    },
    "optimizer": config.optimizer,
    "groups": config.groups,
    "views": {
      name: run.data.views[name]
      for name in (config.view, config.teacher_view)
      if name
    },
    "seen": (config.view, config.teacher_view),
    "accumulate": config.accumulate,
    "averaged": config.average is not None,
    "pull": config.pull.teacher if config.pull else "",
    "example": {k: (x.shape, str(x.dtype)) for k, x in example.items()},
    "precision": run.precision,
    "task": (run.task, among.source.classes, config.choose_by),
    "placement": among.placement,
  }
  return among.programs.shared(
    made_from, lambda: _program(config, among, earlier, teachers, example, key)
  )


def _program(
  config: sections.Stage,
  among: Surroundings,
  earlier: Mapping[str, Any],
  teachers: Mapping[str, teachers_lib.Teacher],
  example: Mapping[str, jax.ShapeDtypeStruct],
  key: str,
) -> tuple[program_lib.Program, dict[str, int]]:
  terms = checks.call(f"{key}.objective", objective.bind, config)
  trained = {m: among.modules[m] for m in stages.trained(config)}
  before = variables_before(earlier)
  taught = {
    name: jax.eval_shape(
      teacher.gather, [before[m.stage] for m in teacher.members]
    )
    for name, teacher in teachers.items()
  }
  structure = step_lib.Structure(
    models=trained,
    teachers=teachers,
    terms=terms,
    optimizer=None,
    rates=None,
    views=among.views,
    student_view=config.view,
    teacher_view=config.teacher_view,
    accumulate=config.accumulate,
    averaged=() if config.average is None else tuple(trained),
    pull_from="" if config.pull is None else config.pull.teacher,
  )
  output = _traced_models(structure, example, among)
  checks.check_metric(
    among.task, output, example, config.choose_by, f"{key}.choose_by"
  )
  weights = checks.trace(
    functools.partial(initial.weights, structure, example),
    (jax.ShapeDtypeStruct((), np.uint32), dict(taught)),
    key,
  )
  structure, sizes = _with_optimizer(structure, config, weights, key)
  program = program_lib.Program(
    structure, among.placement, example, taught, weights
  )
  scalars = _scalar_shapes(config)
  checks.trace(
    step_lib.make_step(structure),
    (program.abstract, taught, example, scalars),
    key,
  )
  return program, sizes


def _traced_models(
  structure: step_lib.Structure,
  example: Mapping[str, jax.ShapeDtypeStruct],
  among: Surroundings,
) -> Any:
  """The shape of the first model's output, traced once for all stages."""
  run, seen = among.run, (structure.student_view, structure.teacher_view)
  made_from = {
    "traced": {name: run.models[name] for name in structure.models},
    "views": {name: run.data.views[name] for name in seen if name},
    "seen": seen,
    "example": {k: (x.shape, str(x.dtype)) for k, x in example.items()},
    "task": (run.task, among.source.classes),
    "precision": run.precision,
  }
  return among.programs.shared(
    made_from,
    lambda: checks.trace_models(structure, example, among.task, among.source),
  )


def _teachers(
  config: sections.Stage,
  among: Surroundings,
  earlier: Mapping[str, Any],
  caches: Mapping[str, cache_lib.Cache],
) -> dict[str, teachers_lib.Teacher]:
  """A stage's teachers by the name that terms read."""
  modules = {
    label: among.modules[model]
    for name, stage in earlier.items()
    for label, model in stages.judged(name, stage.config).items()
  }
  found: dict[str, teachers_lib.Teacher] = {
    name: teachers_lib.Live(teachers_lib.Member(name), modules[name])
    for name in config.teachers
  }
  for name, ensemble in config.ensembles.items():
    seeds = among.run.seeds if ensemble.over_seeds else (None,)
    weights = ensemble.weights or (1.0,) * len(ensemble.members)
    found[name] = teachers_lib.Ensemble(
      tuple(
        teachers_lib.Member(m, seed) for m in ensemble.members for seed in seeds
      ),
      tuple(modules[m] for m in ensemble.members for _ in seeds),
      tuple(w for w in weights for _ in seeds),
      ensemble.mean,
      ensemble.temperature,
    )
  for name, opened in caches.items():
    found[name] = cached.teacher(name, opened)
  return found


def _scalar_shapes(config: sections.Stage) -> state_lib.Scalars:
  """Shapes of one step's traced numbers."""
  number = jax.ShapeDtypeStruct((), np.float32)
  return state_lib.Scalars(
    seed=jax.ShapeDtypeStruct((), np.uint32),
    learning_rate=number,
    clip=number,
    weights=dict.fromkeys(config.objective, number),
    temperatures=dict.fromkeys(config.objective, number),
    pull=number,
    decay=number,
  )


def variables_before(earlier: Mapping[str, Any]) -> dict[str, Any]:
  """Shapes of the variables that earlier stages end with, by judged name."""
  shapes = {}
  for name, stage in earlier.items():
    ended = stage.end_variables(stage.program.abstract)
    for label, model in stages.judged(name, stage.config).items():
      shapes[label] = ended[model]
  return shapes


def _with_optimizer(
  structure: step_lib.Structure,
  config: sections.Stage,
  weights: state_lib.TrainState,
  key: str,
) -> tuple[step_lib.Structure, dict[str, int]]:
  """The structure with optimizer and groups, which need the parameters."""
  params = nn.meta.unbox(weights.params)
  rates, decays, sizes = groups_lib.factors(
    params, config.groups, key=f"{key}.groups"
  )
  optimizer = checks.build(
    config.optimizer, f"{key}.optimizer", decays, needs=("init", "update")
  )
  checks.trace(
    lambda params: optimizer.update(params, optimizer.init(params), params),
    (params,),
    f"{key}.optimizer",
  )
  return dataclasses.replace(structure, optimizer=optimizer, rates=rates), sizes
