"""A study of label fractions made of any classification config.

One stage with a teacher becomes five ways to use few labels, each at every
fraction, with equal steps:

    alone      the labels, nothing else
    pseudo     and thresholded pseudo-labels of its own on all examples
    started    the labels, born from the teacher by the config's `start`
    distilled  and the teacher's outputs on all examples, own initialisation
    both       the config's stage itself: started and distilled
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import copy
import re
import sys
from typing import Any

from ml_collections import config_dict
import numpy as np

from tsjax import objectives
from tsjax.config import sections, specs
from tsjax.core import durations, errors
from tsjax.data import splits as splits_lib
from tsjax.distill import transfer
from tsjax.loop import checks, needs
from tsjax.report import labels as labels_page

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_FLAG = "--label-study"
# What is counted in epochs would give a stage with few labels few steps.
_EPOCHS = re.compile(r"\s*\d+(\.\d+)?\s*(epochs?|examples?)\s*", re.IGNORECASE)


def parse(text: str | None) -> dict[str, Any]:
  """Options of `expand` from `--label-study=0.01,5%,1,strong=VIEW`.

  Args:
    text: shares of the labels, and `strong=VIEW` or `threshold=NUMBER`; all
      may be left out.

  Raises:
    UserError: a part is no share of the labels, or stands there twice.
  """
  fractions, options = [], {}
  for part in filter(None, (text or "").split(",")):
    name, equals, value = (x.strip() for x in part.partition("="))
    if equals and name not in ("strong", "threshold"):
      raise errors.UserError(
        f"{_FLAG}={text}: {name!r} is not known:"
        f" {errors.nearest(name, ('strong', 'threshold'))}"
      )
    if equals:
      options[name] = value if name == "strong" else _number(value, text)
    elif name.endswith("%"):
      fractions.append(round(_number(name[:-1], text) / 100, 12))
    else:
      fractions.append(_number(name, text))
  if fractions:
    _check_fractions(fractions)
    options["fractions"] = tuple(fractions)
  return options


def _number(part: str, text: str | None) -> float:
  try:
    return float(part)
  except ValueError as e:
    raise errors.UserError(
      f"{_FLAG}={text}: {part!r} is no number; write {_FLAG}=0.01,0.1,1"
    ) from e


def expand(
  config: config_dict.ConfigDict,
  *,
  fractions: Sequence[float] = FRACTIONS,
  strong: str = "",
  threshold: float = 0.95,
  changes: Mapping[str, Mapping[str, Any]] | None = None,
  say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> config_dict.ConfigDict:
  """The study as a config; its stages are named like `distilled_5pc`.

  The template is the last stage that has a teacher. Stages that it does not
  need are left out. Durations in epochs become steps, of all training
  examples, so that every method takes as many.

  Args:
    config: any classification config; it is not changed.
    fractions: shares of the training labels, each in (0, 1].
    strong: the view of `config.data.views` under which `pseudo` trains, while
      its pseudo-labels come from the template's view; "" is the one named
      "strong", if there is one.
    threshold: the confidence from which a pseudo-label counts.
    changes: method -> keys of its stages and their values, such as
      "learning_rate" or "objective.pseudo.weight".
    say: told in one line what is left out, and why.

  Raises:
    UserError: no stage has a teacher, the task is no classification, or no
      fraction is large enough.
  """
  _check_fractions(fractions)
  config = copy.deepcopy(config)
  if strong and strong not in config.data.views:
    raise errors.UserError(
      f"{_FLAG}: strong={strong!r} is no view of config.data.views:"
      f" {errors.nearest(strong, config.data.views)}"
    )
  name = _template(config)
  train = _train_split(config)
  template = config.stages[name]
  _in_steps(template, train.size, config.data.batch_size, name)
  methods = dict(
    _methods(template, name, config, strong or "strong", threshold, say)
  )
  for method, keys in (changes or {}).items():
    if method not in labels_page.METHODS:
      raise errors.UserError(
        f"changes of {method!r}: {errors.nearest(method, labels_page.METHODS)}"
      )
    for key, value in keys.items() if method in methods else ():
      node, *rest = methods[method], *key.split(".")
      for part in rest[:-1]:
        node = node[part]
      node[rest[-1]] = copy.deepcopy(value)
  kept = needs.stages(config, name)
  stages, order = {stage: config.stages[stage] for stage in kept}, list(kept)
  for fraction in sorted(fractions):
    try:
      if fraction < 1:
        splits_lib.with_labels(train, fraction, config.data.seed)
    except errors.UserError as e:
      say(f"label study: {100 * fraction:g} % is left out: {e}")
      continue
    for method, stage in methods.items():
      label = labels_page.stage_name(method, fraction)
      if label in stages:
        raise errors.UserError(
          f"config.stages.{label}: the study needs this name; rename the stage"
        )
      stages[label] = copy.deepcopy(stage)
      stages[label].labels = float(fraction)
      if method == "pseudo" and stage.start is not None:
        stages[label].start.stage = labels_page.stage_name("alone", fraction)
      order.append(label)
  if len(order) == len(kept):
    raise errors.UserError(
      f"{_FLAG}: no fraction has one example of every class; use larger ones"
    )
  config.stages = stages
  config.order = tuple(order)
  config.name = f"{config.name}, label study"
  # A line from start to end for each of thirty stages would tell nobody much.
  config.line_points = 0
  if config.reference not in stages:
    config.reference = kept[0] if len(kept) == 1 else ""
  return config


def _check_fractions(fractions: Sequence[float]) -> None:
  for fraction in fractions:
    if not 0 < fraction <= 1:
      raise errors.UserError(
        f"{_FLAG}: {fraction:g} is no share of the labels; take one above 0 and"
        " at most 1"
      )
  named = [labels_page.stage_name("alone", f) for f in fractions]
  if not fractions or len(set(named)) != len(named):
    raise errors.UserError(
      f"{_FLAG}={','.join(f'{f:g}' for f in fractions)}: name each fraction"
      " once, and at least one"
    )


def _template(config: config_dict.ConfigDict) -> str:
  """The last stage that learns from a teacher."""
  taught = [
    name
    for name in config.order
    if config.stages[name] and _taught(config, name)
  ]
  if not taught:
    raise errors.UserError(
      f"{_FLAG}: no stage of this config has a teacher; give one `teachers`"
    )
  name = taught[-1]
  train = config.stages[name].train
  if not isinstance(train, str) and len(train) > 1:
    raise errors.UserError(
      f"{_FLAG}: config.stages.{name} trains {len(train)} models; the study is"
      " of a stage that trains one"
    )
  return name


def _taught(config: config_dict.ConfigDict, name: str) -> bool:
  stage = config.stages[name]
  return any(
    len(stage.get(key) or ()) for key in ("teachers", "ensembles", "cached")
  )


def _train_split(config: config_dict.ConfigDict) -> splits_lib.Split:
  data = config.data
  source = checks.build(
    data.source,
    "config.data.source",
    needs=("splits", "classes", "read", "labels"),
  )
  parts = checks.call(
    "config.data", splits_lib.carve, source, data.validation, data.seed
  )
  labels = np.asarray(parts["train"].labels())
  if labels.ndim != 1 or labels.dtype.kind not in "iu":
    raise errors.UserError(
      f"{_FLAG}: needs one class for each example, and the labels of"
      f" config.data.source are {labels.dtype} {list(labels.shape)}"
    )
  return parts["train"]


def _in_steps(
  stage: config_dict.ConfigDict, examples: int, batch_size: int, name: str
) -> None:
  """Durations in epochs as steps, wherever the stage has one."""

  def fixed(value: Any, key: str) -> Any:
    if isinstance(value, str) and _EPOCHS.fullmatch(value):
      return durations.steps(
        value, key=key, examples=examples, batch_size=batch_size
      )
    return value

  key = f"config.stages.{name}"
  for field in ("steps", "log_every", "evaluate_every", "save_every"):
    stage[field] = fixed(stage[field], f"{key}.{field}")
  inner = [(f"{key}.schedule", stage.schedule), (f"{key}.pull", stage.pull)]
  for term in stage.objective:
    for field in ("weight", "temperature"):
      value = stage.objective[term][field]
      inner.append((f"{key}.objective.{term}.{field}", value))
  for where, section in inner:
    if isinstance(section, config_dict.ConfigDict):
      for field in section:
        new = fixed(section[field], f"{where}.{field}")
        if new is not section[field]:
          with section.ignore_type():
            section[field] = new


def _methods(
  template: config_dict.ConfigDict,
  name: str,
  config: config_dict.ConfigDict,
  strong: str,
  threshold: float,
  say: Callable[[str], None],
) -> Iterator[tuple[str, config_dict.ConfigDict]]:
  """Each method's stage, but for its fraction."""
  reading = {
    term: "teacher" in specs.parameters(specs.called(section.loss))
    for term, section in template.objective.items()
  }
  has_start = template.get("start") is not None
  if all(reading.values()):
    raise errors.UserError(
      f"{_FLAG}: config.stages.{name}.objective has no term without a teacher,"
      " so that nothing could be trained on labels alone; add one, of weight 0"
      " if need be"
    )

  def made(**changes: Any) -> config_dict.ConfigDict:
    stage = copy.deepcopy(template)
    for key, value in changes.items():
      stage[key] = value
    return stage

  bare = dict(
    teachers=(), ensembles={}, cached={}, start=None, pull=None, teacher_view=""
  )
  alone = made(**bare, examples="labelled")
  for term in [term for term, reads in reading.items() if reads]:
    del alone.objective[term]
  yield "alone", alone
  if strong in config.data.views:
    yield "pseudo", _pseudo(alone, strong, threshold)
  else:
    say(
      f"label study: pseudo is left out: config.data.views has no {strong!r},"
      " the view under which pseudo-labels are learned"
    )
  if has_start:
    started = copy.deepcopy(alone)
    started.start = copy.deepcopy(template.start)
    yield "started", started
  else:
    say(
      f"label study: started and both are left out: config.stages.{name} has no"
      " `start`"
    )
  if any(reading.values()):
    yield "distilled", made(start=None, pull=None)
    if has_start:
      yield "both", made()
  else:
    say(
      f"label study: distilled and both are left out: no term of"
      f" config.stages.{name} reads its teacher"
    )


def _pseudo(
  alone: config_dict.ConfigDict, strong: str, threshold: float
) -> config_dict.ConfigDict:
  """FixMatch-style: sure of the weak view, trained on the strong one.

  Labels are learned under the strong view too, as a stage has one view of the
  student; in the paper they are under the weak one.
  """
  stage = copy.deepcopy(alone)
  stage.examples = "all"
  stage.teacher_view, stage.view = alone.view, strong
  if stage.average is None:
    # The average of no past is the student itself, as of the last step.
    stage.average = 0.0
  term = "pseudo"
  while term in stage.objective:
    term += "_labels"
  stage.start = specs.spec(transfer.from_stage, stage="alone")
  stage.objective[term] = sections.term(
    specs.spec(objectives.pseudo_labels, threshold=threshold),
    teacher="average",
  )
  return stage
