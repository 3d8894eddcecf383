"""Axes hold what they are given, whatever it is."""

import numpy as np
import pytest

from tsjax.report import axes


@pytest.mark.parametrize(
  "values",
  [[], [3.0], [0.0], [5.0, 5.0], [1e-9, 2e-9], [-3, 8], [1e12, 3e12], [1e300]]
  + [[float("nan")], [1.0, 1.0 + 1e-15]],
)
@pytest.mark.parametrize("log", [False, True])
def test_any_axis_has_ticks_within_its_pixels(values, log):
  axis = axes.over(values, 10, 110, log=log)
  ticks = axis.ticks()
  assert 1 <= len(ticks) <= 12
  for value in [*ticks, *(v for v in values if np.isfinite(v))]:
    assert 10 - 1e-6 <= axis(value) <= 110 + 1e-6


def test_log_axes_are_for_wide_positive_values_only():
  assert axes.over([0.01, 10], 0, 1, log=True).log
  assert not axes.over([0.0, 10], 0, 1, log=True).log
  assert not axes.over([5, 10], 0, 1, log=True).log


def test_short_names_keep_both_ends():
  assert axes.short("student", 12) == "student"
  assert axes.short("student_with_hints_2", 12) == "student_…s_2"
  assert len(axes.short("x" * 40, 9)) == 9
