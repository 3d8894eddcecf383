"""The stages of a run in order, every seed and arm, and what they came to."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import pathlib
import shlex
import sys
import time
from typing import Any

from etils import epath
import jax
from ml_collections import config_dict
import numpy as np

from tsjax.checkpoint import store as store_lib
from tsjax.config import checked, loading, specs, stages
from tsjax.core import errors
from tsjax.data import pipeline
from tsjax.evaluate import split as split_lib
from tsjax.loop import arm as arm_lib
from tsjax.loop import build, cached, chosen, lock
from tsjax.loop import feed as feed_lib
from tsjax.loop import folder as folder_lib
from tsjax.loop import programs as programs_lib
from tsjax.loop import results as results_lib
from tsjax.loop import stage as stage_lib
from tsjax.report import page, writers
from tsjax.report import progress as progress_lib

FORMAT = 1


def fit(
  config: config_dict.ConfigDict, workdir: epath.PathLike, **options: Any
) -> "Experiment":
  """Trains a whole run and writes its report; `Experiment.fit` in one call.

  Args:
    config: as a config file's `get_config` returns it.
    workdir: where everything is written; started again, a run resumes there.
    **options: see `Experiment`.

  Returns:
    The experiment: `.results`, `.variables(stage, seed)`, `.report`.
  """
  experiment = Experiment(config, workdir, **options)
  experiment.fit()
  return experiment


class Experiment:
  """A run in a folder.

  Args:
    config: as a config file's `get_config` returns it.
    workdir: local or remote folder.
    command: how the run was started, for the report.
    stop_requested: asked once a turn; True saves and raises `arm.Stopped`.
    programs: what is compiled already, of other experiments in this process.
    homes: the run's folder of each stage that is another run's: it is read
      from there and never trained here.

  Raises:
    UserError: whatever the config has wrong, before any training.
  """

  def __init__(
    self,
    config: config_dict.ConfigDict,
    workdir: epath.PathLike,
    *,
    command: str | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    programs: programs_lib.Programs | None = None,
    homes: Mapping[str, epath.PathLike] | None = None,
  ):
    self.run = checked.check(config)
    self.workdir = folder_lib.absolute(workdir)
    self.command = command or shlex.join(
      [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
    )
    self.results: dict[str, Any] = {}
    self._json = loading.as_json(config)
    self._stop_requested = stop_requested
    self.parts = build.build(self.run, programs=programs)
    self._homes = {
      name: folder_lib.absolute(home) for name, home in (homes or {}).items()
    }
    self._memory: dict[tuple[str, int], Any] = {}
    self._accounts: dict[tuple[str, int], Any] = {}
    self._residents: dict[Any, Any] = {}
    self._lock = lock.Lock(self.workdir, self.command)

  @property
  def report(self) -> epath.Path:
    """The report's page."""
    return self.workdir / "report" / "index.html"

  def fit(self) -> dict[str, Any]:
    """Trains what is not trained yet, evaluates, writes the report.

    Returns:
      What `results.json` holds.

    Raises:
      UserError: the folder belongs to another config, or training failed.
      arm.Stopped: a stop was requested and everything is saved.
    """
    told = progress_lib.Progress(0)
    with self._hold():
      self._train()
      told.line("evaluating the test split")
      with jax.default_matmul_precision(self.parts.matmul_precision):
        self.results = results_lib.collect(self)
      page.write(self.results, self.report.parent)
    told.line(f"report: {self.report}")
    return self.results

  def train(self) -> None:
    """Trains what is not trained yet; the test split stays unread.

    Raises:
      UserError: another run holds the folder, or it belongs to another
        config, or training failed.
      arm.Stopped: a stop was requested and everything is saved.
    """
    with self._hold():
      self._train()

  @contextlib.contextmanager
  def _hold(self) -> Iterator[None]:
    """The folder is this run's; one that is not stays as it is."""
    self.check_folder()
    with self._lock:
      yield

  def _train(self) -> None:
    folder_lib.claim(self.workdir, self._json, self.command)
    steps = sum(
      len(self.run.seeds) * len(self._rates(name)) * stage.timeline.steps
      for name, stage in self.parts.stages.items()
      if name not in self._homes
    )
    progress = progress_lib.Progress(steps)
    try:
      with jax.default_matmul_precision(self.parts.matmul_precision):
        for name in self.run.order:
          if name not in self._homes:
            self._train_stage(name, progress)
    finally:
      progress.close()

  def variables(self, name: str, seed: int) -> Any:
    """The variables with which a judged model ended.

    Args:
      name: of `parts.judged`.
      seed: of the run.

    Raises:
      UserError: no such model, or its stage has not been trained.
    """
    built, model = self.parts.stage(name), self.parts.model(name)
    stage = built.name
    if (stage, seed) not in self._memory:
      record = self.record(stage, seed)
      folder = self.folder(stage, seed, record["learning_rate"])
      store = store_lib.Store(folder / "checkpoints")
      try:
        state, _ = store.restore(
          record["step"], built.program.abstract, built.program.shardings
        )
      except store_lib.Damaged as e:
        path = self._record_path(stage, seed)
        raise errors.UserError(
          f"{e}; remove {path} and start the run again: the stage goes on from"
          " the checkpoint before"
        ) from e
      finally:
        store.close()
      self._memory[stage, seed] = built.end_variables(state)
    return self._memory[stage, seed][model]

  def record(self, stage: str, seed: int) -> dict[str, Any]:
    """What a stage came to with a seed, from its `result.json`."""
    path = self._record_path(stage, seed)
    if not path.exists():
      raise errors.UserError(
        f"{path}: stage {stage!r} has not ended for seed {seed}; run `fit`"
        " with the same config and workdir first"
      )
    return writers.read_json(
      path, needs=("learning_rate", "step"), checked=True
    )

  def folder(self, stage: str, seed: int, rate: float) -> epath.Path:
    """Where an arm writes."""
    base = self._home(stage) / stage / f"seed_{seed}"
    if len(self._rates(stage)) == 1:
      return base
    return base / f"learning_rate={rate:g}"

  def scores(
    self, name: str, variables: Any, split: str
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A judged model over a whole split: scores and the task's fields."""
    batches = pipeline.eval_batches(
      self.parts.splits[split], self.run.data.eval_batch_size
    )
    with jax.default_matmul_precision(self.parts.matmul_precision):
      return split_lib.collect(
        self.parts.predict(name), variables, batches, self.parts.task.fields
      )

  def start(self, stage: str, seed: int) -> Any:
    """The first state of a stage: own initialisation, or from a teacher."""
    built = self.parts.stages[stage]
    state = built.program.init(seed)
    if built.config.start is None:
      return state
    try:
      variables, account = specs.build(
        built.config.start,
        state.variables(built.model),
        {name: self.variables(name, seed) for name in self._before(stage)},
      )
    except errors.UserError as e:
      raise errors.UserError(f"config.stages.{stage}.start: {e}") from e
    self._accounts[stage, seed] = account
    return built.program.with_variables(state, built.model, variables)

  def account(self, stage: str, seed: int) -> Any:
    """What the stage's start transferred, or None."""
    if self.parts.stages[stage].config.start is None:
      return None
    if (stage, seed) not in self._accounts:
      self.start(stage, seed)
    return self._accounts[stage, seed]

  def _rates(self, stage: str) -> tuple[float, ...]:
    config = self.run.stages[stage]
    return tuple(config.arms.get("learning_rate", (config.learning_rate,)))

  def _record_path(self, stage: str, seed: int) -> epath.Path:
    return self._home(stage) / stage / f"seed_{seed}" / "result.json"

  def _home(self, stage: str) -> epath.Path:
    return self._homes.get(stage, self.workdir)

  def check_folder(self) -> None:
    """Refuses a folder that another config began; see `folder.check`."""
    folder_lib.check(self.workdir, self._json)

  def _train_stage(self, name: str, progress: progress_lib.Progress) -> None:
    built = self.parts.stages[name]
    rates = self._rates(name)
    todo = [
      seed
      for seed in self.run.seeds
      if not self._record_path(name, seed).exists()
    ]
    finished = len(self.run.seeds) - len(todo)
    progress.skip(finished * len(rates) * built.timeline.steps)
    if not todo:
      return
    for seed in todo:
      started = time.monotonic()
      self._check_caches(built, seed, progress)
      feed = self._feed(built, seed)
      teachers = built.program.put_teachers(
        {
          member: self.variables(
            member.stage, seed if member.seed is None else member.seed
          )
          for member in built.program.members
        }
      )
      ended = {
        rate: self._train_arm(built, seed, rate, feed, teachers, progress)
        for rate in rates
      }
      best = max(rates, key=lambda r: chosen.rank(ended[r].score))
      self._memory[name, seed] = ended[best].variables
      record = {
        "format": FORMAT,
        "learning_rate": best,
        "step": ended[best].step,
        "choose_by": built.config.choose_by,
        "validation": dict(ended[best].validation),
        "arms": {
          f"learning_rate={rate:g}": ended[rate].validation.get(
            built.config.choose_by
          )
          for rate in rates
        },
        "seconds": time.monotonic() - started,
      }
      path = self._record_path(name, seed)
      writers.write_json(path, record, checked=True)
      progress.line(chosen.summary(name, seed, record))

  def _feed(self, built: stage_lib.Stage, seed: int) -> feed_lib.Feed:
    """The stage's examples; what stages share is put on the devices once."""
    split = built.examples(seed)
    # What a cache adds is the stage's own.
    whole = split if built.caches else self.parts.splits["train"]
    key = (built.name, seed) if built.caches else "train"
    if key not in self._residents:
      self._residents = {
        key: feed_lib.reside(
          whole,
          self.parts.placement.mesh,
          self.run.data.on_device_mib * 2**20,
        )
      }
    return feed_lib.Feed(
      split,
      batch_size=self.run.data.batch_size,
      whole=whole,
      resident=self._residents[key],
    )

  def _check_caches(
    self,
    built: stage_lib.Stage,
    seed: int,
    progress: progress_lib.Progress,
  ) -> None:
    """Refuses caches of teachers that this run has trained to other weights."""
    if not built.caches:
      return
    caches = built.caches[seed]
    cached.check(
      caches,
      built.config,
      self.parts,
      steps=built.timeline.steps,
      split=built.split,
      key=f"config.stages.{built.name}",
      seed=seed,
      trained={
        name: cached.checksum(self.variables(name, seed))
        for name in cached.stages_of(caches)
        if name in self._before(built.name)
      },
    )
    for line in cached.notes(caches, self.parts):
      progress.line(line)

  def _before(self, stage: str) -> list[str]:
    """The judged names of the stages before this one."""
    order = self.run.order
    return [
      name
      for name in self.parts.judged
      if order.index(self.parts.stage(name).name) < order.index(stage)
    ]

  def _train_arm(
    self,
    built: stage_lib.Stage,
    seed: int,
    rate: float,
    feed: feed_lib.Feed,
    teachers: Mapping[str, Any],
    progress: progress_lib.Progress,
  ) -> arm_lib.Ended:
    task = self.parts.task

    names = stages.judged(built.name, built.config)

    def evaluate(variables: Mapping[str, Any]) -> dict[str, float]:
      by_model = {
        model: task.metrics(*self.scores(name, variables[model], "validation"))
        for name, model in names.items()
      }
      return chosen.together(by_model)

    lower = built.config.choose_by in task.lower_is_better
    progress.begin(f"{built.name}, seed {seed}")
    return arm_lib.train(
      arm_lib.Arm(
        stage=built,
        seed=seed,
        learning_rate=rate,
        folder=self.folder(built.name, seed, rate),
        feed=feed,
        teachers=teachers,
        begin=lambda: self.start(built.name, seed),
        evaluate=evaluate if "validation" in self.parts.splits else None,
        sign=-1.0 if lower else 1.0,
        keep=self.run.keep_checkpoints,
        progress=progress,
        stop_requested=self._stop_requested,
        also=self.run.writers,
        run=self.run.name,
      )
    )
