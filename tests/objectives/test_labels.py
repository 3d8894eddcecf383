"""Cross entropy: laws, optax, smoothing, labels outside of the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tsjax import objectives


@pytest.fixture
def student():
  """Logits `[8, 10]`."""
  logits = np.random.RandomState(0).randn(8, 10) * 2
  return jnp.asarray(logits, jnp.float32)


@pytest.fixture
def target():
  """Labels `[8]`."""
  return jnp.asarray(np.random.RandomState(2).randint(0, 10, 8), jnp.int32)


def test_equals_optax(student, target):
  np.testing.assert_allclose(
    objectives.cross_entropy(student, target),
    optax.softmax_cross_entropy_with_integer_labels(student, target),
    rtol=1e-6,
  )


def test_smoothing_equals_optax(student, target):
  smooth = optax.smooth_labels(jax.nn.one_hot(target, 10), 0.1)
  np.testing.assert_allclose(
    objectives.cross_entropy(student, target, label_smoothing=0.1),
    optax.softmax_cross_entropy(student, smooth),
    rtol=1e-5,
  )


def test_tokens_have_a_value_each(student, target):
  values = objectives.cross_entropy(
    student.reshape(2, 4, 10), target.reshape(2, 4)
  )
  np.testing.assert_allclose(
    values.reshape(-1), objectives.cross_entropy(student, target), rtol=1e-6
  )


def test_by_hand():
  # Two classes, probabilities 1/4 and 3/4.
  student = jnp.log(jnp.asarray([[1.0, 3.0], [1.0, 3.0]]))
  np.testing.assert_allclose(
    objectives.cross_entropy(student, jnp.asarray([0, 1])),
    [np.log(4), np.log(4 / 3)],
    rtol=1e-6,
  )


@pytest.mark.parametrize("label", [-100, -1, 10])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_label_outside_of_the_classes_gives_zero(
  student, target, label, label_smoothing
):
  def total(student):
    values = objectives.cross_entropy(
      student, target.at[3].set(label), label_smoothing=label_smoothing
    )
    return values.sum(), values

  gradient, values = jax.grad(total, has_aux=True)(student)
  assert values[3] == 0
  assert (np.delete(values, 3) > 0).all()
  np.testing.assert_array_equal(gradient[3], 0)


def test_an_excluded_class_that_is_not_the_label_contributes_nothing(student):
  target = jnp.zeros(8, jnp.int32)
  excluded = student.at[:, 9].set(-jnp.inf)
  value, gradient = jax.value_and_grad(
    lambda s: objectives.cross_entropy(s, target).sum()
  )(excluded)
  expected = objectives.cross_entropy(student[:, :9], target).sum()
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  assert np.isfinite(gradient).all()


def test_bfloat16_is_computed_in_float32(student, target):
  rounded = student.astype(jnp.bfloat16)
  values = objectives.cross_entropy(rounded, target)
  assert values.dtype == jnp.float32
  with jax.enable_x64(True):
    wide = objectives.cross_entropy(
      jnp.asarray(np.asarray(rounded, np.float64)), target
    )
    assert wide.dtype == jnp.float64
  np.testing.assert_allclose(values, wide, rtol=1e-4)
