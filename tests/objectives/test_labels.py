"""Losses against labels: laws, optax and PyTorch, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from tsjax import config, objectives
from tsjax.config import sections
from tsjax.core import errors
from tsjax.distill import forward, objective


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


WEIGHTS = (0.0, 0.2, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0, 4.0, 10.0)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_class_weights_are_pytorchs(student, target, label_smoothing):
  def loss(logits):
    return objectives.cross_entropy(
      logits,
      target,
      class_weights=WEIGHTS,
      label_smoothing=label_smoothing,
    ).value()

  logits = torch.tensor(np.asarray(student), requires_grad=True)
  expected = torch.nn.functional.cross_entropy(
    logits,
    torch.tensor(np.asarray(target), dtype=torch.long),
    weight=torch.tensor(WEIGHTS),
    label_smoothing=label_smoothing,
  )
  expected.backward()
  value, gradient = jax.value_and_grad(loss)(student)
  np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
  np.testing.assert_allclose(gradient, logits.grad.numpy(), atol=1e-6)


def test_class_weights_through_padding_and_parts(student, target):
  """The mean that the step makes of two parts, with two padded examples."""
  mask = jnp.asarray([True] * 6 + [False] * 2)
  spoiled = student.at[6].set(jnp.nan)
  stage = config.stage(
    train="student",
    objective={
      "labels": config.term(
        config.spec(objectives.cross_entropy, class_weights=WEIGHTS)
      )
    },
    optimizer=config.spec(optax.identity),
  )
  terms = objective.bind(sections.Stage(**stage))
  parts = []
  for rows in (slice(0, None, 2), slice(1, None, 2)):
    means, _ = objective.evaluate(
      terms,
      {},
      {"student": forward.Outputs(spoiled[rows], {})},
      {},
      {
        "label": target[rows],
        "mask": mask[rows],
        "labelled": jnp.ones(4, bool),
      },
      {"labels": jnp.ones(())},
    )
    parts.append(means["labels"])
  expected = torch.nn.functional.cross_entropy(
    torch.tensor(np.asarray(student[:6])),
    torch.tensor(np.asarray(target[:6]), dtype=torch.long),
    weight=torch.tensor(WEIGHTS),
  )
  np.testing.assert_allclose(
    (parts[0] + parts[1]).value(), expected.item(), rtol=1e-5
  )


def test_equal_class_weights_of_any_size_change_nothing(student, target):
  weighted = objectives.cross_entropy(
    student.reshape(2, 4, 10), target.reshape(2, 4), class_weights=[7.0] * 10
  )
  np.testing.assert_allclose(
    weighted.value(),
    objectives.cross_entropy(student, target).mean(),
    rtol=1e-6,
  )


@pytest.fixture(name="several")
def _several():
  """Logits and truth values `[8, 5]`."""
  rng = np.random.RandomState(3)
  logits = jnp.asarray(rng.randn(8, 5) * 3, jnp.float32)
  return logits, jnp.asarray(rng.rand(8, 5) < 0.3)


@pytest.mark.parametrize("weights", [None, (0.0, 0.5, 1.0, 2.0, 9.0)])
def test_binary_cross_entropy_is_pytorchs(several, weights):
  logits, target = several
  values = objectives.binary_cross_entropy(
    logits, target, positive_weights=weights
  )
  assert values.shape == (8,)
  expected = torch.nn.functional.binary_cross_entropy_with_logits(
    torch.tensor(np.asarray(logits)),
    torch.tensor(np.asarray(target), dtype=torch.float32),
    pos_weight=None if weights is None else torch.tensor(weights),
  )
  np.testing.assert_allclose(values.mean(), expected.item(), rtol=1e-5)


def test_binary_cross_entropy_of_extreme_logits():
  logits = jnp.asarray([[200.0, -200.0], [-200.0, 200.0]])
  target = jnp.asarray([[True, False], [True, False]])
  value, gradient = jax.value_and_grad(
    lambda x: objectives.binary_cross_entropy(x, target).sum()
  )(logits)
  assert value == 200
  np.testing.assert_allclose(gradient, [[0, 0], [-0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_squared_error_by_hand(shape):
  output = jnp.asarray([0.0, 1.0, 2.0, 3.0]).reshape(shape)
  target = jnp.asarray([0.0, 3.0, 2.0, 1.0])
  np.testing.assert_array_equal(
    objectives.squared_error(output, target), [0, 4, 0, 4]
  )
  # In deviations of 2 about a mean of 1: -0.5, 1, 0.5 and 0.
  np.testing.assert_array_equal(
    objectives.squared_error(output, target, mean=1.0, std=2.0),
    [0.25, 0, 2.25, 9],
  )


@pytest.mark.parametrize(
  "loss, told",
  [
    (
      lambda s, t: objectives.cross_entropy(s, t.astype(jnp.float32)),
      r"target float32\[8\] and output \[8, 10\].*take squared_error",
    ),
    (
      lambda s, t: objectives.cross_entropy(s, jnp.ones((8, 10), bool)),
      r"target bool\[8, 10\].*binary_cross_entropy",
    ),
    (
      lambda s, t: objectives.cross_entropy(s, t, class_weights=(1.0, 2.0)),
      "class_weights has 2 numbers and the model 10 outputs",
    ),
    (
      lambda s, t: objectives.cross_entropy(s, t, class_weights=[-1.0] * 10),
      "must be finite and 0 or more",
    ),
    (
      lambda s, t: objectives.binary_cross_entropy(s, t),
      r"target int32\[8\] and output \[8, 10\].*take cross_entropy",
    ),
    (
      lambda s, t: objectives.binary_cross_entropy(
        s, s > 0, positive_weights=(1.0,)
      ),
      "positive_weights has 1 numbers and the model 10 outputs",
    ),
    (
      lambda s, t: objectives.squared_error(s, t.astype(jnp.float32)),
      r"output \[8, 10\]: it compares one output with one number",
    ),
    (
      lambda s, t: objectives.squared_error(s[:, 0], s[:, 0], std=0.0),
      "std=0.0 must be more than 0",
    ),
  ],
)
def test_what_does_not_fit_is_refused(student, target, loss, told):
  with pytest.raises(errors.UserError, match=told) as e:
    loss(student, target)
  assert "\n" not in str(e.value)
