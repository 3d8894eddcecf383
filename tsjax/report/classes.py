"""The page's sections of classes: which are learnt, and which confused."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tsjax.report import axes, figures, heat, layout, markup, tables, words

_tag = markup.tag
Stages = Mapping[str, Any]


def confusion(
  stages: Stages, classes: Sequence[str], seeds: int
) -> list[markup.Markup]:
  """Who is taken for whom."""
  panels = confusion_panels(stages, classes)
  if not panels:
    return []
  summed = f", summed over {seeds} seeds" if seeds > 1 else ""
  return layout.section(
    "Confusion",
    f"Counts of test examples{summed}: a row is what they are, a column what"
    " they were taken for. The diagonal is right; the stronger a colour"
    " off it, the larger the share of its row, on one scale for all stages.",
    layout.panels(panels),
  )


def confusion_panels(
  stages: Stages, classes: Sequence[str]
) -> list[markup.Markup]:
  """A matrix for each entry that has a `confusion`, on one scale of colours."""
  found = {
    name: np.asarray(stage["confusion"])
    for name, stage in stages.items()
    if stage.get("confusion")
  }
  # One scale for all, lest the one mistake of a good model look like the many
  # of a bad one.
  worst = max(
    (float(_mistake_shares(counts).max()) for counts in found.values()),
    default=0.0,
  )
  panels = []
  for name, counts in found.items():
    names = _class_names(classes, len(counts))
    title = f"Confusion of {name}"
    chosen = np.arange(len(counts))
    part = ""
    if len(counts) > heat.MATRIX_CLASSES:
      mistakes = counts - np.diag(np.diagonal(counts))
      rank = np.argsort(
        -(mistakes.sum(axis=0) + mistakes.sum(axis=1)), kind="stable"
      )
      chosen = np.sort(rank[: heat.MATRIX_CLASSES])
      part = (
        f" Shown are the {len(chosen)} of {len(counts)} classes with most"
        " mistakes."
      )
    panels.append(
      layout.figure(
        _tag("code", name),
        heat.matrix(
          counts[np.ix_(chosen, chosen)],
          [names[k] for k in chosen],
          title=title,
          totals=counts.sum(axis=1)[chosen],
          worst=worst,
        ),
        _mistakes(counts, names) + part,
      )
    )
  return panels


def scores(stages: Stages, classes: Sequence[str]) -> list[markup.Markup]:
  """F1 of each class, and what the teacher gave to each."""
  rows = [
    figures.Values(name, k, f1)
    for k, (name, stage) in enumerate(stages.items())
    if (f1 := (stage.get("per_class") or {}).get("f1"))
  ]
  if not rows:
    return []
  size = min(len(r.values) for r in rows)
  names = _class_names(classes, size)
  values = np.array([[_float(v) for v in r.values[:size]] for r in rows])
  at = {r.name: k for k, r in enumerate(rows)}
  # What differs most between stages is what a reader came for.
  rank = np.argsort(-np.ptp(np.nan_to_num(values), axis=0), kind="stable")
  chosen = np.sort(rank[: figures.ROWS])
  part = (
    f" Shown are the {len(chosen)} of {size} classes on which stages differ"
    " most."
    if size > len(chosen)
    else ""
  )
  shown = [names[k] for k in chosen]
  panels = [
    layout.figure(
      "F1 by class",
      figures.by_class(
        [
          figures.Values(r.name, r.stage, values[k, chosen].tolist())
          for k, r in enumerate(rows)
        ],
        shown,
        "F1",
      ),
      "One mark for each stage, means over seeds. A long grey span is a class"
      " on which it matters which model is asked." + part,
    )
  ]
  for comparison in words.comparisons(stages):
    if comparison.taught not in at or comparison.control not in at:
      continue
    taught, control = at[comparison.taught], at[comparison.control]
    gain = np.nan_to_num(values[taught] - values[control])
    panels.append(
      layout.figure(
        ["What ", _tag("code", comparison.taught), " gained"],
        figures.differences(
          gain[chosen].tolist(),
          shown,
          title=f"points of F1 above {axes.short(comparison.control, 20)}",
          stages=(rows[taught].stage, rows[control].stage),
        ),
        "Each bar points to who is better: to the right the taught model, to"
        " the left its control. One class has few examples, so a short bar may"
        " be chance.",
      )
    )
  return layout.section(
    "Classes",
    None,
    layout.legend(rows),
    layout.panels(panels),
    tables.per_class(stages, classes),
  )


def _class_names(classes: Sequence[str], size: int) -> list[str]:
  """As many names as there are classes, numbers where names are missing."""
  names = [str(c) for c in classes[:size]]
  return names + [str(k) for k in range(len(names), size)]


def _mistake_shares(counts: np.ndarray) -> np.ndarray:
  """Each mistake as a share of its row, 0 on the diagonal."""
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  return shares - np.diag(np.diagonal(shares))


def _mistakes(counts: np.ndarray, names: Sequence[str]) -> str:
  """The three mistakes made most, in words."""
  mistakes = counts - np.diag(np.diagonal(counts))
  rank = np.argsort(-mistakes, axis=None, kind="stable")[:3]
  short = [axes.short(name, 32) for name in names]
  told = [
    f"{short[i]} as {short[j]} ({mistakes[i, j]}×)"
    for i, j in (divmod(int(k), len(counts)) for k in rank)
    if mistakes[i, j]
  ]
  if not told:
    return "It made no mistake."
  total = int(mistakes.sum())
  share = words.percent(total / max(int(counts.sum()), 1))
  noun = "mistake" if total == 1 else "mistakes"
  return f"{total:,} {noun} ({share} %), most often " + ", ".join(told) + "."


def _float(value: object) -> float:
  return float(value) if words.finite(value) else float("nan")
