"""The typed string argument of a config: `configs/digits.py:data=cifar10`."""

import ast
import types
from typing import Any

from tsjax.core import errors


def parse_value(text: str, like: Any, *, key: str) -> Any:
  """Reads `text` as a value of the type of `like`.

  Args:
    text: what was typed.
    like: the value that it replaces; None takes any literal or text.
    key: the key, for the error.

  Raises:
    UserError: the text is not of that type.
  """
  if isinstance(like, str):
    return text
  value = _literal(text)
  if like is None:
    return value
  if isinstance(like, list | tuple):
    if isinstance(value, str) and "," in value:  # teacher,student
      value = [_literal(part.strip()) for part in text.split(",")]
    value = value if isinstance(value, list | tuple) else (value,)
    return type(like)(value)
  if isinstance(like, float) and isinstance(value, int):
    value = value if isinstance(value, bool) else float(value)
  if isinstance(value, type(like)) and isinstance(value, bool) == isinstance(
    like, bool
  ):
    return value
  raise errors.UserError(
    f"{key}={text!r}: expected {type(like).__name__}, like {like!r}"
  )


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, TypeError):
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def arguments(text: str | None, **defaults: Any) -> types.SimpleNamespace:
  """Parses "data=cifar10,labels=0.1,smoke" against typed defaults.

  A bare word sets a boolean to True.

  Args:
    text: what stands after the colon of `--config=FILE:TEXT`, or None.
    **defaults: every argument that the config knows, with its default.

  Raises:
    UserError: an argument that the config does not know, or of another type.
  """
  values = dict(defaults)
  for part in filter(None, (text or "").split(",")):
    name, equals, value = (x.strip() for x in part.partition("="))
    if name not in defaults:
      raise errors.UserError(
        f"config argument {name!r} is not known:"
        f" {errors.nearest(name, defaults)}"
      )
    if not equals:
      if not isinstance(defaults[name], bool):
        raise errors.UserError(
          f"config argument {name!r} needs a value: {name}={defaults[name]}"
        )
      values[name] = True
    else:
      values[name] = parse_value(
        value, defaults[name], key=f"config argument {name}"
      )
  return types.SimpleNamespace(**values)
