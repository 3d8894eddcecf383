"""Terms added up: the one place where values become (total, count)."""

from collections.abc import Callable, Mapping
import dataclasses
import inspect
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.config import sections, specs, stages
from tsjax.core import errors, metrics, random
from tsjax.distill import forward


@dataclasses.dataclass(frozen=True)
class Term:
  """A loss, and what it reads."""

  name: str
  loss: Callable[..., Any]
  reads: frozenset[str]  # of config.sections.READS
  student: str
  teacher: str
  student_tap: str | tuple[str, ...]
  teacher_tap: str | tuple[str, ...]
  target: str
  labelled: bool
  coupled: bool

  @property
  def learned(self) -> bool:
    """Whether the term has parameters or memory of its own."""
    return isinstance(self.loss, nn.Module)


def bind(stage: sections.Stage) -> tuple[Term, ...]:
  """The terms of a checked stage, in the order of their names."""
  terms = []
  for name, term in sorted(stage.objective.items()):
    loss = specs.partial(term.loss)
    called = specs.called(term.loss)
    takes = inspect.signature(called).parameters
    reads = frozenset(takes) & set(sections.READS)
    terms.append(
      Term(
        name=name,
        loss=loss,
        reads=reads,
        student=term.student or stages.trained(stage)[0],
        teacher=(
          term.teacher
          or (stages.teachers(stage)[0] if "teacher" in reads else "")
        ),
        student_tap=term.student_tap,
        teacher_tap=term.teacher_tap,
        target=term.target,
        labelled=term.on == "labelled"
        or (term.on == "auto" and "target" in reads),
        coupled=getattr(
          called,
          "coupling",
          getattr(term.loss[specs.CALL], "coupling", None),
        )
        == "batch",
      )
    )
  return tuple(terms)


def arguments(
  term: Term,
  students: Mapping[str, forward.Outputs],
  teachers: Mapping[str, forward.Outputs],
  batch: Mapping[str, Any],
  temperature: jax.Array,
) -> dict[str, Any]:
  """What a term hands to its loss, by name.

  Raises:
    UserError: a tap or a field of the batch that does not exist.
  """
  key = f"objective.{term.name}"
  given: dict[str, Any] = {}
  if "student" in term.reads:
    given["student"] = students[term.student].read(
      term.student_tap, of=f"{key}.student_tap: model {term.student!r}"
    )
  if "teacher" in term.reads:
    pool = teachers if term.teacher in teachers else students
    given["teacher"] = jax.lax.stop_gradient(
      pool[term.teacher].read(
        term.teacher_tap, of=f"{key}.teacher_tap: teacher {term.teacher!r}"
      )
    )
  if "target" in term.reads:
    if term.target not in batch:
      raise errors.UserError(
        f"{key}.target={term.target!r} is no field of the data:"
        f" {errors.nearest(term.target, batch)}"
      )
    given["target"] = batch[term.target]
  if "index" in term.reads:
    given["index"] = batch["index"]
  if "mask" in term.reads:
    given["mask"] = _mask(term, batch)
  if "temperature" in term.reads:
    given["temperature"] = temperature
  return given


def initialise(
  terms: tuple[Term, ...],
  key: jax.Array,
  given: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
  """Variables of the learned terms; each drawn by its own name."""
  variables = {}
  for term in terms:
    if term.learned:
      own_key = jax.random.fold_in(key, random.stream(term.name))
      variables[term.name] = dict(term.loss.init(own_key, **given[term.name]))
  return variables


def evaluate(
  terms: tuple[Term, ...],
  variables: Mapping[str, Any],
  students: Mapping[str, forward.Outputs],
  teachers: Mapping[str, forward.Outputs],
  batch: Mapping[str, Any],
  temperatures: Mapping[str, jax.Array],
  *,
  axis_name: str | None = None,
) -> tuple[dict[str, metrics.Mean], dict[str, Any]]:
  """Every term's (total, count), and the new collections of learned terms.

  Under `pmap` the sums are those of this replica's examples; their sum over
  the axis is that of the global batch, for coupled terms too.
  """
  means: dict[str, metrics.Mean] = {}
  collections: dict[str, Any] = {}
  for term in terms:
    given = arguments(term, students, teachers, batch, temperatures[term.name])
    mask = _mask(term, batch)
    share = 1.0
    if term.coupled and axis_name is not None:
      # Every replica sees the global batch, and answers for its share of it.
      size = jax.lax.axis_size(axis_name)
      temperature = given.pop("temperature", None)
      given, mask = jax.tree.map(
        lambda x: jax.lax.all_gather(x, axis_name, tiled=True), (given, mask)
      )
      if temperature is not None:
        given["temperature"] = temperature
      share = 1.0 / size
    if term.learned:
      own = variables[term.name]
      kept = [name for name in own if name != "params"]
      values, changed = term.loss.apply(own, **given, mutable=kept)
      collections[term.name] = dict(changed)
    else:
      values = term.loss(**given)
    mean = _mean(values, mask)
    means[term.name] = metrics.Mean(mean.total * share, mean.count * share)
  return means, collections


def weighted(
  means: Mapping[str, metrics.Mean],
  counts: Mapping[str, jax.Array],
  weights: Mapping[str, jax.Array],
) -> jax.Array:
  """`sum_k weight_k * total_k / count_k`, counts of the global batch."""
  parts = [
    weights[name] * mean.total / jnp.maximum(counts[name], 1e-9)
    for name, mean in means.items()
  ]
  return sum(parts[1:], start=parts[0])


def _mask(term: Term, batch: Mapping[str, Any]) -> jax.Array:
  mask = batch["mask"]
  return mask & batch["labelled"] if term.labelled else mask


def _mean(values: Any, mask: jax.Array) -> metrics.Mean:
  if isinstance(values, metrics.Mean):
    return values
  if isinstance(values, tuple):
    values, own = values
    # A term's mask may be by token where the batch's is by example.
    mask = own & mask.reshape(mask.shape + (1,) * (own.ndim - mask.ndim))
  return metrics.Mean.of(values, mask)
