"""Digits: kinds of teachers, one argument each.

    launch/local.sh fit --config=configs/digits_teachers.py:kind=ensemble \
        --workdir=runs/ensemble

The student of configs/digits.py, with 5% of the labels, is taught by

    one        a ResNet
    ensemble   two ResNets of other widths and a ResNeXt: the mean of their
               probabilities
    seeds      the same ResNet as trained with every seed of the run
    average    the moving average of the student itself, on the images without
               a label (Mean Teacher)
    cohort     a peer of its own kind, which it teaches in turn, step by step
               (deep mutual learning)
    assistant  a ResNet of middle size that the ResNet taught before
    cached     the ResNet's outputs from a folder, `cache=DIR`, which after a
               run of kind=one this writes, for the draws of 15 epochs:
               tsjax cache --config=configs/digits_teachers.py:kind=one \
                 --workdir=runs/one --stage=teacher --out=DIR --epochs=15

`steps`, `seeds` and `labels` are those of configs/digits.py. With one seed each
kind runs in less than a minute on 2 CPU cores.
"""

import pathlib

from tsjax import config, objectives
from tsjax.config import spec
from tsjax.core import errors, schedules
from tsjax.models import resnet

DIGITS = pathlib.Path(__file__).with_name("digits.py")
KINDS = (
  "one",
  "ensemble",
  "seeds",
  "average",
  "cohort",
  "assistant",
  "cached",
)


def get_config(arg=None):
  """The run; `kind` is one of `KINDS`."""
  a = config.arguments(
    arg, kind="ensemble", steps=300, seeds=1, labels=0.05, cache=""
  )
  if a.kind not in KINDS:
    raise errors.UserError(f"kind={a.kind!r}: {errors.nearest(a.kind, KINDS)}")
  c = config.load(f"{DIGITS}:steps={a.steps},seeds={a.seeds},labels={a.labels}")
  c.name = f"digits, taught by {a.kind}"
  student = c.stages.student
  student.arms, student.learning_rate, student.start = {}, 1e-2, None
  if a.kind == "ensemble":
    _add_teacher(c, "wide", resnet.ResNet, width=24)
    _add_teacher(c, "grouped", resnet.ResNeXt, width=16, cardinality=4)
    members = ("teacher", "wide", "grouped")
    student.ensembles.all = config.ensemble(members=members)
    student.teachers = ()
    c.order = (*members, "student")
  elif a.kind == "seeds":
    student.ensembles.all = config.ensemble(
      members=("teacher",), over_seeds=True
    )
    student.teachers = ()
    c.order = ("teacher", "student")
  elif a.kind == "average":
    # Little is asked of the average before it has learned anything.
    student.average, student.teachers, student.use = 0.98, (), "average"
    student.objective.soft.teacher = "average"
    student.objective.soft.temperature = 1.0
    student.objective.soft.weight = spec(
      schedules.linear, start=0.0, end=3.0, over="40%"
    )
    c.order = ("student",)
    c.reference = "student"
  elif a.kind == "cohort":
    c.stages.cohort = _cohort(c)
    c.order = ("cohort",)
    c.reference = "cohort.one"
    del c.stages.student
  elif a.kind == "assistant":
    _add_teacher(c, "assistant", resnet.ResNet, width=12)
    c.stages.assistant.teachers = ("teacher",)
    c.stages.assistant.objective.soft = config.term(
      spec(objectives.soft_targets), weight=3.0, temperature=4.0
    )
    student.teachers = ("assistant",)
    c.order = ("teacher", "assistant", "student")
  elif a.kind == "cached":
    if not a.cache:
      raise errors.UserError(
        "kind=cached: name the folder that `tsjax cache` wrote, cache=DIR"
      )
    student.teachers, student.cached = (), {"stored": a.cache}
    c.order = ("student",)
    c.reference = "student"
  else:
    c.order = ("teacher", "student")
  for stage in list(c.stages):
    if stage not in c.order:
      del c.stages[stage]
  return c


def _add_teacher(c, name, kind, **options):
  """Another teacher, trained as the first is."""
  c.models[name] = spec(kind, stage_sizes=(1, 1, 1), classes=10, **options)
  c.stages[name] = config.stage(**dict(c.stages.teacher.items()))
  c.stages[name].train = name


def _cohort(c):
  """Two students that start apart and teach each other in every step."""
  student = c.stages.student
  c.models.one = c.models.two = c.models.student
  del c.models["student"], c.models["teacher"]
  terms = {}
  for name, peer in (("one", "two"), ("two", "one")):
    terms[f"labels_{name}"] = config.term(
      spec(objectives.cross_entropy), student=name
    )
    terms[f"soft_{name}"] = config.term(
      spec(objectives.soft_targets), student=name, teacher=peer
    )
  return config.stage(
    train=("one", "two"),
    objective=terms,
    labels=student.labels,
    steps=student.steps,
    optimizer=student.optimizer,
    schedule=student.schedule,
    learning_rate=student.learning_rate,
  )
