"""Digits: F1 over the share of labels, with a teacher and without.

launch/local.sh fit --config=configs/digits_labels.py --workdir=runs/labels
"""

import pathlib

from tsjax import config
from tsjax.config import spec
from tsjax.data import views
from tsjax.loop import label_study

DIGITS = pathlib.Path(__file__).with_name("digits.py")
# Chosen on validation by `tune`, see above.
RATES = {
  "alone": 2e-2,
  "pseudo": 1e-3,
  "started": 1e-2,
  "distilled": 4e-2,
  "both": 2e-2,
}
TRIED = (1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 4e-2)


def get_config(arg=None):
  """The study, or with `tune` the choice of its learning rates."""
  a = config.arguments(arg, steps=250, seeds=5, tune=False)
  c = config.load(f"{DIGITS}:steps={a.steps},seeds={a.seeds}")
  c.name = "digits"
  c.data.views.strong = spec(views.image, shift=1, rotate=5.0)
  for stage in c.stages.values():
    stage.arms = {}
    stage.evaluate_every, stage.save_every = "50%", "100%"
  changes = {m: {"learning_rate": rate} for m, rate in RATES.items()}
  fractions = label_study.FRACTIONS
  if a.tune:
    fractions, c.seeds = (0.02, 0.1), (5, 6, 7)
    changes = {m: {"arms": {"learning_rate": TRIED}} for m in RATES}
  return label_study.expand(c, fractions=fractions, changes=changes)
