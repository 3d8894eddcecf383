"""Values of public implementations on fixed inputs, each by its name.

Numbers and definitions are those of ../shared/oracles/losses.json, where each
names its source; the comments below repeat it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives import loss_cases
from tsjax import objectives

LABELS = np.random.RandomState(2).randint(0, 10, 8)
VALID = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 1, 1]], bool)


def normal(seed, *shape, scale=1.0):
  return np.random.RandomState(seed).randn(*shape) * scale


INPUTS = {
  "s": normal(0, 8, 10, scale=2),
  "t": normal(1, 8, 10, scale=2),
  "y": LABELS,
  "ls": normal(10, 2, 5, 13, scale=2),
  "lt": normal(11, 2, 5, 13, scale=2),
  "lt17": normal(12, 5, 17, scale=2),
}


def mean(values, mask=None):
  """The step's mean of what a loss answers."""
  mask = np.ones(8, bool)[:1] if mask is None else mask
  return loss_cases.as_mean(values, jnp.asarray(mask)).value()


def mean_of_all(values):
  return jnp.asarray(values).mean()


def _jsd(beta):
  return lambda x: mean(
    objectives.generalised_jsd(x["ls"], x["lt"], beta=beta), VALID
  )


def _student_top_4(beta):
  return lambda x: mean_of_all(
    objectives.student_top_k(x["ls"], x["lt"], k=4, beta=beta)
  )


def _decoupled(alpha, beta):
  return lambda x: mean_of_all(
    objectives.decoupled(
      x["s"], x["t"], x["y"], temperature=4.0, alpha=alpha, beta=beta
    )
  )


ORACLES = {
  # RepDistiller, mdistiller and big_vision agree.
  "soft_targets": (
    2.341880192429552,
    lambda x: mean_of_all(
      objectives.soft_targets(x["s"], x["t"], temperature=4.0)
    ),
  ),
  # mdistiller.
  "decoupled": (20.039060721569754, _decoupled(1.0, 8.0)),
  "decoupled_target_part": (0.06824986486686922, _decoupled(1.0, 0.0)),
  "decoupled_nontarget_part": (2.496351357087861, _decoupled(0.0, 1.0)),
  # torchdistill LogitStdKDLoss.
  "standardised_logits": (
    6.535962730174327,
    lambda x: (
      0.1 * objectives.cross_entropy(x["s"], x["y"]).mean()
      + 9
      * objectives.standardised_soft_targets(
        x["s"], x["t"], temperature=2.0
      ).mean()
    ),
  ),
  # torchdistill DISTLoss.
  "dist": (
    25.373116699277823,
    lambda x: objectives.dist(x["s"], x["t"], temperature=4.0).value(),
  ),
  # TRL GKD.
  "generalised_jsd_beta0": (1.795460634139766, _jsd(0.0)),
  "generalised_jsd_beta0.1": (0.12827597199136084, _jsd(0.1)),
  "generalised_jsd_beta0.5": (0.30344880794484846, _jsd(0.5)),
  "generalised_jsd_beta0.9": (0.12909260841575004, _jsd(0.9)),
  "generalised_jsd_beta1": (2.3084298028297385, _jsd(1.0)),
  # TRL SDFT.
  "top4_student_support_tail_alpha0.0": (
    1.3630832899367538,
    _student_top_4(0.0),
  ),
  "top4_student_support_tail_alpha0.5": (
    0.2889032980817307,
    _student_top_4(0.5),
  ),
  "top4_student_support_tail_alpha1.0": (
    2.181147858895806,
    _student_top_4(1.0),
  ),
  # DistillKit; sums over the valid tokens.
  "top4_teacher_support_tail_T1_sum": (
    11.141931113274238,
    lambda x: objectives.soft_targets_top_k(x["ls"], x["lt"], k=4)[VALID].sum(),
  ),
  "total_variation_top4_sum": (
    4.78476183752977,
    lambda x: objectives.total_variation(x["ls"], x["lt"], k=4)[VALID].sum(),
  ),
  "dense_kl_T2_sum": (
    4.295367240905762,
    lambda x: objectives.soft_targets(
      x["ls"], x["lt"], temperature=2.0, scaled=False
    )[VALID].sum(),
  ),
  # TRL GOLD.
  "universal_logit_distillation": (
    0.8014529525952993,
    lambda x: objectives.universal_logits(x["ls"][0], x["lt17"]).mean(),
  ),
  # NVIDIA Model-Optimizer.
  "minifinetuning": (
    2.2924500289933243,
    lambda x: objectives.minifinetuning(x["s"], x["t"], x["y"]).mean(),
  ),
  # TextBrewer.
  "tempered_ce_T8": (
    2.3132172840512406,
    lambda x: objectives.tempered_cross_entropy(
      x["s"], x["t"], temperature=8.0
    ).mean(),
  ),
}

# Values that their source computed in float32.
NARROW = {
  # MaxText and distil-whisper agree.
  "masked_token_kl": (
    2.454495906829834,
    lambda x: mean(
      objectives.soft_targets(x["ls"], x["lt"], temperature=2.0), VALID
    ),
  ),
  # MaxText.
  "top4_teacher_support_renormalised_T2": (
    1.486120343208313,
    lambda x: mean(
      objectives.soft_targets_top_k(
        x["ls"], x["lt"], k=4, temperature=2.0, tail="renormalised"
      ),
      VALID,
    ),
  ),
}
# The other side of definitions that differ, and what an entry names besides.
VARIANTS = {}


def value(function, dtype):
  if dtype == "float64":
    with jax.enable_x64(True):
      return np.asarray(function(loss_cases.cast(INPUTS, dtype)))
  return np.asarray(function(loss_cases.cast(INPUTS, dtype)))


@pytest.mark.parametrize("name", [*ORACLES, *VARIANTS])
def test_value_in_float64(name):
  expected, function = {**ORACLES, **VARIANTS}[name]
  found = value(function, "float64")
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*ORACLES, *VARIANTS, *NARROW])
def test_value_in_float32(name):
  expected, function = {**ORACLES, **VARIANTS, **NARROW}[name]
  found = value(function, "float32")
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, rtol=1e-4)
