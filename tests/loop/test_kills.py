"""A run that is killed thirty times, anywhere, ends as one that was not."""

import json
import random
import signal
import subprocess
import time

import pytest

from tests.loop import runs

KILLS = 30
# Seconds that a start may live: from Python's own to beyond the report.
LONGEST = 14.0


def place(workdir, since):
  """Where a run was when it ended: a stage, or before the first or after."""
  written = [
    (path.stat().st_mtime, path.relative_to(workdir).parts[0])
    for path in workdir.glob("*/seed_0/**/metrics.jsonl")
  ]
  latest = max(written, default=(0.0, ""))
  if latest[0] > since:
    return latest[1]
  return "start"


def results(workdir):
  """The run's results but for what a clock says."""
  found = json.loads((workdir / "report" / "results.json").read_text())
  for name in ("seconds", "date", "command"):
    del found[name]
  for stage in found["stages"].values():
    del stage["seconds"], stage["speed"]
  return found


@pytest.mark.slow
def test_thirty_kills_cost_no_bit(tmp_path):
  cache = tmp_path / "cache"
  alone = tmp_path / "alone"
  code, said = runs.Started(alone, cache).end()
  assert code == 0, said
  expected = runs.outcome(alone), results(alone)
  moments = random.Random(0)
  killed, finished, places = 0, 0, []
  while killed < KILLS:
    workdir = tmp_path / f"run_{finished}"
    started = runs.Started(workdir, cache)
    try:
      _, said = started.process.communicate(
        timeout=moments.uniform(0.0, LONGEST)
      )
    except subprocess.TimeoutExpired:
      places.append(place(workdir, started.since))
      started.process.send_signal(signal.SIGKILL)
      started.process.communicate()
      killed += 1
      print(f"kill {killed}: {places[-1]}, {time.time() - started.since:.1f} s")
      continue
    assert started.process.returncode == 0, said
    assert (runs.outcome(workdir), results(workdir)) == expected
    finished += 1
  workdir = tmp_path / f"run_{finished}"
  code, said = runs.Started(workdir, cache).end()
  assert code == 0, said
  assert (runs.outcome(workdir), results(workdir)) == expected
  # Else the moments say nothing about a part of the run.
  assert set(places) == {"start", *runs.STAGES}, places
