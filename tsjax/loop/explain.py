"""`tsjax explain`: the run as it will be, without training it."""

from collections.abc import Iterator
import time
from typing import Any

import jax
import numpy as np

from tsjax.config import specs, stages
from tsjax.core import trees
from tsjax.loop import build
from tsjax.loop import feed as feed_lib
from tsjax.loop import stage as stage_lib
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
    f"data: {sizes};{_classes(parts.source.classes)} batch"
    f" {run.data.batch_size}"
  )
  yield "models:"
  for name, spec in run.models.items():
    values = ", ".join(f"{k}={spec[k]}" for k in spec if k != specs.CALL)
    yield f"  {name}: {spec[specs.CALL].__name__}({values})"
  for name in run.order:
    yield from _stage(parts.stages[name], run)


def _classes(names: tuple[str, ...]) -> str:
  return f" {len(names)} classes;" if names else ""


def _stage(stage: stage_lib.Stage, run: Any) -> Iterator[str]:
  config = stage.config
  params = stage.program.abstract.params["models"]
  sizes = (
    f"{model} ({trees.size(params[model]):,} parameters,"
    f" {trees.nbytes(params[model]) / 2**20:.2f} MiB)"
    for model in stage.models
  )
  yield ""
  yield f"stage {stage.name}: trains {', '.join(sizes)}"
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
  for name, ensemble in config.ensembles.items():
    seeds = f", of {len(run.seeds)} seeds each" if ensemble.over_seeds else ""
    yield (
      f"  teacher {name}: mean {ensemble.mean} of"
      f" {', '.join(ensemble.members)}{seeds}"
    )
  for name, folder in config.cached.items():
    yield f"  teacher {name}: outputs in {folder}"
  if config.start is not None:
    values = ", ".join(
      f"{k}={config.start[k]!r}" for k in config.start if k != specs.CALL
    )
    yield f"  starts with {config.start[specs.CALL].__name__}({values})"
  last = max(stage.timeline.steps - 1, 0)
  for term in stage.program.structure.terms:
    reads = sorted(term.reads - {"mask"})
    for index, read in enumerate(reads):
      if read in ("student", "teacher"):
        reads[index] = f"{read} {getattr(term, read + '_tap')}"
    yield (
      f"  term {term.name}: weight {_over(stage.weights[term.name], last)}"
      f"{_temperature(stage, term, last)}; reads {', '.join(reads)};"
      f" {'labelled' if term.labelled else 'all'} examples"
    )


def _temperature(stage: stage_lib.Stage, term: Any, last: int) -> str:
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
  resident = feed_lib.reside(
    parts.splits["train"],
    parts.placement.mesh,
    parts.run.data.on_device_mib * 2**20,
  )
  with jax.default_matmul_precision(parts.matmul_precision):
    for name, stage in parts.stages.items():
      program, config = stage.program, stage.config
      feed = feed_lib.Feed(
        stage.examples(seed),
        batch_size=parts.run.data.batch_size,
        whole=parts.splits["train"],
        resident=None if stage.caches else resident,
      )
      state = program.init(seed)
      begun = jax.tree.map(np.asarray, stage.end_variables(state))
      for label, model in stages.judged(name, stage.config).items():
        variables[label] = begun[model]
      teachers = program.put_teachers(
        {m: variables[m.stage] for m in program.members}
      )
      state, sums = program.enter(state), program.zeros()
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
