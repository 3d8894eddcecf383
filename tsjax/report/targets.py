"""The page's section of targets that are numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tsjax.report import layout, markup, scatter, words

_tag = markup.tag
Stages = Mapping[str, Any]


def section(stages: Stages) -> list[markup.Markup]:
  """Predictions over targets, a figure for each stage that predicts numbers."""
  panels, told = [], {}
  for k, (name, stage) in enumerate(stages.items()):
    found = stage.get("targets") or {}
    pairs = _pairs(found)
    if not len(pairs):
      continue
    told = found
    panels.append(
      layout.figure(
        _tag("code", name),
        scatter.targets(pairs[:, 0].tolist(), pairs[:, 1].tolist(), k),
        _caption(pairs),
      )
    )
  if not panels:
    return []
  seed = told.get("seed")
  first = f", with seed {seed}" if seed is not None else ""
  return layout.section(
    "Predictions and targets",
    f"Each dot is a test example{first}. On the line the prediction is the"
    " target; dots above it are predicted too high, dots below too low. A cloud"
    " that is flatter than the line says that the model keeps to the middle.",
    layout.panels(panels),
  )


def _pairs(found: Mapping[str, Any]) -> np.ndarray:
  """[n, 2] of target and prediction, the finite ones."""
  both = zip(
    found.get("target") or (), found.get("prediction") or (), strict=False
  )
  kept = [p for p in both if all(words.finite(v) for v in p)]
  return np.array(kept, np.float64).reshape(-1, 2)


def _caption(pairs: np.ndarray) -> str:
  errors = pairs[:, 1] - pairs[:, 0]
  middle = float(np.median(np.abs(errors)))
  worst = pairs[np.abs(errors).argmax()]
  mean = float(errors.mean())
  bias = (
    f"On average {words.significant(abs(mean))} too"
    f" {'high' if mean > 0 else 'low'}; half"
    if abs(mean) > 0.1 * middle
    else "Half"
  )
  return (
    f"{bias} of the {len(pairs)} examples shown are within"
    f" {words.significant(middle)} of their target. Farthest off is"
    f" {words.significant(float(worst[1]))} for"
    f" {words.significant(float(worst[0]))}."
  )
