"""Groups of parameters: every one belongs to exactly one group."""

from collections.abc import Mapping
from typing import Any, Protocol

from tsjax.core import errors, trees


class Group(Protocol):
  """What a group says: see `config.sections.Group`."""

  match: str
  rate: float
  decay: float


# Where a config names no groups: no decay on norms and biases.
NO_DECAY = r"(.*/)?(bias|scale)"


def factors(
  params: Any, groups: Mapping[str, Group], *, key: str
) -> tuple[Any, Any, dict[str, int]]:
  """The factors of learning rate and weight decay, leaf by leaf.

  Args:
    params: parameters, or their shapes.
    groups: by name, the first that matches a path wins; {} is the default: no
      decay on biases and norm scales.
    key: the config key, for the error.

  Returns:
    A tree of rates, a tree of decays, and the parameters in each group.

  Raises:
    UserError: a parameter that no group matches, or a group that matches none.
  """
  patterns = {name: group.match for name, group in groups.items()}
  sizes = dict.fromkeys(patterns or ("decay", "no_decay"), 0)

  def assign(path: str, leaf: Any) -> str:
    if not patterns:
      name = trees.first_match(path, {"no_decay": NO_DECAY}) or "decay"
    else:
      found = trees.first_match(path, patterns)
      if found is None:
        raise errors.UserError(
          f"{key}: no group matches parameter {path!r}; add one with"
          " match='.*' at the end"
        )
      name = found
    sizes[name] += trees.size(leaf)
    return name

  names = trees.map_paths(assign, params)
  for name, pattern in patterns.items():
    if not sizes[name]:
      raise errors.UserError(
        f"{key}.{name}.match={pattern!r} matches no parameter that an earlier"
        " group leaves"
      )

  def rate(path: str, name: str) -> float:
    return groups[name].rate if patterns else 1.0

  def decay(path: str, name: str) -> float:
    return groups[name].decay if patterns else float(name == "decay")

  return trees.map_paths(rate, names), trees.map_paths(decay, names), sizes


def layerwise(
  order: tuple[str, ...], *, factor: float = 0.9, rest: str = ".*"
) -> dict[str, dict[str, Any]]:
  """Groups whose learning rate falls from the last pattern to the first.

  Args:
    order: patterns from the input to the output of the model.
    factor: rate of a layer over the rate of the next one.
    rest: pattern of everything else, at the full rate.

  Returns:
    Entries for a stage's `groups`, to be written with `config.group(**entry)`.
  """
  depth = len(order)
  groups = {
    f"layer_{i:02d}": {"match": pattern, "rate": factor ** (depth - 1 - i)}
    for i, pattern in enumerate(order)
  }
  return groups | {"rest": {"match": rest}}
