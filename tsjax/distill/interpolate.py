"""The interpolation equation between a student and a teacher of one shape."""

from typing import Any

import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.core import trees


def interpolate(student: Any, teacher: Any, alpha: jax.Array | float) -> Any:
  """`theta_S <- theta_T + alpha * (theta_T - theta_S)`, leaf by leaf.

  alpha = 0 gives the teacher's bits and alpha = -1 the student's, both taken
  and not computed; between them lies the straight line from student to
  teacher, and alpha > 0 goes past the teacher, away from the student. Applying
  it twice, first alpha and then beta, is one application of -alpha * beta.

  Rules for leaves: floating-point leaves (batch statistics among them) follow
  the equation, computed with compensated arithmetic so that the result is
  within 2 units in the last place; integer and boolean leaves are the
  teacher's, but for alpha = -1. Past either end a variance could become
  negative: a leaf named "var" is kept at or above 0.

  Args:
    student: a tree.
    teacher: a tree of the same structure, shapes and dtypes.
    alpha: a number, may be traced.

  Raises:
    UserError: a leaf is missing or of another shape.
  """
  _check(student, teacher)
  alpha = jnp.asarray(alpha, jnp.float32)

  def leaf(path: str, s: Any, t: Any) -> jax.Array:
    s, t = jnp.asarray(s), jnp.asarray(t)
    if not jnp.issubdtype(t.dtype, jnp.floating):
      return jnp.where(alpha == -1, s, t)
    value = _line(s, t, alpha)
    if path.rpartition("/")[2] == "var":
      value = jnp.maximum(value, 0)
    return jnp.where(alpha == 0, t, jnp.where(alpha == -1, s, value))

  return trees.map_paths(leaf, student, teacher)


def _line(s: jax.Array, t: jax.Array, alpha: jax.Array) -> jax.Array:
  """t + alpha * (t - s) with every rounding error carried along."""
  dtype = t.dtype
  wide = jnp.promote_types(dtype, jnp.float32)
  s, t, alpha = s.astype(wide), t.astype(wide), alpha.astype(wide)
  difference, difference_error = _two_sum(t, -s)
  product, product_error = _two_product(alpha, difference)
  total, total_error = _two_sum(t, product)
  rest = total_error + (product_error + alpha * difference_error)
  return (total + rest).astype(dtype)


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The rounded sum and its exact error (Knuth)."""
  total = a + b
  b_part = total - a
  return total, (a - (total - b_part)) + (b - b_part)


def _two_product(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The rounded product and its exact error (Dekker, Veltkamp's split)."""
  product = a * b
  (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
  error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + (
    a_low * b_low
  )
  return product, error


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  bits = jnp.finfo(x.dtype).nmant + 1
  scaled = x * jnp.asarray(2.0 ** ((bits + 1) // 2) + 1, x.dtype)
  high = scaled - (scaled - x)
  return high, x - high


def _check(student: Any, teacher: Any) -> None:
  ours = dict(_leaves(student))
  theirs = dict(_leaves(teacher))
  for path in ours.keys() | theirs.keys():
    s, t = ours.get(path), theirs.get(path)
    if s is None or t is None:
      missing = "student" if s is None else "teacher"
      raise errors.UserError(f"interpolate: the {missing} has no leaf {path!r}")
    if jnp.shape(s) != jnp.shape(t):
      raise errors.UserError(
        f"interpolate: leaf {path!r} is {jnp.shape(s)} in the student and"
        f" {jnp.shape(t)} in the teacher"
      )


def _leaves(tree: Any) -> list[tuple[str, Any]]:
  pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [(trees.path_string(path), leaf) for path, leaf in pairs]
