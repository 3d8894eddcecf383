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
  """

  label: str = "label"

  # Metrics of which less is better; every other one is better when higher.
  lower_is_better = ("cross_entropy", "calibration_error")

  @property
  def fields(self) -> tuple[str, ...]:
    """Fields of the batch that the metrics need."""
    return (self.label,)

  def scores(self, output: Any) -> jax.Array:
    """The model's output `[batch, classes]` as float32 logits."""
    return output.astype(jnp.float32)

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
    """Numbers of a whole split; see `evaluate.classification.metrics`."""
    return metrics_lib.metrics(scores, fields[self.label], reference=reference)

  def confusion(
    self, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> np.ndarray:
    """Counts [true, predicted]."""
    return metrics_lib.confusion(
      fields[self.label], scores.argmax(-1), scores.shape[-1]
    )

  def per_class(self, confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support of every class."""
    return metrics_lib.per_class(confusion)
