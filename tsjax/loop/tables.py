"""What a task says of a split beside its metrics, one seed or all together.

A task may lack whatever is asked for here: a user's own needs only `fields`,
`scores`, `check` and `metrics`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def decided(task: Any, scores: np.ndarray) -> np.ndarray | None:
  """The class of each example; None where there is no single one."""
  if hasattr(task, "decide"):
    return task.decide(scores)
  return scores.argmax(axis=-1) if hasattr(task, "confusion") else None


def truth(task: Any, fields: Mapping[str, np.ndarray]) -> np.ndarray | None:
  """The field of the label, one value an example; None where it has another."""
  label = fields.get(getattr(task, "label", "label"))
  return label if label is not None and label.ndim == 1 else None


def of(
  task: Any, scores: np.ndarray, fields: Mapping[str, np.ndarray]
) -> Mapping[str, Any]:
  """The task's tables of a split; {} where it has none."""
  if hasattr(task, "tables"):
    return task.tables(scores, fields)
  if not (hasattr(task, "confusion") and hasattr(task, "per_class")):
    return {}
  counts = task.confusion(scores, fields)
  return {"confusion": counts, "per_class": task.per_class(counts)}


def together(found: Sequence[Any]) -> Any:
  """Tables of all seeds as one: counts added up, other numbers averaged."""
  if isinstance(found[0], Mapping):
    names = dict.fromkeys(name for table in found for name in table)
    return {
      str(name): together([table[name] for table in found if name in table])
      for name in names
    }
  arrays = [np.asarray(x) for x in found]
  if arrays[0].dtype.kind in "iub":
    return np.sum(arrays, axis=0).tolist()
  if arrays[0].dtype.kind == "f":
    return np.mean(arrays, axis=0).tolist()
  return found[0]


def pooled(
  found: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, list[float]] | None:
  """Bins of all seeds as those of one set of examples."""
  if not found:
    return None
  count = sum(bins["count"] for bins in found)
  means = {
    key: sum(bins["count"] * bins[key] for bins in found) / np.maximum(count, 1)
    for key in ("confidence", "accuracy")
  }
  return {k: v.tolist() for k, v in {"count": count, **means}.items()}


def named_groups(
  parts: Any, groups: Mapping[str, Any] | None
) -> dict[str, Any] | None:
  """Groups by the source's names for them, where it has any."""
  if not groups:
    return None
  field = getattr(parts.task, "group", "")
  names = getattr(parts.source, "names", {}).get(field, ())
  return {
    names[int(key)] if key.isdecimal() and int(key) < len(names) else key: found
    for key, found in groups.items()
  }
