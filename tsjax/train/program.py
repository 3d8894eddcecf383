"""A stage, compiled: its first state, its step, its predictions.

The same step is compiled in two ways: `jit` over a mesh with shardings, and
`pmap` over local replicas with explicit sums over the axis.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import itertools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import metrics as metrics_lib
from tsjax.distill import forward
from tsjax.distill import teachers as teachers_lib
from tsjax.sharding import mesh as mesh_lib
from tsjax.train import initial
from tsjax.train import state as state_lib
from tsjax.train import step as step_lib

PMAP_AXIS = "batch"
# The axis along which several steps of one dispatch lie.
Resident = dict[str, jax.Array] | None


@dataclasses.dataclass(frozen=True)
class Placement:
  """Where a stage runs."""

  strategy: str  # "jit" or "pmap"
  mesh: jax.sharding.Mesh
  rules: str = "replicated"

  @property
  def devices(self) -> int:
    """Devices over which a batch is divided."""
    return self.mesh.size


class Program:
  """Compiled functions of a stage; seeds and arms share one.

  Args:
    structure: the step's structure, without an axis name.
    placement: devices.
    example: a batch's shapes, as `jax.ShapeDtypeStruct`s, with its views' and
      all bookkeeping fields.
    teachers: shapes of what the teachers take, by name.
    weights: shapes of `initial.weights`, if they are known already.
  """

  def __init__(
    self,
    structure: step_lib.Structure,
    placement: Placement,
    example: Mapping[str, jax.ShapeDtypeStruct],
    teachers: Mapping[str, Any],
    weights: state_lib.TrainState | None = None,
  ):
    self.structure = structure
    self.placement = placement
    self.example, self.taught = dict(example), dict(teachers)
    if weights is None:
      weights = jax.eval_shape(
        functools.partial(initial.weights, structure, self.example),
        jax.ShapeDtypeStruct((), jnp.uint32),
        self.taught,
      )
    boxed = jax.eval_shape(
      functools.partial(initial.with_optimizer, structure), weights
    )
    self.abstract = nn.meta.unbox(boxed)
    self.shardings = mesh_lib.tree_shardings(
      boxed, placement.mesh, placement.rules
    )
    self._dispatches: dict[int, Callable[..., Any]] = {}

  def init(self, seed: int) -> state_lib.TrainState:
    """The state before the first step, made where it will live."""
    teachers = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.taught)
    return self._compiled_init(jnp.uint32(seed), teachers)

  @functools.cached_property
  def _compiled_init(self) -> Callable[..., state_lib.TrainState]:
    def plain(seed: jax.Array, teachers: Any) -> state_lib.TrainState:
      weights = initial.weights(self.structure, self.example, seed, teachers)
      return nn.meta.unbox(initial.with_optimizer(self.structure, weights))

    # It runs once: a CPU compiles it in a fifth of the time at this level, to
    # the same bits (docs/performance.md).
    on_cpu = self.placement.mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
      plain,
      out_shardings=self.shardings,
      compiler_options={"xla_backend_optimization_level": 1}
      if on_cpu
      else None,
    )

  def with_variables(
    self, state: state_lib.TrainState, model: str, variables: Any
  ) -> state_lib.TrainState:
    """The state with a model's variables replaced (a start from a teacher)."""
    params, rest = state_lib.split(variables)
    new = state.replace(
      params={
        **state.params,
        "models": {**state.params["models"], model: params},
      },
      collections={
        **state.collections,
        "models": {**state.collections["models"], model: rest},
      },
      averages={
        name: variables if name == model else average
        for name, average in state.averages.items()
      },
    )
    # A copy: a start may hand over the teacher's own arrays, and the step
    # donates its state.
    return jax.device_put(new, self.shardings, may_alias=False)

  def zeros(self) -> step_lib.Metrics:
    """Empty sums of a step's metrics, as `run` takes them."""
    names = [f"loss/{term.name}" for term in self.structure.terms]
    sums = {
      name: metrics_lib.Mean(np.float32(0), np.float32(0))
      for name in (*names, "loss", "gradient_norm")
    }
    whole = mesh_lib.replicated(self.placement.mesh)
    return self.enter(jax.device_put(sums, whole))

  def put_state(self, state: Any) -> Any:
    """A host's state onto the devices, as `run` takes it."""
    return jax.device_put(state, self.shardings)

  @property
  def members(self) -> tuple[teachers_lib.Member, ...]:
    """The earlier models that the teachers consist of."""
    members = (t.members for t in self.structure.teachers.values())
    return tuple(dict.fromkeys(itertools.chain.from_iterable(members)))

  def put_teachers(self, variables: Mapping[teachers_lib.Member, Any]) -> Any:
    """What the step takes of its teachers, on the devices.

    Args:
      variables: by member, of all teachers.
    """
    gathered = {
      name: teacher.gather([variables[m] for m in teacher.members])
      for name, teacher in self.structure.teachers.items()
    }
    return jax.device_put(gathered, mesh_lib.replicated(self.placement.mesh))

  def run(
    self,
    state: state_lib.TrainState,
    teachers: Any,
    resident: Resident,
    batches: Mapping[str, np.ndarray],
    scalars: state_lib.Scalars,
    sums: step_lib.Metrics,
  ) -> tuple[state_lib.TrainState, step_lib.Metrics]:
    """Takes as many steps as `batches` and `scalars` have rows; does not wait.

    Args:
      state: from `enter`; donated.
      teachers: what each takes, by name; neither donated nor changed.
      resident: the whole split on the device, or None.
      batches: `[steps, batch, ...]`; with `resident`, its rows under "row".
      scalars: leaves `[steps]`.
      sums: the metrics so far, donated.

    Returns:
      The new state and sums, on the device.
    """
    steps = len(scalars.learning_rate)
    if steps not in self._dispatches:
      compile_with = {"jit": self._jit, "pmap": self._pmap}
      self._dispatches[steps] = compile_with[self.placement.strategy](steps)
    return self._dispatches[steps](
      state, teachers, resident, dict(batches), scalars, sums
    )

  def _many(self, axis_name: str | None, steps: int) -> Callable[..., Any]:
    """`steps` steps in one function."""
    structure = bind_axis(self.structure, axis_name)
    step = step_lib.make_step(structure)

    def one(carry: Any, teachers: Any, resident: Resident, now: Any) -> Any:
      (state, sums), (batch, scalars) = carry, now
      if resident is not None:
        rows = batch.pop("row")
        batch = batch | {k: v[rows] for k, v in resident.items()}
      state, metrics = step(state, teachers, batch, scalars)
      sums = {k: sums[k] + metrics[k] for k in sums}
      return state, sums

    def many(
      state: Any, teachers: Any, resident: Any, batches: Any, scalars: Any,
      sums: Any,
    ) -> Any:  # fmt: skip
      if steps == 1:
        now = jax.tree.map(lambda x: x[0], (batches, scalars))
        return one((state, sums), teachers, resident, now)

      def body(carry: Any, now: Any) -> tuple[Any, None]:
        return one(carry, teachers, resident, now), None

      return jax.lax.scan(body, (state, sums), (batches, scalars))[0]

    return many

  def _jit(self, steps: int) -> Callable[..., Any]:
    mesh = self.placement.mesh
    whole = mesh_lib.replicated(mesh)
    rows = jax.sharding.NamedSharding(
      mesh, jax.sharding.PartitionSpec(None, mesh_lib.BATCH_AXES)
    )
    compiled = jax.jit(
      self._many(None, steps),
      in_shardings=(self.shardings, whole, whole, rows, whole, whole),
      out_shardings=(self.shardings, whole),
      donate_argnums=(0, 5),
    )
    return compiled

  def _pmap(self, steps: int) -> Callable[..., Any]:
    count = self.placement.devices
    mapped = jax.pmap(
      self._many(PMAP_AXIS, steps),
      axis_name=PMAP_AXIS,
      in_axes=(0, None, None, 1, None, 0),
      devices=list(self.placement.mesh.devices.flat),
      donate_argnums=(0, 5),
    )

    def run(
      state: Any, teachers: Any, resident: Any, batches: Any, *rest: Any
    ) -> Any:
      def divide(x: np.ndarray) -> np.ndarray:
        size = x.shape[1] // count
        return x.reshape(x.shape[0], count, size, *x.shape[2:])

      batches = jax.tree.map(divide, batches)
      return mapped(state, teachers, resident, batches, *rest)

    return run

  def enter(self, tree: Any) -> Any:
    """A whole state (or sums) as `run` takes it: replicated for `pmap`."""
    if self.placement.strategy == "jit":
      return tree
    devices = self.placement.mesh.devices.flatten()
    # Placed as `pmap` returns it, or the second step would compile again.
    replicas = jax.sharding.NamedSharding(
      jax.sharding.Mesh(devices, (PMAP_AXIS,)),
      jax.sharding.PartitionSpec(PMAP_AXIS),
    )

    def stack(x: Any) -> jax.Array:
      whole = np.asarray(x)
      stacked = np.broadcast_to(whole[None], (len(devices), *whole.shape))
      return jax.device_put(stacked, replicas)

    return jax.tree.map(stack, tree)

  def leave(self, tree: Any) -> Any:
    """The inverse of `enter`: what checkpoints and evaluation take."""
    if self.placement.strategy == "jit":
      return tree
    return jax.tree.map(
      lambda x: np.asarray(x.addressable_shards[0].data)[0, ...], tree
    )


