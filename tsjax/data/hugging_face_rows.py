"""Rows of a Hugging Face data set as arrays: numbers and images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tsjax.core import errors
from tsjax.data import images


class Reader:
  """Reads numbers and images of some rows.

  Args:
    told: what errors call the data set.
    parts: split -> `datasets.Dataset`.
    image: the feature of images, or None.
    size: (height, width) of the images, or one number for both; None is that
      of the first image read, and others must be alike.
    channels: of the images: 1, 3 or 4.
    numbers: features of numbers, and of lists of them.

  Raises:
    UserError: the size is none.
  """

  def __init__(
    self,
    told: str,
    parts: Mapping[str, Any],
    image: str | None,
    size: int | tuple[int, int] | None,
    channels: int,
    numbers: Sequence[str],
  ):
    self._told, self._channels = told, channels
    self._size = None if size is None else images.size_of(told, size)
    # Of the first image of all, which is read when the source is made.
    self._first = self._size
    self._image, self._numbers = image, tuple(numbers)
    self._of_numbers, self._of_images = {}, {}
    for split, part in parts.items():
      if numbers:
        some = part.select_columns(list(numbers))
        self._of_numbers[split] = some.with_format("numpy")
      if image:
        import datasets

        some = part.select_columns([image])
        bytes_only = datasets.Image(decode=False)
        self._of_images[split] = some.cast_column(image, bytes_only)

  def read(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of some rows of a split.

    Raises:
      UserError: a value is missing, does not fit, or cannot be decoded.
    """
    result = {}
    if self._numbers:
      read = self._of_numbers[split][rows]
      for field in self._numbers:
        result[field] = self._checked(split, rows, field, read[field])
    if self._image:
      given = self._of_images[split][rows][self._image]
      result["image"] = self._decoded(split, rows, given)
    return result

  def _checked(
    self, split: str, rows: np.ndarray, field: str, array: Any
  ) -> np.ndarray:
    """Numbers of one shape, of at most 32 bits."""
    told = f"{self._told}: field {field!r} of split {split!r}"
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
      raise errors.UserError(
        f"{told} is {array.dtype}; a batch holds numbers of one shape only, and"
        " none may be missing"
      )
    if array.dtype.itemsize <= 4 and array.dtype.kind != "f":
      return array
    with np.errstate(over="ignore", invalid="ignore"):
      narrow = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
    # Of integers, what does not fit comes back as another.
    fits = np.isfinite(narrow) if array.dtype.kind == "f" else narrow == array
    bad = np.flatnonzero(~fits.reshape(len(rows), -1).all(axis=1))
    if bad.size:
      raise errors.UserError(
        f"{told}, row {rows[bad[0]]}, has a number that is missing, or does not"
        f" fit {narrow.dtype}"
      )
    return narrow

  def _decoded(
    self, split: str, rows: np.ndarray, given: Sequence[Any]
  ) -> np.ndarray:
    """Images, uint8 [n, height, width, channels]."""
    pixels = None
    for i, (row, one) in enumerate(zip(rows, given, strict=True)):
      told = f"{self._told}: split {split!r} row {row}, {self._image!r},"
      if one is None:
        raise errors.UserError(f"{told} is missing; take the row out")
      # A data set may hold the bytes, or say where the file is.
      file = one["path"] if one["bytes"] is None else one["bytes"]
      image = images.decode(told, file, self._size, self._channels)
      if self._first is None:
        self._first = image.shape[:2]
      if image.shape[:2] != self._first:
        raise errors.UserError(
          f"{told} is {list(image.shape[:2])}, unlike {list(self._first)} of"
          " the first; set size=, to which each is stretched"
        )
      if pixels is None:
        pixels = np.empty((len(rows), *image.shape), np.uint8)
      pixels[i] = image
    if pixels is None:
      pixels = np.empty((0, *self._first, self._channels), np.uint8)
    return pixels
