"""The points of a sweep: which values, which configs, and what they share."""

from collections.abc import Iterator, Mapping, Sequence
import copy
import dataclasses
import itertools
import json
import re
from typing import Any

from ml_collections import config_dict

from tsjax.config import loading, specs, stages
from tsjax.core import errors
from tsjax.loop import needs

_OPEN, _CLOSE = "([{", ")]}"
# Keys of a run that change nothing of what a stage trains.
_IDLE = (
  "name",
  "order",
  "stages",
  "models",
  "seeds",
  "reference",
  "keep_checkpoints",
  "line_points",
  "writers",
)


@dataclasses.dataclass(frozen=True)
class Point:
  """One point of the grid.

  Attributes:
    name: its folder's name.
    values: by key, without "config.", as JSON has them.
    config: the whole config.
    flags: "--config.KEY=VALUE" that make it of the base config; () where a
      value has no text.
  """

  name: str
  values: Mapping[str, Any]
  config: config_dict.ConfigDict
  flags: tuple[str, ...]


def from_flags(flags: Sequence[str]) -> list[dict[str, "Text"]]:
  """Assignments of `--sweep config.KEY=V1,V2` flags, every combination.

  Raises:
    UserError: a flag without values, or a key that comes twice.
  """
  axes: dict[str, list[Text]] = {}
  for flag in flags:
    key, equals, text = flag.partition("=")
    key = key.strip().removeprefix("--").removeprefix("config.")
    values = [Text(v) for v in _split(text)]
    if not equals or not values or not all(values):
      raise errors.UserError(
        f"--sweep {flag}: write --sweep config.KEY=VALUE,VALUE,..."
      )
    if key in axes:
      raise errors.UserError(
        f"--sweep config.{key} comes twice: give all its values in one"
      )
    _check_once(key, values)
    axes[key] = values
  return _product(axes)


def from_function(given: Any) -> list[dict[str, Any]]:
  """Assignments that a config's `sweep()` returns.

  Args:
    given: key -> values, for every combination; or a list of {key: value}, a
      point each.

  Raises:
    UserError: it is neither.
  """
  if isinstance(given, Mapping) and given:
    axes = {}
    for key, values in given.items():
      if not isinstance(values, list | tuple) or not values:
        raise errors.UserError(
          f"sweep() has {key!r}: {values!r}: give a list of values"
        )
      axes[_plain(key)] = list(values)
      _check_once(_plain(key), [loading.as_json(v) for v in values])
    return _product(axes)
  listed = isinstance(given, list | tuple) and bool(given)
  if listed and all(isinstance(p, Mapping) and p for p in given):
    return [{_plain(k): v for k, v in point.items()} for point in given]
  raise errors.UserError(
    f"sweep() returned {given!r}: return a dict of key to values, or a list of"
    " dicts of key to value"
  )


class Text(str):
  """A value as it was typed, to be read as an override's."""


def points(
  config: config_dict.ConfigDict, assignments: Sequence[Mapping[str, Any]]
) -> list[Point]:
  """The grid's points, each with its own config.

  Raises:
    UserError: an unknown key, a value that cannot stand there, a point that
      is another one again, or fewer than two.
  """
  if len(assignments) < 2:
    raise errors.UserError(
      "a sweep compares points, and this has one: give two values or more"
    )
  keys = list(dict.fromkeys(key for a in assignments for key in a))
  short = _short(keys)
  result: list[Point] = []
  seen: dict[str, str] = {}
  for number, assignment in enumerate(assignments):
    own = copy.deepcopy(config)
    values, flags = {}, []
    for key, value in assignment.items():
      _assign(own, key, value)
      values[key] = loading.as_json(_at(own, key))
      flags.append(f"--config.{key}={value}")
    name = ",".join(f"{short[k]}={_told(v)}" for k, v in values.items())
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", name).strip("_.")
    if len(name) > 80 or any(name == p.name for p in result):
      name = f"{number:03d}-{name[:80]}"
    content = json.dumps(loading.as_json(own), sort_keys=True)
    if content in seen:
      raise errors.UserError(
        f"--sweep: point {name} is {seen[content]} again; drop one"
      )
    seen[content] = name
    typed = all(isinstance(v, Text) for v in assignment.values())
    result.append(Point(name, values, own, tuple(flags) if typed else ()))
  return result


