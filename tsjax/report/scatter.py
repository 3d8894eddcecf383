"""Figures of points: what a stage costs beside what it reaches, and targets."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from tsjax.report import axes, figures, markup, words

_tag = markup.tag
# More names than these stand in a legend rather than beside their marks.
NAMED = 8
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, figures.WIDTH - 12, 22, 208


@dataclasses.dataclass(frozen=True)
class Point:
  """A stage in two numbers.

  Attributes:
    name: of the stage.
    stage: its number.
    x: what it costs.
    y: what it reaches.
    x_end: how far the cost goes on bad days; None where it has no tail.
    y_spread: the standard deviation of `y`; None where there is none.
  """

  name: str
  stage: int
  x: float
  y: float
  x_end: float | None = None
  y_spread: float | None = None


def stages(
  points: Sequence[Point],
  *,
  x_title: str,
  y_title: str,
  within: tuple[float, float] | None = None,
) -> markup.Markup:
  """A mark for each stage, with its name where there are few.

  Args:
    points: at least one.
    x_title: what x shows; its axis is logarithmic where values span much.
    y_title: what y shows.
    within: limits of y.
  """
  ends = [p.x_end for p in points if words.finite(p.x_end)]
  x_axis = axes.over(
    [*(p.x for p in points), *ends], _LEFT, _RIGHT, log=True, margin=0.1
  )
  spreads = [(p.y, p.y_spread or 0.0) for p in points]
  y_axis = axes.over(
    [y + sign * s for y, s in spreads for sign in (-1, 1)],
    _BOTTOM,
    _TOP,
    within=within,
    margin=0.1,
  )
  x_title += ", log scale" if x_axis.log else ""
  parts = axes.draw_left(y_axis, _LEFT, _RIGHT, y_title)
  parts += axes.draw_bottom(x_axis, _BOTTOM, x_title)
  for p in points:
    x, y = x_axis(p.x), y_axis(p.y)
    class_ = f"seed {figures.colour(p.stage)}"
    if words.finite(p.x_end):
      parts.append(
        _tag("line", x1=x, x2=x_axis(p.x_end), y1=y, y2=y, class_=class_)
      )
    if p.y_spread:
      low, high = (
        min(max(y_axis(p.y + sign * p.y_spread), _TOP), _BOTTOM)
        for sign in (-1, 1)
      )
      parts.append(_tag("line", x1=x, x2=x, y1=low, y2=high, class_=class_))
  for p in points:
    parts.append(figures.mark(p.stage, x_axis(p.x), y_axis(p.y), 5.5, p.name))
  if len(points) <= NAMED:
    parts += _names(points, x_axis, y_axis)
  return axes.draw(
    figures.WIDTH, _BOTTOM + 42, f"{y_title} over {x_title}", *parts
  )


def targets(
  target: Sequence[float], prediction: Sequence[float], stage: int
) -> markup.Markup:
  """Predictions over their targets, with the line where both are equal.

  Args:
    target: true values.
    prediction: as many.
    stage: its number.
  """
  both = [*target, *prediction]
  x_axis = axes.over(both, _LEFT, _RIGHT)
  y_axis = axes.over(both, _BOTTOM, _TOP)
  parts = axes.draw_left(y_axis, _LEFT, _RIGHT, "prediction")
  parts += axes.draw_bottom(x_axis, _BOTTOM, "target")
  ends = x_axis.low, x_axis.high
  parts.append(
    _tag(
      "line",
      x1=x_axis(ends[0]),
      x2=x_axis(ends[1]),
      y1=y_axis(ends[0]),
      y2=y_axis(ends[1]),
      class_="zero",
    )
  )
  parts += [
    _tag(
      "circle",
      cx=x_axis(x),
      cy=y_axis(y),
      r=2.5,
      class_=f"dot {figures.colour(stage)}",
    )
    for x, y in zip(target, prediction, strict=True)
    if np.isfinite(x) and np.isfinite(y)
  ]
  return axes.draw(
    figures.WIDTH, _BOTTOM + 42, "Predictions over targets", *parts
  )


def _names(
  points: Sequence[Point], x_axis: axes.Axis, y_axis: axes.Axis
) -> list[markup.Markup]:
  """Names beside their marks, where they cover no mark and no other name."""
  marks = [(x_axis(p.x), y_axis(p.y)) for p in points]
  taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
  parts = []
  for p, (x, y) in zip(points, marks, strict=True):
    name = axes.short(p.name, 18)
    wide = 6.6 * len(name)
    places = [
      (left, y + down)
      for down in (-7.0, 16.0, -20.0, 29.0)
      for left in (x + 6, x - 6 - wide)
      if left >= _LEFT and left + wide <= figures.WIDTH
    ]
    places = [b for b in places if _TOP - 8 <= b[1] <= _BOTTOM - 2] or places
    boxes = [(x0, y0 - 10, x0 + wide, y0 + 2) for x0, y0 in places]
    free = [b for b in boxes if not any(_overlap(b, t) for t in taken)]
    x0, _, _, y1 = (free or boxes or [(_LEFT, y - 10, _LEFT + wide, y + 2)])[0]
    taken.append((x0, y1 - 12, x0 + wide, y1))
    # Not above the lines of spread and tail, but readable across them.
    parts.append(axes.label(x0, y1 - 2, name, class_="ink halo"))
  return parts


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
