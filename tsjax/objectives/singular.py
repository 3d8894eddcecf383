"""KD-SVD: the singular vectors of features, and how they turn by depth."""

import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import alignment, arrays


def singular_vectors(
  student: tuple[jax.Array, ...],
  teacher: tuple[jax.Array, ...],
  *,
  k: int = 1,
  sign: str = "computed",
) -> jax.Array:
  """Squared difference of radial kernels between taps' singular vectors.

  Of a tap `[positions, channels]` the first k right singular vectors are
  compared with those of the tap before, channel by channel, by
  `exp(-(v_i - u_j)^2 / 8)`, both sides scaled by the teacher's singular values
  (which are scaled to length 1). Of the student's k + 3 vectors the one nearest
  to the teacher's is taken, with its sign. Resolutions may differ, channels may
  not.

  Source: Lee, Kim and Song 2018, Self-supervised Knowledge Distillation Using
  Singular Value Decomposition, sections 3.1 and 3.2, as in RepDistiller.

  Args:
    student: two or more taps `[batch, ..., channels]`, in order.
    teacher: as many, each with the channels of its partner.
    k: how many vectors, at least 1.
    sign: of the teacher's vectors, which are defined up to it while the value
      is not. "computed" leaves what LAPACK gives, as the source does, so that
      another device may give another value; "fixed" makes the largest component
      positive.

  Returns:
    `[batch]`, at least float32, summed over vectors, channels and taps; never
    negative.

  Raises:
    UserError: one tap only, taps that do not pair, or fewer vectors than k.
  """
  name = "singular_vectors"
  arrays.one_of(f"{name}: sign", sign, ("computed", "fixed"))
  students, teachers = alignment.listed(student), alignment.listed(teacher)
  if len(students) != len(teachers) or len(students) < 2:
    raise errors.UserError(
      f"{name}: {len(students)} student taps and {len(teachers)} teacher taps;"
      " name as many, and two at least"
    )
  total, before = 0.0, None
  for s, t in zip(students, teachers, strict=True):
    s, t = arrays.pair(s, t)
    if s.shape[-1] != t.shape[-1]:
      raise errors.UserError(
        f"{name}: student tap {s.shape} and teacher tap {t.shape} differ in"
        " channels; choose taps of one width"
      )
    s, t = alignment.flat_positions(s), alignment.flat_positions(t)
    most = min(*s.shape[1:], *t.shape[1:])
    if not 1 <= k <= most:
      raise errors.UserError(f"{name}: k={k} must be in 1..{most}")
    v_s, _ = _right_vectors(s, min(k + 3, *s.shape[1:]), sign)
    v_t, strength = _right_vectors(t, k, sign)
    v_s = _nearest(v_s, v_t)
    strength = arrays.unit(strength)[:, None, :]
    v_s, v_t = v_s * strength, v_t * strength
    if before is not None:
      kernels = [
        jnp.exp(-jnp.square(v[:, :, None] - u[:, None, :]) / 8)
        for v, u in zip((v_s, v_t), before, strict=True)
      ]
      total += jnp.square(kernels[0] - kernels[1]).sum(axis=(1, 2, 3))
    before = (v_s, v_t)
  return total


def _nearest(v_s: jax.Array, v_t: jax.Array) -> jax.Array:
  """The student's vector nearest to each of the teacher's, with its sign."""
  cosine = jnp.einsum("bcm,bck->bmk", v_s, v_t)
  size = jnp.abs(cosine)
  best = size == size.max(axis=1, keepdims=True)
  # A choice, and not a function of the student to be differentiated.
  chosen = jax.lax.stop_gradient(jnp.where(best, jnp.sign(cosine), 0.0))
  return jnp.einsum("bcm,bmk->bck", v_s, chosen)


def _right_vectors(
  x: jax.Array, k: int, sign: str
) -> tuple[jax.Array, jax.Array]:
  """The first k right singular vectors `[batch, channels, k]`, and values."""
  values, right = _singular(x)
  values, right = values[..., :k], right[..., :k]
  if sign == "fixed":
    largest = jnp.abs(right).argmax(axis=1, keepdims=True)
    signs = jnp.sign(jnp.take_along_axis(right, largest, axis=1))
    right = right * jax.lax.stop_gradient(signs)
  return right, values


@jax.custom_jvp
def _singular(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Singular values, falling, and right vectors `[batch, channels, rank]`.

  The derivative of a vector is left out where its value equals another's, or
  is 0, and nothing says which vector it is.
  """
  _, values, right = jnp.linalg.svd(x, full_matrices=False)
  return values, jnp.swapaxes(right, -1, -2)


@_singular.defjvp
def _singular_derivative(primals, tangents):
  (x,), (change,) = primals, tangents
  values, right = _singular(x)
  # Of the eigenvectors of the Gram matrix, in the basis of the vectors.
  left_change = jnp.einsum("bpi,bpk->bik", x, change @ right)
  left_change += jnp.einsum("bpi,bpk->bik", change, x @ right)
  inside = jnp.einsum("bik,bij->bkj", right, left_change)
  squared = jnp.square(values)
  least = 1e-6 * jnp.maximum(squared[..., :1], 1e-24)
  gap = squared[..., None, :] - squared[..., :, None]
  moved = right @ (_inverse(gap, least[..., None]) * inside)
  # Out of the span of the vectors, where there are more channels than ranks.
  outside = left_change - right @ inside
  moved += outside * _inverse(squared, least)[..., None, :]
  rate = 0.5 * jnp.diagonal(inside, axis1=-2, axis2=-1)
  return (values, right), (rate * _inverse(values, least), moved)


def _inverse(x: jax.Array, least: jax.Array) -> jax.Array:
  """1 / x, and 0 where |x| is not above `least`."""
  some = jnp.abs(x) > least
  return jnp.where(some, 1 / jnp.where(some, x, 1.0), 0.0)
