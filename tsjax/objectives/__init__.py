"""Losses: pure functions of arrays, one value per example or token.

What a loss reads it names in its signature: `student`, `teacher`, `target`,
`mask`, `temperature`. It neither averages nor weighs.
"""

from tsjax.objectives.activations import (
  ActivationBoundaries,
  Overhaul,
  activation_boundaries,
  overhaul,
)
from tsjax.objectives.attention import (
  attention_cross_entropy,
  attention_mse,
  attention_relations,
)
from tsjax.objectives.channels import (
  flow_of_solution,
  inter_channel_correlation,
  neuron_selectivity,
  token_similarity,
)
from tsjax.objectives.consistency import pseudo_labels
from tsjax.objectives.contrast import (
  ContrastiveRepresentation,
  ContrastiveRepresentationByClass,
)
from tsjax.objectives.correlation import dist
from tsjax.objectives.decoupled import (
  decoupled,
  minifinetuning,
  normalised,
  virtual_teacher,
)
from tsjax.objectives.factors import FactorTransfer, factor_transfer
from tsjax.objectives.features import Hint, attention_transfer
from tsjax.objectives.generative import MaskedGeneration, VariationalInformation
from tsjax.objectives.hidden import (
  HiddenStates,
  hidden_cosine,
  hidden_mse,
  patient,
)
from tsjax.objectives.labels import (
  binary_cross_entropy,
  cross_entropy,
  squared_error,
)
from tsjax.objectives.logits import (
  generalised_jsd,
  logit_mse,
  reverse_kl,
  skew_kl,
  skew_reverse_kl,
  soft_targets,
  standardised_soft_targets,
  tempered_cross_entropy,
  total_variation,
)
from tsjax.objectives.outputs import binary_soft_targets, squared_difference
from tsjax.objectives.paths import (
  CurriculumTemperature,
  Taid,
  interpolated_teacher,
)
from tsjax.objectives.ranking import hinge_ranking, logistic_ranking
from tsjax.objectives.relations import (
  correlation_congruence,
  probabilistic_transfer,
  relational,
  relational_angle,
  relational_distance,
  similarity_preserving,
)
from tsjax.objectives.review import Review, hierarchical_context
from tsjax.objectives.self_supervised import (
  SelfSupervisedSimilarities,
  self_supervised_similarities,
  transformed_soft_targets,
)
from tsjax.objectives.singular import singular_vectors
from tsjax.objectives.top_k import soft_targets_top_k
from tsjax.objectives.vocabularies import student_top_k, universal_logits

__all__ = [
  "ActivationBoundaries",
  "ContrastiveRepresentation",
  "ContrastiveRepresentationByClass",
  "CurriculumTemperature",
  "FactorTransfer",
  "HiddenStates",
  "Hint",
  "MaskedGeneration",
  "Overhaul",
  "Review",
  "SelfSupervisedSimilarities",
  "Taid",
  "VariationalInformation",
  "activation_boundaries",
  "attention_cross_entropy",
  "attention_mse",
  "attention_relations",
  "attention_transfer",
  "binary_cross_entropy",
  "binary_soft_targets",
  "correlation_congruence",
  "cross_entropy",
  "decoupled",
  "dist",
  "factor_transfer",
  "flow_of_solution",
  "generalised_jsd",
  "hidden_cosine",
  "hidden_mse",
  "hierarchical_context",
  "hinge_ranking",
  "inter_channel_correlation",
  "interpolated_teacher",
  "logistic_ranking",
  "logit_mse",
  "minifinetuning",
  "neuron_selectivity",
  "normalised",
  "overhaul",
  "patient",
  "probabilistic_transfer",
  "pseudo_labels",
  "relational",
  "relational_angle",
  "relational_distance",
  "reverse_kl",
  "self_supervised_similarities",
  "similarity_preserving",
  "singular_vectors",
  "skew_kl",
  "skew_reverse_kl",
  "soft_targets",
  "soft_targets_top_k",
  "squared_difference",
  "squared_error",
  "standardised_soft_targets",
  "student_top_k",
  "tempered_cross_entropy",
  "token_similarity",
  "total_variation",
  "transformed_soft_targets",
  "universal_logits",
  "virtual_teacher",
]
