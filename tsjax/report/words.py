"""Numbers and the verdict in plain words."""

from collections.abc import Iterable, Mapping
import dataclasses
import math
from typing import Any

import numpy as np

from tsjax.report import markup

NOTHING = "–"
TITLES = {
  "accuracy": "accuracy",
  "subset_accuracy": "subset accuracy",
  "f1": "F1",
  "f2": "F2",
  "precision": "precision",
  "recall": "recall",
  "f_beta": "F-beta",
  "accuracy_worst_group": "accuracy of the worst group",
  "f1_micro": "F1, micro",
  "precision_micro": "precision, micro",
  "recall_micro": "recall, micro",
  "cross_entropy": "cross-entropy",
  "binary_cross_entropy": "binary cross-entropy",
  "calibration_error": "calibration error",
  "agreement": "agreement",
  "examples_per_second": "examples/s",
  "hamming_loss": "Hamming loss",
  "matthews": "Matthews correlation",
  "pearson": "Pearson correlation",
  "spearman": "Spearman correlation",
  "reference_error": "difference to the reference",
  "r2": "R²",
}
# Shares of examples, which are told in percent; other metrics as they are.
SHARES = frozenset(
  {
    "accuracy",
    "balanced_accuracy",
    "subset_accuracy",
    "accuracy_worst_group",
    "mean_average_precision",
    "f1",
    "f2",
    "f_beta",
    "precision",
    "recall",
    "f1_micro",
    "f_beta_micro",
    "precision_micro",
    "recall_micro",
    "calibration_error",
    "agreement",
    "hamming_loss",
  }
)
# Where a stage does not say by which metric it is judged.
SCORES = ("f1", "accuracy")


def title(metric: str) -> str:
  """A metric's name for a reader."""
  return TITLES.get(metric, metric.replace("_", " "))


def heading(metric: str) -> str:
  """A metric's name where a title begins."""
  name = title(metric)
  return name[:1].upper() + name[1:]


def finite(value: object) -> bool:
  """Whether this is a number that can be shown."""
  return isinstance(value, int | float) and math.isfinite(value)


def number(value: object, digits: int = 1) -> str:
  """1234.567 as "1,234.6", and a dash for what is missing or not finite."""
  if not finite(value):
    return NOTHING
  # "z": what rounds to 0 has no sign.
  return f"{value:z,.{digits}f}".replace("-", "−")


def percent(value: object, digits: int = 1) -> str:
  """0.9432 as "94.3"; the heading says that it is percent."""
  return number(100 * value, digits) if finite(value) else NOTHING


def measured(value: object, metric: str) -> str:
  """A metric's value for a reader: shares in percent, without the sign."""
  return percent(value) if metric in SHARES else significant(value)


def spread(deviation: object, mean: object, metric: str) -> str:
  """A standard deviation, to the last digit of the mean that it stands by."""
  if metric in SHARES or not finite(deviation):
    return measured(deviation, metric)
  shown = significant(mean)
  if "e" in shown:
    return significant(deviation)
  return number(deviation, len(shown.partition(".")[2]))


