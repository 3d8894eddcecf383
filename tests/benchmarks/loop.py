"""Times the student's stage of configs/digits.py, and the same in PyTorch.

    python -m tests.benchmarks.loop [--json FILE] [--rounds 5] [--steps 400]

First the seconds from a start of Python to the first step, in processes of
their own. Then it copies the weights into PyTorch and refuses to go on unless
logits, loss and three updates agree. Then rounds: in every one each contestant
takes its steps, one contestant after the other, and the table holds the medians
over the rounds. docs/performance.md says what the rows mean.

Both take as many threads as the process is allowed cores. Where others use the
machine too, `taskset -c 0` gives the fairer comparison: PyTorch's two threads
wait for each other after every operation.

    --only NAME    may be given several times: some contestants only
"""

import argparse
from collections.abc import Mapping
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from tests.benchmarks import digits
from tsjax.loop import arm
from tsjax.report import progress


def bare(stage: digits.Stage, steps: int, together: int = 1) -> digits.Contest:
  """The compiled step: inputs on the device beforehand, one wait at the end."""
  inputs = jax.device_put(stage.inputs(steps, together))

  def contest() -> digits.Seconds:
    state, sums = stage.begin(), stage.program.zeros()
    jax.block_until_ready((state, sums))
    start = digits.now()
    for batch, scalars in inputs:
      state, sums = stage.run(state, sums, batch, scalars)
    jax.block_until_ready((state, sums))
    return tuple(digits.now() - start)

  return contest


def loop(stage: digits.Stage, *, cadence: bool) -> digits.Contest:
  """`loop/arm.py` as it stands: order, scalars, logs, progress.

  With `cadence`, evaluations and saves are due as the config says, and the
  time is that of the whole arm, its store opened and closed. Without, nothing
  is due before the end, where the clock stops before the last save.
  """
  built = stage.built
  if not cadence:
    config = dataclasses.replace(
      built.config, evaluate_every="100%", save_every="100%"
    )
    built = dataclasses.replace(built, config=config)
  predict = stage.parts.predict("student")
  task, split = stage.parts.task, stage.parts.splits["validation"]

  def contest() -> digits.Seconds:
    laps: list[np.ndarray] = []

    def begin() -> Any:
      state = stage.begin()
      jax.block_until_ready(state)
      if not cadence:
        laps.append(digits.now())
      return state

    def evaluate(variables: Any) -> dict[str, float]:
      if not cadence:
        jax.block_until_ready(variables)
        laps.append(digits.now())
        return {}
      batch = split.read(np.arange(split.size))
      scores = np.asarray(predict(variables, batch))
      return task.metrics(scores, {f: batch[f] for f in task.fields})

    with tempfile.TemporaryDirectory() as folder:
      if cadence:
        laps.append(digits.now())
      arm.train(
        arm.Arm(
          stage=built,
          seed=digits.SEED,
          learning_rate=digits.RATE,
          folder=epath.Path(folder),
          feed=stage.feed,
          teachers=stage.teachers,
          begin=begin,
          evaluate=evaluate,
          sign=1.0,
          keep=2,
          progress=progress.Progress(
            built.timeline.steps, stream=io.StringIO()
          ),
          stop_requested=lambda: False,
        )
      )
      if cadence:
        laps.append(digits.now())
    return tuple(laps[-1] - laps[0])

  return contest


