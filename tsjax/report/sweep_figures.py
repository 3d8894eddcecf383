"""The figure of a sweep: a line, a map of colours, or dots."""

from collections.abc import Mapping, Sequence
from typing import Any

from tsjax.report import axes, figures, layout, markup, words
from tsjax.report import compare_figures as drawings

_tag = markup.tag
Sweep = Mapping[str, Any]
# Beyond these, the dots of the best are shown and the caption says so.
DOTS = 20


def figure(sweep: Sweep) -> markup.Markup | str:
  """One numeric key makes a line, two keys in full a map, others dots.

  Args:
    sweep: what `loop.sweep.run` returns.
  """
  keys = sweep["keys"]
  ended = [p for p in sweep["points"] if p["validation"]]
  shown = [p["values"] for p in sweep["points"]]
  if len(keys) == 1 and all(_numeric(v.get(keys[0])) for v in shown):
    return _line(sweep, ended, keys[0])
  if len(keys) == 2:
    rows, columns = (_values(shown, key) for key in keys)
    pairs = {_pair(values, keys) for values in shown}
    full = len(pairs) == len(rows) * len(columns) == len(shown)
    if full and min(len(rows), len(columns)) > 1 and len(columns) <= 12:
      return _map(sweep, keys, rows, columns)
  return _dots(sweep, ended)


def _numeric(value: Any) -> bool:
  return words.finite(value) and not isinstance(value, bool)


