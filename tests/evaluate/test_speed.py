"""Times are told of the calls that were made, and the warm-up is none."""

import numpy as np
import pytest

from tsjax.evaluate import speed

BATCH = {"mask": np.ones(50, bool)}


class Machine:
  """A model and a clock: each call takes the next of `times` seconds."""

  def __init__(self, times):
    self.now, self.calls, self.times = 0.0, 0, times

  def clock(self):
    return self.now

  def predict(self, variables, batch):
    self.calls += 1
    self.now += self.times(self.calls)
    return np.zeros(len(batch["mask"]))


def measure(machine, **options):
  return speed.latency(
    machine.predict, None, BATCH, clock=machine.clock, **options
  )


def test_the_first_calls_compile_and_do_not_count():
  machine = Machine(lambda call: 60.0 if call <= speed.WARM_UP else 0.002)
  found = measure(machine)
  assert found.median == found.p95 == pytest.approx(0.002)
  assert found.calls == speed.CALLS


def test_the_tail_is_told_beside_the_middle():
  # 90 of 100 calls take 1 ms, 10 take 1 s.
  machine = Machine(lambda call: 1e-3 if call % 10 else 1.0)
  found = measure(machine, seconds=1e3)
  assert found.median == pytest.approx(1e-3) and found.p95 > 0.9


@pytest.mark.parametrize(
  ("takes", "calls"), [(0.3, 4), (30.0, 1), (0.001, 100)]
)
def test_slow_models_are_measured_by_fewer_calls(takes, calls):
  assert measure(Machine(lambda call: takes)).calls == calls


def test_a_rate_is_examples_over_seconds(monkeypatch):
  machine = Machine(lambda call: 9.0 if call == 1 else 0.25)
  monkeypatch.setattr(speed.time, "perf_counter", machine.clock)
  rate = speed.examples_per_second(machine.predict, None, BATCH)
  assert rate == pytest.approx(200)
