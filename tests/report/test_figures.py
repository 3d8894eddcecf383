"""Figures show all of a curve, and stages that differ."""

import numpy as np

from tsjax.report import figures


def test_long_curves_are_thinned():
  x, y = figures.thin(range(10_000), [3.0] * 9_999 + [5.0])
  assert len(x) == len(y) == figures.POINTS
  assert x[-1] == 9_999 and y[-1] == 5
  assert (y[:-1] == 3).all() and (np.diff(x) > 0).all()
  x, y = figures.thin([1, 2, 3], [4.0, None])
  np.testing.assert_array_equal(y, [4, np.nan])


def test_the_mean_curve_goes_as_far_as_all_seeds_do():
  x, y = figures.mean_curve(
    [
      (np.array([0.0, 1, 2, 3]), np.array([0.0, 1, 2, 3])),
      (np.array([0.0, 2]), np.array([2.0, 4])),
    ]
  )
  np.testing.assert_array_equal(x, [0, 1, 2])
  np.testing.assert_array_equal(y, [1, 2, 3])


def test_marks_of_many_stages_differ():
  marks = {figures.mark(k, 0, 0) for k in range(30)}
  assert len(marks) == 30
