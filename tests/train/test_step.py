"""Accumulation: the numbers of the whole batch, and no work done twice."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tsjax import config, objectives, optim
from tsjax.config import sections, spec
from tsjax.data import views
from tsjax.distill import forward, objective
from tsjax.distill import teachers as teachers_lib
from tsjax.models import mlp
from tsjax.train import state as state_lib
from tsjax.train import step as step_lib

BATCH, PARTS, FEATURES, CLASSES = 32, 4, 6, 5
WEIGHTS = {"labels": 1.0, "soft": 0.5}
TEMPERATURE, RATE, MOMENTUM = 3.0, 0.1, 0.9


class Normed(nn.Module):
  """A hidden layer with batch norm."""

  width: int = 16

  @nn.compact
  def __call__(self, inputs, *, train):
    x = nn.Dense(self.width)(inputs)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.Dense(CLASSES)(nn.relu(x))


def make_batch(seed=0):
  """Labels of the first part mostly, of the last part none at all."""
  random = np.random.default_rng(seed)
  part = np.arange(BATCH) % PARTS
  labelled = (part == 0) | ((part == 1) & (random.random(BATCH) < 0.4))
  return {
    "image": random.normal(size=(BATCH, FEATURES)).astype(np.float32),
    "label": random.integers(0, CLASSES, BATCH).astype(np.int32),
    "index": np.arange(BATCH, dtype=np.int32),
    "epoch": np.zeros(BATCH, np.int32),
    "mask": random.random(BATCH) < 0.9,
    "labelled": labelled & (part < 3),
  }


def make_variables(module, seed):
  inputs = jnp.zeros((1, FEATURES))
  return nn.meta.unbox(forward.initialise(module, jax.random.key(seed), inputs))


def make_structure(student, accumulate):
  stage = sections.Stage(
    train="student",
    teachers=("teacher",),
    optimizer=spec(optim.sgd),
    objective={
      "labels": sections.Term(loss=spec(objectives.cross_entropy)),
      "soft": sections.Term(
        loss=config.term(spec(objectives.soft_targets)).loss
      ),
    },
  )
  params = {
    "models": {"student": make_variables(student, 0)["params"]},
    "objective": {},
  }
  return step_lib.Structure(
    models={"student": student},
    teachers={
      "teacher": teachers_lib.Live(
        teachers_lib.Member("teacher"), mlp.MLP(hidden=(8,), classes=CLASSES)
      )
    },
    terms=objective.bind(stage),
    optimizer=optax.trace(MOMENTUM),
    rates=jax.tree.map(lambda x: 1.0, params),
    views={"train": views.fields("image")},
    student_view="train",
    teacher_view="",
    accumulate=accumulate,
  )


def first_state(structure):
  params, rest = state_lib.split(make_variables(structure.models["student"], 1))
  params = {"models": {"student": params}, "objective": {}}
  collections = {"models": {"student": rest}, "objective": {}}
  optimizer = structure.optimizer.init(params)
  return state_lib.TrainState(jnp.int32(0), params, collections, optimizer)


def scalars():
  return state_lib.Scalars(
    seed=np.uint32(0),
    learning_rate=np.float32(RATE),
    clip=np.float32(np.inf),
    weights={k: np.float32(v) for k, v in WEIGHTS.items()},
    temperatures={"labels": np.float32(1), "soft": np.float32(TEMPERATURE)},
    pull=np.float32(-1),
    decay=np.float32(0),
  )


def teacher_variables(structure):
  return make_variables(structure.teachers["teacher"].module, 2)


def run(student, accumulate, steps=5):
  structure = make_structure(student, accumulate)
  step = jax.jit(step_lib.make_step(structure))
  state, losses = first_state(structure), []
  taught = {"teacher": teacher_variables(structure)}
  for i in range(steps):
    state, found = step(state, taught, make_batch(i), scalars())
    losses.append({k: m.total / m.count for k, m in found.items()})
  return jax.device_get((state, losses))


def assert_close(left, right, atol):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol),
    left,
    right,
  )


def test_four_parts_are_the_whole_batch_without_batch_statistics():
  student = mlp.MLP(hidden=(16,), classes=CLASSES)
  state, losses = run(student, 1)
  in_parts, losses_in_parts = run(student, PARTS)
  assert_close(state, in_parts, 1e-5)
  assert_close(losses, losses_in_parts, 1e-5)
  # The labels are uneven: a mean of the parts' means would be another loss.
  labelled = [make_batch()["labelled"][i::PARTS].sum() for i in range(PARTS)]
  assert labelled[0] > labelled[1] > labelled[2] == labelled[3] == 0


def reference(steps):
  """Accumulation with batch statistics, written out."""
  student = Normed()
  structure = make_structure(student, PARTS)
  state = first_state(structure)
  params = state.params["models"]["student"]
  statistics = state.collections["models"]["student"]["batch_stats"]
  velocity = jax.tree.map(jnp.zeros_like, params)
  teacher = structure.teachers["teacher"].module
  variables = teacher_variables(structure)

  def loss(params, statistics, part, labels, everything):
    logits, changed = student.apply(
      {"params": params, "batch_stats": statistics},
      part["image"],
      train=True,
      mutable=["batch_stats"],
    )
    hard = optax.losses.softmax_cross_entropy_with_integer_labels(
      logits, part["label"]
    )
    target = jax.nn.log_softmax(
      teacher.apply(variables, part["image"], train=False) / TEMPERATURE
    )
    soft = TEMPERATURE**2 * jnp.sum(
      jnp.exp(target) * (target - jax.nn.log_softmax(logits / TEMPERATURE)),
      axis=-1,
    )
    hard = jnp.sum(hard * (part["labelled"] & part["mask"])) / labels
    soft = jnp.sum(soft * part["mask"]) / everything
    total = WEIGHTS["labels"] * hard + WEIGHTS["soft"] * soft
    return total, changed["batch_stats"]

  differentiate = jax.jit(jax.grad(loss, has_aux=True))
  for i in range(steps):
    batch = make_batch(i)
    labels = np.float32((batch["labelled"] & batch["mask"]).sum())
    everything = np.float32(batch["mask"].sum())
    gradient = jax.tree.map(np.zeros_like, params)
    for first in range(PARTS):
      part = {k: v[first::PARTS] for k, v in batch.items()}
      more, statistics = differentiate(
        params, statistics, part, labels, everything
      )
      gradient = jax.tree.map(np.add, gradient, more)
    velocity = jax.tree.map(
      lambda v, g: np.float32(MOMENTUM) * v + g, velocity, gradient
    )
    params = jax.tree.map(
      lambda p, v: p - np.float32(RATE) * v, params, velocity
    )
  return params, statistics, velocity


def test_with_batch_statistics_the_parts_follow_one_another():
  state, _ = run(Normed(), PARTS, steps=3)
  params, statistics, velocity = reference(steps=3)
  assert_close(state.params["models"]["student"], params, 1e-5)
  found = state.collections["models"]["student"]["batch_stats"]
  assert_close(found, statistics, 1e-5)
  assert_close(state.optimizer.trace["models"]["student"], velocity, 1e-5)
  # Parts have statistics of their own: the whole batch gives other numbers.
  whole, _ = run(Normed(), 1, steps=3)
  kernels = [
    s.params["models"]["student"]["Dense_0"]["kernel"] for s in (state, whole)
  ]
  assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def flops(function, *given):
  return jax.jit(function).lower(*given).compile().cost_analysis()["flops"]


@pytest.mark.parametrize(
  "student", [mlp.MLP(hidden=(64,), classes=CLASSES), Normed(width=64)]
)
def test_counting_before_the_gradient_costs_nothing(student):
  # XLA counts the work of a loop's body once. So a batch in parts should cost
  # one part, and the teacher's look at the others; not the student's besides.
  def cost(accumulate, batch_size):
    structure = make_structure(student, accumulate)
    return flops(
      step_lib.make_step(structure),
      first_state(structure),
      {"teacher": teacher_variables(structure)},
      tiled(batch_size),
      scalars(),
    )

  def tiled(batch_size):
    return jax.tree.map(
      lambda x: np.concatenate([x] * (batch_size // BATCH)), make_batch()
    )

  size = 8 * BATCH
  forward_flops = flops(
    lambda variables, x: student.apply(
      variables, x, train=True, mutable=["batch_stats"]
    )[0],
    make_variables(student, 0),
    tiled(size)["image"],
  )
  extra = cost(PARTS, size) - cost(1, size // PARTS)
  assert 0 <= extra < forward_flops / 2


def test_a_rate_of_zero_freezes_and_leaves_the_norm():
  structure = make_structure(mlp.MLP(hidden=(16,), classes=CLASSES), 1)
  rates = jax.tree.map(lambda x: 1.0, structure.rates)
  rates["models"]["student"]["head"] = {"kernel": 0.0, "bias": 0.0}
  taught = {"teacher": teacher_variables(structure)}
  before = first_state(structure)
  norms = []
  for r in (structure.rates, rates):
    step = step_lib.make_step(dataclasses.replace(structure, rates=r))
    after, found = jax.jit(step)(before, taught, make_batch(), scalars())
    norms.append(float(found["gradient_norm"].total))
  old, new = (s.params["models"]["student"] for s in (before, after))
  np.testing.assert_array_equal(old["head"]["kernel"], new["head"]["kernel"])
  hidden = [x["hidden_1"]["dense"]["kernel"] for x in (old, new)]
  assert np.abs(hidden[0] - hidden[1]).max() > 0
  assert norms[1] < norms[0]


def test_a_clipped_gradient_has_the_norm_of_the_clip():
  structure = make_structure(mlp.MLP(hidden=(16,), classes=CLASSES), 1)
  taught = {"teacher": teacher_variables(structure)}
  limit = np.float32(0.01)
  after, found = jax.jit(step_lib.make_step(structure))(
    first_state(structure), taught, make_batch(), scalars().replace(clip=limit)
  )
  # The momentum after one step is the gradient.
  norm = float(optax.tree.norm(after.optimizer.trace))
  assert norm == pytest.approx(limit, rel=1e-5)
  # What is logged is the norm before it was clipped.
  assert float(found["gradient_norm"].total) > 10 * limit
