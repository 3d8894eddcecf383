"""A small pair on the digits, as a config: a teacher, and a student born of it.

The models have what a resumed run could lose: batch statistics, dropout, random
views, a learned term, two arms, momentum.
"""

import time

import flax.linen as nn
import jax

from tsjax import config, objectives, optim
from tsjax.config import spec
from tsjax.core import schedules, taps
from tsjax.data import sources, views
from tsjax.distill import transfer
from tsjax.tasks import classification


class Small(nn.Module):
  """One hidden layer with batch norm and dropout."""

  width: int = 16
  axis_name: str | None = None

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
    x = inputs.reshape(inputs.shape[0], -1)
    x = nn.Dense(self.width, name="dense")(x)
    x = nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      axis_name=self.axis_name,
      name="norm",
    )(x)
    x = taps.tap(self, "hidden", nn.relu(x))
    x = nn.Dropout(0.1, deterministic=not train)(x)
    return nn.Dense(10, name="head")(x)


class Slow(sources.Arrays):
  """A source that takes a moment to read, so that a run can be caught."""

  def read(self, split, rows):
    time.sleep(0.05)
    return super().read(split, rows)


def digits(slow: bool = False):
  """The digits, at once or slowly."""
  source = sources.digits()
  return Slow(source.arrays, source.classes) if slow else source


def get_config(arg=None):
  a = config.arguments(
    arg, steps=24, save=8, dispatch=1, alone=False, slow=False
  )
  c = config.run(name="pair", line_points=0)
  c.task = spec(classification.Classification)
  c.data.source = spec(digits, slow=a.slow)
  c.data.batch_size = 32
  c.data.eval_batch_size = 64
  c.data.on_device_mib = 0 if a.slow else 256
  c.data.views.train = spec(views.image, shift=1)
  c.models.teacher = spec(Small, width=24)
  c.models.student = spec(Small, width=16)
  labels = config.term(spec(objectives.cross_entropy))
  common = dict(
    steps=a.steps,
    optimizer=spec(optim.sgd, weight_decay=1e-4),
    schedule=spec(schedules.cosine, warmup="10%"),
    arms={"learning_rate": (0.1, 0.03)},
    steps_per_dispatch=a.dispatch,
    log_every=5,
    evaluate_every=a.save,
    save_every=a.save,
  )
  c.stages.teacher = config.stage(
    train="teacher", objective={"labels": labels}, **common
  )
  c.order = ("teacher", "student")[: 1 if a.alone else 2]
  if a.alone:
    return c
  c.stages.student = config.stage(
    train="student",
    teachers=("teacher",),
    start=spec(transfer.from_stage, stage="teacher"),
    labels=0.3,
    objective={
      "labels": labels,
      "soft": config.term(spec(objectives.soft_targets), temperature=4.0),
      "hint": config.term(
        spec(objectives.Hint),
        weight=0.1,
        student_tap="hidden",
        teacher_tap="hidden",
      ),
    },
    **common,
  )
  return c


def leaves(variables):
  """The leaves of variables, on the host."""
  return jax.tree.leaves(jax.device_get(variables))
