"""Reads a `ConfigDict` into the frozen `Run`: keys, types and names."""

from collections.abc import Iterable
import dataclasses
import math
import re
import types
import typing
from typing import Any

from ml_collections import config_dict

from tsjax.config import sections, specs
from tsjax.core import errors

_DICT = (config_dict.ConfigDict, config_dict.FrozenConfigDict, dict)


def check(config: config_dict.ConfigDict) -> sections.Run:
  """The whole config as a frozen `Run`.

  Raises:
    UserError: an unknown key, a wrong type, a missing value, a name that is not
      defined: one line with the key, the value and the nearest right ones.
  """
  run = _read(sections.Run, config, "config")
  for key, named in (
    ("stages", run.stages),
    ("models", run.models),
    ("data.views", run.data.views),
  ):
    _check_names(f"config.{key}", named)
  _check_order(run)
  for name in run.order:
    _check_stage(run, name)
  if run.reference and run.reference not in run.stages:
    raise errors.UserError(
      f"config.reference={run.reference!r} is no stage:"
      f" {errors.nearest(run.reference, run.stages)}"
    )
  if not run.seeds or len(set(run.seeds)) != len(run.seeds):
    raise errors.UserError(
      f"config.seeds={run.seeds!r}: name at least one seed, each once"
    )
  for key, seed in (
    *(("seeds", seed) for seed in run.seeds),
    ("data.seed", run.data.seed),
  ):
    if not 0 <= seed < 2**32:
      raise errors.UserError(
        f"config.{key}: {seed} is no seed; take one from 0 to {2**32 - 1}"
      )
  for key, value in (
    ("data.batch_size", run.data.batch_size),
    ("data.eval_batch_size", run.data.eval_batch_size),
    ("keep_checkpoints", run.keep_checkpoints),
  ):
    if value < 1:
      raise errors.UserError(f"config.{key}={value}: must be at least 1")
  return run


def _read(cls: type, value: Any, key: str) -> Any:
  if not isinstance(value, _DICT):
    maker = cls.__name__.lower()
    remedy = (
      f"write it with tsjax.config.{maker}(...)"
      if hasattr(sections, maker)
      else "set its keys one by one, like"
      f" {key}.{dataclasses.fields(cls)[0].name}"
    )
    raise errors.UserError(f"{key}={value!r}: expected a section; {remedy}")
  fields = {f.name: f for f in dataclasses.fields(cls)}
  for name in value:
    if name not in fields:
      raise errors.UserError(
        f"{key}.{name} is not known: {errors.nearest(name, fields)}"
      )
  result = {}
  hints = typing.get_type_hints(cls)
  for name, field in fields.items():
    if name in value:
      result[name] = _typed(hints[name], value[name], f"{key}.{name}")
    elif (
      field.default is dataclasses.MISSING
      and field.default_factory is dataclasses.MISSING
    ):
      raise errors.UserError(f"{key}.{name} is missing: set it in the config")
  return cls(**result)


def _typed(hint: Any, value: Any, key: str) -> Any:
  if dataclasses.is_dataclass(hint):
    return _read(hint, value, key)
  if hint is config_dict.ConfigDict:
    if specs.is_spec(value):
      return value
    raise errors.UserError(
      f"{key}={value!r}: expected spec(function, ...), not"
      f" {type(value).__name__}"
    )
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin in (types.UnionType, typing.Union):
    for option in inner:
      try:
        return _typed(option, value, key)
      except errors.UserError:
        continue
    options = " or ".join(_type_name(o) for o in inner)
    raise errors.UserError(f"{key}={value!r}: expected {options}")
  if origin is dict:
    if not isinstance(value, _DICT):
      raise errors.UserError(f"{key}={value!r}: expected named entries")
    return {n: _typed(inner[1], value[n], f"{key}.{n}") for n in value}
  if origin is tuple:
    if not isinstance(value, list | tuple):
      raise errors.UserError(f"{key}={value!r}: expected a tuple, like (1, 2)")
    return tuple(
      _typed(inner[0], v, f"{key}[{i}]") for i, v in enumerate(value)
    )
  if hint is Any:
    return value
  if hint is type(None):
    if value is None:
      return None
  elif hint is float:
    if isinstance(value, int | float) and not isinstance(value, bool):
      return float(value)
  elif isinstance(value, hint) and (
    hint is bool or not isinstance(value, bool)
  ):
    return value
  raise errors.UserError(
    f"{key}={value!r}: expected {_type_name(hint)}, not {type(value).__name__}"
  )


