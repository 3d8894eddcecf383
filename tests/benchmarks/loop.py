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
from collections.abc import Callable, Mapping
import dataclasses
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

# The process of `--first-step` counts from here, and JAX's import is part of it.
STARTED = time.perf_counter()

from etils import epath  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

from tsjax.config import checked, loading  # noqa: E402
from tsjax.loop import arm, build, feed  # noqa: E402
from tsjax.report import progress  # noqa: E402
from tsjax.train import step as step_lib  # noqa: E402

RATE = 1e-2
SEED = 0
# Largest differences that let a comparison with PyTorch go on.
LOGITS, LOSS, UPDATES = 1e-4, 1e-5, 1e-3


class Stage:
  """The student's stage, its teacher drawn at random, and its first batches."""

  def __init__(self, steps: int):
    self.laps = {"import": time.perf_counter() - STARTED}
    config = loading.load(f"configs/digits.py:steps={steps}")
    self.parts = build.build(checked.check(config))
    self.built = self.parts.stages["student"]
    self.program = self.built.program
    self._lap("build")
    self.teacher = self.parts.stages["teacher"].program.init(SEED)
    self.teachers = self.program.put_teachers(
      {"teacher": self.teacher.variables("teacher")}
    )
    self.feed = feed.Feed(
      self.built.split,
      batch_size=self.parts.run.data.batch_size,
      mesh=self.parts.placement.mesh,
      limit_bytes=2**28,
    )
    jax.block_until_ready(self.begin())
    self._lap("initialise")

  def _lap(self, name: str) -> None:
    self.laps[name] = time.perf_counter() - STARTED - sum(self.laps.values())

  def begin(self) -> Any:
    """A first state."""
    return self.program.init(SEED)

  def inputs(self, steps: int, together: int = 1) -> list[tuple[Any, Any]]:
    """Batches and scalars of the first `steps` steps, on the host."""
    stream = self.feed.steps(SEED, 0)
    return [
      (
        stream.next(together),
        self.built.scalars(SEED, RATE, at * together, together),
      )
      for at in range(steps // together)
    ]

  def run(self, state: Any, sums: Any, batch: Any, scalars: Any) -> Any:
    """What the loop does in a turn."""
    return self.program.run(
      state, self.teachers, self.feed.resident, batch, scalars, sums
    )

  def first_step(self) -> dict[str, float]:
    """Seconds from the start of Python to the end of the first step."""
    ((batch, scalars),) = self.inputs(1)
    jax.block_until_ready(
      self.run(self.begin(), self.program.zeros(), batch, scalars)
    )
    self._lap("first step")
    return {**self.laps, "sum": sum(self.laps.values())}

  def examples(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """One batch's fields, `[batch, ...]`, as the step gathers them."""
    whole = {k: v[0] for k, v in batch.items()}
    rows = whole.pop("row")
    return whole | {k: v[rows] for k, v in self.feed.resident.items()}


Contest = Callable[[], float]


def bare(stage: Stage, steps: int, together: int = 1) -> Contest:
  """The compiled step: inputs on the device beforehand, one wait at the end."""
  inputs = jax.device_put(stage.inputs(steps, together))

  def contest() -> float:
    state, sums = stage.begin(), stage.program.zeros()
    jax.block_until_ready((state, sums))
    start = time.perf_counter()
    for batch, scalars in inputs:
      state, sums = stage.run(state, sums, batch, scalars)
    jax.block_until_ready((state, sums))
    return time.perf_counter() - start

  return contest


def loop(stage: Stage, *, cadence: bool) -> Contest:
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

  def contest() -> float:
    laps: list[float] = []

    def begin() -> Any:
      state = stage.begin()
      jax.block_until_ready(state)
      if not cadence:
        laps.append(time.perf_counter())
      return state

    def evaluate(variables: Any) -> dict[str, float]:
      if not cadence:
        jax.block_until_ready(variables)
        laps.append(time.perf_counter())
        return {}
      batch = split.read(np.arange(split.size))
      scores = np.asarray(predict(variables, batch))
      return task.metrics(scores, {f: batch[f] for f in task.fields})

    with tempfile.TemporaryDirectory() as folder:
      if cadence:
        laps.append(time.perf_counter())
      arm.train(
        arm.Arm(
          stage=built,
          seed=SEED,
          learning_rate=RATE,
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
        laps.append(time.perf_counter())
    return laps[-1] - laps[0]

  return contest


def torch_batches(stage: Stage, steps: int) -> list[tuple[Any, ...]]:
  """What the JAX step sees after its view, as tensors: nothing is left to do.

  A tensor of `[batch, 1, height, width]`, the labels, and 1.0 where a label may
  be used; the rate of the step last.
  """
  import torch

  structure = stage.program.structure

  @jax.jit
  def seen(batch: Any) -> Any:
    return step_lib.apply_view(
      structure, structure.student_view, batch, np.uint32(SEED)
    )

  batches = []
  for batch, scalars in stage.inputs(steps):
    examples = stage.examples(batch)
    pixels = np.asarray(seen(examples)).transpose(0, 3, 1, 2)
    batches.append(
      (
        torch.from_numpy(pixels.copy()),
        torch.from_numpy(np.asarray(examples["label"], np.int64)),
        torch.from_numpy(np.asarray(examples["labelled"], np.float32)),
        float(scalars.learning_rate[0]),
      )
    )
  return batches


def torch_trainer(
  stage: Stage, variables: Any, taught: Any, *, compiled: bool
) -> Any:
  """The stage's teacher and student in PyTorch, with these weights."""
  from tests.benchmarks import pytorch

  networks = {}
  for name, values in (("teacher", taught), ("student", variables)):
    module = stage.parts.modules[name]
    networks[name] = pytorch.Network(
      width=module.width,
      groups=getattr(module, "cardinality", 1),
      stages=len(module.stage_sizes),
      classes=module.classes,
    )
    pytorch.copy_into(networks[name], jax.device_get(values))
  soft = stage.built.config.objective["soft"]
  trainer = pytorch.Trainer(
    networks["teacher"],
    networks["student"],
    weight=soft.weight,
    temperature=soft.temperature,
    weight_decay=1e-2,
    compiled=compiled,
  )
  return trainer, networks


def in_torch(stage: Stage, steps: int, *, compiled: bool) -> Contest:
  """The same steps in PyTorch, from the same weights, batches prepared."""
  trainer, _ = torch_trainer(
    stage,
    stage.begin().variables("student"),
    stage.teachers["teacher"],
    compiled=compiled,
  )
  batches = torch_batches(stage, steps)

  def contest() -> float:
    start = time.perf_counter()
    for *batch, rate in batches:
      loss = trainer.step(tuple(batch), rate)
    loss.item()
    return time.perf_counter() - start

  return contest


def compare(stage: Stage) -> dict[str, float]:
  """Largest differences between JAX and PyTorch.

  Norms and biases are disturbed first: with scales of 1 and statistics of 0
  and 1, a leaf in the wrong place would not show.

  Raises:
    SystemExit: they are not the same model, loss or update.
  """
  import torch

  random = np.random.default_rng(0)

  def disturbed(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return x + 0.3 * random.random(x.shape, np.float32) if x.ndim == 1 else x

  student, teacher = jax.tree.map(
    disturbed,
    jax.device_get(
      (stage.begin().variables("student"), stage.teachers["teacher"])
    ),
  )
  trainer, networks = torch_trainer(stage, student, teacher, compiled=False)
  batches = torch_batches(stage, 3)
  pixels = batches[0][0]
  found = {}
  with torch.no_grad():
    for name, values in (("teacher", teacher), ("student", student)):
      given = pixels.numpy().transpose(0, 2, 3, 1)
      logits = stage.parts.modules[name].apply(values, given, train=False)
      theirs = networks[name].eval()(pixels).numpy()
      found[f"{name} logits"] = float(np.abs(logits - theirs).max())
  networks["student"].train()

  put = stage.program.put_teachers({"teacher": teacher})
  state = stage.program.with_variables(stage.begin(), "student", student)
  before = 0.0
  sums = stage.program.zeros()
  for at, (batch, scalars) in enumerate(stage.inputs(3)):
    state, sums = stage.program.run(
      state, put, stage.feed.resident, batch, scalars, sums
    )
    total = float(sums["loss"].total)
    theirs = float(trainer.step(batches[at][:3], batches[at][3]))
    relative = abs(total - before - theirs) / theirs
    found["loss" if at == 0 else "loss after updates"] = relative
    before = total
  limits = {"loss": LOSS, "loss after updates": UPDATES}
  for name, difference in found.items():
    if not difference < limits.get(name, LOGITS):
      raise SystemExit(f"JAX and PyTorch differ: {name} by {difference:.2g}")
  return found


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
        command, env=environment, capture_output=True, text=True, check=False
      )
      if done.returncode:
        raise SystemExit(done.stderr)
      found[name] = json.loads(done.stdout.splitlines()[-1])
      print(_words(name, found[name]), flush=True)
  return found


def _words(name: str, seconds: Mapping[str, float]) -> str:
  told = ", ".join(f"{k} {v:.1f} s" for k, v in seconds.items())
  return f"{name:20}{told}"


def contestants(stage: Stage, steps: int) -> dict[str, tuple[int, Any]]:
  """Name -> steps of one turn, and what makes the contestant."""
  some = max(steps // 4 // 8 * 8, 8)
  return {
    "PyTorch eager": (steps, lambda: in_torch(stage, steps, compiled=False)),
    "PyTorch compile": (steps, lambda: in_torch(stage, steps, compiled=True)),
    "bare step": (steps, lambda: bare(stage, steps)),
    "loop": (steps, lambda: loop(stage, cadence=False)),
    "loop, cadence": (steps, lambda: loop(stage, cadence=True)),
    "4 per dispatch": (some, lambda: bare(stage, some, 4)),
    "8 per dispatch": (some, lambda: bare(stage, some, 8)),
  }


def compete(stage: Stage, options: argparse.Namespace) -> list[dict[str, Any]]:
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
  walls: dict[str, list[float]] = {name: [] for name in entered}
  cores: dict[str, list[float]] = {name: [] for name in entered}
  for _ in range(options.rounds):
    for name, (steps, contest, _) in entered.items():
      busy = time.process_time()
      walls[name].append(contest() / steps)
      cores[name].append((time.process_time() - busy) / steps)
  rows = []
  for name, (steps, _, ready) in entered.items():
    rows.append(
      {
        "contestant": name,
        "steps": steps,
        "ready_seconds": ready,
        "milliseconds": 1e3 * statistics.median(walls[name]),
        "core_milliseconds": 1e3 * statistics.median(cores[name]),
        "rounds": [1e3 * wall for wall in walls[name]],
      }
    )
  return rows


def table(rows: list[dict[str, Any]]) -> str:
  """Steps a second, and ratios to PyTorch eager and to the bare step."""
  by_name = {row["contestant"]: row for row in rows}
  lines = [
    f"{'':18}{'steps/s':>9}{'ms':>8}{'core ms':>9}{'/ eager':>9}{'/ bare':>9}"
  ]
  for row in rows:
    line = (
      f"{row['contestant']:18}{1e3 / row['milliseconds']:9.1f}"
      f"{row['milliseconds']:8.2f}{row['core_milliseconds']:9.2f}"
    )
    for other in ("PyTorch eager", "bare step"):
      if other in by_name:
        ratio = by_name[other]["milliseconds"] / row["milliseconds"]
        line += f"{ratio:9.2f}"
      else:
        line += f"{'':9}"
    lines.append(line)
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--steps", type=int, default=400)
  parser.add_argument("--only", action="append", default=[])
  parser.add_argument("--no-first-step", action="store_true")
  parser.add_argument("--first-step", action="store_true")
  options = parser.parse_args()
  if options.first_step:
    stage = Stage(options.steps)
    with jax.default_matmul_precision(stage.parts.matmul_precision):
      print(json.dumps(stage.first_step()))
    return

  import torch

  cores = len(os.sched_getaffinity(0))
  torch.set_num_threads(cores)
  found: dict[str, Any] = {}
  if not options.no_first_step:
    found["first_step"] = first_steps()
  stage = Stage(options.steps)
  with jax.default_matmul_precision(stage.parts.matmul_precision):
    found["differences"] = compare(stage)
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
