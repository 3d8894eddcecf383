"""Contrastive representation distillation (CRD), with its memory banks."""

from collections.abc import Callable
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.core import errors, metrics
from tsjax.objectives import arrays

# As in the authors' code, in both denominators.
_EPSILON = 1e-7


class ContrastiveRepresentation(nn.Module):
  """Tells the teacher's view of an example from those of others (CRD).

  Both features are taken to `width` by a linear map and scaled to length 1: u
  and v. Of example i with partners j, the first of which is i itself, and h_j =
  exp(u_i . v_j / T) / Z, v_j from a memory of the whole data:

      -log h_i / (h_i + K / n) - sum_(j != i) log (K / n) / (h_j + K / n)

  and the same with student and teacher changed over. The memories are written
  after they are read, once a step, from all valid examples of the batch:
  `momentum` old + (1 - momentum) new, scaled to length 1. Z is n times the mean
  of exp over the first batch, and stays. Partners are drawn evenly from all
  other examples, with repetition; `ContrastiveRepresentationByClass` draws them
  from other classes. Memories, Z and the step are saved beside the model.

  Source: Tian, Krishnan and Isola 2020 (1910.10699), equations 10 to 18, as in
  the authors' RepDistiller.

  Attributes:
    examples: n, the size of the training split; `index` is below it.
    negatives: K, partners that are not the example.
    width: of the common space.
    temperature: T; of the cosines, and not that of the outputs.
    momentum: of the memories.
    seed: of the draws.
  """

  examples: int
  negatives: int = 16384
  width: int = 128
  temperature: float = 0.07
  momentum: float = 0.5
  seed: int = 0

  coupling = "batch"

  @nn.compact
  def __call__(
    self,
    student: jax.Array,
    teacher: jax.Array,
    index: jax.Array,
    *,
    mask: jax.Array | None = None,
    partners: jax.Array | None = None,
  ) -> metrics.Mean:
    """Features `[batch, ...]` to the `Mean` behind the mask.

    Args:
      student: flattened.
      teacher: flattened, of any width.
      index: int `[batch]`, the examples' places in the data.
      mask: bool `[batch]`.
      partners: int `[batch, 1 + negatives]`, the example first; drawn if None.

    Raises:
      UserError: a number out of range.
    """
    own = _Memory(self)
    if partners is None:
      partners = own.with_self(
        index,
        lambda key, i: _but(key, (self.negatives,), self.examples, i, i + 1),
      )
    return own.contrast(student, teacher, index, mask, partners)


class ContrastiveRepresentationByClass(nn.Module):
  """`ContrastiveRepresentation` with partners of other classes only.

  The classes of the data are learned as its examples are seen; one that was not
  seen yet counts as of another class. The authors' code knows them beforehand,
  and else does the same.

  Source: Tian, Krishnan and Isola 2020 (1910.10699), section 4.1 ("sampling
  negatives from different classes"), as in the authors' RepDistiller.

  Attributes:
    examples: n, the size of the training split; `index` is below it.
    negatives: K, partners that are not of the example's class.
    width: of the common space.
    temperature: T; of the cosines, and not that of the outputs.
    momentum: of the memories.
    seed: of the draws.
  """

  examples: int
  negatives: int = 16384
  width: int = 128
  temperature: float = 0.07
  momentum: float = 0.5
  seed: int = 0

  coupling = "batch"

  @nn.compact
  def __call__(
    self,
    student: jax.Array,
    teacher: jax.Array,
    target: jax.Array,
    index: jax.Array,
    *,
    mask: jax.Array | None = None,
  ) -> metrics.Mean:
    """Features `[batch, ...]` to the `Mean` behind the mask.

    Args:
      student: flattened.
      teacher: flattened, of any width.
      target: int `[batch]`, classes.
      index: int `[batch]`, the examples' places in the data.
      mask: bool `[batch]`.

    Raises:
      UserError: a number out of range.
    """
    own = _Memory(self)
    classes = self.variable(
      "memory", "classes", lambda: jnp.full(self.examples, -1, jnp.int32)
    )
    target = target.astype(jnp.int32)
    known = classes.value.at[_rows(index, mask, self.examples)].set(
      target, mode="drop"
    )
    if not self.is_initializing():
      classes.value = known
    order = jnp.argsort(known).astype(jnp.int32)
    ranked = known[order]
    first = jnp.searchsorted(ranked, target, side="left").astype(jnp.int32)
    behind = jnp.searchsorted(ranked, target, side="right").astype(jnp.int32)

    def draw(key: jax.Array, place: jax.Array) -> jax.Array:
      start, end = place
      shape = (self.negatives,)
      return order[_but(key, shape, self.examples, start, end)]

    partners = own.with_self(index, draw, (first, behind))
    return own.contrast(student, teacher, index, mask, partners)


