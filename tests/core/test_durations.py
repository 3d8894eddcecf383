"""Durations in every unit."""

import pytest

from tsjax.core import durations, errors


def steps(duration, total=400):
  return durations.steps(
    duration, key="k", examples=1000, batch_size=64, total=total
  )


@pytest.mark.parametrize(
  "duration,expected",
  [
    (300, 300),
    (0, 0),
    ("300", 300),
    ("300 steps", 300),
    ("1 step", 1),
    ("2 epochs", 32),  # 31.25, rounded up
    ("0.5 epoch", 8),
    ("640 examples", 10),
    ("641 Examples", 11),
    ("10%", 40),
    (" 12.5 % ", 50),
    ("0.1%", 1),
  ],
)
def test_every_unit(duration, expected):
  assert steps(duration) == expected


def test_decimals_are_exact():
  # In floating point 0.55 * 100 is 55.00000000000001, and rounded up 56.
  assert (
    durations.steps("0.55 epochs", key="k", examples=100, batch_size=1) == 55
  )


@pytest.mark.parametrize("duration", ["soon", "-3", "3 weeks", "", True, 1.5])
def test_what_is_no_duration(duration):
  with pytest.raises(errors.UserError, match=r"k=.*is not a duration"):
    steps(duration)


def test_steps_are_whole():
  with pytest.raises(errors.UserError, match="whole numbers"):
    steps("2.5 steps")


def test_a_percentage_needs_a_whole():
  with pytest.raises(errors.UserError, match="a percentage has no whole here"):
    steps("10%", total=None)
