"""The page's sections, each from `results.json` alone and () where empty."""

from collections.abc import Mapping
from typing import Any

from tsjax.report import figures, layout, markup, tables, verdict, words

_tag = markup.tag
Stages = Mapping[str, Any]


def top(results: Mapping[str, Any]) -> list[markup.Markup]:
  """The run's name, the verdict, and every stage's score."""
  stages = results.get("stages") or {}
  where = words.score(stages, stages) or next(
    (w for name in stages if (w := words.score(stages, [name]))), None
  )
  chart = ""
  if where:
    split, metric = where
    rows = []
    for k, (name, stage) in enumerate(stages.items()):
      found = (stage.get(split) or {}).get(metric) or {}
      values = found.get("values") or ()
      rows.append(figures.Values(name, k, values, found.get("mean")))
    side = "left" if words.lower(stages, metric) else "right"
    chart = layout.figure(
      f"{words.heading(metric)} on {split}",
      figures.scores(rows, metric),
      f"Each tick is one seed, the mark is their mean; farther {side} is"
      " better. Where the ticks of two stages mix, seeds alone could explain"
      " the difference. The axis need not start at 0.",
    )
  details = _tag("div", verdict.details(stages))
  return [
    _tag(
      "header",
      _tag(
        "p",
        " · ".join(
          str(x) for x in (results.get("name"), results.get("date")) if x
        ),
        class_="kicker",
      ),
      _tag("h1", verdict.headline(stages)),
    ),
    _tag("div", details, chart, class_="hero"),
  ]


def stage_table(stages: Stages) -> list[markup.Markup]:
  """What each stage trained and what it came to."""
  if not stages:
    return []
  return layout.section(
    "Stages",
    "Metrics are of the test split, as mean ± standard deviation over seeds."
    + tables.explained(stages),
    tables.stages(stages),
    tables.all_metrics(stages),
    tables.chosen(stages),
  )


def transfer(stages: Stages) -> list[markup.Markup]:
  """Which weights a stage started from."""
  parts = [
    tables.transfer(name, stage["transfer"])
    for name, stage in stages.items()
    if stage.get("transfer")
  ]
  if not parts:
    return []
  return layout.section(
    "Transferred weights",
    "Where the values come from that a stage started with, counted as the"
    " student's: from the other model's leaf as it is (exact), from its leading"
    " units (sliced), from the leading units of a leaf that means something"
    " else there, as another kernel size does (unlike), or from nowhere, so"
    " that the student's own initialisation stays (missing).",
    *parts,
  )


def making(results: Mapping[str, Any]) -> list[markup.Markup]:
  """How to get these numbers again."""
  seeds = ", ".join(str(s) for s in results.get("seeds") or ())
  versions = ", ".join(
    f"{name} {version}"
    for name, version in sorted((results.get("versions") or {}).items())
  )
  seconds = results.get("seconds")
  rows = [
    ("Command", _tag("pre", results["command"]))
    if results.get("command")
    else None,
    ("Seeds", seeds),
    ("Device", results.get("device")),
    ("Time", words.duration(seconds) if words.finite(seconds) else None),
    ("Date", results.get("date")),
    ("Versions", versions),
    ("Data", ["All numbers of this page are in ", _LINK, "."]),
  ]
  return layout.section(
    "How it was made",
    None,
    _tag(
      "dl",
      [
        [_tag("dt", row[0]), _tag("dd", row[1])]
        for row in rows
        if row and row[1]
      ],
    ),
  )


_LINK = _tag("a", "results.json", href="results.json", style="color:inherit")