def _values(shown: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
  """The values of a key: numbers by size, others as they come."""
  found = list({_text(v.get(key)): v.get(key) for v in shown}.values())
  return sorted(found) if all(map(_numeric, found)) else found


def _pair(values: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, str]:
  return _text(values.get(keys[0])), _text(values.get(keys[1]))


def _text(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:g}"
  if isinstance(value, Mapping):
    call = str(value.get("call", value))
    return call.partition("@")[0].rpartition(".")[2]
  if isinstance(value, list | tuple):
    return "+".join(map(_text, value))
  return str(value)


def _capital(title: str) -> str:
  # str.capitalize would make "f1" of "F1".
  return title[:1].upper() + title[1:]


def _scale(sweep: Sweep) -> tuple[int, str, int]:
  """The factor of a score, the axis' title, and its digits."""
  metric = sweep["metric"]
  share = metric in words.SHARES
  title = f"validation {words.title(metric)}{', %' if share else ''}"
  return (100, title, 1) if share else (1, title, 4)


def _mark(
  point: Mapping[str, Any], sweep: Sweep, number: int = 0
) -> drawings.Mark:
  """The mean, and a deviation either way where there are seeds."""
  factor = _scale(sweep)[0]
  found = point["validation"]
  mean, spread = factor * found["mean"], factor * found["std"]
  several = len(found["values"]) > 1
  return drawings.Mark(
    f"{point['name']}: {words.number(mean, 2)}",
    number,
    mean,
    mean - spread if several else None,
    mean + spread if several else None,
    hollow=point["name"] != sweep["chosen"],
  )


def _bars(sweep: Sweep) -> str:
  return (
    " Bars are one standard deviation over seeds, either way."
    if len(sweep["seeds"]) > 1
    else ""
  )


def _better(sweep: Sweep, low: str, high: str) -> str:
  return low if sweep["lower_is_better"] else high


def _line(
  sweep: Sweep, ended: Sequence[Mapping[str, Any]], key: str
) -> markup.Markup:
  found = sorted(
    ((float(p["values"][key]), _mark(p, sweep)) for p in ended),
    key=lambda pair: pair[0],
  )
  xs = [x for x, _ in found]
  # Values that double or more from one to the next are tried by their ratio.
  log = xs[0] > 0 and len(xs) > 2 and xs[-1] >= 4 * xs[0]
  factor, title, _ = _scale(sweep)
  side = _better(sweep, "Farther down", "Farther up")
  return layout.figure(
    _capital(title),
    drawings.along(
      [drawings.Series(key, 0, found)],
      x_title=axes.short(key, 44) + (", log scale" if log else ""),
      y_title=title,
      ticks=[(x, axes.tick_label(x)) for x in xs],
      log=log,
      within=(0, 100) if factor == 100 else None,
    ),
    f"{side} is better; the filled mark is the chosen point.{_bars(sweep)} A"
    " best value at an end of the line asks for values beyond it.",
  )


def _dots(sweep: Sweep, ended: Sequence[Mapping[str, Any]]) -> markup.Markup:
  factor, title, digits = _scale(sweep)
  ranked = sorted(
    ended,
    key=lambda p: p["validation"]["mean"],
    reverse=not sweep["lower_is_better"],
  )
  shown = ranked[:DOTS]
  part = (
    f" Shown are the best {len(shown)} of {len(ranked)} points."
    if len(shown) < len(ranked)
    else ""
  )
  side = _better(sweep, "farther left", "farther right")
  return layout.figure(
    _capital(title),
    drawings.rows(
      [
        (
          p["name"],
          [_unnamed(_mark(p, sweep))],
        )
        for p in shown
      ],
      title,
      within=(0, 100) if factor == 100 else None,
      digits=digits,
    ),
    f"The best first, {side} is better; the filled mark is the chosen"
    f" point.{_bars(sweep)}{part}",
  )


def _unnamed(mark: drawings.Mark) -> drawings.Mark:
  return drawings.Mark(
    "", mark.number, mark.value, mark.low, mark.high, mark.hollow
  )


def _map(
  sweep: Sweep, keys: Sequence[str], rows: Sequence[Any], columns: Sequence[Any]
) -> markup.Markup:
  """A cell for each pair; the chosen one is framed."""
  factor, title, digits = _scale(sweep)
  by_pair = {_pair(p["values"], keys): p for p in sweep["points"]}
  means = [p["validation"]["mean"] for p in sweep["points"] if p["validation"]]
  low, high = min(means), max(means)
  ends = (high, low) if sweep["lower_is_better"] else (low, high)
  weak, strong = (words.number(factor * v, digits) for v in ends)
  names = [axes.short(_text(r), 12) for r in rows]
  left = 14 + 6.9 * max(map(len, names))
  wide, tall, top = (figures.WIDTH - left - 2) / len(columns), 34, 40
  parts = [
    axes.label(0, 12, axes.short(f"{keys[0]} ↓", 56), class_="axis"),
    axes.label(
      figures.WIDTH,
      12 + 15,
      axes.short(f"{keys[1]} →", 44),
      "end",
      class_="axis",
    ),
  ]
  for j, column in enumerate(columns):
    x = left + (j + 0.5) * wide
    letters = max(2, int(wide / 7))
    name = axes.short(_text(column), letters)
    parts.append(axes.label(x, top + 2, name, "middle"))
  for i, row in enumerate(rows):
    y = top + 10 + i * tall
    parts.append(axes.label(left - 8, y + tall / 2 + 4, names[i], "end"))
    for j, column in enumerate(columns):
      point = by_pair[_text(row), _text(column)]
      parts += _cell(
        point, sweep, left + j * wide, y, wide - 2, tall - 2, (low, high)
      )
  height = top + 12 + tall * len(rows)
  side = _better(sweep, "lower", "higher")
  return layout.figure(
    _capital(title),
    axes.draw(figures.WIDTH, height, title, *parts),
    f"The stronger the colour, the {side} the mean over seeds, from {weak} to"
    f" {strong};"
    " the framed cell is the chosen point. A best cell at an edge asks for"
    " values beyond it.",
  )


def _cell(
  point: Mapping[str, Any],
  sweep: Sweep,
  x: float,
  y: float,
  width: float,
  height: float,
  span: tuple[float, float],
) -> list[markup.Markup]:
  factor, _, digits = _scale(sweep)
  found = point["validation"]
  text, strength = "×", 0.0
  if found:
    low, high = span
    share = (found["mean"] - low) / (high - low) if high > low else 1.0
    share = 1 - share if sweep["lower_is_better"] else share
    text, strength = words.number(factor * found["mean"], digits), share
  box = dict(x=x, y=y, width=width, height=height)
  parts = [
    _tag(
      "rect",
      _tag("title", f"{point['name']}: {text}"),
      **box,
      class_="right" if found else "cells",
      fill_opacity=0.06 + 0.56 * strength,
    )
  ]
  if width > 6.5 * len(text):
    parts.append(
      axes.label(
        x + width / 2, y + height / 2 + 4, text, "middle", class_="ink count"
      )
    )
  if point["name"] == sweep["chosen"]:
    style = "fill:none;stroke:var(--ink);stroke-width:2"
    parts.append(_tag("rect", **box, style=style))
  return parts
