"""One step, compiled in every way: the same numbers, where they belong."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax import config, objectives, optim
from tsjax.config import checked, spec
from tsjax.core import metrics, trees
from tsjax.data import sources, views
from tsjax.distill import teachers as teachers_lib
from tsjax.loop import build
from tsjax.loop import feed as feed_lib
from tsjax.models import resnet
from tsjax.sharding import mesh as mesh_lib
from tsjax.tasks import classification
from tsjax.train import program as program_lib
from tsjax.train import state as state_lib

STEPS = 20
RATES = {"sgd": 0.02, "adam": 0.003}
PLACEMENTS = {
  "one": ("jit", 1, 1, "replicated"),
  "eight": ("jit", 8, 1, "replicated"),
  "fsdp": ("jit", 4, 2, "fsdp"),
  "pmap": ("pmap", 8, 1, "replicated"),
}
# The largest difference that is allowed, in parameters of size 1.
CLOSE = 1e-5


def similarity(student, teacher, mask):
  """Squared difference of the similarities of all pairs in the batch."""

  def similarities(x):
    x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x @ x.T

  difference = jnp.square(similarities(student) - similarities(teacher))
  return metrics.Mean.of(difference, mask[:, None] & mask[None, :])


similarity.coupling = "batch"


class NormedHint(nn.Module):
  """A hint whose projection is normalised over the batch."""

  axis_name: str | None = None

  @nn.compact
  def __call__(self, student, teacher):
    x = nn.Dense(teacher.shape[-1], name="projection")(student)
    x = nn.BatchNorm(
      use_running_average=False,
      momentum=0.9,
      axis_name=self.axis_name,
      name="norm",
    )(x)
    return jnp.square(x - teacher).mean(-1)


def noise():
  """Images that lean to their class, and are nowhere blank.

  All blank pixels of the digits pass a ReLU's kink at once, and then a rounding
  error decides where the training goes.
  """
  random = np.random.default_rng(0)
  labels = random.integers(0, 10, 400)
  images = (
    random.normal(size=(400, 8, 8, 1))
    + random.normal(size=(10, 8, 8, 1))[labels]
  )
  both = {"image": images.astype(np.float32), "label": labels}
  return sources.Arrays({"train": both, "test": both}, tuple(range(10)))


class Small(nn.Module):
  """One normalised hidden layer."""

  width: int
  axis_name: str | None = None

  @nn.compact
  def __call__(self, inputs, *, train):
    x = nn.Dense(self.width)(inputs.reshape(inputs.shape[0], -1))
    x = nn.BatchNorm(
      use_running_average=not train, momentum=0.9, axis_name=self.axis_name
    )(x)
    return nn.Dense(10)(nn.relu(x))


def residual_pair(c):
  c.models.teacher = spec(resnet.ResNet, stage_sizes=(1,), width=8, classes=10)
  c.models.student = spec(
    resnet.ResNeXt,
    stage_sizes=(1,),
    width=4,
    cardinality=2,
    classes=10,
    bottleneck=False,
  )
  taps = ("stem/output", "stage_1/output")
  return {
    "hint": config.term(
      spec(objectives.Hint),
      weight=0.5,
      student_tap="stage_1/output",
      teacher_tap="stage_1/output",
    ),
    "attention": config.term(
      spec(objectives.attention_transfer),
      weight=10.0,
      student_tap=taps,
      teacher_tap=taps,
    ),
  }


def small_pair(c):
  c.models.teacher = spec(Small, width=24)
  c.models.student = spec(Small, width=16)
  return {
    "similarity": config.term(spec(similarity)),
    "normed": config.term(spec(NormedHint), weight=0.1),
  }


@functools.cache
def parts(pair, optimizer):
  c = config.run(name="pair")
  c.task = spec(classification.Classification)
  c.data.source = spec(noise)
  c.data.batch_size = 32
  # Random views take long to compile, so that only one pair has them.
  c.data.views.train = spec(views.image, shift=int(pair is residual_pair))
  more = pair(c)
  labels = config.term(spec(objectives.cross_entropy))
  common = dict(
    steps=STEPS,
    optimizer=spec(getattr(optim, optimizer)),
    learning_rate=RATES[optimizer],
  )
  c.stages.teacher = config.stage(
    train="teacher", objective={"labels": labels}, **common
  )
  c.stages.student = config.stage(
    train="student",
    teachers=("teacher",),
    labels=0.3,
    objective={
      "labels": labels,
      "soft": config.term(spec(objectives.soft_targets), temperature=4.0),
      **more,
    },
    **common,
  )
  c.order = ("teacher", "student")
  return build.build(checked.check(c))


@functools.cache
def batches():
  """The same batches for all, `[STEPS, 32, ...]`."""
  stage = parts(small_pair, "sgd").stages["student"]
  feed = feed_lib.Feed(stage.split, batch_size=32)
  stream = feed.steps(0, 0)
  result = stream.next(STEPS)
  stream.close()
  counts = result["labelled"].sum(1)
  assert counts.min() > 0 and counts.max() < 32
  return result


@functools.cache
def teacher(pair):
  """Variables of a teacher, the same for all."""
  program = parts(pair, "sgd").stages["teacher"].program
  return {"teacher": jax.device_get(program.init(7).variables("teacher"))}


def members(pair):
  return {teachers_lib.Member("teacher"): teacher(pair)["teacher"]}


@functools.cache
def start(pair, optimizer):
  """The first state, on the host."""
  if optimizer == "sgd":
    return jax.device_get(make_program(pair, optimizer, "one").init(0))
  state = start(pair, "sgd")
  structure = parts(pair, optimizer).stages["student"].program.structure
  return state.replace(
    optimizer=jax.device_get(structure.optimizer.init(state.params))
  )


def placement(name):
  strategy, data, fsdp, rules = PLACEMENTS[name]
  devices = np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp)
  auto = (jax.sharding.AxisType.Auto,) * 2
  mesh = jax.sharding.Mesh(devices, mesh_lib.BATCH_AXES, axis_types=auto)
  return program_lib.Placement(strategy, mesh, rules)


def make_program(pair, optimizer, name, *, accumulate=1):
  built = parts(pair, optimizer).stages["student"]
  structure = dataclasses.replace(
    built.program.structure, accumulate=accumulate
  )
  example = {
    k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in batches().items()
  }
  taught = jax.eval_shape(lambda x: x, teacher(pair))
  return program_lib.Program(structure, placement(name), example, taught)


@functools.cache
def trained(pair, optimizer, name, *, accumulate=1, dispatch=1):
  """The state after all steps as it lies, the same whole, and the losses."""
  built = parts(pair, optimizer).stages["student"]
  program = make_program(pair, optimizer, name, accumulate=accumulate)
  state = program.enter(program.put_state(start(pair, optimizer)))
  taught = program.put_teachers(members(pair))
  losses = []
  for step in range(0, STEPS, dispatch):
    state, sums = program.run(
      state,
      taught,
      None,
      {k: v[step : step + dispatch] for k, v in batches().items()},
      built.scalars(0, RATES[optimizer], step, dispatch),
      program.zeros(),
    )
    losses.append(sums)
  losses = [jax.device_get(program.leave(sums)) for sums in losses]
  return (
    state,
    jax.device_get(program.leave(state)),
    {
      name: np.array([m[name].total / m[name].count for m in losses])
      for name in losses[0]
    },
  )


def difference(left, right):
  """The largest absolute difference of two trees."""
  pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
  return max(float(np.abs(x - y).max()) for x, y in pairs)


def assert_equal_numbers(name, pair, optimizer="sgd", **options):
  _, expected, expected_losses = trained(pair, optimizer, "one", **options)
  _, found, found_losses = trained(pair, optimizer, name, **options)
  assert difference(expected.params, found.params) < CLOSE
  assert difference(expected.collections, found.collections) < CLOSE
  assert difference(expected.optimizer, found.optimizer) < CLOSE
  assert difference(expected_losses, found_losses) < CLOSE
  assert int(found.step) == STEPS
  # It is something that was compared: all terms, and a model that learned.
  assert {"loss", "loss/labels", "loss/soft"} < expected_losses.keys()
  before = start(pair, optimizer)
  assert difference(before.params, found.params) > 100 * CLOSE


@pytest.mark.parametrize("name", ["eight", "fsdp", "pmap"])
def test_every_placement_gives_the_numbers_of_one_device(name):
  assert_equal_numbers(name, residual_pair)


@pytest.mark.parametrize(
  "name", ["eight", pytest.param("pmap", marks=pytest.mark.slow)]
)
def test_losses_under_adam_are_those_of_one_device(name):
  # Adam divides by the root of small numbers, so parameters may differ more.
  _, _, expected = trained(residual_pair, "adam", "one")
  _, _, found = trained(residual_pair, "adam", name)
  for term in ("loss", "loss/labels", "loss/soft", "loss/hint"):
    np.testing.assert_allclose(found[term], expected[term], atol=CLOSE)
  assert np.mean(expected["loss"][-5:]) < np.mean(expected["loss"][:5])


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("name", ["eight", "pmap"])
def test_coupled_and_normed_terms_see_the_global_batch(name, accumulate):
  assert_equal_numbers(name, small_pair, accumulate=accumulate)


def test_several_steps_of_one_dispatch_are_those_steps():
  _, one_by_one, _ = trained(small_pair, "sgd", "eight")
  _, at_once, _ = trained(small_pair, "sgd", "eight", dispatch=4)
  assert difference(one_by_one.params, at_once.params) < CLOSE
  assert difference(one_by_one.collections, at_once.collections) < CLOSE


def test_parameters_and_momentum_are_sharded_where_the_rules_say():
  state, _, _ = trained(residual_pair, "sgd", "fsdp")
  expected = {
    # path: (whole shape, shape of a device's part)
    "stem/conv/kernel": ((3, 3, 1, 4), (3, 3, 1, 2)),
    "stage_1/block_1/conv_1/kernel": ((3, 3, 4, 4), (3, 3, 4, 2)),
    "stage_1/block_1/conv_2/kernel": ((3, 3, 2, 4), (3, 3, 2, 2)),
    "stage_1/block_1/norm_1/scale": ((4,), (4,)),
    "head/kernel": ((4, 10), (2, 10)),
    "head/bias": ((10,), (10,)),
  }
  momentum = jax.tree.leaves(
    state.optimizer, is_leaf=lambda x: isinstance(x, dict)
  )
  (momentum,) = [x for x in momentum if isinstance(x, dict)]
  for tree in (state.params, momentum):
    leaves = trees.flatten(tree["models"]["student"])
    for path, (shape, part) in expected.items():
      leaf = leaves[path]
      assert leaf.shape == shape
      assert {s.data.shape for s in leaf.addressable_shards} == {part}, path
      assert leaf.sharding.is_fully_replicated == (shape == part), path


def test_under_pmap_all_replicas_agree():
  state, _, _ = trained(small_pair, "sgd", "pmap")
  for leaf in jax.tree.leaves(state):
    assert leaf.shape[0] == 8
    values = np.asarray(leaf)
    assert (values == values[:1]).all()


@pytest.mark.parametrize("name", ["eight", "fsdp"])
def test_the_first_state_does_not_depend_on_the_devices(name):
  found = make_program(small_pair, "sgd", name).init(0)
  expected = start(small_pair, "sgd")
  jax.tree.map(np.testing.assert_array_equal, expected, jax.device_get(found))


@pytest.mark.parametrize("name", ["eight", "pmap"])
def test_leave_undoes_enter(name):
  program = make_program(small_pair, "sgd", name)
  before = start(small_pair, "sgd")
  after = program.leave(program.enter(program.put_state(before)))
  assert jax.tree.structure(before) == jax.tree.structure(after)
  jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(after))
  assert jax.tree.map(np.shape, before) == jax.tree.map(np.shape, after)


@pytest.mark.parametrize("name", ["one", "eight", "fsdp", "pmap"])
def test_only_the_first_step_compiles(name, caplog):
  program = make_program(small_pair, "sgd", name)
  built = parts(small_pair, "sgd").stages["student"]
  whole = program.put_state(start(small_pair, "sgd"))
  state, sums = program.enter(whole), program.zeros()
  taught = program.put_teachers(members(small_pair))

  def step(i, state, sums):
    batch = {k: v[i : i + 1] for k, v in batches().items()}
    # Another learning rate and another seed.
    scalars = built.scalars(i, 0.1 / (i + 1), i, 1)
    return program.run(state, taught, None, batch, scalars, sums)

  state, sums = step(0, state, sums)
  with jax.log_compiles():
    state, sums = step(1, state, sums)
    step(2, state, program.zeros())
  assert not [r for r in caplog.records if "Compiling" in r.getMessage()]


def test_a_start_may_hand_over_the_teachers_own_arrays():
  program = make_program(small_pair, "sgd", "eight")
  built = parts(small_pair, "sgd").stages["student"]
  before = program.put_state(start(small_pair, "sgd"))
  earlier = program.init(5).variables("student")
  expected = jax.device_get(earlier)
  state = program.with_variables(before, "student", earlier)
  state, _ = program.run(
    state,
    program.put_teachers(members(small_pair)),
    None,
    {k: v[:1] for k, v in batches().items()},
    built.scalars(0, 0.1, 0, 1),
    program.zeros(),
  )
  jax.tree.map(np.testing.assert_array_equal, earlier, expected)
  assert difference(earlier, state.variables("student")) > 0


def test_teachers_are_neither_changed_nor_in_the_state():
  program = make_program(small_pair, "sgd", "eight")
  assert program.abstract.params["models"].keys() == {"student"}
  assert program.abstract.collections["models"].keys() == {"student"}
  assert program.abstract.params["objective"].keys() == {"normed"}
  shapes = {x.shape for x in jax.tree.leaves(program.abstract)}
  taught = program.put_teachers(members(small_pair))
  assert (64, 24) not in shapes  # The teacher's hidden layer.
  assert (64, 24) in {x.shape for x in jax.tree.leaves(taught)}
  built = parts(small_pair, "sgd").stages["student"]
  program.run(
    program.put_state(start(small_pair, "sgd")),
    taught,
    None,
    {k: v[:1] for k, v in batches().items()},
    built.scalars(0, 0.1, 0, 1),
    program.zeros(),
  )
  jax.tree.map(np.testing.assert_array_equal, taught, teacher(small_pair))


@pytest.mark.parametrize("name", ["eight", "fsdp", "pmap"])
def test_predictions_take_variables_as_they_lie(name):
  program = make_program(residual_pair, "sgd", name)
  built = parts(residual_pair, "sgd")
  predict = program_lib.make_predict(
    built.modules["student"],
    built.views["train"],
    built.task.scores,
    program.placement.mesh,
  )
  batch = {k: v[0] for k, v in batches().items()}
  state = program.put_state(start(residual_pair, "sgd"))
  state = program.leave(program.enter(state))
  found = predict(state.variables("student"), batch)
  host = jax.device_get(state.variables("student"))
  expected = built.modules["student"].apply(host, batch["image"], train=False)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_states_variables_are_parameters_and_collections():
  variables = {"params": {"x": 1}, "batch_stats": {"y": 2}, "bank": {}}
  assert state_lib.join(*state_lib.split(variables)) == variables
