"""What of the digits run matters: temperature, weight, and the start.

    tsjax fit --config=tests/studies/digits_variants.py --workdir=runs/variants

One teacher and control, and the student of configs/digits.py with one thing
changed at a time; everything else, learning rates and steps included, is the
same. The table stands in docs/results.md.
"""

import copy
import pathlib

from tsjax import config
from tsjax.config import loading

DIGITS = pathlib.Path(__file__).resolve().parents[2] / "configs" / "digits.py"


def get_config(arg=None):
  """The variants; `steps` as in configs/digits.py."""
  a = config.arguments(arg, steps=400)
  c = loading.load(f"{DIGITS}:steps={a.steps}")
  c.name, c.line_points = "digits-variants", 0

  def variant(name, temperature=4.0, weight=3.0):
    stage = copy.deepcopy(c.stages.student)
    stage.objective.soft.temperature = temperature
    stage.objective.soft.weight = weight
    c.stages[name] = stage
    c.order = (*c.order, name)
    return stage

  variant("temperature_1", temperature=1.0)
  variant("temperature_2", temperature=2.0)
  variant("temperature_8", temperature=8.0)
  variant("weight_1", weight=1.0)
  variant("own_start").start = None
  variant("without_unlike").start.take_unlike = False
  return c
