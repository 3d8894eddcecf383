"""The sections of a config: every key, its default and its meaning, once.

`run()`, `stage()` and `term()` write a section as a `ConfigDict`; `checked.py`
reads it back into these frozen classes.
"""

import copy
import dataclasses
from typing import Any

from ml_collections import config_dict

from tsjax.config import specs
from tsjax.core import errors

Spec = config_dict.ConfigDict
Duration = int | str


@dataclasses.dataclass(frozen=True)
class Term:
  """One summand of a loss: what it compares, how much it weighs."""

  loss: Spec
  # A number, or a spec of a schedule from `core.schedules`.
  weight: float | Spec = 1.0
  # A number or a schedule; only for losses that take a temperature.
  temperature: float | Spec = 1.0
  # Which trained model learns; "" is the only one.
  student: str = ""
  # An earlier stage, or a model that this stage trains too; "" is the only one.
  teacher: str = ""
  # "output" or a tap, or a tuple of taps.
  student_tap: str | tuple[str, ...] = "output"
  teacher_tap: str | tuple[str, ...] = "output"
  # The field of the batch that the loss takes as `target`.
  target: str = "label"
  # Which examples count: "all", "labelled", or "auto": labelled where the loss
  # reads the target, all where it does not.
  on: str = "auto"


@dataclasses.dataclass(frozen=True)
class Group:
  """Parameters that are treated alike: the first group that matches wins."""

  match: str = ".*"  # regular expression over the whole path
  rate: float = 1.0  # times the learning rate; 0 freezes
  decay: float = 1.0  # times the optimizer's weight decay


