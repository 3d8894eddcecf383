"""A student born from a teacher: which leaves, and the account of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors, trees
from tsjax.distill import transfer
from tsjax.models import resnet


def filled(module, shape, offset):
  """Variables of a module's shapes, every value a different number."""
  abstract = jax.eval_shape(
    lambda key: module.init(key, jnp.zeros(shape), train=False),
    jax.random.key(0),
  )
  flat = trees.flatten(nn.meta.unbox(abstract))
  return trees.unflatten(
    {
      path: jnp.asarray(
        offset + np.arange(np.prod(x.shape)).reshape(x.shape), x.dtype
      )
      for path, x in flat.items()
      if not path.startswith("taps/")
    }
  )


def numbers(*shape, start=0.0):
  count = int(np.prod(shape))
  return start + np.arange(count, dtype=np.float32).reshape(shape)


@pytest.fixture
def student():
  return {
    "params": {
      "body": {"kernel": -numbers(2, 3), "bias": -numbers(3)},
      "conv": {"kernel": -numbers(3, 3, 2, 4)},
      "deep": {"kernel": -numbers(6, 3)},
      "flat": {"kernel": -numbers(6)},
      "own": {"kernel": -numbers(2)},
    },
    "batch_stats": {"norm": {"mean": -numbers(4)}},
  }


@pytest.fixture
def teacher():
  return {
    "params": {
      "body": {"kernel": numbers(4, 5), "bias": numbers(3)},
      "conv": {"kernel": numbers(5, 5, 4, 4)},
      "deep": {"kernel": numbers(5, 3)},
      "flat": {"kernel": numbers(2, 3)},
      "other": {"kernel": numbers(2, start=100)},
    },
    "batch_stats": {"norm": {"mean": numbers(8)}},
  }


def kinds(account):
  return {leaf.path: leaf.kind for leaf in account.leaves}


def test_every_leaf_is_taken_sliced_or_left_and_accounted_for(student, teacher):
  result, account = transfer.from_stage(student, {"teacher": teacher})
  assert kinds(account) == {
    "params/body/kernel": "sliced",
    "params/body/bias": "exact",
    "params/conv/kernel": "unlike",  # another window
    "params/deep/kernel": "missing",  # smaller in the teacher
    "params/flat/kernel": "missing",  # another number of axes
    "params/own/kernel": "missing",  # no such leaf
    "batch_stats/norm/mean": "sliced",
  }
  old, new, source = (trees.flatten(t) for t in (student, result, teacher))
  np.testing.assert_array_equal(
    new["params/body/kernel"], source["params/body/kernel"][:2, :3]
  )
  np.testing.assert_array_equal(
    new["params/body/bias"], source["params/body/bias"]
  )
  np.testing.assert_array_equal(
    new["params/conv/kernel"], source["params/conv/kernel"][1:4, 1:4, :2]
  )
  np.testing.assert_array_equal(
    new["batch_stats/norm/mean"], source["batch_stats/norm/mean"][:4]
  )
  for name in ("deep", "flat", "own"):
    path = f"params/{name}/kernel"
    np.testing.assert_array_equal(new[path], old[path])
  assert new.keys() == old.keys()

  told = account.as_json()
  assert told["exact"] == 3
  assert told["sliced"] == 6 + 4
  assert told["unlike"] == 72
  assert told["missing"] == 18 + 6 + 2
  assert told["parameters"] == 111
  sources = {leaf["path"]: leaf["source"] for leaf in told["leaves"]}
  assert sources["params/body/bias"] == "params/body/bias"
  assert sources["params/own/kernel"] == ""
  notes = {leaf.path: leaf.note for leaf in account.leaves}
  assert notes["params/deep/kernel"].endswith("the teacher's is smaller")
  assert account.line() == (
    "transferred of 111 values: 3% exact, 9% sliced, 65% unlike, 23% missing"
  )


def test_a_larger_kernel_takes_a_smaller_one_in_its_middle():
  student = {"conv": {"kernel": -numbers(3, 3, 2, 4)}}
  teacher = {"conv": {"kernel": numbers(1, 1, 2, 4, start=1)}}
  result, account = transfer.from_stage(student, {"teacher": teacher})
  kernel = np.array(result["conv"]["kernel"])
  np.testing.assert_array_equal(kernel[1, 1], teacher["conv"]["kernel"][0, 0])
  kernel[1, 1] = 0
  np.testing.assert_array_equal(kernel, 0)
  assert kinds(account) == {"conv/kernel": "unlike"}


def test_unlike_leaves_can_be_named_and_left(student, teacher):
  stages = {"teacher": teacher}
  _, account = transfer.from_stage(student, stages, unlike=".*/body/.*")
  assert kinds(account)["params/body/kernel"] == "unlike"
  assert kinds(account)["params/body/bias"] == "exact"
  result, account = transfer.from_stage(
    student, stages, unlike=".*/body/.*", take_unlike=False
  )
  for name in ("body", "conv"):
    assert kinds(account)[f"params/{name}/kernel"] == "missing"
    np.testing.assert_array_equal(
      result["params"][name]["kernel"], student["params"][name]["kernel"]
    )


