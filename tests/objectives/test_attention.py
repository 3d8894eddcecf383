"""Attention, hidden states and tokens: masks of tokens, heads, lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives import loss_cases
from tsjax import objectives
from tsjax.core import errors

LENGTHS = np.array([4, 2, 3])
TOKENS = np.arange(4) < LENGTHS[:, None]


def normal(seed, *shape):
  return jnp.asarray(np.random.RandomState(seed).randn(*shape), jnp.float32)


def padded(x, axes, value):
  """`value` at every token that is padding, along the axes of tokens."""
  x = np.array(x)
  for b, length in enumerate(LENGTHS):
    for axis in axes:
      index = [b] + [slice(None)] * (x.ndim - 1)
      index[axis] = slice(length, None)
      x[tuple(index)] = value
  return jnp.asarray(x)


def mean(values):
  return loss_cases.as_mean(values, jnp.asarray(TOKENS)).value()


def three(seed, width=6):
  return tuple(normal(seed + i, 3, 4, width) for i in range(3))


MASKED = {
  "attention_mse": (
    lambda s, t, mask: objectives.attention_mse(s, t, mask=mask),
    lambda seed: normal(seed, 3, 2, 4, 4),
    (2, 3),
  ),
  "attention_cross_entropy": (
    lambda s, t, mask: objectives.attention_cross_entropy(s, t, mask=mask),
    lambda seed: normal(seed, 3, 2, 4, 4),
    (2, 3),
  ),
  "attention_relations": (
    lambda s, t, mask: objectives.attention_relations(
      s, t, mask=mask, heads=2, relations=("q-k", "v-v")
    ),
    three,
    (1,),
  ),
  "token_similarity": (
    lambda s, t, mask: objectives.token_similarity(s, t, mask=mask),
    lambda seed: normal(seed, 3, 4, 6),
    (1,),
  ),
  "hidden_mse": (
    lambda s, t, mask: objectives.hidden_mse(s, t),
    lambda seed: normal(seed, 3, 4, 6),
    (1,),
  ),
}


@pytest.mark.parametrize("name", MASKED)
def test_padding_tokens_cannot_reach_value_or_gradient(name):
  loss, make, axes = MASKED[name]
  student, teacher = make(0), make(50)

  @jax.jit
  def value(student, teacher):
    return mean(loss(student, teacher, jnp.asarray(TOKENS)))

  def spoilt(tree):
    return jax.tree.map(lambda x: padded(x, axes, 100.0), tree)

  results = [
    jax.value_and_grad(value)(s, t)
    for s, t in ((student, teacher), (spoilt(student), spoilt(teacher)))
  ]
  np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
  for gradient in jax.tree.leaves(results[1][1]):
    kept = padded(gradient, axes, 0.0)
    np.testing.assert_allclose(gradient, kept, atol=1e-9)


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_example_is_the_shorter_example(name):
  """The value of tokens behind a mask is that of the cut-off text."""
  loss, make, axes = MASKED[name]
  student, teacher = make(0), make(50)

  def cut(tree):
    def one(x):
      x = x[1:2]
      for axis in axes:
        x = jax.lax.slice_in_dim(x, 0, 2, axis=axis)
      return x

    return jax.tree.map(one, tree)

  only = jnp.asarray(TOKENS & (np.arange(3) == 1)[:, None])
  values = loss_cases.as_mean(loss(student, teacher, only), only).value()
  short = loss(cut(student), cut(teacher), jnp.ones((1, 2), bool))
  expected = loss_cases.as_mean(short, jnp.ones((1, 2), bool)).value()
  np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_mask_of_examples_will_do():
  student, teacher = normal(0, 3, 2, 4, 4), normal(1, 3, 2, 4, 4)
  mask = jnp.asarray([True, False, True])
  values = objectives.attention_mse(student, teacher, mask=mask)
  np.testing.assert_allclose(
    loss_cases.as_mean(values, mask).value(),
    np.square(student - teacher)[np.asarray(mask)].mean(),
    rtol=1e-6,
  )


def test_relations_take_any_heads_and_widths():
  student, teacher = three(0, width=6), three(10, width=12)
  for heads in (1, 2, 6):
    values, _ = objectives.attention_relations(student, teacher, heads=heads)
    assert values.shape == (3, 4)
    assert (values > 0).all()
  with_heads = tuple(x.reshape(3, 4, 3, 4) for x in teacher)
  values, _ = objectives.attention_relations(student, with_heads, heads=2)
  expected, _ = objectives.attention_relations(student, teacher, heads=2)
  np.testing.assert_array_equal(values, expected)
  with pytest.raises(errors.UserError, match="do not divide the width 6"):
    objectives.attention_relations(student, teacher, heads=4)
  with pytest.raises(errors.UserError, match="three of each"):
    objectives.attention_relations(student[:2], teacher, heads=2)
  with pytest.raises(errors.UserError, match="relations='q'"):
    objectives.attention_relations(student, teacher, heads=2, relations=("q",))


def test_other_numbers_of_heads():
  student, teacher = normal(0, 3, 2, 4, 4), normal(1, 3, 4, 4, 4)
  with pytest.raises(errors.UserError, match="heads='mean'"):
    objectives.attention_mse(student, teacher)
  values, _ = objectives.attention_mse(student, teacher, heads="mean")
  expected = np.square(student.mean(1) - teacher.mean(1))
  np.testing.assert_allclose(values[:, :, 0], expected, rtol=1e-5)
  values, _ = objectives.attention_mse(student, teacher, heads="sum")
  expected = np.square(student.sum(1) - teacher.sum(1))
  np.testing.assert_allclose(values[:, :, 0], expected, rtol=1e-5)


def test_hidden_states_learn_maps_to_the_teacher():
  student = (normal(0, 3, 4, 5), normal(1, 3, 4, 5))
  teacher = (normal(2, 3, 4, 8), normal(3, 3, 4, 8))
  with pytest.raises(errors.UserError, match="HiddenStates learns"):
    objectives.hidden_mse(student, teacher)
  own = objectives.HiddenStates().init(jax.random.key(0), student, teacher)
  assert sorted(own["params"]) == ["projection_0", "projection_1"]
  module = objectives.HiddenStates(shared=True)
  variables = module.init(jax.random.key(0), student, teacher)
  assert sorted(variables["params"]) == ["projection"]
  kernel = np.asarray(variables["params"]["projection"]["kernel"])
  expected = np.mean(
    [np.square(s @ kernel - t).mean(-1) for s, t in zip(student, teacher)],
    axis=0,
  )
  np.testing.assert_allclose(
    module.apply(variables, student, teacher), expected, rtol=1e-5
  )


def test_patient_reads_one_token():
  student, teacher = normal(0, 3, 4, 6), normal(1, 3, 4, 6)
  for position in (0, 3):
    np.testing.assert_allclose(
      objectives.patient(student, teacher, position=position),
      objectives.patient(student[:, position], teacher[:, position]),
      rtol=1e-6,
    )
  np.testing.assert_allclose(
    6 * objectives.patient(student, teacher, reduction="mean"),
    objectives.patient(student, teacher),
    rtol=1e-5,
  )