@dataclasses.dataclass(frozen=True)
class Pull:
  """Interpolates the student's weights with a teacher's, now and then."""

  teacher: str  # an earlier stage, one of the stage's `teachers`
  every: Duration = 100
  # A number or a schedule: -1 leaves the student, 0 makes it the teacher.
  alpha: float | Spec = -0.9


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Several teachers as one: the mean of what they say about an example."""

  # Earlier stages; of one that trained several models, "STAGE.MODEL".
  members: tuple[str, ...]
  # Of their "probabilities" at `temperature`, or of their "logits".
  mean: str = "probabilities"
  temperature: float = 1.0
  # One for each member, of any sum; () weighs them alike.
  weights: tuple[float, ...] = ()
  # True: every member as trained with every seed of the run.
  over_seeds: bool = False


@dataclasses.dataclass(frozen=True)
class Stage:
  """Trains a model, or several together, on an objective."""

  train: str | tuple[str, ...]
  objective: dict[str, Term]
  optimizer: Spec
  steps: Duration = "10 epochs"
  learning_rate: float = 1e-3
  # Times the learning rate, as a function of the step; None is constant.
  schedule: Spec | None = None
  # Earlier stages whose models teach; "STAGE.MODEL" where one trained several.
  teachers: tuple[str, ...] = ()
  # More teachers by name: several earlier stages as one.
  ensembles: dict[str, Ensemble] = dataclasses.field(default_factory=dict)
  # More teachers by name: folders of outputs that `tsjax cache` wrote; "{seed}"
  # in a name stands for the run's seed.
  cached: dict[str, str] = dataclasses.field(default_factory=dict)
  # Share of the training labels that may be used, stratified and seeded.
  labels: float = 1.0
  # "all" examples, or only the "labelled" ones.
  examples: str = "all"
  # Views of the example, by name in `data.views`; "" is the student's view.
  view: str = "train"
  teacher_view: str = ""
  # How the student is born: None is its own initialisation.
  start: Spec | None = None
  # Now and then towards a teacher's weights, where leaves match.
  pull: Pull | None = None
  # Decay of a moving average of the student, which terms can read as the
  # teacher "average"; None keeps none.
  average: float | None = None
  groups: dict[str, Group] = dataclasses.field(default_factory=dict)
  clip: float | None = None  # largest global norm of the gradient
  accumulate: int = 1  # parts of a batch, one after the other
  steps_per_dispatch: int = 1
  # Values to try, e.g. {"learning_rate": (0.1, 0.03)}: one arm for each.
  arms: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
  # The validation metric that picks arm and best; "" is the task's own. Of
  # several models that a stage trains, their mean counts.
  choose_by: str = ""
  # Which weights the stage ends with: "last", "best" on validation, or the
  # moving "average" of the last step.
  use: str = "last"
  log_every: Duration = 50
  evaluate_every: Duration = "25%"
  save_every: Duration = "50%"


@dataclasses.dataclass(frozen=True)
class Data:
  """Where examples come from and how each role sees them."""

  source: Spec
  views: dict[str, Spec]
  batch_size: int = 64
  eval_batch_size: int = 256
  validation: float = 0.1  # carved from train, if the source has none
  seed: int = 0  # of the validation split
  # Sets up to this size are kept on the device.
  on_device_mib: int = 256


@dataclasses.dataclass(frozen=True)
class Mesh:
  """Devices: axis sizes (-1 fills), and the rules from meaning to axis."""

  data: int = -1
  fsdp: int = 1
  rules: str = "replicated"
  # "jit" over the mesh, or "pmap" over all local devices.
  strategy: str = "jit"


@dataclasses.dataclass(frozen=True)
class Run:
  """A whole experiment."""

  name: str
  task: Spec
  data: Data
  models: dict[str, Spec]
  stages: dict[str, Stage]
  order: tuple[str, ...]  # of the stages
  seeds: tuple[int, ...] = (0,)
  # The stage whose model the others' predictions are compared with.
  reference: str = ""
  precision: str = "float32"
  mesh: Mesh = dataclasses.field(default_factory=Mesh)
  keep_checkpoints: int = 2
  line_points: int = 13  # of the loss from start to end; 0 for none
  # Where metrics go besides metrics.jsonl: "events" (TensorBoard), "wandb".
  writers: tuple[str, ...] = ("events",)


def section(cls: type, **values: Any) -> config_dict.ConfigDict:
  """Writes `cls` as a ConfigDict with its defaults and the values given.

  Types are checked when the run is built, against the annotations above: a
  weight may be a number here and a schedule after an override.
  """
  fields = {f.name: f for f in dataclasses.fields(cls)}
  for name in values:
    if name not in fields:
      raise errors.UserError(
        f"{cls.__name__.lower()} has no key {name!r}:"
        f" {errors.nearest(name, fields)}"
      )
  result = specs.Entries()
  for name, field in fields.items():
    if name in values:
      # Two stages may be given one term, and only one of them be changed later.
      result[name] = copy.deepcopy(values[name])
    elif field.default is not dataclasses.MISSING:
      result[name] = field.default
    elif field.default_factory is not dataclasses.MISSING:
      made = field.default_factory()
      result[name] = section(type(made)) if made != {} else made
    elif str(field.type).startswith("dict"):
      result[name] = {}
  return result


def run(**values: Any) -> config_dict.ConfigDict:
  """A whole config, to be filled: `c = config.run(name="mine")`."""
  result = section(Run, **values)
  if "data" not in result:
    result.data = section(Data)
  return result


def stage(**values: Any) -> config_dict.ConfigDict:
  """A stage: `c.stages.teacher = config.stage(train="teacher", ...)`."""
  return section(Stage, **values)


# What a term hands to its loss by name; none of it belongs in the loss's spec.
READS = ("student", "teacher", "target", "index", "mask", "temperature")


def pull(**values: Any) -> config_dict.ConfigDict:
  """A pull: `config.pull(teacher="teacher", every="1 epoch", alpha=-0.9)`."""
  return section(Pull, **values)


def ensemble(**values: Any) -> config_dict.ConfigDict:
  """An ensemble: `config.ensemble(members=("large", "wide"))`."""
  return section(Ensemble, **values)


def term(loss: Spec, **values: Any) -> config_dict.ConfigDict:
  """A term: `config.term(spec(cross_entropy), weight=0.1)`."""
  if not specs.is_spec(loss):
    told = getattr(loss, "__name__", repr(loss))
    raise errors.UserError(f"term({told}): write term(spec({told}, ...))")
  for name in READS:
    if name in loss:
      defaults = specs.parameters(loss[specs.CALL])
      if loss[name] != defaults[name].default:
        raise errors.UserError(
          f"spec({specs.qualified_name(loss[specs.CALL])}, {name}=...): set"
          f" {name} on the term, not in the loss's spec"
        )
      del loss[name]
  return section(Term, loss=loss, **values)


def group(**values: Any) -> config_dict.ConfigDict:
  """A parameter group: `config.group(match=".*/bias", decay=0.0)`."""
  return section(Group, **values)
