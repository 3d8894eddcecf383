"""One step, pure: views, teachers, gradient, update."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from tsjax.config import stages
from tsjax.core import metrics as metrics_lib
from tsjax.core import random
from tsjax.distill import forward, interpolate, objective
from tsjax.distill import teachers as teachers_lib
from tsjax.train import state as state_lib

Batch = Mapping[str, Any]
Metrics = dict[str, metrics_lib.Mean]


@dataclasses.dataclass(frozen=True)
class Structure:
  """What a step closes over: everything that is not a number.

  Attributes:
    models: the trained modules by name.
    teachers: what teaches, by the name that terms read.
    terms: the objective.
    optimizer: the direction of descent, without a learning rate.
    rates: factor of the learning rate for every parameter; 0 freezes it.
    views: name -> view, for "student" and "teacher" the names that they see.
    student_view: the students' view.
    teacher_view: the teachers' view.
    accumulate: parts of a batch, one after the other.
    averaged: models of which a moving average is kept.
    pull_from: the teacher towards whose weights the models are pulled, or "".
    axis_name: the axis of `pmap`; None under `jit`.
  """

  models: Mapping[str, nn.Module]
  teachers: Mapping[str, teachers_lib.Teacher]
  terms: tuple[objective.Term, ...]
  optimizer: optax.GradientTransformation
  rates: Any
  views: Mapping[str, Callable[..., Any]]
  student_view: str
  teacher_view: str
  accumulate: int = 1
  axis_name: str | None = None
  averaged: tuple[str, ...] = ()
  pull_from: str = ""


def make_step(
  structure: Structure,
) -> Callable[..., tuple[state_lib.TrainState, Metrics]]:
  """The step `(state, teachers, batch, scalars) -> (state, metrics)`."""
  axis_name, terms = structure.axis_name, structure.terms

  def losses(
    params: Any,
    collections: Any,
    taught: Mapping[str, forward.Outputs],
    batch: Batch,
    inputs: Any,
    scalars: state_lib.Scalars,
    key: jax.Array,
  ) -> tuple[dict[str, metrics_lib.Mean], Any]:
    """Every term's (total, count) on a batch, and the new collections."""
    students, changed = {}, {}
    for i, (name, module) in enumerate(sorted(structure.models.items())):
      students[name], changed[name] = forward.forward(
        module,
        state_lib.join(params["models"][name], collections["models"][name]),
        inputs,
        train=True,
        key=jax.random.fold_in(key, i),
      )
    own = {
      name: state_lib.join(params["objective"][name], rest)
      for name, rest in collections["objective"].items()
    }
    means, remembered = objective.evaluate(
      terms,
      own,
      students,
      taught,
      batch,
      scalars.temperatures,
      axis_name=axis_name,
    )
    return means, {"models": changed, "objective": remembered}

  def step(
    state: state_lib.TrainState,
    teachers: Mapping[str, Any],
    batch: Batch,
    scalars: state_lib.Scalars,
  ) -> tuple[state_lib.TrainState, Metrics]:
    inputs = apply_view(structure, structure.student_view, batch, scalars.seed)
    teacher_inputs = inputs
    if structure.teacher_view not in ("", structure.student_view):
      teacher_inputs = apply_view(
        structure, structure.teacher_view, batch, scalars.seed
      )
    # Before the gradient is taken: no edit to a loss can differentiate them.
    taught = teach(structure, teachers, state.averages, teacher_inputs, batch)
    key = random.key(scalars.seed, "dropout", state.step)
    if axis_name is not None:
      key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))

    gradient, means, collections = _gradient(
      structure, losses, state, (taught, batch, inputs), scalars, key
    )
    norm = optax.tree.norm(gradient)
    shrink = jnp.minimum(1.0, scalars.clip / jnp.maximum(norm, 1e-12))
    gradient = jax.tree.map(lambda g: g * shrink.astype(g.dtype), gradient)
    direction, optimizer = structure.optimizer.update(
      gradient, state.optimizer, state.params
    )
    params = jax.tree.map(
      lambda p, d, rate: (
        p - (scalars.learning_rate * rate).astype(p.dtype) * d if rate else p
      ),
      state.params,
      direction,
      structure.rates,
    )
    metrics = {f"loss/{name}": mean for name, mean in means.items()}
    loss = objective.weighted(
      means, {k: m.count for k, m in means.items()}, scalars.weights
    )
    one = jnp.ones((), jnp.float32)
    metrics["loss"] = metrics_lib.Mean(loss.astype(jnp.float32), one)
    metrics["gradient_norm"] = metrics_lib.Mean(norm.astype(jnp.float32), one)
    if structure.pull_from:
      # Only the weights: the statistics are those of the student's own batches.
      source = teachers[structure.pull_from]["params"]
      pulled = {
        name: interpolate.pull(own, source, scalars.pull)
        for name, own in params["models"].items()
      }
      params = {**params, "models": pulled}
    averages = {
      name: interpolate.moving_average(
        state.averages[name],
        state_lib.join(params["models"][name], collections["models"][name]),
        scalars.decay,
      )
      for name in structure.averaged
    }
    new = state_lib.TrainState(
      state.step + 1, params, collections, optimizer, averages
    )
    return new, metrics

  return step


