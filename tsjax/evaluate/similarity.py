"""How alike two models' features are, whatever their axes and widths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Below this, the estimate without bias divides by nothing.
EXAMPLES = 4


def pooled(features: Any) -> Any:
  """Means over positions: `[n, ..., d]` to `[n, d]`.

  What two layers say about an example is compared, not where they say it; so
  layers of other resolutions compare, and a wide image costs no more than a
  small one. A value for each example, `[n]`, becomes `[n, 1]`.

  Args:
    features: an array of NumPy or JAX; means are in its dtype.
  """
  if features.ndim == 1:
    return features[:, None]
  count, width = features.shape[0], features.shape[-1]
  return features.reshape(count, -1, width).mean(axis=1)


def gram(features: np.ndarray) -> np.ndarray:
  """The centred Gram matrix whose inner products are HSIC without bias.

      A_ij = K_ij - r_i / (n - 2) - r_j / (n - 2) + s / ((n - 1) (n - 2))

  for i != j and 0 on the diagonal, where K = X X^T with its diagonal set to 0,
  r are its sums over rows and s is the sum of all (Székely and Rizzo 2014,
  "Partial distance correlation with methods for dissimilarities", eq. 2.1).

  Args:
    features: [n, d], n at least 4.

  Returns:
    float64 [n, n]. `(gram(x) * gram(y)).sum() / (n (n - 3))` is HSIC_1 of Song
    et al. 2012 for linear kernels.

  Raises:
    ValueError: the shape is another, there are fewer examples, or a value is
      not finite.
  """
  features = np.asarray(features).astype(np.float64)
  if features.ndim != 2 or len(features) < EXAMPLES:
    raise ValueError(
      f"features have shape {features.shape}, not [n, d] with n >= {EXAMPLES}"
    )
  if not np.isfinite(features).all():
    raise ValueError("features are not finite")
  n = len(features)
  # Centring changes nothing of what follows but keeps the digits of features
  # that are far from 0.
  scale = np.abs(features).max(initial=0.0)
  features = features - features.mean(axis=0)
  # What is left of a constant is rounding, which must not pass for features.
  features[np.abs(features) <= 1e-12 * scale] = 0.0
  products = features @ features.T
  np.fill_diagonal(products, 0.0)
  rows = products.sum(axis=1) / (n - 2)
  centred = products - rows[:, None] - rows[None, :] + rows.sum() / (n - 1)
  np.fill_diagonal(centred, 0.0)
  return centred


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
  """Linear centred kernel alignment of two sets of features, without bias.

      CKA = HSIC_1(X, Y) / sqrt(HSIC_1(X, X) HSIC_1(Y, Y))

  1 where one is the other rotated, scaled and moved; near 0, on either side,
  for independent ones, however wide they are: the estimate with bias (Kornblith
  et al. 2019, "Similarity of Neural Network Representations Revisited", eq. 4)
  grows with width / n. Without bias: Nguyen et al. 2021, "Do Wide and Deep
  Networks Learn the Same Things?", eq. 3, over all examples as one batch.

  Args:
    x: [n, d] features of n examples, n at least 4.
    y: [n, e] features of the same examples.

  Returns:
    At most 1; NaN where features are the same for all examples.

  Raises:
    ValueError: as `gram`, or the numbers of examples differ.
  """
  return float(cross_cka([gram(x)], [gram(y)])[0, 0])


def cross_cka(
  first: Sequence[np.ndarray], second: Sequence[np.ndarray]
) -> np.ndarray:
  """`linear_cka` of every pair, from their Gram matrices.

  Args:
    first: of `gram`, [n, n] each.
    second: likewise, of the same examples.

  Returns:
    float64 [len(first), len(second)].

  Raises:
    ValueError: the numbers of examples differ.
  """
  sizes = {len(g) for g in (*first, *second)}
  if len(sizes) > 1:
    raise ValueError(f"features of {sorted(sizes)} examples do not compare")
  products = np.array([[np.vdot(a, b) for b in second] for a in first])
  scales = [
    np.sqrt([np.vdot(g, g) for g in grams]) for grams in (first, second)
  ]
  with np.errstate(invalid="ignore", divide="ignore"):
    return products / np.multiply.outer(*scales)
