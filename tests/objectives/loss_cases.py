"""Every loss once, with what its laws are: the table that test_laws.py walks.

The value of a case is that of the step: values and mask to one mean.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tsjax import objectives
from tsjax.core import metrics

BATCH, CLASSES = 6, 7


def normal(seed, *shape, scale=1.0):
  return np.random.RandomState(seed).randn(*shape) * scale


def logits():
  return {
    "student": normal(0, BATCH, CLASSES, scale=2),
    "teacher": normal(1, BATCH, CLASSES, scale=2),
  }


def labelled():
  return {
    **logits(),
    "target": np.random.RandomState(2).randint(0, CLASSES, BATCH),
  }


def only_labels():
  given = labelled()
  del given["teacher"]
  return given


@dataclasses.dataclass(frozen=True)
class Case:
  """A loss with its inputs and laws.

  Attributes:
    loss: the function, or a module.
    make: the inputs by name, float64.
    zero: whether it is 0 where student and teacher are equal.
    positive: whether it is never below 0.
    couples: whether it is given the mask and returns a `Mean`.
    ordered: whether the order of the examples is part of the definition.
    tolerance: of a value in bfloat16 against float64 on the same inputs.
  """

  loss: Any
  make: Callable[[], Mapping[str, Any]]
  zero: bool = True
  positive: bool = True
  couples: bool = False
  ordered: bool = False
  tolerance: float = 1e-4


_partial = functools.partial

CASES = {
  "soft_targets": Case(
    _partial(objectives.soft_targets, temperature=2), logits
  ),
  "tempered_cross_entropy": Case(
    _partial(objectives.tempered_cross_entropy, temperature=2),
    logits,
    zero=False,
  ),
  "reverse_kl": Case(_partial(objectives.reverse_kl, temperature=2), logits),
  "generalised_jsd": Case(
    _partial(objectives.generalised_jsd, beta=0.3), logits
  ),
  "skew_kl": Case(objectives.skew_kl, logits),
  "skew_reverse_kl": Case(objectives.skew_reverse_kl, logits),
  "total_variation": Case(objectives.total_variation, logits),
  "logit_mse": Case(objectives.logit_mse, logits),
  "standardised_soft_targets": Case(
    _partial(objectives.standardised_soft_targets, temperature=2), logits
  ),
  "decoupled": Case(_partial(objectives.decoupled, temperature=4), labelled),
  "normalised": Case(
    _partial(objectives.normalised, temperature=2), labelled, zero=False
  ),
  "virtual_teacher": Case(objectives.virtual_teacher, only_labels, zero=False),
  "virtual_teacher/code": Case(
    _partial(objectives.virtual_teacher, variant="code"),
    only_labels,
    zero=False,
  ),
  "minifinetuning": Case(objectives.minifinetuning, labelled, zero=False),
  "hinge_ranking": Case(objectives.hinge_ranking, logits),
  "logistic_ranking": Case(objectives.logistic_ranking, logits, zero=False),
  "universal_logits": Case(objectives.universal_logits, logits),
  "student_top_k": Case(
    _partial(objectives.student_top_k, k=3, beta=0.5), logits
  ),
  "dist": Case(_partial(objectives.dist, temperature=4), logits, couples=True),
  "interpolated_teacher": Case(objectives.interpolated_teacher, logits),
  "Taid": Case(objectives.Taid(steps=10), logits, couples=True),
  "CurriculumTemperature": Case(
    objectives.CurriculumTemperature(warmup=10), logits
  ),
  "CurriculumTemperature/instance": Case(
    objectives.CurriculumTemperature(warmup=10, instance=True), logits
  ),
}


def cast(given: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  """Floats in `dtype`, integers in int32."""

  def one(x):
    x = np.asarray(x)
    return jnp.asarray(x, dtype if x.dtype.kind == "f" else jnp.int32)

  return {
    name: tuple(map(one, x)) if isinstance(x, tuple) else one(x)
    for name, x in given.items()
  }


class Answer(NamedTuple):
  """What a loss came to, as NumPy arrays."""

  values: Any
  value: np.ndarray
  count: np.ndarray
  gradient: Any


def as_mean(values: Any, mask: jax.Array) -> metrics.Mean:
  """What the step makes of a loss's answer."""
  if isinstance(values, metrics.Mean):
    return values
  if isinstance(values, tuple):
    values, own = values
    mask = own & mask.reshape(mask.shape + (1,) * (own.ndim - mask.ndim))
  return metrics.Mean.of(values, mask)


@functools.cache
def compiled(name: str) -> tuple[Callable[..., Any], Any]:
  """`(given, mask, variables) -> Answer`, and the variables."""
  case = CASES[name]

  def answer(student, given, mask, variables):
    given = {**given, "student": student}
    if case.couples:
      given["mask"] = mask
    if isinstance(case.loss, nn.Module):
      kept = [k for k in variables if k != "params"]
      return case.loss.apply(variables, **given, mutable=kept)[0]
    return case.loss(**given)

  @jax.jit
  def run(given, mask, variables):
    def value(student):
      values = answer(student, given, mask, variables)
      mean = as_mean(values, mask)
      return mean.value(), (values, mean.count)

    (total, (values, count)), gradient = jax.value_and_grad(
      value, has_aux=True
    )(given["student"])
    return Answer(values, total, count, gradient)

  variables = {}
  if isinstance(case.loss, nn.Module):
    given = cast(case.make(), jnp.float32)
    if case.couples:
      given["mask"] = jnp.ones(BATCH, bool)
    variables = jax.jit(case.loss.init)(jax.random.key(0), **given)
    variables = jax.tree.map(np.asarray, dict(variables))
  return run, variables


def evaluate(
  name: str, given: Mapping[str, Any], mask: Any = None, dtype: Any = "float32"
) -> Answer:
  """Applies a loss to inputs in `dtype`; float64 under its own switch."""
  run, variables = compiled(name)
  mask = np.ones(BATCH, bool) if mask is None else np.asarray(mask)

  def once():
    own = variables
    if dtype == "float64":
      own = jax.tree.map(
        lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x, variables
      )
    # Memory is float32 in every state; only parameters follow the dtype.
    own = {k: own[k] if k == "params" else variables[k] for k in variables}
    result = run(cast(given, dtype), jnp.asarray(mask), own)
    return jax.tree.map(np.asarray, result)

  if dtype == "float64":
    with jax.enable_x64(True):
      return once()
  return once()
