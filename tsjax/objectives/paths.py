"""Losses that lead the student to the teacher by steps of their own."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors, metrics
from tsjax.objectives import arrays, logits


def interpolated_teacher(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  share: jax.Array | float = 0.4,
) -> jax.Array:
  """`KL(softmax(((1 - t) s + t z) / T) || softmax(s / T))` at one t.

  s are the student's logits, taken as a constant on the left; z the teacher's.
  t = 1 is `soft_targets` without T^2; at t = 0 there is nothing to learn.

  Source: Shing et al. 2025, TAID (2501.16937), equations 3 and 4.

  Args:
    student: logits `[..., classes]`.
    teacher: logits of the same shape.
    temperature: T, above 0; one number, or one for each example, `[batch]`.
    share: t in [0, 1].

  Returns:
    `[...]`, at least float32; never negative but for rounding.

  Raises:
    UserError: the shapes differ.
  """
  arrays.same_shape("interpolated_teacher", student, teacher)
  student, teacher = arrays.pair(student, teacher)
  t = jnp.asarray(share, student.dtype)
  # A class that either excludes: 0 times -inf would be no number.
  between = jnp.where(t < 1, (1 - t) * jax.lax.stop_gradient(student), 0.0)
  between = between + jnp.where(t > 0, t * teacher, 0.0)
  return logits.kl(
    arrays.log_probabilities(between, temperature),
    arrays.log_probabilities(student, temperature),
  )


class Taid(nn.Module):
  """`interpolated_teacher` whose t rises as the loss falls.

  t starts at `start` and is raised after every step: by
  `rate sigmoid(m) (1 - t)`, m the moving average of the loss's relative change
  `(last - now) / last`, and to no less than the straight line from `start` to
  `end` over `steps`. What it remembers (t, m, the last loss, the step) is saved
  beside the model. The value is in the loss's mean over the batch.

  Source: Shing et al. 2025, TAID (2501.16937), algorithm 1.

  Attributes:
    steps: length of the straight line, in steps; 0 has no line.
    start: t at first; 0.4 in the paper's runs.
    end: the most that t comes to.
    rate: alpha in the paper.
    momentum: beta in the paper, of the average of relative changes.
    adaptive: False follows the straight line alone.
  """

  steps: int
  start: float = 0.4
  end: float = 1.0
  rate: float = 5e-4
  momentum: float = 0.99
  adaptive: bool = True

  coupling = "batch"

  @nn.compact
  def __call__(
    self,
    student: jax.Array,
    teacher: jax.Array,
    *,
    mask: jax.Array | None = None,
    temperature: jax.Array | float = 1.0,
  ) -> metrics.Mean:
    """Logits `[..., classes]` of one shape to the `Mean` behind the mask.

    Raises:
      UserError: the shapes differ, or the numbers are out of range.
    """
    if not 0 <= self.start <= self.end <= 1 or self.steps < 0:
      raise errors.UserError(
        f"Taid: start={self.start}, end={self.end}, steps={self.steps}: it"
        " needs 0 <= start <= end <= 1 and steps of at least 0"
      )
    if not self.adaptive and not self.steps:
      raise errors.UserError(
        "Taid: adaptive=False follows the straight line, which needs steps"
      )

    def remembered(name: str, value: float) -> nn.Variable:
      return self.variable("memory", name, lambda: jnp.float32(value))

    share = remembered("share", self.start)
    last = remembered("last", jnp.inf)
    change = remembered("change", 0.0)
    step = remembered("step", 0.0)
    values = interpolated_teacher(
      student, teacher, temperature=temperature, share=share.value
    )
    mean = metrics.Mean.of(values, mask)
    if self.is_initializing():
      return mean
    now = jax.lax.stop_gradient(mean.value()).astype(jnp.float32)
    known = jnp.isfinite(last.value) & (mean.count > 0)
    before = jnp.where(known, last.value, 1.0)
    moved = self.momentum * change.value + (1 - self.momentum) * (
      before - now
    ) / (before + 1e-15)
    line = self.start
    if self.steps:
      line = self.start + (self.end - self.start) * step.value / self.steps
    risen = line
    if self.adaptive:
      risen = share.value + self.rate * jax.nn.sigmoid(moved) * (
        1 - share.value
      )
      risen = jnp.maximum(line, risen)
    risen = jnp.minimum(self.end, risen)
    # The first loss has none before it to be compared with.
    share.value = jnp.where(known, risen, share.value)
    change.value = jnp.where(known, moved, change.value)
    last.value = jnp.where(mean.count > 0, now, last.value)
    step.value = step.value + 1
    return mean


class CurriculumTemperature(nn.Module):
  """`soft_targets` at a temperature that is learned against the student.

  T = low + width sigmoid(x); x is one parameter, or (`instance`) a two-layer
  network's answer to both models' logits, so that every example has a T of its
  own. Its gradient is reversed, times lambda, which rises with the step by half
  a cosine from 0 to `strength` over `warmup`: T makes the task harder, slowly.

  Source: Li et al. 2023, CTKD (2211.16231), equations 5 to 9.

  Attributes:
    warmup: steps until lambda is `strength`; 0 is at once.
    instance: a temperature for each example.
    low: the least T.
    width: the most T is low + width.
    strength: lambda at the end.
    hidden: width of the network, with `instance`.
  """

  warmup: int
  instance: bool = False
  low: float = 1.0
  width: float = 20.0
  strength: float = 1.0
  hidden: int = 128

  @nn.compact
  def __call__(self, student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Logits `[batch, classes]` to `[batch]`.

    Raises:
      UserError: the shapes differ.
    """
    arrays.same_shape("CurriculumTemperature", student, teacher)
    student, teacher = arrays.pair(student, teacher)
    step = self.variable("memory", "step", lambda: jnp.float32(0))
    share = jnp.minimum((step.value + 1) / max(self.warmup, 1), 1.0)
    strength = self.strength * 0.5 * (1 - jnp.cos(jnp.pi * share))
    if not self.is_initializing():
      step.value = step.value + 1
    if self.instance:
      both = jax.lax.stop_gradient(jnp.concatenate([student, teacher], -1))
      x = nn.Dense(self.hidden, param_dtype=both.dtype, name="hidden")(both)
      x = nn.Dense(1, param_dtype=both.dtype, name="out")(nn.relu(x))[..., 0]
    else:
      x = self.param("x", nn.initializers.zeros, (), student.dtype)
    x = _reversed(x, strength.astype(student.dtype))
    temperature = self.low + self.width * jax.nn.sigmoid(x)
    return logits.soft_targets(student, teacher, temperature=temperature)


def _reversed(x: jax.Array, strength: jax.Array) -> jax.Array:
  """x, whose gradient comes back times -strength."""
  fixed = jax.lax.stop_gradient
  return fixed(x) - strength * (x - fixed(x))
