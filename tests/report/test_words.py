"""Numbers as a reader expects them."""

import pytest

from tsjax.report import words


@pytest.mark.parametrize(
  "value, shown",
  [(7.26, "7.3 s"), (59.97, "1 min 00 s"), (125, "2 min 05 s")]
  + [(3725, "1 h 02 min"), (None, "–")],
)
def test_durations(value, shown):
  assert words.duration(value) == shown


@pytest.mark.parametrize(
  "value, shown",
  [(1234.56, "1,234.6"), (-0.04, "0.0"), (-2.8, "−2.8")]
  + [(None, "–"), (float("inf"), "–"), ("7", "–")],
)
def test_numbers(value, shown):
  assert words.number(value) == shown
