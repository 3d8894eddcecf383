"""The page's first sentences: what the teacher was worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from tsjax.report import layout, markup, words

_tag = markup.tag
# More comparisons than these are told in a table, and in words when unfolded.
PARAGRAPHS = 3


def headline(stages: Mapping[str, Any]) -> markup.Markup:
  """One sentence: what the teacher was worth, as far as the stages tell."""
  compared = words.comparisons(stages)
  if len(compared) == 1:
    return markup.join(_worth(compared[0]), ": ", _scores(compared[0]), ".")
  if compared:
    clear = [c for c in compared if c.clear]
    better = sum(c.gain > 0 for c in clear)
    return markup.join(
      f"Of {len(compared)} stages that learnt from a teacher,"
      f" {better or 'none'} clearly beat their control without one and"
      f" {len(clear) - better or 'none'} clearly fell short of it."
    )
  if not stages:
    return markup.text("This run has no finished stage.")
  best = [name for name in stages if words.score(stages, [name])]
  taught = [name for name, stage in stages.items() if stage.get("teachers")]
  name = (taught or best or list(stages))[-1]
  return markup.join(
    _reached(stages, name),
    "; what its teacher was worth is not known, as no stage trains the same"
    " model without one."
    if taught
    else "; no stage here learnt from a teacher.",
  )


def details(stages: Mapping[str, Any]) -> list[markup.Markup]:
  """What stands below the headline: each comparison, in words or in a row."""
  compared = words.comparisons(stages)
  paragraphs = []
  for comparison in compared:
    parts = [_evidence(comparison)]
    if len(compared) > 1:
      parts = [_worth(comparison), ": ", _scores(comparison), ". ", *parts]
    paragraphs.append(_tag("p", parts, _gap(comparison, stages)))
    if comparison.unequal:
      paragraphs.append(
        _tag(
          "p",
          "The teacher is not the only difference to ",
          _tag("code", comparison.control),
          ": " + "; ".join(comparison.unequal) + ".",
          class_="caveat",
        )
      )
  if len(compared) <= PARAGRAPHS:
    return paragraphs
  return [
    _table(compared),
    layout.folded("Each comparison in words", markup.join(*paragraphs)),
  ]


def _table(compared: Sequence[words.Comparison]) -> markup.Markup:
  """A row for each comparison, the largest gain first."""
  rows = [
    [
      layout.breakable(c.taught),
      layout.Words(c.control),
      _signed(c),
      words.spread(c.spread, c.difference, c.metric),
      words.NOTHING if c.wins is None else f"{c.wins} of {c.seeds}",
      layout.Words("; ".join(c.unequal) or words.NOTHING),
    ]
    for c in sorted(compared, key=lambda c: -c.gain)
  ]
  metrics = list(dict.fromkeys(c.unit for c in compared))
  kept = range(6 if any(c.unequal for c in compared) else 5)
  return layout.table(
    "Stages with a teacher beside their controls",
    [
      "with a teacher",
      "without",
      "difference" + (f", {metrics[0]}" if len(metrics) == 1 else ""),
      "± over seeds",
      "seeds won",
      "what else differs",
    ],
    rows,
    kept,
  )


def _worth(comparison: words.Comparison) -> str:
  """ "The teacher was worth 3.1 points of F1"."""
  many = len(comparison.teachers) > 1
  subject = (
    f"The {len(comparison.teachers)} teachers" if many else "The teacher"
  )
  verb = "were" if many else "was"
  amount = f"{_amount(comparison, abs(comparison.difference))}"
  gained = comparison.gain > 0
  if comparison.metric in words.SHARES and not comparison.lower:
    told = verb + " worth" if gained else "cost"
    told += f" {amount} {comparison.unit}"
  else:
    # "Worth 3 of an error" would leave open which way is better.
    told = "lowered" if comparison.difference < 0 else "raised"
    told += f" {words.title(comparison.metric)}{comparison.where} by {amount}"
    if comparison.metric in words.SHARES:
      told += " points"
    told += "" if gained else ", which is worse"
  if comparison.clear:
    return f"{subject} {told}"
  if comparison.seeds == 1 and comparison.told:
    return f"On a single seed, {subject[0].lower() + subject[1:]} {told}"
  return f"{subject} made no clear difference"


def _amount(comparison: words.Comparison, value: float) -> str:
  return words.measured(value, comparison.metric)


def _signed(comparison: words.Comparison) -> str:
  """The difference of the scores, "+3.1"."""
  sign = "+" if comparison.told and comparison.difference > 0 else ""
  return sign + _amount(comparison, comparison.difference)


def _scores(comparison: words.Comparison) -> markup.Markup:
  """ "`student` reached 94.3 % with it, `alone` 91.2 % without"."""
  unit = words.unit(comparison.metric)
  taught, control = (
    _amount(comparison, value)
    for value in (comparison.taught_score, comparison.control_score)
  )
  return markup.join(
    _tag("code", comparison.taught),
    f" reached {taught}{unit} "
    + ("with them, " if len(comparison.teachers) > 1 else "with it, "),
    _tag("code", comparison.control),
    f" {control}{unit} without",
  )


def _evidence(comparison: words.Comparison) -> str:
  """How far the difference can be trusted, from the seeds alone."""
  amount = _signed(comparison)
  points = " points" if comparison.metric in words.SHARES else ""
  if not comparison.seeds:
    return (
      f"The difference of {amount}{points} has no values by seed, so it"
      " cannot be told from the luck of a draw."
    )
  if comparison.spread is None:
    return (
      f"The difference of {amount}{points} rests on one seed, so it"
      " cannot be told from the luck of a draw; run more seeds."
    )
  spread = words.spread(
    comparison.spread, comparison.difference, comparison.metric
  )
  if comparison.wins is None:
    return (
      f"The difference is {amount}{points}, with a spread of ±{spread}"
      " over seeds that are not the same for both."
    )
  return (
    f"Seed by seed the difference is {amount} ± {spread}{points}; the"
    f" taught model was ahead on {comparison.wins} of {comparison.seeds}."
  )


def _gap(
  comparison: words.Comparison, stages: Mapping[str, Any]
) -> markup.Markup:
  """Where between the control and the teacher the taught model came to."""
  if len(comparison.teachers) != 1:
    return markup.text("")
  trained = [
    (name, stage)
    for name, stage in stages.items()
    if stage.get("trains") == comparison.teachers[0]
    and name != comparison.taught
  ]
  if not trained:
    return markup.text("")
  name, stage = trained[-1]
  teacher_score = words.mean(stage, comparison.split, comparison.metric)
  if not words.finite(teacher_score):
    return markup.text("")
  sizes = [
    (s.get("model") or {}).get("parameters")
    for s in (stage, stages[comparison.taught])
  ]
  larger = ""
  if all(words.finite(s) and s > 0 for s in sizes):
    larger = f" with {sizes[0] / sizes[1]:,.3g} times the parameters"
  gap = teacher_score - comparison.control_score
  gap = -gap if comparison.lower else gap
  share = ""
  if gap > 0 and comparison.gain > 0:
    part = comparison.gain / gap
    points = " points" if comparison.metric in words.SHARES else ""
    share = (
      f"; of the {_amount(comparison, gap)}{points} between it and the control,"
      f" the taught model made up {words.percent(part, 0)} %"
    )
  unit = words.unit(comparison.metric)
  return markup.join(
    " The teacher itself (",
    _tag("code", name),
    f") reached {_amount(comparison, teacher_score)}{unit}{larger}{share}.",
  )


def _reached(stages: Mapping[str, Any], name: str) -> markup.Markup:
  where = words.score(stages, [name])
  if not where:
    return markup.join(_tag("code", name), " has no score")
  value = words.measured(words.mean(stages[name], *where), where[1])
  suffix = "" if where[0] == "test" else f" on {where[0]}"
  told = (
    f"{value} % {words.title(where[1])}"
    if words.unit(where[1])
    else f"a {words.title(where[1])} of {value}"
  )
  return markup.join(_tag("code", name), f" reached {told}{suffix}")
