"""The page's section of what a model costs beside what it reaches."""

from collections.abc import Callable, Mapping
from typing import Any

from tsjax.report import figures, layout, markup, scatter, words

_tag = markup.tag
Stages = Mapping[str, Any]


def section(stages: Stages, device: str | None) -> list[markup.Markup]:
  """The score over latency and over size, a mark for each stage."""
  where = words.score(stages, stages)
  if not where:
    return []
  split, metric = where
  kinds: tuple[tuple[str, str, Callable[[Any], Any], Callable], ...] = (
    (
      "Latency",
      "ms for one example",
      lambda stage: _milliseconds(stage, "median"),
      lambda stage: _milliseconds(stage, "p95"),
    ),
    (
      "Size",
      "parameters",
      lambda stage: (stage.get("model") or {}).get("parameters"),
      lambda stage: None,
    ),
  )
  panels = []
  for title, x_title, cost, tail in kinds:
    points = _points(stages, split, metric, cost, tail)
    if len({p.x for p in points}) < 2:
      # All stages train models of one size: there is nothing to weigh up.
      continue
    panels.append(
      layout.figure(
        f"{title} and {words.title(metric)}",
        scatter.stages(
          points,
          x_title=x_title,
          y_title=words.column(metric),
          within=(0, 100) if metric in words.SHARES else None,
        ),
        _caption(points, title == "Latency", device, stages, metric),
      )
    )
  if not panels:
    return []
  rows = [
    figures.Values(name, k, ())
    for k, name in enumerate(stages)
    if len(stages) > scatter.NAMED
  ]
  return layout.section(
    "What it costs",
    None,
    layout.legend(rows) if rows else "",
    _tag("div", panels, class_="grid"),
  )


def _points(
  stages: Stages, split: str, metric: str, cost: Callable, tail: Callable
) -> list[scatter.Point]:
  scale = 100 if metric in words.SHARES else 1
  points = []
  for k, (name, stage) in enumerate(stages.items()):
    found, x = stage[split][metric], cost(stage)
    if not words.finite(x) or x <= 0:
      continue
    spread = found.get("std")
    points.append(
      scatter.Point(
        name,
        k,
        x,
        scale * found["mean"],
        tail(stage),
        scale * spread if words.finite(spread) else None,
      )
    )
  return points


def _milliseconds(stage: Mapping[str, Any], field: str) -> float | None:
  seconds = ((stage.get("speed") or {}).get("latency") or {}).get(field)
  return 1e3 * seconds if words.finite(seconds) else None


def _caption(
  points: list[scatter.Point],
  latency: bool,
  device: str | None,
  stages: Stages,
  metric: str,
) -> str:
  """Where to look, and in the case of times, on what machine they are from."""
  low, high = (f(points, key=lambda p: p.x) for f in (min, max))
  # Seldom the same number twice, so "times" need no more than two digits.
  ratio = f"{high.x / low.x:,.2g}" if high.x < 100 * low.x else ">100"
  best = "lower" if words.lower(stages, metric) else "upper"
  if not latency:
    return (
      f"The best place is {best} left: small and good. Across, the largest"
      f" model has {ratio} times the parameters of the smallest; upright lines"
      " are the standard deviation over seeds."
    )
  on = f" ({device}):" if device else ""
  return (
    f"The best place is {best} left: fast and good. The mark is the median of"
    " a batch of one, its line reaches to the 95th percentile; the slowest"
    f" takes {ratio} times as long as the fastest. Measured once for each model"
    f" on the machine that evaluated{on or ':'} another one has other times."
  )