def recipe(config: config_dict.ConfigDict, name: str) -> str:
  """All that a stage's training depends on, as one text.

  Two stages of one recipe end with the same bits: its section, its models, the
  views that it names, the data, and the recipes of the stages that it needs.
  Whatever else the config holds counts, but for `_IDLE`.
  """
  whole = loading.as_json(config)
  stage = whole["stages"][name]
  data = dict(whole["data"])
  named = {stage["view"], stage["teacher_view"]}
  data["views"] = {k: v for k, v in data["views"].items() if k in named}
  models = stage["train"]
  models = [models] if isinstance(models, str) else models
  over_seeds = any(e["over_seeds"] for e in stage["ensembles"].values())
  content = {
    **{k: v for k, v in whole.items() if k not in _IDLE},
    "data": data,
    "stage": stage,
    "models": {m: whole["models"].get(m) for m in models},
    "seeds": whole["seeds"] if over_seeds else None,
    # Under their names, by which the section calls them.
    "needs": {n: recipe(config, n) for n in needs.stages(config, name)},
  }
  return json.dumps(content, sort_keys=True)


def budget(run: Any, steps: Mapping[str, int]) -> dict[str, Any]:
  """What a point may spend: key -> value, equal in all points.

  Args:
    run: the checked config.
    steps: of each stage, as built.
  """
  found: dict[str, Any] = {
    "seeds": list(run.seeds),
    "data.batch_size": run.data.batch_size,
  }
  for name in run.order:
    stage = run.stages[name]
    arms = stage.arms.get("learning_rate", (0,))
    found[f"stages.{name}.steps"] = steps[name]
    found[f"stages.{name}.arms"] = len(arms)
    found[f"stages.{name}.train"] = len(stages.trained(stage))
  return found


def _product(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
  return [
    dict(zip(axes, values, strict=True))
    for values in itertools.product(*axes.values())
  ]


def _split(text: str) -> Iterator[str]:
  """Parts at commas, but for those within brackets or quotes."""
  depth, quote, part = 0, "", ""
  for letter in text:
    if quote:
      quote = "" if letter == quote else quote
    elif letter in "'\"":
      quote = letter
    elif letter in _OPEN:
      depth += 1
    elif letter in _CLOSE:
      depth -= 1
    if letter == "," and not depth and not quote:
      yield part.strip()
      part = ""
    else:
      part += letter
  yield part.strip()


def _check_once(key: str, values: Sequence[Any]) -> None:
  for k, value in enumerate(values):
    if value in values[:k]:
      raise errors.UserError(f"--sweep config.{key}: {value!r} comes twice")


def _plain(key: Any) -> str:
  if not isinstance(key, str):
    raise errors.UserError(f"sweep() has key {key!r}: a key is a text")
  return key.removeprefix("config.")


def _assign(config: config_dict.ConfigDict, key: str, value: Any) -> None:
  """Puts a value in its place, as an override does."""
  if isinstance(value, Text):
    try:
      loading.override(config, f"{key}={value}")
    except errors.UserError as e:
      told = str(e).replace("--config.", "--sweep config.", 1)
      raise errors.UserError(told) from e
    return
  node: Any = config
  parts = key.split(".")
  for depth, part in enumerate(parts):
    known = list(node) if isinstance(node, config_dict.ConfigDict) else []
    if part not in known:
      raise errors.UserError(
        f"sweep(): config.{'.'.join(parts[: depth + 1])} is not known:"
        f" {errors.nearest(part, known)}"
      )
    if depth < len(parts) - 1:
      node = node[part]
  try:
    node[parts[-1]] = copy.deepcopy(value)
  except TypeError as e:
    raise errors.UserError(
      f"sweep(): config.{key}={value!r}: expected"
      f" {type(node[parts[-1]]).__name__}, like {node[parts[-1]]!r}"
    ) from e


def _at(config: Any, key: str) -> Any:
  for part in key.split("."):
    config = config[part]
  return config


def _short(keys: Sequence[str]) -> dict[str, str]:
  """The shortest ends of keys that tell them apart."""
  parts = {key: key.split(".") for key in keys}
  for length in range(1, max(map(len, parts.values())) + 1):
    short = {key: ".".join(p[-length:]) for key, p in parts.items()}
    if len(set(short.values())) == len(keys):
      break
  return short


def _told(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:g}"
  if isinstance(value, list):
    return "+".join(_told(v) for v in value) or "none"
  if isinstance(value, dict):
    call = str(value.get(specs.CALL, "section"))
    return call.partition("@")[0].rpartition(".")[2]
  return str(value)
