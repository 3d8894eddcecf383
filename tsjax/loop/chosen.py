"""What validation says of a stage's models, and which arm it chooses."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tsjax.report import progress as progress_lib


def together(by_model: Mapping[str, dict[str, float]]) -> dict[str, float]:
  """The metrics of a stage's models: their mean, and "MODEL/METRIC" of each."""
  if len(by_model) == 1:
    return next(iter(by_model.values()))
  first = next(iter(by_model.values()))
  means = {
    metric: float(np.mean([found[metric] for found in by_model.values()]))
    for metric in first
  }
  return means | {
    f"{model}/{metric}": value
    for model, found in by_model.items()
    for metric, value in found.items()
  }


def rank(score: float | None) -> float:
  """A score to compare by: none, and one that is not a number, are last."""
  return -np.inf if score is None or np.isnan(score) else score


def summary(name: str, seed: int, record: Mapping[str, Any]) -> str:
  """What a stage came to with a seed, in one line."""
  scores = record["validation"]
  names = dict.fromkeys(("accuracy", "f1", record["choose_by"]))
  shown = ", ".join(f"{k} {scores[k]:.4f}" for k in names if k in scores)
  took = progress_lib.duration(record["seconds"])
  return (
    f"{name}, seed {seed}: learning rate {record['learning_rate']:g}"
    f"{'; validation ' + shown if shown else ''}  ({took})"
  )
