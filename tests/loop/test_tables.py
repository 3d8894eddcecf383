"""Tables of all seeds as one."""

import types

import numpy as np

from tsjax.evaluate import classification as metrics_lib
from tsjax.loop import tables
from tsjax.tasks import classification


def test_counts_add_up_and_other_numbers_are_averaged():
  found = tables.together(
    [
      {"confusion": np.array([[1, 2], [3, 4]]), "f1": np.array([0.5, 1.0])},
      {"confusion": np.array([[1, 0], [0, 1]]), "f1": np.array([0.0, 0.5])},
    ]
  )
  assert found == {"confusion": [[2, 2], [3, 5]], "f1": [0.25, 0.75]}


def test_groups_that_a_seed_lacks_and_words_are_kept():
  found = tables.together(
    [{1: {"count": 3, "told": "x"}}, {1: {"count": 4}, 2: {"count": 5}}]
  )
  assert found == {"1": {"count": 7, "told": "x"}, "2": {"count": 5}}


def test_bins_of_seeds_are_those_of_all_examples():
  random = np.random.default_rng(0)
  logits = [random.normal(size=(n, 3)) for n in (50, 7)]
  labels = [random.integers(0, 3, n) for n in (50, 7)]
  found = tables.pooled(
    [metrics_lib.reliability(x, y) for x, y in zip(logits, labels, strict=True)]
  )
  expected = metrics_lib.reliability(*map(np.concatenate, (logits, labels)))
  for key, values in expected.items():
    np.testing.assert_allclose(found[key], values, atol=1e-12)
  assert tables.pooled([]) is None


def test_groups_have_the_names_of_their_source():
  task = classification.Classification(group="writer")
  fields = {
    "label": np.array([0, 1, 1, 0]),
    "writer": np.array([0, 0, 1, 5]),
  }
  scores = np.eye(2)[[0, 1, 0, 0]]
  found = tables.together([tables.of(task, scores, fields)])["groups"]
  source = types.SimpleNamespace(names={"writer": ("Ada", "Bo")})
  parts = types.SimpleNamespace(task=task, source=source)
  named = tables.named_groups(parts, found)
  assert list(named) == ["Ada", "Bo", "5"]
  assert named["Ada"]["accuracy"] == 1 and named["Bo"]["accuracy"] == 0
  assert named["5"]["confusion"] == [[1, 0], [0, 0]]
  assert tables.named_groups(parts, None) is None
