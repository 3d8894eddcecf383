"""The page's tables; each scrolls within its own box where it is too wide."""

from collections.abc import Mapping, Sequence
from typing import Any

from tsjax.report import figures, layout, markup, words

_tag = markup.tag
Stages = Mapping[str, Any]
_SHADES = {"exact": 0, "sliced": 2, "unlike": 1, "missing": 5}


# What a metric of the table means, where its name does not say.
_EXPLAINED = {
  "agreement": "Agreement is the share of examples on which a model predicts"
  " what the reference model predicts.",
  "calibration_error": "The calibration error is how far a model's confidence"
  " is from its accuracy, so lower is better.",
  "reference_error": "The difference to the reference is the mean distance of"
  " a model's predictions from those of the reference model.",
  "accuracy_worst_group": "The worst group is that of the examples' groups"
  " with the lowest accuracy.",
}
_FAMILIAR = (
  "accuracy",
  "f1",
  "subset_accuracy",
  "mean_average_precision",
  "agreement",
  "calibration_error",
  "reference_error",
  "accuracy_worst_group",
)
# Columns of metrics; all of them are in the table below it.
_METRICS = 6


def stages(stages: Stages) -> markup.Markup:
  """A row for each stage: the model, the effort and the main metrics."""
  columns = [
    ("parameters", lambda s: words.whole(_model(s, "parameters"))),
    ("size", lambda s: words.size(_model(s, "bytes"))),
    ("steps", lambda s: words.whole(s.get("steps"))),
    ("labels", lambda s: _with_unit(words.percent(s.get("labels"), 0), " %")),
    *(
      (words.column(m), lambda s, m=m: _measured(s, m))
      for m in _main_metrics(stages)
    ),
    ("latency, ms", _latency),
    ("examples/s", _rate),
    ("time", lambda s: words.duration(s.get("seconds"))),
  ]
  rows = [
    [_name(k, name, stage), *(read(stage) for _, read in columns)]
    for k, (name, stage) in enumerate(stages.items())
  ]
  # A column that no stage can fill says nothing.
  kept = [
    c
    for c in range(len(columns) + 1)
    if c == 0 or any(row[c] != words.NOTHING for row in rows)
  ]
  return layout.table(
    "Stages",
    ["stage", *(title for title, _ in columns)],
    rows,
    kept,
  )


def explained(stages: Stages) -> str:
  """What the columns of `stages` mean, where their titles do not say."""
  told = [_EXPLAINED[m] for m in _main_metrics(stages) if m in _EXPLAINED]
  if any(_latency(stage) != words.NOTHING for stage in stages.values()):
    told.append(
      "Latency is the median of a batch of one and, behind the dot, the 95th"
      " percentile; it and examples/s are of the machine that evaluated."
    )
  return "".join(f" {sentence}" for sentence in told)


def _main_metrics(stages: Stages) -> list[str]:
  """The metrics that the stages chose by, then those that say most."""
  found = dict.fromkeys(
    metric
    for stage in stages.values()
    for metric, value in (stage.get("test") or {}).items()
    if metric != "examples_per_second" and value
  )
  chosen = [stage.get("score") for stage in stages.values()]
  named = [*(m for m in chosen if m not in _FAMILIAR), *_FAMILIAR]
  if "accuracy" not in found:
    named += found
  return [m for m in dict.fromkeys(named) if m in found][:_METRICS]


def all_metrics(stages: Stages) -> markup.Markup:
  """Every metric of every split, raw, with the value of each seed."""
  rows = []
  for name, stage in stages.items():
    for split in ("test", "validation"):
      for metric, found in (stage.get(split) or {}).items():
        digits = 0 if metric == "examples_per_second" else 4
        values = [words.number(v, digits) for v in found.get("values") or ()]
        rows.append(
          [
            name,
            layout.Words(split),
            layout.Words(words.title(metric)),
            words.number(found.get("mean"), digits),
            words.number(found.get("std"), digits),
            layout.Words(" · ".join(values)),
          ]
        )
  if not rows:
    return markup.text("")
  titles = ["stage", "split", "metric", "mean", "std", "seed by seed"]
  return layout.folded(
    "All metrics, seed by seed", layout.table("All metrics", titles, rows)
  )


def chosen(stages: Stages) -> markup.Markup:
  """Which arm each seed chose, by its validation score."""
  rows = []
  for name, stage in stages.items():
    for choice in stage.get("chosen") or ():
      arm = ", ".join(f"{k}={v}" for k, v in (choice.get("arm") or {}).items())
      scores = ", ".join(
        f"{label}: {words.number(score, 4)}"
        for label, score in (choice.get("validation") or {}).items()
      )
      rows.append(
        [name, choice.get("seed"), layout.Words(arm), layout.Words(scores)]
      )
  if not rows:
    return markup.text("")
  titles = ["stage", "seed", "chosen", "validation score of each arm"]
  return layout.folded(
    "How settings were chosen", layout.table("Arms", titles, rows)
  )


