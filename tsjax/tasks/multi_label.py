"""Several labels for an example, or none, from a logit each."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import errors
from tsjax.evaluate import multi_label as metrics_lib


@dataclasses.dataclass(frozen=True)
class MultiLabel:
  """Predicts which of several labels an example has.

  Attributes:
    label: the field of the batch that holds them, bool [batch, labels].
    threshold: a label is predicted where its probability is above it.

  Raises:
    UserError: the threshold is no probability between 0 and 1.
  """

  label: str = "label"
  threshold: float = 0.5

  # Metrics of which less is better; every other one is better when higher.
  lower_is_better = ("binary_cross_entropy", "hamming_loss")
  # The metric that picks arms, where the stage names none.
  choose_by = "f1"
  # The metric that is the task's loss on a split.
  loss = "binary_cross_entropy"

  def __post_init__(self) -> None:
    if not 0 < self.threshold < 1:
      raise errors.UserError(
        f"threshold={self.threshold} must be between 0 and 1"
      )

  @property
  def fields(self) -> tuple[str, ...]:
    """Fields of the batch that the metrics need."""
    return (self.label,)

  def scores(self, output: Any) -> jax.Array:
    """The model's output `[batch, labels]` as float32 logits."""
    return output.astype(jnp.float32)

  def decide(self, scores: np.ndarray) -> None:
    """There is no single class of an example."""
    del scores

  def check(self, classes: tuple[str, ...], output: Any, *, key: str) -> None:
    """Refuses a model that has not one logit for each of the data's labels.

    Args:
      classes: names of the labels from the source, or () where it has none.
      output: the shape of the model's output.
      key: the config key of the model, for the error.
    """
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != 2:
      raise errors.UserError(
        f"{key}: MultiLabel reads logits [batch, labels], and the model"
        f" returns {shape if shape is not None else type(output).__name__}"
      )
    if classes and shape[1] != len(classes):
      raise errors.UserError(
        f"{key}: {shape[1]} logits, but the data has {len(classes)} labels;"
        f" set classes={len(classes)}"
      )

  def metrics(
    self,
    scores: np.ndarray,
    fields: Mapping[str, np.ndarray],
    *,
    reference: np.ndarray | None = None,
  ) -> dict[str, float]:
    """Numbers of a whole split; see `evaluate.multi_label.metrics`.

    Raises:
      UserError: the field of the labels holds no truth values.
    """
    return metrics_lib.metrics(
      scores,
      self._labels(scores, fields),
      threshold=self.threshold,
      reference=reference,
    )

  def tables(
    self, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> dict[str, Any]:
    """What a whole split comes to beside numbers.

    Returns:
      per_class: precision, recall, f1 and average_precision of every label,
      float64 [labels], and support, the examples that have it.
    """
    labels = self._labels(scores, fields)
    return {
      "per_class": metrics_lib.per_label(
        scores, labels, threshold=self.threshold
      )
    }

  def _labels(
    self, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> np.ndarray:
    labels = fields[self.label]
    if labels.dtype.kind != "b" or labels.shape != scores.shape:
      raise errors.UserError(
        f"MultiLabel reads truth values {list(scores.shape)}, and field"
        f" {self.label!r} is {labels.dtype} {list(labels.shape)}; set"
        " target='labels' of the source, or use another task"
      )
    return labels