def bind_axis(
  structure: step_lib.Structure, axis_name: str | None
) -> step_lib.Structure:
  """Binds the axis of `pmap` in the structure and in what it trains."""
  if axis_name is None:
    return structure

  def bound(module: Any) -> Any:
    if not hasattr(module, "axis_name"):
      return module
    return module.clone(axis_name=axis_name)

  return dataclasses.replace(
    structure,
    models={name: bound(module) for name, module in structure.models.items()},
    terms=tuple(
      dataclasses.replace(term, loss=bound(term.loss)) if term.learned else term
      for term in structure.terms
    ),
    axis_name=axis_name,
  )


def make_predict(
  module: nn.Module,
  view: Callable[..., Any],
  scores: Callable[[Any], jax.Array],
  mesh: jax.sharding.Mesh,
) -> Callable[[Any, Mapping[str, Any]], jax.Array]:
  """A compiled `(variables, batch) -> scores`, batch over all devices."""

  def predict(variables: Any, batch: Mapping[str, Any]) -> jax.Array:
    inputs = jax.vmap(lambda example: view(example, None))(dict(batch))
    outputs, _ = forward.forward(module, variables, inputs, train=False)
    return scores(outputs.output)

  return jax.jit(
    predict,
    # Variables come as they lie: whole, or sharded as the stage's rules say.
    in_shardings=(None, mesh_lib.batch_sharding(mesh)),
    out_shardings=mesh_lib.replicated(mesh),
  )
