"""Losses against their definitions, written out in NumPy, in float64.

Where no public value stands in test_oracles.py; the inputs are those of the
laws, so that nothing is compiled again.
"""

import numpy as np
import pytest

from tests.objectives import loss_cases as cases


def softmax(x, temperature=1.0):
  e = np.exp(x / temperature - (x / temperature).max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def kl(p, q):
  return (p * np.log(p / q)).sum(-1)


def without(p, target):
  """Distributions over all classes but the label, scaled to the sum 1."""
  kept = np.array([np.delete(row, y) for row, y in zip(p, target)])
  return kept / kept.sum(-1, keepdims=True)


def normalised(student, teacher, target):
  p, q = softmax(teacher), softmax(student)
  rows = np.arange(len(target))
  label = -p[rows, target] * np.log(q[rows, target])
  n_t = without(softmax(teacher, 2), target)
  n_s = without(softmax(student, 2), target)
  return np.mean(label - 1.5 * 4 * (n_t * np.log(n_s)).sum(-1))


def by_hand(student, target, correct=0.99):
  p = np.full(student.shape, (1 - correct) / (student.shape[-1] - 1))
  p[np.arange(len(target)), target] = correct
  return p


def virtual_teacher(student, target):
  p = softmax(np.log(by_hand(student, target)), 20)
  return np.mean(400 * kl(p, softmax(student, 20)))


def virtual_teacher_code(student, target):
  p = softmax(by_hand(student, target), 20)
  return np.mean(kl(p, softmax(student)))


def pairs(student, teacher, value):
  """Mean over the pairs that the teacher orders."""
  p, total = softmax(teacher), []
  for b in range(len(p)):
    for i in range(p.shape[1]):
      total += [
        value(b, i, j) for j in range(p.shape[1]) if p[b, i] > p[b, j] + 1e-8
      ]
  return np.mean(total)


def hinge(student, teacher):
  p, q = softmax(teacher), softmax(student)
  return pairs(
    student,
    teacher,
    lambda b, i, j: max(0, p[b, i] - p[b, j] - (q[b, i] - q[b, j])),
  )


def logistic(student, teacher):
  return pairs(
    student,
    teacher,
    lambda b, i, j: np.log1p(np.exp(student[b, j] - student[b, i])),
  )


def skew(student, teacher):
  p, q = softmax(teacher), softmax(student)
  return np.mean(kl(p, 0.1 * p + 0.9 * q))


def skew_reverse(student, teacher):
  p, q = softmax(teacher), softmax(student)
  return np.mean(kl(q, 0.9 * p + 0.1 * q))


def taid(student, teacher):
  between = 0.6 * student + 0.4 * teacher
  return np.mean(kl(softmax(between), softmax(student)))


def relations(student, teacher, heads=3):
  """MiniLMv2, equations 4 to 6, with loops."""
  total = 0.0
  for s, t in zip(student, teacher):
    batch, length, _ = s.shape
    for b in range(batch):
      for h in range(heads):
        rows = []
        for x in (t, s):
          own = x[b].reshape(length, heads, -1)[:, h]
          rows.append(softmax(own @ own.T / np.sqrt(own.shape[-1])))
        total += kl(*rows).sum() / (heads * length * batch)
  return total


def channels(student, teacher):
  """ICKD, equations 2 to 4."""
  values = []
  for s, t in zip(student, teacher):
    grams = []
    for x in (s, t):
      x = x.reshape(-1, x.shape[-1])
      gram = x.T @ x
      grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    values.append(((grams[0] - grams[1]) ** 2).sum() / len(grams[0]) ** 2)
  return np.mean(values)


def gaussian_selectivity(student, teacher):
  values = []
  for s, t in zip(student, teacher):
    s, t = (
      (x / np.linalg.norm(x, axis=0)).T
      for x in (y.reshape(-1, y.shape[-1]) for y in (s, t))
    )

    def squared(a, b):
      return ((a[:, None] - b[None]) ** 2).sum(-1)

    scale = 2 * squared(s, t).mean()
    kernels = [
      np.exp(-squared(a, b) / scale).mean() for a, b in ((s, s), (t, t), (s, t))
    ]
    values.append(kernels[0] + kernels[1] - 2 * kernels[2])
  return np.mean(values)


def congruence(student, teacher, gamma=0.4):
  kernels = [
    np.exp(-2 * gamma) * (1 + 2 * gamma * g + (2 * gamma) ** 2 / 2 * g**2)
    for g in (x @ x.T for x in (student, teacher))
  ]
  return ((kernels[0] - kernels[1]) ** 2).mean()


def overhaul(student, teacher):
  """mdistiller's feat_loss, with its weights of layers."""
  total = 0.0
  for weight, margin, s, t in zip((0.5, 1), (-0.5, -1.0), student, teacher):
    parts = np.where((s > margin) & (t <= margin), (s - margin) ** 2, 0)
    between = (s > t) & (t > margin) & (t <= 0)
    parts += np.where(between | (t > 0), (s - t) ** 2, 0)
    total += weight * parts.reshape(len(s), -1).sum(1).mean() / 1000
  return total


def paraphrase(student, teacher):
  values = []
  for s, t in zip(student, teacher):
    s, t = (x.ravel() / np.linalg.norm(x) for x in (s, t))
    values.append(np.mean((s - t) ** 2))
  return np.mean(values)


EXPECTED = {
  "overhaul": overhaul,
  "factor_transfer/factor": paraphrase,
  "attention_relations": relations,
  "inter_channel_correlation": channels,
  "neuron_selectivity/gaussian": gaussian_selectivity,
  "correlation_congruence": congruence,
  "reverse_kl": lambda student, teacher: np.mean(
    4 * kl(softmax(student, 2), softmax(teacher, 2))
  ),
  "skew_kl": skew,
  "skew_reverse_kl": skew_reverse,
  "total_variation": lambda student, teacher: np.mean(
    np.abs(softmax(student) - softmax(teacher)).sum(-1) / 2
  ),
  "logit_mse": lambda student, teacher: np.mean((student - teacher) ** 2),
  "normalised": normalised,
  "virtual_teacher": virtual_teacher,
  "virtual_teacher/code": virtual_teacher_code,
  "hinge_ranking": hinge,
  "logistic_ranking": logistic,
  "interpolated_teacher": taid,
  "Taid": taid,
  # x starts at 0, and T at 1 + 20 / 2.
  "CurriculumTemperature": lambda student, teacher: np.mean(
    121 * kl(softmax(teacher, 11), softmax(student, 11))
  ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_value_of_the_definition(name):
  given = cases.CASES[name].make()
  found = cases.evaluate(name, given, dtype="float64").value
  expected = EXPECTED[name](**given)
  # Memory is float32: t = 0.4 is not that of float64.
  tolerance = 1e-6 if name == "Taid" else 1e-9
  np.testing.assert_allclose(found, expected, rtol=tolerance)
