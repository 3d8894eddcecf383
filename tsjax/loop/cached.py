"""Cached teachers of a stage: opened, and compared with the run."""

from collections.abc import Callable, Mapping
import json
import math
from typing import Any

from etils import epath
import jax
import numpy as np

from tsjax.checkpoint import store
from tsjax.config import loading, sections, specs, stages
from tsjax.core import errors
from tsjax.data import cache, cache_header, cache_shards, still
from tsjax.data import splits as splits_lib
from tsjax.distill import teachers
from tsjax.objectives import top_k

# Examples on which a view must show that it draws something.
_PROBES = 64


def open_all(
  config: sections.Stage, key: str, seed: int
) -> dict[str, cache.Cache]:
  """Opens a stage's caches by the teachers' names.

  Args:
    config: the stage's section.
    key: of the stage: "config.stages.student".
    seed: of the run; "{seed}" in the name of a folder stands for it.

  Raises:
    UserError: there is no cache, or it is unfinished or damaged.
  """
  found = {}
  for name, folder in config.cached.items():
    try:
      found[name] = cache.open(
        epath.Path(folder.replace("{seed}", str(seed))).expanduser()
      )
    except errors.UserError as e:
      raise errors.UserError(f"{key}.cached.{name}: {e}") from e
  return found


def teacher(name: str, opened: cache.Cache) -> teachers.Cached:
  """The teacher whose outputs lie in the batches of a `cache.Joined`."""
  build = top_k.from_fields if opened.header.kind == "top_k" else None
  return teachers.Cached(name, opened.header.epochs, build)


def check(
  caches: Mapping[str, cache.Cache],
  config: sections.Stage,
  among: Any,
  *,
  steps: int,
  split: splits_lib.Split,
  key: str,
  seed: int,
  trained: Mapping[str, str] | None = None,
) -> None:
  """Refuses caches that do not hold what a stage asks for.

  Args:
    caches: from `open_all`.
    config: the stage's section.
    among: the run's parts: `run`, `source` and `views`.
    steps: of the stage.
    split: its training examples.
    key: of the stage.
    seed: of the run.
    trained: earlier stage -> `checksum` of its variables with this seed, of
      those that have ended.

  Raises:
    UserError: one sentence with the cache's value, the run's and the remedy.
  """
  run, view = among.run, config.teacher_view or config.view
  if not caches:
    return
  random = draws(among.views[view], split)
  for name, opened in caches.items():
    opened.check(
      cache_header.Facts(
        key=f"{key}.cached.{name}",
        view=view,
        view_spec=still.within(loading.as_json(run.data.views[view])),
        random=random,
        seed=seed,
        epochs=math.ceil(steps * run.data.batch_size / split.size),
        classes=len(among.source.classes) or None,
        temperatures=_temperatures(config, name),
        teachers=trained or {},
      )
    )


def stages_of(caches: Mapping[str, cache.Cache]) -> set[str]:
  """The stages whose outputs some caches hold, by their judged names."""
  told = (opened.header.teacher.get("stage") for opened in caches.values())
  return {stage for stage in told if stage}


def check_examples(
  caches: Mapping[str, cache.Cache], split: splits_lib.Split, key: str
) -> None:
  """Refuses caches that lack examples of a stage; see `Cache.check_examples`.

  Raises:
    UserError: names the first example that is missing.
  """
  for name, opened in caches.items():
    opened.check_examples(split, f"{key}.cached.{name}")


def notes(caches: Mapping[str, cache.Cache], among: Any) -> list[str]:
  """A line for each cache whose bits may not be those of the live teacher."""
  lines = []
  for name, opened in caches.items():
    was, now = opened.header.computed, computed(among)
    unlike = [
      f"{key} {was[key]}, here {now[key]}"
      for key in sorted(was.keys() & now.keys())
      if was[key] != now[key]
    ]
    if unlike:
      lines.append(
        f"cached teacher {name}: computed with {'; '.join(unlike)}: its outputs"
        " may differ in the last bits from a live teacher's"
      )
  return lines


def computed(among: Any) -> dict[str, Any]:
  """What the last bits of a model's outputs depend on, in this process."""
  run, placement = among.run, among.placement
  return {
    "precision": run.precision,
    "batch_size": run.data.batch_size,
    "devices": placement.devices,
    "platform": placement.mesh.devices.flat[0].platform,
    "jax": jax.__version__,
  }


def checksum(variables: Any) -> str:
  """One checksum of all variables of a model."""
  text = json.dumps(store.checksums(variables), sort_keys=True)
  return cache_shards.digest(text.encode())


def draws(view: Callable[..., Any], split: splits_lib.Split) -> bool:
  """Whether a view draws anything, tried on some examples of a split."""
  count = min(split.size, _PROBES)
  batch = {
    name: x
    for name, x in split.read(np.arange(count)).items()
    if x.dtype.kind in "biuf"
  }

  @jax.jit
  def see(batch: Mapping[str, Any]) -> tuple[Any, Any]:
    keys = jax.random.split(jax.random.key(0), count)
    return jax.vmap(view)(batch, keys), jax.vmap(lambda x: view(x, None))(batch)

  drawn, plain = jax.device_get(see(batch))
  return any(
    not np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(drawn), jax.tree.leaves(plain), strict=True)
  )


def _temperatures(config: sections.Stage, name: str) -> dict[str, float | None]:
  """Temperatures of the terms that read a teacher; None where they change."""
  only = stages.teachers(config) == (name,)
  found: dict[str, float | None] = {}
  for label, term in config.objective.items():
    takes = specs.parameters(specs.called(term.loss))
    reads = term.teacher == name or (only and not term.teacher)
    if reads and {"teacher", "temperature"} <= takes.keys():
      fixed = isinstance(term.temperature, int | float)
      found[label] = float(term.temperature) if fixed else None
  return found
