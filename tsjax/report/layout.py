"""What the page's sections are set from: figures, tables, legends."""

from collections.abc import Sequence
import re

from tsjax.report import figures, markup

_tag = markup.tag
# Panels of one section that stand open; a run of many stages has many.
OPEN = 9


def section(
  title: str, lead: str | None, *parts: object
) -> list[markup.Markup]:
  """A heading, what to know first, and the rest."""
  lead = _tag("p", lead, class_="lead") if lead else ""
  return [_tag("section", _tag("h2", title), lead, *parts)]


def figure(title: object, drawing: markup.Markup, caption: str):
  """A drawing between its title and a caption that says what to see."""
  return _tag("figure", _tag("h3", title), drawing, _tag("figcaption", caption))


def panels(figures_: Sequence[markup.Markup]) -> markup.Markup:
  """Figures side by side; what is beyond the first `OPEN` is folded."""
  first, rest = figures_[:OPEN], figures_[OPEN:]
  if len(rest) == 1:  # A fold takes as much room.
    first, rest = figures_, []
  return markup.join(
    _tag("div", first, class_="grid"),
    folded(f"{len(rest)} more", _tag("div", rest, class_="grid"))
    if rest
    else "",
  )


def legend(rows: Sequence[figures.Values]) -> markup.Markup:
  """The marks of stages with their names."""
  items = [_tag("li", key(r.stage), r.name) for r in rows]
  return _tag("ul", items, class_="legend")


def key(stage: int) -> markup.Markup:
  """A stage's mark in its colour, to stand before its name."""
  return _tag(
    "svg",
    figures.mark(stage, 8, 8, 5.5),
    viewBox="0 0 16 16",
    class_="key",
    aria_hidden="true",
  )


def table(
  title: str,
  titles: Sequence[str],
  rows: Sequence[Sequence[object]],
  kept: Sequence[int] | None = None,
) -> markup.Markup:
  """A table that scrolls within its own box.

  Args:
    title: what it is, for those who cannot see it.
    titles: the heading of each column.
    rows: cells; the first of a row is its heading, `Words` are flush left.
    kept: the columns to show; all by default.
  """
  kept = range(len(titles)) if kept is None else kept
  # A heading stands over its column as the column is set.
  left = {k for k in kept if any(isinstance(r[k], Words) for r in rows)}
  head = [
    _tag(
      "th",
      titles[k],
      scope="col",
      style="text-align:left" if k in left else None,
    )
    for k in kept
  ]
  body = [
    _tag(
      "tr",
      _tag("th", row[kept[0]], scope="row"),
      [
        _tag("td", row[k], class_="words" if k in left else None)
        for k in kept[1:]
      ],
    )
    for row in rows
  ]
  return _tag(
    "div",
    _tag(
      "table",
      _tag("thead", _tag("tr", head)),
      _tag("tbody", body),
      aria_label=title,
    ),
    class_="scroll",
    tabindex=0,
    role="region",
    aria_label=f"{title}, scrolls sideways",
  )


def breakable(name: str) -> markup.Markup:
  """A name that, where it is too long for a line, breaks between its words."""
  parts = re.split(r"(?<=[_.=/-])(?=\w)", str(name))
  return markup.Markup(_tag("wbr").join(map(markup.text, parts)))


def folded(title: str, content: markup.Markup) -> markup.Markup:
  """What only some readers want, behind its title."""
  return _tag("details", _tag("summary", title), content)


class Words(str):
  """A cell that holds words and is set flush left."""
