"""Targets: labels that are classes, numbers, or several at once."""

import numpy as np
import pytest
import sklearn.utils.class_weight
import torch

from tsjax.core import errors
from tsjax.data import sources, splits, targets

NUMBERS = np.random.default_rng(0).exponential(3.0, 500)
# Label 2 is rare, and a third of the examples has no label.
SEVERAL = np.random.default_rng(1).random((600, 3)) < (0.5, 0.2, 0.02)


def source(labels, target, classes=()):
  def fields(y):
    return {"image": np.arange(len(y), dtype=np.float32)[:, None], "label": y}

  return sources.Arrays(
    {"train": fields(labels), "test": fields(labels[:20])},
    classes=classes,
    target=target,
  )


def test_arrays_give_labels_of_each_target():
  numbers = source(NUMBERS, "number").labels("train")
  assert numbers.dtype == np.float32 and numbers.shape == (500,)
  several = source(SEVERAL.astype(np.int64), "labels", ("a", "b", "c"))
  assert several.labels("train").dtype == bool
  np.testing.assert_array_equal(several.labels("train"), SEVERAL)
  batch = several.read("test", np.array([3, 1]))
  np.testing.assert_array_equal(batch["label"], SEVERAL[[3, 1]])


def test_an_integer_label_stays_a_class_unless_told():
  years = np.array([1990, 2003, 1987, 2001] * 5)
  assert source(years, "class").labels("train").dtype == np.int32
  assert source(years, "number").labels("train").dtype == np.float32


def test_npz_takes_targets(tmp_path):
  path = tmp_path / "several.npz"
  arrays = {
    f"{split}/{field}": value
    for split in ("train", "test")
    for field, value in (
      ("image", np.ones((600, 2), np.float32)),
      ("label", SEVERAL),
    )
  }
  np.savez(path, **arrays)
  assert sources.npz(path, target="labels").classes == ("0", "1", "2")
  with pytest.raises(errors.UserError, match=r"bool \[600, 3\]; store class"):
    sources.npz(path)


@pytest.mark.parametrize(
  "labels, target, told",
  [
    (NUMBERS, "class", "float64.*store class numbers.*target='number'"),
    (NUMBERS, "nubmer", "target='nubmer': did you mean 'number'"),
    (SEVERAL, "number", r"bool \[600, 3\]; target='number' is floats"),
    (np.arange(9), "labels", r"int64 \[9\]; target='labels' is truth values"),
    (np.array([1.0, np.nan]), "number", "row 1 has label nan, no finite"),
    (np.array([1.0, 1e39]), "number", r"row 1 has label 1e\+39, no finite"),
    (
      np.array([[0, 1], [2, 0]]),
      "labels",
      r"row 1 has labels \[2, 0\]; each is 0 or 1",
    ),
  ],
)
def test_labels_of_another_kind(labels, target, told):
  with pytest.raises(errors.UserError, match=told) as e:
    source(labels, target)
  assert "\n" not in str(e.value)


def test_labels_need_as_many_columns_as_classes():
  with pytest.raises(errors.UserError, match="but there are 2 classes"):
    source(SEVERAL, "labels", ("a", "b"))


def test_strata_of_numbers_are_tenths():
  strata = targets.strata(NUMBERS.astype(np.float32))
  np.testing.assert_array_equal(np.bincount(strata), np.full(10, 50))
  assert NUMBERS[strata == 3].max() <= NUMBERS[strata == 4].min()
  # Half of the numbers are one and the same.
  tied = np.where(np.arange(100) < 50, 0.0, np.arange(100))
  assert len(set(targets.strata(tied)[:50])) == 1
  assert targets.strata(np.array([2.0])).tolist() == [0]


def test_strata_of_several_labels_are_the_rarest():
  labels = np.array([[1, 1], [1, 0], [1, 0], [0, 0]], bool)
  assert targets.strata(labels).tolist() == [1, 0, 0, 2]


