"""Builds a checked config into the parts of a run, before any training.

Whatever a person can have got wrong shows here: models are traced, taps looked
up, batches divided, and every error names the config key.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from tsjax.config import sections, specs, stages
from tsjax.core import errors
from tsjax.data import splits as splits_lib
from tsjax.loop import checks, structure
from tsjax.loop import programs as programs_lib
from tsjax.loop import stage as stage_lib
from tsjax.sharding import mesh as mesh_lib
from tsjax.train import program as program_lib

# Name -> (matmul precision, compute dtype of models).
PRECISIONS = {
  "float32": ("highest", None),
  "tensorfloat32": ("tensorfloat32", None),
  "bfloat16": ("bfloat16", jnp.bfloat16),
}


@dataclasses.dataclass(frozen=True)
class Parts:
  """Everything that a run consists of."""

  run: sections.Run
  source: Any
  splits: Mapping[str, splits_lib.Split]
  task: Any
  views: Mapping[str, Callable[..., Any]]
  modules: Mapping[str, nn.Module]
  placement: program_lib.Placement
  matmul_precision: str
  stages: Mapping[str, stage_lib.Stage]
  programs: programs_lib.Programs

  @functools.cached_property
  def _owners(self) -> dict[str, tuple[str, str]]:
    """Judged name -> stage and model."""
    return {
      label: (name, model)
      for name, stage in self.stages.items()
      for label, model in stages.judged(name, stage.config).items()
    }

  @property
  def judged(self) -> tuple[str, ...]:
    """The names of all trained models, in order.

    A stage's own name, or "STAGE.MODEL" for each of several models.
    """
    return tuple(self._owners)

  def stage(self, name: str) -> stage_lib.Stage:
    """The stage that trained a judged model."""
    return self.stages[self._owner(name)[0]]

  def model(self, name: str) -> str:
    """The name in `config.models` of a judged model."""
    return self._owner(name)[1]

  def module(self, name: str) -> nn.Module:
    """The module of a judged model."""
    return self.modules[self.model(name)]

  def predict(self, name: str) -> Callable[[Any, Any], jax.Array]:
    """The compiled predictions `(variables, batch) -> scores` of a model."""
    view = self.stage(name).config.view
    made_from = {
      "predict": self.run.models[self.model(name)],
      "view": self.run.data.views[view],
      "task": self.run.task,
      "precision": self.run.precision,
      "mesh": self.placement.mesh,
    }
    return self.programs.shared(
      made_from,
      lambda: program_lib.make_predict(
        self.module(name),
        self.views[view],
        self.task.scores,
        self.placement.mesh,
      ),
    )

  def _owner(self, name: str) -> tuple[str, str]:
    if name not in self._owners:
      raise errors.UserError(
        f"{name!r} is no trained model: {errors.nearest(name, self._owners)}"
      )
    return self._owners[name]


def build(
  run: sections.Run, *, programs: programs_lib.Programs | None = None
) -> Parts:
  """Builds and checks all parts; nothing is trained and nothing written.

  Args:
    run: the checked config.
    programs: what is compiled already, of other runs in this process.

  Raises:
    UserError: whatever a config can have wrong.
  """
  if run.precision not in PRECISIONS:
    raise errors.UserError(
      f"config.precision={run.precision!r}:"
      f" {errors.nearest(run.precision, PRECISIONS)}"
    )
  precision, dtype = PRECISIONS[run.precision]
  if run.mesh.strategy not in ("jit", "pmap"):
    raise errors.UserError(
      f"config.mesh.strategy={run.mesh.strategy!r}:"
      f" {errors.nearest(run.mesh.strategy, ('jit', 'pmap'))}"
    )
  placement = program_lib.Placement(
    run.mesh.strategy,
    mesh_lib.make_mesh(data=run.mesh.data, fsdp=run.mesh.fsdp),
    run.mesh.rules,
  )
  mesh_lib.check_batch(
    run.data.eval_batch_size,
    placement.devices,
    key="config.data.eval_batch_size",
  )
  source = checks.build(
    run.data.source,
    "config.data.source",
    needs=("splits", "classes", "read", "labels"),
  )
  parts = checks.call(
    "config.data", splits_lib.carve, source, run.data.validation, run.data.seed
  )
  task = checks.build(
    run.task, "config.task", needs=("fields", "scores", "check", "metrics")
  )
  views = {
    name: checks.build(view, f"config.data.views.{name}", needs=("__call__",))
    for name, view in run.data.views.items()
  }
  modules = {
    name: _module(spec, dtype, f"config.models.{name}")
    for name, spec in run.models.items()
  }
  among = structure.Surroundings(
    run,
    source,
    parts,
    task,
    views,
    modules,
    placement,
    programs_lib.Programs() if programs is None else programs,
  )
  built: dict[str, stage_lib.Stage] = {}
  with jax.default_matmul_precision(precision):
    for name in run.order:
      built[name] = stage_lib.build(name, among, built)
  return Parts(
    run,
    source,
    parts,
    task,
    views,
    modules,
    placement,
    precision,
    built,
    among.programs,
  )


def _module(spec: Any, dtype: Any, key: str) -> nn.Module:
  module = checks.build(spec, key)
  if not isinstance(module, nn.Module):
    raise errors.UserError(
      f"{key}: {specs.qualified_name(spec[specs.CALL])} is not a Linen module"
    )
  if dtype is None:
    return module
  if not hasattr(module, "dtype"):
    raise errors.UserError(
      f"config.precision: {key} has no field `dtype`; add one, or use float32"
    )
  return module.clone(dtype=dtype)
