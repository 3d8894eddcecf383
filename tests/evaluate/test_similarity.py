"""CKA against its formula, and the laws that a similarity of features keeps."""

import numpy as np
import pytest

from tsjax.evaluate import similarity


def features(seed, n=200, d=8):
  return np.random.default_rng(seed).normal(size=(n, d))


def rotation(d):
  return np.linalg.qr(features(9, d, d))[0]


def hsic(x, y):
  """HSIC_1 as it is printed: Song et al. 2012, eq. 5."""
  n = len(x)
  k, m = x @ x.T, y @ y.T
  for matrix in (k, m):
    np.fill_diagonal(matrix, 0)
  ones = np.ones(n)
  return (
    np.trace(k @ m)
    + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
    - 2 / (n - 2) * (ones @ k @ m @ ones)
  ) / (n * (n - 3))


def test_equals_the_formula():
  x = features(0, 30, 5) + 3
  y = np.tanh(x[:, :3] - 3) + 0.5 * features(2, 30, 3)
  expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
  assert similarity.linear_cka(x, y) == pytest.approx(expected, rel=1e-10)
  assert 0.05 < expected < 0.95


def test_a_literal_example():
  # By hand: off the diagonal, x has the products 2, 4, 8 and rows that sum to
  # 0, 6, 10, 12; its square 4, 16, 64 and 0, 20, 68, 80. So 4 HSIC_1 are
  # 1168 + 28 * 168 / 6 - 1760 = 192, 168 + 28^2 / 6 - 280 = 56 / 3, and
  # 8736 + 168^2 / 6 - 11424 = 2016.
  x = np.array([[0.0], [1], [2], [4]])
  expected = 192 / np.sqrt(56 / 3 * 2016)
  assert similarity.linear_cka(x, x**2) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [4, 5, 200])
def test_rotated_scaled_and_moved_features_are_the_same(n):
  x = features(0, n)
  y = 1e-3 * (x @ rotation(8)) + 50
  assert similarity.linear_cka(x, x) == pytest.approx(1, abs=1e-12)
  assert similarity.linear_cka(x, y) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("d", [8, 200, 800])
def test_independent_features_are_near_0_however_wide(d):
  found = similarity.linear_cka(features(0, 400, d), features(1, 400, d))
  assert abs(found) < 0.03


def test_what_is_shared_raises_it_and_order_of_examples_does_not_matter():
  shared, noise = features(0), features(1)
  x = np.concatenate([shared, noise], axis=1)
  found = similarity.linear_cka(x, shared)
  assert 0.5 < found < 0.9
  order = np.random.default_rng(0).permutation(len(x))
  again = similarity.linear_cka(x[order], shared[order])
  assert again == pytest.approx(found, rel=1e-10)
  assert abs(similarity.linear_cka(x, shared[order])) < 0.1


def test_every_pair_at_once():
  first = [features(k, 40) for k in range(2)]
  second = [features(k, 40) for k in range(3)]
  found = similarity.cross_cka(
    *([similarity.gram(x) for x in xs] for xs in (first, second))
  )
  assert found.shape == (2, 3)
  for i, x in enumerate(first):
    for j, y in enumerate(second):
      expected = similarity.linear_cka(x, y)
      assert found[i, j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0, 1, 0.1, -1e6])
def test_features_that_never_change_have_no_similarity(value):
  constant = np.full((9, 3), value, np.float32)
  assert np.isnan(similarity.linear_cka(constant, features(0, 9)))


@pytest.mark.parametrize(
  ("x", "y", "said"),
  [
    (features(0, 3), features(0, 3), "n >= 4"),
    (features(0)[:, 0], features(0), r"\[n, d\]"),
    (features(0, 9), features(0, 8), r"\[8, 9\] examples"),
    (np.full((9, 2), np.nan), features(0, 9), "not finite"),
  ],
)
def test_what_does_not_compare_is_an_error(x, y, said):
  with pytest.raises(ValueError, match=said):
    similarity.linear_cka(x, y)


def test_positions_are_averaged():
  x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
  np.testing.assert_allclose(similarity.pooled(x), x.mean(axis=(1, 2)))
  assert similarity.pooled(x[:, 0, 0]).shape == (2, 5)
  assert similarity.pooled(x[:, 0, 0, 0]).shape == (2, 1)
  # [n, L, d] of one position more or less still compares.
  assert similarity.pooled(x[:, 0]).shape == (2, 5)
