"""What losses do to arrays: one dtype, temperatures, masks, safe roots."""

import jax
import jax.numpy as jnp

from tsjax.core import errors, precision


def pair(student: jax.Array, teacher: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Both in one dtype, at least float32."""
  student = precision.at_least_float32(student)
  teacher = precision.at_least_float32(teacher)
  dtype = jnp.promote_types(student.dtype, teacher.dtype)
  return student.astype(dtype), teacher.astype(dtype)


def same_shape(name: str, student: jax.Array, teacher: jax.Array) -> None:
  """Checks for one shape: broadcast, all would be compared with all.

  Raises:
    UserError: they have not.
  """
  if student.shape != teacher.shape:
    raise errors.UserError(
      f"{name}: student {list(student.shape)} and teacher"
      f" {list(teacher.shape)} differ; it compares arrays of one shape"
    )


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
  """Checks a named option.

  Raises:
    UserError: it is none of those known.
  """
  if value not in known:
    raise errors.UserError(f"{name}={value!r}: {errors.nearest(value, known)}")


def temperature_like(temperature: jax.Array | float, x: jax.Array) -> jax.Array:
  """A temperature, or one for each example (or token), that divides `x`.

  Args:
    temperature: a scalar, or `[batch]` (`[batch, length]`, ...): the leading
      axes of `x`.
    x: `[batch, ..., classes]`.
  """
  temperature = jnp.asarray(temperature, x.dtype)
  if temperature.ndim == 0:
    return temperature
  if temperature.shape != x.shape[: temperature.ndim]:
    raise errors.UserError(
      f"temperature {list(temperature.shape)} and logits {list(x.shape)}: one"
      " number, or one for each of the leading axes of the logits"
    )
  return temperature.reshape(
    temperature.shape + (1,) * (x.ndim - temperature.ndim)
  )


def log_probabilities(
  x: jax.Array, temperature: jax.Array | float
) -> jax.Array:
  """`log softmax(x / T)` over the last axis; `x` at least float32."""
  return jax.nn.log_softmax(x / temperature_like(temperature, x))


def times_square(
  values: jax.Array, temperature: jax.Array | float, scaled: bool = True
) -> jax.Array:
  """`T^2 values`, or `values` where the source leaves the factor out."""
  if not scaled:
    return values
  return values * jnp.square(temperature_like(temperature, values))


def spread(mask: jax.Array, ndim: int) -> jax.Array:
  """A mask of the leading axes with axes of size 1 behind, up to `ndim`."""
  return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def masked_mean(
  values: jax.Array,
  mask: jax.Array | None,
  axis: int | tuple[int, ...] | None = None,
) -> jax.Array:
  """Mean where `mask` is true; 0 where nothing is. Both of one shape."""
  if mask is None:
    return values.mean(axis=axis)
  count = mask.sum(axis=axis).astype(values.dtype)
  total = jnp.where(mask, values, 0.0).sum(axis=axis)
  return total / jnp.maximum(count, 1.0)


def root(x: jax.Array) -> jax.Array:
  """Square root whose gradient at 0, and below by rounding, is 0."""
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def unit(x: jax.Array, axis: int | tuple[int, ...] = -1) -> jax.Array:
  """Scaled to length 1; zero stays zero, with a finite gradient.

  PyTorch's `normalize`: the length is taken as at least 1e-12.
  """
  squared = jnp.square(x).sum(axis=axis, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def flat(x: jax.Array) -> jax.Array:
  """`[batch, ...]` to `[batch, features]`."""
  return x.reshape(x.shape[0], -1)


def smooth_l1(x: jax.Array) -> jax.Array:
  """`x^2 / 2` up to 1 and `|x| - 1/2` beyond (Huber 1964)."""
  size = jnp.abs(x)
  return jnp.where(size < 1, 0.5 * jnp.square(x), size - 0.5)
