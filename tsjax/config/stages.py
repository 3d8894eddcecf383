"""Checks of one stage: its teachers, terms, arms and numbers."""

from collections.abc import Iterable, Sequence
import math
import re

from tsjax.config import sections, specs
from tsjax.core import errors

# The name under which terms read the moving average of the student.
AVERAGE = "average"


def trained(stage: sections.Stage) -> tuple[str, ...]:
  """The models that a stage trains."""
  return (stage.train,) if isinstance(stage.train, str) else stage.train


def judged(name: str, stage: sections.Stage) -> dict[str, str]:
  """The names under which a stage's models are known later, and the models.

  "STAGE", or "STAGE.MODEL" for each of several models.
  """
  models = trained(stage)
  if len(models) == 1:
    return {name: models[0]}
  return {f"{name}.{model}": model for model in models}


def teachers(stage: sections.Stage) -> tuple[str, ...]:
  """Every teacher that a stage's terms may name, but the average and peers."""
  return (*stage.teachers, *stage.ensembles, *stage.cached)


def check(run: sections.Run, name: str) -> None:
  """Checks stage `name` against the run that it is part of.

  Raises:
    UserError: a name that is not defined, or a value out of its range.
  """
  stage, key = run.stages[name], f"config.stages.{name}"
  models = trained(stage)
  if not models:
    raise errors.UserError(f"{key}.train=(): name a model")
  for field, names in (("train", models), ("teachers", stage.teachers)):
    if len(set(names)) != len(names):
      raise errors.UserError(f"{key}.{field}={names!r}: name each once")
  for model in models:
    if model not in run.models:
      raise errors.UserError(
        f"{key}.train={model!r} is no model:"
        f" {errors.nearest(model, run.models)}"
      )
  _check_teachers(run, name)
  for field in ("view", "teacher_view"):
    view = getattr(stage, field)
    if view not in run.data.views and (view or field == "view"):
      raise errors.UserError(
        f"{key}.{field}={view!r} is no view:"
        f" {errors.nearest(view, run.data.views)}"
      )
  _one_of(f"{key}.examples", stage.examples, ("all", "labelled"))
  _one_of(f"{key}.use", stage.use, ("last", "best", "average"))
  _positive(f"{key}.accumulate", stage.accumulate)
  _positive(f"{key}.steps_per_dispatch", stage.steps_per_dispatch)
  if not 0 < stage.labels <= 1:
    raise errors.UserError(
      f"{key}.labels={stage.labels}: a share of the labels in (0, 1]"
    )
  _not_negative(f"{key}.learning_rate", stage.learning_rate)
  if stage.clip is not None and not stage.clip > 0:
    raise errors.UserError(
      f"{key}.clip={stage.clip}: a positive norm, or None for no clipping"
    )
  if run.data.batch_size % stage.accumulate:
    raise errors.UserError(
      f"{key}.accumulate={stage.accumulate} does not divide"
      f" config.data.batch_size={run.data.batch_size}"
    )
  if not stage.objective:
    raise errors.UserError(f"{key}.objective is empty: add a term")
  check_names(f"{key}.objective", stage.objective)
  for term_name, term in stage.objective.items():
    _check_term(stage, models, term, f"{key}.objective.{term_name}")
  for arm, values in stage.arms.items():
    _check_arm(arm, values, f"{key}.arms.{arm}")
  _check_weights(stage, models, key)
  for group_name, group in stage.groups.items():
    where = f"{key}.groups.{group_name}"
    _not_negative(f"{where}.rate", group.rate)
    _not_negative(f"{where}.decay", group.decay)
    try:
      re.compile(group.match)
    except re.error as e:
      raise errors.UserError(
        f"{where}.match={group.match!r} is not a regular expression: {e}"
      ) from e


