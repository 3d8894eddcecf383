"""Trees by path: `{"block_0/conv/kernel": leaf}`."""

from collections.abc import Callable, Mapping
import re
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from tsjax.core import errors


def flatten(tree: Any) -> dict[str, Any]:
  """Nested dicts to one dict whose keys are the paths joined by "/"."""
  return flax.traverse_util.flatten_dict(dict(tree), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `flatten`."""
  return flax.traverse_util.unflatten_dict(dict(flat), sep="/")


def path_string(path: tuple[Any, ...]) -> str:
  """A key path of `jax.tree_util` as "a/b/0"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def map_paths(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
  """Maps `function(path, leaf, ...)` over a tree's leaves."""
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: function(path_string(path), *leaves), tree, *rest
  )


def first_match(path: str, patterns: Mapping[str, str]) -> str | None:
  """The name of the first pattern that matches the whole path."""
  for name, pattern in patterns.items():
    try:
      if re.fullmatch(pattern, path):
        return name
    except re.error as e:
      raise errors.UserError(
        f"{name}={pattern!r} is not a regular expression: {e}"
      ) from e
  return None


def size(tree: Any) -> int:
  """Number of values in all leaves."""
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def nbytes(tree: Any) -> int:
  """Bytes of all leaves."""
  return sum(
    int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize
    for x in jax.tree.leaves(tree)
  )
