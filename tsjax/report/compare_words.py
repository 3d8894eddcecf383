"""What several runs came to against the first, in plain words."""

from collections.abc import Mapping
from typing import Any

from tsjax.report import compare_intervals as intervals
from tsjax.report import layout, markup, words

_tag = markup.tag
Comparison = Mapping[str, Any]


def headline(comparison: Comparison) -> markup.Markup:
  """One sentence: how many of the differences can be told from chance."""
  found = comparison["differences"]
  if not found:
    return markup.text("These runs have no stage of the same name.")
  told = [d for d in found if d["told"]]
  if len(found) == 1:
    return markup.join(_worth(comparison, found[0]), _verdict(found[0]), ".")
  if not told:
    return markup.text(
      f"None of the {len(found)} differences to {comparison['baseline']} can"
      " be told from chance."
    )
  largest = max(told, key=lambda d: abs(d["mean"]))
  return markup.join(
    f"{len(told)} of {len(found)} differences to {comparison['baseline']} can"
    " be told from chance; the largest: ",
    _worth(comparison, largest),
    ".",
  )


def _worth(comparison: Comparison, found: Mapping[str, Any]) -> markup.Markup:
  """ "B's student is 0.6 points of F1 better than A's"."""
  metric, mean = comparison["metric"], found["mean"]
  subject = [found["run"], "’s ", _tag("code", found["stage"])]
  base = comparison["baseline"]
  if not words.finite(mean):
    return markup.join(subject, f" and {base}’s have no value to compare")
  size = amount(abs(mean), metric)
  if not mean or size == amount(0.0, metric):
    return markup.join(
      subject, f" and {base}’s are equal in {words.title(metric)} as rounded"
    )
  good = (mean > 0) != comparison["lower_is_better"]
  how = "better" if good else "worse"
  if metric in words.SHARES:
    told = f"{size} points of {words.title(metric)} {how}"
  else:
    told = f"{size} {how} in {words.title(metric)}"
  return markup.join(subject, f" is {told} than {base}’s")


def _verdict(found: Mapping[str, Any]) -> str:
  if found["p"] is None:
    return ": nothing tells how far chance goes"
  if found["told"]:
    return ""
  return ", which cannot be told from chance"


def amount(value: object, metric: str, *, sign: bool = False) -> str:
  """A score or a difference as it is told: percent for shares."""
  share = metric in words.SHARES
  text = words.percent(value) if share else words.number(value, 4)
  positive = sign and words.finite(value) and value > 0
  return f"+{text}" if positive else text


def span(
  found: Mapping[str, Any], metric: str, *, sign: bool = False
) -> markup.Markup | str:
  """ "−0.1 to 1.3", or a dash."""
  if not words.finite(found.get("low")):
    return words.NOTHING
  low, high = (amount(found[k], metric, sign=sign) for k in ("low", "high"))
  return f"{low} to {high}"


def probability(p: object) -> str:
  """0.0312 as "0.031", and what is tiny as "< 0.001"."""
  if words.finite(p) and p < 0.001:
    return "< 0.001"
  return words.number(p, 3)


def sentences(comparison: Comparison) -> list[markup.Markup]:
  """Each difference in words, the first ones in sight."""
  metric, found = comparison["metric"], comparison["differences"]
  told = [_sentence(comparison, d) for d in found]
  absent = [
    [_tag("code", stage), " is only in " + " and ".join(runs)]
    for stage, runs in comparison["stages"].items()
    if len(runs) < len(comparison["runs"])
  ]
  parts = [_tag("p", sentence) for sentence in told[:6]]
  if len(told) > 6:
    parts.append(
      layout.folded(
        f"{len(told) - 6} more in words",
        _tag("div", [_tag("p", sentence) for sentence in told[6:]]),
      )
    )
  if absent:
    # Of a study with many stages, a few names tell which run lacks them.
    more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
    joined = [[part, "; "] for part in absent[:5]]
    joined[-1] = joined[-1][:1]
    parts.append(_tag("p", "Not compared: ", joined, more, ".", class_="lead"))
  kinds = {d["interval"] for d in found}
  return [*parts, _tag("p", _method(metric, len(found), kinds), class_="lead")]


def _sentence(comparison: Comparison, found: Mapping[str, Any]) -> list[object]:
  metric = comparison["metric"]
  parts: list[object] = [_worth(comparison, found)]
  if found["low"] is None:
    why = "one seed each, no counts" if found["seeds"] else "no values"
    parts.append(f" ({why}): nothing tells how far chance goes.")
  else:
    seeds = found["seeds"]
    base = {
      "paired": f"{seeds} common seeds",
      "single": "one seed against several, theirs the spread",
      "unpaired": f"{seeds} seeds or more of each, not the same ones",
      "bootstrap": "one seed each, from its test examples alone",
    }[found["interval"]]
    parts.append(f", 95 % interval {_directed(found, metric)} ({base}): ")
    apart = found["low"] > 0 or found["high"] < 0
    number = len(comparison["differences"])
    if found["told"]:
      parts.append("distinguishable.")
    elif apart and number > 1:
      parts.append(
        "by itself the interval leaves out 0, but one among"
        f" {number} comparisons may do so by chance: not distinguishable."
      )
    else:
      parts.append("not distinguishable.")
  if found["unequal"]:
    parts.append(" The recipes differ: " + "; ".join(found["unequal"]) + ".")
  return parts


def _directed(found: Mapping[str, Any], metric: str) -> str:
  """The interval of what is told as "better" or "worse", so never negated."""
  low, high = found["low"], found["high"]
  if found["mean"] < 0:
    low, high = -high, -low
  return f"{amount(low, metric)} to {amount(high, metric)}"


def _method(metric: str, number: int, kinds: set[str | None]) -> str:
  told = [intervals.KINDS[k] for k in intervals.KINDS if k in kinds]
  text = ""
  if told:
    text = f"Intervals of differences hold 95 % each: {'; '.join(told)}. "
  if number > 1:
    text += (
      f"“Distinguishable” is corrected for the {number} comparisons on this"
      " page (Holm), so that all such claims of one page are right in 95 of"
      " 100. "
    )
  if kinds & {"paired", "unpaired", "single"}:
    text += (
      "Seeds vary the training alone: the test examples are the same in all"
      " runs and are taken as they are. "
    )
  if "bootstrap" in kinds:
    text += (
      "Of a single seed, only the luck of the test examples is known and not"
      " that of the training. "
    )
  return text