def _type_name(hint: Any) -> str:
  if hint is config_dict.ConfigDict:
    return "spec(...)"
  if hint is type(None):
    return "None"
  return (
    getattr(hint, "__name__", str(hint))
    if not typing.get_args(hint)
    else str(hint)
  )


def _check_order(run: sections.Run) -> None:
  for name in run.order:
    if name not in run.stages:
      raise errors.UserError(
        f"config.order names {name!r}, which is no stage:"
        f" {errors.nearest(name, run.stages)}"
      )
  if "report" in run.stages:
    raise errors.UserError(
      "config.stages.report: the report is written to the folder of this name;"
      " rename the stage"
    )
  for name in run.stages:
    if run.order.count(name) != 1:
      raise errors.UserError(
        f"config.order={run.order}: stage {name!r} must stand in it once"
      )
  if not run.order:
    raise errors.UserError("config.order=(): name the stages in their order")


def trained(stage: sections.Stage) -> tuple[str, ...]:
  """The models that a stage trains."""
  return (stage.train,) if isinstance(stage.train, str) else stage.train


def _check_stage(run: sections.Run, name: str) -> None:
  stage, key = run.stages[name], f"config.stages.{name}"
  models = trained(stage)
  if not models:
    raise errors.UserError(f"{key}.train=(): name a model")
  for field, names in (("train", models), ("teachers", stage.teachers)):
    if len(set(names)) != len(names):
      raise errors.UserError(f"{key}.{field}={names!r}: name each once")
  for model in models:
    if model not in run.models:
      raise errors.UserError(
        f"{key}.train={model!r} is no model:"
        f" {errors.nearest(model, run.models)}"
      )
  earlier = run.order[: run.order.index(name)]
  for teacher in stage.teachers:
    if teacher not in earlier:
      why = (
        "does not come before it" if teacher in run.stages else "is no stage"
      )
      raise errors.UserError(
        f"{key}.teachers: {teacher!r} {why}: {errors.nearest(teacher, earlier)}"
      )
  for field in ("view", "teacher_view"):
    view = getattr(stage, field)
    if view not in run.data.views and (view or field == "view"):
      raise errors.UserError(
        f"{key}.{field}={view!r} is no view:"
        f" {errors.nearest(view, run.data.views)}"
      )
  _one_of(f"{key}.examples", stage.examples, ("all", "labelled"))
  _one_of(f"{key}.use", stage.use, ("last", "best", "average"))
  _positive(f"{key}.accumulate", stage.accumulate)
  _positive(f"{key}.steps_per_dispatch", stage.steps_per_dispatch)
  if not 0 < stage.labels <= 1:
    raise errors.UserError(
      f"{key}.labels={stage.labels}: a share of the labels in (0, 1]"
    )
  _not_negative(f"{key}.learning_rate", stage.learning_rate)
  if stage.clip is not None and not stage.clip > 0:
    raise errors.UserError(
      f"{key}.clip={stage.clip}: a positive norm, or None for no clipping"
    )
  if run.data.batch_size % stage.accumulate:
    raise errors.UserError(
      f"{key}.accumulate={stage.accumulate} does not divide"
      f" config.data.batch_size={run.data.batch_size}"
    )
  if not stage.objective:
    raise errors.UserError(f"{key}.objective is empty: add a term")
  _check_names(f"{key}.objective", stage.objective)
  for term_name, term in stage.objective.items():
    _check_term(stage, models, term, f"{key}.objective.{term_name}")
  for arm, values in stage.arms.items():
    if arm not in ("learning_rate",):
      raise errors.UserError(
        f"{key}.arms.{arm}: arms of a stage vary learning_rate"
      )
    if not values:
      raise errors.UserError(f"{key}.arms.{arm}=(): name at least one value")
    rates = [
      _typed(float, v, f"{key}.arms.{arm}[{i}]") for i, v in enumerate(values)
    ]
    for i, rate in enumerate(rates):
      _not_negative(f"{key}.arms.{arm}[{i}]", rate)
    # As an arm's folder writes them.
    if len({f"{rate:g}" for rate in rates}) != len(rates):
      raise errors.UserError(
        f"{key}.arms.{arm}={values!r}: two are the same in six digits"
      )
  _check_weights(stage, models, key)
  for group_name, group in stage.groups.items():
    where = f"{key}.groups.{group_name}"
    _not_negative(f"{where}.rate", group.rate)
    _not_negative(f"{where}.decay", group.decay)
    try:
      re.compile(group.match)
    except re.error as e:
      raise errors.UserError(
        f"{where}.match={group.match!r} is not a regular expression: {e}"
      ) from e


