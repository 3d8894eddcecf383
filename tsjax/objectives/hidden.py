"""Losses between hidden states, of tokens above all."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors
from tsjax.objectives import alignment, arrays


def hidden_mse(student: alignment.Taps, teacher: alignment.Taps) -> jax.Array:
  """Mean over channels of `(student - teacher)^2`, position by position.

  The mean is over valid positions, and over pairs of taps. `HiddenStates` is
  the same with learned maps between widths.

  Source: Jiao et al. 2020, TinyBERT (1909.10351), equations 8 and 9, without
  its map; TextBrewer's hid_mse_loss.

  Args:
    student: `[batch, ..., channels]`, or a tuple of such.
    teacher: as many, each of its partner's shape.

  Returns:
    `[batch, ...]`, at least float32; never negative.

  Raises:
    UserError: taps that do not pair.
  """
  found = _equal("hidden_mse", student, teacher)
  return jnp.stack([jnp.square(s - t).mean(-1) for s, t in found]).mean(0)


def hidden_cosine(
  student: alignment.Taps, teacher: alignment.Taps
) -> jax.Array:
  """1 - cosine of student's and teacher's state, position by position.

  The mean is over valid positions, and over pairs of taps; a state that is 0
  has the cosine 0.

  Source: Sanh et al. 2019, DistilBERT (1910.01108), section 3; TextBrewer's
  cos_loss.

  Args:
    student: `[batch, ..., channels]`, or a tuple of such.
    teacher: as many, each of its partner's shape.

  Returns:
    `[batch, ...]` in [0, 2], at least float32.

  Raises:
    UserError: taps that do not pair.
  """
  found = _equal("hidden_cosine", student, teacher)
  values = [
    1 - (arrays.unit(s) * arrays.unit(t)).sum(axis=-1) for s, t in found
  ]
  return jnp.stack(values).mean(axis=0)


def patient(
  student: alignment.Taps,
  teacher: alignment.Taps,
  *,
  position: int = 0,
  reduction: str = "sum",
) -> jax.Array:
  """Squared distance of one token's states, each scaled to length 1 (PKD).

  Of the token at `position`, [CLS] in BERT; summed over pairs of taps.

  Source: Sun et al. 2019 (1908.09355), equation 7; "sum" over channels is the
  paper and TextBrewer's pkd_loss, "mean" the authors' code.

  Args:
    student: `[batch, length, channels]` or `[batch, channels]`, or a tuple.
    teacher: as many, of the student's width.
    position: which token.
    reduction: "sum" or "mean" over channels.

  Returns:
    `[batch]`, at least float32; with "sum" in [0, 4] for each pair.

  Raises:
    UserError: an unknown reduction, or taps that do not pair.
  """
  arrays.one_of("patient: reduction", reduction, ("sum", "mean"))
  students, teachers = alignment.listed(student), alignment.listed(teacher)
  if len(students) != len(teachers):
    raise errors.UserError(
      f"patient: {len(students)} student taps and {len(teachers)} teacher taps;"
      " name as many"
    )

  def chosen(x: jax.Array) -> jax.Array:
    return x[:, position] if x.ndim == 3 else x

  total = 0.0
  for s, t in zip(students, teachers, strict=True):
    s, t = arrays.pair(chosen(s), chosen(t))
    arrays.same_shape("patient", s, t)
    squared = jnp.square(arrays.unit(s) - arrays.unit(t))
    total += squared.sum(-1) if reduction == "sum" else squared.mean(-1)
  return total


class HiddenStates(nn.Module):
  """`hidden_mse` or `hidden_cosine` of learned maps of the student's states.

  A linear map takes the student's width to the teacher's; with `shared` one map
  serves all pairs of taps of one student width (TinyBERT's code), else each
  pair has its own (the paper has one for the layers, one for the embedding).

  Source: Jiao et al. 2020, TinyBERT (1909.10351), equations 8 and 9.

  Attributes:
    shared: one map for all pairs.
    use_bias: whether the map has a bias.
    measure: "mse" or "cosine".
  """

  shared: bool = False
  use_bias: bool = False
  measure: str = "mse"

  @nn.compact
  def __call__(
    self, student: alignment.Taps, teacher: alignment.Taps
  ) -> jax.Array:
    """Taps `[batch, ..., channels]`, one or several, to `[batch, ...]`.

    Raises:
      UserError: taps that differ in more than channels, or an unknown measure.
    """
    arrays.one_of("HiddenStates: measure", self.measure, ("mse", "cosine"))
    projected, teachers, maps = [], [], {}
    for i, (s, t) in enumerate(
      alignment.pairs("HiddenStates", student, teacher)
    ):
      name = "projection" if self.shared else f"projection_{i}"
      if name not in maps:
        maps[name] = nn.Dense(
          t.shape[-1],
          use_bias=self.use_bias,
          param_dtype=s.dtype,
          name=name,
        )
      projected.append(maps[name](s))
      teachers.append(t)
    measure = hidden_mse if self.measure == "mse" else hidden_cosine
    return measure(tuple(projected), tuple(teachers))


def _equal(
  name: str, student: alignment.Taps, teacher: alignment.Taps
) -> list[tuple[jax.Array, jax.Array]]:
  found = alignment.pairs(name, student, teacher)
  for s, t in found:
    if s.shape != t.shape:
      raise errors.UserError(
        f"{name}: student tap {s.shape} and teacher tap {t.shape} differ in"
        " channels; HiddenStates learns a map between them"
      )
  return found
