"""How a student is born from a teacher: a map over the tree, and an account.

A start is a function `start(variables, stages, key) -> (variables, account)`
that a stage's config names: `start=spec(transfer.from_stage, stage="teacher")`.
"""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsjax.core import errors, trees
from tsjax.distill import interpolate

__all__ = ["from_stage"]


@dataclasses.dataclass(frozen=True)
class Leaf:
  """What became of one leaf of the student."""

  path: str
  source: str  # the teacher's leaf; "" where there is none
  kind: str  # exact, sliced, unlike, missing
  parameters: int
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Account:
  """What was transferred, in numbers of the student's parameters.

  exact: the teacher's leaf as it is. sliced: its leading units along some
  axes. unlike: sliced, but the leaf means something else (another kernel size,
  or inputs grouped differently). missing: left at the student's own
  initialisation.
  """

  leaves: tuple[Leaf, ...]

  def total(self, kind: str) -> int:
    """Parameters of the leaves of one kind."""
    return sum(leaf.parameters for leaf in self.leaves if leaf.kind == kind)

  def as_json(self) -> dict[str, Any]:
    """For results.json."""
    kinds = ("exact", "sliced", "unlike", "missing")
    return {
      **{kind: self.total(kind) for kind in kinds},
      "parameters": sum(leaf.parameters for leaf in self.leaves),
      "leaves": [dataclasses.asdict(leaf) for leaf in self.leaves],
    }

  def line(self) -> str:
    """The account in one line."""
    whole = max(sum(leaf.parameters for leaf in self.leaves), 1)
    parts = (
      f"{self.total(kind) / whole:.0%} {kind}"
      for kind in ("exact", "sliced", "unlike", "missing")
    )
    return f"transferred of {whole:,} values: {', '.join(parts)}"


def from_stage(
  variables: Mapping[str, Any],
  stages: Mapping[str, Any],
  *,
  stage: str = "teacher",
  rename: Mapping[str, str] | None = None,
  only: str = ".*",
  unlike: str = "",
  take_unlike: bool = True,
  alpha: float = 0.0,
) -> tuple[dict[str, Any], Account]:
  """Starts from the model that an earlier stage ended with.

  Every leaf of the student (parameters and statistics) looks for the teacher's
  leaf of the same path, or of the path that `rename` gives. What is larger in
  the teacher is sliced to its leading units; what is smaller, or has another
  number of axes, is left as it was. Then, over the leaves that were found,
  `theta <- theta_T + alpha * (theta_T - theta_S)`.

  Args:
    variables: the student's own initialisation.
    stages: variables by earlier stage.
    stage: the stage to start from.
    rename: student's pattern -> teacher's template, as in `re.sub`, over whole
      paths; the first that matches wins. It picks layers too:
      `{"params/layer_(0)/(.*)": r"params/layer_5/\\2"}`.
    only: pattern of the student's paths that may be transferred.
    unlike: pattern of the student's paths whose leaves mean something else in
      the teacher although they can be sliced: the kernel of a grouped
      convolution, whose inputs are other channels. A kernel of another window
      is unlike without being named.
    take_unlike: whether unlike leaves are sliced too, or left.
    alpha: 0 takes the teacher's values, -1 keeps the student's.

  Returns:
    The variables, and the account of every leaf.

  Raises:
    UserError: no such stage, a pattern that is none, or nothing at all was
      transferred.
  """
  if stage not in stages:
    raise errors.UserError(
      f"start.stage={stage!r} is no earlier stage:"
      f" {errors.nearest(stage, stages)}"
    )
  ours, theirs = trees.flatten(variables), trees.flatten(stages[stage])
  result, leaves = {}, []
  for path, own in ours.items():
    source = _source(path, rename or {})
    found = theirs.get(source) if _match(only, path, "only") else None
    value, kind, note = _fit(own, found)
    if kind == "sliced" and unlike and _match(unlike, path, "unlike"):
      kind = "unlike"
    if kind == "unlike" and not take_unlike:
      value, kind = None, "missing"
    leaves.append(
      Leaf(path, "" if value is None else source, kind, trees.size(own), note)
    )
    result[path] = own
    if value is not None:
      value = jnp.asarray(value, own.dtype)
      # The last name stays in the path: rules for leaves read it.
      name = path.rpartition("/")[2]
      result[path] = interpolate.interpolate({name: own}, {name: value}, alpha)[
        name
      ]
  account = Account(tuple(leaves))
  if all(leaf.kind == "missing" for leaf in leaves):
    raise errors.UserError(
      f"start.stage={stage!r}: no leaf of the student fits one of the"
      " teacher's; see start.rename and start.only"
    )
  return trees.unflatten(result), account


def _source(path: str, rename: Mapping[str, str]) -> str:
  for pattern, template in rename.items():
    match = _match(pattern, path, "rename")
    if match:
      # Not `re.sub`: it finds ".*" once more in the empty rest of the path.
      try:
        return match.expand(template)
      except (re.error, IndexError) as e:
        raise errors.UserError(
          f"start.rename[{pattern!r}]={template!r} is no template: {e}"
        ) from e
  return path


def _match(pattern: str, path: str, key: str) -> re.Match[str] | None:
  try:
    return re.fullmatch(pattern, path)
  except re.error as e:
    raise errors.UserError(
      f"start.{key}: {pattern!r} is not a regular expression: {e}"
    ) from e


def _fit(own: Any, found: Any) -> tuple[Any, str, str]:
  """The teacher's leaf in the student's shape, the kind, and why."""
  if found is None:
    return None, "missing", "the teacher has no such leaf"
  ours, theirs = np.shape(own), np.shape(found)
  shapes = f"{theirs} to {ours}"
  if ours == theirs:
    return found, "exact", ""
  if len(ours) != len(theirs):
    return None, "missing", f"{shapes}: another number of axes"
  is_kernel = len(ours) == 4
  # A larger kernel takes a smaller one in its middle, where it computes the
  # same; every other axis must be as large in the teacher.
  if any(o > t for o, t in list(zip(ours, theirs, strict=True))[-2:]):
    return None, "missing", f"{shapes}: the teacher's is smaller"
  if not is_kernel:
    if any(o > t for o, t in zip(ours, theirs, strict=True)):
      return None, "missing", f"{shapes}: the teacher's is smaller"
    return found[tuple(slice(o) for o in ours)], "sliced", shapes
  found = found[:, :, : ours[2], : ours[3]]
  same_window = ours[:2] == theirs[:2]
  value = _window(jnp.asarray(found), ours)
  return value, "sliced" if same_window else "unlike", shapes


def _window(kernel: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """A kernel's window cut or padded with zeros around its middle."""
  result = jnp.zeros(shape, kernel.dtype)
  target, source = [], []
  for have, want in zip(kernel.shape[:2], shape[:2], strict=True):
    size = min(have, want)
    target.append(slice((want - size) // 2, (want - size) // 2 + size))
    source.append(slice((have - size) // 2, (have - size) // 2 + size))
  return result.at[tuple(target)].set(kernel[tuple(source)])