def _check_teachers(run: sections.Run, name: str) -> None:
  """Earlier stages, ensembles of them, and caches, under names of their own."""
  stage, key = run.stages[name], f"config.stages.{name}"
  before = run.order[: run.order.index(name)]
  earlier = [n for b in before for n in judged(b, run.stages[b])]
  for teacher in stage.teachers:
    _check_earlier(run, earlier, teacher, f"{key}.teachers")
  check_names(f"{key}.ensembles", stage.ensembles)
  check_names(f"{key}.cached", stage.cached)
  for label, ensemble in stage.ensembles.items():
    where = f"{key}.ensembles.{label}"
    if not ensemble.members:
      raise errors.UserError(f"{where}.members=(): name earlier stages")
    for member in ensemble.members:
      _check_earlier(run, earlier, member, f"{where}.members")
    if len(set(ensemble.members)) != len(ensemble.members):
      raise errors.UserError(
        f"{where}.members={ensemble.members!r}: name each once, and give it"
        f" a larger share in {where}.weights"
      )
    _one_of(f"{where}.mean", ensemble.mean, ("probabilities", "logits"))
    _temperature(f"{where}.temperature", ensemble.temperature)
    weights = ensemble.weights
    if weights and len(weights) != len(ensemble.members):
      raise errors.UserError(
        f"{where}.weights={weights!r}: {len(weights)} for"
        f" {len(ensemble.members)} members; give one for each, or ()"
      )
    if weights and not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
      raise errors.UserError(
        f"{where}.weights={weights!r}: must not be negative, finite, and not"
        " all 0"
      )
  taken: dict[str, str] = dict.fromkeys(stage.teachers, "teachers")
  models = trained(stage)
  peers = models if len(models) > 1 else ()
  for field in ("ensembles", "cached"):
    for label in getattr(stage, field):
      if label in taken or label in peers or label == AVERAGE:
        other = taken.get(label, "a model that it trains")
        if label == AVERAGE:
          other = "the moving average"
        raise errors.UserError(
          f"{key}.{field}: {label!r} is another teacher's name already"
          f" ({other}); rename it"
        )
      taken[label] = field
  if AVERAGE in stage.teachers:
    raise errors.UserError(
      f"{key}.teachers: 'average' names the moving average; rename the stage"
    )


def _check_earlier(
  run: sections.Run, earlier: Sequence[str], name: str, key: str
) -> None:
  if name in earlier:
    return
  if name in run.stages and any(e.startswith(f"{name}.") for e in earlier):
    members = [e for e in earlier if e.startswith(f"{name}.")]
    raise errors.UserError(
      f"{key}: stage {name!r} trained several models; name one of them:"
      f" {', '.join(members)}"
    )
  stage = name.partition(".")[0]
  why = "does not come before it" if stage in run.stages else "is no stage"
  if stage != name and stage in run.stages:
    why = "is no model of an earlier stage"
  raise errors.UserError(
    f"{key}: {name!r} {why}: {errors.nearest(name, earlier)}"
  )


def _check_arm(arm: str, values: tuple[object, ...], key: str) -> None:
  if arm not in ("learning_rate",):
    raise errors.UserError(f"{key}: arms of a stage vary learning_rate")
  if not values:
    raise errors.UserError(f"{key}=(): name at least one value")
  for i, rate in enumerate(values):
    if not isinstance(rate, int | float) or isinstance(rate, bool):
      raise errors.UserError(
        f"{key}[{i}]={rate!r}: expected float, not {type(rate).__name__}"
      )
    _not_negative(f"{key}[{i}]", float(rate))
  # As an arm's folder writes them.
  if len({f"{rate:g}" for rate in values}) != len(values):
    raise errors.UserError(f"{key}={values!r}: two are the same in six digits")


def _check_weights(
  stage: sections.Stage, models: tuple[str, ...], key: str
) -> None:
  """What moves weights besides the gradient: average, pull and start."""
  if stage.average is not None and not 0 <= stage.average <= 1:
    raise errors.UserError(f"{key}.average={stage.average}: a decay in [0, 1]")
  if stage.average is not None and len(models) > 1:
    raise errors.UserError(
      f"{key}.average={stage.average}: the stage trains {len(models)} models,"
      " and an average is kept of one"
    )
  if stage.start is not None and len(models) > 1:
    raise errors.UserError(
      f"{key}.start: the stage trains {len(models)} models, and one is started"
      " from a teacher; train them in stages of their own"
    )
  if stage.use == "average" and stage.average is None:
    raise errors.UserError(
      f"{key}.use='average': set {key}.average to a decay, say 0.999"
    )
  if stage.pull is not None and stage.pull.teacher not in stage.teachers:
    raise errors.UserError(
      f"{key}.pull.teacher={stage.pull.teacher!r} does not teach here:"
      f" {errors.nearest(stage.pull.teacher, stage.teachers)}"
    )


