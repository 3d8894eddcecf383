"""The section of a study of label fractions: what a teacher saves in labels.

The stages of a study are known by their names, such as `distilled_5pc`, and by
the share of labels that results.json gives for them.
"""

from collections.abc import Mapping
import itertools
import re
from typing import Any

from tsjax.report import compare_intervals as intervals
from tsjax.report import compare_words, labels_figures, layout, markup, words

_tag = markup.tag
METHODS = labels_figures.METHODS
_NAME = re.compile(rf"({'|'.join(METHODS)})_(\d+(?:p\d+)?)pc")
Results = Mapping[str, Any]
Study = labels_figures.Study


def stage_name(method: str, fraction: float) -> str:
  """ "distilled_5pc" of 0.05, "alone_0p5pc" of 0.005."""
  return f"{method}_{100 * fraction:.10g}pc".replace(".", "p")


def study(results: Results) -> dict[float, dict[str, Any]]:
  """The study's stages by fraction and method, {} where the run is none."""
  found: dict[float, dict[str, Any]] = {}
  for name, stage in (results.get("stages") or {}).items():
    match, share = _NAME.fullmatch(name), stage.get("labels")
    if match and words.finite(share) and stage_name(match[1], share) == name:
      found.setdefault(share, {})[match[1]] = stage
  if sum(len(stages) for stages in found.values()) < 2:
    return {}
  order = list(METHODS)
  return {
    share: {m: found[share][m] for m in sorted(found[share], key=order.index)}
    for share in sorted(found)
  }


def headline(results: Results) -> markup.Markup | None:
  """One sentence for the top of the page; None where the run is no study."""
  found = study(results)
  where = words.score(results.get("stages") or {}, _names(found))
  if not found or not where or not all("alone" in s for s in found.values()):
    return None
  share = next(iter(found))
  means = {m: words.mean(s, *where) for m, s in found[share].items()}
  best = max(means, key=lambda m: means[m])
  pairs = _pairs(found[share], *where, results.get("seeds") or ())
  few = f"With {labels_figures.percent(share)} of the labels"
  if best == "alone" or not _pair(pairs, best, "alone")["told"]:
    return markup.join(
      f"{few}, no method is clearly ahead of the student alone, which has"
      f" {words.percent(means['alone'])} % {words.title(where[1])}."
    )
  parts: list[object] = [
    f"{few}, ",
    _tag("code", best),
    f" reaches {words.percent(means[best])} % {words.title(where[1])}, the"
    f" student alone {words.percent(means['alone'])} %",
  ]
  last = next(reversed(found))
  if last != share and best in found[last]:
    ends = [words.mean(found[last][m], *where) for m in (best, "alone")]
    parts.append(
      f"; with {labels_figures.percent(last)}, they reach"
      f" {words.percent(ends[0])} and {words.percent(ends[1])} %"
    )
  return markup.join(*parts, ".")


def section(results: Results) -> list[markup.Markup]:
  """Scores over label fractions; [] where the run is no such study.

  Args:
    results: what results.json holds.
  """
  found = study(results)
  where = words.score(results.get("stages") or {}, _names(found))
  if not found or not where:
    return []
  split, metric = where
  seeds = results.get("seeds") or ()
  pairs = {
    share: _pairs(stages, split, metric, seeds)
    for share, stages in found.items()
  }
  teachers = _teachers(results, found)
  methods = [m for m in METHODS if any(m in s for s in found.values())]
  return layout.section(
    "What the labels are worth, with a teacher and without",
    None,
    _tag("ul", [_tag("li", line) for line in _told(found, pairs, where)]),
    _tag("p", _caution(found, seeds, split), class_="lead"),
    labels_figures.legend(methods, teachers),
    _tag(
      "div",
      labels_figures.scores(found, where, methods, teachers),
      labels_figures.gains(pairs, where, methods) if "alone" in methods else "",
      class_="grid",
      style="grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr))",
    ),
    labels_figures.table(found, where, methods, teachers),
    labels_figures.all_pairs(pairs, metric),
  )


def _names(found: Study) -> list[str]:
  return [stage_name(m, f) for f, stages in found.items() for m in stages]


def _teachers(results: Results, found: Study) -> dict[str, Any]:
  """The stages that taught, in order."""
  taught = {
    str(name).partition(".")[0]
    for stages in found.values()
    for stage in stages.values()
    for name in stage.get("teachers") or ()
  }
  own = set(_names(found))
  return {
    name: stage
    for name, stage in results["stages"].items()
    if name not in own and (name in taught or stage.get("trains") in taught)
  }


