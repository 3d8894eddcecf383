"""TAID's path and a learned temperature: what they remember and learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import objectives
from tsjax.core import errors


@pytest.fixture(name="pair")
def _pair():
  rng = np.random.RandomState(0)
  return tuple(jnp.asarray(rng.randn(4, 5), jnp.float32) for _ in range(2))


def walk(module, pair, losses):
  """Applies the module to students that are further and further ahead."""
  student, teacher = pair
  variables = module.init(jax.random.key(0), student, teacher)
  shares = []

  @jax.jit
  def step(variables, closer):
    # `closer` moves the student towards the teacher.
    moved = student + closer * (teacher - student)
    return module.apply(variables, moved, teacher, mutable=["memory"])

  for closer in losses:
    mean, variables = step(variables, closer)
    shares.append(float(variables["memory"]["share"]))
  return mean, shares, variables["memory"]


def test_the_teacher_comes_nearer_by_the_paper_s_rule(pair):
  module = objectives.Taid(steps=1000, rate=0.1, momentum=0.5)
  student, teacher = (np.asarray(x, np.float64) for x in pair)
  closer = (0.0, 0.3, 0.2, 0.6)
  _, shares, _ = walk(module, pair, closer)

  def softmax(x):
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)

  # Algorithm 1, literally.
  t, change, last, expected = 0.4, 0.0, np.inf, []
  for n, c in enumerate(closer):
    moved = student + c * (teacher - student)
    p, q = softmax((1 - t) * moved + t * teacher), softmax(moved)
    now = np.mean((p * np.log(p / q)).sum(-1))
    if np.isfinite(last):
      change = 0.5 * change + 0.5 * (last - now) / last
      risen = t + 0.1 / (1 + np.exp(-change)) * (1 - t)
      t = min(1.0, max(0.4 + 0.6 * n / 1000, risen))
    last = now
    expected.append(t)
  np.testing.assert_allclose(shares, expected, rtol=1e-5)


def test_the_line_is_the_least_and_the_end_the_most(pair):
  module = objectives.Taid(steps=4, start=0.2, end=0.8)
  _, shares, memory = walk(module, pair, [0.0] * 7)
  np.testing.assert_allclose(shares[1:4], [0.35, 0.5, 0.65], rtol=1e-2)
  np.testing.assert_allclose(shares[4:], 0.8, rtol=1e-6)
  assert memory["step"] == 7
  line = objectives.Taid(steps=4, start=0.2, end=0.8, adaptive=False)
  _, shares, _ = walk(line, pair, [0.0] * 3)
  np.testing.assert_allclose(shares, [0.2, 0.35, 0.5], rtol=1e-6)


def test_a_batch_without_examples_is_forgotten(pair):
  module = objectives.Taid(steps=10)
  variables = module.init(jax.random.key(0), *pair)
  none = jnp.zeros(4, bool)
  mean, changed = module.apply(variables, *pair, mask=none, mutable=["memory"])
  assert mean.count == 0
  assert changed["memory"]["last"] == np.inf


def test_taid_refuses_numbers_that_cannot_be(pair):
  for module, told in (
    (objectives.Taid(steps=5, start=0.9, end=0.5), "start <= end"),
    (objectives.Taid(steps=0, adaptive=False), "needs steps"),
  ):
    with pytest.raises(errors.UserError, match=told):
      module.init(jax.random.key(0), *pair)


@pytest.mark.parametrize("instance", [False, True])
def test_the_temperature_is_learned_against_the_student(pair, instance):
  """A step down the gradient of its own parameters raises the loss."""
  module = objectives.CurriculumTemperature(
    warmup=0, instance=instance, hidden=8
  )
  variables = module.init(jax.random.key(0), *pair)

  def loss(params):
    own = {**variables, "params": params}
    return module.apply(own, *pair, mutable=["memory"])[0].mean()

  value, gradient = jax.value_and_grad(loss)(variables["params"])
  moved = jax.tree.map(lambda p, g: p - 10 * g, variables["params"], gradient)
  assert loss(moved) > value


def test_the_reversed_gradient_warms_up(pair):
  module = objectives.CurriculumTemperature(warmup=2)
  variables = module.init(jax.random.key(0), *pair)

  @jax.jit
  def slope(variables):
    def loss(params):
      values, changed = module.apply(
        {**variables, "params": params}, *pair, mutable=["memory"]
      )
      return values.mean(), changed

    return jax.grad(loss, has_aux=True)(variables["params"])

  slopes = []
  for _ in range(3):
    gradient, changed = slope(variables)
    variables = {**variables, **changed}
    slopes.append(float(gradient["x"]))
  # Half a cosine over two steps: 1/2, then 1.
  np.testing.assert_allclose(
    [slopes[0] / slopes[1], slopes[2] / slopes[1]], [0.5, 1.0], rtol=1e-5
  )
