"""Values of public implementations on fixed inputs, each by its name.

Numbers and definitions are those of ../shared/oracles/losses.json, where each
names its source; the comments below repeat it.
"""

import json

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
  "fs": normal(3, 8, 16),
  "ft": normal(4, 8, 16),
  # Maps are drawn as [batch, channel, height, width], and given as NHWC.
  "a1": normal(20, 4, 6, 8, 8).transpose(0, 2, 3, 1),
  "b1": normal(21, 4, 6, 8, 8).transpose(0, 2, 3, 1),
  "a2": normal(22, 4, 12, 4, 4).transpose(0, 2, 3, 1),
  "b2": normal(23, 4, 12, 4, 4).transpose(0, 2, 3, 1),
  "hs": normal(70, 2, 5, 12),
  "ht": normal(71, 2, 5, 12),
  "hs2": normal(72, 2, 5, 12),
  "ht2": normal(73, 2, 5, 12),
  "ats": normal(74, 2, 3, 5, 5),
  "att": normal(75, 2, 3, 5, 5),
}
TOKENS = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], bool)


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


def _vectors(loss, **options):
  return lambda x: loss(x["fs"], x["ft"], **options).value()


def _map(loss, **options):
  return lambda x: mean_of_all(loss(x["a1"], x["b1"], **options))


def _two_maps(loss, **options):
  return lambda x: mean_of_all(
    loss((x["a1"], x["a2"]), (x["b1"], x["b2"]), **options)
  )


def _states(loss):
  return lambda x: mean(loss(x["hs"], x["ht"]), TOKENS)


def _hint(x):
  eye = jnp.eye(6, dtype=x["a1"].dtype)
  kept = {"projection": {"kernel": eye, "bias": 0 * eye[0]}}
  return objectives.Hint().apply({"params": kept}, x["a1"], x["b1"]).mean()


