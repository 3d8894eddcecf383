"""Soft targets: laws, published values, extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import objectives
from tsjax.core import errors
from tsjax.objectives import logits, top_k


def normal(seed, *shape, scale=2.0):
  return np.random.RandomState(seed).randn(*shape) * scale


@pytest.fixture
def pair():
  """Student and teacher logits `[8, 10]`, float64."""
  return normal(0, 8, 10), normal(1, 8, 10)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_zero_for_the_teacher_itself_and_positive_for_others(pair, temperature):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  same = objectives.soft_targets(teacher, teacher, temperature=temperature)
  other = objectives.soft_targets(student, teacher, temperature=temperature)
  assert same.shape == other.shape == (8,)
  np.testing.assert_allclose(same, 0, atol=1e-6)
  assert (other > 0).all()


def test_a_constant_added_to_the_logits_changes_nothing(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  np.testing.assert_allclose(
    objectives.soft_targets(student + 3, teacher - 2, temperature=2.0),
    objectives.soft_targets(student, teacher, temperature=2.0),
    rtol=1e-4,
  )


def test_examples_are_valued_one_by_one(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  order = np.random.RandomState(5).permutation(8)
  values = objectives.soft_targets(student, teacher)
  permuted = objectives.soft_targets(student[order], teacher[order])
  np.testing.assert_array_equal(permuted, values[order])


def test_gradient_keeps_its_size_when_the_temperature_changes(pair):
  def gradient(temperature):
    return differentiate(student, temperature)[0]

  with jax.enable_x64(True):
    student, teacher = (jnp.asarray(x) for x in pair)
    differentiate = jax.jit(
      jax.grad(
        lambda s, t: objectives.soft_targets(s, teacher, temperature=t)[0]
      )
    )
    sizes = [float(jnp.linalg.norm(gradient(t))) for t in (1.0, 4.0, 16.0)]
    assert max(sizes) < 4 * min(sizes)  # without T^2: more than 50 times
    # Hinton et al. 2015, equation 4: the limit of high temperatures.
    difference = student[0] - teacher[0]
    limit = (difference - difference.mean()) / difference.size
    np.testing.assert_allclose(gradient(1e5), limit, rtol=1e-3, atol=1e-5)


def test_value_of_public_implementations(pair):
  # T = 4; RepDistiller, mdistiller and big_vision agree.
  expected = 2.341880192429552
  with jax.enable_x64(True):
    student, teacher = (jnp.asarray(x) for x in pair)
    values = objectives.soft_targets(student, teacher, temperature=4.0)
    assert values.dtype == jnp.float64
    np.testing.assert_allclose(values.mean(), expected, rtol=1e-6)
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  values = objectives.soft_targets(
    student, teacher, temperature=jnp.float32(4.0)
  )
  assert values.dtype == jnp.float32
  np.testing.assert_allclose(values.mean(), expected, rtol=1e-4)


def test_value_of_public_implementations_per_token():
  # T = 2, mean over the 7 valid tokens; MaxText and distil-whisper agree.
  student = jnp.asarray(normal(10, 2, 5, 13), jnp.float32)
  teacher = jnp.asarray(normal(11, 2, 5, 13), jnp.float32)
  valid = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 1, 1]], bool)
  values = objectives.soft_targets(student, teacher, temperature=2.0)
  assert values.shape == (2, 5)
  np.testing.assert_allclose(values[valid].mean(), 2.454495906829834, rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_inputs_are_computed_in_float32(pair, dtype):
  student, teacher = (jnp.asarray(x, dtype) for x in pair)
  values = objectives.soft_targets(student, teacher, temperature=4.0)
  assert values.dtype == jnp.float32
  with jax.enable_x64(True):
    wide = objectives.soft_targets(
      jnp.asarray(np.asarray(student, np.float64)),
      jnp.asarray(np.asarray(teacher, np.float64)),
      temperature=4.0,
    )
  np.testing.assert_allclose(values, wide, rtol=1e-4)


def test_a_class_that_the_teacher_excludes_contributes_nothing(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  teacher = teacher.at[:, 3].set(-jnp.inf)

  def total(student):
    return objectives.soft_targets(student, teacher, temperature=2.0).sum()

  value, gradient = jax.jit(jax.value_and_grad(total))(student)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()
  # Its probability is pushed down.
  assert (gradient[:, 3] > 0).all()


def test_a_class_that_both_exclude_is_as_if_it_were_not_there(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  excluded = [x.at[:, 9].set(-jnp.inf) for x in (student, teacher)]

  def total(student, teacher):
    return objectives.soft_targets(student, teacher, temperature=2.0).sum()

  value, gradient = jax.jit(jax.value_and_grad(total))(*excluded)
  expected = jax.jit(jax.value_and_grad(total))(student[:, :9], teacher[:, :9])
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  np.testing.assert_allclose(gradient[:, :9], expected[1], atol=1e-6)
  np.testing.assert_array_equal(gradient[:, 9], 0)


@pytest.mark.parametrize("row", [[0.0] * 4, [1e4, -1e4, 0, 0], [-1e30] * 4])
def test_extreme_logits_have_finite_values_and_gradients(row):
  student = jnp.asarray([row, [1.0, 2, 3, 4]])
  teacher = student[::-1]
  value, gradient = jax.value_and_grad(
    lambda s: objectives.soft_targets(s, teacher, temperature=1.0).sum()
  )(student)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_kl_by_hand():
  p = jnp.log(jnp.asarray([0.5, 0.5, 0.0]))
  q = jnp.log(jnp.asarray([0.25, 0.5, 0.25]))
  np.testing.assert_allclose(logits.kl(p, q), 0.5 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
  "loss",
  [
    objectives.soft_targets,
    objectives.generalised_jsd,
    objectives.skew_kl,
    objectives.skew_reverse_kl,
    objectives.logit_mse,
  ],
)
def test_a_temperature_for_each_example(pair, loss):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  temperatures = jnp.linspace(1.0, 4.0, 8)
  values = loss(student, teacher, temperature=temperatures)
  for b in (0, 5):
    alone = loss(student[b], teacher[b], temperature=temperatures[b])
    np.testing.assert_allclose(values[b], alone, rtol=1e-5)
  with pytest.raises(errors.UserError, match="one for each"):
    loss(student, teacher, temperature=temperatures[:3])


@pytest.mark.parametrize(
  "loss",
  [
    objectives.generalised_jsd,
    objectives.skew_kl,
    objectives.skew_reverse_kl,
    objectives.total_variation,
    objectives.logit_mse,
    objectives.reverse_kl,
    objectives.student_top_k,
  ],
)
def test_a_class_that_both_exclude_leaves_a_finite_gradient(pair, loss):
  student, teacher = (
    jnp.asarray(x, jnp.float32).at[:, 9].set(-jnp.inf) for x in pair
  )
  more = {"k": 4} if loss is objectives.student_top_k else {}
  value, gradient = jax.value_and_grad(
    lambda s: loss(s, teacher, **more).sum()
  )(student)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()
  without = loss(student[:, :9], teacher[:, :9], **more).sum()
  share = 0.9 if loss is objectives.logit_mse else 1.0
  np.testing.assert_allclose(value, share * without, rtol=1e-5)


@pytest.mark.parametrize(
  "loss", [objectives.generalised_jsd, objectives.skew_kl]
)
def test_a_class_that_only_the_student_excludes_is_bounded(pair, loss):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  student = student.at[:, 2].set(-jnp.inf)
  value, gradient = jax.value_and_grad(lambda s: loss(s, teacher).sum())(
    student
  )
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_mixtures_at_their_ends_are_the_divergences(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  forward = objectives.soft_targets(student, teacher)
  reverse = objectives.reverse_kl(student, teacher)
  for value, expected in (
    (objectives.generalised_jsd(student, teacher, beta=0.0), forward),
    (objectives.generalised_jsd(student, teacher, beta=1.0), reverse),
    (objectives.skew_kl(student, teacher, alpha=0.0), forward),
    (objectives.skew_reverse_kl(student, teacher, alpha=0.0), reverse),
    (objectives.soft_targets(teacher, student), reverse),
  ):
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_the_student_s_top_k_is_never_above_all_classes(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  dense = objectives.soft_targets(student, teacher)
  last = np.zeros(8)
  for k in (1, 3, 9, 10):
    value = objectives.student_top_k(student, teacher, k=k)
    assert (value <= dense + 1e-5).all()
    assert (value >= last - 1e-5).all()
    last = value
  np.testing.assert_allclose(last, dense, rtol=1e-5)


def test_another_vocabulary_and_another_length():
  student = jnp.asarray(normal(0, 2, 4, 6), jnp.float32)
  teacher = jnp.asarray(normal(1, 2, 3, 9), jnp.float32)
  with pytest.raises(errors.UserError, match="truncated"):
    objectives.universal_logits(student, teacher)
  values, valid = objectives.universal_logits(
    student, teacher, length="truncated"
  )
  np.testing.assert_array_equal(valid, [[True, True, True, False]] * 2)
  np.testing.assert_allclose(
    values[:, :3],
    objectives.universal_logits(student[:, :3], teacher),
    rtol=1e-5,
  )


@pytest.mark.parametrize(
  ("call", "told"),
  [
    (lambda s, t: objectives.soft_targets(s, t[:, :9]), "one shape"),
    (lambda s, t: objectives.generalised_jsd(s, t, beta=1.5), "not in 0..1"),
    (lambda s, t: objectives.skew_kl(s, t, alpha=-1), "not in 0..1"),
    (lambda s, t: objectives.total_variation(s, t, k=11), "0..10"),
    (lambda s, t: objectives.student_top_k(s, t, k=0), "1..10"),
    (lambda s, t: objectives.logit_mse(s, t, reduction="men"), "mean"),
    (lambda s, t: objectives.hinge_ranking(s, t, k=11), "0..10"),
    (lambda s, t: objectives.dist(s, t, temperature=s[:, 0]), "one temp"),
    (
      lambda s, t: objectives.decoupled(s, t, jnp.zeros((8, 1), int)),
      "one class",
    ),
    (
      lambda s, t: objectives.virtual_teacher(
        s, jnp.zeros(8, int), correct=0.05
      ),
      "share of a class",
    ),
    (
      lambda s, t: objectives.standardised_soft_targets(s[:, :1], t[:, :1]),
      "no deviation",
    ),
  ],
)
def test_what_cannot_be_compared_is_refused(pair, call, told):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  with pytest.raises(errors.UserError, match=told):
    call(student, teacher)


def test_ranking_reads_the_teacher_s_top_k(pair):
  student, teacher = (jnp.asarray(x, jnp.float32) for x in pair)
  cached = top_k.top_k(teacher, 4)
  for loss in (objectives.hinge_ranking, objectives.logistic_ranking):
    values, counts = loss(student, teacher, k=4)
    assert values.shape == counts.shape == (8, 4, 4)
    # Four classes in order: six pairs.
    np.testing.assert_array_equal(counts.sum((1, 2)), 6)
    np.testing.assert_array_equal(loss(student, cached)[0], values)