@pytest.mark.parametrize(
  "labels, target", [(NUMBERS, "number"), (SEVERAL, "labels")]
)
def test_shares_are_exact_and_nested(labels, target):
  labels = source(labels, target).labels("train")
  before = np.zeros(len(labels), bool)
  for fraction in (0.002, 0.01, 0.1, 0.5, 1.0):
    chosen = splits.stratified(labels, fraction, seed=0)
    assert chosen.sum() == np.floor(fraction * len(labels) + 0.5)
    assert chosen[before].all()
    before = chosen


def test_a_share_has_the_distribution_of_the_whole():
  chosen = splits.stratified(NUMBERS, 0.1, seed=0)
  tenths = targets.strata(NUMBERS)[chosen]
  np.testing.assert_array_equal(np.bincount(tenths), np.full(10, 5))
  # 18 of 600 examples have the rare label, and a hundredth of 600 is 6.
  assert SEVERAL[:, 2].sum() == 18
  assert SEVERAL[splits.stratified(SEVERAL, 0.01, seed=0), 2].sum() >= 1


@pytest.mark.parametrize(
  "labels, target", [(NUMBERS, "number"), (SEVERAL, "labels")]
)
def test_splits_of_each_target(labels, target):
  carved = splits.carve(source(labels, target), validation=0.2, seed=0)
  train, validation = carved["train"], carved["validation"]
  assert validation.size == 0.2 * len(labels)
  assert train.size == 0.8 * len(labels)
  few = splits.only_labelled(splits.with_labels(train, 0.1, seed=0))
  assert few.size == 0.08 * len(labels)
  assert few.labels().shape == (few.size, *labels.shape[1:])


def test_a_lone_rare_label_stays_in_train():
  labels = np.zeros((40, 2), bool)
  labels[:20, 0] = labels[7, 1] = True
  taken = splits.divide(labels, 0.5, seed=0)
  assert not taken[7] and taken.sum() == 20


def test_what_cannot_be_stratified_is_drawn_at_random():
  each_its_own = np.eye(6, dtype=bool)
  assert splits.divide(each_its_own, 0.5, seed=0).sum() == 3
  assert splits.divide(np.array([1.0, 2.0]), 0.5, seed=0).sum() == 1


@pytest.mark.parametrize(
  "call, told",
  [
    (
      lambda: splits.stratified(NUMBERS, 0.0005, 0),
      "fraction=0.0005 of 500 examples is 0, fewer than one; use at least 0.00",
    ),
    (
      lambda: splits.divide(NUMBERS[:9], 0.99, 0, key="validation"),
      "validation=0.99 leaves train none of 9 examples",
    ),
    (lambda: targets.balanced(np.array([0, 2])), "class 1 has no example"),
    (lambda: targets.balanced(NUMBERS), "are no classes"),
    (lambda: targets.moments(np.ones(3)), "do not vary"),
  ],
)
def test_errors(call, told):
  with pytest.raises(errors.UserError, match=told) as e:
    call()
  assert "\n" not in str(e.value)


def test_balanced_weights_are_scikit_learns():
  labels = np.repeat([0, 1, 2], [5, 20, 75])
  expected = sklearn.utils.class_weight.compute_class_weight(
    "balanced", classes=np.arange(3), y=labels
  )
  np.testing.assert_allclose(targets.balanced(labels), expected)


def test_balanced_positives_weigh_as_much_as_negatives():
  weights = targets.balanced(SEVERAL)
  # At logit 0 the gradient of every bias is then 0.
  bias = torch.zeros(3, requires_grad=True)
  torch.nn.functional.binary_cross_entropy_with_logits(
    bias.expand(600, 3),
    torch.tensor(SEVERAL, dtype=torch.float32),
    pos_weight=torch.tensor(weights),
  ).backward()
  np.testing.assert_allclose(bias.grad, 0, atol=1e-6)


def test_moments_standardize():
  moments = targets.moments(NUMBERS)
  scaled = (NUMBERS - moments["mean"]) / moments["std"]
  assert abs(scaled.mean()) < 1e-12 and abs(scaled.std() - 1) < 1e-12
