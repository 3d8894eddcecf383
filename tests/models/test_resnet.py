"""Names, shapes, sizes and promises of ResNet and ResNeXt."""

import collections
import functools
import re

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors, taps, trees
from tsjax.models import axes, resnet

SMALL = {
  "resnet": resnet.ResNet((1, 2), 8, 10),
  "resnet_bottleneck": resnet.ResNet((1, 1), 8, 10, bottleneck=True),
  "resnext": resnet.ResNeXt((1, 2), 8, 4, 10),
  "resnext_basic": resnet.ResNeXt((1, 2), 8, 4, 10, bottleneck=False),
  "resnext_imagenet": resnet.ResNeXt(
    (1, 1), 8, 4, 10, group_width=4, stem="imagenet"
  ),
}


def shapes(model, *, side=8, channels=1, dtype=jnp.float32, train=False):
  """Shapes of the logits and variables, and of the taps by name."""
  logits, variables = jax.eval_shape(
    functools.partial(model.init_with_output, train=train),
    jax.random.key(0),
    jax.ShapeDtypeStruct((2, side, side, channels), dtype),
  )
  return logits, variables, taps.named(variables["taps"])


def parameters(model, **options):
  return trees.flatten(nn.unbox(shapes(model, **options)[1]["params"]))


@pytest.mark.parametrize(
  "model,size",
  [
    # From torchvision's table of models ("Num. Params"), version 0.20.
    (resnet.ResNet((2, 2, 2, 2), 64, 1000, stem="imagenet"), 11_689_512),
    (
      resnet.ResNet((3, 4, 6, 3), 64, 1000, bottleneck=True, stem="imagenet"),
      25_557_032,
    ),
    (
      resnet.ResNeXt(
        (3, 4, 6, 3), 64, 32, 1000, group_width=4, stem="imagenet"
      ),
      25_028_904,
    ),
  ],
  ids=["resnet_18", "resnet_50", "resnext_50_32x4d"],
)
def test_published_parameter_counts_and_shapes(model, size):
  logits, variables, found = shapes(model, side=224, channels=3)
  assert trees.size(nn.unbox(variables["params"])) == size
  assert logits.shape == (2, 1000)
  expansion = 4 if getattr(model, "bottleneck", True) else 1
  assert {name: tap.shape for name, tap in found.items()} == {
    "stem/output": (2, 56, 56, 64),
    "stage_1/output": (2, 56, 56, 64 * expansion),
    "stage_2/output": (2, 28, 28, 128 * expansion),
    "stage_3/output": (2, 14, 14, 256 * expansion),
    "stage_4/output": (2, 7, 7, 512 * expansion),
    "features": (2, 512 * expansion),
  }