def _check_weights(
  stage: sections.Stage, models: tuple[str, ...], key: str
) -> None:
  """The moving average and the pull."""
  if stage.average is not None and not 0 <= stage.average <= 1:
    raise errors.UserError(f"{key}.average={stage.average}: a decay in [0, 1]")
  if stage.average is not None and len(models) > 1:
    raise errors.UserError(
      f"{key}.average={stage.average}: the stage trains {len(models)} models,"
      " and an average is kept of one"
    )
  if "average" in stage.teachers:
    raise errors.UserError(
      f"{key}.teachers: 'average' names the moving average; rename the stage"
    )
  if stage.use == "average" and stage.average is None:
    raise errors.UserError(
      f"{key}.use='average': set {key}.average to a decay, say 0.999"
    )
  if stage.pull is not None and stage.pull.teacher not in stage.teachers:
    raise errors.UserError(
      f"{key}.pull.teacher={stage.pull.teacher!r} does not teach here:"
      f" {errors.nearest(stage.pull.teacher, stage.teachers)}"
    )


def _check_term(
  stage: sections.Stage,
  models: tuple[str, ...],
  term: sections.Term,
  key: str,
) -> None:
  takes = specs.parameters(specs.called(term.loss))
  _one_of(f"{key}.on", term.on, ("auto", "all", "labelled"))
  if not term.student and len(models) > 1:
    raise errors.UserError(
      f"{key}.student is missing: the stage trains {', '.join(models)}"
    )
  if term.student and term.student not in models:
    raise errors.UserError(
      f"{key}.student={term.student!r} is not trained here:"
      f" {errors.nearest(term.student, models)}"
    )
  if "teacher" in takes:
    # A model that is trained beside the student may teach it: a peer.
    teachers = (*stage.teachers, *(models if len(models) > 1 else ()))
    teachers += ("average",) if stage.average is not None else ()
    if not term.teacher and len(stage.teachers) != 1:
      raise errors.UserError(
        f"{key} needs a teacher and the stage has {len(stage.teachers)}: set"
        f" {key}.teacher or the stage's `teachers`"
      )
    if len(models) > 1 and {term.teacher} & set(models) & set(stage.teachers):
      raise errors.UserError(
        f"{key}.teacher={term.teacher!r} is a model that the stage trains and"
        " an earlier stage too; rename one of them"
      )
    if term.teacher and term.teacher not in teachers:
      raise errors.UserError(
        f"{key}.teacher={term.teacher!r} does not teach here:"
        f" {errors.nearest(term.teacher, teachers)}"
      )
  elif term.teacher:
    raise errors.UserError(
      f"{key}.teacher={term.teacher!r}: the loss does not read a teacher"
    )
  for name in sections.READS:
    if name in term.loss:
      raise errors.UserError(
        f"{key}.loss.{name}: write the term with tsjax.config.term"
      )
  if "temperature" not in takes and term.temperature != 1.0:
    raise errors.UserError(
      f"{key}.temperature={term.temperature}: the loss takes no temperature"
    )
  if (
    isinstance(term.temperature, float) and not 0 < term.temperature < math.inf
  ):
    raise errors.UserError(
      f"{key}.temperature={term.temperature}: must be above 0"
    )
  if isinstance(term.weight, float) and not math.isfinite(term.weight):
    raise errors.UserError(f"{key}.weight={term.weight}: must be finite")


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise errors.UserError(f"{key}={value!r}: {errors.nearest(value, known)}")


def _not_negative(key: str, value: float) -> None:
  if not 0 <= value < math.inf:
    raise errors.UserError(f"{key}={value}: must not be negative, and finite")


def _check_names(key: str, named: Iterable[str]) -> None:
  """Names become folders, and parts of paths that are joined by "/"."""
  for name in named:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
      raise errors.UserError(
        f"{key}: {name!r} is no name; use letters, digits, _ and -"
      )


def _positive(key: str, value: int) -> None:
  if value < 1:
    raise errors.UserError(f"{key}={value}: must be at least 1")
