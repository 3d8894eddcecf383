"""Meshes, and where parameters lie on them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.models import axes, resnet
from tsjax.sharding import mesh as mesh_lib


@pytest.fixture
def mesh():
  """Two by four devices."""
  if jax.device_count() != 8:
    pytest.skip(f"needs 8 devices, found {jax.device_count()}")
  return mesh_lib.make_mesh(data=2, fsdp=4)


def boxed(*names, shape):
  return nn.LogicallyPartitioned(
    jax.ShapeDtypeStruct(shape, jnp.float32), names
  )


def test_a_mesh_fills_the_devices(mesh):
  assert dict(mesh.shape) == {"data": 2, "fsdp": 4}
  assert dict(mesh_lib.make_mesh(data=-1, fsdp=4).shape) == dict(mesh.shape)
  assert dict(mesh_lib.make_mesh(data=2, fsdp=-1).shape) == dict(mesh.shape)


@pytest.mark.parametrize(
  "data,fsdp", [(-1, -1), (0, -1), (-2, -4), (-2, 1), (3, -1), (16, 1), (16, 2)]
)
def test_a_mesh_that_does_not_fill_the_devices(data, fsdp):
  with pytest.raises(errors.UserError, match=rf"config.mesh=.*{data}"):
    mesh_lib.make_mesh(data=data, fsdp=fsdp)


def test_a_mesh_that_leaves_devices_idle(mesh):
  del mesh
  with pytest.raises(errors.UserError, match="4 devices of 8; set one size to"):
    mesh_lib.make_mesh(data=4, fsdp=1)


def test_a_batch_divides_over_devices():
  mesh_lib.check_batch(64, 8, key="config.data.batch_size")
  with pytest.raises(
    errors.UserError, match=r"config.data.batch_size=60 .* 8 parts .*56 or 64"
  ):
    mesh_lib.check_batch(60, 8, key="config.data.batch_size")
  with pytest.raises(errors.UserError, match=r"use 8$"):
    mesh_lib.check_batch(3, 8, key="config.data.batch_size")


def test_a_batch_lies_on_all_devices(mesh):
  rows = jax.device_put(np.arange(16), mesh_lib.batch_sharding(mesh))
  parts = sorted(shard.data.tolist() for shard in rows.addressable_shards)
  assert parts == [[i, i + 1] for i in range(0, 16, 2)]
  whole = jax.device_put(np.arange(16), mesh_lib.replicated(mesh))
  assert {s.data.shape for s in whole.addressable_shards} == {(16,)}


def test_fsdp_partitions_and_replicated_does_not(mesh):
  abstract = {
    "kernel": boxed("inputs", "hidden", shape=(3, 8)),
    "count": jax.ShapeDtypeStruct((), jnp.int32),
  }
  values = {"kernel": np.ones((3, 8), np.float32), "count": np.int32(1)}

  def shards(rules):
    shardings = mesh_lib.tree_shardings(abstract, mesh, rules)
    placed = jax.device_put(values, shardings)
    return {
      name: {shard.data.shape for shard in leaf.addressable_shards}
      for name, leaf in placed.items()
    }

  assert shards("fsdp") == {"kernel": {(3, 2)}, "count": {()}}
  assert shards("replicated") == {"kernel": {(3, 8)}, "count": {()}}


def test_an_axis_that_does_not_divide_stays_whole(mesh):
  abstract = {
    "six": boxed("hidden", shape=(6,)),
    # One mesh axis can divide a leaf only once.
    "twice": boxed("hidden", "features", shape=(8, 8)),
    "unnamed": boxed(None, "hidden", shape=(8, 8)),
  }
  specs = jax.tree.map(
    lambda s: s.spec, mesh_lib.tree_shardings(abstract, mesh, "fsdp")
  )
  assert specs == {
    "six": PartitionSpec(None),
    "twice": PartitionSpec("fsdp", None),
    "unnamed": PartitionSpec(None, "fsdp"),
  }


def test_every_rule_set_knows_every_axis_of_the_models():
  for name, table in mesh_lib.RULES.items():
    assert not table or table.keys() == set(axes.AXES), name


def test_fsdp_divides_nearly_all_of_a_model(mesh):
  model = resnet.ResNet((1, 1), 8, 10)
  abstract = jax.eval_shape(
    lambda key: model.init(key, jnp.zeros((1, 8, 8, 1)), train=False),
    jax.random.key(0),
  )["params"]
  shardings = mesh_lib.tree_shardings(abstract, mesh, "fsdp")
  leaves = jax.tree.leaves(nn.meta.unbox(abstract))
  held = [
    np.prod(sharding.shard_shape(leaf.shape))
    for leaf, sharding in zip(leaves, jax.tree.leaves(shardings), strict=True)
  ]
  whole = sum(np.prod(leaf.shape) for leaf in leaves)
  assert sum(held) < 0.3 * whole  # a quarter, and the norms


def test_names_that_are_not_known(mesh):
  abstract = {"kernel": boxed("inputs", "hiden", shape=(3, 8))}
  with pytest.raises(errors.UserError, match=r"rules='fsdpp'.*'fsdp'"):
    mesh_lib.tree_shardings(abstract, mesh, "fsdpp")
  with pytest.raises(
    errors.UserError, match=r"no rule for the axis 'hiden'.*'hidden'"
  ):
    mesh_lib.tree_shardings(abstract, mesh, "fsdp")
  # Nothing is laid on an axis, so any name will do.
  mesh_lib.tree_shardings(abstract, mesh, "replicated")
