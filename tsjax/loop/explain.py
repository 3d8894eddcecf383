"""`tsjax explain`: the run as it will be, without training it."""

from collections.abc import Iterator
import time
from typing import Any

import jax
import numpy as np

from tsjax.config import specs
from tsjax.core import trees
from tsjax.loop import build
from tsjax.loop import feed as feed_lib
from tsjax.report import progress


def lines(parts: build.Parts) -> Iterator[str]:
  """The run in words: data, models, stages with their terms, steps.

  Args:
    parts: the built run.

  Yields:
    Lines of text.
  """
  run = parts.run
  placement = parts.placement
  yield (
    f"{run.name}: {len(run.order)} stages, seeds"
    f" {', '.join(map(str, run.seeds))}, {run.precision}, {placement.strategy}"
    f" on {placement.devices} device(s) {dict(placement.mesh.shape)}"
  )
  sizes = ", ".join(f"{n} {s.size:,}" for n, s in parts.splits.items())
  yield (
    f"data: {sizes}; {len(parts.source.classes)} classes; batch"
    f" {run.data.batch_size}"
  )
  yield "models:"
  for name, spec in run.models.items():
    values = ", ".join(f"{k}={spec[k]}" for k in spec if k != specs.CALL)
    yield f"  {name}: {spec[specs.CALL].__name__}({values})"
  for name in run.order:
    yield from _stage(parts.stages[name], run)


def _stage(stage: build.Stage, run: Any) -> Iterator[str]:
  config = stage.config
  params = stage.program.abstract.params
  size = trees.size(params["models"][stage.model])
  yield ""
  yield (
    f"stage {stage.name}: trains {stage.model} ({size:,} parameters,"
    f" {trees.nbytes(params['models'][stage.model]) / 2**20:.2f} MiB)"
  )
  labelled = int(stage.split.labelled.sum())
  rates = config.arms.get("learning_rate", (config.learning_rate,))
  yield (
    f"  examples {stage.split.size:,}, labelled {labelled:,}; steps"
    f" {stage.timeline.steps:,}"
    f" ({stage.timeline.steps * run.data.batch_size / stage.split.size:.1f}"
    " epochs)"
  )
  yield (
    f"  {config.optimizer[specs.CALL].__name__}, learning rate"
    f" {' or '.join(f'{r:g}' for r in rates)}; parameters by group:"
    f" {', '.join(f'{k} {v:,}' for k, v in stage.group_sizes.items())}"
  )
  if config.teachers:
    yield f"  teachers: {', '.join(config.teachers)}"
  if config.start is not None:
    values = ", ".join(
      f"{k}={config.start[k]!r}" for k in config.start if k != specs.CALL
    )
    yield f"  starts with {config.start[specs.CALL].__name__}({values})"
  last = max(stage.timeline.steps - 1, 0)
  for term in stage.program.structure.terms:
    reads = [f"{r}" for r in sorted(term.reads)]
    for index, read in enumerate(reads):
      if read in ("student", "teacher"):
        reads[index] = f"{read} {getattr(term, read + '_tap')}"
    yield (
      f"  term {term.name}: weight {_over(stage.weights[term.name], last)}"
      f"{_temperature(stage, term, last)}; reads {', '.join(reads)};"
      f" {'labelled' if term.labelled else 'all'} examples"
    )


def _temperature(stage: build.Stage, term: Any, last: int) -> str:
  if "temperature" not in term.reads:
    return ""
  return f", temperature {_over(stage.temperatures[term.name], last)}"


def _over(schedule: Any, last: int) -> str:
  begin, end = schedule(0), schedule(last)
  return f"{begin:g}" if begin == end else f"{begin:g} to {end:g}"


def times(parts: build.Parts, *, steps: int = 10) -> Iterator[str]:
  """Times a few real steps of every stage, from a teacher's own start.

  Args:
    parts: the built run.
    steps: how many steps are timed, after one that compiles.

  Yields:
    A line for each stage, and the sum.
  """
  seed = parts.run.seeds[0]
  whole, variables = 0.0, {}
  with jax.default_matmul_precision(parts.matmul_precision):
    for name, stage in parts.stages.items():
      program, config = stage.program, stage.config
      feed = feed_lib.Feed(
        stage.split,
        batch_size=parts.run.data.batch_size,
        mesh=parts.placement.mesh,
        limit_bytes=parts.run.data.on_device_mib * 2**20,
      )
      state = program.init(seed)
      variables[name] = jax.tree.map(np.asarray, state.variables(stage.model))
      teachers = program.put_teachers(
        {t: variables[t] for t in config.teachers}
      )
      state, sums, stream = program.enter(state), program.zeros(), None
      stream = feed.steps(seed, 0)
      begun = time.perf_counter()
      for step in range(steps + 1):
        scalars = stage.scalars(seed, config.learning_rate, step, 1)
        state, sums = program.run(
          state, teachers, feed.resident, stream.next(1), scalars, sums
        )
        if step == 0:
          jax.block_until_ready(state)
          compiled, begun = time.perf_counter() - begun, time.perf_counter()
      jax.block_until_ready(state)
      stream.close()
      each = (time.perf_counter() - begun) / steps
      arms = len(config.arms.get("learning_rate", (0,)))
      runs = arms * len(parts.run.seeds)
      took = compiled + each * stage.timeline.steps * runs
      whole += took
      yield (
        f"  {name}: {each * 1e3:.1f} ms a step, {runs} runs of"
        f" {stage.timeline.steps:,} steps, about {progress.duration(took)}"
      )
  yield f"  training in all about {progress.duration(whole)}"
