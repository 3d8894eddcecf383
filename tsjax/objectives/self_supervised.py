"""Self-supervision as knowledge (SSKD): how transformed copies are told apart.

An example is seen several times: a view returns its plain form first and
transformed ones (rotated by 90, 180 and 270 degrees, say) behind it, and the
model answers `[batch, views, ...]`.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors, metrics
from tsjax.objectives import arrays, logits


def self_supervised_similarities(
  student: jax.Array,
  teacher: jax.Array,
  *,
  mask: jax.Array | None = None,
  temperature: jax.Array | float = 0.5,
  ratio: float = 0.75,
) -> metrics.Mean:
  """`T^2 KL` of the similarities of transformed copies to plain examples.

  For each transformed copy the softmax over all plain examples of cosine / T,
  of teacher and student. Only copies count whose own example the teacher ranks
  first, and of the others a share `ratio` with the best ranks.

  Source: Xu et al. 2020, SSKD (2006.07114), equations 5 to 7 and section 3.3.

  Args:
    student: embeddings `[batch, views, width]`, the plain one first.
    teacher: the same, of any width.
    mask: bool `[batch]`.
    temperature: T, above 0; 0.5 in the paper.
    ratio: share of the wrong ones that are kept.

  Returns:
    The value, never negative, counted for the copies that are kept.

  Raises:
    UserError: embeddings without views, or a ratio out of range.
  """
  name = "self_supervised_similarities"
  student, teacher = arrays.pair(student, teacher)
  valid = _views(name, student, teacher, mask, ratio)
  batch, views = student.shape[:2]

  def similarities(x: jax.Array) -> jax.Array:
    x = arrays.unit(jnp.where(valid[:, None, None], x, 0.0))
    found = jnp.einsum("bvd,cd->bvc", x[:, 1:], x[:, 0])
    return jnp.where(valid, found.reshape(-1, batch), -1e30)

  s, t = similarities(student), similarities(teacher)
  own = jnp.repeat(jnp.arange(batch), views - 1)
  kept = _kept(t, own, jnp.repeat(valid, views - 1), ratio)
  p = arrays.log_probabilities(t, temperature)
  q = arrays.log_probabilities(s, temperature)
  values = arrays.times_square(logits.kl(p, q), temperature)
  return metrics.Mean.of(values, kept)


def transformed_soft_targets(
  student: jax.Array,
  teacher: jax.Array,
  target: jax.Array,
  *,
  mask: jax.Array | None = None,
  temperature: jax.Array | float = 4.0,
  ratio: float = 1.0,
) -> metrics.Mean:
  """`soft_targets` of transformed copies, of those that the teacher knows.

  Copies count whose label the teacher ranks first, and of the others a share
  `ratio` with the best ranks.

  Source: Xu et al. 2020, SSKD (2006.07114), equation 8 and section 3.3.

  Args:
    student: logits `[batch, views, classes]`, the plain one first.
    teacher: logits of the same shape.
    target: labels `[batch]`, integers.
    mask: bool `[batch]`.
    temperature: T, above 0.
    ratio: share of the wrong ones that are kept.

  Returns:
    The value, never negative, counted for the copies that are kept.

  Raises:
    UserError: shapes that do not fit, or a ratio out of range.
  """
  name = "transformed_soft_targets"
  arrays.same_shape(name, student, teacher)
  student, teacher = arrays.pair(student, teacher)
  valid = _views(name, student, teacher, mask, ratio)
  views, classes = student.shape[1:]
  s = student[:, 1:].reshape(-1, classes)
  t = teacher[:, 1:].reshape(-1, classes)
  own = jnp.repeat(target, views - 1)
  kept = _kept(t, own, jnp.repeat(valid, views - 1), ratio)
  values = logits.soft_targets(s, t, temperature=temperature)
  return metrics.Mean.of(values, kept)


class SelfSupervisedSimilarities(nn.Module):
  """`self_supervised_similarities` of the student's features behind a head.

  The head is a linear map, ReLU and a linear map to the width of the teacher's
  embeddings, trained beside the student; the teacher's tap is that of its own
  head.

  Source: Xu et al. 2020, SSKD (2006.07114), section 3.2.

  Attributes:
    ratio: share of the wrong ones that are kept.
    temperature: T, above 0.
  """

  ratio: float = 0.75
  temperature: float = 0.5

  coupling = "batch"

  @nn.compact
  def __call__(
    self,
    student: jax.Array,
    teacher: jax.Array,
    *,
    mask: jax.Array | None = None,
  ) -> metrics.Mean:
    """Features `[batch, views, width]` to the `Mean` of what is kept."""
    x, teacher = arrays.pair(student, teacher)
    for name in ("hidden", "out"):
      x = nn.relu(x) if name == "out" else x
      x = nn.Dense(teacher.shape[-1], param_dtype=x.dtype, name=name)(x)
    return self_supervised_similarities(
      x, teacher, mask=mask, temperature=self.temperature, ratio=self.ratio
    )


for _loss in (self_supervised_similarities, transformed_soft_targets):
  _loss.coupling = "batch"


def _views(
  name: str,
  student: jax.Array,
  teacher: jax.Array,
  mask: jax.Array | None,
  ratio: float,
) -> jax.Array:
  """Which examples count."""
  if (
    student.ndim != 3
    or student.shape[:2] != teacher.shape[:2]
    or student.shape[1] < 2
  ):
    raise errors.UserError(
      f"{name}: student {list(student.shape)} and teacher"
      f" {list(teacher.shape)}: it takes [batch, views, ...] of both, two views"
      " at least"
    )
  if not 0 <= ratio <= 1:
    raise errors.UserError(f"{name}: ratio={ratio} is not in 0..1")
  return jnp.ones(student.shape[0], bool) if mask is None else mask


def _kept(
  scores: jax.Array, own: jax.Array, valid: jax.Array, ratio: float
) -> jax.Array:
  """Rows whose own column ranks first, and the best `ratio` of the others."""
  score = jnp.take_along_axis(scores, own[:, None], axis=1)
  rank = (scores > score).sum(axis=1)
  right = valid & (rank == 0)
  wrong = valid & (rank > 0)
  # Floor, as in the source; of equal ranks, the higher score, so that the
  # order of the batch does not choose.
  many = jnp.floor(ratio * wrong.sum().astype(jnp.float32) + 1e-4)
  last = jnp.where(wrong, rank, scores.shape[1] + 1)
  place = jnp.argsort(jnp.lexsort((-score[:, 0], last)))
  return right | (wrong & (place.astype(jnp.float32) < many))
