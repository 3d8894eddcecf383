"""Digits: how much the teacher's soft targets should weigh, and how soft.

    launch/local.sh sweep --config=configs/digits_sweep.py --workdir=runs/sweep

The student of configs/digits.py with 5% of the labels, in fewer steps, at every
pair of three weights and three temperatures. All nine points share one teacher
and one compiled step, for weight and temperature are traced. The point is
chosen on validation; the test split is read once, for the chosen one.

In about a minute on 2 CPU cores.
"""

import pathlib

from tsjax import config

DIGITS = pathlib.Path(__file__).with_name("digits.py")


def get_config(arg=None):
  """Teacher and student; `steps` and `seeds` are of both."""
  a = config.arguments(arg, steps=120, seeds=2)
  c = config.load(f"{DIGITS}:steps={a.steps},seeds={a.seeds}")
  c.name = "digits, soft targets"
  for stage in c.stages.values():
    stage.arms, stage.learning_rate = {}, 1e-2
    stage.evaluate_every = stage.save_every = "100%"
  c.order = ("teacher", "student")
  del c.stages["alone"]
  # Asked for by the chosen point's page alone, and little to see there.
  c.line_points = 0
  return c


def sweep():
  """Every pair of these."""
  return {
    "stages.student.objective.soft.weight": [1.0, 3.0, 10.0],
    "stages.student.objective.soft.temperature": [1.0, 4.0, 8.0],
  }