def first_steps() -> dict[str, dict[str, float]]:
  """Seconds to the first step without a compilation cache, and with a full one.

  The cache is set as `tsjax fit` sets it.
  """
  command = [sys.executable, "-m", "tests.benchmarks.loop", "--first-step"]
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    for name in ("cold", "filling the cache", "warm"):
      environment = dict(os.environ, JAX_COMPILATION_CACHE_DIR=folder)
      if name == "cold":
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
      done = subprocess.run(
        [*command, str(time.time())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
      )
      if done.returncode:
        raise SystemExit(done.stderr)
      found[name] = json.loads(done.stdout.splitlines()[-1])
      print(_words(name, found[name]), flush=True)
  return found


def _words(name: str, seconds: Mapping[str, float]) -> str:
  told = ", ".join(f"{k} {v:.1f} s" for k, v in seconds.items())
  return f"{name:20}{told}"


def contestants(stage: digits.Stage, steps: int) -> dict[str, tuple[int, Any]]:
  """Name -> steps of one turn, and what makes the contestant."""
  from tests.benchmarks import pytorch

  some = max(steps // 4 // 8 * 8, 8)
  return {
    "PyTorch eager": (
      steps,
      lambda: pytorch.contest_of(stage, steps, compiled=False),
    ),
    "PyTorch compile": (
      steps,
      lambda: pytorch.contest_of(stage, steps, compiled=True),
    ),
    "bare step": (steps, lambda: bare(stage, steps)),
    "loop": (steps, lambda: loop(stage, cadence=False)),
    "loop, cadence": (steps, lambda: loop(stage, cadence=True)),
    "4 per dispatch": (some, lambda: bare(stage, some, 4)),
    "8 per dispatch": (some, lambda: bare(stage, some, 8)),
  }


def compete(
  stage: digits.Stage, options: argparse.Namespace
) -> list[dict[str, Any]]:
  """Rounds of all contestants; a row for each."""
  entered = {}
  for name, (steps, make) in contestants(stage, options.steps).items():
    if options.only and name not in options.only:
      continue
    start = time.perf_counter()
    contest = make()
    contest()  # Compiles, and is not counted.
    entered[name] = (steps, contest, time.perf_counter() - start)
    print(f"{name}: ready in {entered[name][2]:.1f} s", flush=True)
  taken: dict[str, list[digits.Seconds]] = {name: [] for name in entered}
  for _ in range(options.rounds):
    for name, (_, contest, _) in entered.items():
      taken[name].append(contest())
  rows = []
  for name, (steps, _, ready) in entered.items():
    walls, cores = 1e3 * np.array(taken[name]).T / steps
    rows.append(
      {
        "contestant": name,
        "steps": steps,
        "ready_seconds": ready,
        "milliseconds": float(np.median(walls)),
        "core_milliseconds": float(np.median(cores)),
        "rounds": walls.tolist(),
      }
    )
  return rows


def table(rows: list[dict[str, Any]]) -> str:
  """Steps a second, and ratios to PyTorch eager and to the bare step.

  The last two columns are the same ratios of work done rather than of time:
  where other programs share the cores, only they hold still.
  """
  by_name = {row["contestant"]: row for row in rows}
  lines = [
    f"{'':18}{'steps/s':>9}{'ms':>8}{'/ eager':>9}{'/ bare':>9}"
    f"{'core ms':>10}{'/ eager':>9}{'/ bare':>9}"
  ]
  for row in rows:
    line = f"{row['contestant']:18}{1e3 / row['milliseconds']:9.1f}"
    for key, width in (("milliseconds", 8), ("core_milliseconds", 10)):
      line += f"{row[key]:{width}.2f}"
      for other in ("PyTorch eager", "bare step"):
        ratio = by_name[other][key] / row[key] if other in by_name else np.nan
        line += f"{ratio:9.2f}"
    lines.append(line)
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--steps", type=int, default=400)
  parser.add_argument("--only", action="append", default=[])
  parser.add_argument("--no-first-step", action="store_true")
  parser.add_argument("--first-step", type=float, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.first_step:
    stage = digits.Stage(options.steps, started=options.first_step)
    with jax.default_matmul_precision(stage.parts.matmul_precision):
      print(json.dumps(stage.first_step()))
    return

  # Not above: the processes of `--first-step` do without it.
  import torch

  from tests.benchmarks import pytorch

  cores = len(os.sched_getaffinity(0))
  torch.set_num_threads(cores)
  found: dict[str, Any] = {}
  if not options.no_first_step:
    found["first_step"] = first_steps()
  stage = digits.Stage(options.steps)
  with jax.default_matmul_precision(stage.parts.matmul_precision):
    found["differences"] = pytorch.compare(stage)
    told = ", ".join(f"{k} {v:.1e}" for k, v in found["differences"].items())
    print(f"JAX and PyTorch differ by: {told}", flush=True)
    found["rows"] = compete(stage, options)
  found["versions"] = {"jax": jax.__version__, "torch": torch.__version__}
  found["cores"] = cores
  found["load"] = os.getloadavg()
  print(table(found["rows"]))
  print("load average " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
  if options.json:
    options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
