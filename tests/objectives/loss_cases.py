"""Every loss once, with what its laws are: the table that test_laws.py walks.

The value of a case is that of the step: values and mask to one mean.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import inspect
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


def vectors():
  """Features of two widths."""
  return {"student": normal(3, BATCH, 5), "teacher": normal(4, BATCH, 8)}


def same_vectors():
  return {"student": normal(3, BATCH, 5), "teacher": normal(4, BATCH, 5)}


def maps():
  """Two taps of each side, of one resolution and width."""
  return {
    "student": (normal(5, BATCH, 4, 4, 3), normal(6, BATCH, 2, 2, 5)),
    "teacher": (normal(7, BATCH, 4, 4, 3), normal(8, BATCH, 2, 2, 5)),
  }


def one_map():
  return {name: taps[0] for name, taps in maps().items()}


def other_map():
  """Maps that differ in resolution and channels."""
  return {
    "student": normal(5, BATCH, 4, 4, 3),
    "teacher": normal(6, BATCH, 2, 2, 5),
  }


def tokens():
  return {
    "student": (normal(9, BATCH, 4, 6), normal(10, BATCH, 4, 6)),
    "teacher": (normal(11, BATCH, 4, 6), normal(12, BATCH, 4, 6)),
  }


def states():
  return {name: taps[0] for name, taps in tokens().items()}


def scores():
  return {
    "student": normal(13, BATCH, 2, 4, 4),
    "teacher": normal(14, BATCH, 2, 4, 4),
  }


def queries_keys_values():
  return {
    side: tuple(normal(seed + i, BATCH, 4, 6) for i in range(3))
    for side, seed in (("student", 15), ("teacher", 18))
  }


def other_channels():
  """Two taps whose channels differ."""
  return {
    "student": (normal(5, BATCH, 4, 4, 2), normal(6, BATCH, 2, 2, 3)),
    "teacher": (normal(7, BATCH, 4, 4, 3), normal(8, BATCH, 2, 2, 5)),
  }


def factors():
  """Maps of one resolution and other channels."""
  return {
    "student": normal(5, BATCH, 4, 4, 2),
    "teacher": normal(6, BATCH, 4, 4, 3),
  }


def indexed():
  return {**vectors(), "index": np.array([3, 0, 7, 8, 1, 5])}


def indexed_labels():
  return {**indexed(), "target": np.array([0, 1, 0, 2, 1, 2])}


def views():
  return {
    "student": normal(21, BATCH, 3, 5),
    "teacher": normal(22, BATCH, 3, 5),
  }


def labelled_views():
  return {**views(), "target": np.array([0, 1, 4, 2, 3, 2])}


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
  "similarity_preserving": Case(
    objectives.similarity_preserving, same_vectors, couples=True
  ),
  "similarity_preserving/1": Case(
    _partial(objectives.similarity_preserving, norm=1), maps, couples=True
  ),
  "relational": Case(objectives.relational, same_vectors, couples=True),
  "probabilistic_transfer": Case(
    objectives.probabilistic_transfer, same_vectors, couples=True
  ),
  "correlation_congruence": Case(
    objectives.correlation_congruence, same_vectors, couples=True
  ),
  "correlation_congruence/norm": Case(
    _partial(objectives.correlation_congruence, distance="norm"),
    same_vectors,
    couples=True,
  ),
  "correlation_congruence/consecutive": Case(
    _partial(objectives.correlation_congruence, kernel="consecutive"),
    same_vectors,
    couples=True,
    ordered=True,
  ),
  "neuron_selectivity": Case(objectives.neuron_selectivity, one_map),
  "neuron_selectivity/gaussian": Case(
    _partial(objectives.neuron_selectivity, kernel="gaussian"), one_map
  ),
  "inter_channel_correlation": Case(
    objectives.inter_channel_correlation, one_map
  ),
  "flow_of_solution": Case(objectives.flow_of_solution, maps),
  "flow_of_solution/column_norm": Case(
    _partial(
      objectives.flow_of_solution, distance="column_norm", pool="largest"
    ),
    maps,
  ),
  "token_similarity": Case(objectives.token_similarity, tokens),
  "singular_vectors": Case(objectives.singular_vectors, maps),
  "attention_mse": Case(objectives.attention_mse, scores),
  "attention_cross_entropy": Case(
    objectives.attention_cross_entropy, scores, zero=False
  ),
  "attention_relations": Case(
    _partial(objectives.attention_relations, heads=3), queries_keys_values
  ),
  "hidden_mse": Case(objectives.hidden_mse, states),
  "hidden_cosine": Case(objectives.hidden_cosine, states),
  "patient": Case(objectives.patient, tokens),
  "HiddenStates": Case(
    objectives.HiddenStates(measure="cosine"), states, zero=False
  ),
  "activation_boundaries": Case(
    objectives.activation_boundaries, maps, zero=False
  ),
  "ActivationBoundaries": Case(
    objectives.ActivationBoundaries(), other_channels, zero=False, couples=True
  ),
  "overhaul": Case(_partial(objectives.overhaul, margins=(-0.5, -1.0)), maps),
  "Overhaul": Case(
    objectives.Overhaul(), other_channels, zero=False, couples=True
  ),
  "factor_transfer": Case(objectives.factor_transfer, one_map),
  "factor_transfer/factor": Case(
    _partial(objectives.factor_transfer, over="factor", p=2.0), one_map
  ),
  "FactorTransfer": Case(objectives.FactorTransfer(), factors, zero=False),
  "VariationalInformation": Case(
    objectives.VariationalInformation(resolution="pool"),
    other_map,
    zero=False,
    positive=False,
  ),
  "MaskedGeneration": Case(
    objectives.MaskedGeneration(), factors, zero=False, ordered=True
  ),
  "hierarchical_context": Case(objectives.hierarchical_context, maps),
  "Review": Case(objectives.Review(), other_channels, zero=False, couples=True),
  "ContrastiveRepresentation": Case(
    objectives.ContrastiveRepresentation(examples=10, negatives=4, width=8),
    indexed,
    zero=False,
    couples=True,
  ),
  "ContrastiveRepresentationByClass": Case(
    objectives.ContrastiveRepresentationByClass(
      examples=10, negatives=4, width=8
    ),
    indexed_labels,
    zero=False,
    couples=True,
  ),
  "self_supervised_similarities": Case(
    objectives.self_supervised_similarities, views, couples=True
  ),
  "transformed_soft_targets": Case(
    objectives.transformed_soft_targets, labelled_views, couples=True
  ),
  "SelfSupervisedSimilarities": Case(
    objectives.SelfSupervisedSimilarities(), views, zero=False, couples=True
  ),
  "Hint": Case(objectives.Hint(resolution="pool"), other_map, zero=False),
  "attention_transfer": Case(objectives.attention_transfer, maps),
  "attention_transfer/norm": Case(
    _partial(objectives.attention_transfer, distance="norm"), one_map
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


def _takes_mask(loss: Any) -> bool:
  called = loss.__call__ if isinstance(loss, nn.Module) else loss
  return "mask" in inspect.signature(called).parameters


@functools.cache
def compiled(name: str) -> tuple[Callable[..., Any], Any]:
  """`(given, mask, variables) -> Answer`, and the variables."""
  case = CASES[name]

  def answer(student, given, mask, variables):
    given = {**given, "student": student}
    if _takes_mask(case.loss):
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
    if _takes_mask(case.loss):
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
