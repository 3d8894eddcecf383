"""What the outputs of a cache are, and whether they are those a run asks for.

The header is written before the first output and is all that a run knows of
them: it is compared with the run before any training.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import json
import math
from typing import Any

from etils import epath
import numpy as np

from tsjax.core import errors
from tsjax.data import cache_keys, cache_shards

FORMAT = 1
FILE = "header.json"
# A kill costs at most a hundredth of the work or a few batches, and never more
# than one file of this size. No more files than a process may map.
_SHARDS, _FEW, _SHARD_BYTES, _MOST_SHARDS = 100, 8, 2**26, 256


@dataclasses.dataclass(frozen=True)
class Header:
  """What the outputs of a cache are.

  Attributes:
    kind: "logits", or "top_k" at one temperature.
    dtype: in which logits or log-probabilities are stored.
    shape: of one example's logits, the classes last; () of one number.
    top_k: how many classes are kept; None keeps all.
    temperature: T of the top-k log-probabilities; None of logits.
    examples: rows of the cache.
    fields: what keys are made of: `{"image": "float32[8, 8, 1]"}`.
    view: the name of the view that the teacher saw.
    view_spec: how the config writes that view.
    augmentation: `{"seed": S, "epochs": E}` of the view's random draws; None
      where nothing was drawn.
    teacher: model, stage, run, seed and checksum, or the file it came from.
    computed: with what precision, batch size, devices and versions.
    shard_examples: rows of every shard but the last.
  """

  kind: str
  dtype: str
  shape: tuple[int, ...]
  top_k: int | None
  temperature: float | None
  examples: int
  fields: Mapping[str, str]
  view: str
  view_spec: Any
  augmentation: Mapping[str, int] | None
  teacher: Mapping[str, Any]
  computed: Mapping[str, Any]
  shard_examples: int

  @property
  def epochs(self) -> int:
    """How many epochs' draws there are; 0 where nothing was drawn."""
    return self.augmentation["epochs"] if self.augmentation else 0

  @property
  def classes(self) -> int:
    """How many logits there are at a place; 1 where an output is a number."""
    return self.shape[-1] if self.shape else 1

  @property
  def shards(self) -> int:
    """Number of files."""
    return math.ceil(self.examples / self.shard_examples)

  def rows(self, shard: int) -> range:
    """Rows of the cache that stand in a shard."""
    start = shard * self.shard_examples
    return range(start, min(start + self.shard_examples, self.examples))

  def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape of one example) of the outputs as stored."""
    epochs = (self.epochs,) if self.epochs else ()
    if self.kind == "logits":
      return {"logits": (self.dtype, (*epochs, *self.shape))}
    positions = (*epochs, *self.shape[:-1])
    return {
      "log_probabilities": (self.dtype, (*positions, self.top_k)),
      "indices": ("int32", (*positions, self.top_k)),
      "log_sum_exp": ("float32", positions),
    }

  def stored(self, shard: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of the arrays of a shard."""
    count = len(self.rows(shard))
    return {
      "key": ("uint8", (count, cache_keys.BYTES)),
      **{k: (d, (count, *s)) for k, (d, s) in self.arrays().items()},
    }

  def as_json(self) -> dict[str, Any]:
    """The header as header.json holds it."""
    value = {"format": FORMAT, **dataclasses.asdict(self)}
    # Through JSON and back: tuples are lists there.
    return json.loads(json.dumps(value))


def from_json(value: Mapping[str, Any]) -> Header:
  """The inverse of `Header.as_json`."""
  known = {f.name: value[f.name] for f in dataclasses.fields(Header)}
  return Header(**{**known, "shape": tuple(value["shape"])})