def _check_term(
  stage: sections.Stage,
  models: tuple[str, ...],
  term: sections.Term,
  key: str,
) -> None:
  takes = specs.parameters(specs.called(term.loss))
  _one_of(f"{key}.on", term.on, ("auto", "all", "labelled"))
  if not term.student and len(models) > 1:
    raise errors.UserError(
      f"{key}.student is missing: the stage trains {', '.join(models)}"
    )
  if term.student and term.student not in models:
    raise errors.UserError(
      f"{key}.student={term.student!r} is not trained here:"
      f" {errors.nearest(term.student, models)}"
    )
  if "teacher" in takes:
    _check_read_teacher(stage, models, term, key)
  elif term.teacher:
    raise errors.UserError(
      f"{key}.teacher={term.teacher!r}: the loss does not read a teacher"
    )
  for name in sections.READS:
    if name in term.loss:
      raise errors.UserError(
        f"{key}.loss.{name}: write the term with tsjax.config.term"
      )
  if "temperature" not in takes and term.temperature != 1.0:
    raise errors.UserError(
      f"{key}.temperature={term.temperature}: the loss takes no temperature"
    )
  if isinstance(term.temperature, float):
    _temperature(f"{key}.temperature", term.temperature)
  if isinstance(term.weight, float) and not math.isfinite(term.weight):
    raise errors.UserError(f"{key}.weight={term.weight}: must be finite")


def _check_read_teacher(
  stage: sections.Stage,
  models: tuple[str, ...],
  term: sections.Term,
  key: str,
) -> None:
  """The teacher that a term reads: named, or the only one."""
  outside = teachers(stage)
  # A model that is trained beside the student may teach it: a peer.
  known = (*outside, *(models if len(models) > 1 else ()))
  known += (AVERAGE,) if stage.average is not None else ()
  if not term.teacher and len(outside) != 1:
    raise errors.UserError(
      f"{key} needs a teacher and the stage has {len(outside)}: set"
      f" {key}.teacher or the stage's `teachers`"
    )
  if len(models) > 1 and {term.teacher} & set(models) & set(outside):
    raise errors.UserError(
      f"{key}.teacher={term.teacher!r} is a model that the stage trains and"
      " an earlier stage too; rename one of them"
    )
  if term.teacher and term.teacher not in known:
    raise errors.UserError(
      f"{key}.teacher={term.teacher!r} does not teach here:"
      f" {errors.nearest(term.teacher, known)}"
    )
  taps = (
    (term.teacher_tap,)
    if isinstance(term.teacher_tap, str)
    else term.teacher_tap
  )
  read = term.teacher or outside[0]
  if set(taps) != {"output"}:
    for field, why in (
      ("ensembles", "an ensemble's members have taps of their own"),
      ("cached", "a cache holds outputs"),
    ):
      if read in getattr(stage, field):
        raise errors.UserError(
          f'{key}.teacher_tap={term.teacher_tap!r}: {why}, and only "output"'
          f" can be read of {read!r}; name a stage as teacher"
        )


def check_names(key: str, named: Iterable[str]) -> None:
  """Names become folders, and parts of paths that are joined by "/"."""
  for name in named:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
      raise errors.UserError(
        f"{key}: {name!r} is no name; use letters, digits, _ and -"
      )


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise errors.UserError(f"{key}={value!r}: {errors.nearest(value, known)}")


def _not_negative(key: str, value: float) -> None:
  if not 0 <= value < math.inf:
    raise errors.UserError(f"{key}={value}: must not be negative, and finite")


def _positive(key: str, value: int) -> None:
  if value < 1:
    raise errors.UserError(f"{key}={value}: must be at least 1")


def _temperature(key: str, value: float) -> None:
  if not 0 < value < math.inf:
    raise errors.UserError(f"{key}={value}: must be above 0")
