"""Which earlier stages a stage cannot do without."""

from collections.abc import Iterator
from typing import Any

from ml_collections import config_dict


def stages(config: config_dict.ConfigDict, name: str) -> list[str]:
  """The stages that must be trained before `name`, in their order.

  Its teachers, the members of its ensembles and what its start reads, with what
  these need in turn. A start that names no stage may read any earlier one.

  Args:
    config: the whole config.
    name: of a stage in its order.
  """
  found = set(_needed(config, name))
  return [stage for stage in config.order if stage in found]


def _needed(config: config_dict.ConfigDict, name: str) -> Iterator[str]:
  earlier = list(config.order)[: list(config.order).index(name)]
  for label in dict.fromkeys(_read(config.stages[name], earlier)):
    found = label.partition(".")[0]  # "STAGE.MODEL" of several models
    if found in earlier:
      yield found
      yield from _needed(config, found)


def _read(stage: config_dict.ConfigDict, earlier: list[str]) -> Iterator[Any]:
  yield from stage.get("teachers", ())
  ensembles = stage.get("ensembles", {})
  for label in ensembles:
    yield from ensembles[label].members
  start = stage.get("start")
  if start is not None:
    named = [
      value
      for value in (start[key] for key in start)
      if isinstance(value, str) and value.partition(".")[0] in earlier
    ]
    yield from named or earlier
