"""Losses between features: published values, what is learned, what refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tsjax import objectives
from tsjax.core import errors
from tsjax.objectives import activations, connectors, review

attention_transfer = jax.jit(
  objectives.attention_transfer, static_argnames="power"
)


def maps(seed, batch, channels, height, width):
  """Maps drawn as `[batch, channel, height, width]`, given as NHWC."""
  drawn = np.random.RandomState(seed).randn(batch, channels, height, width)
  return drawn.transpose(0, 2, 3, 1)


def students():
  return maps(20, 4, 6, 8, 8), maps(22, 4, 12, 4, 4)


def teachers():
  return maps(21, 4, 6, 8, 8), maps(23, 4, 12, 4, 4)


def cast(arrays, dtype):
  return tuple(jnp.asarray(x, dtype) for x in arrays)


def identity(channels, dtype=jnp.float32):
  """Parameters of a Hint whose projection changes nothing."""
  kernel, bias = jnp.eye(channels, dtype=dtype), jnp.zeros(channels, dtype)
  return {"params": {"projection": {"kernel": kernel, "bias": bias}}}


def test_attention_is_zero_for_itself_and_positive_for_others():
  student, teacher = cast(students(), "float32"), cast(teachers(), "float32")
  np.testing.assert_array_equal(
    objectives.attention_transfer(teacher, teacher), np.zeros(4)
  )
  values = attention_transfer(student, teacher)
  assert values.shape == (4,)
  assert (values > 0).all()


def test_attention_ignores_scale_and_number_of_channels():
  student, teacher = cast(students(), "float32")[0], teachers()[0]
  teacher = jnp.asarray(teacher, jnp.float32)
  values = attention_transfer(student, teacher)
  doubled = jnp.concatenate([teacher, teacher], axis=-1)
  np.testing.assert_allclose(
    objectives.attention_transfer(7 * student, doubled), values, rtol=1e-5
  )


def test_attention_values_examples_one_by_one():
  student, teacher = cast(students(), "float32"), cast(teachers(), "float32")
  order = np.array([2, 0, 3, 1])
  values = attention_transfer(student, teacher)
  permuted = attention_transfer(
    tuple(s[order] for s in student), tuple(t[order] for t in teacher)
  )
  np.testing.assert_allclose(permuted, values[order], rtol=1e-6)


def test_attention_value_of_a_public_implementation():
  # p = 2, two pairs of maps; RepDistiller.
  expected = 0.025293277692240677
  with jax.enable_x64(True):
    values = attention_transfer(
      cast(students(), "float64"), cast(teachers(), "float64")
    )
    assert values.dtype == jnp.float64
    np.testing.assert_allclose(values.mean(), expected, rtol=1e-6)
  values = attention_transfer(
    cast(students(), "float32"), cast(teachers(), "float32")
  )
  np.testing.assert_allclose(values.mean(), expected, rtol=1e-4)


def test_attention_by_hand():
  # Maps (1, 0) and (0, 1): the mean of two squared differences of 1.
  student = jnp.asarray([1.0, 0.0]).reshape(1, 1, 2, 1)
  value = objectives.attention_transfer(student, student[:, :, ::-1])
  np.testing.assert_allclose(value, [1.0])


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("teacher_is_zero", [False, True])
def test_attention_of_dead_maps_has_finite_gradients(power, teacher_is_zero):
  student = jnp.zeros((2, 3, 3, 4))
  teacher = student if teacher_is_zero else student + 1
  value, gradient = jax.jit(
    jax.value_and_grad(
      lambda s: objectives.attention_transfer(s, teacher, power=power).sum()
    )
  )(student)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_attention_of_bfloat16_is_computed_in_float32():
  student, teacher = cast(students(), "bfloat16"), cast(teachers(), "bfloat16")
  values = attention_transfer(student, teacher)
  assert values.dtype == jnp.float32
  with jax.enable_x64(True):
    wide = attention_transfer(
      *(
        tuple(jnp.asarray(np.asarray(x, np.float64)) for x in side)
        for side in (student, teacher)
      )
    )
  np.testing.assert_allclose(values, wide, rtol=1e-4)


def test_attention_refuses_taps_that_do_not_pair():
  student, teacher = cast(students(), "float32"), cast(teachers(), "float32")
  with pytest.raises(errors.UserError, match="2 student taps and 1 teacher"):
    objectives.attention_transfer(student, teacher[:1])
  with pytest.raises(errors.UserError, match="2 student taps and 1 teacher"):
    objectives.attention_transfer(student, teacher[0])
  with pytest.raises(errors.UserError, match="1 student taps and 2 teacher"):
    objectives.attention_transfer(student[0], teacher)
  with pytest.raises(errors.UserError, match="one resolution"):
    objectives.attention_transfer(student[0], teacher[1])
  # One position has a constant map: the term would be 0 for ever.
  with pytest.raises(errors.UserError, match="no positions"):
    objectives.attention_transfer(jnp.ones((4, 6)), jnp.ones((4, 6)))


def test_hint_error_of_a_public_implementation():
  # Mean squared error; RepDistiller.
  expected = 1.9759554260782437
  hint = objectives.Hint()
  student, teacher = students()[0], teachers()[0]
  values = hint.apply(identity(6), *cast((student, teacher), "float32"))
  assert values.shape == (4,)
  assert values.dtype == jnp.float32
  np.testing.assert_allclose(values.mean(), expected, rtol=1e-4)
  with jax.enable_x64(True):
    values = hint.apply(
      identity(6, "float64"), *cast((student, teacher), "float64")
    )
    np.testing.assert_allclose(values.mean(), expected, rtol=1e-6)


def test_hint_is_zero_for_itself_and_values_examples_one_by_one():
  student, teacher = cast((students()[0], teachers()[0]), "float32")
  hint = objectives.Hint()
  np.testing.assert_allclose(
    hint.apply(identity(6), teacher, teacher), 0, atol=1e-12
  )
  values = hint.apply(identity(6), student, teacher)
  np.testing.assert_allclose(
    hint.apply(identity(6), student[::-1], teacher[::-1]),
    values[::-1],
    rtol=1e-6,
  )


@pytest.mark.parametrize("shape", [(3,), (7, 3), (4, 4, 3)])
def test_hint_learns_a_map_to_the_teachers_width(shape):
  generator = np.random.RandomState(0)
  student = jnp.asarray(generator.randn(2, *shape), jnp.float32)
  teacher = jnp.asarray(generator.randn(2, *shape[:-1], 5), jnp.float32)
  hint = objectives.Hint()
  variables = hint.init(jax.random.key(0), student, teacher)
  assert jax.tree.map(jnp.shape, variables) == {
    "params": {"projection": {"kernel": (3, 5), "bias": (5,)}}
  }

  def loss(variables):
    values = hint.apply(variables, student, teacher)
    assert values.shape == (2,)
    return values.mean()

  value, gradient = jax.jit(jax.value_and_grad(loss))(variables)
  stepped = jax.tree.map(lambda p, g: p - 0.1 * g, variables, gradient)
  assert loss(stepped) < value


def test_hint_of_bfloat16_is_computed_in_float32():
  student, teacher = cast((students()[0], teachers()[0]), "bfloat16")
  values = objectives.Hint().apply(identity(6), student, teacher)
  assert values.dtype == jnp.float32
  difference = np.asarray(student, np.float64) - np.asarray(teacher, np.float64)
  np.testing.assert_allclose(
    values, (difference**2).mean(axis=(1, 2, 3)), rtol=1e-4
  )


def test_hint_refuses_another_resolution():
  with pytest.raises(errors.UserError, match="one resolution"):
    objectives.Hint().init(
      jax.random.key(0), jnp.ones((2, 8, 8, 3)), jnp.ones((2, 4, 4, 3))
    )


@pytest.mark.parametrize(
  "module",
  [
    objectives.ActivationBoundaries(),
    objectives.FactorTransfer(),
    objectives.VariationalInformation(),
    objectives.MaskedGeneration(),
    objectives.Overhaul(),
  ],
  ids=lambda module: type(module).__name__,
)
def test_learned_terms_take_any_channels_and_refuse_another_resolution(module):
  student, teacher = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 4, 4, 5))
  jax.eval_shape(module.init, jax.random.key(0), student, teacher)
  with pytest.raises(errors.UserError, match="resolution='pool'"):
    module.init(jax.random.key(0), student[:, :2, :2], teacher)
  pool = module.clone(resolution="pool")
  jax.eval_shape(pool.init, jax.random.key(0), student[:, :2, :2], teacher)


def test_margins_are_the_mean_of_all_negative_values_so_far():
  module = objectives.Overhaul(batch_norm=False)
  rng = np.random.RandomState(0)
  student = jnp.asarray(rng.randn(4, 2, 2, 3), jnp.float32)
  batches = [rng.randn(4, 2, 2, 3) for _ in range(2)]
  mask = np.array([True, True, True, False])
  variables = module.init(
    jax.random.key(0), student, jnp.asarray(batches[0], jnp.float32)
  )

  @jax.jit
  def step(variables, teacher):
    mean, changed = module.apply(
      variables, student, teacher, mask=jnp.asarray(mask), mutable=["memory"]
    )
    return mean, {**variables, **changed}

  for batch in batches:
    mean, variables = step(variables, jnp.asarray(batch, jnp.float32))
  seen = np.concatenate([b[mask].reshape(-1, 3) for b in batches])
  margins = [column[column < 0].mean() for column in seen.T]
  memory = variables["memory"]
  np.testing.assert_allclose(
    memory["negative_0"] / memory["count_0"], margins, rtol=1e-5
  )
  # The second batch was compared with the margins of both.
  maps = jax.device_get(variables["params"]["connector_0"]["map"])
  projected = np.asarray(student) @ maps["kernel"] + maps["bias"]
  target = np.maximum(batches[1], margins)
  partial = (projected > target) | (target > 0)
  expected = (partial * (projected - target) ** 2)[mask].sum() / 3 / 1000
  np.testing.assert_allclose(mean.value(), expected, rtol=1e-4)


def test_the_margin_of_a_norm_is_the_mean_below_zero():
  scale, bias = jnp.asarray([1.0, -2.0, 0.1]), jnp.asarray([0.0, 1.0, 5.0])
  margins = activations.margin_of_norm(scale, bias)
  drawn = np.random.RandomState(0).randn(400_000)
  for s, b, margin in zip((1.0, 2.0), (0.0, 1.0), margins[:2]):
    values = s * drawn + b
    np.testing.assert_allclose(margin, values[values < 0].mean(), rtol=1e-2)
  # Hardly anything is below 0: three deviations.
  np.testing.assert_allclose(margins[2], -0.3, rtol=1e-6)


def test_the_student_does_not_move_the_paraphraser():
  module = objectives.FactorTransfer(reconstruction=0.0)
  rng = np.random.RandomState(0)
  student, teacher = (
    jnp.asarray(rng.randn(2, 4, 4, c), jnp.float32) for c in (3, 5)
  )
  variables = module.init(jax.random.key(0), student, teacher)

  def gradient(module):
    return jax.jit(
      jax.grad(lambda p: module.apply({"params": p}, student, teacher).mean())
    )(variables["params"])

  alone = gradient(module)
  sizes = {
    name: max(np.abs(g).max() for g in layer.values())
    for name, layer in alone.items()
  }
  for name, size in sizes.items():
    assert (size > 0) == name.startswith("translator"), name
  both = gradient(objectives.FactorTransfer())
  assert np.abs(both["decoder_0"]["kernel"]).max() > 0
  np.testing.assert_allclose(
    both["translator_0"]["kernel"], alone["translator_0"]["kernel"], rtol=1e-5
  )


def test_variance_is_learned_for_each_channel():
  module = objectives.VariationalInformation()
  rng = np.random.RandomState(0)
  student, teacher = (
    jnp.asarray(rng.randn(2, 4, c), jnp.float32) for c in (3, 5)
  )
  variables = module.init(jax.random.key(0), student, teacher)
  params = variables["params"]
  assert params["scale"].shape == (5,)
  x = np.asarray(student)
  for i in range(3):
    x = np.maximum(x, 0) if i else x
    x = x @ params[f"regressor_{i}"]["kernel"]
  expected = 0.5 * ((x - np.asarray(teacher)) ** 2 / 5.0 + np.log(5.0))
  np.testing.assert_allclose(
    module.apply(variables, student, teacher),
    expected.mean((1, 2)),
    rtol=1e-5,
  )


def test_positions_are_masked_anew_in_every_step():
  module = objectives.MaskedGeneration(masked=0.5)
  rng = np.random.RandomState(0)
  student, teacher = (
    jnp.asarray(rng.randn(2, 6, 6, c), jnp.float32) for c in (3, 3)
  )
  variables = module.init(jax.random.key(0), student, teacher)
  assert "align" not in variables["params"]

  @jax.jit
  def step(variables):
    values, changed = module.apply(
      variables, student, teacher, mutable=["memory"]
    )
    return values, {**variables, **changed}

  first, later = step(variables)
  np.testing.assert_array_equal(step(variables)[0], first)
  assert (step(later)[0] != first).all()
  summed = module.clone(reduction="sum").apply(
    variables, student, teacher, mutable=["memory"]
  )[0]
  np.testing.assert_allclose(summed, 108 * first, rtol=1e-5)


def test_review_takes_pooled_features_and_other_resolutions():
  module = objectives.Review()
  student = (jnp.ones((2, 8, 8, 3)), jnp.ones((2, 4, 4, 6)), jnp.ones((2, 9)))
  teacher = (jnp.ones((2, 7, 7, 4)), jnp.ones((2, 4, 4, 8)), jnp.ones((2, 5)))
  variables = jax.eval_shape(module.init, jax.random.key(0), student, teacher)
  shapes = jax.tree.map(jnp.shape, variables["params"])
  assert shapes["map_0"]["map"]["kernel"] == (1, 1, 3, 9)[2:]
  assert shapes["out_0"]["map"]["kernel"] == (3, 3, 9, 4)
  assert "attention_0" in shapes
  assert "attention_2" not in shapes
  with pytest.raises(errors.UserError, match="3 student taps and 2 teacher"):
    module.init(jax.random.key(0), student, teacher[:2])


@pytest.mark.parametrize(("length", "size"), [(4, 8), (8, 4), (4, 7), (7, 3)])
def test_resizing_is_pytorch_s_nearest(length, size):
  x = np.random.RandomState(0).randn(2, length, length, 3).astype(np.float32)
  expected = torch.nn.functional.interpolate(
    torch.from_numpy(x.transpose(0, 3, 1, 2)), (size, size), mode="nearest"
  )
  np.testing.assert_array_equal(
    review.resized(jnp.asarray(x), (size, size)),
    expected.numpy().transpose(0, 2, 3, 1),
  )


def test_connectors_normalise_by_the_valid_examples():
  x = np.random.RandomState(0).randn(5, 4, 3).astype(np.float32)
  mask = np.array([True, True, True, False, False])
  module = connectors.Connector(2)
  variables = module.init(jax.random.key(0), jnp.asarray(x))
  found = module.apply(variables, jnp.asarray(x), jnp.asarray(mask))
  mapped = x[mask] @ variables["params"]["map"]["kernel"]
  expected = torch.nn.functional.batch_norm(
    torch.from_numpy(np.array(mapped)).transpose(1, 2),
    None,
    None,
    training=True,
  )
  np.testing.assert_allclose(
    found[mask], expected.transpose(1, 2).numpy(), atol=1e-5
  )
  np.testing.assert_array_equal(found[~mask], 0)
