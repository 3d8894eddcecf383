"""The page of a sweep: all points on validation, the chosen one on test."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from tsjax.report import compare_intervals as intervals
from tsjax.report import (
  compare_page,
  compare_words,
  layout,
  markup,
  sweep_figures,
  words,
)

_tag = markup.tag
Sweep = Mapping[str, Any]


def write(sweep: Sweep, folder: epath.PathLike) -> epath.Path:
  """Writes `index.html` and `sweep.json` into `folder`.

  Args:
    sweep: what `loop.sweep.run` returns.
    folder: made if missing.

  Returns:
    The path of `index.html`.
  """
  return compare_page.write(
    folder,
    {
      "sweep.json": compare_page.as_json(sweep),
      "index.html": render(sweep),
    },
  )


def render(sweep: Sweep) -> markup.Markup:
  """The page as one text that needs no other file, script or network."""
  points = compared(sweep)
  return compare_page.shell(
    f"Sweep of {sweep['name']}",
    _tag(
      "header",
      _tag(
        "p", f"{sweep['name']} · sweep · {len(points)} points", class_="kicker"
      ),
      _tag("h1", _headline(sweep)),
    ),
    _tag(
      "div",
      _tag("div", _details(sweep, points)),
      sweep_figures.figure(sweep),
      class_="hero",
    ),
    _points(sweep, points),
    _tested(sweep),
    _making(sweep),
  )


def compared(sweep: Sweep) -> list[dict[str, Any]]:
  """Every point with how far the chosen one is above it, seed by seed.

  A point gains `mean`, `low`, `high`, `p_holm` and `told`; they are None for
  the chosen one and for one that failed.
  """
  seeds = sweep["seeds"]
  best = _chosen(sweep)
  share = sweep["metric"] in words.SHARES
  size = sweep.get("validation_size", 0) if share else 0
  values = dict(zip(seeds, best["validation"]["values"], strict=True))
  found, result = [], []
  for point in sweep["points"]:
    ended = point["validation"] is not None and point is not best
    found.append(
      intervals.difference(
        values,
        dict(zip(seeds, point["validation"]["values"], strict=True)),
        size=size,
      )
      if ended
      else None
    )
  corrected = intervals.holm([d.p if d else None for d in found])
  for point, d, p in zip(sweep["points"], found, corrected, strict=True):
    span = d.interval if d else None
    result.append(
      dict(point)
      | {
        "mean": d.mean if d else None,
        "low": span.low if span else None,
        "high": span.high if span else None,
        "p_holm": p,
        "told": None if d is None else p is not None and p < 0.05,
      }
    )
  return result


def _chosen(sweep: Sweep) -> Mapping[str, Any]:
  return next(p for p in sweep["points"] if p["name"] == sweep["chosen"])


def _headline(sweep: Sweep) -> markup.Markup:
  metric = sweep["metric"]
  best = _chosen(sweep)
  return markup.join(
    _tag("code", sweep["chosen"]),
    f" is ahead on validation with {words.title(metric)}"
    f" {_score(best['validation'], metric)}; ",
    _tag("code", next(iter(sweep["test"]))),
    " then reached "
    f"{_score(next(iter(sweep['test'].values())).get(metric), metric)}"
    " on the test split.",
  )


def _score(found: Mapping[str, Any] | None, metric: str) -> str:
  """ "94.3 ± 0.6 %"."""
  if not found or not words.finite(found.get("mean")):
    return words.NOTHING
  told = compare_words.amount(found["mean"], metric)
  if len(found.get("values") or ()) > 1:
    told += f" ± {compare_words.amount(found.get('std'), metric)}"
  return told + (" %" if metric in words.SHARES else "")


def _details(sweep: Sweep, points: list[dict[str, Any]]) -> list[markup.Markup]:
  others = [p for p in points if p["told"] is not None]
  even = [p["name"] for p in others if not p["told"]]
  parts = []
  if len(sweep["seeds"]) < 2:
    parts.append(
      "Each point has one seed, so nothing tells which differences are chance;"
      " run more seeds."
    )
  elif others and not even:
    parts.append(
      f"It is clearly ahead of all {len(others)} others"
      " (Student's t over the differences of common seeds, Holm)."
    )
  elif even:
    named = _names(even)
    parts.append(
      [
        f"Not told apart from it over {len(sweep['seeds'])} seeds: ",
        *named,
        ". Among these, what is cheaper may be taken.",
      ]
    )
  best = _chosen(sweep)["validation"]["mean"]
  ties = [
    p["name"]
    for p in points
    if p["validation"] and p["validation"]["mean"] == best
  ]
  if len(ties) > 1:
    parts.append(
      [
        "Equal on validation: ",
        *_names(ties),
        "; the first of the grid was taken.",
      ]
    )
  number = sum(p["validation"] is not None for p in points)
  if number > 1:
    parts.append(
      f"The validation score of the best of {number} is that of the luckiest"
      " too, so expect a little less of new data."
    )
  parts.append("Only the chosen point was tested, and once.")
  told = [_tag("p", part) for part in parts]
  for point in points:
    if point["failed"]:
      told.append(
        _tag(
          "p",
          _tag("code", point["name"]),
          f" came apart and takes no part: {point['failed']}",
          class_="caveat",
        )
      )
  if sweep.get("unequal"):
    told.append(
      _tag(
        "p",
        "The points had not the same budget: "
        + "; ".join(sweep["unequal"][:3])
        + (", and more" if len(sweep["unequal"]) > 3 else "")
        + ". A point may be ahead by what it was given.",
        class_="caveat",
      )
    )
  return told


def _names(names: list[str]) -> list[object]:
  """The first names, and how many more there are."""
  parts: list[object] = []
  for k, name in enumerate(names[:6]):
    parts += [", "] if k else []
    parts.append(_tag("code", name))
  return [*parts, f" and {len(names) - 6} more"] if len(names) > 6 else parts


def _points(sweep: Sweep, points: list[dict[str, Any]]) -> list[markup.Markup]:
  metric, keys = sweep["metric"], sweep["keys"]
  lower = sweep["lower_is_better"]
  share = ", %" if metric in words.SHARES else ""
  sizes = sweep.get("sizes") or {}
  rows = []
  for point in points:
    here = point["name"] == sweep["chosen"]
    # A long name may break at its signs, and not within a word.
    name = point["name"].replace(",", ",\u200b").replace("=", "\u200b=")
    if here:
      link = f"../points/{point['name']}/report/index.html"
      name = _tag("a", name, href=link, style="color:inherit")
    # How far it is behind: positive, whichever way is better.
    behind = (
      -point["mean"] if lower and words.finite(point["mean"]) else point["mean"]
    )
    rows.append(
      [
        markup.join(name, _tag("small", "chosen") if here else ""),
        *(layout.Words(_value(point["values"].get(k))) for k in keys),
        _cell(point, metric, here),
        compare_words.amount(behind, metric),
        "" if point["told"] is None else ("no", "yes")[point["told"]],
        words.whole(sizes.get(point["name"])),
      ]
    )
  titles = [
    "point",
    *keys,
    f"validation {words.title(metric)}{share}",
    "behind the chosen",
    "told apart",
    "parameters",
  ]
  return layout.section(
    "All points",
    f"Validation scores of stage {sweep['stage']}, mean ± standard deviation"
    f" over {len(sweep['seeds'])} seeds. All points took the same number of"
    " steps and seeds."
    if not sweep.get("unequal")
    else f"Validation scores of stage {sweep['stage']}.",
    layout.table("Points", titles, rows),
    layout.folded("Seed by seed", _by_seed(sweep)),
  )


def _cell(
  point: Mapping[str, Any], metric: str, best: bool
) -> markup.Markup | str:
  found = point["validation"]
  if not found:
    return "came apart"
  told = _tag(
    "span",
    compare_words.amount(found["mean"], metric),
    class_="best" if best else None,
  )
  if len(found["values"]) < 2:
    return told
  spread = compare_words.amount(found["std"], metric)
  return markup.join(told, _tag("small", f" ± {spread}"))


def _value(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:g}"
  if isinstance(value, Mapping):
    inner = ", ".join(f"{k}={_value(v)}" for k, v in value.items())
    return inner.replace("call=", "", 1)
  if isinstance(value, list | tuple):
    return ", ".join(map(_value, value)) or "()"
  return words.NOTHING if value is None else str(value)


def _by_seed(sweep: Sweep) -> markup.Markup:
  rows = [
    [
      point["name"],
      *(
        words.number(v, 4)
        for v in (
          point["validation"]["values"]
          if point["validation"]
          else [None] * len(sweep["seeds"])
        )
      ),
    ]
    for point in sweep["points"]
  ]
  titles = ["point", *(f"seed {s}" for s in sweep["seeds"])]
  return layout.table("Seed by seed", titles, rows)


def _tested(sweep: Sweep) -> list[markup.Markup]:
  rows = [
    [
      _tag("code", name),
      layout.Words(words.title(metric)),
      _score(found, metric)
      if metric != "examples_per_second"
      else words.whole(found.get("mean")),
    ]
    for name, test in sweep["test"].items()
    for metric, found in test.items()
  ]
  link = f"../points/{sweep['chosen']}/report/index.html"
  return layout.section(
    "The chosen point on the test split",
    None,
    layout.table("Test", ["model", "metric", "mean ± deviation"], rows),
    _tag(
      "p",
      "More of it on ",
      _tag("a", "its own page", href=link, style="color:inherit"),
      ".",
      class_="lead",
    ),
  )


def _making(sweep: Sweep) -> list[markup.Markup]:
  owners: dict[str, set[str]] = {}
  for point in sweep["points"]:
    for stage, owner in point["shared"].items():
      owners.setdefault(stage, set()).add(owner)
  shared = [
    ["; " if k else "", _tag("code", stage), " by ", ", ".join(sorted(names))]
    for k, (stage, names) in enumerate(owners.items())
  ]
  versions = sweep.get("versions") or {}
  rows = [
    ("Command", _tag("pre", sweep["command"])),
    ("Seeds", ", ".join(map(str, sweep["seeds"]))),
    ("Trained once for several points", shared) if shared else None,
    ("Device", sweep.get("device")),
    ("Versions", ", ".join(f"{k} {v}" for k, v in sorted(versions.items()))),
    (
      "Data",
      [
        "All numbers of this page are in ",
        _tag("a", "sweep.json", href="sweep.json", style="color:inherit"),
        ".",
      ],
    ),
  ]
  return layout.section(
    "How it was made",
    None,
    _tag(
      "dl",
      [[_tag("dt", r[0]), _tag("dd", r[1])] for r in rows if r and r[1]],
    ),
  )
