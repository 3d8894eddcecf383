"""The interpolation equation between a student and a teacher of one shape."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import errors, precision, trees


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
    UserError: a leaf is missing, or of another shape or dtype.
  """
  _check(student, teacher)
  # A plain number at an end needs no arithmetic, nor its compilation.
  end = alpha if isinstance(alpha, int | float) else None
  alpha = jnp.asarray(alpha, jnp.float32)

  def leaf(path: str, s: Any, t: Any) -> jax.Array:
    s, t = jnp.asarray(s), jnp.asarray(t)
    if s.dtype != t.dtype:
      raise errors.UserError(
        f"interpolate: leaf {path!r} is {s.dtype} in the student and {t.dtype}"
        " in the teacher"
      )
    if end in (0, -1):
      return s if end else t
    if not jnp.issubdtype(t.dtype, jnp.floating):
      return jnp.where(alpha == -1, s, t)
    return _leaf(s, t, alpha, is_variance=path.rpartition("/")[2] == "var")

  return trees.map_paths(leaf, student, teacher)


def pull(student: Any, teacher: Any, alpha: jax.Array | float) -> Any:
  """Interpolates the leaves that both have in one shape and dtype.

  Every other leaf stays the student's. Applied every so many steps with an
  alpha between -1 and 0 it pulls a student towards its teacher's weights.

  Args:
    student: a tree.
    teacher: another one.
    alpha: as for `interpolate`.

  Raises:
    UserError: no leaf matches.
  """
  ours, theirs = trees.flatten(student), trees.flatten(teacher)
  shared = [
    path
    for path, leaf in ours.items()
    if path in theirs
    and leaf.shape == theirs[path].shape
    and leaf.dtype == theirs[path].dtype
  ]
  if not shared:
    raise errors.UserError(
      "pull: no leaf of the student has the path and shape of a teacher's"
    )
  moved = interpolate(
    {path: ours[path] for path in shared},
    {path: theirs[path] for path in shared},
    alpha,
  )
  return trees.unflatten({**ours, **moved})


def moving_average(average: Any, student: Any, decay: jax.Array | float) -> Any:
  """`decay * average + (1 - decay) * student`, by the same equation.

  With the average as teacher and alpha = decay - 1. Source: Tarvainen and
  Valpola 2017, Mean Teacher (1703.01780), section 2.

  Args:
    average: variables; statistics are averaged like weights.
    student: the student's, of the same structure.
    decay: in [0, 1]; 0 gives the student, 1 leaves the average.
  """
  return interpolate(student, average, decay - 1.0)


@functools.partial(jax.jit, static_argnames="is_variance")
def _leaf(
  s: jax.Array, t: jax.Array, alpha: jax.Array, *, is_variance: bool
) -> jax.Array:
  dtype = t.dtype
  value = _line(s, t, alpha)
  if is_variance:
    value = jnp.maximum(value, 0)
  # Chosen as integers: a bfloat16 on its way through float32 loses NaN's bits.
  unsigned = jnp.dtype(f"uint{8 * t.dtype.itemsize}")
  s, t, value = (
    jax.lax.bitcast_convert_type(x, unsigned) for x in (s, t, value)
  )
  chosen = jnp.where(alpha == 0, t, jnp.where(alpha == -1, s, value))
  return jax.lax.bitcast_convert_type(chosen, dtype)


def _line(s: jax.Array, t: jax.Array, alpha: jax.Array) -> jax.Array:
  """t + alpha * (t - s), summed from parts that are exact.

  Every product here is exact, so that a compiler may contract it with a sum.
  """
  dtype = t.dtype
  wide = precision.accumulator(dtype)
  s, t, alpha = s.astype(wide), t.astype(wide), alpha.astype(wide)
  # A power of two, exact, so that no part overflows or vanishes.
  size = jnp.maximum(jnp.abs(s), jnp.abs(t))
  exponent = jnp.where(size > 2.0**60, -60, jnp.where(size < 2.0**-60, 60, 0))
  s, t = jnp.ldexp(s, exponent), jnp.ldexp(t, exponent)
  terms = [t]
  for difference in _two_sum(t, -s):
    for part in _split(difference):
      terms.extend(factor * part for factor in _split(alpha))
  value = _sum(terms)
  # Infinities have no exact parts.
  value = jnp.where(jnp.isfinite(value), value, t + alpha * (t - s))
  return jnp.ldexp(value, -exponent).astype(dtype)


def _sum(terms: list[jax.Array]) -> jax.Array:
  """The sum as if in threefold precision (Ogita, Rump and Oishi 2005, SumK)."""
  terms = list(terms)
  for _ in range(2):
    for i in range(1, len(terms)):
      terms[i], terms[i - 1] = _two_sum(terms[i], terms[i - 1])
  return sum(terms[1:-1], start=terms[0]) + terms[-1]


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The rounded sum and its exact error (Knuth)."""
  total = a + b
  b_part = total - a
  return total, (a - (total - b_part)) + (b - b_part)


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The leading half of the digits, and the rest.

  By bits: Veltkamp's split by a product overflows, and a contracted
  multiply-add undoes it.
  """
  unsigned = jnp.uint64 if x.dtype == jnp.float64 else jnp.uint32
  digits = jnp.finfo(x.dtype).nmant + 1
  keep = ~np.asarray(2 ** (-(-digits // 2)) - 1, unsigned)
  bits = jax.lax.bitcast_convert_type(x, unsigned) & keep
  high = jax.lax.bitcast_convert_type(bits, x.dtype)
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
