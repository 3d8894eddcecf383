"""Small pictures of examples, as PNG within the page."""

import base64
import re
import struct
import zlib

import numpy as np

# Pixels of a picture's longer side; a larger one is averaged down to it.
SIDE = 64
_URI = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


def is_picture(array: np.ndarray) -> bool:
  """Whether `[n, ...]` are pictures: `[n, height, width, 1 or 3]` numbers."""
  array = np.asarray(array)
  return (
    array.ndim == 4
    and array.shape[-1] in (1, 3)
    and min(array.shape[1:3]) > 1
    and array.dtype.kind in "biuf"
  )


def pixels(images: np.ndarray) -> np.ndarray:
  """Images as bytes, at most `SIDE` on a side.

  Bytes stay what they are, and values within [0, 1] are taken for shares of
  white; what else there is, is stretched from the least to the largest of all.

  Args:
    images: [n, height, width, 1 or 3], bool, integers or floats.

  Returns:
    uint8 [n, height, width, 1 or 3].
  """
  values = np.asarray(images)
  if values.dtype != np.uint8:
    values = np.nan_to_num(values.astype(np.float64))
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    if low < 0 or high > 1:
      low, high = values.min(), values.max()
      values = (values - low) / ((high - low) or 1.0)
    values = 255 * values
  factor = -(-max(values.shape[1:3]) // SIDE)
  if factor > 1:
    count, height, width, channels = values.shape
    # Edges that do not fill a block are cut.
    rows, columns = max(height // factor, 1), max(width // factor, 1)
    values = values[:, : rows * factor, : columns * factor].astype(np.float64)
    values = values.reshape(count, rows, -1, columns, factor, channels)
    values = values.mean(axis=(2, 4))
  return np.round(values).clip(0, 255).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
  """A picture, uint8 [height, width, 1 or 3], as a PNG file.

  Source: the PNG specification, third edition, sections 5 and 11; one filter,
  "none", as the pictures are too small for another to save anything.
  """
  height, width, channels = image.shape
  kind = {1: 0, 3: 2}[channels]
  header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
  rows = np.zeros((height, 1 + width * channels), np.uint8)
  rows[:, 1:] = image.reshape(height, -1)
  chunks = (
    (b"IHDR", header),
    (b"IDAT", zlib.compress(rows.tobytes(), 9)),
    (b"IEND", b""),
  )
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data))
    + name
    + data
    + struct.pack(">I", zlib.crc32(name + data))
    for name, data in chunks
  )


def uri(image: np.ndarray) -> str:
  """A picture as the text that stands for its file in a page."""
  return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def is_uri(value: object) -> bool:
  """Whether this is a text that `uri` could have made."""
  return isinstance(value, str) and bool(_URI.fullmatch(value))