def shard_examples(header: Header, batch_size: int) -> int:
  """Rows of a shard: whole batches of `batch_size`."""
  example = cache_keys.BYTES + sum(
    math.prod(shape) * np.dtype(dtype).itemsize
    for dtype, shape in header.arrays().values()
  )
  batches = math.ceil(header.examples / batch_size)
  small = min(
    max(math.ceil(batches / _SHARDS), _FEW),
    _SHARD_BYTES // (example * batch_size),
  )
  return max(small, math.ceil(batches / _MOST_SHARDS), 1) * batch_size


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a run is, as far as a cache must agree with it.

  Attributes:
    key: the config key that names the cache, for errors:
      "config.stages.student.cached.large".
    view: the name of the view that the stage's teachers see.
    view_spec: how the config writes it, as `config.loading.as_json`.
    random: whether the view draws anything.
    seed: of the run, and so of the draws.
    epochs: how many epochs the stage begins.
    classes: of the run's outputs; None where that is no number.
    temperatures: term -> temperature of the terms that read the cache; None of
      one that changes.
    teachers: stage -> checksum of what this run trained, of those that ended.
  """

  key: str
  view: str
  view_spec: Any
  random: bool
  seed: int
  epochs: int
  classes: int | None = None
  temperatures: Mapping[str, float | None] = dataclasses.field(
    default_factory=dict
  )
  teachers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def check(header: Header, facts: Facts, where: str) -> None:
  """Refuses a cache whose outputs are not the ones that the run asks for.

  Args:
    header: of the cache.
    facts: of the run.
    where: the cache's folder.

  Raises:
    UserError: one sentence with the cache's value, the run's and the remedy.
  """
  told = f"{facts.key}={where}"
  if facts.classes is not None and facts.classes != header.classes:
    raise errors.UserError(
      f"{told}: holds outputs of {header.classes} classes, and this run has"
      f" {facts.classes}; take a teacher of the same classes"
    )
  _check_view(header, facts, told)
  if header.kind == "top_k":
    for term, temperature in facts.temperatures.items():
      if temperature is None:
        raise errors.UserError(
          f"{told}: holds the top {header.top_k} at temperature"
          f" {header.temperature:g}, and that of term {term!r} changes; make it"
          " a number, or write a cache without --top-k"
        )
      if temperature != header.temperature:
        raise errors.UserError(
          f"{told}: holds the top {header.top_k} at temperature"
          f" {header.temperature:g}, and that of term {term!r} is"
          f" {temperature:g}; set it to {header.temperature:g}, or write the"
          f" cache with --temperature={temperature:g}"
        )
  stage = header.teacher.get("stage", "")
  now, was = facts.teachers.get(stage), header.teacher.get("checksum")
  if now is not None and now != was:
    raise errors.UserError(
      f"{told}: holds outputs of stage {stage!r} of run"
      f" {header.teacher.get('run')!r} with checksum {was}, and that of this"
      f" run with seed {facts.seed} has {now}; write the cache from this run,"
      " or take the stage out of config.order"
    )


def _check_view(header: Header, facts: Facts, told: str) -> None:
  for key, was, now in differences(header.view_spec, facts.view_spec, "view"):
    raise errors.UserError(
      f"{told}: holds outputs of view {header.view!r} with {key}={was!r}, and"
      f" the teachers of this run see {facts.view!r} with {now!r}; set the"
      " stage's teacher_view to the view of the cache, or write it with"
      f" --view={facts.view}"
    )
  if header.augmentation is None:
    if facts.random:
      raise errors.UserError(
        f"{told}: holds outputs of view {header.view!r} without its random"
        f" draws, and the teachers of this run see {facts.view!r} with them:"
        " set the stage's teacher_view to that view held still"
        " (tsjax.data.still), or write the cache with"
        f" --epochs={facts.epochs} --seed={facts.seed}"
      )
    return
  anew = f"write it with --epochs={facts.epochs} --seed={facts.seed}"
  if header.view != facts.view:
    raise errors.UserError(
      f"{told}: holds outputs of the draws of view {header.view!r}, and the"
      f" teachers of this run see other draws, those of {facts.view!r}; set the"
      f" stage's teacher_view, or {anew} --view={facts.view}"
    )
  if header.augmentation["seed"] != facts.seed:
    raise errors.UserError(
      f"{told}: holds outputs of the draws of seed"
      f" {header.augmentation['seed']}, and this run draws with seed"
      f" {facts.seed}; {anew}, one cache for each seed"
    )
  if header.epochs < facts.epochs:
    raise errors.UserError(
      f"{told}: holds outputs of the draws of {header.epochs} epochs, and the"
      f" stage begins {facts.epochs}; train for less, or {anew}"
    )


def text(value: Mapping[str, Any]) -> bytes:
  """The bytes of a JSON file."""
  return (json.dumps(value, indent=1) + "\n").encode()


def digest(value: Mapping[str, Any]) -> str:
  """The digest of a JSON file's bytes."""
  return cache_shards.digest(text(value))


def read(path: epath.Path) -> dict[str, Any]:
  """The object of a JSON file.

  Raises:
    Damaged: it is none.
  """
  try:
    value = json.loads(path.read_bytes())
  except (OSError, ValueError) as e:
    raise cache_shards.Damaged(path, " ".join(str(e).split())) from e
  if not isinstance(value, dict):
    raise cache_shards.Damaged(path, "it holds no object")
  return value


def differences(was: Any, now: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
  """Yields (key, was, now) of what differs between two values of JSON."""
  if isinstance(was, dict) and isinstance(now, dict):
    for name in sorted(was.keys() | now.keys()):
      yield from differences(was.get(name), now.get(name), f"{key}.{name}")
  elif was != now:
    yield key, was, now
