"""Loads a config file and applies overrides.

A config is a Python file and is run: load only files that you trust.
"""

from collections.abc import Sequence
import copy
import hashlib
import importlib.util
import inspect
import os
import pathlib
import sys
from typing import Any

from ml_collections import config_dict

from tsjax.config import specs, values
from tsjax.core import errors


def load(name: str, overrides: Sequence[str] = ()) -> config_dict.ConfigDict:
  """Loads `FILE` or `FILE:ARGUMENT` and applies overrides.

  Args:
    name: path of the config file, with its argument after a colon.
    overrides: "stages.teacher.learning_rate=0.1", one for each key.

  Raises:
    UserError: no such file, no `get_config`, or an override of no known key.
  """
  path, colon, argument = name.partition(":")
  found = module(pathlib.Path(path))
  if not hasattr(found, "get_config"):
    raise errors.UserError(f"{path} defines no function get_config(arg)")
  try:
    config = found.get_config(argument if colon else None)
  except errors.UserError as e:
    raise errors.UserError(f"{path}{_line(e, path)}: {e}") from e
  except Exception as e:  # Whatever the file's author wrote, in one line.
    raise errors.UserError(
      f"{path}{_line(e, path)}: get_config raised {type(e).__name__}:"
      f" {_one_line(e)}"
    ) from e
  if not isinstance(config, config_dict.ConfigDict):
    raise errors.UserError(
      f"{path}: get_config returned {type(config).__name__}, not a ConfigDict:"
      " end it with `return c`, where c = tsjax.config.run(...)"
    )
  _unshare(config, {})
  for item in overrides:
    override(config, item)
  return config


def _unshare(node: config_dict.ConfigDict, seen: dict[int, Any]) -> None:
  """Copies a section that stands in two places: an override means one."""
  for name in node:
    child = node[name]
    if isinstance(child, config_dict.ConfigDict):
      if id(child) in seen:
        node[name] = child = copy.deepcopy(child)
      seen[id(child)] = child
      _unshare(child, seen)


def override(config: config_dict.ConfigDict, item: str) -> None:
  """Applies one "a.b.c=value"; the value is read as the old one's type."""
  path, equals, text = item.partition("=")
  if not equals:
    raise errors.UserError(f"--config.{item}: write --config.{item}=VALUE")
  parts = path.split(".")
  node: Any = config
  for depth, part in enumerate(parts):
    known = list(node) if isinstance(node, config_dict.ConfigDict) else []
    if part not in known:
      shown = ".".join(parts[: depth + 1])
      raise errors.UserError(
        f"--config.{path}: config.{shown} is not known:"
        f" {errors.nearest(part, known)}"
      )
    if depth < len(parts) - 1:
      node = node[part]
  old = node[parts[-1]]
  if isinstance(old, config_dict.ConfigDict) or parts[-1] == specs.CALL:
    raise errors.UserError(
      f"--config.{path}: only values can be overridden, and this is a section"
    )
  # A section's numbers may become durations, schedules' names or None: there
  # the annotations decide (config/checked.py), and not the value that was.
  free = not specs.is_spec(node) and isinstance(old, int | float)
  like = None if free and not isinstance(old, bool) else old
  value = values.parse_value(text, like, key=f"--config.{path}")
  node[parts[-1]] = value


def module(path: pathlib.Path) -> Any:
  """A config file as a module, run once for its content.

  Raises:
    UserError: no such file, or whatever it raised.
  """
  if not path.is_file():
    is_folder = path.is_dir()
    folder = path if is_folder else path.parent
    near = [str(p) for p in folder.glob("*.py")]
    what = "is a folder" if is_folder else "no such file"
    raise errors.UserError(
      f"--config={path}: {what}; {errors.nearest(path, near)}"
    )
  # A name of its own for each file and content: two configs may both be called
  # `mine.py`, and what one defines is one object however often it is loaded.
  try:
    content = path.read_bytes()
  except OSError as e:
    raise errors.UserError(f"--config={path}: cannot be read ({e})") from e
  digest = hashlib.sha256(str(path.resolve()).encode() + b"\0" + content)
  module_name = f"tsjax_config_{path.stem}_{digest.hexdigest()[:12]}"
  if module_name in sys.modules:
    return sys.modules[module_name]
  spec = importlib.util.spec_from_file_location(module_name, path)
  if spec is None or spec.loader is None:
    raise errors.UserError(f"--config={path}: not a Python file")
  made = importlib.util.module_from_spec(spec)
  sys.modules[module_name] = made
  try:
    spec.loader.exec_module(made)
  except errors.UserError as e:
    del sys.modules[module_name]
    raise errors.UserError(f"{path}{_line(e, path)}: {e}") from e
  except Exception as e:
    del sys.modules[module_name]
    raise errors.UserError(
      f"{path}{_line(e, path)}: {type(e).__name__}: {_one_line(e)}"
    ) from e
  return made


def _line(error: BaseException, path: str | pathlib.Path) -> str:
  """The last line of the file that led to the error, as ":12", or ""."""
  # Python compiles the file under its absolute path.
  absolute = os.path.abspath(path)
  if isinstance(error, SyntaxError) and error.filename == absolute:
    return f":{error.lineno}"
  trace, line = error.__traceback__, ""
  while trace is not None:
    if trace.tb_frame.f_code.co_filename == absolute:
      line = f":{trace.tb_lineno}"
    trace = trace.tb_next
  return line


def _one_line(error: BaseException) -> str:
  return " ".join(str(error).split())[:300]


def as_json(value: Any) -> Any:
  """The config as JSON: callables as "module.name"."""
  if isinstance(value, config_dict.ConfigDict | config_dict.FrozenConfigDict):
    return {k: as_json(value[k]) for k in value}
  if isinstance(value, dict):
    return {k: as_json(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [as_json(v) for v in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if callable(value):
    return _stable_name(value)
  return repr(value)


def _stable_name(function: Any) -> str:
  name = specs.qualified_name(function)
  if not function.__module__.startswith("tsjax_config_"):
    return name
  # A config's own function: its source says whether it changed.
  try:
    source = inspect.getsource(function)
  except (OSError, TypeError):
    source = ""
  digest = hashlib.sha256(source.encode()).hexdigest()[:12]
  return f"{function.__qualname__}@{digest}"
