"""The page's section of examples on which student and teacher disagree."""

from collections.abc import Mapping, Sequence
from typing import Any

from tsjax.report import layout, markup, pictures, words

_tag = markup.tag
Stages = Mapping[str, Any]
# Kind -> heading; "both_wrong" is only counted.
_KINDS = {
  "student_wrong": "{other} was right, {name} wrong",
  "teacher_wrong": "{name} was right, {other} wrong",
}


def section(results: Mapping[str, Any]) -> list[markup.Markup]:
  """For each stage the disagreements of which both models were surest."""
  stages: Stages = results.get("stages") or {}
  classes = results.get("classes") or ()
  found = {
    name: stage["disagreements"]
    for name, stage in stages.items()
    if stage.get("disagreements")
  }
  if not found:
    return []
  shown = results.get("pictures") or {}
  parts = [_stage(name, entry, classes, shown) for name, entry in found.items()]
  first, rest = parts[: layout.OPEN], parts[layout.OPEN :]
  return layout.section(
    "Where student and teacher disagree",
    "Test examples on which the two say different classes and one of them is"
    " right; those come first of which both are sure. What only the teacher"
    " gets right is left to learn; what only the student gets right, it did"
    " not learn from the teacher. Where neither answer convinces, look at the"
    " label.",
    first,
    layout.folded(f"{len(rest)} more stages", markup.join(rest))
    if rest
    else "",
  )


def _stage(
  name: str,
  found: Mapping[str, Any],
  classes: Sequence[str],
  shown: Mapping[str, Any],
) -> markup.Markup:
  other = str(found.get("with") or "teacher")
  rows = found.get("rows") or ()
  groups = []
  for kind, heading in _KINDS.items():
    chosen = [row for row in rows if row.get("kind") == kind]
    if chosen:
      groups.append(
        _tag(
          "h4",
          heading.format(name=name, other=other),
        )
      )
      groups.append(
        _tag(
          "ul",
          [_card(row, name, other, classes, shown) for row in chosen],
          class_="cards",
        )
      )
  return _tag(
    "figure",
    _tag("h3", _tag("code", name), " and ", _tag("code", other)),
    groups,
    _tag("figcaption", _caption(name, other, found)),
    class_="wide",
  )


def _card(
  row: Mapping[str, Any],
  name: str,
  other: str,
  classes: Sequence[str],
  shown: Mapping[str, Any],
) -> markup.Markup:
  """One example: its picture where it has one, and what was said of it."""
  truth = _class(row.get("true"), classes)
  number = row.get("row")
  picture = shown.get(str(number))
  drawing = ""
  if pictures.is_uri(picture):
    drawing = _tag(
      "img",
      src=picture,
      alt=f"Test example {number}, which is {truth}",
    )
  said = [
    _tag(
      "div",
      _tag("dt", label),
      _tag(
        "dd",
        _class(row.get(role), classes),
        _sure(row.get(f"{role}_confidence")),
      ),
      class_="hit" if row.get(role) == row.get("true") else "miss",
    )
    for label, role in ((other, "teacher"), (name, "student"))
  ]
  head = _tag("p", _tag("b", truth), _tag("small", f" row {number}"))
  return _tag("li", drawing, _tag("div", head, _tag("dl", said)))


def _class(value: object, classes: Sequence[str]) -> str:
  known = isinstance(value, int) and 0 <= value < len(classes)
  return str(classes[value]) if known else words.whole(value)


def _sure(confidence: object) -> markup.Markup | str:
  if not words.finite(confidence):
    return ""
  return _tag("small", f" · {words.percent(confidence, 0)} %")


def _caption(name: str, other: str, found: Mapping[str, Any]) -> str:
  counts = found.get("counts") or {}
  one, two, both = (
    counts.get(kind) or 0
    for kind in ("student_wrong", "teacher_wrong", "both_wrong")
  )
  total, examples = one + two + both, found.get("examples")
  of = f" of {words.whole(examples)}" if words.finite(examples) else ""
  if not total:
    return f"The two say the same of all{of} test examples."
  seed = found.get("seed")
  first = f" with seed {seed}" if seed is not None else ""
  text = (
    f"They disagree on {words.whole(total)}{of} test examples{first}: on"
    f" {words.whole(one)} only {other} is right, on {words.whole(two)} only"
    f" {name}, and on {words.whole(both)} neither."
  )
  shown = len(found.get("rows") or ())
  if shown < one + two:
    text += f" Shown are {shown}."
  return text
