"""Losses: pure functions of arrays, one value per example or token.

What a loss reads it names in its signature: `student`, `teacher`, `target`,
`mask`, `temperature`. It neither averages nor weighs.
"""

from tsjax.objectives.consistency import pseudo_labels
from tsjax.objectives.features import Hint, attention_transfer
from tsjax.objectives.labels import (
  binary_cross_entropy,
  cross_entropy,
  squared_error,
)
from tsjax.objectives.logits import soft_targets
from tsjax.objectives.outputs import binary_soft_targets, squared_difference
from tsjax.objectives.top_k import soft_targets_top_k

__all__ = [
  "Hint",
  "attention_transfer",
  "binary_cross_entropy",
  "binary_soft_targets",
  "cross_entropy",
  "pseudo_labels",
  "soft_targets",
  "soft_targets_top_k",
  "squared_difference",
  "squared_error",
]
