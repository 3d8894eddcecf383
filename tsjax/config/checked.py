"""Reads a `ConfigDict` into the frozen `Run`: keys, types and names."""

import dataclasses
import types
import typing
from typing import Any

from ml_collections import config_dict

from tsjax.config import sections, specs, stages
from tsjax.core import errors

# Where metrics can go besides metrics.jsonl.
WRITERS = ("events", "wandb")
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
    stages.check_names(f"config.{key}", named)
  _check_order(run)
  for name in run.order:
    stages.check(run, name)
  names = [n for s in run.order for n in stages.judged(s, run.stages[s])]
  if run.reference and run.reference not in names:
    raise errors.UserError(
      f"config.reference={run.reference!r} is no stage:"
      f" {errors.nearest(run.reference, names)}"
    )
  for writer in run.writers:
    if writer not in WRITERS:
      raise errors.UserError(
        f"config.writers: {writer!r}: {errors.nearest(writer, WRITERS)}"
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
