"""What a finished cache came to, in one line."""

from collections.abc import Mapping

import numpy as np

from tsjax.data import cache, cache_header


def summary(opened: cache.Cache, agreed: int, compared: int) -> str:
  """One line on a finished cache.

  Args:
    opened: the cache.
    agreed: for how many examples the first class is the label.
    compared: of how many.
  """
  header = opened.header
  kept = "logits" if header.kind == "logits" else f"top {header.top_k}"
  kept += f" of {header.classes:,} classes"
  if header.classes == 1:
    kept = "numbers"
  drawn = (
    f", {header.epochs} epochs of seed {header.augmentation['seed']}"
    if header.augmentation
    else ""
  )
  size = sum(f.stat().length for f in opened.folder.iterdir())
  label = (
    f"; the first class is the label of {agreed / compared:.2%} of {compared:,}"
    if compared
    else ""
  )
  return (
    f"cache: {opened.folder}: {header.examples:,} examples, {kept} in"
    f" {header.dtype}, view {header.view!r}"
    f"{drawn}, {size / 2**20:,.1f} MiB{label}"
  )


def agreement(
  arrays: Mapping[str, np.ndarray],
  labels: np.ndarray | None,
  header: cache_header.Header,
) -> tuple[int, int]:
  """For how many examples the first class is the label, and of how many.

  Args:
    arrays: the header's arrays `[n, ...]`.
    labels: integers [n]; others are not compared.
    header: of the cache.
  """
  if labels is None or labels.dtype.kind not in "iu" or labels.ndim != 1:
    return 0, 0
  if len(header.shape) != 1:
    return 0, 0
  if header.kind == "logits":
    best = np.argmax(arrays["logits"], axis=-1)
  else:
    best = arrays["indices"][..., 0]
  # Of several epochs' draws, the first.
  best = best[:, 0] if header.epochs else best
  return int((best == labels).sum()), len(labels)