def test_rename_says_where_a_leaf_comes_from(student, teacher):
  result, account = transfer.from_stage(
    student,
    {"teacher": teacher},
    rename={
      r"params/own/(.*)": r"params/other/\1",
      # The first that matches wins.
      r"params/(own|body)/(.*)": "nowhere",
    },
  )
  np.testing.assert_array_equal(result["params"]["own"]["kernel"], [100, 101])
  assert kinds(account)["params/own/kernel"] == "exact"
  assert kinds(account)["params/body/bias"] == "missing"


def test_rename_replaces_the_whole_path_once(student, teacher):
  # A teacher whose leaves all lie one level deeper.
  stages = {"teacher": {"encoder": teacher}}
  _, deeper = transfer.from_stage(
    student, stages, rename={"(.*)": r"encoder/\1"}
  )
  _, plain = transfer.from_stage(student, {"teacher": teacher})
  assert kinds(deeper) == kinds(plain)


def test_only_restricts_the_students_paths(student, teacher):
  result, account = transfer.from_stage(
    student, {"teacher": teacher}, only="params/body/.*"
  )
  taken = {path for path, kind in kinds(account).items() if kind != "missing"}
  assert taken == {"params/body/kernel", "params/body/bias"}
  np.testing.assert_array_equal(
    result["batch_stats"]["norm"]["mean"],
    student["batch_stats"]["norm"]["mean"],
  )


def test_alpha_interpolates_the_leaves_that_were_found(student, teacher):
  stages = {"teacher": teacher}
  kept, _ = transfer.from_stage(student, stages, alpha=-1.0)
  jax.tree.map(np.testing.assert_array_equal, kept, student)
  halfway, _ = transfer.from_stage(student, stages, alpha=-0.5)
  # Student and teacher are -x and x.
  np.testing.assert_array_equal(halfway["params"]["body"]["bias"], np.zeros(3))
  np.testing.assert_array_equal(
    halfway["params"]["own"]["kernel"], student["params"]["own"]["kernel"]
  )


def test_a_leaf_keeps_the_students_dtype():
  student = {"bias": jnp.zeros(3, jnp.bfloat16)}
  result, _ = transfer.from_stage(student, {"teacher": {"bias": numbers(3)}})
  assert result["bias"].dtype == jnp.bfloat16


def test_mistakes_name_the_key(student, teacher):
  stages = {"teacher": teacher}
  with pytest.raises(errors.UserError, match=r"start.stage='teach'.*'teacher'"):
    transfer.from_stage(student, stages, stage="teach")
  with pytest.raises(errors.UserError, match="no leaf of the student fits"):
    transfer.from_stage(student, stages, only="nothing")
  for key in ("only", "unlike"):
    with pytest.raises(errors.UserError, match=rf"start.{key}: '\(' is not a"):
      transfer.from_stage(student, stages, **{key: "("})
  with pytest.raises(errors.UserError, match=r"start.rename: '\(' is not a"):
    transfer.from_stage(student, stages, rename={"(": "x"})
  with pytest.raises(errors.UserError, match="is no template"):
    transfer.from_stage(student, stages, rename={"(.*)": r"\2"})


def test_resnet_to_resnext_of_half_the_width():
  shape = (1, 8, 8, 1)
  teacher = filled(resnet.ResNet((1, 1), 16, 10), shape, 0.5)
  student = filled(
    resnet.ResNeXt((1, 1), 8, 2, 10, bottleneck=False), shape, -0.5
  )
  result, account = transfer.from_stage(
    student, {"teacher": teacher}, unlike=r".*/conv_2/kernel"
  )
  old, new, source = (trees.flatten(t) for t in (student, result, teacher))
  assert new.keys() == old.keys() == source.keys()
  told = kinds(account)
  assert {p for p, kind in told.items() if kind == "unlike"} == {
    f"params/stage_{i}/block_1/conv_2/kernel" for i in (1, 2)
  }
  assert {p for p, kind in told.items() if kind == "exact"} == {
    "params/head/bias"
  }
  assert account.total("missing") == 0
  assert account.as_json()["parameters"] == trees.size(student)
  for path, value in new.items():
    corner = tuple(slice(size) for size in value.shape)
    np.testing.assert_array_equal(value, source[path][corner])
    assert value.shape == old[path].shape


def test_resnet_to_resnext_of_the_same_width_is_exact_but_for_the_groups():
  shape = (1, 8, 8, 1)
  teacher = filled(resnet.ResNet((1, 1), 8, 10), shape, 0.5)
  student = filled(
    resnet.ResNeXt((1, 1), 8, 2, 10, bottleneck=False), shape, -0.5
  )
  _, account = transfer.from_stage(student, {"teacher": teacher})
  for leaf in account.leaves:
    grouped = leaf.path.endswith("conv_2/kernel")
    assert leaf.kind == ("sliced" if grouped else "exact")


def test_resnext_to_resnet_has_fewer_inputs_to_give():
  shape = (1, 8, 8, 1)
  teacher = filled(
    resnet.ResNeXt((1, 1), 8, 2, 10, bottleneck=False), shape, 0.5
  )
  student = filled(resnet.ResNet((1, 1), 8, 10), shape, -0.5)
  _, account = transfer.from_stage(student, {"teacher": teacher})
  for leaf in account.leaves:
    grouped = leaf.path.endswith("conv_2/kernel")
    assert leaf.kind == ("missing" if grouped else "exact")
