"""CRD's memories and draws, and SSKD's choice of what to transfer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import objectives
from tsjax.core import errors

LABELS = np.array([0, 1, 0, 2, 1, 2, 0, 1, 2, 0])


def normal(seed, *shape):
  return jnp.asarray(np.random.RandomState(seed).randn(*shape), jnp.float32)


@pytest.fixture(name="crd", scope="module")
def _crd():
  """A module, a jitted step and variables of a data set of ten."""
  module = objectives.ContrastiveRepresentation(
    examples=10, negatives=6, width=4
  )
  index = jnp.arange(3, dtype=jnp.int32)
  args = (normal(0, 3, 5), normal(1, 3, 7))
  variables = jax.jit(module.init)(jax.random.key(0), *args, index)

  @jax.jit
  def step(variables, index, mask):
    mean, changed = module.apply(
      variables, *args, index, mask=mask, mutable=["memory"]
    )
    return mean.value(), {**variables, **changed}

  return step, variables, args


def test_only_the_rows_of_valid_examples_are_written(crd):
  step, variables, (student, _) = crd
  index = jnp.asarray([4, 7, 2], jnp.int32)
  mask = jnp.asarray([True, True, False])
  _, changed = step(variables, index, mask)
  for side in ("student", "teacher"):
    before = np.asarray(variables["memory"][f"bank_{side}"])
    after = np.asarray(changed["memory"][f"bank_{side}"])
    written = (before != after).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(written), [4, 7])
    np.testing.assert_allclose(np.linalg.norm(after[[4, 7]], axis=1), 1, 1e-5)
  # Half the old row, half the new, at length 1.
  maps = variables["params"]["student"]
  new = student[0] @ maps["kernel"] + maps["bias"]
  row = variables["memory"]["bank_student"][4] + new / np.linalg.norm(new)
  np.testing.assert_allclose(
    changed["memory"]["bank_student"][4],
    row / np.linalg.norm(row),
    rtol=1e-4,
    atol=1e-6,
  )


def test_the_scale_is_that_of_the_first_batch_with_examples(crd):
  step, variables, _ = crd
  index, none = jnp.arange(3, dtype=jnp.int32), jnp.zeros(3, bool)
  _, empty = step(variables, index, none)
  assert empty["memory"]["scale_student"] == -1
  _, first = step(empty, index, ~none)
  _, second = step(first, index, ~none)
  assert first["memory"]["scale_student"] > 0
  assert second["memory"]["scale_student"] == first["memory"]["scale_student"]
  assert second["memory"]["step"] == 3


def test_every_step_draws_other_partners_and_a_step_the_same(crd):
  step, variables, _ = crd
  index, every = jnp.arange(3, dtype=jnp.int32), jnp.ones(3, bool)
  value, _ = step(variables, index, every)
  again, _ = step(variables, index, every)
  assert value == again
  later = jax.tree.map(lambda x: x, variables)
  later["memory"] = {**later["memory"], "step": jnp.int32(1)}
  assert step(later, index, every)[0] != value


def test_partners_are_of_other_examples_and_other_classes():
  """Features that say what was drawn: a memory with one row like none other."""
  module = objectives.ContrastiveRepresentationByClass(
    examples=10, negatives=200, width=4
  )
  index = jnp.arange(10, dtype=jnp.int32)
  target = jnp.asarray(LABELS, jnp.int32)
  args = (normal(0, 10, 5), normal(1, 10, 5), target, index)
  variables = jax.jit(module.init)(jax.random.key(0), *args)
  # One that was not seen yet would count as of another class.
  _, seen = module.apply(variables, *args, mutable=["memory"])
  variables = {**variables, **seen}

  @jax.jit
  def by_row(variables):
    """How the value of each example changes with each row of the memory."""

    def value(bank, i):
      own = {**variables["memory"], "bank_teacher": bank}
      mean, _ = module.apply(
        {**variables, "memory": own},
        *args,
        mask=jnp.arange(10) == i,
        mutable=["memory"],
      )
      return mean.value()

    bank = variables["memory"]["bank_teacher"]
    return jax.vmap(lambda i: jax.grad(value)(bank, i))(jnp.arange(10))

  moved = np.abs(np.asarray(by_row(variables))).max(axis=-1) > 0
  same = LABELS[:, None] == LABELS[None, :]
  # Its own row, and all those of other classes: 200 draws leave none out.
  np.testing.assert_array_equal(moved, ~same | np.eye(10, dtype=bool))


def test_contrast_refuses_what_cannot_be():
  args = (normal(0, 2, 3), normal(1, 2, 3), jnp.arange(2))
  for options, told in (
    ({"examples": 1}, "examples=1"),
    ({"examples": 5, "negatives": 0}, "negatives=0"),
    ({"examples": 5, "temperature": 0.0}, "temperature=0.0"),
  ):
    with pytest.raises(errors.UserError, match=told):
      objectives.ContrastiveRepresentation(**options).init(
        jax.random.key(0), *args
      )


def selected(scores, own, ratio):
  """SSKD's choice, literally: all right ones, and the best of the wrong."""
  ranks = np.array(
    [list(np.argsort(-row)).index(o) for row, o in zip(scores, own)]
  )
  wrong = sorted(np.flatnonzero(ranks), key=lambda i: ranks[i])
  return sorted(
    [*np.flatnonzero(ranks == 0), *wrong[: int(len(wrong) * ratio)]]
  )


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_copies_are_told_from_the_plain_examples(ratio):
  student, teacher = normal(0, 5, 4, 6), normal(1, 5, 4, 6)

  def similarities(x):
    x = np.asarray(x, np.float64)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return (x[:, 1:].reshape(-1, 6)) @ x[:, 0].T

  s, t = similarities(student), similarities(teacher)
  kept = selected(t, np.repeat(np.arange(5), 3), ratio)

  def softmax(x):
    e = np.exp(2 * x)
    return e / e.sum(-1, keepdims=True)

  p, q = softmax(t)[kept], softmax(s)[kept]
  expected = np.mean((p * np.log(p / q)).sum(-1)) / 4
  mean = objectives.self_supervised_similarities(student, teacher, ratio=ratio)
  assert mean.count == len(kept)
  np.testing.assert_allclose(mean.value(), expected, rtol=1e-4)


def test_only_copies_that_the_teacher_knows_have_soft_targets():
  student, teacher = normal(0, 5, 4, 6), normal(1, 5, 4, 6)
  target = jnp.asarray([0, 3, 5, 1, 1], jnp.int32)
  mean = objectives.transformed_soft_targets(
    student, teacher, target, ratio=0.0
  )
  flat = [np.asarray(x[:, 1:]).reshape(-1, 6) for x in (student, teacher)]
  known = flat[1].argmax(-1) == np.repeat(np.asarray(target), 3)
  assert 0 < known.sum() < 15
  assert float(mean.count) == known.sum()
  np.testing.assert_allclose(
    mean.value(),
    objectives.soft_targets(*(x[known] for x in flat), temperature=4.0).mean(),
    rtol=1e-5,
  )
  every = objectives.transformed_soft_targets(student, teacher, target)
  assert every.count == 15
  with pytest.raises(errors.UserError, match="two views"):
    objectives.transformed_soft_targets(student[:, 0], teacher[:, 0], target)
