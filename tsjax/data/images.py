"""Images of files and bytes: what they must be, and their pixels."""

import io
import os
from typing import Any

import numpy as np

from tsjax.core import errors

# How Pillow names the formats, and the ends of their files' names.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Channels -> how Pillow names such pixels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Modes of 8 bits or fewer a channel; Pillow would clip what has more.
_EIGHT_BITS = (
  "1",
  "L",
  "LA",
  "P",
  "PA",
  "RGB",
  "RGBA",
  "RGBX",
  "CMYK",
  "YCbCr",
)


def size_of(name: str, size: int | tuple[int, int]) -> tuple[int, int]:
  """(height, width) of a size that may be one number for both.

  Raises:
    UserError: a side is no whole number from 1.
  """
  sides = (size,) if isinstance(size, int) else tuple(size)
  # An override of a tuple by one number is a tuple of one.
  sides = sides * 2 if len(sides) == 1 else sides
  if len(sides) != 2 or any(int(s) != s or s < 1 for s in sides):
    raise errors.UserError(
      f"{name}: size={size!r} must be (height, width), each 1 or more"
    )
  return int(sides[0]), int(sides[1])


def check_channels(name: str, channels: int) -> None:
  """Raises UserError unless images can have so many channels."""
  if channels not in _MODES:
    raise errors.UserError(
      f"{name}: channels={channels!r} must be 1 (grey), 3 (RGB) or 4 (RGBA)"
    )


def check(told: str, file: str | os.PathLike[str] | bytes) -> None:
  """Reads what stands before the pixels.

  Args:
    told: what errors call the image.
    file: a path, or the bytes of one.

  Raises:
    UserError: it is none of `FORMATS`, or has more than 8 bits a channel.
  """
  with _opened(told, file):
    pass


def decode(
  told: str,
  file: str | os.PathLike[str] | bytes,
  size: tuple[int, int] | None,
  channels: int,
) -> np.ndarray:
  """The pixels, uint8 [height, width, channels].

  The image is turned as its camera says (EXIF), its first frame is taken, it
  is converted to the channels and then stretched by Pillow's bilinear filter,
  which averages over what it makes smaller.

  Args:
    told: what errors call the image.
    file: a path, or the bytes of one.
    size: (height, width); None keeps the image's own.
    channels: 1, 3 or 4. What is transparent keeps the colour below.

  Raises:
    UserError: it cannot be decoded.
  """
  import PIL.Image
  import PIL.ImageOps

  with _opened(told, file) as image:
    try:
      image = PIL.ImageOps.exif_transpose(image).convert(_MODES[channels])
    # A file that is cut or damaged: OSError, SyntaxError, ValueError and more.
    except Exception as e:
      raise errors.UserError(
        f"{told} cannot be decoded ({_reason(e)}); mend it or take it out"
      ) from e
    if size is not None and image.size != size[::-1]:
      image = image.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(*image.size[::-1], channels)


def _opened(told: str, file: str | os.PathLike[str] | bytes) -> Any:
  """An open image, of which the header is read."""
  import PIL.Image

  given = io.BytesIO(file) if isinstance(file, bytes) else file
  try:
    image = PIL.Image.open(given, formats=FORMATS)
  # Also a picture that is a bomb: `DecompressionBombError`.
  except Exception as e:
    raise errors.UserError(
      f"{told} cannot be read as PNG, JPEG, WebP or BMP ({_reason(e)}); mend it"
      " or take it out"
    ) from e
  if image.mode not in _EIGHT_BITS:
    image.close()
    raise errors.UserError(
      f"{told} has pixels of more than 8 bits ({image.mode}), which would be"
      " clipped; convert it to 8 bits"
    )
  return image


def _reason(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0].strip()[:200] if lines else type(error).__name__
