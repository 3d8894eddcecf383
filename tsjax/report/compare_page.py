"""The page of several runs, and the shell that such pages share."""

from collections.abc import Mapping
import contextlib
import json
import math
from typing import Any
import uuid

from etils import epath
import numpy as np

from tsjax.core import errors
from tsjax.report import compare_sections, compare_words, markup, style

_tag = markup.tag
Comparison = Mapping[str, Any]


def render(comparison: Comparison) -> markup.Markup:
  """The page as one text that needs no other file, script or network.

  Args:
    comparison: what `compare.compare` returns.
  """
  runs = " · ".join(comparison["runs"])
  return shell(
    f"Comparison of {runs}",
    _tag(
      "header",
      _tag("p", f"comparison · {runs}", class_="kicker"),
      _tag("h1", compare_words.headline(comparison)),
    ),
    _tag(
      "div",
      _tag("div", compare_words.sentences(comparison)),
      compare_sections.scores_figure(comparison),
      class_="hero",
    ),
    compare_sections.differences(comparison),
    compare_sections.scores(comparison),
    compare_sections.configs(comparison),
    compare_sections.runs(comparison),
  )


def shell(title: str, *body: object) -> markup.Markup:
  """A whole page around its body; it may load and run nothing."""
  head = [
    _tag("meta", charset="utf-8"),
    _tag(
      "meta",
      http_equiv="Content-Security-Policy",
      content="default-src 'none'; style-src 'unsafe-inline'",
    ),
    _tag(
      "meta", name="viewport", content="width=device-width, initial-scale=1"
    ),
    _tag("title", title),
    _tag("style", markup.Markup(style.SHEET)),
  ]
  page = _tag(
    "html", _tag("head", head), _tag("body", _tag("main", body)), lang="en"
  )
  return markup.Markup(f"<!doctype html>\n{page}\n")


def write(folder: epath.PathLike, texts: Mapping[str, str]) -> epath.Path:
  """Writes files beside their places and then renames them, the page last.

  Args:
    folder: made if missing.
    texts: by file name; the last is the page.

  Returns:
    The path of the last.

  Raises:
    UserError: nothing can be written there.
  """
  folder = epath.Path(folder)
  written = []
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in texts.items():
      path = folder / f".{name}.{uuid.uuid4().hex}"
      written.append((path, folder / name))
      path.write_bytes(content.encode())
    for path, target in written:
      path.replace(target)
  except OSError as e:
    raise errors.UserError(
      f"{folder}: cannot be written ({e.strerror or e}); name another folder,"
      " or make room"
    ) from e
  finally:
    for path, _ in written:
      with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
  return written[-1][1]


def as_json(value: Any) -> str:
  """JSON text; NumPy's values as Python's, what is not finite as null."""
  return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, np.ndarray | np.generic):
    return _plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
