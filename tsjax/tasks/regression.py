"""Regression: a number for an example."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import errors
from tsjax.evaluate import regression as metrics_lib


@dataclasses.dataclass(frozen=True)
class Regression:
  """Predicts a number.

  Attributes:
    label: the field of the batch that holds the number.
    mean: of the target, where the loss learns it with mean 0 and deviation 1:
      what `squared_error` is given. Metrics are in the target's own units.
    std: deviation of the target, as `mean`.

  Raises:
    UserError: std is not positive.
  """

  label: str = "label"
  mean: float = 0.0
  std: float = 1.0

  # Metrics of which less is better; every other one is better when higher.
  lower_is_better = (
    "mean_squared_error",
    "mean_absolute_error",
    "reference_error",
  )
  # The metric that picks arms, where the stage names none.
  choose_by = "mean_squared_error"
  # The metric that is the task's loss on a split.
  loss = "mean_squared_error"

  def __post_init__(self) -> None:
    if not 0 < self.std < float("inf"):
      raise errors.UserError(f"std={self.std} must be more than 0")

  @property
  def fields(self) -> tuple[str, ...]:
    """Fields of the batch that the metrics need."""
    return (self.label,)

  def scores(self, output: Any) -> jax.Array:
    """The model's output `[batch, 1]` or `[batch]` as float32 numbers."""
    numbers = output.astype(jnp.float32).reshape(output.shape[0])
    return numbers * self.std + self.mean

  def decide(self, scores: np.ndarray) -> None:
    """There is no class of an example."""
    del scores

  def check(self, classes: tuple[str, ...], output: Any, *, key: str) -> None:
    """Refuses a model that does not return one number.

    Args:
      classes: names from the source, of which regression has none.
      output: the shape of the model's output.
      key: the config key of the model, for the error.
    """
    if classes:
      raise errors.UserError(
        f"{key}: the data has {len(classes)} classes and Regression predicts a"
        " number; set target='number' of the source, or use the task"
        " Classification"
      )
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
      told = shape if shape is not None else type(output).__name__
      raise errors.UserError(
        f"{key}: Regression reads one number of an example, [batch, 1], and the"
        f" model returns {told}; set classes=1"
      )

  def metrics(
    self,
    scores: np.ndarray,
    fields: Mapping[str, np.ndarray],
    *,
    reference: np.ndarray | None = None,
  ) -> dict[str, float]:
    """Numbers of a whole split; see `evaluate.regression.metrics`.

    Raises:
      UserError: the field of the label holds no numbers.
    """
    targets = fields[self.label]
    if targets.ndim != 1 or targets.dtype.kind != "f":
      raise errors.UserError(
        f"Regression reads numbers, float32 [size], and field {self.label!r} is"
        f" {targets.dtype} {list(targets.shape)}; set target='number' of the"
        " source, or use another task"
      )
    return metrics_lib.metrics(scores, targets, reference=reference)

  def tables(
    self, scores: np.ndarray, fields: Mapping[str, np.ndarray]
  ) -> dict[str, Any]:
    """Nothing adds up or is listed."""
    del scores, fields
    return {}
