"""A stage's own step that tells of every value whether it was finite."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from tsjax.core import taps as taps_lib
from tsjax.core import trees
from tsjax.distill import forward
from tsjax.train import program as program_lib


class Watch:
  """A program whose step is the given one's, and reports what it passes by.

  The models and the teachers are replaced by ones that hand every tap to the
  host, so that nothing of the step is written twice: draws, parts of a batch
  and replicas are its own.

  Args:
    program: the stage's program.

  Attributes:
    program: the same step; slow, and to be used for one step.
  """

  def __init__(self, program: program_lib.Program):
    structure = program.structure
    self._order: dict[str, None] = {}
    self._bad: dict[str, str] = {}
    self.program = program_lib.Program(
      dataclasses.replace(
        structure,
        models={
          name: _Model(self, name, module)
          for name, module in structure.models.items()
        },
        teachers={
          name: _Teacher(self, name, teacher)
          for name, teacher in structure.teachers.items()
        },
      ),
      program.placement,
      program.example,
      program.taught,
    )
    # Its shapes were found in an order of their own.
    self._order.clear()

  def seen(self) -> dict[str, str]:
    """What was not finite since the last call, first things first.

    Returns:
      "nan" or "inf" by what it was: "tap 'hidden' of model 'student'".
    """
    jax.effects_barrier()
    bad, self._bad = self._bad, {}
    return {name: bad[name] for name in self._order if name in bad}

  def look(self, name: str, value: Any) -> None:
    """Reports the leaves of a value when the step runs."""
    self._order.setdefault(name)
    for leaf in jax.tree.leaves(value):
      if jnp.issubdtype(leaf.dtype, jnp.inexact):
        jax.debug.callback(
          functools.partial(self._note, name),
          jnp.isfinite(leaf).all(),
          jnp.isnan(leaf).any(),
        )

  def look_at(
    self, role: str, taps: Any, order: list[str], output: Any
  ) -> None:
    """Reports the taps of a call in the order of the call, and its output."""
    place = {name: i for i, name in enumerate(order)}
    for name in sorted(taps, key=lambda name: place.get(name, len(order))):
      self.look(f"tap {name!r} of {role}", taps[name])
    self.look(f"the output of {role}", output)

  def gradient(self, role: str, params: Any) -> Any:
    """The parameters; what flows back into them is reported."""

    @jax.custom_vjp
    def same(params: Any) -> Any:
      return params

    def back(_: None, gradient: Any) -> tuple[Any]:
      leaves, _ = jax.tree_util.tree_flatten_with_path(gradient)
      for path, leaf in leaves:
        where = f"the gradient of {trees.path_string(path)!r} of {role}"
        self.look(where, leaf)
      return (gradient,)

    same.defvjp(lambda params: (params, None), back)
    return same(params)

  def _note(self, name: str, finite: Any, nan: Any) -> None:
    if not finite:
      self._bad[name] = "nan" if nan or self._bad.get(name) == "nan" else "inf"


class _Model:
  """A Linen module whose calls are reported."""

  def __init__(self, watch: Watch, name: str, module: Any):
    self._watch, self._name, self._module = watch, name, module

  def __getattr__(self, name: str) -> Any:
    return getattr(self._module, name)

  def clone(self, **changed: Any) -> "_Model":
    """The same with fields changed, as `bind_axis` does."""
    return _Model(self._watch, self._name, self._module.clone(**changed))

  def apply(
    self, variables: Any, inputs: Any, *, train: bool, **options: Any
  ) -> Any:
    """The module's `apply`."""
    role = f"model {self._name!r}"
    if train:
      params = self._watch.gradient(role, variables["params"])
      variables = {**variables, "params": params}
    else:
      role = f"the average of {role}"
    self._watch.look(f"the input of {role}", inputs)
    with taps_lib.recorded() as order:
      output, changed = self._module.apply(
        variables, inputs, train=train, **options
      )
    taps = taps_lib.named(changed.get(taps_lib.COLLECTION, {}))
    self._watch.look_at(role, taps, order, output)
    return output, changed


class _Teacher:
  """A teacher whose outputs are reported."""

  def __init__(self, watch: Watch, name: str, teacher: Any):
    self._watch, self._name, self._teacher = watch, name, teacher

  def __getattr__(self, name: str) -> Any:
    return getattr(self._teacher, name)

  def outputs(self, gathered: Any, inputs: Any, batch: Any) -> forward.Outputs:
    """The teacher's `outputs`."""
    role = f"teacher {self._name!r}"
    self._watch.look(f"the input of {role}", inputs)
    with taps_lib.recorded() as order:
      said = self._teacher.outputs(gathered, inputs, batch)
    self._watch.look_at(role, said.taps, order, said.output)
    return said
