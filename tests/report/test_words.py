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
  "names, shown",
  [
    ([], ""),
    (["a"], "<code>a</code>"),
    (["a", "<b>"], "<code>a</code> and <code>&lt;b&gt;</code>"),
    ("abc", "<code>a</code>, <code>b</code> and <code>c</code>"),
  ],
)
def test_listings_are_escaped_once(names, shown):
  assert words.listing(names) == shown


@pytest.mark.parametrize(
  "value, shown",
  [(0.012345, "0.0123"), (4.081, "4.08"), (43.26, "43.3"), (4321.9, "4,322")]
  + [(-0.5, "−0.500"), (0, "0"), (3.21e-7, "3.21e−07"), (None, "–")],
)
def test_values_that_are_no_share_keep_three_digits(value, shown):
  assert words.significant(value) == shown


@pytest.mark.parametrize(
  "deviation, mean, metric, shown",
  [(0.0061, 0.9432, "f1", "0.6"), (0.08, 4.08, "mean_squared_error", "0.08")]
  + [(3e-17, 0.2, "r2", "0.000"), (None, 1.0, "r2", "–")],
)
def test_deviations_have_the_digits_of_their_mean(
  deviation, mean, metric, shown
):
  assert words.spread(deviation, mean, metric) == shown


@pytest.mark.parametrize(
  "value, shown",
  [(1234.56, "1,234.6"), (-0.04, "0.0"), (-2.8, "−2.8")]
  + [(None, "–"), (float("inf"), "–"), ("7", "–")],
)
def test_numbers(value, shown):
  assert words.number(value) == shown
