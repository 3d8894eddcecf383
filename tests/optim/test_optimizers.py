"""Directions times -rate are optax's own updates, step after step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tsjax import optim

RATE = 0.1
EVERYWHERE = {"kernel": 1.0, "bias": 1.0}


def parameters():
  generator = np.random.RandomState(0)
  return {
    "kernel": jnp.asarray(generator.randn(3, 2), jnp.float32),
    "bias": jnp.asarray(generator.randn(2), jnp.float32),
  }


def gradients(step):
  generator = np.random.RandomState(step + 1)
  return jax.tree.map(
    lambda p: jnp.asarray(generator.randn(*p.shape), p.dtype), parameters()
  )


def trajectory(optimizer, scale, steps=5):
  """Parameters after each step of `p + scale * update`."""
  params, path = parameters(), []
  state = optimizer.init(params)

  @jax.jit
  def step(params, state, gradient):
    updates, state = optimizer.update(gradient, state, params)
    params = jax.tree.map(lambda p, u: p + scale * u, params, updates)
    return params, state

  for i in range(steps):
    params, state = step(params, state, gradients(i))
    path.append(params)
  return path


def decayed(optimizer, weight_decay):
  """Optax's SGD with its decay on the gradient."""
  return optax.chain(optax.add_decayed_weights(weight_decay), optimizer)


@pytest.mark.parametrize(
  "ours,reference",
  [
    (optim.sgd(EVERYWHERE), optax.sgd(RATE, momentum=0.9)),
    (optim.sgd(EVERYWHERE, momentum=0.0), optax.sgd(RATE)),
    (
      optim.sgd(EVERYWHERE, momentum=0.8, nesterov=True),
      optax.sgd(RATE, momentum=0.8, nesterov=True),
    ),
    (
      optim.sgd(EVERYWHERE, weight_decay=0.01),
      decayed(optax.sgd(RATE, momentum=0.9), 0.01),
    ),
    (optim.adam(EVERYWHERE), optax.adam(RATE)),
    (
      optim.adam(EVERYWHERE, b1=0.8, b2=0.99, eps=1e-3),
      optax.adam(RATE, b1=0.8, b2=0.99, eps=1e-3),
    ),
    (optim.adamw(EVERYWHERE), optax.adamw(RATE, weight_decay=1e-2)),
    (
      optim.adamw(EVERYWHERE, b1=0.8, weight_decay=0.1),
      optax.adamw(RATE, b1=0.8, weight_decay=0.1),
    ),
    (
      optim.adamw(EVERYWHERE, weight_decay=0.0),
      optax.adamw(RATE, weight_decay=0.0),
    ),
  ],
)
def test_equals_optax(ours, reference):
  actual, expected = trajectory(ours, -RATE), trajectory(reference, 1.0)
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6),
    actual,
    expected,
  )


@pytest.mark.parametrize(
  "make,reference",
  [
    (
      lambda d: optim.sgd(d, weight_decay=0.1),
      lambda mask: optax.chain(
        optax.add_decayed_weights(0.1, mask), optax.sgd(RATE, momentum=0.9)
      ),
    ),
    (
      lambda d: optim.adamw(d, weight_decay=0.1),
      lambda mask: optax.adamw(RATE, weight_decay=0.1, mask=mask),
    ),
  ],
)
def test_decay_only_where_its_factor_says(make, reference):
  actual = trajectory(make({"kernel": 1.0, "bias": 0.0}), -RATE)
  expected = trajectory(reference({"kernel": True, "bias": False}), 1.0)
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6),
    actual,
    expected,
  )


def test_a_factor_scales_the_decay():
  half = optim.sgd({"kernel": 0.5, "bias": 0.5}, weight_decay=0.2)
  whole = optim.sgd(EVERYWHERE, weight_decay=0.1)
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-6),
    trajectory(half, -RATE),
    trajectory(whole, -RATE),
  )
