"""The page of a run: one file to read and one to compute with."""

from collections.abc import Mapping
import json
import math
from typing import Any
import uuid

from etils import epath
import numpy as np

from tsjax.core import errors
from tsjax.report import (
  calibration,
  classes,
  curves,
  disagreements,
  effort,
  groups,
  labels,
  likeness,
  markup,
  sections,
  style,
  targets,
)

FORMAT = 1
_tag = markup.tag


def write(results: Mapping[str, Any], folder: epath.PathLike) -> epath.Path:
  """Writes `index.html` and `results.json` into `folder`.

  Both are made in full before either is written, and each is written beside
  its place and then renamed: a reader sees the old page or the new one.

  Args:
    results: what `docs/design.md` calls results.json; only `format` must be
      there. NumPy values are stored as Python's, numbers that are not finite
      as null, which JSON has and NaN is not.
    folder: where to write; made if missing.

  Returns:
    The path of `index.html`.

  Raises:
    UserError: the results are of another format.
    TypeError: a value has no form in JSON.
  """
  if results.get("format") != FORMAT:
    raise errors.UserError(
      f"results have format={results.get('format')!r}, this page reads"
      f" {FORMAT}: run the report of the version that wrote them"
    )
  plain = _plain(results)
  texts = {
    "results.json": json.dumps(plain, indent=1, allow_nan=False) + "\n",
    "index.html": render(plain),
  }
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  written = []
  try:
    for name, content in texts.items():
      path = folder / f".{name}.{uuid.uuid4().hex}"
      written.append((path, folder / name))
      path.write_bytes(content.encode())
    for path, target in written:
      path.replace(target)
  finally:
    for path, _ in written:
      path.unlink(missing_ok=True)
  return folder / "index.html"


def render(results: Mapping[str, Any]) -> markup.Markup:
  """The page as one text that needs no other file, script or network.

  Args:
    results: as `write`, with plain Python values.
  """
  stages = results.get("stages") or {}
  names = results.get("classes") or ()
  seeds = len(results.get("seeds") or ())
  body = [
    sections.top(results),
    labels.section(results),
    sections.stage_table(stages),
    effort.section(stages, results.get("device")),
    curves.learning(stages),
    classes.scores(stages, names),
    classes.confusion(stages, names, seeds),
    groups.section(stages, names, seeds),
    targets.section(stages),
    calibration.section(stages, seeds),
    likeness.section(stages),
    disagreements.section(results),
    curves.line(stages, str(results.get("loss") or "loss")),
    sections.transfer(stages),
    sections.making(results),
  ]
  head = [
    _tag("meta", charset="utf-8"),
    # Should anything hostile ever pass the escaping, it may run nothing, and
    # load nothing but what the page itself holds.
    _tag(
      "meta",
      http_equiv="Content-Security-Policy",
      content="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    ),
    _tag(
      "meta", name="viewport", content="width=device-width, initial-scale=1"
    ),
    _tag("title", results.get("name") or "A run"),
    _tag("style", markup.Markup(style.SHEET)),
  ]
  page = _tag(
    "html", _tag("head", head), _tag("body", _tag("main", body)), lang="en"
  )
  return markup.Markup(f"<!doctype html>\n{page}\n")


def _plain(value: Any) -> Any:
  """The same with Python's own types; what is not finite becomes None."""
  if isinstance(value, Mapping):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, np.ndarray | np.generic):
    return _plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
