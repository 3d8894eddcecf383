"""The sections of the page of several runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from tsjax.report import compare_figures as drawings
from tsjax.report import compare_intervals as intervals
from tsjax.report import compare_words, figures, layout, markup, words

_tag = markup.tag
Comparison = Mapping[str, Any]
_COLUMNS = (
  "accuracy",
  "f1",
  "cross_entropy",
  "calibration_error",
  "agreement",
  "examples_per_second",
)


def scores_figure(comparison: Comparison) -> markup.Markup | str:
  """Every stage of every run with its interval."""
  metric = comparison["metric"]
  share = metric in words.SHARES
  scale = 100 if share else 1
  groups, kinds = [], set()
  for stage, by_run in comparison["stages"].items():
    marks = []
    for number, run in enumerate(comparison["runs"]):
      found = (by_run.get(run) or {}).get("test", {}).get(metric)
      if found:
        kinds.add(found["interval"])
        marks.append(
          drawings.Mark(
            run, number, *(_scaled(found, scale, k) for k in _BOUNDS)
          )
        )
    if marks:
      groups.append((stage, marks))
  if not groups:
    return ""
  shown = groups[: drawings.ROWS // len(comparison["runs"])]
  part = (
    f" Shown are the first {len(shown)} of {len(groups)} stages."
    if len(shown) < len(groups)
    else ""
  )
  told = [intervals.KINDS[k] for k in intervals.KINDS if k in kinds]
  how = f" ({'; '.join(told)})" if told else ""
  return layout.figure(
    f"{_capital(metric)} on test",
    drawings.rows(
      shown,
      words.title(metric) + (", %" if share else ""),
      within=(0, 100) if share else None,
      digits=1 if share else 4,
    ),
    f"A mark is a mean over seeds, its bar a 95 % interval{how}. Intervals of"
    " two runs may overlap and their paired difference still be clear, so judge"
    " differences by their own figure." + part,
  )


_BOUNDS = ("mean", "low", "high")


def _scaled(found: Mapping[str, Any], scale: int, key: str) -> float | None:
  value = found.get(key)
  return scale * value if words.finite(value) else None


def differences(comparison: Comparison) -> list[markup.Markup]:
  """The differences to the first run, drawn and in numbers."""
  found, metric = comparison["differences"], comparison["metric"]
  if not found:
    return []
  share = metric in words.SHARES
  numbers = {run: k for k, run in enumerate(comparison["runs"])}
  stages = list(dict.fromkeys(d["stage"] for d in found))
  groups = [
    (
      stage,
      [
        drawings.Mark(
          d["run"],
          numbers[d["run"]],
          *(_scaled(d, 100 if share else 1, k) for k in _BOUNDS),
          hollow=not d["told"],
        )
        for d in found
        if d["stage"] == stage
      ],
    )
    for stage in stages
  ]
  side = "left" if comparison["lower_is_better"] else "right"
  base = comparison["baseline"]
  drawing = layout.figure(
    f"{_capital(metric)} above {base}’s",
    drawings.rows(
      groups[: drawings.ROWS // (len(numbers) - 1)],
      f"{_unit(metric)} above {base}",
      zero=True,
      digits=1 if share else 4,
    ),
    f"To the {side} of the line a run is better than {base}. A filled mark is"
    " told from chance after correction, a hollow one is not.",
  )
  rows = [
    [
      _tag("code", d["stage"]),
      layout.Words(f"{d['run']} − {base}"),
      compare_words.amount(d["mean"], metric, sign=True),
      compare_words.span(d, metric, sign=True),
      d["seeds"],
      compare_words.probability(d["p"]),
      compare_words.probability(d["p_holm"]),
      layout.Words("yes" if d["told"] else "no"),
    ]
    for d in found
  ]
  titles = [
    "stage",
    "runs",
    "difference",
    "95 % interval",
    "seeds",
    "p",
    "p, corrected",
    "told apart",
  ]
  return layout.section(
    "Differences",
    f"In {_unit(metric)}, over the seeds that both runs have.",
    _tag("div", drawing, class_="grid"),
    layout.table("Differences", titles, rows),
  )


def _capital(metric: str) -> str:
  title = words.title(metric)
  return title[:1].upper() + title[1:]


def _unit(metric: str) -> str:
  points = "points of " if metric in words.SHARES else ""
  return points + words.title(metric)


def scores(comparison: Comparison) -> list[markup.Markup]:
  """A row for every stage of every run."""
  numbers = {run: k for k, run in enumerate(comparison["runs"])}
  metrics = [m for m in _COLUMNS if _measured(comparison, m)]
  if not metrics:
    metrics = list(dict.fromkeys(_all_metrics(comparison)))
  titles = [
    "stage",
    "run",
    "seeds",
    "parameters",
    "steps",
    "labels",
    *(words.title(m) + (", %" if m in words.SHARES else "") for m in metrics),
  ]
  rows = []
  for stage, by_run in comparison["stages"].items():
    for run, found in by_run.items():
      labels = words.percent(found.get("labels"), 0)
      rows.append(
        [
          _tag("code", stage),
          layout.Words(run),
          found["seeds"],
          words.whole(found.get("parameters")),
          words.whole(found.get("steps")),
          labels if labels == words.NOTHING else f"{labels} %",
          *(_cell(found["test"].get(m), m) for m in metrics),
        ]
      )
  keys = [figures.Values(run, number, ()) for run, number in numbers.items()]
  return layout.section(
    "Scores",
    "Of the test split, mean ± standard deviation over seeds.",
    layout.legend(keys),
    layout.table("Scores", titles, rows),
    _all_intervals(comparison),
  )


def _measured(comparison: Comparison, metric: str) -> bool:
  return metric in set(_all_metrics(comparison))


def _all_metrics(comparison: Comparison) -> Sequence[str]:
  return [
    metric
    for by_run in comparison["stages"].values()
    for found in by_run.values()
    for metric in found["test"]
  ]


def _cell(found: Mapping[str, Any] | None, metric: str) -> object:
  if not found or not words.finite(found.get("mean")):
    return words.NOTHING
  whole = metric == "examples_per_second"
  show = words.whole if whole else lambda v: compare_words.amount(v, metric)
  value = show(found["mean"])
  if len(found.get("values") or ()) < 2 or not words.finite(found.get("std")):
    return value
  return markup.join(value, _tag("small", f" ± {show(found['std'])}"))


def _all_intervals(comparison: Comparison) -> markup.Markup:
  rows = []
  for stage, by_run in comparison["stages"].items():
    for run, found in by_run.items():
      for metric, score in found["test"].items():
        digits = 0 if metric == "examples_per_second" else 4
        kind = score.get("interval")
        rows.append(
          [
            _tag("code", stage),
            layout.Words(run),
            layout.Words(words.title(metric)),
            *(words.number(score.get(k), digits) for k in _BOUNDS),
            layout.Words(intervals.KINDS.get(kind, words.NOTHING)),
          ]
        )
  titles = ["stage", "run", "metric", "mean", "from", "to", "interval"]
  return layout.folded(
    "All metrics with their intervals",
    layout.table("All metrics", titles, rows),
  )


def configs(comparison: Comparison) -> list[markup.Markup]:
  """The keys whose values are not the same in all runs."""
  found = comparison["configs"]
  if not found:
    return []
  runs = list(comparison["runs"])
  rows = [
    [
      _tag("code", entry["key"]),
      *(layout.Words(_value(entry["values"].get(run))) for run in runs),
    ]
    for entry in found
  ]
  shown, folded = rows[:12], rows[12:]
  return layout.section(
    "What differs in the configs",
    "All other keys have one value in all runs.",
    layout.table("Config", ["key", *runs], shown),
    layout.folded(
      f"{len(folded)} more keys", layout.table("Config", ["key", *runs], folded)
    )
    if folded
    else "",
  )


def _value(value: object) -> str:
  return words.NOTHING if value is None else str(value)


def runs(comparison: Comparison) -> list[markup.Markup]:
  """Where each run is, and what it ran on."""
  rows = []
  for run, found in comparison["runs"].items():
    versions = found.get("versions") or {}
    rows.append(
      [
        markup.join(run, _tag("small", found.get("name") or "")),
        layout.Words(found["folder"]),
        layout.Words(", ".join(map(str, found.get("seeds") or ()))),
        words.duration(found.get("seconds")),
        layout.Words(found.get("date") or words.NOTHING),
        layout.Words(found.get("device") or words.NOTHING),
        layout.Words(
          ", ".join(f"{k} {v}" for k, v in sorted(versions.items()))
        ),
      ]
    )
  titles = ["run", "folder", "seeds", "time", "date", "device", "versions"]
  link = _tag(
    "a", "comparison.json", href="comparison.json", style="color:inherit"
  )
  return layout.section(
    "Runs",
    None,
    layout.table("Runs", titles, rows),
    _tag("p", "All numbers of this page are in ", link, ".", class_="lead"),
  )
