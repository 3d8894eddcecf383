"""Digits: a ResNet teaches a ResNeXt from 5% of the labels."""

from tsjax import config
from tsjax import objectives
from tsjax import optim
from tsjax.config import spec
from tsjax.core import schedules
from tsjax.data import sources
from tsjax.data import views
from tsjax.distill import transfer
from tsjax.models import resnet
from tsjax.tasks import classification


def get_config(arg=None):
  a = config.arguments(arg, data="digits", steps=300, labels=0.05)
  c = config.run(name="digits", seeds=(0, 1, 2), reference="teacher")
  c.task = spec(classification.Classification)
  c.data.source = spec(sources.digits)
  c.data.batch_size = 64
  c.data.views.train = spec(views.image, shift=1)
  c.models.teacher = spec(
    resnet.ResNet, stage_sizes=(1, 1, 1), width=16, classes=10
  )
  c.models.student = spec(
    resnet.ResNeXt,
    stage_sizes=(1, 1, 1),
    width=8,
    cardinality=4,
    classes=10,
    bottleneck=False,
  )
  supervised = config.term(spec(objectives.cross_entropy))
  common = dict(
    steps=a.steps,
    optimizer=spec(optim.adamw),
    schedule=spec(schedules.cosine, warmup="5%"),
  )
  c.stages.teacher = config.stage(
    train="teacher",
    objective={"labels": supervised},
    learning_rate=3e-3,
    **common,
  )
  c.stages.alone = config.stage(
    train="student",
    objective={"labels": supervised},
    labels=a.labels,
    examples="labelled",
    arms={"learning_rate": (3e-3, 1e-2, 3e-2)},
    **common,
  )
  c.stages.student = config.stage(
    train="student",
    teachers=("teacher",),
    start=spec(transfer.from_stage, stage="teacher"),
    objective={
      "labels": supervised,
      "soft": config.term(
        spec(objectives.soft_targets), weight=1.0, temperature=4.0
      ),
    },
    labels=a.labels,
    arms={"learning_rate": (3e-3, 1e-2, 3e-2)},
    **common,
  )
  c.order = ("teacher", "alone", "student")
  return c
