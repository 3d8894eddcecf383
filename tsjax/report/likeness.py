"""The page's section of layers: how alike student and teacher see examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tsjax.report import heat, layout, markup, words

_tag = markup.tag
Stages = Mapping[str, Any]


def section(stages: Stages) -> list[markup.Markup]:
  """A map of similarities for each stage that has one."""
  panels, told = [], {}
  for name, stage in stages.items():
    found = stage.get("similarity") or {}
    values = _values(found)
    if values is None:
      continue
    told = found
    rows, columns = (_labels(found[key]) for key in ("rows", "columns"))
    kept = [_spread(len(names)) for names in (rows, columns)]
    part = ""
    if any(len(k) < n for k, n in zip(kept, values.shape, strict=True)):
      part = (
        f" Shown are {len(kept[0])} of {len(rows)} rows and {len(kept[1])} of"
        f" {len(columns)} columns, evenly spread."
      )
    other = str(found.get("with") or "the other model")
    panels.append(
      layout.figure(
        [_tag("code", name), " and ", _tag("code", other)],
        heat.alike(
          values[np.ix_(*kept)],
          [rows[k] for k in kept[0]],
          [columns[k] for k in kept[1]],
          title=f"Similarity of the layers of {name} and {other}",
          y_title=name if len(name) < 24 else "this stage's",
          x_title=other if len(other) < 24 else "the other's",
        ),
        _caption(values, rows, columns) + part,
      )
    )
  if not panels:
    return []
  examples, seed = told.get("examples"), told.get("seed")
  of = f" {words.whole(examples)}" if words.finite(examples) else ""
  first = f", with seed {seed}" if seed is not None else ""
  return layout.section(
    "Similarity of layers",
    f"Linear CKA, times 100, of what two models' taps say about the same{of}"
    f" test examples{first}: 100 where one is the other rotated and scaled,"
    " about 0 where they have nothing in common. Features are averaged over"
    " positions first, so that layers of other resolutions compare; the"
    " estimate is the one without bias (Nguyen et al. 2021). The strongest of"
    " each row is framed: frames along the diagonal say that the two models"
    " work in the same order.",
    layout.panels(panels),
  )


def _values(found: Mapping[str, Any]) -> np.ndarray | None:
  """[rows, columns] with NaN for what is missing; None where shapes differ."""
  table = found.get("cka")
  rows, columns = found.get("rows"), found.get("columns")
  if not (table and rows and columns) or len(table) != len(rows):
    return None
  if any(len(row) != len(columns) for row in table):
    return None
  return np.array(
    [[v if words.finite(v) else np.nan for v in row] for row in table],
    np.float64,
  )


def _labels(names: Sequence[object]) -> list[str]:
  """Names without the ending that all taps have in common.

  "stage_1/output", "stage_2/output" and the model's own "output" are told
  apart by what stands before.
  """
  names = [str(name) for name in names]
  ends = [name.rpartition("/")[2] for name in names if "/" in name]
  if len(ends) < 2 or len(set(ends)) > 1:
    return names
  short = [name.removesuffix(f"/{ends[0]}") for name in names]
  return short if len(set(short)) == len(short) else names


def _spread(count: int) -> list[int]:
  """At most `heat.TAPS` of so many numbers, the first and last among them."""
  shown = min(count, heat.TAPS)
  return [round(k) for k in np.linspace(0, count - 1, shown)]


def _caption(
  values: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> str:
  if not np.isfinite(values).any():
    return "No layer says more of one example than of another."
  i, j = np.unravel_index(np.nanargmax(values), values.shape)
  text = (
    f"Most alike are {rows[i]} and {columns[j]}"
    f" ({words.percent(values[i, j], 0)})"
  )
  last = values[-1, -1]
  if (i, j) != (len(rows) - 1, len(columns) - 1) and np.isfinite(last):
    text += (
      f"; the last of both, {rows[-1]} and {columns[-1]}, reach"
      f" {words.percent(last, 0)}"
    )
  return text + "."
