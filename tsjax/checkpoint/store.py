"""A stage's checkpoints: state and manifest of one instant.

Orbax writes asynchronously and renames when a checkpoint is whole. It restores
a flipped byte without a word, so the manifest carries a checksum of every leaf;
a checkpoint that does not match is passed over, with a line, for the one before
it.
"""

from collections.abc import Callable, Mapping
from typing import Any
import zlib

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from tsjax.core import errors, trees

FORMAT = 1


class Store:
  """The checkpoints under one folder.

  Args:
    folder: where; made when missing.
    keep: how many of the latest to keep; the best one is kept besides.
    warn: takes a line about a checkpoint that could not be used.
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
    policy = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(keep),
        checkpoint_managers.BestN(
          get_metric_fn=lambda metrics: metrics["score"],
          n=1,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy,
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
      score: the validation score of this state, higher is better.
    """
    # An earlier write that failed must surface before it is relied on.
    self.wait()
    if step in self._manager.all_steps():
      return
    written = {
      **manifest,
      "format": FORMAT,
      "step": step,
      "score": score,
      "checksums": checksums(state),
    }
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        manifest=ocp.args.JsonSave(written),
      ),
      metrics=None if score is None else {"score": score},
    )

  def wait(self) -> None:
    """Waits until everything is written.

    Raises:
      UserError: a write failed (a full disk, say).
    """
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    except OSError as e:
      raise errors.UserError(
        f"{self._folder}: a checkpoint could not be written: {e}"
      ) from e

  def steps(self) -> list[int]:
    """Steps of the checkpoints that are there, rising."""
    return sorted(self._manager.all_steps())

  def manifest(self, step: int) -> dict[str, Any]:
    """The manifest of one checkpoint."""
    return self._manager.restore(
      step, args=ocp.args.Composite(manifest=ocp.args.JsonRestore())
    )["manifest"]

  def restore(
    self, step: int, abstract: Any, shardings: Any
  ) -> tuple[Any, dict[str, Any]]:
    """State and manifest of one checkpoint, verified.

    Args:
      step: which.
      abstract: the state's shapes and dtypes.
      shardings: where its leaves shall live.

    Raises:
      UserError: it is damaged, or it is another state's.
    """
    wanted = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      abstract,
      shardings,
    )
    where = f"{self._folder}/{step}"
    try:
      manifest = self.manifest(step)
      state = self._manager.restore(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)),
      )["state"]
    except Exception as e:  # Orbax raises many kinds over a damaged file.
      reason = " ".join(str(e).split())[:160]
      raise errors.UserError(
        f"{where}: cannot be read ({type(e).__name__}: {reason})"
      ) from e
    if manifest.get("format") != FORMAT:
      raise errors.UserError(
        f"{where}: format {manifest.get('format')}, and this version reads"
        f" {FORMAT}"
      )
    found = checksums(state)
    for path, value in manifest["checksums"].items():
      if found.get(path) != value:
        raise errors.UserError(f"{where}: leaf {path!r} is damaged")
    return state, manifest

  def latest(
    self, abstract: Any, shardings: Any
  ) -> tuple[Any, dict[str, Any]] | None:
    """The latest checkpoint that is whole, or None where there is none."""
    for step in reversed(self.steps()):
      try:
        return self.restore(step, abstract, shardings)
      except errors.UserError as e:
        self._warn(f"passed over a checkpoint: {e}")
    return None

  def best(self) -> int | None:
    """The step with the highest score; the earliest of equals."""
    scored = [(self.manifest(s)["score"], -s) for s in self.steps()]
    scored = [x for x in scored if x[0] is not None]
    return -max(scored)[1] if scored else None

  def close(self) -> None:
    """Waits, and releases the writer's threads."""
    self.wait()
    self._manager.close()


def checksums(state: Any) -> dict[str, str]:
  """CRC-32 of every leaf's dtype, shape and bytes."""
  pairs, _ = jax.tree_util.tree_flatten_with_path(state)
  result = {}
  for path, leaf in pairs:
    value = np.asarray(leaf)
    head = f"{value.dtype}{value.shape}".encode()
    crc = (
      zlib.crc32(np.ascontiguousarray(value).data.cast("B"), zlib.crc32(head))
      if value.size and value.dtype.kind != "V"
      else zlib.crc32(value.tobytes(), zlib.crc32(head))
    )
    result[trees.path_string(path)] = f"{crc:08x}"
  return result
