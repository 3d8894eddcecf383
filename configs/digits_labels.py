"""Digits: F1 over the share of labels, with a teacher and without.

    launch/local.sh fit --config=configs/digits_labels.py --workdir=runs/labels

The student of configs/digits.py at 1, 2, 5, 10, 25 and 100% of the labels, by
five methods: alone, with pseudo-labels of its own, born from the teacher, with
the teacher's soft targets, and both. Five seeds, 250 steps each; 155 trainings
in 3 min 35 s on 2 CPU cores (2026-11-25). docs/results.md has the numbers; at
1%, alone 0.50, distilled 0.98.

Each method's learning rate is the best of the same six by the mean validation
F1 at 2% and 10% of the labels over seeds that the study does not use:
`configs/digits_labels.py:tune` (4 minutes).
"""

import pathlib

from tsjax import config
from tsjax.config import spec
from tsjax.data import views
from tsjax.loop import label_study

DIGITS = pathlib.Path(__file__).with_name("digits.py")
# Chosen on validation by `tune`: see above.
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
