"""The grouped convolution against XLA's own, in every form and transform."""

import functools
import re

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.models import conv

# (channels, features, groups, kernel, stride): below the limit of the
# block-dense form and above it, so that both of the CPU's forms are compared.
CASES = [
  (8, 16, 4, 3, 1),
  (16, 8, 8, 3, 2),
  (6, 6, 6, 1, 1),
  (136, 8, 4, 3, 1),
  (8, 136, 8, 3, 2),
  (132, 132, 66, 1, 2),
]


def sample(channels, features, groups, kernel=2, *, batch=4, dtype=np.float32):
  generator = np.random.default_rng(0)
  inputs = generator.normal(size=(batch, 5, 6, channels))
  shape = (kernel, kernel, channels // groups, features)
  weights = generator.normal(size=shape) / kernel**2
  return jnp.asarray(inputs, dtype), jnp.asarray(weights, dtype)


def sizes(groups, kernel=2, stride=1):
  side = (kernel // 2, kernel // 2)
  return {
    "strides": (stride, stride),
    "padding": (side, side),
    "groups": groups,
  }


def value_and_gradients(function, inputs, kernel):
  def loss(inputs, kernel):
    outputs = function(inputs, kernel)
    return jnp.sum(jnp.sin(outputs)), outputs

  (_, outputs), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(
    inputs, kernel
  )
  return outputs, gradients


def assert_close(actual, expected, tolerance=1e-5):
  pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
  for a, e in pairs:
    a, e = np.asarray(a, np.float32), np.asarray(e, np.float32)
    # Relative to the largest value, as the rounding of a sum is.
    np.testing.assert_allclose(
      a, e, rtol=0, atol=tolerance * max(1.0, np.abs(e).max())
    )


@pytest.mark.parametrize("channels,features,groups,kernel,stride", CASES)
def test_agrees_with_xla(channels, features, groups, kernel, stride):
  arrays = sample(channels, features, groups, kernel)
  options = sizes(groups, kernel, stride)
  ours, xla = (
    jax.jit(
      functools.partial(
        value_and_gradients, functools.partial(function, **options)
      )
    )(*arrays)
    for function in (conv.grouped_conv, conv.native)
  )
  assert_close(ours, xla)


@pytest.mark.parametrize("form", [conv.block_dense, conv.taps])
def test_each_form_agrees_under_uneven_padding(form):
  arrays = sample(8, 16, 4)
  options = {"strides": (2, 1), "padding": ((0, 1), (2, 1)), "groups": 4}
  assert_close(form(*arrays, **options), conv.native(*arrays, **options))


@pytest.mark.parametrize("channels", [16, 136])
def test_bfloat16(channels):
  arrays = sample(channels, channels, 4, dtype=jnp.bfloat16)
  wide = [np.asarray(array, np.float32) for array in arrays]
  function = functools.partial(conv.grouped_conv, **sizes(4))
  function = jax.jit(functools.partial(value_and_gradients, function))
  actual = function(*arrays)
  assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(actual))
  assert_close(actual, function(*wide), tolerance=3e-2)


@pytest.mark.parametrize("channels", [8, 136])
def test_gradient_of_gradient(channels):
  arrays = sample(channels, channels, 4, batch=2)

  def penalty(function, inputs, kernel):
    def loss(inputs):
      return jnp.sum(jnp.sin(function(inputs, kernel, **sizes(4))))

    return jnp.sum(jax.grad(loss)(inputs) ** 2)

  ours, xla = (
    jax.jit(jax.grad(functools.partial(penalty, function), (0, 1)))(*arrays)
    for function in (conv.grouped_conv, conv.native)
  )
  assert_close(ours, xla)


@pytest.mark.parametrize("channels,kernel_axis", [(8, 0), (136, None)])
def test_vmap(channels, kernel_axis):
  inputs, kernel = sample(channels, channels, 4)
  inputs = np.stack([inputs, inputs + 1])
  if kernel_axis == 0:
    kernel = np.stack([kernel, kernel * 2])
  ours, xla = (
    jax.jit(
      jax.vmap(
        functools.partial(
          value_and_gradients, functools.partial(function, **sizes(4))
        ),
        in_axes=(0, kernel_axis),
      )
    )(inputs, kernel)
    for function in (conv.grouped_conv, conv.native)
  )
  assert_close(ours, xla)


@pytest.mark.parametrize("channels", [8, 136])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_of_eight_agrees_with_one_device(channels, axis_type):
  assert jax.device_count() == 8
  inputs, kernel = sample(channels, channels, 4, batch=16)
  mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  function = functools.partial(
    value_and_gradients, functools.partial(conv.grouped_conv, **sizes(4))
  )
  on_mesh = jax.jit(function)(
    jax.device_put(inputs, sharding),
    jax.device_put(kernel, NamedSharding(mesh, PartitionSpec())),
  )
  assert on_mesh[0].sharding.is_equivalent_to(sharding, 4)
  assert_close(on_mesh, jax.jit(function)(inputs, kernel))


@pytest.mark.parametrize("channels", [8, 136])
def test_pmap_of_eight_agrees_with_one_device(channels):
  assert jax.device_count() == 8
  inputs, kernel = sample(channels, channels, 4, batch=16)
  function = functools.partial(
    value_and_gradients, functools.partial(conv.grouped_conv, **sizes(4))
  )
  one = jax.jit(function)(inputs, kernel)

  outputs, (inputs_gradient, kernel_gradient) = jax.pmap(
    function, in_axes=(0, None)
  )(inputs.reshape(8, 2, *inputs.shape[1:]), kernel)
  mapped = (
    outputs.reshape(one[0].shape),
    (inputs_gradient.reshape(inputs.shape), kernel_gradient.sum(0)),
  )
  assert_close(mapped, one)


@pytest.mark.parametrize("channels", [8, 136])
def test_the_platform_of_the_program_chooses_the_form(channels):
  arrays = sample(channels, channels, 4)
  function = functools.partial(
    value_and_gradients, functools.partial(conv.grouped_conv, **sizes(4))
  )
  native = functools.partial(
    value_and_gradients, functools.partial(conv.native, **sizes(4))
  )

  def convolutions(function, platform):
    traced = jax.jit(function).trace(*arrays)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    # The arguments that follow: strides, padding, groups and types.
    return sorted(re.findall(r"stablehlo.convolution.*(window.*)", text))

  assert convolutions(function, "tpu") == convolutions(native, "tpu")
  assert convolutions(function, "cuda") == convolutions(native, "cuda")
  # XLA writes the slow gradient as a convolution of groups of the batch.
  slow = "batch_group_count = 4"
  assert any(slow in line for line in convolutions(native, "cpu"))
  assert not any(slow in line for line in convolutions(function, "cpu"))
  compiled = jax.jit(function).lower(*arrays).compile().as_text()
  assert "conditional(" not in compiled


@pytest.mark.parametrize(
  "size,kernel,stride", [(7, 1, 1), (8, 3, 1), (7, 3, 2), (8, 3, 2), (8, 7, 2)]
)
def test_padding_is_symmetric(size, kernel, stride):
  module = conv.Conv(2, kernel, stride, kernel_init=jax.nn.initializers.ones)
  outputs, _ = jax.jit(module.init_with_output)(
    jax.random.key(0), jnp.ones((1, size, size, 1))
  )
  side = (size + 2 * (kernel // 2) - kernel) // stride + 1
  assert outputs.shape == (1, side, side, 2)
  # `kernel // 2` of the first window lies outside.
  assert outputs[0, 0, 0, 0] == (kernel - kernel // 2) ** 2


def test_module_parameters():
  module = conv.Conv(8, groups=4, use_bias=True, dtype=jnp.bfloat16)
  outputs, variables = jax.eval_shape(
    module.init_with_output,
    jax.random.key(0),
    jnp.ones((2, 4, 4, 12), jnp.bfloat16),
  )
  params = variables["params"]
  assert params["kernel"].value.shape == (3, 3, 3, 8)
  assert params["kernel"].value.dtype == jnp.float32
  assert params["kernel"].names[-1] == params["bias"].names[0] == "channels_out"
  assert outputs.dtype == jnp.bfloat16


def test_initial_kernel_has_the_variance_of_fan_out():
  kernel = jax.jit(conv.Conv(128).init)(
    jax.random.key(0), jnp.ones((1, 4, 4, 64))
  )["params"]["kernel"].value
  assert float(kernel.var()) == pytest.approx(2 / (9 * 128), rel=0.05)


@pytest.mark.parametrize(
  "fields,words",
  [
    ({"features": 6, "groups": 4}, "groups=4"),
    ({"features": 0}, "features=0"),
    ({"features": 4, "strides": 0}, "strides=0"),
    ({"features": 4, "kernel_size": (3, 3, 3)}, "kernel_size"),
    ({"features": 4, "padding": -1}, "padding=-1"),
  ],
)
def test_refuses_bad_fields(fields, words):
  with pytest.raises(errors.UserError, match=words) as error:
    conv.Conv(**fields)
  assert "\n" not in str(error.value)


def test_refuses_channels_that_groups_do_not_divide():
  with pytest.raises(errors.UserError, match="6 input channels"):
    conv.Conv(8, groups=4).init(jax.random.key(0), jnp.ones((1, 4, 4, 6)))
