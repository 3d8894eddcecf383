"""Names, shapes, sizes and dropout of the multilayer perceptron."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors, taps, trees
from tsjax.models import axes, mlp

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)


def make(**fields):
  model = mlp.MLP(hidden=(16, 12), **fields)
  init = functools.partial(model.init_with_output, train=False)
  logits, variables = jax.jit(init)(jax.random.key(0), IMAGES)
  return model, logits, variables


def test_shapes_taps_and_axes():
  _, logits, variables = make(dtype=jnp.bfloat16)
  assert logits.shape == (4, 10) and logits.dtype == jnp.float32
  found = taps.named(variables["taps"])
  assert {name: tap.shape for name, tap in found.items()} == {
    "hidden_1/output": (4, 16),
    "hidden_2/output": (4, 12),
  }
  assert found["hidden_1/output"].dtype == jnp.bfloat16
  for path, box in trees.flatten(variables["params"]).items():
    assert isinstance(box, nn.LogicallyPartitioned), path
    assert len(box.names) == box.value.ndim, path
    assert set(box.names) <= set(axes.AXES), path
    assert box.value.dtype == jnp.float32, path


def test_parameter_count_of_the_defaults():
  # 784-1200-1200-10, each layer with biases
  variables = jax.eval_shape(
    functools.partial(mlp.MLP().init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32),
  )
  size = trees.size(nn.unbox(variables["params"]))
  assert size == 785 * 1200 + 1201 * 1200 + 1201 * 10


@pytest.mark.parametrize("field", ["dropout", "input_dropout"])
def test_dropout_only_in_training(field):
  model, logits, variables = make(**{field: 0.5})
  variables = {"params": variables["params"]}

  @functools.partial(jax.jit, static_argnames="train")
  def apply(key, train):
    return model.apply(variables, IMAGES, train=train, rngs={"dropout": key})

  keys = jax.random.split(jax.random.key(0))
  np.testing.assert_allclose(apply(keys[0], train=False), logits, atol=1e-5)
  first, second = apply(keys[0], train=True), apply(keys[1], train=True)
  assert not np.allclose(first, logits) and not np.allclose(first, second)
  np.testing.assert_array_equal(first, apply(keys[0], train=True))


def test_without_dropout_training_needs_no_key():
  model, logits, variables = make()
  apply = functools.partial(model.apply, train=True)
  np.testing.assert_allclose(
    apply({"params": variables["params"]}, IMAGES), logits, atol=1e-5
  )


def test_no_hidden_layer_is_a_linear_model():
  model = mlp.MLP(hidden=(), classes=3)
  logits, variables = model.init_with_output(
    jax.random.key(0), IMAGES, train=False
  )
  head = nn.unbox(variables["params"])["head"]
  np.testing.assert_allclose(
    logits, IMAGES.reshape(4, -1) @ head["kernel"], atol=1e-5
  )


@pytest.mark.parametrize(
  "fields,words",
  [
    ({"hidden": (16, 0)}, "hidden"),
    ({"classes": 0}, "classes=0"),
    ({"dropout": 1.0}, "dropout=1.0"),
    ({"input_dropout": -0.1}, "input_dropout=-0.1"),
  ],
)
def test_refuses_bad_fields(fields, words):
  with pytest.raises(errors.UserError, match=words) as error:
    mlp.MLP(**fields)
  assert "\n" not in str(error.value)


def test_refuses_what_is_no_batch_of_floats():
  with pytest.raises(errors.UserError, match="are not examples"):
    mlp.MLP().init(jax.random.key(0), jnp.ones((4,)), train=False)
