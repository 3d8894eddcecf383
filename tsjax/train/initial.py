"""A stage's first state: models and learned terms, each drawn by its name."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import random
from tsjax.distill import forward, objective
from tsjax.train import state as state_lib
from tsjax.train import step as step_lib


def weights(
  structure: step_lib.Structure,
  example: Mapping[str, jax.ShapeDtypeStruct],
  seed: jax.Array,
  teachers: Mapping[str, Any],
) -> state_lib.TrainState:
  """The state before the first step, boxed, but for the optimizer's.

  Args:
    structure: its optimizer is not used.
    example: a batch's shapes.
    seed: uint32, may be traced.
    teachers: what each takes, by name.
  """
  batch = {k: jnp.zeros(v.shape, v.dtype) for k, v in example.items()}
  inputs = step_lib.apply_view(structure, structure.student_view, batch, seed)
  teacher_inputs = step_lib.apply_view(
    structure, structure.teacher_view or structure.student_view, batch, seed
  )
  variables = {
    name: forward.initialise(module, random.key(seed, f"init/{name}"), inputs)
    for name, module in structure.models.items()
  }
  plain = nn.meta.unbox(variables)
  learned: dict[str, Any] = {}
  if any(term.learned for term in structure.terms):
    learned = _initial_terms(
      structure, plain, batch, (inputs, teacher_inputs), seed, teachers
    )
  models = {name: state_lib.split(v) for name, v in variables.items()}
  terms = {name: state_lib.split(v) for name, v in learned.items()}
  params = {
    "models": {name: v[0] for name, v in models.items()},
    "objective": {name: v[0] for name, v in terms.items()},
  }
  collections = {
    "models": {name: v[1] for name, v in models.items()},
    "objective": {name: v[1] for name, v in terms.items()},
  }
  return state_lib.TrainState(
    jnp.zeros((), jnp.int32),
    params,
    collections,
    (),
    {name: variables[name] for name in structure.averaged},
  )


def _initial_terms(
  structure: step_lib.Structure,
  variables: Mapping[str, Any],
  batch: Mapping[str, jax.Array],
  views: tuple[Any, Any],
  seed: jax.Array,
  teachers: Mapping[str, Any],
) -> dict[str, Any]:
  """Variables of the learned terms, whose shapes the outputs decide."""
  inputs, teacher_inputs = views
  students = {
    name: forward.forward(
      module, variables[name], inputs, train=True, key=random.key(seed, "init")
    )[0]
    for name, module in structure.models.items()
  }
  # An average starts as the student.
  averages = {name: variables[name] for name in structure.averaged}
  taught = step_lib.teach(structure, teachers, averages, teacher_inputs, batch)
  given = {
    term.name: objective.arguments(
      term, students, taught, batch, jnp.float32(1)
    )
    for term in structure.terms
  }
  return objective.initialise(
    structure.terms, random.key(seed, "init/objective"), given
  )


def with_optimizer(
  structure: step_lib.Structure, state: state_lib.TrainState
) -> state_lib.TrainState:
  """A state of `weights` with the optimizer's first state."""
  return state.replace(optimizer=structure.optimizer.init(state.params))
