"""Terms added up: what they read, which examples count, and one global mean."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tsjax import config, objectives, optim
from tsjax.config import sections, spec
from tsjax.core import errors, metrics
from tsjax.distill import forward, objective

BATCH, CLASSES = 16, 5


def error(student, teacher):
  """Squared error by example."""
  return jnp.square(student - teacher).mean(axis=-1)


def token_error(student, target, mask):
  """Squared error by token, some of which count."""
  return jnp.square(student - target), mask[:, None] & (target >= 0)


def pairwise(student, teacher, mask):
  """Couples the examples: how alike every two of them are."""
  both = mask[:, None] & mask[None, :]
  return metrics.Mean.of(
    jnp.square(student @ student.T - teacher @ teacher.T), both
  )


pairwise.coupling = "batch"


class ProjectedPairs(nn.Module):
  """A coupled term with a map that is learned."""

  coupling = "batch"

  @nn.compact
  def __call__(self, student, teacher, mask):
    student = nn.Dense(teacher.shape[-1], name="projection")(student)
    return pairwise(student, teacher, mask)


class Remembered(nn.Module):
  """A term with a memory: the mean of what the teacher said last."""

  @nn.compact
  def __call__(self, student, teacher):
    shape = student.shape[-1:]
    bank = self.variable("bank", "mean", jnp.zeros, shape)
    values = jnp.square(student - bank.value[None]).mean(axis=-1)
    bank.value = teacher.mean(axis=0)
    return values


def bind(*, train="student", teachers=("teacher",), **terms):
  """The terms of a stage."""
  return objective.bind(
    sections.Stage(
      train=train,
      teachers=teachers,
      optimizer=spec(optim.sgd),
      objective={
        name: sections.Term(**{key: term[key] for key in term})
        for name, term in terms.items()
      },
    )
  )


def normal(seed, *shape):
  return jnp.asarray(np.random.RandomState(seed).randn(*shape), jnp.float32)


def outputs(seed, *shape, **taps):
  shape = shape or (BATCH, CLASSES)
  return forward.Outputs(normal(seed, *shape), taps)


def batch(valid=BATCH, labelled=BATCH):
  """A batch of labels, the first `valid` of which are examples."""
  rows = np.arange(BATCH)
  return {
    "label": jnp.asarray(rows % CLASSES, jnp.int32),
    "mask": jnp.asarray(rows < valid),
    "labelled": jnp.asarray(rows < labelled),
  }


def evaluate(terms, students, teachers, fields, variables=None, **options):
  return objective.evaluate(
    terms,
    variables or {},
    students,
    teachers,
    fields,
    {term.name: jnp.float32(2.0) for term in terms},
    **options,
  )


def weighted(means, weight=1.0):
  return objective.weighted(
    means,
    {name: mean.count for name, mean in means.items()},
    {name: jnp.float32(weight) for name in means},
  )


def all_kinds():
  """A term of every kind, and the variables of the learned ones."""
  terms = bind(
    hard=config.term(spec(objectives.cross_entropy)),
    soft=config.term(spec(objectives.soft_targets), temperature=2.0),
    learned=config.term(spec(objectives.Hint)),
    pairs=config.term(spec(pairwise)),
    projected=config.term(spec(ProjectedPairs)),
  )
  given = {
    term.name: objective.arguments(
      term,
      {"student": outputs(0)},
      {"teacher": outputs(1)},
      batch(),
      jnp.float32(1),
    )
    for term in terms
  }
  return terms, objective.initialise(terms, jax.random.key(0), given)


def test_a_term_reads_what_its_loss_names():
  terms, variables = all_kinds()
  told = {term.name: term for term in terms}
  assert list(told) == sorted(told)
  assert told["hard"].reads == {"student", "target", "mask"}
  assert told["soft"].reads == {"student", "teacher", "temperature"}
  assert told["pairs"].reads == {"student", "teacher", "mask"}
  assert {name for name in told if told[name].labelled} == {"hard"}
  assert {n for n in told if told[n].coupled} == {"pairs", "projected"}
  assert {n for n in told if told[n].learned} == {"learned", "projected"}
  assert variables.keys() == {"learned", "projected"}


def test_total_and_count_by_hand():
  terms = bind(
    hard=config.term(spec(objectives.cross_entropy)),
    soft=config.term(spec(objectives.soft_targets)),
  )
  student, teacher, fields = outputs(0), outputs(1), batch(valid=13, labelled=4)
  means, _ = evaluate(terms, {"student": student}, {"teacher": teacher}, fields)
  hard = optax.softmax_cross_entropy_with_integer_labels(
    student.output, fields["label"]
  )
  np.testing.assert_allclose(means["hard"].total, hard[:4].sum(), rtol=1e-6)
  assert means["hard"].count == 4
  soft = objectives.soft_targets(
    student.output, teacher.output, temperature=2.0
  )
  np.testing.assert_allclose(means["soft"].total, soft[:13].sum(), rtol=1e-6)
  assert means["soft"].count == 13
  total = objective.weighted(
    means,
    {name: mean.count for name, mean in means.items()},
    {"hard": jnp.float32(0.5), "soft": jnp.float32(3.0)},
  )
  expected = 0.5 * hard[:4].mean() + 3.0 * soft[:13].mean()
  np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_padding_cannot_change_a_loss():
  terms, variables = all_kinds()
  fields = batch(valid=13, labelled=9)

  def loss(garbage):
    students, teachers = (
      forward.Outputs(outputs(seed).output.at[13:].set(garbage), {})
      for seed in (0, 1)
    )
    # A coupled term meets the padding itself, so it gets no NaN here.
    finite = np.isfinite(garbage)
    used = [t for t in terms if finite or not t.coupled]
    means, _ = evaluate(
      used, {"student": students}, {"teacher": teachers}, fields, variables
    )
    return {name: mean.value() for name, mean in means.items()}

  loss = jax.jit(loss, static_argnums=0)
  clean = loss(0.0)
  for garbage in (1e3, np.inf, np.nan):
    for name, value in loss(garbage).items():
      np.testing.assert_allclose(value, clean[name], rtol=1e-6, err_msg=name)


def test_padding_gets_no_gradient():
  terms, variables = all_kinds()

  def loss(student):
    means, _ = evaluate(
      terms,
      {"student": forward.Outputs(student, {})},
      {"teacher": outputs(1)},
      batch(valid=13),
      variables,
    )
    return weighted(means)

  gradient = jax.jit(jax.grad(loss))(outputs(0).output)
  np.testing.assert_array_equal(gradient[13:], 0)
  assert (jnp.abs(gradient[:13]).max(axis=-1) > 0).all()


@pytest.mark.parametrize(
  "on,loss,count",
  [
    ("auto", objectives.cross_entropy, 4),
    ("auto", error, 13),
    ("labelled", error, 4),
    ("all", objectives.cross_entropy, 13),
  ],
)
def test_which_examples_count(on, loss, count):
  terms = bind(term=config.term(spec(loss), on=on))
  means, _ = evaluate(
    terms,
    {"student": outputs(0)},
    {"teacher": outputs(1)},
    batch(valid=13, labelled=4),
  )
  assert means["term"].count == count


def test_no_labelled_example_gives_zero_and_no_gradient():
  terms = bind(term=config.term(spec(objectives.cross_entropy)))

  def loss(student):
    means, _ = evaluate(
      terms, {"student": forward.Outputs(student, {})}, {}, batch(labelled=0)
    )
    return weighted(means)

  value, gradient = jax.jit(jax.value_and_grad(loss))(outputs(0).output)
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_values_by_token_with_a_mask_of_their_own():
  target = jnp.where(normal(3, BATCH, 3) > 0, 1.0, -1.0)
  terms = bind(term=config.term(spec(token_error), target="tokens"))
  student = outputs(0, BATCH, 3)
  fields = {**batch(valid=13, labelled=9), "tokens": target}
  means, _ = evaluate(terms, {"student": student}, {}, fields)
  counted = (np.asarray(target) >= 0) & (np.arange(BATCH) < 9)[:, None]
  expected = np.square(student.output - target)[counted]
  assert means["term"].count == int(counted.sum())
  np.testing.assert_allclose(means["term"].total, expected.sum(), rtol=1e-5)


def test_values_by_token_without_one_count_every_token():
  terms = bind(term=config.term(spec(objectives.soft_targets), temperature=2.0))
  means, _ = evaluate(
    terms,
    {"student": outputs(0, BATCH, 3, CLASSES)},
    {"teacher": outputs(1, BATCH, 3, CLASSES)},
    batch(valid=13),
  )
  assert means["term"].count == 13 * 3


def test_no_gradient_reaches_the_teacher():
  terms, variables = all_kinds()

  def loss(student, teacher):
    means, _ = evaluate(
      terms,
      {"student": forward.Outputs(student, {})},
      {"teacher": forward.Outputs(teacher, {})},
      batch(),
      variables,
    )
    return weighted(means)

  learner, taught = jax.jit(jax.grad(loss, (0, 1)))(
    outputs(0).output, outputs(1).output
  )
  assert jnp.abs(learner).max() > 0
  np.testing.assert_array_equal(taught, 0)


def test_a_peer_teaches_without_learning_from_the_same_term():
  terms = bind(
    train=("left", "right"),
    teachers=(),
    term=config.term(spec(error), student="left", teacher="right"),
  )

  def loss(left, right):
    students = {
      "left": forward.Outputs(left, {}),
      "right": forward.Outputs(right, {}),
    }
    return weighted(evaluate(terms, students, {}, batch())[0])

  left, right = jax.jit(jax.grad(loss, (0, 1)))(
    outputs(0).output, outputs(1).output
  )
  assert jnp.abs(left).max() > 0
  np.testing.assert_array_equal(right, 0)


def test_parameters_of_a_learned_term_get_gradients():
  terms, variables = all_kinds()

  def loss(variables):
    means, collections = evaluate(
      terms,
      {"student": outputs(0)},
      {"teacher": outputs(1)},
      batch(),
      variables,
    )
    assert collections == {"learned": {}, "projected": {}}
    return weighted(means)

  gradient = jax.jit(jax.grad(loss))(variables)
  for name in ("learned", "projected"):
    kernel = gradient[name]["params"]["projection"]["kernel"]
    assert jnp.abs(kernel).max() > 0


def test_a_term_may_remember():
  terms = bind(term=config.term(spec(Remembered)))
  students, teachers = {"student": outputs(0)}, {"teacher": outputs(1)}
  given = {"term": {"student": normal(0, 2, 5), "teacher": normal(1, 2, 5)}}
  variables = objective.initialise(terms, jax.random.key(0), given)
  _, collections = evaluate(terms, students, teachers, batch(), variables)
  np.testing.assert_allclose(
    collections["term"]["bank"]["mean"],
    teachers["teacher"].output.mean(axis=0),
    rtol=1e-6,
  )


def test_taps_are_read_by_name():
  terms = bind(
    term=config.term(
      spec(objectives.attention_transfer),
      student_tap=("stage_1/output", "stage_2/output"),
      teacher_tap=("stage_1/output", "stage_3/output"),
    )
  )
  maps = [normal(seed, BATCH, 4, 4, 2) for seed in range(4)]
  student = outputs(0, **{"stage_1/output": maps[0], "stage_2/output": maps[1]})
  teacher = outputs(1, **{"stage_1/output": maps[2], "stage_3/output": maps[3]})
  means, _ = evaluate(
    terms, {"student": student}, {"teacher": teacher}, batch()
  )
  expected = objectives.attention_transfer(maps[:2], maps[2:]).mean()
  np.testing.assert_allclose(means["term"].value(), expected, rtol=1e-6)


@pytest.mark.parametrize(
  "options,message",
  [
    (
      {"student_tap": "stage1/output"},
      r"objective.term.student_tap: model 'student' offers no tap"
      r" 'stage1/output': did you mean 'stage_1/output'",
    ),
    (
      {"teacher_tap": ("output", "stage_2/output")},
      r"objective.term.teacher_tap: teacher 'teacher' offers no tap"
      r" 'stage_2/output': did you mean 'stage_1/output'",
    ),
  ],
)
def test_a_tap_that_is_not_offered(options, message):
  terms = bind(term=config.term(spec(error), **options))
  with pytest.raises(errors.UserError, match=message):
    evaluate(
      terms,
      {"student": outputs(0, **{"stage_1/output": normal(2, BATCH)})},
      {"teacher": outputs(1, **{"stage_1/output": normal(3, BATCH)})},
      batch(),
    )


def test_a_field_that_the_data_lacks():
  terms = bind(
    term=config.term(spec(objectives.cross_entropy), target="labels")
  )
  with pytest.raises(
    errors.UserError,
    match=r"objective.term.target='labels' is no field .* mean 'label'",
  ):
    evaluate(terms, {"student": outputs(0)}, {}, batch())


def test_eight_devices_give_the_value_and_gradient_of_one():
  devices = jax.local_device_count()
  if devices != 8:
    pytest.skip(f"needs 8 devices, found {devices}")
  terms, variables = all_kinds()
  params = {"model": normal(7, 3, CLASSES), "objective": variables}
  # An uneven number of examples counts on each device.
  fields = {**batch(valid=13, labelled=5), "input": normal(8, BATCH, 3)}
  taught = outputs(1).output

  def make_loss(axis_name):
    def loss(params, fields, taught):
      student = fields["input"] @ params["model"]
      means, _ = evaluate(
        terms,
        {"student": forward.Outputs(student, {})},
        {"teacher": forward.Outputs(taught, {})},
        fields,
        params["objective"],
        axis_name=axis_name,
      )
      counts = {name: mean.count for name, mean in means.items()}
      if axis_name:
        counts = jax.lax.stop_gradient(jax.lax.psum(counts, axis_name))
      weights = {
        term.name: jnp.float32(0.5 + i) for i, term in enumerate(terms)
      }
      return objective.weighted(means, counts, weights), means

    return jax.grad(loss, has_aux=True)

  expected = jax.jit(make_loss(None))(params, fields, taught)

  def on_a_device(params, fields, taught):
    return jax.lax.psum(
      make_loss("batch")(params, fields, taught), axis_name="batch"
    )

  def divide(x):
    return x.reshape(devices, -1, *x.shape[1:])

  actual = jax.pmap(on_a_device, "batch", in_axes=(None, 0, 0))(
    params, jax.tree.map(divide, fields), divide(taught)
  )
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(
      a, np.broadcast_to(e, a.shape), rtol=1e-4, atol=1e-5
    ),
    actual,
    expected,
  )
