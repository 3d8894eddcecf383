"""Schedules at the steps that matter."""

import pytest

from tsjax.core import errors, schedules


@pytest.fixture
def timeline():
  """100 steps of 10 of 200 examples: 5 epochs."""
  return schedules.Timeline(steps=100, examples=200, batch_size=10)


def test_a_timeline_reads_every_unit(timeline):
  assert timeline.to_steps("10%", "k") == 10
  assert timeline.to_steps("1 epoch", "k") == 20
  assert timeline.to_steps("50 examples", "k") == 5


def test_constant(timeline):
  schedule = schedules.constant(timeline, value=0.3)
  assert [schedule(i) for i in (0, 50, 99, 500)] == [0.3] * 4


def test_linear(timeline):
  schedule = schedules.linear(timeline, start=1.0, end=0.2, over="50%")
  assert schedule(0) == 1.0
  assert schedule(25) == pytest.approx(0.6)
  assert schedule(50) == schedule(80) == pytest.approx(0.2)
  assert schedules.linear(timeline)(100) == 0.0


def test_cosine(timeline):
  schedule = schedules.cosine(timeline, peak=2.0, end=0.5)
  assert schedule(0) == 2.0
  assert schedule(50) == pytest.approx(1.25)
  assert schedule(25) == pytest.approx(0.5 + 1.5 * (1 + 0.5**0.5) / 2)
  assert schedule(100) == schedule(150) == pytest.approx(0.5)


def test_cosine_with_warmup(timeline):
  schedule = schedules.cosine(timeline, peak=2.0, warmup="10%")
  # No step is wasted at a rate of 0, and the peak is reached within the rise.
  assert schedule(0) == pytest.approx(0.2)
  assert schedule(4) == pytest.approx(1.0)
  assert schedule(9) == schedule(10) == 2.0
  assert schedule(55) == pytest.approx(1.0)
  assert schedule(100) == pytest.approx(0.0)
  values = [schedule(i) for i in range(101)]
  assert values[10:] == sorted(values[10:], reverse=True)


def test_cosine_ends_where_it_is_told(timeline):
  schedule = schedules.cosine(timeline, warmup=10, over="3 epochs")
  assert schedule(59) > 0
  assert schedule(60) == schedule(99) == pytest.approx(0.0)


def test_piecewise(timeline):
  schedule = schedules.piecewise(
    timeline, values=(1.0, 0.1, 0.01), boundaries=("50%", 75)
  )
  assert [schedule(i) for i in (0, 49, 50, 74, 75, 99)] == [
    1.0, 1.0, 0.1, 0.1, 0.01, 0.01
  ]  # fmt: skip


def test_piecewise_mistakes(timeline):
  with pytest.raises(errors.UserError, match="2 values and 2 boundaries"):
    schedules.piecewise(timeline, values=(1.0, 0.1), boundaries=(1, 2))
  with pytest.raises(errors.UserError, match="not in rising order"):
    schedules.piecewise(timeline, boundaries=("75%", 50))