def _pairs(
  stages: Mapping[str, Any], split: str, metric: str, seeds: Any
) -> dict[tuple[str, str], dict[str, Any]]:
  """(method, other) -> how far the one is above the other, all pairs."""
  values = {
    m: dict(zip(seeds, stage[split][metric].get("values") or ()))
    for m, stage in stages.items()
  }
  counts = {
    m: intervals.counts_of(stage.get("confusion")) if split == "test" else None
    for m, stage in stages.items()
  }
  draws = {
    m: intervals.bootstrap(c, metric, seed=k)
    if c is not None and len(seeds) == 1
    else None
    for k, (m, c) in enumerate(counts.items())
  }
  result = {}
  for a, b in itertools.combinations(stages, 2):
    size = intervals.resolution(metric, counts[a], len(seeds))
    found = intervals.difference(
      values[b], values[a], size=size, draws=(draws[b], draws[a])
    )
    result[b, a] = found
  corrected = intervals.holm([d.p for d in result.values()])
  return {
    pair: {
      "mean": found.mean,
      "low": found.interval.low if found.interval else None,
      "high": found.interval.high if found.interval else None,
      "p": found.p,
      "p_holm": p,
      "told": p is not None and p < 1 - intervals.LEVEL,
    }
    for (pair, found), p in zip(result.items(), corrected, strict=True)
  }


def _pair(
  pairs: Mapping[tuple[str, str], dict[str, Any]], a: str, b: str
) -> dict[str, Any]:
  """How far `a` is above `b`."""
  if (a, b) in pairs:
    return pairs[a, b]
  found = pairs[b, a]
  low, high = found["low"], found["high"]
  return found | {
    "mean": -found["mean"],
    "low": None if high is None else -high,
    "high": None if low is None else -low,
  }


def _told(
  found: Study, pairs: Mapping[float, Any], where: tuple[str, str]
) -> list[object]:
  """Who is ahead at each fraction, by how much, and how surely."""
  return [
    _at(share, stages, pairs[share], found, where)
    for share, stages in found.items()
  ]


def _at(
  share: float,
  stages: Mapping[str, Any],
  pairs: Mapping[Any, Any],
  found: Study,
  where: tuple[str, str],
) -> list[object]:
  metric = where[1]
  means = {m: words.mean(stage, *where) for m, stage in stages.items()}
  best = max(means, key=lambda m: means[m])
  parts: list[object] = [
    _tag("b", f"{labels_figures.percent(share)} of the labels: "),
    _tag("code", best),
    f" is ahead with {words.percent(means[best])} %",
  ]
  if best != "alone" and "alone" in means:
    gain = _pair(pairs, best, "alone")
    sure = ", not told from chance"
    if gain["told"]:
      sure = ""
    elif words.finite(gain["low"]) and gain["low"] > 0:
      sure += " once corrected"
    span = compare_words.span(gain, metric)
    between = "" if span == words.NOTHING else f" ({span})"
    parts.append(
      f", {words.percent(gain['mean'])} points above alone{between}{sure}"
    )
  parts.append(". ")
  even = [m for m in means if m != best and not _pair(pairs, best, m)["told"]]
  behind = [m for m in means if m not in (best, *even)]
  if even and not behind:
    parts.append("Chance alone could have put any of the methods ahead.")
  elif even:
    parts += ["Not told apart from it: ", _listed(even), "."]
  elif behind:
    parts.append("All others are clearly behind it.")
  if best != "alone":
    parts.append(_equivalent(share, means[best], found, where))
  return parts


def _equivalent(
  share: float, score: float, found: Study, where: tuple[str, str]
) -> str:
  """How many labels the control needs for the same."""
  alone = {
    other: words.mean(stages["alone"], *where)
    for other, stages in found.items()
    if "alone" in stages and other > share
  }
  enough = [other for other, value in alone.items() if value >= score]
  if enough:
    return (
      " Alone, the student first reaches as much with"
      f" {labels_figures.percent(enough[0])} of them, in the mean."
    )
  if alone:
    most = max(alone, key=lambda other: alone[other])
    return (
      " Alone, the student reaches it with no share tried here:"
      f" {words.percent(alone[most])} % with {labels_figures.percent(most)}."
    )
  return ""


def _caution(found: Study, seeds: Any, split: str) -> str:
  if len(seeds) > 1:
    how = (
      f"Intervals are of 95 %, Student's t over {len(seeds)} seeds, the"
      f" examples of the {split} split taken as they are; differences are"
      " taken seed by seed."
    )
  else:
    how = (
      "There is one seed: intervals are of the luck of the test examples alone,"
      " and the luck of a training is not known."
    )
  every = [s for stages in found.values() for s in stages.values()]
  equal = len({s.get("steps") for s in every}) == 1
  goes_on = any(
    stages["pseudo"].get("transfer")
    for stages in found.values()
    if "pseudo" in stages
  )
  return (
    f"{how} “Told apart” is corrected for the pairs of methods at one fraction"
    " (Holm). "
    + ("All" if equal else "Not all")
    + " methods take as many steps"
    + (", pseudo on top of those of alone, whose end it starts from" * goes_on)
    + "; the teacher’s own labels and training are not counted."
  )


def _listed(methods: list[str]) -> list[object]:
  """ "a, b and c"."""
  parts: list[object] = []
  for k, method in enumerate(methods):
    last = k == len(methods) - 1
    parts += [" and " if last else ", "] if k else []
    parts.append(_tag("code", method))
  return parts
