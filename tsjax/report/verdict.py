"""The page's first sentences: what the teacher was worth."""

from collections.abc import Mapping
from typing import Any

from tsjax.report import markup, words

_tag = markup.tag


def headline(stages: Mapping[str, Any]) -> markup.Markup:
  """One sentence: what the teacher was worth, as far as the stages tell."""
  compared = words.comparisons(stages)
  if len(compared) == 1:
    return markup.join(_worth(compared[0]), ": ", _scores(compared[0]), ".")
  if compared:
    clear = [c for c in compared if c.clear]
    better = sum(c.difference > 0 for c in clear)
    return markup.join(
      f"Of {len(compared)} stages that learnt from a teacher, {better}"
      f" clearly beat their control without one and {len(clear) - better}"
      " clearly fell short of it."
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
  """The paragraphs below the headline, one or two for each comparison."""
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
  return paragraphs


def _worth(comparison: words.Comparison) -> str:
  """ "The teacher was worth 3.1 points of F1"."""
  many = len(comparison.teachers) > 1
  subject = (
    f"The {len(comparison.teachers)} teachers" if many else "The teacher"
  )
  verb = "were" if many else "was"
  points = f"{words.percent(abs(comparison.difference))} {comparison.unit}"
  gained = comparison.difference > 0
  if comparison.clear:
    return f"{subject} {verb + ' worth' if gained else 'cost'} {points}"
  if comparison.seeds == 1 and comparison.told:
    return (
      f"On a single seed, {subject[0].lower() + subject[1:]}"
      f" {verb + ' worth' if gained else 'cost'} {points}"
    )
  return f"{subject} made no clear difference"


def _scores(comparison: words.Comparison) -> markup.Markup:
  """ "`student` reached 94.3 % with it, `alone` 91.2 % without"."""
  return markup.join(
    _tag("code", comparison.taught),
    f" reached {words.percent(comparison.taught_score)} % "
    + ("with them, " if len(comparison.teachers) > 1 else "with it, "),
    _tag("code", comparison.control),
    f" {words.percent(comparison.control_score)} % without",
  )


def _evidence(comparison: words.Comparison) -> str:
  """How far the difference can be trusted, from the seeds alone."""
  points = words.percent(comparison.difference)
  sign = "+" if comparison.told and comparison.difference > 0 else ""
  if not comparison.seeds:
    return (
      f"The difference of {sign}{points} points has no values by seed, so it"
      " cannot be told from the luck of a draw."
    )
  if comparison.spread is None:
    return (
      f"The difference of {sign}{points} points rests on one seed, so it"
      " cannot be told from the luck of a draw; run more seeds."
    )
  spread = words.percent(comparison.spread)
  if comparison.wins is None:
    return (
      f"The difference is {sign}{points} points, with a spread of ±{spread}"
      " over seeds that are not the same for both."
    )
  return (
    f"Seed by seed the difference is {sign}{points} ± {spread} points; the"
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
  share = ""
  if gap > 0 and comparison.difference > 0:
    part = comparison.difference / gap
    share = (
      f"; of the {words.percent(gap)} points between it and the control, the"
      f" taught model made up {words.percent(part, 0)} %"
    )
  return markup.join(
    " The teacher itself (",
    _tag("code", name),
    f") reached {words.percent(teacher_score)} %{larger}{share}.",
  )


def _reached(stages: Mapping[str, Any], name: str) -> markup.Markup:
  where = words.score(stages, [name])
  if not where:
    return markup.join(_tag("code", name), " has no score")
  value = words.percent(words.mean(stages[name], *where))
  suffix = "" if where[0] == "test" else f" on {where[0]}"
  return markup.join(
    _tag("code", name),
    f" reached {value} % {words.title(where[1])}{suffix}",
  )
