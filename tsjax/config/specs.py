"""`spec(function, **keywords)`: a call that is written now and made later.

A spec is a plain `ConfigDict`: it holds a callable that was really imported and
every keyword argument with its value, so that each can be overridden from the
command line.
"""

from collections.abc import Callable
import copy
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
  if isinstance(function, functools.partial):
    return f"partial({qualified_name(function.func)})"
  name = getattr(function, "__qualname__", None) or getattr(
    function, "__name__", type(function).__qualname__
  )
  return f"{getattr(function, '__module__', '')}.{name}"


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
  if isinstance(function, functools.partial):
    raise errors.UserError(
      f"spec({qualified_name(function)}): give the function to spec, and the"
      " partial's arguments as keywords"
    )
  known = parameters(function)
  if CALL in known:
    raise errors.UserError(
      f"spec({qualified_name(function)}): an argument named {CALL!r} cannot be"
      " recorded; rename it"
    )
  has_rest = any(p.kind is p.VAR_KEYWORD for p in known.values())
  for name in keywords:
    if name not in known and not has_rest:
      raise errors.UserError(
        f"{qualified_name(function)} takes no argument {name!r}:"
        f" {errors.nearest(name, known)}"
      )
  result = Entries(type_safe=True)
  result[CALL] = function
  for name, parameter in known.items():
    if name in keywords or parameter.default is parameter.empty:
      continue
    result[name] = parameter.default
  for name, value in keywords.items():
    result[name] = value
  return result


class Entries(config_dict.ConfigDict):
  """A `ConfigDict` in the order written, with any text as a key.

  Groups and patterns are tried one after the other, and a plain ConfigDict
  sorts them and takes no key with a dot.

  Args:
    type_safe: whether a value keeps its type when it is replaced.
  """

  def __init__(self, *, type_safe: bool = False):
    super().__init__(
      type_safe=type_safe, sort_keys=False, allow_dotted_keys=True
    )

  def __setitem__(self, key: str, value: Any) -> None:
    if isinstance(value, dict):
      entries = Entries(type_safe=self.is_type_safe)
      for name, item in value.items():
        entries[name] = item
      value = entries
    elif value is None and self.is_type_safe and key not in self:
      # None has no type of its own, so that an override may set any value.
      value = config_dict.placeholder(object)
    super().__setitem__(key, value)

  def __deepcopy__(self, memo: dict[int, Any]) -> "Entries":
    del memo  # A section that stands in it twice is copied twice.
    result = Entries(type_safe=self.is_type_safe)
    for name in self:
      result[name] = copy.deepcopy(self[name])
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
    keywords[name] = _built(value[name])
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
  keywords = {name: _built(value[name]) for name in value if name != CALL}
  return functools.partial(value[CALL], **keywords)


def called(value: config_dict.ConfigDict) -> Callable[..., Any]:
  """What takes the arguments of `partial(value)(...)`, for its signature."""
  function = value[CALL]
  return function.__call__ if inspect.isclass(function) else function


def _built(item: Any) -> Any:
  if is_spec(item):
    return build(item)
  if isinstance(item, config_dict.ConfigDict | config_dict.FrozenConfigDict):
    return {k: _built(item[k]) for k in item}
  # Not of named tuples, whose type would be lost.
  if type(item) in (list, tuple):
    return tuple(_built(i) for i in item)
  return item
