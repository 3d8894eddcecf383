"""Names in a scatter of stages cover neither marks nor each other."""

import re

import pytest

from tsjax.report import scatter

POINTS = {
  "in a heap": [(1.0, 99.0), (1.01, 98.9), (1.02, 99.1), (1.0, 98.8)],
  "in a corner": [(1.0, 90.0), (9.0, 99.0), (9.0, 99.1), (8.9, 90.0)],
  "at one place": [(1.0, 90.0)] * 3 + [(2.0, 91.0)],
}


@pytest.mark.parametrize("points", POINTS.values(), ids=POINTS)
def test_names_are_beside_each_other(points):
  drawing = scatter.stages(
    [
      scatter.Point(f"stage_{k}", k, x, y, 1.2 * x, 0.1)
      for k, (x, y) in enumerate(points)
    ],
    x_title="ms",
    y_title="F1, %",
    within=(0, 100),
  )
  found = re.findall(
    r'<text x="([\d.]+)" y="([\d.]+)" class="ink halo">', drawing
  )
  assert len(found) == len(points)
  boxes = [(float(x), float(y)) for x, y in found]
  for k, (x, y) in enumerate(boxes):
    assert x >= 0 and x + 6.6 * 7 <= 360 and 0 < y < 250
    for u, v in boxes[:k]:
      assert abs(x - u) >= 46 or abs(y - v) >= 12, (boxes, k)


def test_many_stages_are_named_by_a_legend_only():
  points = [scatter.Point(f"stage_{k}", k, k + 1, k) for k in range(30)]
  drawing = scatter.stages(points, x_title="ms", y_title="F1")
  assert "halo" not in drawing and drawing.count("mark ") == 30


def test_targets_and_predictions_share_one_scale():
  drawing = scatter.targets([0.0, 10.0], [0.0, 5.0], 0)
  dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawing)
  (x0, y0), (x1, y1) = [(float(x), float(y)) for x, y in dots]
  right, up = 360 - 12 - 44, 208 - 22
  # Ten along x is the full scale as five along y is half of it.
  assert (x1 - x0) / right == pytest.approx(2 * (y0 - y1) / up, rel=1e-3)
