"""The figures and tables of a study of label fractions."""

from collections.abc import Mapping
from typing import Any

from tsjax.report import compare_figures as drawings
from tsjax.report import compare_intervals as intervals
from tsjax.report import compare_words, layout, markup, words

_tag = markup.tag
METHODS = {
  "alone": "the labels, nothing else",
  "pseudo": "and thresholded pseudo-labels of its own on all examples",
  "started": "the labels, born from the teacher's weights",
  "distilled": "and the teacher's outputs on all examples",
  "both": "born from the teacher, and its outputs on all examples",
}
# Fraction -> method -> stage.
Study = Mapping[float, Mapping[str, Mapping[str, Any]]]


def legend(methods: list[str], teachers: Mapping[str, Any]) -> markup.Markup:
  """The marks of the methods and of the teacher."""
  items = [
    _tag("li", layout.key(_number(m)), _tag("code", m), f" {METHODS[m]}")
    for m in methods
  ]
  items += [
    _tag("li", layout.key(len(METHODS)), _tag("code", name), " dashed")
    for name in teachers
  ]
  return _tag("ul", items, class_="legend")


def scores(
  found: Study,
  where: tuple[str, str],
  methods: list[str],
  teachers: Mapping[str, Any],
) -> markup.Markup:
  """Every method over the share of labels, the teacher as a line."""
  series = [
    drawings.Series(
      m,
      _number(m),
      [(f, _mark(m, s[m], where)) for f, s in found.items() if m in s],
    )
    for m in methods
  ]
  levels = [_mark(name, t, where) for name, t in teachers.items()]
  split, metric = where
  return layout.figure(
    f"{words.title(metric)} over the share of labels",
    drawings.along(
      series,
      x_title="share of the labels, log scale",
      y_title=f"{words.title(metric)} on {split}, %",
      ticks=[(f, percent(f, "%")) for f in found],
      log=True,
      within=(0, 100),
      levels=levels,
    ),
    "Farther up is better, farther left is cheaper. Go from a mark of a taught"
    " student straight to the right, to the line of alone: so many labels the"
    " teacher replaced. Bars are 95 % intervals; the dashed line is the"
    " teacher.",
  )


def gains(
  pairs: Mapping[float, Any], where: tuple[str, str], methods: list[str]
) -> markup.Markup:
  """Every method above the student alone."""
  series = []
  for m in methods:
    if m == "alone":
      continue
    points = []
    for share, by_pair in pairs.items():
      if (m, "alone") not in by_pair:
        continue
      gain = by_pair[m, "alone"]
      points.append(
        (
          share,
          drawings.Mark(
            f"{m}: {compare_words.amount(gain['mean'], where[1], sign=True)}",
            _number(m),
            *(_points(gain[k]) for k in ("mean", "low", "high")),
            hollow=not gain["told"],
          ),
        )
      )
    series.append(drawings.Series(m, _number(m), points))
  if not any(s.points for s in series):
    return markup.text("")
  return layout.figure(
    "Gain over the student alone",
    drawings.along(
      series,
      x_title="share of the labels, log scale",
      y_title=f"points of {words.title(where[1])} above alone",
      ticks=[(f, percent(f, "%")) for f in pairs],
      log=True,
      zero=True,
    ),
    "Differences to alone with the same labels, seed by seed, with their 95 %"
    " intervals. A filled mark is told from chance after correction, a hollow"
    " one is not; below the line, a method does harm.",
  )


def table(
  found: Study,
  where: tuple[str, str],
  methods: list[str],
  teachers: Mapping[str, Any],
) -> markup.Markup:
  """A row for each share of labels; the teacher below."""
  rows = []
  for share, stages in found.items():
    means = {m: words.mean(s, *where) for m, s in stages.items()}
    top = max(v for v in means.values() if words.finite(v))
    rows.append(
      [
        percent(share),
        *(_cell(stages.get(m), where, means.get(m) == top) for m in methods),
      ]
    )
  table = layout.table(
    f"{words.title(where[1])} by share of labels",
    ["labels", *(f"{m}, {words.title(where[1])}, %" for m in methods)],
    rows,
  )
  told = [
    _tag(
      "p",
      "Its teacher, ",
      _tag("code", name),
      ", reached ",
      _cell(stage, where, False),
      " %.",
      class_="lead",
    )
    for name, stage in teachers.items()
  ]
  return markup.join(table, told)


def all_pairs(pairs: Mapping[float, Any], metric: str) -> markup.Markup:
  """Every difference between two methods, folded."""
  rows = [
    [
      percent(share),
      layout.Words(f"{a} − {b}"),
      compare_words.amount(found["mean"], metric, sign=True),
      compare_words.span(found, metric, sign=True),
      compare_words.probability(found["p"]),
      compare_words.probability(found["p_holm"]),
      layout.Words("yes" if found["told"] else "no"),
    ]
    for share, by_pair in pairs.items()
    for (a, b), found in by_pair.items()
  ]
  titles = [
    "labels",
    "methods",
    "difference, points",
    "95 % interval",
    "p",
    "p, corrected",
    "told apart",
  ]
  return layout.folded(
    "All pairs of methods", layout.table("All pairs", titles, rows)
  )


def percent(share: float, unit: str = " %") -> str:
  """0.05 as "5 %"."""
  return f"{100 * share:.6g}{unit}"


def _number(method: str) -> int:
  return list(METHODS).index(method)


def _mark(
  method: str, stage: Mapping[str, Any], where: tuple[str, str]
) -> drawings.Mark:
  split, metric = where
  score = stage[split][metric]
  counts = stage.get("confusion") if split == "test" else None
  interval = intervals.of_score(score, metric, counts)
  return drawings.Mark(
    f"{method}: {words.percent(score.get('mean'))} %",
    _number(method) if method in METHODS else len(METHODS),
    _points(score.get("mean")),
    _points(interval.low) if interval else None,
    _points(interval.high) if interval else None,
  )


def _points(value: Any) -> float | None:
  return 100 * value if words.finite(value) else None


def _cell(
  stage: Mapping[str, Any] | None, where: tuple[str, str], best: bool
) -> object:
  score = stage[where[0]].get(where[1]) if stage else None
  if not score:
    return words.NOTHING
  spread = (
    _tag("small", f" ± {words.percent(score.get('std'))}")
    if len(score.get("values") or ()) > 1
    else ""
  )
  class_ = "best" if best else None
  return markup.join(
    _tag("span", words.percent(score.get("mean")), class_=class_), spread
  )
