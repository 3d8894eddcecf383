"""Pseudo-labels: FixMatch's equation 4."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import objectives
from tsjax.core import errors


@pytest.fixture(name="pair")
def _pair():
  """Student and teacher logits `[8, 10]`; the teacher is sure of four."""
  rng = np.random.RandomState(0)
  teacher = rng.randn(8, 10)
  teacher[np.arange(4), [3, 1, 4, 1]] += 12
  return jnp.asarray(rng.randn(8, 10), jnp.float32), jnp.asarray(
    teacher, jnp.float32
  )


def test_only_what_the_teacher_is_sure_of_has_a_loss(pair):
  student, teacher = pair
  values = objectives.pseudo_labels(student, teacher, threshold=0.95)
  np.testing.assert_array_equal(values[4:], 0)
  np.testing.assert_allclose(
    values[:4],
    objectives.cross_entropy(student[:4], jnp.asarray([3, 1, 4, 1])),
    rtol=1e-6,
  )


def test_the_mean_counts_all_examples(pair):
  """Equation 4 divides by the batch, and not by the sure ones."""
  student, teacher = (np.asarray(x, np.float64) for x in pair)
  q = np.exp(teacher) / np.exp(teacher).sum(-1, keepdims=True)
  p = np.exp(student) / np.exp(student).sum(-1, keepdims=True)
  expected = sum(
    (q_b.max() >= 0.95) * -np.log(p_b[q_b.argmax()])
    for q_b, p_b in zip(q, p, strict=True)
  ) / len(q)
  np.testing.assert_allclose(
    objectives.pseudo_labels(*pair).mean(), expected, rtol=1e-5
  )


def test_the_threshold_itself_is_sure():
  # Probabilities 3/4 and 1/4, which float32 holds.
  teacher = jnp.log(jnp.asarray([[3.0, 1.0]]))
  student = jnp.zeros((1, 2))
  at = float(jax.nn.softmax(teacher).max())
  assert objectives.pseudo_labels(student, teacher, threshold=at)[0] > 0
  above = objectives.pseudo_labels(student, teacher, threshold=at + 1e-6)
  assert above[0] == 0


def test_no_threshold_takes_every_example(pair):
  student, teacher = pair
  np.testing.assert_array_equal(
    objectives.pseudo_labels(student, teacher, threshold=0.0),
    objectives.cross_entropy(student, teacher.argmax(-1)),
  )


def test_no_gradient_reaches_the_teacher(pair):
  gradients = jax.grad(
    lambda s, t: objectives.pseudo_labels(s, t).sum(), argnums=(0, 1)
  )(*pair)
  assert np.abs(gradients[0][:4]).max() > 0
  np.testing.assert_array_equal(gradients[0][4:], 0)
  np.testing.assert_array_equal(gradients[1], 0)


def test_bfloat16_is_computed_in_float32(pair):
  student, teacher = (x.astype(jnp.bfloat16) for x in pair)
  assert objectives.pseudo_labels(student, teacher).dtype == jnp.float32


@pytest.mark.parametrize(
  "keywords, told",
  [({"threshold": 95.0}, "threshold=95.0 is not in 0..1"), ({}, "differ")],
)
def test_what_does_not_fit_is_refused(pair, keywords, told):
  student, teacher = pair
  if not keywords:
    student = student[:, :5]
  with pytest.raises(errors.UserError, match=told):
    objectives.pseudo_labels(student, teacher, **keywords)