def _contrasted(x):
  """CRD, twice, with the memories as they are after the first."""
  dtype = x["fs"].dtype
  module = objectives.ContrastiveRepresentation(
    examples=20, negatives=4, width=8
  )
  maps = {}
  for i, side in enumerate(("student", "teacher")):
    weight, bias = normal(50 + 2 * i, 8, 16), normal(51 + 2 * i, 8)
    maps[side] = {
      "kernel": jnp.asarray(0.3 * weight.T, dtype),
      "bias": jnp.asarray(0.3 * bias, dtype),
    }
  bound = 1 / np.sqrt(8 / 3)
  memories = {
    f"bank_{side}": jnp.asarray(
      np.random.RandomState(seed).rand(20, 8) * 2 * bound - bound, dtype
    )
    for side, seed in (("student", 60), ("teacher", 61))
  }
  partners = 8 + np.random.RandomState(62).randint(0, 12, (8, 4))
  index = jnp.arange(8, dtype=jnp.int32)
  partners = jnp.concatenate(
    [index[:, None], jnp.asarray(partners, jnp.int32)], axis=1
  )
  variables = module.init(
    jax.random.key(0), x["fs"], x["ft"], index, partners=partners
  )
  variables = {
    "params": maps,
    "memory": {**variables["memory"], **memories},
  }
  values = []
  for _ in range(2):
    mean, changed = module.apply(
      variables,
      x["fs"],
      x["ft"],
      index,
      partners=partners,
      mutable=["memory"],
    )
    variables = {**variables, **changed}
    values.append(mean.value())
  return values


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
  "hidden_mse_masked": (1.9777967790586113, _states(objectives.hidden_mse)),
  "hidden_cosine_masked": (
    1.0260511486483985,
    _states(objectives.hidden_cosine),
  ),
  "patient": (
    1.8527400744420532,
    lambda x: objectives.patient(x["hs"], x["ht"]).mean(),
  ),
  "token_gram_masked": (
    0.6008465984686047,
    lambda x: objectives.flow_of_solution(
      (x["hs"], x["hs2"]), (x["ht"], x["ht2"]), mask=jnp.asarray(TOKENS)
    ).mean(),
  ),
  "mmd_masked": (
    0.18816262357385313,
    lambda x: mean(
      objectives.token_similarity(
        (x["hs"], x["hs2"]), (x["ht"], x["ht2"]), mask=jnp.asarray(TOKENS)
      ),
      TOKENS,
    ),
  ),
  "attention_mse_masked": (
    1.6223110395884663,
    lambda x: mean(
      objectives.attention_mse(x["ats"], x["att"], mask=jnp.asarray(TOKENS)),
      TOKENS,
    ),
  ),
  "attention_ce_masked": (
    1.318142645440739,
    lambda x: mean(
      objectives.attention_cross_entropy(
        x["ats"], x["att"], mask=jnp.asarray(TOKENS), keys="after"
      ),
      TOKENS,
    ),
  ),
  # RepDistiller.
  "relational_rkd": (1.9621874788044926, _vectors(objectives.relational)),
  "pkt": (0.008990553474098521, _vectors(objectives.probabilistic_transfer)),
  "similarity_preserving": (
    0.10217831894458766,
    _vectors(objectives.similarity_preserving),
  ),
  "correlation": (
    21.207692198801478,
    _vectors(objectives.correlation_congruence, kernel="consecutive"),
  ),
  "attention_transfer": (
    0.025293277692240677,
    _two_maps(objectives.attention_transfer),
  ),
  "neuron_selectivity": (
    0.3197312470690135,
    _map(objectives.neuron_selectivity),
  ),
  "flow_of_solution": (
    0.03322145993522963,
    _two_maps(objectives.flow_of_solution),
  ),
  "svd": (0.1354118320201678, _two_maps(objectives.singular_vectors)),
  "hint": (1.9759554260782437, _hint),
  "factor_transfer": (0.06475546641880789, _map(objectives.factor_transfer)),
  "activation_boundaries": (
    2.2367178002968178,
    _two_maps(objectives.activation_boundaries),
  ),
  "crd_call1": (17.9814952410241, lambda x: _contrasted(x)[0]),
  "crd_call2": (20.689429293755317, lambda x: _contrasted(x)[1]),
  # mdistiller.
  "review_hcl": (
    2.5271367284426827,
    _two_maps(objectives.hierarchical_context),
  ),
  # torchdistill, which divides by the batch of 4 once more.
  "inter_channel_correlation": (
    0.031996411223421846,
    lambda x: (
      objectives.inter_channel_correlation(
        x["a1"], x["b1"], variant="code"
      ).mean()
      / 4
    ),
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
VARIANTS = {
  "similarity_preserving, torchdistill": (
    0.0249851,
    _vectors(objectives.similarity_preserving, norm=1),
  ),
  "correlation, torchdistill": (
    1.4568712,
    _vectors(objectives.correlation_congruence, distance="norm"),
  ),
  "attention_transfer, torchdistill's code": (
    0.0068744,
    _map(objectives.attention_transfer),
  ),
  "attention_transfer, torchdistill's paper": (
    0.6620774,
    _map(objectives.attention_transfer, distance="norm"),
  ),
  "flow_of_solution, torchdistill": (
    11.770835,
    _two_maps(
      objectives.flow_of_solution, distance="column_norm", pool="largest"
    ),
  ),
}


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
  # The other sides are told to five digits, or a few more.
  tolerance = 1e-6 if name in ORACLES else 1e-5
  np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize("name", [*ORACLES, *VARIANTS, *NARROW])
def test_value_in_float32(name):
  expected, function = {**ORACLES, **VARIANTS, **NARROW}[name]
  found = value(function, "float32")
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_every_value_of_the_file_is_here(shared):
  told = json.loads((shared / "oracles" / "losses.json").read_text())["values"]
  here = {name: number for name, (number, _) in {**ORACLES, **NARROW}.items()}
  assert here == {name: entry["value"] for name, entry in told.items()}
