"""What each kind of teacher says about a batch."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.distill import forward, teachers
from tsjax.models import mlp

CLASSES, BATCH = 4, 6


def member(hidden, seed, classes=CLASSES):
  """A model, its variables, and its logits on `inputs()`."""
  module = mlp.MLP(hidden=(hidden,), classes=classes)
  variables = nn.meta.unbox(
    forward.initialise(module, jax.random.key(seed), inputs())
  )
  # Far from 0, so that means of probabilities and of logits differ.
  variables = jax.tree.map(lambda x: 3 * x, variables)
  logits = forward.forward(module, variables, inputs(), train=False)[0].output
  return module, variables, np.asarray(logits, np.float64)


def inputs():
  return jax.random.normal(jax.random.key(9), (BATCH, 5))


def ensemble(*members, **options):
  modules, variables, _ = zip(*members, strict=True)
  names = tuple(teachers.Member(f"stage_{i}") for i in range(len(members)))
  made = teachers.Ensemble(names, modules, **options)
  return made.outputs(made.gather(variables), inputs(), {})


def softmax(logits):
  shifted = np.exp(logits - logits.max(-1, keepdims=True))
  return shifted / shifted.sum(-1, keepdims=True)


# Three of one kind, and one of another in between: order must not suffer.
MIXED = ((8, 0), (8, 1), (3, 2), (8, 3))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weights", [(), (1.0, 0.0, 2.0, 0.5)])
def test_probability_is_the_mean_of_the_members(weights, temperature):
  members = [member(*kind) for kind in MIXED]
  said = ensemble(*members, weights=weights, temperature=temperature)
  expected = np.average(
    [softmax(logits / temperature) for _, _, logits in members],
    axis=0,
    weights=weights or None,
  )
  np.testing.assert_allclose(
    softmax(np.asarray(said.output, np.float64) / temperature),
    expected,
    rtol=2e-6,
  )
  assert said.taps == {}


def test_logits_are_the_mean_of_the_members():
  members = [member(*kind) for kind in MIXED]
  said = ensemble(*members, mean="logits", weights=(1.0, 1.0, 4.0, 2.0))
  expected = np.average([m[2] for m in members], axis=0, weights=(1, 1, 4, 2))
  np.testing.assert_allclose(said.output, expected, rtol=1e-5, atol=1e-5)


def test_a_member_of_no_weight_does_not_speak():
  loud = member(8, 5)
  # A model that excludes a class altogether.
  shut = jax.tree.map(lambda x: x, loud[1])
  shut["params"]["head"]["bias"] = jnp.array([-jnp.inf, 0.0, 0.0, 0.0])
  excluded = (loud[0], shut, None)
  quiet = ensemble(excluded, loud, mean="logits", weights=(0.0, 1.0))
  np.testing.assert_allclose(quiet.output, loud[2], rtol=1e-5)
  half = ensemble(excluded, loud, weights=(1.0, 1.0))
  assert np.isfinite(np.asarray(half.output)).all()


def test_equal_models_run_as_one():
  members = [member(8, seed) for seed in range(5)]
  modules, variables, _ = zip(*members, strict=True)
  names = tuple(teachers.Member("stage", seed) for seed in range(5))
  made = teachers.Ensemble(names, modules)
  gathered = made.gather(variables)
  assert len(gathered) == 1
  assert {x.shape[0] for x in jax.tree.leaves(gathered)} == {5}
  program = jax.make_jaxpr(lambda g: made.outputs(g, inputs(), {}).output)(
    gathered
  )
  products = [e for e in program.eqns if e.primitive.name == "dot_general"]
  assert len(products) == 2  # The layers, whatever the members.


def test_members_of_other_classes_are_refused():
  with pytest.raises(errors.UserError, match="these differ: stage_0"):
    ensemble(member(8, 0), member(8, 1, classes=3))


def test_members_without_logits_are_refused():
  class Pair(nn.Module):
    @nn.compact
    def __call__(self, inputs, *, train):
      return {"boxes": inputs, "logits": inputs}

  made = teachers.Ensemble((teachers.Member("boxes"),), (Pair(),))
  with pytest.raises(errors.UserError, match="'boxes' returns dict; let terms"):
    made.outputs(made.gather([{}]), inputs(), {})


def test_a_cached_teacher_reads_its_own_field_at_the_batch_epoch():
  fields = np.arange(BATCH * 3 * CLASSES).reshape(BATCH, 3, CLASSES)
  batch = {
    "teacher/big": fields,
    "teacher/bigger": -fields,
    "epoch": np.array([0, 1, 2, 0, 1, 2], np.int32),
  }
  said = teachers.Cached("big", epochs=3).outputs((), None, batch)
  np.testing.assert_array_equal(
    said.output, fields[np.arange(BATCH), batch["epoch"]]
  )
  whole = dataclasses.replace(teachers.Cached("big"), epochs=0)
  np.testing.assert_array_equal(whole.outputs((), None, batch).output, fields)
