"""Trees by path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors, trees

TREE = {
  "a": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)},
  "b": np.ones(()),
}


def test_flatten_and_back():
  flat = trees.flatten(TREE)
  assert list(flat) == ["a/kernel", "a/bias", "b"]
  jax.tree.map(np.testing.assert_array_equal, trees.unflatten(flat), TREE)


def test_map_paths_gives_every_leaf_its_path():
  told = trees.map_paths(
    lambda path, x, y: (path, x.shape == y.shape), {"a": [TREE["b"]]},
    {"a": [TREE["b"]]},
  )  # fmt: skip
  assert told == {"a": [("a/0", True)]}


def test_the_first_pattern_that_matches_the_whole_path():
  patterns = {"biases": r".*bias", "a": "a/.*", "short": "a"}
  assert trees.first_match("a/bias", patterns) == "biases"
  assert trees.first_match("a/kernel", patterns) == "a"
  assert trees.first_match("aa", patterns) is None
  with pytest.raises(errors.UserError, match=r"x='\('.*regular expression"):
    trees.first_match("a", {"x": "("})


def test_sizes_of_arrays_and_of_shapes():
  shapes = {
    "a": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16),
    "b": jax.ShapeDtypeStruct((), jnp.float32),
  }
  assert trees.size(shapes) == 7
  assert trees.nbytes(shapes) == 16
  assert trees.size(TREE) == 10
