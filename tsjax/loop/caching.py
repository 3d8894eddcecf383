"""Computes what a finished stage's model says of a split, and writes it down.

The outputs are those that the model gives as a live teacher, to the bit: the
same view, batch size, devices and precision. What a row of a batch comes to
does not depend on its place or its neighbours.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from tsjax.config import loading, specs
from tsjax.core import errors
from tsjax.data import (
  cache,
  cache_header,
  cache_keys,
  cache_writer,
  pipeline,
  still,
)
from tsjax.data import splits as splits_lib
from tsjax.distill import forward
from tsjax.loop import cache_account, cached
from tsjax.objectives import top_k as top_k_lib
from tsjax.report import progress as progress_lib
from tsjax.sharding import mesh as mesh_lib
from tsjax.train import step as step_lib

DTYPES = ("float32", "float16")


def write(
  experiment: Any,
  stage: str,
  out: epath.PathLike,
  *,
  seed: int | None = None,
  teacher_seed: int | None = None,
  dtype: str = "float32",
  top_k: int = 0,
  temperature: float | None = None,
  view: str = "",
  epochs: int = 0,
  split: str = "train",
  shard_examples: int | None = None,
) -> cache.Cache:
  """Writes the outputs of a stage's model for every example of a split.

  Started again after a kill it goes on, and ends in the same bytes.

  Args:
    experiment: in the folder of a run that has trained the stage.
    stage: a name of `experiment.parts.judged`.
    out: the cache's folder.
    seed: of the view's draws; None is the run's first.
    teacher_seed: with which the model was trained; None is `seed`, where the
      run has it, else the run's first.
    dtype: in which logits or log-probabilities are stored, of `DTYPES`.
    top_k: how many classes are kept; 0 keeps all logits.
    temperature: T of the top-k log-probabilities; with `top_k` only.
    view: what the model sees; "" is the stage's own.
    epochs: how many epochs' draws of the view; 0 draws nothing.
    split: of `experiment.parts.splits`.
    shard_examples: rows of a file, whole batches; None chooses.

  Returns:
    The cache, open.

  Raises:
    UserError: an option that does not fit, a stage that has not ended, an
      output that is not finite or does not fit the dtype, a full disk.
  """
  parts, run = experiment.parts, experiment.run
  if jax.process_count() > 1:
    raise errors.UserError(
      f"tsjax cache runs in one process, and this job has"
      f" {jax.process_count()}; start it on one host"
    )
  experiment.check_folder()
  chosen = checked_split(parts, split)
  if stage not in parts.judged:
    raise errors.UserError(
      f"--stage={stage!r}: {errors.nearest(stage, parts.judged)}"
    )
  view = checked_view(parts, view or parts.stage(stage).config.view)
  check_options(dtype, top_k, temperature)
  seed = run.seeds[0] if seed is None else seed
  if teacher_seed is None:
    teacher_seed = seed if seed in run.seeds else run.seeds[0]
  _check_draws(parts, chosen, view, epochs, seed)
  variables = experiment.variables(stage, teacher_seed)
  one = chosen.read(np.zeros(run.data.batch_size, np.int64))
  logits = _make_predict(parts, stage, view, 0, None, False)
  shape = jax.eval_shape(logits, variables, _numbers(one), np.uint32(0))[
    "logits"
  ].shape[1:]
  classes = shape[-1] if shape else 1
  if top_k > classes:
    raise errors.UserError(
      f"--top-k={top_k}: stage {stage!r} has {classes} classes; take fewer, or"
      " leave it out for all logits"
    )
  header = cache_header.Header(
    kind="top_k" if top_k else "logits",
    dtype=dtype,
    shape=shape,
    top_k=top_k or None,
    temperature=None if temperature is None else float(temperature),
    examples=chosen.size,
    fields=cache_keys.schema(cache_keys.key_fields(one)),
    view=view,
    view_spec=still.within(loading.as_json(run.data.views[view])),
    augmentation={"seed": seed, "epochs": epochs} if epochs else None,
    teacher={
      "model": specs.qualified_name(run.models[parts.model(stage)][specs.CALL]),
      "run": run.name,
      "stage": stage,
      "seed": teacher_seed,
      "checksum": cached.checksum(variables),
    },
    computed=cached.computed(parts),
    shard_examples=0,
  )
  rows = shard_examples or cache_header.shard_examples(
    header, run.data.batch_size
  )
  header = dataclasses.replace(header, shard_examples=rows)
  writer = cache_writer.Writer(out, header)
  predict = _make_predict(parts, stage, view, top_k, temperature, epochs > 0)
  with jax.default_matmul_precision(parts.matmul_precision):
    _compute(
      writer,
      chosen,
      lambda batch: predict(variables, batch, np.uint32(seed)),
      run.data.batch_size,
      stage,
    )
  return cache.open(writer.folder)


def checked_split(parts: Any, name: str) -> splits_lib.Split:
  """A split of the run by its name.

  Raises:
    UserError: there is none of this name.
  """
  if name not in parts.splits:
    raise errors.UserError(
      f"--split={name!r}: {errors.nearest(name, parts.splits)}"
    )
  return parts.splits[name]


def checked_view(parts: Any, name: str) -> str:
  """The name of a view of the run.

  Raises:
    UserError: there is none of this name.
  """
  if name not in parts.views:
    raise errors.UserError(
      f"--view={name!r}: {errors.nearest(name, parts.views)}"
    )
  return name


def check_options(dtype: str, top_k: int, temperature: float | None) -> None:
  """Refuses options of a cache's values that do not fit together.

  Raises:
    UserError: names the option.
  """
  if dtype not in DTYPES:
    raise errors.UserError(
      f"--dtype={dtype!r}: {errors.nearest(dtype, DTYPES)}"
    )
  if top_k < 0:
    raise errors.UserError(
      f"--top-k={top_k}: must be 1 or more; leave it out for all logits"
    )
  if top_k and temperature is None:
    raise errors.UserError(
      f"--top-k={top_k}: say at what temperature, for that is fixed with it:"
      " --temperature=T of the term that will read the cache"
    )
  if temperature is not None and not top_k:
    raise errors.UserError(
      f"--temperature={temperature:g}: logits are stored without one; leave it"
      " out, or say --top-k"
    )
  if temperature is not None and not 0 < temperature < float("inf"):
    raise errors.UserError(f"--temperature={temperature:g}: must be above 0")


def _check_draws(
  parts: Any, split: splits_lib.Split, view: str, epochs: int, seed: int
) -> None:
  if epochs < 0:
    raise errors.UserError(f"--epochs={epochs}: must be 0 or more")
  if not 0 <= seed < 2**32:
    raise errors.UserError(
      f"--seed={seed}: is no seed; take one from 0 to {2**32 - 1}"
    )
  if epochs and not cached.draws(parts.views[view], split):
    raise errors.UserError(
      f"--epochs={epochs}: view {view!r} draws nothing, so one output serves"
      " all epochs; leave it out"
    )


def _make_predict(
  parts: Any,
  stage: str,
  view: str,
  top_k: int,
  temperature: float | None,
  drawn: bool,
) -> Callable[[Any, Mapping[str, Any], Any], dict[str, jax.Array]]:
  """The compiled `(variables, batch, seed) -> arrays of the cache`."""
  module = parts.module(stage)
  structure = dataclasses.replace(
    parts.stage(stage).program.structure, views=parts.views
  )

  def predict(
    variables: Any, batch: Mapping[str, Any], seed: Any
  ) -> dict[str, jax.Array]:
    if drawn:
      inputs = step_lib.apply_view(structure, view, batch, seed)
    else:
      inputs = jax.vmap(lambda x: parts.views[view](x, None))(dict(batch))
    outputs, _ = forward.forward(module, variables, inputs, train=False)
    logits = outputs.output
    if not isinstance(logits, jax.Array) or logits.ndim < 1:
      told = getattr(logits, "shape", type(logits).__name__)
      raise errors.UserError(
        f"--stage={stage!r}: a cache holds one array [batch, ...] of logits or"
        f" numbers, and the model returns {told}"
      )
    if not top_k:
      return {"logits": logits.astype(jnp.float32)}
    best = top_k_lib.top_k(logits, top_k, temperature=temperature)
    return {
      "log_probabilities": best.log_probabilities,
      "indices": best.indices,
      "log_sum_exp": best.log_sum_exp,
    }

  mesh = parts.placement.mesh
  return jax.jit(
    predict,
    in_shardings=(None, mesh_lib.batch_sharding(mesh), None),
    out_shardings=mesh_lib.replicated(mesh),
  )


def _compute(
  writer: cache_writer.Writer,
  split: splits_lib.Split,
  predict: Callable[[Mapping[str, Any]], dict[str, jax.Array]],
  batch_size: int,
  stage: str,
) -> None:
  """Writes the shards that are missing, and the manifest."""
  header, missing = writer.header, writer.missing
  passes = max(header.epochs, 1)
  total = -(-header.examples // batch_size) * passes
  progress = progress_lib.Progress(total)
  progress.begin(f"outputs of {stage}")
  agreed = compared = 0
  try:
    if len(missing) < header.shards:
      whole = header.shards - len(missing)
      progress.line(f"cache: {whole} of {header.shards} shards are there")
    batches = _batches(split, header, missing, batch_size)
    progress.skip(
      total
      - sum(-(-len(header.rows(i)) // batch_size) for i in missing) * passes
    )
    for shard in missing:
      said: list[dict[str, jax.Array]] = []
      known: list[dict[str, np.ndarray]] = []
      left = len(header.rows(shard))
      while left > 0:
        batch = next(batches)
        left -= int(batch["mask"].sum())
        # No longer than this are the examples themselves kept.
        known.append(_known(header, batch))
        for epoch in range(passes):
          drawn = {"epoch": np.full(batch_size, epoch, np.int32)}
          said.append(predict(_numbers(batch) | drawn))
          progress.advance(1)
      arrays, labels = _assembled(header, known, said, stage)
      writer.write(shard, arrays)
      more = cache_account.agreement(arrays, labels, header)
      agreed, compared = agreed + more[0], compared + more[1]
    writer.finish()
    progress.line(
      cache_account.summary(cache.open(writer.folder), agreed, compared)
    )
  finally:
    progress.close()


def _batches(
  split: splits_lib.Split,
  header: cache_header.Header,
  shards: list[int],
  batch_size: int,
) -> Iterator[Mapping[str, np.ndarray]]:
  """The batches of some shards, in order; only the last can be padded."""
  if not shards:
    return iter(())
  positions = np.concatenate([np.array(header.rows(i)) for i in shards])
  part = dataclasses.replace(
    split, rows=split.rows[positions], labelled=split.labelled[positions]
  )
  return pipeline.eval_batches(part, batch_size)


def _known(
  header: cache_header.Header, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """What is kept of a batch until its shard is written."""
  index = batch["index"]
  keys = cache_keys.content_keys(
    {name: batch[name] for name in header.fields},
    index if header.epochs else None,
  )
  kept = {"key": keys, "index": index, "mask": batch["mask"]}
  return kept | ({"label": batch["label"]} if "label" in batch else {})


def _assembled(
  header: cache_header.Header,
  known: list[dict[str, np.ndarray]],
  said: list[dict[str, jax.Array]],
  stage: str,
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
  """A shard's arrays, and its labels where the data has any."""
  mask = np.concatenate([x["mask"] for x in known])
  of = {k: np.concatenate([x[k] for x in known])[mask] for k in known[0]}
  passes, host = max(header.epochs, 1), jax.device_get(said)
  values = {}
  for name in header.arrays():
    # One array for every epoch, [n, ...].
    drawn = [
      np.concatenate([x[name] for x in host[epoch::passes]])[mask]
      for epoch in range(passes)
    ]
    values[name] = np.stack(drawn, axis=1) if header.epochs else drawn[0]
  arrays = cache_writer.stored(
    values, header, lambda row: f"stage {stage!r}, index {of['index'][row]}"
  )
  return {"key": of["key"], **arrays}, of.get("label")


def _numbers(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {k: x for k, x in batch.items() if x.dtype.kind in "biuf"}
