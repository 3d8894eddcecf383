"""The page's section of groups of examples: for whom a model works."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tsjax.report import classes as classes_lib
from tsjax.report import figures, layout, markup, words

_tag = markup.tag
Stages = Mapping[str, Any]


def section(
  stages: Stages, classes: Sequence[str], seeds: int
) -> list[markup.Markup]:
  """Each group's metrics by stage, and what its examples were taken for."""
  found = {
    name: stage["groups"]
    for name, stage in stages.items()
    if stage.get("groups")
  }
  if not found:
    return []
  metrics = list(
    dict.fromkeys(
      metric
      for groups in found.values()
      for group in groups.values()
      for metric, value in group.items()
      if metric != "count" and words.finite(value)
    )
  )
  names = list(dict.fromkeys(g for groups in found.values() for g in groups))
  numbers = {name: k for k, name in enumerate(stages)}
  panels = [
    _figure(metric, found, names[: figures.ROWS], numbers)
    for metric in metrics
    if metric in words.SHARES
  ]
  rows = [
    [
      stage,
      layout.Words(name),
      words.whole(group.get("count")),
      *(words.measured(group.get(m), m) for m in metrics),
    ]
    for stage, groups in found.items()
    for name, group in groups.items()
  ]
  titles = ["stage", "group", "examples", *(words.column(m) for m in metrics)]
  summed = f" Examples are counted over {seeds} seeds." if seeds > 1 else ""
  return layout.section(
    "Groups",
    "Metrics over the examples of one group at a time. A model that is good on"
    " average may fail one of them, most easily a small one, of which it saw"
    f" little; a small group's score is also the least sure.{summed}",
    layout.legend([figures.Values(name, numbers[name], ()) for name in found]),
    layout.panels(panels) if panels else "",
    layout.folded(
      "All groups in numbers", layout.table("Groups", titles, rows)
    ),
    _confusions(found, classes, seeds),
  )


def _figure(
  metric: str,
  found: Mapping[str, Any],
  names: Sequence[str],
  numbers: Mapping[str, int],
) -> markup.Markup:
  rows = [
    figures.Values(
      stage,
      numbers[stage],
      [(groups.get(name) or {}).get(metric) for name in names],
    )
    for stage, groups in found.items()
  ]
  told = [
    (v, name, r.name)
    for r in rows
    for name, v in zip(names, r.values, strict=True)
    if words.finite(v)
  ]
  value, group, stage = min(told)
  return layout.figure(
    f"{words.heading(metric)} by group",
    figures.by_class(rows, [str(n) for n in names], words.title(metric)),
    "One mark for each stage, means over seeds. The lowest is"
    f" {words.percent(value)} %, of {stage} on group {group}; a long grey span"
    " is a group on which it matters which model is asked.",
  )


def _confusions(
  found: Mapping[str, Any], classes: Sequence[str], seeds: int
) -> markup.Markup | str:
  """A confusion matrix for each stage and group, folded."""
  tables = {
    f"{stage}, group {name}": {"confusion": group["confusion"]}
    for stage, groups in found.items()
    for name, group in groups.items()
    if np.any(group.get("confusion") or 0)
  }
  if not tables:
    return ""
  panels = classes_lib.confusion_panels(tables, classes)
  return layout.folded("Confusion of each group", layout.panels(panels))
