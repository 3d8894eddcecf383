"""Losses against labels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tsjax.core import errors, metrics, precision


def cross_entropy(
  student: jax.Array,
  target: jax.Array,
  *,
  mask: jax.Array | None = None,
  label_smoothing: float = 0.0,
  class_weights: Sequence[float] | None = None,
) -> jax.Array | metrics.Mean:
  """`-sum_c w_c q_c log softmax(student)_c`, q the smoothed one-hot label.

  With `class_weights` the mean over examples is a weighted one, `sum_i value_i
  / sum_i w_(target_i)`, so that weights say how much classes matter beside each
  other, and not how large the loss is: PyTorch's `CrossEntropyLoss(weight=w)`.
  What is returned is then the `Mean` of the examples behind the mask.

  Args:
    student: logits `[..., classes]`.
    target: labels `[...]`, integers; a label outside of the classes (-100,
      say) gives 0 and belongs behind the mask.
    mask: bool, the leading axes of `target`: which examples count. Read with
      `class_weights` only; without, the mask is the caller's.
    label_smoothing: share of the label spread evenly over all classes
      (Szegedy et al. 2016, 1512.00567).
    class_weights: w, a number from 0 for every class; None weighs all alike.
      `data.targets.balanced(labels)` makes rare classes count as much.

  Returns:
    `[...]`, at least float32; with `class_weights`, a `Mean`.

  Raises:
    UserError: the target is no class, or the weights do not fit the logits.
  """
  if not jnp.issubdtype(target.dtype, jnp.integer) or (
    target.shape != student.shape[:-1]
  ):
    raise errors.UserError(
      f"cross_entropy: target {target.dtype}{list(target.shape)} and output"
      f" {list(student.shape)}: it compares logits [..., classes] with classes"
      " [...]; for numbers take squared_error, for several labels"
      " binary_cross_entropy"
    )
  log_probabilities = jax.nn.log_softmax(precision.at_least_float32(student))
  classes = student.shape[-1]
  one_hot = jax.nn.one_hot(target, classes, dtype=log_probabilities.dtype)
  weights = None
  if class_weights is not None:
    weights = _weights(class_weights, one_hot, "cross_entropy: class_weights")
    counts = jnp.sum(one_hot * weights, axis=-1)
  if label_smoothing:
    is_class = one_hot.sum(axis=-1, keepdims=True)
    one_hot = one_hot * (1.0 - label_smoothing)
    one_hot = one_hot + is_class * (label_smoothing / classes)
  # An excluded class (logit -inf) that is not the label contributes 0.
  parts = jnp.where(one_hot > 0, one_hot * log_probabilities, 0.0)
  if weights is None:
    return -jnp.sum(parts, axis=-1)
  values = -jnp.sum(parts * weights, axis=-1)
  return metrics.Mean(
    metrics.Mean.of(values, mask).total, metrics.Mean.of(counts, mask).total
  )


def binary_cross_entropy(
  student: jax.Array,
  target: jax.Array,
  *,
  positive_weights: Sequence[float] | None = None,
) -> jax.Array:
  """Mean over labels of `-w_c y_c log p_c - (1 - y_c) log(1 - p_c)`.

  p is sigmoid(student), and every label is a question of its own.

  Args:
    student: logits `[..., labels]`.
    target: truth values of the same shape.
    positive_weights: w, a number from 0 for every label; PyTorch's
      `pos_weight`, which does not enter the mean's count.
      `data.targets.balanced(labels)` gives negatives / positives.

  Returns:
    `[...]`, at least float32.

  Raises:
    UserError: the target is not one truth value for a logit, or the weights do
      not fit the logits.
  """
  if target.shape != student.shape or not student.ndim:
    raise errors.UserError(
      f"binary_cross_entropy: target {target.dtype}{list(target.shape)} and"
      f" output {list(student.shape)}: it compares logits [..., labels] with as"
      " many truth values; for one class of an example take cross_entropy"
    )
  student = precision.at_least_float32(student)
  truth = target.astype(student.dtype)
  positive = truth * jax.nn.log_sigmoid(student)
  if positive_weights is not None:
    positive = positive * _weights(
      positive_weights, positive, "binary_cross_entropy: positive_weights"
    )
  negative = (1 - truth) * jax.nn.log_sigmoid(-student)
  return -(positive + negative).mean(axis=-1)


def squared_error(
  student: jax.Array,
  target: jax.Array,
  *,
  mean: float = 0.0,
  std: float = 1.0,
) -> jax.Array:
  """`(student - (target - mean) / std)^2`.

  Args:
    student: `[batch]`, or `[batch, 1]` as a layer with one output returns it.
    target: numbers `[batch]`.
    mean: of the target, which the model learns with mean 0 and deviation 1;
      `data.targets.moments(labels)` gives both. The task `Regression` is told
      the same.
    std: deviation of the target.

  Returns:
    `[batch]`, at least float32.

  Raises:
    UserError: there is not one output for a number, or `std` is not positive.
  """
  if not std > 0:
    raise errors.UserError(f"squared_error: std={std} must be more than 0")
  if student.shape == (*target.shape, 1):
    student = student[..., 0]
  # Broadcast, [batch] against [batch, 1] would compare all with all.
  if student.shape != target.shape:
    raise errors.UserError(
      f"squared_error: target {target.dtype}{list(target.shape)} and output"
      f" {list(student.shape)}: it compares one output with one number; give"
      " the model one output (classes=1)"
    )
  student = precision.at_least_float32(student)
  return jnp.square(student - (target.astype(student.dtype) - mean) / std)


def _weights(values: Sequence[float], like: jax.Array, key: str) -> jax.Array:
  """One weight for each of the last axis of `like`, in its rank and dtype."""
  values = tuple(values)
  if len(values) != like.shape[-1]:
    raise errors.UserError(
      f"{key} has {len(values)} numbers and the model {like.shape[-1]} outputs;"
      " give one for each"
    )
  if not all(0 <= value < float("inf") for value in values):
    raise errors.UserError(f"{key}={values} must be finite and 0 or more")
  shape = (1,) * (like.ndim - 1) + (len(values),)
  return jnp.asarray(values, like.dtype).reshape(shape)