def significant(value: object) -> str:
  """0.012345 as "0.0123", 4321.9 as "4,322"."""
  if not finite(value):
    return NOTHING
  if not value or abs(value) >= 999.5:
    return whole(value)
  if abs(value) < 1e-4:
    return f"{value:.2e}".replace("-", "−")
  return number(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def unit(metric: str) -> str:
  """What stands behind a metric's value in a sentence: " %" or nothing."""
  return " %" if metric in SHARES else ""


def column(metric: str) -> str:
  """A metric as the title of a column or axis: "F1, %"."""
  return title(metric) + (", %" if metric in SHARES else "")


def whole(value: object) -> str:
  """1234567 as "1,234,567"."""
  return number(value, 0)


def size(count: object) -> str:
  """Bytes as "49.4 kB"."""
  if not finite(count):
    return NOTHING
  for unit in ("B", "kB", "MB", "GB", "TB"):
    if abs(count) < 999.5 or unit == "TB":
      break
    count /= 1000
  return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"


def duration(seconds: object) -> str:
  """Seconds as "1 h 02 min", "2 min 05 s" or "7.3 s"."""
  if not finite(seconds):
    return NOTHING
  if seconds < 59.95:
    return f"{seconds:.1f} s"
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f"{minutes} min {rest:02d} s"
  return f"{minutes // 60} h {minutes % 60:02d} min"


def listing(names: Iterable[object]) -> markup.Markup:
  """Names as "a, b and c", each in the face of code."""
  tags = [markup.tag("code", name) for name in names]
  if len(tags) < 2:
    return markup.join(*tags)
  # What `str.join` returns is no longer marked as markup.
  first = markup.Markup(", ".join(tags[:-1]))
  return markup.join(first, " and ", tags[-1])


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A taught stage beside the stage that trains the same model untaught.

  `taught_score`, `control_score` are means over seeds of `metric` on `split`;
  `difference` is theirs, and less is better where `lower`. `spread` is how much
  the difference varies from seed to seed (a standard deviation with n - 1),
  None with fewer than two. `wins` of `seeds` were won by the taught one, None
  where seeds are not the same.
  """

  taught: str
  control: str
  teachers: tuple[str, ...]
  split: str
  metric: str
  taught_score: float
  control_score: float
  spread: float | None
  seeds: int
  wins: int | None
  unequal: tuple[str, ...]
  lower: bool = False

  @property
  def difference(self) -> float:
    return self.taught_score - self.control_score

  @property
  def gain(self) -> float:
    """The difference, positive where the taught model is the better one."""
    return -self.difference if self.lower else self.difference

  @property
  def clear(self) -> bool:
    """Whether the difference is larger than its own spread over seeds."""
    return (
      self.spread is not None
      and self.told
      and (abs(self.difference) > self.spread)
    )

  @property
  def told(self) -> bool:
    """Whether the difference is one that the rounded numbers show."""
    if self.metric in SHARES:
      return percent(abs(self.difference)) != percent(0)
    largest = max(abs(self.taught_score), abs(self.control_score))
    return abs(self.difference) >= 5e-4 * largest > 0

  @property
  def unit(self) -> str:
    """ "points of F1" or "points of F1 on validation"."""
    points = "points of " if self.metric in SHARES else ""
    return f"{points}{title(self.metric)}{self.where}"

  @property
  def where(self) -> str:
    """ "", or " on validation"."""
    return "" if self.split == "test" else f" on {self.split}"


def comparisons(stages: Mapping[str, Any]) -> list[Comparison]:
  """Pairs every taught stage with its control, in order of the stages.

  The control trains the same model and has no teacher. Of several, it is the
  one with the same share of labels, then one without transferred weights.
  """
  result = []
  for name, stage in stages.items():
    controls = [
      other
      for other, candidate in stages.items()
      if candidate.get("trains") == stage.get("trains")
      and not candidate.get("teachers")
    ]
    if not stage.get("teachers") or not controls:
      continue
    control = min(
      controls,
      key=lambda other: (
        stages[other].get("labels") != stage.get("labels"),
        bool(stages[other].get("transfer")),
      ),
    )
    where = score(stages, (name, control))
    if where:
      result.append(_compare(stages, name, control, where))
  return result


def score(
  stages: Mapping[str, Any], names: Iterable[str]
) -> tuple[str, str] | None:
  """(split, metric) by which these stages can be compared.

  The metric by which they were chosen, if it is one for all of them and all
  have it; else F1, else accuracy. On the test split, else on validation.
  """
  names = tuple(names)
  chosen = list(dict.fromkeys(stages[name].get("score") for name in names))
  own = chosen if len(chosen) == 1 and chosen[0] else []
  for split in ("test", "validation"):
    for metric in (*own, *SCORES):
      if names and all(
        finite(mean(stages[name], split, metric)) for name in names
      ):
        return split, metric
  return None


def lower(stages: Mapping[str, Any], metric: str) -> bool:
  """Whether less of a metric is better, as the stages tell of their own."""
  return any(
    stage.get("score") == metric and bool(stage.get("lower_is_better"))
    for stage in stages.values()
  )


def mean(stage: Mapping[str, Any], split: str, metric: str) -> float | None:
  """A metric's mean over seeds, None where it is missing."""
  return ((stage.get(split) or {}).get(metric) or {}).get("mean")


def _compare(
  stages: Mapping[str, Any], taught: str, control: str, where: tuple[str, str]
) -> Comparison:
  split, metric = where
  a, b = (stages[name][split][metric] for name in (taught, control))
  a_values, b_values = a.get("values") or (), b.get("values") or ()
  less = lower(stages, metric)
  wins = spread = None
  if len(a_values) == len(b_values):
    by_seed = [
      x - y
      for x, y in zip(a_values, b_values, strict=True)
      if finite(x) and finite(y)
    ]
    seeds, wins = (
      len(by_seed),
      sum((x < 0) if less else (x > 0) for x in by_seed),
    )
    spread = float(np.std(by_seed, ddof=1)) if seeds > 1 else None
  else:
    kept = [[v for v in x if finite(v)] for x in (a_values, b_values)]
    seeds = min(map(len, kept))
    if seeds > 1:
      spread = math.hypot(*(np.std(x, ddof=1) for x in kept))
  return Comparison(
    taught=taught,
    control=control,
    teachers=tuple(stages[taught]["teachers"]),
    split=split,
    metric=metric,
    taught_score=a["mean"],
    control_score=b["mean"],
    spread=spread,
    seeds=seeds,
    wins=wins,
    unequal=tuple(_unequal(stages[taught], stages[control])),
    lower=less,
  )


def _unequal(taught: Mapping[str, Any], control: Mapping[str, Any]):
  """What else than the teacher could explain the difference."""
  a, b = taught.get("labels"), control.get("labels")
  if finite(a) and finite(b) and a != b:
    yield f"it had {percent(a)} % of the labels, its control {percent(b)} %"
  a, b = taught.get("steps"), control.get("steps")
  if finite(a) and finite(b) and a != b:
    yield f"it trained for {whole(a)} steps, its control for {whole(b)}"
  a, b = bool(taught.get("transfer")), bool(control.get("transfer"))
  if a and not b:
    yield "it also started from transferred weights, its control did not"
  if b and not a:
    yield "its control started from transferred weights, it did not"
