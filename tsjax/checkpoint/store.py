"""A stage's checkpoints: state and manifest of one instant.

Orbax writes asynchronously and renames when a checkpoint is whole. It restores
a flipped byte without a word, so the manifest carries a checksum of every leaf
and one of itself; a checkpoint that does not match is passed over, with a line,
for the one before it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import json
import logging
import math
import sys
from typing import Any
import warnings
import zlib

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from tsjax.core import errors, trees

FORMAT = 1


class Damaged(errors.UserError):
  """A checkpoint that is not what was saved."""


class Store:
  """The checkpoints under one folder.

  Args:
    folder: where; made when missing.
    keep: how many of the latest to keep; the best one is kept besides.
    warn: takes a line about a checkpoint that could not be used.

  Raises:
    UserError: the folder cannot be opened.
  """

  def __init__(
    self,
    folder: epath.PathLike,
    *,
    keep: int = 2,
    warn: Callable[[str], None] = print,
  ):
    self._folder = epath.Path(folder)
    self._warn = warn
    self._scores: dict[int, float | None] = {}
    self._passed_over: list[int] = []
    with self._naming("the checkpoints cannot be opened"):
      self._manager = ocp.CheckpointManager(
        self._folder,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=_Preserve(keep, self._best),
          cleanup_tmp_directories=True,
          save_root_metadata=False,
        ),
      )

  def save(
    self,
    state: Any,
    *,
    step: int,
    manifest: Mapping[str, Any],
    score: float | None = None,
  ) -> None:
    """Saves without waiting for the write, which the next save or `wait` does.

    Args:
      state: a tree of arrays.
      step: steps done.
      manifest: JSON, kept with the state.
      score: the validation score of this state, higher is better; one that is
        not finite counts as none.

    Raises:
      UserError: this write, or the one before it, failed.
    """
    # An earlier write that failed must surface before it is relied on.
    self.wait()
    self._delete_passed_over()
    if step in self.steps():
      return
    if score is not None and not math.isfinite(score):
      score = None
    # Which checkpoints go is decided during the save, when none can be read.
    scores = {str(earlier): self._score(earlier) for earlier in self.steps()}
    self._scores[step] = score
    written = {
      **manifest,
      "format": FORMAT,
      "step": step,
      "score": score,
      # Damage must not make another checkpoint the best.
      "scores": scores,
      "shapes": _shapes(state),
      "checksums": checksums(state),
    }
    written["checksum"] = _manifest_checksum(written)
    with self._naming("a checkpoint could not be written"):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          manifest=ocp.args.JsonSave(written),
        ),
        force=True,
      )

  def wait(self) -> None:
    """Waits until everything is written.

    Raises:
      UserError: a write failed (a full disk, say).
    """
    with self._naming("a checkpoint could not be written"):
      self._manager.wait_until_finished()
      self._manager.check_for_errors()

  def steps(self) -> list[int]:
    """Steps of the checkpoints that are there, rising."""
    return sorted(self._manager.all_steps())

  def manifest(self, step: int) -> dict[str, Any]:
    """The manifest of one checkpoint, verified.

    Raises:
      UserError: another version's.
      Damaged: it cannot be read, or is not what was written.
    """
    with self._reading(step):
      manifest = self._manager.restore(
        step, args=ocp.args.Composite(manifest=ocp.args.JsonRestore())
      )["manifest"]
      checksum = manifest.pop("checksum", None)
    if checksum != _manifest_checksum(manifest) or manifest["step"] != step:
      raise Damaged(f"{self._where(step)}: the manifest is damaged")
    if manifest["format"] != FORMAT:
      raise errors.UserError(
        f"{self._where(step)}: format {manifest['format']}, and this version"
        f" reads {FORMAT}; go on with the version that wrote it"
      )
    return manifest

  def restore(
    self, step: int, abstract: Any, shardings: Any
  ) -> tuple[Any, dict[str, Any]]:
    """State and manifest of one checkpoint, verified.

    Args:
      step: which.
      abstract: the state's shapes and dtypes.
      shardings: where its leaves shall live.

    Raises:
      UserError: it is another state's, or another version's.
      Damaged: it cannot be read, or is not what was saved.
    """
    manifest = self.manifest(step)
    here, there = _shapes(abstract), manifest["shapes"]
    for path in sorted(here.keys() | there.keys()):
      if here.get(path) != there.get(path):
        raise errors.UserError(
          f"{self._where(step)}: leaf {path!r} is"
          f" {there.get(path, 'missing')} there and"
          f" {here.get(path, 'missing')} in this run; restore the code that"
          " wrote it, or use another folder"
        )
    wanted = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      abstract,
      shardings,
    )
    with self._reading(step):
      state = self._manager.restore(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)),
      )["state"]
    found = checksums(state)
    for path, value in manifest["checksums"].items():
      if found.get(path) != value:
        raise Damaged(f"{self._where(step)}: leaf {path!r} is damaged")
    return state, manifest

  def latest(
    self, abstract: Any, shardings: Any
  ) -> tuple[Any, dict[str, Any]] | None:
    """The latest checkpoint that is whole, or None where there is none.

    Damaged ones after it are deleted once the next save takes their place.

    Raises:
      UserError: it is another state's, or another version's.
    """
    for step in reversed(self.steps()):
      try:
        return self.restore(step, abstract, shardings)
      except Damaged as e:
        self._warn(f"passed over a checkpoint: {e}")
        self._passed_over.append(step)
    return None

  def drop_from(self, step: int) -> None:
    """Deletes the checkpoints of `step` and after, to go on before it."""
    self.wait()
    self._passed_over += [s for s in self.steps() if s >= step]
    self._delete_passed_over()

  def best(self) -> int | None:
    """The step with the highest score; the earliest of equals."""
    return self._best(self.steps())

  def close(self) -> None:
    """Waits, and releases the writer's threads."""
    with self._naming("a checkpoint could not be written"):
      self._manager.close()

  def _best(self, steps: Sequence[int]) -> int | None:
    scored = [(self._score(step), -step) for step in steps]
    scored = [x for x in scored if x[0] is not None]
    return -max(scored)[1] if scored else None

  def _score(self, step: int) -> float | None:
    """A checkpoint's score; Orbax forgets it when a run starts again."""
    if step not in self._scores:
      try:
        self._scores[step] = self.manifest(step)["score"]
      except Damaged as e:
        self._scores[step] = self._remembered(step)
        if self._scores[step] is None:
          self._warn(f"a checkpoint cannot be the best: {e}")
    return self._scores[step]

  def _remembered(self, step: int) -> float | None:
    """A damaged checkpoint's score, as a later one knew it."""
    for later in self.steps():
      if later > step:
        with contextlib.suppress(Damaged):
          return self.manifest(later).get("scores", {}).get(str(step))
    return None

  def _delete_passed_over(self) -> None:
    # Left there, they would stand in the way of saves up to their steps, and
    # count as the latest.
    with self._naming("a damaged checkpoint could not be deleted"):
      for step in self._passed_over:
        self._manager.delete(step)
        self._scores.pop(step, None)
      if self._passed_over:
        self._manager.reload()
    self._passed_over = []

  def _where(self, step: int) -> str:
    return f"{self._folder}/{step}"

  @contextlib.contextmanager
  def _naming(self, what: str) -> Iterator[None]:
    """Tells a failure in one line; Orbax and its threads raise many kinds."""
    try:
      yield
    except Exception as e:
      reason = _one_line(e)
      remedy = ""
      if "No space left" in reason or "quota" in reason.lower():
        remedy = (
          "; make room and start again with the same command, which goes on"
          " from the last checkpoint"
        )
      raise errors.UserError(
        f"{self._folder}: {what} ({reason}){remedy}"
      ) from e

  @contextlib.contextmanager
  def _reading(self, step: int) -> Iterator[None]:
    _hush()
    try:
      yield
    except Exception as e:
      raise Damaged(
        f"{self._where(step)}: cannot be read ({_one_line(e)})"
      ) from e


