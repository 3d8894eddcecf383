"""Intervals and differences agree with SciPy, R and with what counts say."""

import numpy as np
import pytest
import scipy.stats

from tsjax.report import compare_intervals as intervals

VALUES = (0.91, 0.94, 0.92, 0.97, 0.93)
OTHERS = (0.90, 0.95, 0.90, 0.93, 0.92)


def by_seed(values, first=0):
  return {first + k: v for k, v in enumerate(values)}


def test_the_interval_over_seeds_is_students():
  found = intervals.of_score({"values": list(VALUES)}, "f1")
  expected = scipy.stats.t.interval(
    0.95, 4, np.mean(VALUES), scipy.stats.sem(VALUES)
  )
  assert (found.low, found.high) == pytest.approx(expected)
  assert found.kind == "seeds"


def test_the_interval_of_a_share_is_wilsons():
  # R: prop.test(8, 10, correct = FALSE)$conf.int
  found = intervals.wilson(8, 10)
  assert (found.low, found.high) == pytest.approx((0.4901625, 0.9433178))
  assert intervals.wilson(10, 10).high == 1.0
  assert intervals.wilson(0, 10).low == 0.0


def test_one_seed_takes_its_interval_from_the_counts():
  counts = [[45, 5], [10, 40]]
  accuracy = intervals.of_score({"values": [0.85]}, "accuracy", counts)
  assert accuracy == intervals.wilson(85, 100)
  f1 = intervals.of_score({"values": [0.8496]}, "f1", counts)
  assert f1.kind == "bootstrap"
  # 85 of 100: a binomial deviation of 3.6 points.
  assert f1.high - f1.low == pytest.approx(4 * 0.036, abs=0.02)
  assert f1.low < 0.8496 < f1.high


@pytest.mark.parametrize(
  ("values", "metric", "counts"),
  [
    ([], "f1", [[1, 0], [0, 1]]),
    ([0.9], "f1", None),
    ([0.9], "f1", []),
    ([0.9], "f1", [[1, 0]]),
    ([0.9], "f1", [[1.5, 0], [0, 1]]),
    ([0.9], "cross_entropy", [[9, 1], [1, 9]]),
    ([None], "accuracy", [[9, 1], [1, 9]]),
  ],
)
def test_what_nothing_is_known_of_has_no_interval(values, metric, counts):
  assert intervals.of_score({"values": values}, metric, counts) is None


def test_common_seeds_are_compared_in_pairs():
  found = intervals.difference(by_seed(VALUES), by_seed(OTHERS))
  expected = scipy.stats.ttest_rel(VALUES, OTHERS)
  assert found.p == pytest.approx(expected.pvalue)
  low, high = expected.confidence_interval()
  assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
  assert (found.interval.kind, found.seeds) == ("paired", 5)


def test_only_common_seeds_count():
  found = intervals.difference(by_seed(VALUES), by_seed(OTHERS, first=2))
  expected = scipy.stats.ttest_rel(VALUES[2:], OTHERS[:3])
  assert found.p == pytest.approx(expected.pvalue)
  assert found.seeds == 3


def test_other_seeds_are_compared_by_their_means():
  found = intervals.difference(by_seed(VALUES), by_seed(OTHERS[:3], first=9))
  expected = scipy.stats.ttest_ind(VALUES, OTHERS[:3], equal_var=False)
  assert found.p == pytest.approx(expected.pvalue)
  assert found.interval.kind == "unpaired"


def test_one_seed_beside_several_borrows_their_spread():
  found = intervals.difference(by_seed([0.99]), by_seed(OTHERS))
  expected = scipy.stats.ttest_ind([0.99], OTHERS, equal_var=True)
  assert found.p == pytest.approx(expected.pvalue)
  assert found.interval.kind == "single"


def test_one_seed_each_is_judged_by_the_test_examples():
  good, bad = np.diag([190, 190]) + 10, np.diag([100, 100]) + 100
  draws = [
    intervals.bootstrap(c, "f1", seed=k) for k, c in enumerate((good, bad))
  ]
  clear = intervals.difference({0: 0.95}, {0: 2 / 3}, draws=tuple(draws))
  assert clear.p <= 0.001
  # Two binomial shares of 400 and 600: a deviation of 2.2 points.
  assert clear.interval.low == pytest.approx(0.283 - 2 * 0.022, abs=0.01)
  same = intervals.difference({0: 0.95}, {0: 0.95}, draws=(draws[0], draws[0]))
  assert same.p > 0.5
  assert intervals.difference({0: 0.95}, {0: 0.5}).p is None


def test_agreement_by_rounding_is_no_proof():
  # Both seeds are one example of 360 better: no more is known than of one.
  a, b = by_seed([351 / 360, 350 / 360]), by_seed([350 / 360, 349 / 360])
  assert intervals.difference(a, b, size=360).p > 0.05
  clearly = by_seed([300 / 360, 299 / 360])
  assert intervals.difference(a, clearly, size=360).p < 0.01
  assert intervals.difference(a, a, size=360).p == 1.0


def test_a_missing_value_does_not_count():
  found = intervals.difference(
    by_seed([0.9, None, 0.8]), by_seed([0.7, 0.1, float("nan")])
  )
  assert found.mean == pytest.approx(0.85 - 0.4)
  nothing = intervals.difference(by_seed([None]), by_seed([0.5]))
  assert nothing.interval is None and nothing.seeds == 0


def test_holm_is_that_of_r():
  # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
  found = intervals.holm([0.01, 0.04, None, 0.03, 0.005])
  assert found[2] is None
  assert [p for p in found if p is not None] == pytest.approx(
    [0.03, 0.06, 0.06, 0.02]
  )


def test_the_bootstrap_is_around_the_score_it_was_drawn_from():
  from sklearn import metrics as sklearn

  random = np.random.default_rng(0)
  labels, predictions = random.integers(0, 3, (2, 400))
  predictions[:300] = labels[:300]
  counts = sklearn.confusion_matrix(labels, predictions)
  for metric, average in (("f1", "macro"), ("precision", "macro")):
    score = getattr(sklearn, f"{metric}_score")(
      labels, predictions, average=average
    )
    draws = intervals.bootstrap(counts, metric)
    assert draws.mean() == pytest.approx(score, abs=0.003)
  assert (
    intervals.bootstrap(counts, "f1") == intervals.bootstrap(counts, "f1")
  ).all()
