"""Classification: one label for an example, from logits."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import errors
from tsjax.evaluate import classification as metrics_lib


@dataclasses.dataclass(frozen=True)
class Classification:
  """Predicts the class of an example.

  Attributes:
    label: the field of the batch that holds the class.
    group: a field of the batch by which examples are also judged apart, the
      writer or the language say; "" is none. The metric accuracy_worst_group
      is then the accuracy of the group that has the lowest.
    beta: how many times recall matters more than precision in the metric
      f_beta; None leaves it out.

  Raises:
    UserError: beta is not positive.
  """

  label: str = "label"
  group: str = ""
  beta: float | None = None

  # Metrics of which less is better; every other one is better when higher.
  lower_is_better = ("cross_entropy", "calibration_error")
  # The metric that picks arms, where the stage names none.
  choose_by = "f1"
  # The metric that is the task's loss on a split.
  loss = "cross_entropy"

  def __post_init__(self) -> None:
    if self.beta is not None and not 0 < self.beta < float("inf"):
      raise errors.UserError(
        f"beta={self.beta} must be more than 0; 1 is F1, 2 weighs recall higher"
      )

  @property
  def fields(self) -> tuple[str, ...]:
    """Fields of the batch that the metrics need."""
    return (self.label, self.group) if self.group else (self.label,)

  def scores(self, output: Any) -> jax.Array:
    """The model's output `[batch, classes]` as float32 logits."""
    return output.astype(jnp.float32)

  def decide(self, scores: np.ndarray) -> np.ndarray:
    """The predicted class of every example, integers [n]."""
    return scores.argmax(axis=-1)

  def check(self, classes: tuple[str, ...], output: Any, *, key: str) -> None:
    """Refuses a model whose logits are not those of the data's classes.

    Args:
      classes: names from the source, or () where it has none.
      output: the shape of the model's output.
      key: the config key of the model, for the error.
    """
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != 2:
      raise errors.UserError(
        f"{key}: classification reads logits [batch, classes], and the model"
        f" returns {shape if shape is not None else type(output).__name__}"
      )
    if classes and shape[1] != len(classes):
      raise errors.UserError(
        f"{key}: {shape[1]} logits, but the data has {len(classes)} classes;"
        f" set classes={len(classes)}"
      )

  def metrics(
    self,
    scores: np.ndarray,
    fields: Mapping[str, np.ndarray],
    *,
    reference: np.ndarray | None = None,
  ) -> dict[str, float]:
    """Numbers of a whole split; see `evaluate.classification.metrics`.

    Raises:
      UserError: the field of the label holds no classes.
    """
    result = metrics_lib.metrics(
      scores, self._labels(fields), reference=reference, beta=self.beta
    )
    if self.group:
      result["accuracy_worst_group"] = min(
        group["accuracy"] for group in self._groups(scores, fields).values()
      )
    return result

  def tables(
    self, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> dict[str, Any]:
    """What a whole split comes to beside numbers.

    Returns:
      confusion, int64 [classes, classes], rows true; per_class, the scores of
      every class, float64 [classes], and their support; and, with a `group`,
      groups: for each one accuracy, f1, count and confusion.
    """
    counts = self.confusion(scores, fields)
    result = {"confusion": counts, "per_class": self.per_class(counts)}
    if self.group:
      result["groups"] = self._groups(scores, fields)
    return result

  def confusion(
    self, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> np.ndarray:
    """Counts [true, predicted]."""
    return metrics_lib.confusion(
      self._labels(fields), self.decide(scores), scores.shape[-1]
    )

  def per_class(self, confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support of every class."""
    return metrics_lib.per_class(confusion)

  def _groups(
    self, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> dict[Any, dict[str, Any]]:
    return metrics_lib.by_group(
      scores, self._labels(fields), fields[self.group]
    )

  def _labels(self, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    labels = fields[self.label]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
      raise errors.UserError(
        f"Classification reads classes, integers [size], and field"
        f" {self.label!r} is {labels.dtype} {list(labels.shape)}; use the task"
        f" {'MultiLabel' if labels.dtype.kind == 'b' else 'Regression'}"
      )
    return labels
