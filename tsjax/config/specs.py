"""`spec(function, **keywords)`: a call that is written now and made later.

A spec is a plain `ConfigDict`: it holds a callable that was really imported and
every keyword argument with its value, so that each can be overridden from the
command line.
"""

from collections.abc import Callable
import functools
import inspect
from typing import Any

from flax import linen as nn
from ml_collections import config_dict

from tsjax.core import errors

CALL = "call"
# Set by the run, not by the config: see "Model" in docs/design.md.
_RUN_FIELDS = ("parent", "name", "dtype", "axis_name")


def qualified_name(function: Callable[..., Any]) -> str:
  """`module.name` of a callable, as errors and manifests show it."""
  return f"{function.__module__}.{function.__qualname__}"


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  """The parameters of a callable that a config may set, by name."""
  try:
    signature = inspect.signature(function)
  except (TypeError, ValueError) as e:
    raise errors.UserError(
      f"spec({function!r}) has no signature to check; wrap it in a function"
    ) from e
  is_module = inspect.isclass(function) and issubclass(function, nn.Module)
  return {
    name: p
    for name, p in signature.parameters.items()
    if not (is_module and name in _RUN_FIELDS)
  }


def spec(
  function: Callable[..., Any], /, **keywords: Any
) -> config_dict.ConfigDict:
  """Records a call of `function` with the keywords given and its own defaults.

  Arguments without a default that are not given here are supplied by whoever
  builds the spec.

  Raises:
    UserError: not a callable, or a keyword that it does not take.
  """
  if not callable(function):
    raise errors.UserError(f"spec({function!r}): not a function or a class")
  known = parameters(function)
  has_rest = any(p.kind is p.VAR_KEYWORD for p in known.values())
  for name in keywords:
    if name not in known and not has_rest:
      raise errors.UserError(
        f"{qualified_name(function)} takes no argument {name!r}:"
        f" {errors.nearest(name, known)}"
      )
  result = config_dict.ConfigDict({CALL: function}, sort_keys=False)
  for name, parameter in known.items():
    if name in keywords or parameter.default is parameter.empty:
      continue
    # None has no type of its own, so that a later override may set any value.
    default = parameter.default
    result[name] = (
      config_dict.placeholder(object) if default is None else default
    )
  for name, value in keywords.items():
    result[name] = _writable(value)
  return result


def _writable(value: Any) -> Any:
  if value is None:
    return config_dict.placeholder(object)
  if not isinstance(value, dict):
    return value
  # In the order written, with any key: patterns are tried one after the other.
  result = config_dict.ConfigDict(sort_keys=False, allow_dotted_keys=True)
  for name, item in value.items():
    result[name] = _writable(item)
  return result


def is_spec(value: Any) -> bool:
  """Whether a config value was made by `spec`."""
  return (
    isinstance(value, config_dict.ConfigDict | config_dict.FrozenConfigDict)
    and CALL in value
  )


def build(value: config_dict.ConfigDict, *supplied: Any, **more: Any) -> Any:
  """Makes the call that a spec records; specs among its values are built first.

  Args:
    value: the spec.
    *supplied: leading positional arguments.
    **more: further keyword arguments.

  Raises:
    UserError: a required argument is missing.
  """
  keywords = {}
  for name in value:
    if name == CALL:
      continue
    item = value[name]
    keywords[name] = build(item) if is_spec(item) else _plain(item)
  keywords.update(more)
  try:
    inspect.signature(value[CALL]).bind(*supplied, **keywords)
  except TypeError as e:
    raise errors.UserError(
      f"spec({qualified_name(value[CALL])}): {e}; set it in the spec"
    ) from e
  return value[CALL](*supplied, **keywords)


def partial(value: config_dict.ConfigDict) -> Callable[..., Any]:
  """The callable with the spec's keywords bound, to be called many times.

  A class is built instead: its instance is what will be called.
  """
  if inspect.isclass(value[CALL]):
    return build(value)
  keywords = {
    name: build(value[name]) if is_spec(value[name]) else _plain(value[name])
    for name in value
    if name != CALL
  }
  return functools.partial(value[CALL], **keywords)


def called(value: config_dict.ConfigDict) -> Callable[..., Any]:
  """What takes the arguments of `partial(value)(...)`, for its signature."""
  function = value[CALL]
  return function.__call__ if inspect.isclass(function) else function


def _plain(item: Any) -> Any:
  if isinstance(item, config_dict.ConfigDict | config_dict.FrozenConfigDict):
    return {k: _plain(item[k]) for k in item}
  return tuple(item) if isinstance(item, list) else item