def teach(
  structure: Structure,
  teachers: Mapping[str, Any],
  averages: Mapping[str, Any],
  inputs: Any,
  batch: Batch,
) -> dict[str, forward.Outputs]:
  """What every teacher says, the moving average of the student among them."""
  taught = {
    name: teacher.outputs(teachers[name], inputs, batch)
    for name, teacher in structure.teachers.items()
  }
  for name in structure.averaged:
    taught[stages.AVERAGE] = forward.forward(
      structure.models[name], averages[name], inputs, train=False
    )[0]
  return taught


def apply_view(
  structure: Structure, name: str, batch: Batch, seed: jax.Array
) -> Any:
  """A view of every example, drawn from (seed, epoch, index, view)."""
  base = random.key(seed, f"view/{name}")

  def one(example: Batch) -> Any:
    key = jax.random.fold_in(base, example["epoch"])
    key = jax.random.fold_in(key, example["index"])
    return structure.views[name](example, key)

  return jax.vmap(one)(dict(batch))


def _gradient(
  structure: Structure,
  losses: Callable[..., Any],
  state: state_lib.TrainState,
  data: tuple[Any, Batch, Any],
  scalars: state_lib.Scalars,
  key: jax.Array,
) -> tuple[Any, dict[str, metrics_lib.Mean], Any]:
  """Gradient, means and collections of the global batch."""
  axis_name, parts = structure.axis_name, structure.accumulate

  def over_devices(tree: Any) -> Any:
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)

  def thawed(params: Any) -> Any:
    # A frozen parameter has no gradient: neither its work nor its norm.
    return jax.tree.map(
      lambda p, rate: p if rate else jax.lax.stop_gradient(p),
      params,
      structure.rates,
    )

  def part_loss(
    params: Any, collections: Any, counts: Any, part: Any, part_key: jax.Array
  ) -> tuple[jax.Array, Any]:
    means, changed = losses(
      thawed(params), collections, *part, scalars, part_key
    )
    if counts is None:
      counts = over_devices({k: m.count for k, m in means.items()})
      counts = jax.lax.stop_gradient(counts)
    return objective.weighted(means, counts, scalars.weights), (means, changed)

  differentiate = jax.grad(part_loss, has_aux=True)
  if parts == 1:
    gradient, (means, collections) = differentiate(
      state.params, state.collections, None, data, key
    )
  else:
    gradient, means, collections = _accumulate(
      differentiate, losses, over_devices, state, _parts(data, parts), scalars,
      key,
    )  # fmt: skip
  return over_devices(gradient), over_devices(means), collections


def _parts(data: Any, parts: int) -> Any:
  """`[batch, ...]` to `[parts, batch / parts, ...]`, part i every parts-th.

  Strided, so that a batch that is sharded over devices stays where it is.
  """

  def split(x: jax.Array) -> jax.Array:
    x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:])
    return jnp.swapaxes(x, 0, 1)

  return jax.tree.map(split, data)


def _accumulate(
  differentiate: Callable[..., Any],
  losses: Callable[..., Any],
  over_devices: Callable[[Any], Any],
  state: state_lib.TrainState,
  parts: Any,
  scalars: state_lib.Scalars,
  key: jax.Array,
) -> tuple[Any, dict[str, metrics_lib.Mean], Any]:
  """Sums the parts' gradients, each weighed by the whole batch's counts.

  The counts are needed before the first gradient. They depend on masks only,
  so the compiler drops the rest of this first call. Collections (batch
  statistics) pass from part to part: each part is normalised by its own.
  """
  number = jax.tree.leaves(parts)[0].shape[0]
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))

  def count(part: Any, part_key: jax.Array) -> dict[str, jax.Array]:
    means, _ = losses(state.params, state.collections, *part, scalars, part_key)
    return {k: m.count for k, m in means.items()}

  counts = jax.tree.map(lambda x: x.sum(0), jax.vmap(count)(parts, keys))
  counts = over_devices(counts)

  def body(carry: Any, part: Any) -> tuple[Any, Any]:
    gradient, collections = carry
    more, (means, collections) = differentiate(
      state.params, collections, counts, *part
    )
    return (jax.tree.map(jnp.add, gradient, more), collections), means

  zeros = jax.tree.map(jnp.zeros_like, state.params)
  (gradient, collections), means = jax.lax.scan(
    body, (zeros, state.collections), (parts, keys)
  )
  return gradient, jax.tree.map(lambda x: x.sum(0), means), collections
