"""Compiled steps and predictions, shared by stages of equal shape.

Rates, weights, temperatures, schedules, seeds and durations are traced or stay
on the host: two stages that differ in nothing else are one executable. So are
stages of two runs that live in one process, as a sweep's points do.
"""

from collections.abc import Callable, Hashable
import dataclasses
from typing import Any

from ml_collections import config_dict
import numpy as np

_DICTS = (config_dict.ConfigDict, config_dict.FrozenConfigDict, dict)


class Programs:
  """Keeps what was made under the identity of what it was made from."""

  def __init__(self):
    self._made: dict[Hashable, Any] = {}

  def shared(self, made_from: Any, make: Callable[[], Any]) -> Any:
    """What `make()` gave when it was first called with an equal `made_from`."""
    key = identity(made_from)
    if key not in self._made:
      self._made[key] = make()
    return self._made[key]


def identity(value: Any) -> Hashable:
  """A key that two configs share if they mean the same.

  Callables are compared as objects, not by name: two config files may each
  define a `Model` of their own. What cannot be hashed is equal to itself only.
  """
  if isinstance(value, _DICTS):
    return ("dict", *((name, identity(value[name])) for name in value))
  if isinstance(value, list | tuple):
    return (type(value), *map(identity, value))
  if isinstance(value, np.ndarray):
    return ("array", value.dtype.str, value.shape, value.tobytes())
  # True == 1 == 1.0 for Python, and not for a config.
  if isinstance(value, bool | int | float):
    return (type(value), value)
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {
      field.name: getattr(value, field.name)
      for field in dataclasses.fields(value)
    }
    return (type(value), identity(fields))
  try:
    hash(value)
  except TypeError:
    return _Same(value)
  return value


@dataclasses.dataclass(frozen=True, eq=False)
class _Same:
  """Equal to itself only; holds what it stands for, whose id stays taken."""

  value: Any

  def __hash__(self) -> int:
    return id(self.value)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _Same) and other.value is self.value
