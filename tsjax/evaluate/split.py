"""Runs a model over a whole split, with the padding taken out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Batch = Mapping[str, np.ndarray]


def collect(
  predict: Callable[[Any, Batch], jax.Array],
  variables: Any,
  batches: Iterable[Batch],
  fields: Sequence[str],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Scores and fields of every real example, in the split's order.

  Scores stay on the device until the last batch was sent.

  Args:
    predict: compiled `(variables, batch) -> scores [batch, ...]`.
    variables: of the model.
    batches: with `mask`, False on padding.
    fields: of the batches, to be returned.

  Returns:
    `[examples, ...]`, and each field `[examples, ...]`.
  """
  scores, kept, masks = [], {name: [] for name in fields}, []
  for batch in batches:
    scores.append(predict(variables, batch))
    masks.append(batch["mask"])
    for name in fields:
      kept[name].append(batch[name])
  mask = np.concatenate(masks)
  return (
    np.concatenate(jax.device_get(scores))[mask],
    {name: np.concatenate(parts)[mask] for name, parts in kept.items()},
  )
