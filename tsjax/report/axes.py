"""Axes of a small SVG chart: scale, ticks, and what is drawn along them."""

from collections.abc import Iterable
import dataclasses
import math

import numpy as np

from tsjax.report import markup

_tag = markup.tag
_STEPS = (1, 2, 5)


@dataclasses.dataclass(frozen=True)
class Axis:
  """Maps values from `low` to `high` onto pixels from `start` to `stop`."""

  low: float
  high: float
  start: float
  stop: float
  log: bool = False

  def __call__(self, value: float) -> float:
    low, high = self.low, self.high
    if self.log:
      low, high, value = math.log(low), math.log(high), math.log(value)
    share = (value - low) / (high - low)
    return float(self.start + share * (self.stop - self.start))

  def ticks(self, count: int = 5) -> list[float]:
    """Round values within the axis, from `count` - 1 to twice as many."""
    if self.log:
      ticks = [
        factor * 10.0**power
        for power in range(
          math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1
        )
        for factor in (1, 2, 5)
        if self.low <= factor * 10.0**power <= self.high
      ]
      decades = [t for t in ticks if f"{t:e}".startswith("1.0")]
      return decades if len(decades) > 2 else ticks
    raw = (self.high - self.low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = max(m for m in _STEPS if m * power <= raw * 1.001) * power
    first = math.ceil(self.low / step - 1e-9)
    last = math.floor(self.high / step + 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(k * step, digits) for k in range(first, last + 1)]


def over(
  values: Iterable[float],
  start: float,
  stop: float,
  *,
  within: tuple[float, float] | None = None,
  log: bool = False,
  margin: float = 0.05,
) -> Axis:
  """An axis over all finite values, a little wider than they are.

  Args:
    values: what the axis must hold; values that are not finite are left out.
    start: the pixel of the lowest.
    stop: the pixel of the highest.
    within: limits that the axis never exceeds, unless a value does.
    log: a logarithmic axis, where all values are positive and span a factor
      of 30; linear otherwise.
    margin: how much wider, as a share of the span.
  """
  kept = np.asarray([v for v in values if np.isfinite(v)], np.float64)
  if not kept.size:
    return Axis(0.0, 1.0, start, stop)
  low, high = float(kept.min()), float(kept.max())
  if log and low > 0 and high > 30 * low:
    wider = (high / low) ** margin
    return Axis(low / wider, high * wider, start, stop, log=True)
  # Flat data still needs a span, one that rounding cannot make 0.
  span = high - low
  flat = span <= 1e-12 * max(abs(low), abs(high))
  pad = (abs(high) * 0.05 or 0.5) if flat else span * margin
  a, b = low - pad, high + pad
  if within:
    a = max(a, min(within[0], low))
    b = min(b, max(within[1], high))
  return Axis(a, b, start, stop)


def tick_label(value: float) -> str:
  """20000 as "20k", 0.15 as "0.15"."""
  if abs(value) >= 1e15:
    return f"{value:.0e}"
  for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
    if abs(value) >= unit and (unit > 1e3 or abs(value) >= 1e4):
      return f"{value / unit:g}{name}"
  return f"{value:g}".replace("-", "−")


def label(
  x: float, y: float, value: object, anchor: str = "start", **attributes: object
) -> markup.Markup:
  """A piece of text; `anchor` is "start", "middle" or "end"."""
  anchor = None if anchor == "start" else anchor
  return _tag(
    "text",
    value,
    x=float(x),
    y=float(y),
    text_anchor=anchor,
    **attributes,
  )


def short(name: object, length: int) -> str:
  """A name of at most `length` letters, its middle left out.

  Names of one family often differ at their ends only.
  """
  name = str(name)
  if len(name) <= length:
    return name
  tail = (length - 1) // 3
  return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def draw_left(
  axis: Axis, left: float, right: float, title: str
) -> list[markup.Markup]:
  """Grid lines with their values at the left, the title above them."""
  parts = [label(0, 11, title, class_="axis")]
  for value in axis.ticks(4):
    y = axis(value)
    parts.append(_tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
    parts.append(label(left - 6, y + 4, tick_label(value), "end"))
  return parts


def draw_bottom(
  axis: Axis, bottom: float, title: str, top: float | None = None
) -> list[markup.Markup]:
  """Values below the chart and the title below these.

  Args:
    axis: the axis along x.
    bottom: the pixel of the chart's lower edge.
    title: what the axis shows.
    top: where grid lines start; None draws short ticks instead.
  """
  parts = []
  for value in axis.ticks(4):
    x = axis(value)
    y1, kind = (bottom, "tick") if top is None else (top, "grid")
    y2 = bottom + 4 if top is None else bottom
    parts.append(_tag("line", x1=x, x2=x, y1=y1, y2=y2, class_=kind))
    parts.append(label(x, bottom + 17, tick_label(value), "middle"))
  middle = (axis.start + axis.stop) / 2
  parts.append(label(middle, bottom + 35, title, "middle", class_="axis"))
  return parts


def draw(
  width: float, height: float, title: str, *parts: object
) -> markup.Markup:
  """The whole chart, one pixel a unit at its natural width."""
  return _tag(
    "svg",
    *parts,
    viewBox=f"0 0 {width:g} {height:g}",
    width=f"{width:g}",
    role="img",
    aria_label=title,
  )
