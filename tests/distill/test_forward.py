"""One call of a model: output, taps, collections."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors, taps
from tsjax.distill import forward


class Model(nn.Module):
  """A tap, a running mean and dropout."""

  @nn.compact
  def __call__(self, inputs, *, train):
    hidden = taps.tap(self, "hidden", 2 * inputs)
    mean = self.variable("batch_stats", "mean", jnp.zeros, inputs.shape[-1:])
    if train:
      mean.value = hidden.mean(axis=0)
    return nn.Dropout(0.5, deterministic=not train)(hidden)


@pytest.fixture
def inputs():
  return jnp.arange(6.0).reshape(2, 3)


def test_variables_hold_no_taps(inputs):
  variables = forward.initialise(Model(), jax.random.key(0), inputs)
  assert list(variables) == ["batch_stats"]


def test_evaluation_changes_no_collection(inputs):
  variables = forward.initialise(Model(), jax.random.key(0), inputs)
  outputs, collections = forward.forward(
    Model(), variables, inputs, train=False
  )
  np.testing.assert_array_equal(outputs.output, 2 * inputs)
  jax.tree.map(np.testing.assert_array_equal, collections, variables)


def test_training_updates_statistics_and_drops_by_the_key(inputs):
  variables = forward.initialise(Model(), jax.random.key(0), inputs)

  def call(seed):
    return forward.forward(
      Model(), variables, inputs, train=True, key=jax.random.key(seed)
    )

  outputs, collections = call(0)
  np.testing.assert_array_equal(
    collections["batch_stats"]["mean"], (2 * inputs).mean(axis=0)
  )
  np.testing.assert_array_equal(outputs.output, call(0)[0].output)
  drawn = [call(seed)[0].output.tolist() for seed in range(4)]
  assert any(output != drawn[0] for output in drawn)


def test_taps_are_read_by_name_alone_or_together(inputs):
  variables = forward.initialise(Model(), jax.random.key(0), inputs)
  outputs, _ = forward.forward(Model(), variables, inputs, train=False)
  np.testing.assert_array_equal(outputs.read("hidden", of="m"), 2 * inputs)
  tap, output = outputs.read(("hidden", "output"), of="m")
  np.testing.assert_array_equal(tap, output)
  with pytest.raises(errors.UserError, match=r"m offers no tap 'hiden'.*'hid"):
    outputs.read("hiden", of="m")