def test_parameter_count_by_hand():
  # stem, then basic blocks 8 -> 8 and 8 -> 16 with a shortcut, then head
  stem = 9 * 8 + 2 * 8
  stage_1 = 9 * 8 * 8 + 2 * 8 + 9 * (8 // 4) * 8 + 2 * 8
  stage_2 = 9 * 8 * 16 + 2 * 16 + 9 * (16 // 4) * 16 + 2 * 16
  shortcut = 8 * 16 + 2 * 16
  head = 16 * 10 + 10
  model = resnet.ResNeXt((1, 1), 8, 4, 10, bottleneck=False)
  found = trees.size(parameters(model))
  assert found == stem + stage_1 + stage_2 + shortcut + head


@pytest.mark.parametrize("name", SMALL)
def test_taps_and_dtypes(name):
  logits, variables, found = shapes(SMALL[name])
  assert sorted(found) == [
    "features",
    "stage_1/output",
    "stage_2/output",
    "stem/output",
  ]
  assert logits.shape == (2, 10) and logits.dtype == jnp.float32
  low = SMALL[name].clone(dtype="bfloat16")
  logits, variables, found = shapes(low, dtype=jnp.bfloat16, train=True)
  assert logits.dtype == found["features"].dtype == jnp.float32
  assert found["stage_2/output"].dtype == jnp.bfloat16
  del variables["taps"]
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", SMALL)
def test_all_parameters_name_known_axes(name):
  boxes = trees.flatten(shapes(SMALL[name])[1]["params"])
  for path, box in boxes.items():
    assert isinstance(box, nn.LogicallyPartitioned), path
    assert len(box.names) == box.value.ndim, path
    assert set(box.names) <= set(axes.AXES), path


@pytest.mark.parametrize("bottleneck", [False, True])
def test_resnet_and_resnext_share_names(bottleneck):
  fields = {"stage_sizes": (1, 2), "width": 8, "classes": 10}
  dense = parameters(resnet.ResNet(bottleneck=bottleneck, **fields))
  grouped = parameters(
    resnet.ResNeXt(bottleneck=bottleneck, cardinality=4, **fields)
  )
  assert list(dense) == list(grouped)
  unlike = {p for p in dense if dense[p].shape != grouped[p].shape}
  assert unlike == {p for p in dense if p.endswith("conv_2/kernel")}
  for path in unlike:
    assert dense[path].shape[2] == 4 * grouped[path].shape[2]


@pytest.mark.parametrize("bottleneck", [False, True])
def test_cardinality_one_is_a_resnet(bottleneck):
  fields = {"stage_sizes": (1, 1), "width": 4, "classes": 3}
  fields["bottleneck"] = bottleneck
  programs = [
    jax.make_jaxpr(functools.partial(model.apply, train=False))(
      shapes(model)[1], jnp.ones((2, 8, 8, 1))
    )
    for model in (
      resnet.ResNet(**fields),
      resnet.ResNeXt(cardinality=1, **fields),
    )
  ]
  assert str(programs[0]) == str(programs[1])


def test_zero_scale_starts_blocks_as_their_shortcuts():
  model = resnet.ResNet((2,), 4, 3, zero_scale=True)
  images = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
  images = images.astype(np.float32)
  _, variables = jax.jit(
    functools.partial(model.init_with_output, train=False)
  )(jax.random.key(0), images)
  found = taps.named(variables["taps"])
  np.testing.assert_array_equal(found["stem/output"], found["stage_1/output"])


def test_taps_that_are_not_read_cost_nothing():
  model = resnet.ResNeXt((1,), 8, 4, 10, bottleneck=False)
  images = jax.ShapeDtypeStruct((8, 8, 8, 1), jnp.float32)
  variables = shapes(model)[1]

  def step(variables, images, *, collected, read):
    def loss(params):
      logits, updated = model.apply(
        {"params": params, "batch_stats": variables["batch_stats"]},
        images,
        train=True,
        mutable=["batch_stats", *collected],
      )
      value = (logits**2).sum()
      found = taps.named(updated.get("taps", {}))
      for name in read:
        value += (taps.select(found, name, of="model") ** 2).sum()
      return value, updated["batch_stats"]

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])

  def compiled(collected, read=()):
    function = functools.partial(step, collected=collected, read=read)
    program = jax.jit(function).lower(variables, images).compile()
    operations = re.findall(r" = \S+ ([a-z-]+)\(", program.as_text())
    return program.cost_analysis()["flops"], collections.Counter(operations)

  without = compiled([])
  assert compiled(["taps"]) == without
  assert compiled(["taps"], ["stage_1/output"])[0] > without[0]


def test_fields_from_a_config_make_equal_modules():
  model = resnet.ResNet([1, 2], 8, 10)  # a config writes lists
  assert model == SMALL["resnet"] and hash(model) == hash(SMALL["resnet"])


@pytest.mark.parametrize(
  "fields,words",
  [
    ({"stage_sizes": ()}, "stage_sizes"),
    ({"stage_sizes": (2, 0)}, "stage_sizes"),
    ({"width": 0}, "width=0"),
    ({"classes": 0}, "classes=0"),
    ({"stem": "imagnet"}, "did you mean 'imagenet'"),
    ({"cardinality": 0}, "cardinality=0"),
    ({"cardinality": 3}, "width=8 .*cardinality=3"),
    ({"group_width": 0}, "group_width=0"),
    (
      {"cardinality": 3, "group_width": 4, "bottleneck": False},
      "width=8 .*cardinality=3",
    ),
  ],
)
def test_refuses_bad_fields(fields, words):
  good = {"stage_sizes": (1,), "width": 8, "cardinality": 4, "classes": 10}
  with pytest.raises(errors.UserError, match=words) as error:
    resnet.ResNeXt(**{**good, **fields})
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "shape,dtype", [((2, 8, 8), jnp.float32), ((2, 8, 8, 1), jnp.uint8)]
)
def test_refuses_what_is_no_image(shape, dtype):
  with pytest.raises(errors.UserError, match="are not images"):
    SMALL["resnet"].init(
      jax.random.key(0), jnp.zeros(shape, dtype), train=False
    )
