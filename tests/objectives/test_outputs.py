"""Losses between outputs: laws, and the losses that they extend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import objectives
from tsjax.core import errors


@pytest.fixture(name="pair")
def _pair():
  """Student and teacher logits `[8, 5]`."""
  rng = np.random.RandomState(0)
  return tuple(jnp.asarray(rng.randn(8, 5) * 3, jnp.float32) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_one_label_is_a_class_of_two(pair, temperature):
  """sigmoid(x) is softmax(0, x), so the two divergences are one."""
  one = [x[:, :1] for x in pair]
  two = [jnp.concatenate([jnp.zeros_like(x), x], axis=1) for x in one]
  np.testing.assert_allclose(
    objectives.binary_soft_targets(*one, temperature=temperature),
    objectives.soft_targets(*two, temperature=temperature),
    rtol=1e-4,
    atol=1e-6,
  )


def test_binary_soft_targets_are_zero_for_the_teacher_itself(pair):
  student, teacher = pair
  np.testing.assert_allclose(
    objectives.binary_soft_targets(teacher, teacher), 0, atol=1e-6
  )
  assert (objectives.binary_soft_targets(student, teacher) > 0).all()


def test_a_certain_teacher_is_a_label(pair):
  student, teacher = pair
  certain = jnp.where(teacher > 0, 100.0, -100.0)
  np.testing.assert_allclose(
    objectives.binary_soft_targets(student, certain),
    objectives.binary_cross_entropy(student, teacher > 0),
    rtol=1e-5,
  )


def test_extreme_logits_have_finite_gradients():
  extreme = jnp.asarray([[1e4, -1e4]])
  gradient = jax.grad(
    lambda s: objectives.binary_soft_targets(s, -extreme).sum()
  )(extreme)
  np.testing.assert_allclose(gradient, [[0.5, -0.5]], atol=1e-6)


def test_squared_difference_by_hand():
  student = jnp.asarray([[0.0, 2.0], [1.0, 1.0]])
  teacher = jnp.asarray([[0.0, 0.0], [1.0, 3.0]])
  np.testing.assert_array_equal(
    objectives.squared_difference(student, teacher), [2, 2]
  )
  np.testing.assert_array_equal(
    objectives.squared_difference(student[:, 0], teacher[:, 1]), [0, 4]
  )


@pytest.mark.parametrize(
  "loss", [objectives.binary_soft_targets, objectives.squared_difference]
)
def test_one_output_is_not_broadcast(pair, loss):
  with pytest.raises(errors.UserError, match=r"\[8, 5\] and teacher \[8, 1\]"):
    loss(pair[0], pair[1][:, :1])
