"""Figures whose cells are coloured by their values."""

from collections.abc import Sequence

import numpy as np

from tsjax.report import axes, figures, markup, words

_tag = markup.tag
# Beyond these, a figure shows the part that matters most and says so.
MATRIX_CLASSES = 20
TAPS = 20
# Pixels of a letter in the figures' text, a little generous.
_LETTER = 6.8


def matrix(
  counts: np.ndarray,
  classes: Sequence[str],
  *,
  title: str,
  totals: np.ndarray,
  worst: float,
) -> markup.Markup:
  """A confusion matrix: the right ones in one hue, the mistakes in another.

  Args:
    counts: [classes, classes], rows true.
    classes: names, as many.
    title: for those who cannot see it.
    totals: [classes], the examples of each row, those not shown included.
    worst: the share of its row that a mistake of the strongest colour makes.
  """
  shares = counts / np.maximum(totals[:, None], 1)
  frame = _Frame([axes.short(c, 9) for c in classes], None, "true", "predicted")
  parts = frame.draw()
  for i, j in np.argwhere(counts):
    share = shares[i, j] if i == j else shares[i, j] / (worst or 1.0)
    parts += frame.cell(
      i,
      j,
      "right" if i == j else "wrong",
      0.12 + 0.6 * float(share),
      f"{classes[i]} read as {classes[j]}: {counts[i, j]}",
      str(counts[i, j]),
    )
  return axes.draw(figures.WIDTH, frame.height, title, *parts)


def alike(
  values: np.ndarray,
  rows: Sequence[str],
  columns: Sequence[str],
  *,
  title: str,
  y_title: str,
  x_title: str,
) -> markup.Markup:
  """Similarities from 0, blank, to 1, strong; the largest of a row is framed.

  Args:
    values: [rows, columns]; what is not finite is left blank.
    rows: their names.
    columns: likewise.
    title: for those who cannot see it.
    y_title: what the rows are.
    x_title: what the columns are.
  """
  frame = _Frame(
    [axes.short(name, 16) for name in rows],
    [axes.short(name, 16) for name in columns],
    y_title,
    x_title,
  )
  parts = frame.draw()
  for i, j in np.ndindex(*values.shape):
    value = float(values[i, j])
    if not np.isfinite(value):
      continue
    parts += frame.cell(
      i,
      j,
      "right",
      0.62 * min(max(value, 0.0), 1.0),
      f"{rows[i]} with {columns[j]}: {words.number(value, 2)}",
      f"{100 * value:z.0f}".replace("-", "−"),
    )
  for i, row in enumerate(values):
    if np.isfinite(row).any():
      parts.append(frame.framed(i, int(np.nanargmax(row))))
  return axes.draw(figures.WIDTH, frame.height, title, *parts)


class _Frame:
  """Where the cells of a table of colours lie, and the names around them."""

  def __init__(
    self,
    rows: Sequence[str],
    columns: Sequence[str] | None,
    y_title: str,
    x_title: str,
  ):
    self.rows, self.columns = rows, rows if columns is None else columns
    self.titles = y_title, x_title
    wide = max(map(len, self.rows))
    tall = max(map(len, self.columns))
    self.upright = tall > 2
    self.left = 28 + _LETTER * wide
    self.top = 26 + (_LETTER * tall if self.upright else 10)
    self.width = (figures.WIDTH - self.left - 2) / len(self.columns)
    # Few columns make wide cells, which need not be as high.
    self.tall = min(self.width, 40.0) if columns is not None else self.width
    self.height = self.top + self.tall * len(self.rows) + 2

  def draw(self) -> list[markup.Markup]:
    """Titles, names and the empty table."""
    y_title, x_title = self.titles
    across, down = self.width * len(self.columns), self.tall * len(self.rows)
    middle = self.top + down / 2
    parts = [
      axes.label(self.left + across / 2, 11, x_title, "middle"),
      axes.label(
        0,
        0,
        y_title,
        "middle",
        transform=f"translate(12 {middle:.1f}) rotate(-90)",
      ),
    ]
    for k, name in enumerate(self.rows):
      y = self.top + (k + 0.5) * self.tall + 4
      parts.append(axes.label(self.left - 6, y, name, "end"))
    for k, name in enumerate(self.columns):
      x, y = self.left + (k + 0.5) * self.width, self.top - 6
      turn = f"translate({x + 4:.1f} {y:.1f}) rotate(-90)"
      parts.append(
        axes.label(0, 0, name, transform=turn)
        if self.upright
        else axes.label(x, y, name, "middle")
      )
    table = _tag(
      "rect",
      x=self.left,
      y=self.top,
      width=across,
      height=down,
      class_="cells",
    )
    return [*parts, table]

  def cell(
    self, i: int, j: int, class_: str, strength: float, title: str, text: str
  ) -> list[markup.Markup]:
    """A coloured cell, with its value where that fits."""
    x, y = self.left + j * self.width, self.top + i * self.tall
    parts = [
      _tag(
        "rect",
        _tag("title", title),
        x=x,
        y=y,
        width=self.width - 1,
        height=self.tall - 1,
        class_=class_,
        fill_opacity=strength,
      )
    ]
    if self.width > 7 * len(text) and self.tall > 11:
      x, y = x + (self.width - 1) / 2, y + self.tall / 2 + 3.5
      parts.append(axes.label(x, y, text, "middle", class_="ink count"))
    return parts

  def framed(self, i: int, j: int) -> markup.Markup:
    """A frame around a cell."""
    return _tag(
      "rect",
      x=self.left + j * self.width,
      y=self.top + i * self.tall,
      width=self.width - 1,
      height=self.tall - 1,
      class_="framed",
    )
