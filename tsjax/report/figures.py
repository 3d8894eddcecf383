"""The page's figures as SVG, in the colours of its style sheet.

Stage number k is drawn in class `s{k % COLOURS}` everywhere, with a mark of
its own shape, so that nothing hangs on colour alone.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from tsjax.report import axes, markup, words

COLOURS = 6
WIDTH = 360
# Beyond these, a figure shows the part that matters most and says so.
ROWS = 24
# More stages than these share the width with their names.
ROOMY = 12
POINTS = 240

_tag = markup.tag


@dataclasses.dataclass(frozen=True)
class Curves:
  """One stage's curves: (x, y) for each seed, as `thin` makes them."""

  name: str
  stage: int
  runs: Sequence[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Values:
  """One stage's values: per seed for `scores`, per class for `by_class`."""

  name: str
  stage: int
  values: Sequence[float]
  mean: float | None = None


def colour(stage: int) -> str:
  """The class that colours stage number `stage`."""
  return f"s{stage % COLOURS}"


def mark(
  stage: int, x: float, y: float, r: float = 4.5, title: str = ""
) -> markup.Markup:
  """A stage's mark: disc, diamond, square, triangle, cross or bar."""
  r = float(r)
  shapes = (
    None,
    ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    ((-1.15, -0.9), (1.15, -0.9), (0, 1.2)),
    ((-0.45, -1.25), (0.45, -1.25), (0.45, 1.25), (-0.45, 1.25)),
  )
  # One further at each turn of the colours, so that no pair comes twice.
  shape = shapes[(stage + stage // COLOURS) % len(shapes)]
  inner = _tag("title", title) if title else ""
  class_ = f"mark {colour(stage)}"
  if shape is None:
    return _tag("circle", inner, cx=float(x), cy=float(y), r=r, class_=class_)
  points = " ".join(f"{x + a * r:.1f},{y + b * r:.1f}" for a, b in shape)
  return _tag("polygon", inner, points=points, class_=class_)


def scores(
  rows: Sequence[Values], metric: str, where: str = ""
) -> markup.Markup:
  """A row for each stage: its seeds as ticks, their mean as a mark.

  Args:
    rows: values per seed.
    metric: whose values they are.
    where: what else the axis says, such as " on test".
  """
  roomy = len(rows) <= ROOMY
  row, up = (42, 29.0) if roomy else (21, 11.0)
  top, left, right = 4, 14 if roomy else 130, WIDTH - (14 if roomy else 50)
  bottom = top + row * len(rows) + 4
  scale = 100 if metric in words.SHARES else 1
  shown = [v for r in rows for v in (*r.values, r.mean) if words.finite(v)]
  axis = axes.over(
    [scale * v for v in shown],
    left,
    right,
    within=(0, 100) if scale == 100 else None,
    margin=0.12,
  )
  parts = axes.draw_bottom(
    axis, bottom, words.column(metric) + where, top=float(top)
  )
  for k, values in enumerate(rows):
    y = top + row * k + up
    text_y = y - 14 if roomy else y + 4
    if roomy:
      # A plate keeps the grid from crossing the words.
      parts.append(
        _tag("rect", x=0, y=text_y - 12, width=WIDTH, height=17, class_="plate")
      )
    name = axes.short(values.name, 30 if roomy else 18)
    mean = words.measured(values.mean, metric)
    parts.append(axes.label(2, text_y, name, class_="ink"))
    parts.append(
      axes.label(WIDTH - 2.0, text_y, mean, "end", class_="ink number")
    )
    parts.append(
      _tag("line", x1=left, x2=right, y1=y, y2=y, class_="tick faint")
    )
    for value in values.values:
      if words.finite(value):
        x = axis(scale * value)
        parts.append(
          _tag(
            "line",
            x1=x,
            x2=x,
            y1=y - 7,
            y2=y + 7,
            class_=f"seed {colour(values.stage)}",
          )
        )
    if words.finite(values.mean):
      x = axis(scale * values.mean)
      parts.append(mark(values.stage, x, y, 5.5, f"{values.name}: {mean}"))
  return axes.draw(
    WIDTH, bottom + 40, f"{words.title(metric)} by stage", *parts
  )


def lines(
  series: Sequence[Curves],
  *,
  x_title: str,
  y_title: str,
  within: tuple[float, float] | None = None,
  log: bool = False,
  named: bool = False,
) -> markup.Markup:
  """Curves: each seed a thin line, the mean over seeds a thick one.

  Args:
    series: one for each stage.
    x_title: what x shows.
    y_title: what y shows.
    within: limits of y.
    log: whether y may be logarithmic.
    named: whether each curve has its stage's name at its end.
  """
  left, right = 44, WIDTH - (96 if named else 14)
  # The names at the ends of many curves need their lines.
  top, bottom = 22, max(208, 22 + 14 * len(series) if named else 0)
  x_axis = axes.over(
    [v for s in series for x, _ in s.runs for v in x], left, right, margin=0.0
  )
  y_axis = axes.over(
    [v for s in series for _, y in s.runs for v in y],
    bottom,
    top,
    within=within,
    log=log,
  )
  y_title += ", log scale" if y_axis.log else ""
  parts = axes.draw_left(y_axis, left, right, y_title)
  parts += axes.draw_bottom(x_axis, bottom, x_title)
  means = [(s, mean_curve(s.runs)) for s in series]
  for s in series:
    if len(s.runs) > 1:
      parts += [
        _line(x_axis, y_axis, *run, f"thin {colour(s.stage)}") for run in s.runs
      ]
  for s, run in means:
    parts.append(_line(x_axis, y_axis, *run, f"thick {colour(s.stage)}"))
  if not any(np.isfinite(y).any() for _, (_, y) in means):
    parts.append(axes.label(left + 12, 110, "no value is finite"))
  if named:
    parts += _end_labels(means, x_axis, y_axis, right)
  return axes.draw(WIDTH, bottom + 42, f"{y_title} over {x_title}", *parts)


def by_class(
  rows: Sequence[Values], classes: Sequence[str], metric: str
) -> markup.Markup:
  """A row for each class, each stage's value a mark along it, in percent."""
  row, top = 22, 6
  left, right = 16 + 6.9 * max(len(axes.short(c, 14)) for c in classes), 342
  bottom = top + row * len(classes)
  axis = axes.over(
    [100 * v for r in rows for v in r.values if words.finite(v)],
    left,
    right,
    within=(0, 100),
  )
  parts = axes.draw_bottom(axis, bottom, f"{metric}, %", top=float(top))
  for k, name in enumerate(classes):
    y = top + (k + 0.5) * row
    parts.append(axes.label(left - 8, y + 4, axes.short(name, 14), "end"))
    found = [
      (r, axis(100 * r.values[k])) for r in rows if words.finite(r.values[k])
    ]
    if found:
      ends = [x for _, x in found]
      parts.append(
        _tag("line", x1=min(ends), x2=max(ends), y1=y, y2=y, class_="span")
      )
    parts += [
      mark(r.stage, x, y, 4.5, f"{r.name}: {words.percent(r.values[k])} %")
      for r, x in found
    ]
  return axes.draw(WIDTH, bottom + 40, f"{metric} by class", *parts)


def differences(
  values: Sequence[float],
  classes: Sequence[str],
  *,
  title: str,
  stages: tuple[int, int],
) -> markup.Markup:
  """A bar for each class, in percent, in the colour of the better stage.

  Args:
    values: how much better the first stage is, by class.
    classes: names, as many.
    title: what is measured.
    stages: the numbers of the two stages.
  """
  row, top = 22, 6
  left, right = 16 + 6.9 * max(len(axes.short(c, 14)) for c in classes), 342
  bottom = top + row * len(classes)
  points = [100 * v for v in values]
  axis = axes.over([0, *points], left, right)
  parts = axes.draw_bottom(axis, bottom, title, top=float(top))
  zero = axis(0)
  for k, (name, value) in enumerate(zip(classes, points, strict=True)):
    y, x = top + k * row, axis(value)
    parts.append(axes.label(left - 8, y + 15, axes.short(name, 14), "end"))
    parts.append(
      _tag(
        "rect",
        _tag("title", f"{name}: {value:+.1f}"),
        x=min(x, zero),
        y=y + 4.0,
        width=abs(x - zero),
        height=row - 8,
        class_=f"bar {colour(stages[value <= 0])}",
      )
    )
  parts.append(_tag("line", x1=zero, x2=zero, y1=top, y2=bottom, class_="zero"))
  return axes.draw(WIDTH, bottom + 40, title, *parts)


def thin(
  x: Sequence[float], y: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
  """A curve of at most `POINTS` points, each the mean of its stretch.

  What is missing (None) becomes NaN, which no line is drawn through.
  """
  size = min(len(x), len(y))
  x, y = (
    np.asarray([np.nan if v is None else v for v in values[:size]], np.float64)
    for values in (x, y)
  )
  if size <= POINTS:
    return x, y
  parts = np.array_split(np.arange(size), POINTS)
  # The last point stays what it is: the text quotes it.
  x = np.array([x[p].mean() for p in parts[:-1]] + [x[-1]])
  y = np.array([y[p].mean() for p in parts[:-1]] + [y[-1]])
  return x, y


def mean_curve(
  runs: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
  """The mean over seeds, at the first one's x as far as all of them reach."""
  runs = [(x, y) for x, y in runs if len(x)]
  if not runs:
    return np.zeros(0), np.zeros(0)
  low = max(np.nanmin(x) for x, _ in runs)
  high = min(np.nanmax(x) for x, _ in runs)
  first = runs[0][0]
  grid = first[(first >= low) & (first <= high)]
  ordered = [(x[np.argsort(x)], y[np.argsort(x)]) for x, y in runs]
  return grid, np.mean([np.interp(grid, x, y) for x, y in ordered], axis=0)


def _line(x_axis, y_axis, x, y, class_: str) -> markup.Markup:
  """A line through the finite points, with a gap at every other one."""
  path, pen = [], "M"
  for a, b in zip(x, y, strict=True):
    if not (np.isfinite(a) and np.isfinite(b)):
      pen = "M"
      continue
    path.append(f"{pen}{x_axis(a):.1f} {y_axis(b):.1f}")
    pen = "L"
  return _tag("path", d="".join(path), class_=class_)


def _end_labels(means, x_axis, y_axis, right) -> list[markup.Markup]:
  """Names at the ends of curves, moved apart where they would overlap."""
  ends = []
  for s, (x, y) in means:
    known = np.flatnonzero(np.isfinite(y))
    if len(known):
      at = known[-1]
      ends.append([y_axis(y[at]), x_axis(x[at]), y_axis(y[at]), s])
  ends.sort(key=lambda end: end[0])
  gap = 14
  for k in range(1, len(ends)):
    ends[k][0] = max(ends[k][0], ends[k - 1][0] + gap)
  for k in reversed(range(len(ends))):
    limit = ends[k + 1][0] - gap if k + 1 < len(ends) else y_axis.start
    ends[k][0] = min(ends[k][0], limit)
  parts = []
  for y, x, true_y, s in ends:
    parts.append(mark(s.stage, x, true_y, 3.5))
    parts.append(
      axes.label(right + 9, y + 4, axes.short(s.name, 11), class_="ink")
    )
  return parts
