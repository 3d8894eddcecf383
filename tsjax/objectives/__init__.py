"""Losses: pure functions of arrays, one value per example or token.

What a loss reads it names in its signature: `student`, `teacher`, `target`,
`mask`, `temperature`. It neither averages nor weighs.
"""

from tsjax.objectives.features import Hint, attention_transfer
from tsjax.objectives.labels import cross_entropy
from tsjax.objectives.logits import soft_targets

__all__ = ["Hint", "attention_transfer", "cross_entropy", "soft_targets"]