@functools.cache
def _hush() -> None:
  """Keeps the reads beside one that fails from printing their tracebacks.

  Orbax leaves them running; they end later, with nobody to tell.
  """
  before = sys.unraisablehook

  def hook(what: Any) -> None:
    code = getattr(what.object, "cr_code", None)
    of_orbax = code is not None and "orbax" in code.co_filename
    if not of_orbax and str(what.exc_value) != "Event loop is closed":
      before(what)

  sys.unraisablehook = hook
  warnings.filterwarnings(
    "ignore", message="coroutine '(_read_array|Store._get_array)"
  )
  # The message quotes TensorStore, which names its driver.
  logging.getLogger("asyncio").addFilter(
    lambda record: '"zarr" driver' not in record.getMessage()
  )


@dataclasses.dataclass(frozen=True)
class _Preserve:
  """Orbax's preservation policy: the latest checkpoints, and the best."""

  latest: int
  best: Callable[[Sequence[int]], int | None]

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    """Which of the checkpoints stay."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = {*sorted(steps)[-self.latest :], self.best(steps)}
    return [step in kept for step in steps]


def checksums(state: Any) -> dict[str, str]:
  """CRC-32 of every leaf's dtype, shape and bytes."""

  def checksum(leaf: Any) -> str:
    value = np.ascontiguousarray(leaf)
    # Seen as bytes, whatever the dtype: bfloat16 has no buffer of its own.
    crc = zlib.crc32(_shape(leaf).encode())
    return f"{zlib.crc32(value.reshape(-1).view(np.uint8), crc):08x}"

  return {path: checksum(leaf) for path, leaf in _leaves(state)}


def _manifest_checksum(manifest: Mapping[str, Any]) -> str:
  return f"{zlib.crc32(json.dumps(manifest, sort_keys=True).encode()):08x}"


def _shapes(state: Any) -> dict[str, str]:
  return {path: _shape(leaf) for path, leaf in _leaves(state)}


def _shape(leaf: Any) -> str:
  """A leaf's dtype and shape: "float32[3, 3]"."""
  return f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"


def _leaves(state: Any) -> list[tuple[str, Any]]:
  pairs, _ = jax.tree_util.tree_flatten_with_path(state)
  return [(trees.path_string(path), leaf) for path, leaf in pairs]


def _one_line(error: BaseException) -> str:
  reason = " ".join(str(error).split())
  if len(reason) > 240:
    # TensorStore begins with what it did and ends with what went wrong.
    reason = f"{reason[:80]} ... {reason[-150:]}"
  return f"{type(error).__name__}: {reason}"
