"""A whole split comes back once, in order, without its padding."""

import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.data import pipeline, sources, splits
from tsjax.evaluate import split


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (8, 4), (3, 4)])
def test_every_example_once_and_in_order(size, batch_size):
  values = np.arange(size, dtype=np.float32)
  fields = {"image": values[:, None], "label": np.zeros(size, np.int32)}
  source = sources.Arrays({"train": fields, "test": fields})
  batches = pipeline.eval_batches(splits.whole(source, "test"), batch_size)

  def predict(variables, batch):
    return jnp.asarray(batch["image"]) * jnp.float32(variables)

  scores, kept = split.collect(predict, 2.0, batches, ("index", "label"))
  np.testing.assert_array_equal(scores, 2 * values[:, None])
  np.testing.assert_array_equal(kept["index"], np.arange(size))
  assert kept.keys() == {"index", "label"}
