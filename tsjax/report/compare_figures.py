"""Figures of several runs: scores and differences with their intervals."""

from collections.abc import Sequence
import dataclasses
import math

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


@dataclasses.dataclass(frozen=True)
class Series:
  """Marks along x, joined by a line: (x, mark) in the order of x."""

  name: str
  number: int
  points: Sequence[tuple[float, Mark]]


def along(
  series: Sequence[Series],
  *,
  x_title: str,
  y_title: str,
  ticks: Sequence[tuple[float, str]],
  log: bool = False,
  within: tuple[float, float] | None = None,
  levels: Sequence[Mark] = (),
  zero: bool = False,
) -> markup.Markup:
  """Marks with upright intervals over x.

  Args:
    series: one for each method.
    x_title: what x shows.
    y_title: what y shows.
    ticks: the values of x that are named, with their names.
    log: whether x is logarithmic; all of x is above 0 then.
    within: limits of y, unless a value exceeds them.
    levels: what has no x, a dashed line each, named at its end.
    zero: whether to draw the line of no difference.
  """
  left, right, top, bottom = 44, figures.WIDTH - 14, 22, 262
  xs = [x for s in series for x, _ in s.points]
  x_axis = _padded(xs, left + 12, right - 12, log)
  y_axis = axes.over(
    [
      v
      for m in (*(m for s in series for _, m in s.points), *levels)
      for v in (m.value, m.low, m.high)
      if words.finite(v)
    ]
    + ([0.0] if zero else []),
    bottom,
    top,
    within=within,
    margin=0.06,
  )
  parts = axes.draw_left(y_axis, left, right, y_title)
  taken = -math.inf
  for value, name in ticks:
    x, half = x_axis(value), 3.4 * len(name)
    parts.append(
      _tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="tick")
    )
    if x - half > taken:
      parts.append(axes.label(x, bottom + 17, name, "middle"))
      taken = x + half + 4
  middle = (left + right) / 2
  parts.append(
    axes.label(middle, bottom + 35, x_title, "middle", class_="axis")
  )
  if zero:
    y = y_axis(0)
    parts.append(_tag("line", x1=left, x2=right, y1=y, y2=y, class_="zero"))
  for m in levels:
    if words.finite(m.value):
      y = y_axis(m.value)
      parts.append(
        _tag(
          "line",
          x1=left,
          x2=right,
          y1=y,
          y2=y,
          stroke_dasharray="6 4",
          class_=f"thin {figures.colour(m.number)}",
          style="opacity:.9",
        )
      )
  # Beside each other, or the bars of one x would hide one another.
  gap = min(4.0, 20 / max(len(series), 1))
  for k, s in enumerate(series):
    shift = gap * (k - (len(series) - 1) / 2)
    parts += _joined(s, x_axis, y_axis, shift)
  return axes.draw(
    figures.WIDTH, bottom + 42, f"{y_title} over {x_title}", *parts
  )


def _padded(
  values: Sequence[float], start: float, stop: float, log: bool
) -> axes.Axis:
  """An axis whose ends are the ends of the values."""
  low, high = min(values), max(values)
  if low == high:
    low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
  return axes.Axis(low, high, start, stop, log=log)


def _joined(
  s: Series, x_axis: axes.Axis, y_axis: axes.Axis, shift: float
) -> list[markup.Markup]:
  known = [(x_axis(x) + shift, m) for x, m in s.points if words.finite(m.value)]
  class_ = figures.colour(s.number)
  path = "L".join(f"{x:.1f} {y_axis(m.value):.1f}" for x, m in known)
  parts = []
  if path:
    style = "opacity:.75;stroke-width:1.4"
    parts.append(
      _tag("path", d=f"M{path}", class_=f"thin {class_}", style=style)
    )
  for x, m in known:
    if words.finite(m.low) and words.finite(m.high):
      a, b = y_axis(m.low), y_axis(m.high)
      parts.append(
        _tag(
          "line",
          x1=x,
          x2=x,
          y1=a,
          y2=b,
          class_=f"thick {class_}",
          style="stroke-width:1.6",
        )
      )
    drawn = figures.mark(s.number, x, y_axis(m.value), 4.0, m.name)
    parts.append(hollow(drawn) if m.hollow else drawn)
  return parts


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
