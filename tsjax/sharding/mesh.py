"""The mesh of devices, and rules from meaning to hardware."""

from collections.abc import Mapping
import math
from typing import Any

from flax import linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tsjax.core import errors

BATCH_AXES = ("data", "fsdp")

# Rule sets: every logical axis of the models, and the mesh axis it is laid on.
# An axis that a rule set does not name is an error, never silently replicated.
RULES: Mapping[str, Mapping[str, str | None]] = {
  # No name is laid on an axis, so that any name will do.
  "replicated": {},
  "fsdp": {
    "kernel_height": None,
    "kernel_width": None,
    "channels_in": None,
    "channels_out": "fsdp",
    "channels": None,
    "inputs": None,
    "hidden": "fsdp",
    "features": "fsdp",
    "classes": None,
  },
}


def make_mesh(*, data: int, fsdp: int) -> Mesh:
  """A mesh with axes `data` and `fsdp`; one size may be -1 and is filled.

  Raises:
    UserError: the sizes do not multiply to the number of devices.
  """
  count = jax.device_count()
  sizes = {"data": data, "fsdp": fsdp}
  free = [name for name, size in sizes.items() if size == -1]
  fixed = math.prod(size for size in sizes.values() if size != -1)
  bad = any(size < 1 and size != -1 for size in sizes.values())
  if bad or len(free) > 1 or count % fixed:
    raise errors.UserError(
      f"config.mesh={sizes}: does not fill {count} devices; sizes must multiply"
      " to that, with at most one -1"
    )
  if free:
    sizes[free[0]] = count // fixed
  elif fixed != count:
    raise errors.UserError(
      f"config.mesh={sizes}: {fixed} devices of {count}; set one size to -1"
    )
  auto = (jax.sharding.AxisType.Auto,) * len(sizes)
  return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=auto)


def check_batch(batch_size: int, parts: int, *, key: str) -> None:
  """Refuses a batch that does not divide over the devices."""
  if batch_size % parts:
    lower, upper = batch_size // parts * parts, -(-batch_size // parts) * parts
    near = f"{lower} or {upper}" if lower else f"{upper}"
    raise errors.UserError(
      f"{key}={batch_size} does not divide over {parts} parts (devices times"
      f" accumulation): use {near}"
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The leading axis over all axes that hold different examples."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """The same on every device."""
  return NamedSharding(mesh, PartitionSpec())


def tree_shardings(abstract: Any, mesh: Mesh, rules: str) -> Any:
  """Shardings of a tree whose leaves may be boxed with logical axis names.

  Args:
    abstract: shapes, from `jax.eval_shape`, with `nn.LogicallyPartitioned`.
    mesh: the mesh.
    rules: the name of a rule set.

  Raises:
    UserError: no such rule set, or an axis that it does not name.
  """
  if rules not in RULES:
    raise errors.UserError(
      f"config.mesh.rules={rules!r}: {errors.nearest(rules, RULES)}"
    )
  table = RULES[rules]

  def place(leaf: Any) -> NamedSharding:
    if not isinstance(leaf, nn.Partitioned):
      return replicated(mesh)
    axes: list[str | None] = []
    for name, size in zip(leaf.names, leaf.value.shape, strict=True):
      if table and name is not None and name not in table:
        raise errors.UserError(
          f"config.mesh.rules={rules!r} has no rule for the axis {name!r} of a"
          f" parameter: {errors.nearest(name, table)}"
        )
      axis = table.get(name) if name else None
      # An axis that does not divide stays whole, as does a second use of one
      # mesh axis.
      if axis and (size % mesh.shape[axis] or axis in axes):
        axis = None
      axes.append(axis)
    return NamedSharding(mesh, PartitionSpec(*axes))

  return jax.tree.map(
    place, abstract, is_leaf=lambda x: isinstance(x, nn.Partitioned)
  )
