"""The page's section of reliability: how often a model is right when sure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tsjax.report import axes, figures, layout, markup, words

_tag = markup.tag
Stages = Mapping[str, Any]
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, figures.WIDTH - 12, 22, 190
# The strip of counts below the diagram.
_STRIP = 46


def section(stages: Stages, seeds: int) -> list[markup.Markup]:
  """A diagram for each stage that has one."""
  panels = []
  for k, (name, stage) in enumerate(stages.items()):
    bins = _bins(stage)
    if bins is not None:
      panels.append(
        layout.figure(_tag("code", name), _diagram(k, *bins), _caption(*bins))
      )
  if not panels:
    return []
  pooled = f", those of {seeds} seeds together" if seeds > 1 else ""
  return layout.section(
    "Reliability",
    f"Test examples{pooled}, sorted by how sure the model is of what it says,"
    " and how often it is then right. On the diagonal it is as often right as"
    " it is sure; a mark below it claims too much, one above it too little."
    " The numbers at the foot are the examples behind each mark; few say"
    " little.",
    layout.panels(panels),
  )


def _bins(
  stage: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
  """(count, confidence, accuracy) by bin, or None where there is none."""
  found = stage.get("reliability") or {}
  columns = [found.get(key) for key in ("count", "confidence", "accuracy")]
  if not all(columns) or len({len(c) for c in columns}) > 1:
    return None
  count, confidence, accuracy = (
    np.array([v if words.finite(v) else 0 for v in c], np.float64)
    for c in columns
  )
  return (count, confidence, accuracy) if count.sum() else None


def _diagram(
  stage: int, count: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray
) -> markup.Markup:
  x_axis = axes.Axis(0, 100, _LEFT, _RIGHT)
  y_axis = axes.Axis(0, 100, _BOTTOM, _TOP)
  foot = _BOTTOM + 8 + _STRIP
  parts = axes.draw_left(y_axis, _LEFT, _RIGHT, "right, %")
  parts += axes.draw_bottom(x_axis, foot, "sure, %")
  parts.append(
    _tag(
      "line",
      x1=x_axis(0),
      x2=x_axis(100),
      y1=y_axis(0),
      y2=y_axis(100),
      class_="zero",
    )
  )
  colour, width = figures.colour(stage), (_RIGHT - _LEFT) / len(count)
  for b in np.flatnonzero(count):
    x, y = x_axis(100 * confidence[b]), y_axis(100 * accuracy[b])
    honest = y_axis(100 * confidence[b])
    parts.append(
      _tag("line", x1=x, x2=x, y1=honest, y2=y, class_=f"seed {colour}")
    )
    told = (
      f"{words.whole(count[b])} examples: sure {words.percent(confidence[b])} %"
      f", right {words.percent(accuracy[b])} %"
    )
    parts.append(figures.mark(stage, x, y, 4.5, told))
    left = _LEFT + b * width
    height = max(1.0, _STRIP * float(count[b] / count.max()))
    parts.append(
      _tag(
        "rect",
        x=left,
        y=foot - height,
        width=width - 1,
        height=height,
        class_=f"bar pale {colour}",
      )
    )
    turn = f"translate({left + width / 2 + 3.5:.1f} {foot - 3:.1f}) rotate(-90)"
    parts.append(
      axes.label(0, 0, _brief(count[b]), class_="ink count", transform=turn)
    )
  return axes.draw(
    figures.WIDTH, foot + 42, "How often it is right over how sure", *parts
  )


def _brief(count: float) -> str:
  """12345 as "12k": what fits the strip."""
  return axes.tick_label(round(count, -3) if count >= 1e4 else count)


def _caption(
  count: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray
) -> str:
  share = count / count.sum()
  sure, right = float(share @ confidence), float(share @ accuracy)
  gap = sure - right
  error = float(share @ np.abs(confidence - accuracy))
  told = f"On average {words.percent(sure)} % sure and {words.percent(right)} %"
  if words.percent(abs(gap)) == words.percent(0):
    told += " right"
  else:
    told += (
      f" right: it claims {words.percent(abs(gap))} points too"
      f" {'much' if gap > 0 else 'little'}"
    )
  return (
    f"{told}. The marks are {words.percent(error)} points off the diagonal, in"
    " the mean over examples."
  )