class _Memory:
  """What both modules do with their variables, in their compact method."""

  def __init__(self, module: Any):
    for name, least in (("examples", 2), ("negatives", 1), ("width", 1)):
      if getattr(module, name) < least:
        raise errors.UserError(
          f"{type(module).__name__}: {name}={getattr(module, name)} must be at"
          f" least {least}"
        )
    if module.temperature <= 0 or not 0 <= module.momentum < 1:
      raise errors.UserError(
        f"{type(module).__name__}: temperature={module.temperature} must be"
        f" above 0, and momentum={module.momentum} in 0..1, and below 1"
      )
    self.module = module
    self.step = module.variable("memory", "step", lambda: jnp.int32(0))

  def with_self(
    self,
    index: jax.Array,
    draw: Callable[..., jax.Array],
    places: Any = None,
  ) -> jax.Array:
    """Each example's own place, and what is drawn by step and example."""
    key = jax.random.fold_in(jax.random.key(self.module.seed), self.step.value)
    index = index.astype(jnp.int32)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    drawn = jax.vmap(draw)(keys, index if places is None else places)
    return jnp.concatenate([index[:, None], drawn], axis=1)

  def contrast(
    self,
    student: jax.Array,
    teacher: jax.Array,
    index: jax.Array,
    mask: jax.Array | None,
    partners: jax.Array,
  ) -> metrics.Mean:
    """The loss of all valid examples; writes the memories."""
    module = self.module
    bound = 1 / math.sqrt(module.width / 3)
    s, t = arrays.pair(arrays.flat(student), arrays.flat(teacher))
    valid = jnp.ones(s.shape[0], bool) if mask is None else mask
    sides, totals = {}, 0.0
    for name, x in (("student", s), ("teacher", t)):
      x = jnp.where(valid[:, None], x, 0.0)
      x = nn.Dense(module.width, param_dtype=x.dtype, name=name)(x)
      sides[name] = arrays.unit(x)
    for name, other in (("student", "teacher"), ("teacher", "student")):
      memory = module.variable(
        "memory", f"bank_{other}", self._first(other, bound, s.dtype)
      )
      scale = module.variable(
        "memory", f"scale_{name}", lambda: jnp.full((), -1, s.dtype)
      )
      kept = memory.value[partners].astype(s.dtype)
      cosines = jnp.einsum("bd,bkd->bk", sides[name], kept)
      raw = jnp.exp(cosines / module.temperature)
      seen = arrays.masked_mean(
        raw, jnp.broadcast_to(valid[:, None], raw.shape)
      )
      fresh = jax.lax.stop_gradient(seen) * module.examples
      known = scale.value > 0
      z = jnp.where(known, scale.value.astype(s.dtype), fresh)
      h = raw / jnp.where(z > 0, z, 1.0)
      chance = (partners.shape[1] - 1) / module.examples
      own, others = h[:, 0], h[:, 1:]
      totals -= jnp.log(own / (own + chance + _EPSILON))
      totals -= jnp.log(chance / (others + chance + _EPSILON)).sum(axis=1)
      if not module.is_initializing():
        written = jnp.where(valid.any(), z, -1.0).astype(scale.value.dtype)
        scale.value = jnp.where(known, scale.value, written)
        self._write(memory, sides[other], index, mask)
    if not module.is_initializing():
      self.step.value = self.step.value + 1
    return metrics.Mean.of(totals, valid)

  def _first(
    self, name: str, bound: float, dtype: Any
  ) -> Callable[[], jax.Array]:
    """The memory at first: even in -bound..bound."""
    module = self.module
    key = jax.random.key(module.seed)
    key = jax.random.fold_in(key, 1 if name == "student" else 2)
    shape = (module.examples, module.width)
    return lambda: jax.random.uniform(key, shape, dtype, -bound, bound)

  def _write(
    self,
    memory: nn.Variable,
    new: jax.Array,
    index: jax.Array,
    mask: jax.Array | None,
  ) -> None:
    momentum, rows = self.module.momentum, memory.value[index]
    new = jax.lax.stop_gradient(new).astype(memory.value.dtype)
    rows = arrays.unit(momentum * rows + (1 - momentum) * new)
    memory.value = memory.value.at[
      _rows(index, mask, self.module.examples)
    ].set(rows, mode="drop")


def _rows(index: jax.Array, mask: jax.Array | None, examples: int) -> jax.Array:
  """Where to write; beyond the end, which is dropped, for what is masked."""
  index = index.astype(jnp.int32)
  return index if mask is None else jnp.where(mask, index, examples)


def _but(
  key: jax.Array,
  shape: tuple[int, ...],
  size: int,
  start: jax.Array,
  end: jax.Array,
) -> jax.Array:
  """Drawn evenly from 0..size - 1 but start..end - 1.

  All of it where nothing else is left.
  """
  left = size - (end - start)
  some = left > 0
  drawn = jax.random.randint(
    key, shape, 0, jnp.where(some, left, size), jnp.int32
  )
  return jnp.where(some & (drawn >= start), drawn + (end - start), drawn)
