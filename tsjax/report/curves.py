"""The page's sections of curves: learning, and the line from start to end."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tsjax.report import figures, layout, markup, words

_tag = markup.tag
Stages = Mapping[str, Any]


def learning(stages: Stages) -> list[markup.Markup]:
  """Validation scores of all stages together, training losses apart."""
  panels = []
  metric = _validation_metric(stages)
  if metric:
    share = metric in words.SHARES
    series = _series(stages, "validation", metric, 100 if share else 1)
    panels.append(
      layout.figure(
        f"Validation {words.title(metric)}",
        figures.lines(
          series,
          x_title="step",
          y_title=words.column(metric),
          within=(0, 100) if share else None,
          named=True,
        ),
        "On examples that no stage trains on. See who learns faster, who ends"
        + (
          " lower, and whether a curve was still falling when it ended."
          if words.lower(stages, metric)
          else " higher, and whether a curve was still rising when it ended."
        ),
      )
    )
  for series in _series(stages, "train", "loss"):
    panels.append(
      layout.figure(
        ["Training loss of ", _tag("code", series.name)],
        figures.lines(
          [series], x_title="step", y_title="training loss", log=True
        ),
        _descent(series),
      )
    )
  if not panels:
    return []
  return layout.section(
    "Learning curves",
    "Thin lines are single seeds, thick ones their mean."
    " Each stage minimizes its own objective, so compare a training loss with"
    " its own past, not with that of another stage.",
    layout.panels(panels),
  )


def line(stages: Stages, loss: str = "loss") -> list[markup.Markup]:
  """The loss along the straight line from start to end of training.

  Args:
    stages: of results.json.
    loss: the metric that is the task's loss.
  """
  panels = []
  for k, (name, stage) in enumerate(stages.items()):
    found = stage.get("line") or {}
    alpha, losses = found.get("alpha") or (), found.get("loss") or ()
    if alpha and losses:
      series = figures.Curves(
        name, k, [figures.thin(alpha, loss) for loss in losses]
      )
      panels.append(
        layout.figure(
          ["The line of ", _tag("code", name)],
          figures.lines(
            [series],
            x_title="alpha (0: end of training, −1: start)",
            y_title=words.title(loss),
            log=True,
          ),
          _barrier(series),
        )
      )
  if not panels:
    return []
  return layout.section(
    "From start to end in a straight line",
    "The loss of models whose weights are mixed from those before and after"
    " training. A smooth descent to a wide valley at 0 is easy ground; a hump"
    " between start and end is a barrier that training went around. Thin lines"
    " are single seeds, thick ones their mean.",
    layout.panels(panels),
  )


def _series(
  stages: Stages, kind: str, metric: str, scale: float = 1
) -> list[figures.Curves]:
  result = []
  for k, (name, stage) in enumerate(stages.items()):
    runs = []
    for run in stage.get("curves") or ():
      found = run.get(kind) or {}
      if found.get("step") and found.get(metric):
        x, y = figures.thin(found["step"], found[metric])
        runs.append((x, scale * y))
    if runs:
      result.append(figures.Curves(name, k, runs))
  return result


def _validation_metric(stages: Stages) -> str | None:
  """The metric that chose, else F1 or accuracy, else what came first."""
  found = [
    metric
    for stage in stages.values()
    for run in stage.get("curves") or ()
    for metric in run.get("validation") or ()
    if metric != "step"
  ]
  chosen = [stage.get("score") for stage in stages.values()]
  preferred = [m for m in (*chosen, *words.SCORES) if m in found]
  return next(iter(preferred + found), None)


def _descent(series: figures.Curves) -> str:
  """Where a stage's training loss started, ended and was lowest, in words."""
  x, y = figures.mean_curve(series.runs)
  known = np.flatnonzero(np.isfinite(y))
  if not len(known):
    return "No value is finite."
  low = known[np.argmin(y[known])]
  mean = " in the mean over seeds" if len(series.runs) > 1 else ""
  text = f"From {y[known[0]]:.3g} to {y[known[-1]]:.3g}{mean}"
  if low != known[-1]:
    text += f", lowest at step {words.whole(float(x[low]))} with {y[low]:.3g}"
  return text + "."


def _barrier(series: figures.Curves) -> str:
  """How far the line rises above its ends, in words."""
  heights = []
  for x, y in series.runs:
    inside = (x >= -1) & (x <= 0) & np.isfinite(y)
    if inside.sum() < 3:
      continue
    x, y = x[inside], y[inside]
    heights.append(max(0.0, y.max() - max(y[x.argmin()], y[x.argmax()])))
  if not heights:
    return "The line has too few points to tell of a barrier."
  if max(heights) == 0:
    return "No seed has a barrier: the loss never exceeds that at the ends."
  count = sum(h > 0 for h in heights)
  return (
    f"The loss rises above both ends on {count} of {len(heights)} seeds, by"
    f" {max(heights):.3g} at most."
  )
