"""The teacher's top k: laws, published values, what is left at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import objectives
from tsjax.core import errors
from tsjax.objectives import top_k

VALID = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 1, 1]], bool)


def normal(seed, *shape, scale=2.0):
  return np.random.RandomState(seed).randn(*shape) * scale


@pytest.fixture
def tokens():
  """Student and teacher token logits `[2, 5, 13]`, float64."""
  return normal(10, 2, 5, 13), normal(11, 2, 5, 13)


@pytest.fixture
def pair():
  """Student and teacher logits `[8, 10]`, float64."""
  return normal(0, 8, 10), normal(1, 8, 10)


def both_precisions(pair, function):
  """`function(student, teacher)` in float64 and in float32."""
  with jax.enable_x64(True):
    wide = function(*(jnp.asarray(x) for x in pair))
    assert wide.dtype == jnp.float64
  narrow = function(*(jnp.asarray(x, jnp.float32) for x in pair))
  assert narrow.dtype == jnp.float32
  return np.asarray(wide), np.asarray(narrow)


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(
  ("tail", "temperature", "total", "valid_mean"),
  [
    # DistillKit; the sum over 7 valid tokens.
    ("bucket", 1.0, 11.141931113274238, None),
    # MaxText; the mean over 7 valid tokens.
    ("renormalised", 2.0, None, 1.486120343208313),
  ],
)
def test_values_of_public_implementations(
  tokens, tail, temperature, total, valid_mean
):
  wide, narrow = both_precisions(
    tokens,
    lambda s, t: objectives.soft_targets_top_k(
      s, t, k=4, tail=tail, temperature=temperature
    ),
  )
  for values, rtol in ((wide, 1e-6), (narrow, 1e-5)):
    if total is not None:
      np.testing.assert_allclose(values[VALID].sum(), total, rtol=rtol)
    else:
      np.testing.assert_allclose(values[VALID].mean(), valid_mean, rtol=rtol)


def test_every_tail_rule_is_its_definition(tokens):
  student, teacher = tokens
  temperature, k = 3.0, 4
  p, q = softmax(teacher / temperature), softmax(student / temperature)
  best = np.argsort(-p, axis=-1)[..., :k]
  p, q = (np.take_along_axis(x, best, axis=-1) for x in (p, q))
  p_rest, q_rest = 1 - p.sum(-1), 1 - q.sum(-1)
  p_scaled, q_scaled = (x / x.sum(-1, keepdims=True) for x in (p, q))
  expected = {
    "none": (p * np.log(p / q)).sum(-1),
    "bucket": (p * np.log(p / q)).sum(-1) + p_rest * np.log(p_rest / q_rest),
    "renormalised": (p_scaled * np.log(p_scaled / q_scaled)).sum(-1),
    "teacher_renormalised": (p_scaled * np.log(p_scaled / q)).sum(-1),
  }
  assert expected.keys() == set(top_k.TAILS)
  for tail, value in expected.items():
    wide, narrow = both_precisions(
      tokens,
      lambda s, t, tail=tail: objectives.soft_targets_top_k(
        s, t, k=k, tail=tail, temperature=temperature
      ),
    )
    np.testing.assert_allclose(wide, value * 9, rtol=1e-9, err_msg=tail)
    np.testing.assert_allclose(narrow, value * 9, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_the_bucket_is_never_above_the_dense_loss(pair, temperature):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  dense = objectives.soft_targets(student, teacher, temperature=temperature)
  values = [
    objectives.soft_targets_top_k(
      student, teacher, k=k, temperature=temperature
    )
    for k in (1, 2, 5, 9, 10)
  ]
  # More classes see more.
  for less, more in zip(values, [*values[1:], dense], strict=True):
    assert (less <= more + 1e-4).all()
    assert (less > 0).all()
  np.testing.assert_allclose(values[-1], dense, rtol=1e-5)


@pytest.mark.parametrize("tail", top_k.TAILS)
def test_all_classes_leave_no_tail(pair, tail):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  value, gradient = jax.value_and_grad(
    lambda s: objectives.soft_targets_top_k(
      s, teacher, k=10, tail=tail, temperature=2.0
    ).sum()
  )(student)
  dense, expected = jax.value_and_grad(
    lambda s: objectives.soft_targets(s, teacher, temperature=2.0).sum()
  )(student)
  np.testing.assert_allclose(value, dense, rtol=1e-5)
  np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("tail", ["bucket", "renormalised"])
def test_zero_and_without_gradient_for_the_teacher_itself(pair, tail):
  teacher = jnp.asarray(pair[1], jnp.float32)
  value, gradient = jax.value_and_grad(
    lambda s: objectives.soft_targets_top_k(
      s, teacher, k=3, tail=tail, temperature=2.0
    ).sum()
  )(teacher)
  np.testing.assert_allclose(value, 0, atol=1e-5)
  np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_without_a_tail_the_loss_can_be_below_zero(pair):
  teacher = jnp.asarray(pair[1], jnp.float32)
  best = top_k.top_k(teacher, 3)
  beyond = teacher - 3.0
  student = jnp.put_along_axis(
    beyond,
    best.indices,
    jnp.take_along_axis(teacher, best.indices, axis=-1),
    axis=-1,
    inplace=False,
  )
  loss = objectives.soft_targets_top_k
  assert (loss(student, best, tail="none") < 0).all()
  assert (loss(student, best, tail="bucket") > 0).all()


def test_top_k_gives_the_logits_back(pair):
  teacher = jnp.asarray(pair[1], jnp.float32)
  best = top_k.top_k(teacher, 10, temperature=4.0)
  assert (np.diff(best.log_probabilities, axis=-1) <= 0).all()
  np.testing.assert_allclose(
    (best.log_probabilities + best.log_sum_exp[:, None]) * 4,
    np.take_along_axis(np.asarray(teacher), np.asarray(best.indices), axis=-1),
    atol=1e-5,
  )


def test_what_float16_stores_gives_the_loss_within_a_thousandth(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  for temperature in (1.0, 4.0):
    best = top_k.top_k(teacher, 3, temperature=temperature)
    stored = best.replace(
      log_probabilities=best.log_probabilities.astype(jnp.float16)
    )
    exact, rounded = (
      objectives.soft_targets_top_k(student, x, temperature=temperature)
      for x in (best, stored)
    )
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded.mean(), exact.mean(), rtol=1e-3)


def test_a_tail_far_below_one_is_not_rounded_away():
  # Log-probabilities next to 0 resolve what probabilities next to 1 do not.
  stored = top_k.TopK(
    jnp.log1p(jnp.asarray([[-1e-9]])), jnp.asarray([[0]]), jnp.zeros((1,))
  )
  student = jnp.log(jnp.asarray([[1.0, 5e-13, 5e-13]]))
  value = objectives.soft_targets_top_k(student, stored)
  expected = -1e-9 + 1e-9 * np.log(1e-9 / 1e-12)
  np.testing.assert_allclose(value, [expected], rtol=1e-3)


@pytest.mark.parametrize("tail", top_k.TAILS)
@pytest.mark.parametrize(
  "row",
  [
    [0.0] * 4,
    [1e4, -1e4, 0, 0],
    [200.0, 0, 0, 0],
    # Fewer classes than k are left, or none but the top k.
    [1.0, -np.inf, -np.inf, -np.inf],
    [1.0, 2.0, -np.inf, -np.inf],
  ],
)
def test_extreme_logits_have_finite_values_and_gradients(tail, row):
  teacher = jnp.asarray([row, row])
  student = jnp.asarray([row, [1.0, 2, 3, 4]])
  value, gradient = jax.value_and_grad(
    lambda s: objectives.soft_targets_top_k(s, teacher, k=2, tail=tail).sum()
  )(student)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_probabilities_that_add_up_to_more_than_one_leave_no_tail():
  stored = top_k.TopK(
    jnp.log(jnp.asarray([[0.9, 0.1001]])).astype(jnp.float16),
    jnp.asarray([[2, 0]]),
    jnp.zeros((1,)),
  )
  value, gradient = jax.value_and_grad(
    lambda s: objectives.soft_targets_top_k(s, stored).sum()
  )(jnp.asarray([[1.0, 2, 3, 4]]))
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"tail": "buckets", "k": 2}, "tail='buckets': did you mean 'bucket'"),
    ({}, "the teacher gives logits, so say how many classes to read: k=10"),
    ({"k": 11}, "k=11 must be in 1..10, the number of classes"),
  ],
)
def test_what_does_not_fit_is_told(pair, options, said):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  with pytest.raises(errors.UserError) as error:
    objectives.soft_targets_top_k(student, teacher, **options)
  assert said in str(error.value)


def test_another_k_than_the_stored_one_is_told(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  with pytest.raises(errors.UserError, match="but the teacher holds its top 3"):
    objectives.soft_targets_top_k(student, top_k.top_k(teacher, 3), k=4)


def test_a_loss_of_logits_says_what_reads_a_top_k(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  with pytest.raises(AttributeError, match=r"objectives\.soft_targets_top_k"):
    objectives.soft_targets(student, top_k.top_k(teacher, 3))
