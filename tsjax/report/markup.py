"""Markup that escapes by itself: `tag("p", "a < b")` is `<p>a &lt; b</p>`."""

import html
import re

# What XML and HTML forbid in text, were it escaped or not; a lone surrogate
# could not even be encoded.
_FORBIDDEN = re.compile(
  "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
)
_HTML_VOID = frozenset({"meta", "br", "img", "wbr"})
_VOID = _HTML_VOID | {"circle", "line", "path", "rect", "polygon"}
# In SVG a void element closes itself; in HTML it just has no end.
_SELF_CLOSED = _VOID - _HTML_VOID


class Markup(str):
  """Text that is markup already and must not be escaped again."""

  __slots__ = ()


def text(value: object) -> Markup:
  """Escapes a value, unless it is `Markup`; None is nothing."""
  if isinstance(value, Markup):
    return value
  if value is None:
    return Markup("")
  return Markup(html.escape(_FORBIDDEN.sub("\ufffd", str(value))))


def join(*parts: object) -> Markup:
  """Joins values, each escaped by `text`; lists are taken apart."""
  return Markup(
    "".join(
      join(*part) if isinstance(part, list | tuple) else text(part)
      for part in parts
    )
  )


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
  """An element of HTML or SVG.

  Args:
    name: the element's name.
    *children: what it holds, in order; escaped unless `Markup`.
    **attributes: escaped too; `class_` is `class`, `stroke_width` is
      `stroke-width`; floats are rounded to 0.01, None leaves one out.
  """
  written = "".join(
    f' {key.rstrip("_").replace("_", "-")}="{text(_attribute(value))}"'
    for key, value in attributes.items()
    if value is not None
  )
  if name in _VOID and not children:
    return Markup(f"<{name}{written}{'/' if name in _SELF_CLOSED else ''}>")
  return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(value: object) -> object:
  return (
    f"{value:.2f}".rstrip("0").rstrip(".")
    if isinstance(value, float)
    else value
  )
