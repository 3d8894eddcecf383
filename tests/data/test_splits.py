"""Splits: stratified shares are exact, nested and seeded."""

import numpy as np
import pytest

from tsjax.core import errors
from tsjax.data import sources, splits

RAGGED = np.repeat(np.arange(5), [3, 7, 40, 150, 301])


def source(labels=RAGGED, **extra):
  def fields(y):
    return {"image": np.arange(len(y), dtype=np.float32)[:, None], "label": y}

  arrays = {"train": labels, "test": np.arange(5), **extra}
  return sources.Arrays({name: fields(y) for name, y in arrays.items()})


def test_a_share_of_even_classes_is_exact():
  labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 100))
  for fraction in (0.01, 0.05, 0.1, 0.33, 0.5, 1.0):
    chosen = splits.stratified(labels, fraction, seed=0)
    np.testing.assert_array_equal(
      np.bincount(labels[chosen]), np.full(10, round(100 * fraction))
    )


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_exact_in_total_fair_and_nested(seed):
  labels = np.random.default_rng(seed).permutation(RAGGED)
  counts = np.bincount(labels)
  before = np.zeros(len(labels), bool)
  for fraction in np.linspace(0.01, 1, 300):
    chosen = splits.stratified(labels, fraction, seed)
    assert chosen.sum() == np.floor(fraction * len(labels) + 0.5)
    got = np.bincount(labels[chosen], minlength=5)
    assert got.min() >= 1
    # Others give up what the first example of a rare class takes;
    # Webster's method itself may miss by a little more than one.
    forced = (fraction * counts < 0.5).sum()
    assert np.abs(got - fraction * counts).max() < 1.5 + forced
    assert chosen[before].all()
    before = chosen
  assert before.all()


def test_growing_classes_never_lose_an_example():
  # Largest remainder gives class 2 fewer of 11 than of 10: Alabama.
  labels = np.repeat(np.arange(3), [60, 60, 20])
  before = np.zeros(3, int)
  for total in range(3, 141):
    chosen = splits.stratified(labels, total / 140, seed=0)
    got = np.bincount(labels[chosen], minlength=3)
    assert (got >= before).all() and got.sum() == total
    before = got


def test_the_choice_is_seeded_and_random_within_classes():
  one, again, other = (
    splits.stratified(RAGGED, 0.3, seed) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, again)
  assert (one != other).any()
  # Not the first rows of a class.
  assert not one[RAGGED == 4][: one[RAGGED == 4].sum()].all()


def test_carve_divides_train():
  carved = splits.carve(source(), validation=0.2, seed=0)
  assert {k: v.size for k, v in carved.items()} == {
    "train": 401,
    "validation": 100,
    "test": 5,
  }
  rows = np.concatenate([carved["train"].rows, carved["validation"].rows])
  np.testing.assert_array_equal(np.sort(rows), np.arange(501))
  assert carved["validation"].name == "train"
  assert set(carved["validation"].labels()) == set(range(5))
  assert set(carved["train"].labels()) == set(range(5))
  assert all(split.labelled.all() for split in carved.values())
  other = splits.carve(source(), validation=0.2, seed=1)
  assert (other["train"].rows != carved["train"].rows).any()


def test_carve_takes_the_sources_own_validation():
  carved = splits.carve(source(validation=np.arange(4)), validation=0.2)
  assert carved["validation"].name == "validation"
  assert carved["train"].size == 501 and carved["validation"].size == 4


def test_carve_of_nothing_leaves_train_whole():
  carved = splits.carve(source(), validation=0)
  assert set(carved) == {"train", "test"} and carved["train"].size == 501


def test_a_lone_example_stays_in_train():
  labels = np.array([0] * 20 + [1] + [2] * 20)
  carved = splits.carve(source(labels), validation=0.1)
  assert 1 in carved["train"].labels()
  assert 1 not in carved["validation"].labels()


def test_read_tells_index_and_labelled():
  train = splits.carve(source(), validation=0.2)["train"]
  batch = train.read(np.array([5, 0]))
  np.testing.assert_array_equal(batch["index"], train.rows[[5, 0]])
  np.testing.assert_array_equal(batch["image"][:, 0], train.rows[[5, 0]])
  assert batch["index"].dtype == np.int32
  assert batch["labelled"].dtype == bool


def test_labels_for_a_share():
  train = splits.carve(source(), validation=0.2)["train"]
  few = splits.with_labels(train, 0.05, seed=0)
  assert few.size == train.size and few.labelled.sum() == 20
  more = splits.with_labels(train, 0.1, seed=0)
  assert more.labelled[few.labelled].all()
  only = splits.only_labelled(few)
  assert only.size == 20 and only.labelled.all()
  np.testing.assert_array_equal(only.rows, few.rows[few.labelled])
  assert splits.with_labels(few, 1.0, seed=0).labelled.all()


def unlabelled():
  split = splits.whole(source(), "train")
  none = np.zeros(split.size, bool)
  return splits.Split(split.source, "train", split.rows, none)


@pytest.mark.parametrize(
  "call, told",
  [
    (lambda: splits.stratified(RAGGED, 0.0, 0), "fraction=0.0.*at most 1"),
    (lambda: splits.stratified(RAGGED, 1.1, 0), "fraction=1.1.*at most 1"),
    (lambda: splits.stratified(RAGGED, float("nan"), 0), "fraction=nan"),
    (
      lambda: splits.stratified(RAGGED, 0.004, 0),
      "fraction=0.004 of 501 examples is 2, fewer than the 5 .*least 0.01",
    ),
    (lambda: splits.stratified(RAGGED, 0.1, -3), "seed=-3"),
    (
      lambda: splits.with_labels(splits.whole(source(), "train"), 2, 0),
      "labels=2",
    ),
    (lambda: splits.carve(source(), validation=1.0), "validation=1.0.*less"),
    (lambda: splits.carve(source(), validation=-0.1), "validation=-0.1"),
    (
      lambda: splits.carve(source(), validation=0.001),
      "validation=0.001 .* fewer than the 5 classes",
    ),
    (
      lambda: splits.carve(source(), validation=0.99),
      "validation=0.99 leaves train no example of class 0, which has 3",
    ),
    (
      lambda: splits.carve(source(np.arange(5)), validation=0.5),
      "one example.*validation=0",
    ),
    (
      lambda: splits.carve(
        sources.Arrays({"train": {"label": np.zeros(3, int)}})
      ),
      "no split 'test'",
    ),
    (lambda: splits.whole(source(), "tarin"), "'tarin'.*'train'"),
    (lambda: splits.only_labelled(unlabelled()), "no examples"),
  ],
)
def test_errors(call, told):
  with pytest.raises(errors.UserError, match=told) as e:
    call()
  assert "\n" not in str(e.value)
