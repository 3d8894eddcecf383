"""Figures of several runs: scores and differences with their intervals."""

from collections.abc import Sequence
import dataclasses

from tsjax.report import axes, figures, markup, words

_tag = markup.tag
# Beyond these, a figure shows the first and its caption says so.
ROWS = 40
_ROW, _HEAD, _LEFT, _RIGHT = 20, 26, 84, figures.WIDTH - 46


@dataclasses.dataclass(frozen=True)
class Mark:
  """A value with its interval, drawn in the colour of number `number`.

  `hollow` is what cannot be told from chance.
  """

  name: str
  number: int
  value: float | None
  low: float | None = None
  high: float | None = None
  hollow: bool = False


def rows(
  groups: Sequence[tuple[str, Sequence[Mark]]],
  title: str,
  *,
  within: tuple[float, float] | None = None,
  zero: bool = False,
  digits: int = 1,
) -> markup.Markup:
  """A row for each mark, under the name of its group.

  Args:
    groups: (name, marks).
    title: what is measured, with its unit.
    within: limits of the axis, unless a value exceeds them.
    zero: whether to draw the line of no difference, and signs.
    digits: of the numbers at the right.
  """
  shown = [
    v
    for _, marks in groups
    for m in marks
    for v in (m.value, m.low, m.high)
    if words.finite(v)
  ] + ([0.0] if zero else [])
  height = sum(_HEAD + _ROW * len(marks) for _, marks in groups)
  axis = axes.over(shown, _LEFT, _RIGHT, within=within, margin=0.08)
  parts = axes.draw_bottom(axis, height + 4, title, top=0.0)
  if zero:
    x = axis(0)
    parts.append(_tag("line", x1=x, x2=x, y1=0, y2=height + 4, class_="zero"))
  y = 0.0
  for name, marks in groups:
    parts.append(
      _tag("rect", x=0, y=y, width=figures.WIDTH, height=20, class_="plate")
    )
    parts.append(axes.label(2, y + 15, axes.short(name, 44), class_="ink"))
    y += _HEAD
    for m in marks:
      parts += _mark(m, axis, y + _ROW / 2 - 2, zero, digits)
      y += _ROW
  return axes.draw(figures.WIDTH, height + 44, title, *parts)


def bar(
  axis: axes.Axis, y: float, low: float | None, high: float | None, number: int
) -> list[markup.Markup]:
  """An interval along x, with its ends."""
  if not (words.finite(low) and words.finite(high)):
    return []
  a, b = axis(low), axis(high)
  class_ = f"thick {figures.colour(number)}"
  return [
    _tag("line", x1=a, x2=b, y1=y, y2=y, class_=class_),
    *(
      _tag("line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_=class_)
      for x in (a, b)
    ),
  ]


def hollow(drawn: markup.Markup) -> markup.Markup:
  """The same mark as an outline."""
  style = ' style="fill:var(--panel);stroke:var(--c);stroke-width:2"'
  return markup.Markup(drawn.replace(' class="mark', style + ' class="mark', 1))


def _mark(
  m: Mark, axis: axes.Axis, y: float, zero: bool, digits: int
) -> list[markup.Markup]:
  sign = "+" if zero and words.finite(m.value) and m.value > 0 else ""
  number = sign + words.number(m.value, digits)
  parts = [
    axes.label(_LEFT - 8, y + 4, axes.short(m.name, 11), "end"),
    axes.label(figures.WIDTH - 2.0, y + 4, number, "end", class_="ink number"),
    *bar(axis, y, m.low, m.high, m.number),
  ]
  if words.finite(m.value):
    drawn = figures.mark(m.number, axis(m.value), y, 4.5, m.name)
    parts.append(hollow(drawn) if m.hollow else drawn)
  return parts