def per_class(stages: Stages, classes: Sequence[str]) -> markup.Markup:
  """Precision, recall, F1 and support of every class."""
  rows = []
  for name, stage in stages.items():
    found = stage.get("per_class") or {}
    columns = [
      found.get(m) or () for m in ("precision", "recall", "f1", "support")
    ]
    for k in range(max(map(len, columns))):
      values = [c[k] if k < len(c) else None for c in columns]
      rows.append(
        [
          name,
          layout.Words(classes[k] if k < len(classes) else k),
          *(words.percent(v) for v in values[:3]),
          words.whole(values[3]),
        ]
      )
  if not rows:
    return markup.text("")
  titles = ["stage", "class", "precision, %", "recall, %", "F1, %", "support"]
  return layout.folded(
    "All classes in numbers", layout.table("Classes", titles, rows)
  )


def transfer(name: str, account: Mapping[str, Any]) -> markup.Markup:
  """Where the parameters are from: as a bar, in words and leaf by leaf."""
  counts = {kind: account.get(kind) or 0 for kind in _SHADES}
  whole = sum(counts.values())
  bar = [
    _tag("i", class_=figures.colour(_SHADES[kind]), style=f"flex:{count:g}")
    for kind, count in counts.items()
    if count
  ]
  told = [
    _tag(
      "li",
      layout.key(_SHADES[kind]),
      f"{kind} {words.whole(count)} ",
      _tag("small", f"({words.percent(count / max(whole, 1))} %)"),
    )
    for kind, count in counts.items()
  ]
  parameters = account.get("parameters")
  of = (
    f" of {words.whole(parameters)} values" if words.finite(parameters) else ""
  )
  leaves = account.get("leaves") or ()
  return _tag(
    "div",
    _tag("h3", _tag("code", name), of),
    _tag("div", bar, class_="stack", aria_hidden="true") if bar else "",
    _tag("ul", told, class_="legend"),
    layout.folded(f"All {len(leaves)} leaves", _leaves(leaves))
    if leaves
    else "",
  )


def _leaves(leaves: Sequence[Any]) -> markup.Markup:
  """Leaves as they are told: a dict, a sequence or a name each."""
  if all(isinstance(leaf, Mapping) for leaf in leaves):
    titles = list(dict.fromkeys(k for leaf in leaves for k in leaf))
    rows = [[_plain(leaf.get(t)) for t in titles] for leaf in leaves]
  else:
    rows = [
      [_plain(v) for v in leaf] if isinstance(leaf, list) else [str(leaf)]
      for leaf in leaves
    ]
    titles = ["leaf"] + [""] * (max(map(len, rows)) - 1)
  rows = [[row[0], *(layout.Words(v) for v in row[1:])] for row in rows]
  return layout.table("Leaves", titles, rows)


def _plain(value: object) -> str:
  """A shape as "3 × 3 × 64", anything else as it is."""
  if isinstance(value, list | tuple):
    return " × ".join(str(v) for v in value) or "scalar"
  return words.NOTHING if value is None else str(value)


def _name(number: int, name: str, stage: Mapping[str, Any]) -> markup.Markup:
  teachers = stage.get("teachers") or ()
  kind = _model(stage, "kind")
  about = [
    [f"{stage.get('trains') or ''}", f" ({kind})" if kind else ""],
    ", taught by " + " and ".join(map(str, teachers)) if teachers else "",
  ]
  return markup.join(
    layout.key(number), layout.breakable(name), _tag("small", *about)
  )


def _measured(stage: Mapping[str, Any], metric: str) -> markup.Markup | str:
  """ "94.3 ± 0.6", the spread only where there are seeds to spread."""
  found = (stage.get("test") or {}).get(metric) or {}
  if not words.finite(found.get("mean")):
    return words.NOTHING
  value = words.measured(found["mean"], metric)
  if len(found.get("values") or ()) < 2 or not words.finite(found.get("std")):
    return value
  spread = words.spread(found["std"], found["mean"], metric)
  return markup.join(value, _tag("small", f" ± {spread}"))


def _latency(stage: Mapping[str, Any]) -> markup.Markup | str:
  found = (stage.get("speed") or {}).get("latency") or {}
  median, p95 = found.get("median"), found.get("p95")
  if not words.finite(median):
    return words.NOTHING
  tail = f"{words.significant(1e3 * p95)}" if words.finite(p95) else ""
  return markup.join(
    words.significant(1e3 * median),
    _tag("small", f" · {tail}") if tail else "",
  )


def _rate(stage: Mapping[str, Any]) -> markup.Markup | str:
  speed = stage.get("speed") or {}
  if words.finite(speed.get("examples_per_second")):
    return words.whole(speed["examples_per_second"])
  return _measured(stage, "examples_per_second")


def _model(stage: Mapping[str, Any], field: str) -> Any:
  return (stage.get("model") or {}).get(field)


def _with_unit(value: str, unit: str) -> str:
  return value if value == words.NOTHING else value + unit
