"""Batch norm over the global batch, however the batch is spread."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest

from tsjax.models import axes, norm, resnet


class Norm(nn.Module):
  """A module around the function under test."""

  zero_scale: bool = False

  @nn.compact
  def __call__(self, inputs, *, train):
    return norm.batch_norm(
      inputs, train=train, zero_scale=self.zero_scale, name="norm"
    )


def test_statistics_by_hand():
  inputs = np.random.default_rng(0).normal(3.0, 2.0, size=(4, 2, 2, 3))
  inputs = inputs.astype(np.float32)
  variables = Norm().init(jax.random.key(0), inputs, train=False)
  outputs, updated = Norm().apply(
    variables, inputs, train=True, mutable=["batch_stats"]
  )
  mean, variance = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
  np.testing.assert_allclose(
    outputs, (inputs - mean) / np.sqrt(variance + 1e-5), atol=1e-5
  )
  statistics = updated["batch_stats"]["norm"]
  np.testing.assert_allclose(statistics["mean"], 0.1 * mean, rtol=1e-5)
  np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * variance, rtol=1e-5)


def test_low_precision_keeps_float32_statistics():
  outputs, variables = jax.eval_shape(
    functools.partial(Norm().init_with_output, train=True),
    jax.random.key(0),
    jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.bfloat16),
  )
  assert outputs.dtype == jnp.bfloat16
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
  assert variables["params"]["norm"]["scale"].names == axes.NORM


@pytest.mark.parametrize("zero_scale,value", [(True, 0.0), (False, 1.0)])
def test_first_scale(zero_scale, value):
  variables = Norm(zero_scale).init(
    jax.random.key(0), jnp.ones((2, 3)), train=False
  )
  assert (variables["params"]["norm"]["scale"].value == value).all()


def test_eight_devices_agree_with_one():
  """Outputs, gradients and statistics: one device, a mesh of 8, pmap of 8."""
  assert jax.device_count() == 8
  model = resnet.ResNeXt((1,), 8, 4, 10, bottleneck=False)
  generator = np.random.default_rng(0)
  images = generator.normal(size=(32, 4, 4, 1)).astype(np.float32)
  # Each device's part has a mean of its own, so that local statistics show.
  images += np.arange(8, dtype=np.float32).repeat(4).reshape(32, 1, 1, 1)
  labels = generator.integers(0, 10, size=32)
  shapes = jax.eval_shape(
    functools.partial(model.init, train=False), jax.random.key(0), images
  )
  variables = jax.tree.map(
    lambda leaf: generator.normal(size=leaf.shape).astype(np.float32) / 4,
    {name: shapes[name] for name in ("params", "batch_stats")},
  )

  def step(model, variables, images, labels):
    def loss(params):
      logits, updated = model.apply(
        {"params": params, "batch_stats": variables["batch_stats"]},
        images,
        train=True,
        mutable=["batch_stats"],
      )
      rows = jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, 10)
      return -rows.sum(), (logits, updated["batch_stats"])

    gradients, (logits, statistics) = jax.grad(loss, has_aux=True)(
      variables["params"]
    )
    return gradients, logits, statistics

  one = jax.jit(functools.partial(step, model))(variables, images, labels)

  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))
  whole = NamedSharding(mesh, PartitionSpec())
  on_mesh = jax.jit(functools.partial(step, model))(
    jax.device_put(variables, whole),
    jax.device_put(images, split),
    jax.device_put(labels, split),
  )

  def step_of_device(variables, images, labels):
    gradients, logits, statistics = step(
      model.clone(axis_name="batch"), variables, images, labels
    )
    return jax.lax.psum(gradients, "batch"), logits, statistics

  gradients, logits, statistics = jax.pmap(
    step_of_device, axis_name="batch", in_axes=(None, 0, 0)
  )(variables, images.reshape(8, 4, 4, 4, 1), labels.reshape(8, 4))
  first = functools.partial(jax.tree.map, lambda leaf: np.asarray(leaf)[0])
  mapped = (
    first(gradients),
    np.asarray(logits).reshape(32, 10),
    first(statistics),
  )

  for other in (on_mesh, mapped):
    jax.tree.map(
      lambda actual, expected: np.testing.assert_allclose(
        actual, expected, rtol=1e-4, atol=1e-4
      ),
      other,
      one,
    )
