"""DIST: correlation of predictions, over classes and over the batch."""

import jax
import jax.numpy as jnp

from tsjax.core import errors, metrics
from tsjax.objectives import arrays


def dist(
  student: jax.Array,
  teacher: jax.Array,
  *,
  mask: jax.Array | None = None,
  temperature: jax.Array | float = 1.0,
  beta: float = 1.0,
  gamma: float = 1.0,
) -> metrics.Mean:
  """`T^2 (beta (1 - mean_b r(p_b, q_b)) + gamma (1 - mean_c r(p^c, q^c)))`.

  r is Pearson's correlation, p_b and q_b are the probabilities at T of example
  b over the classes, p^c and q^c those of class c over the batch. Only the
  order and proportions count, so that a teacher much larger can be followed. 0
  where the student is the teacher; at most 2 T^2 (beta + gamma).

  Source: Huang et al. 2022, DIST (2205.10536), equations 6 to 10.

  Args:
    student: logits `[batch, ..., classes]`; each position is an example.
    teacher: logits of the same shape.
    mask: bool, leading axes of the logits: which examples count.
    temperature: T, above 0.
    beta: weight of the correlation over classes, example by example.
    gamma: weight of the correlation over examples, class by class.

  Returns:
    The value, counted as often as there are examples. A row without variance
    (one valid example, say) correlates by 0.

  Raises:
    UserError: the shapes differ, or there is a temperature for each example.
  """
  arrays.same_shape("dist", student, teacher)
  if jnp.ndim(temperature):
    raise errors.UserError(
      "dist: one temperature for the batch, whose examples it compares"
    )
  student, teacher = arrays.pair(student, teacher)
  q = jnp.exp(arrays.log_probabilities(student, temperature))
  p = jnp.exp(arrays.log_probabilities(teacher, temperature))
  if mask is None:
    valid = jnp.ones(q.shape[:-1], bool)
  else:
    valid = jnp.broadcast_to(arrays.spread(mask, q.ndim - 1), q.shape[:-1])
  classes = q.shape[-1]
  valid = valid.reshape(-1, 1)
  p, q = (jnp.where(valid, x.reshape(-1, classes), 0.0) for x in (p, q))
  count = valid.sum().astype(q.dtype)
  some = jnp.maximum(count, 1.0)

  def centred(x: jax.Array) -> jax.Array:
    return jnp.where(valid, x - x.sum(axis=0, keepdims=True) / some, 0.0)

  inter = _cosine(
    q - q.mean(axis=1, keepdims=True), p - p.mean(axis=1, keepdims=True), 1
  )
  inter = 1 - jnp.where(valid[:, 0], inter, 0.0).sum() / some
  intra = 1 - _cosine(centred(q), centred(p), 0).mean()
  value = arrays.times_square(beta * inter + gamma * intra, temperature)
  value = jnp.where(count > 0, value, 0.0)
  return metrics.Mean(value * count, count)


dist.coupling = "batch"


def _cosine(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
  """Cosine along an axis; each length at least 1e-8, as in PyTorch."""
  lengths = [
    jnp.maximum(arrays.root(jnp.square(x).sum(axis=axis)), 1e-8) for x in (a, b)
  ]
  return (a * b).sum(axis=axis) / (lengths[0] * lengths[1])
