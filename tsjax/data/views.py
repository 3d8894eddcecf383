"""Views: what a model sees of an example, as pure functions of (example, key).

A view is written for one example and without a batch axis; the step maps it
over the batch. With key None nothing is random: that is evaluation.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.ndimage
import numpy as np

from tsjax.core import errors

__all__ = ["fields", "image"]

View = Callable[[Mapping[str, jax.Array], jax.Array | None], Any]

# What `jnp.pad` calls a mode -> what `map_coordinates` calls it.
_PAD_MODES = {
  "constant": "constant",
  "edge": "nearest",
  "reflect": "mirror",
  "symmetric": "reflect",
}


def image(
  field: str = "image",
  *,
  mean: float | tuple[float, ...] = 0.0,
  std: float | tuple[float, ...] = 1.0,
  shift: int = 0,
  flip: bool = False,
  crop: int | tuple[int, int] | None = None,
  rotate: float = 0.0,
  pad_mode: str = "constant",
) -> View:
  """A view of an image, float32 [height, width, channels].

  uint8 is scaled to 0..1 first; (x - mean) / std comes last, so `mean` and
  `std` are those of images in 0..1 and the padding "constant" is black.

  Args:
    field: the field of the example, [height, width, channels].
    mean: a number, or one for each channel.
    std: a number, or one for each channel; never 0.
    shift: largest random shift in pixels, down and right and back: padding and
      a random crop of the old size.
    flip: mirrors left and right in half of the draws.
    crop: height and width of a window, at a random place; in the middle
      without a key.
    rotate: largest random rotation in degrees, either way; bilinear.
    pad_mode: what lies beyond the border: "constant" (0), "edge", "reflect"
      or "symmetric".

  Raises:
    UserError: an option is out of range; or, when the view is traced, the
      field is missing or its shape does not fit the options.
  """
  if pad_mode not in _PAD_MODES:
    raise errors.UserError(
      f"pad_mode={pad_mode!r}: {errors.nearest(pad_mode, _PAD_MODES)}"
    )
  if shift < 0 or shift != int(shift):
    raise errors.UserError(f"shift={shift!r} must be a number of pixels, 0 up")
  if not 0 <= rotate <= 180:
    raise errors.UserError(f"rotate={rotate!r} must be in 0..180 degrees")
  if not np.all(np.asarray(std) > 0):
    raise errors.UserError(f"std={std!r} must be more than 0")
  window = (crop, crop) if isinstance(crop, int) else crop
  if window is not None and (len(window) != 2 or min(window) < 1):
    raise errors.UserError(
      f"crop={crop!r} must be (height, width), each 1 or more"
    )

  def view(
    example: Mapping[str, jax.Array], key: jax.Array | None = None
  ) -> jax.Array:
    pixels = _pixels(example, field)
    if key is not None:
      keys = jax.random.split(key, 4)
      if rotate:
        pixels = _rotate(pixels, rotate, pad_mode, keys[0])
      if shift:
        pixels = _shift(pixels, shift, pad_mode, keys[1])
      if flip:
        mirrored = jax.random.bernoulli(keys[2])
        pixels = jnp.where(mirrored, pixels[:, ::-1], pixels)
    if window is not None:
      pixels = _crop(pixels, window, None if key is None else keys[3])
    channels = pixels.shape[-1]
    return (pixels - _per_channel("mean", mean, channels)) / _per_channel(
      "std", std, channels
    )

  return view


def fields(name: str = "image", *, dtype: str | None = "float32") -> View:
  """A view that is one field of any kind as it stands, with any key.

  Args:
    name: the field of the example.
    dtype: what it is cast to; None leaves it, for tokens say.

  Raises:
    UserError: when the view is traced, the field is missing.
  """

  def view(
    example: Mapping[str, jax.Array], key: jax.Array | None = None
  ) -> jax.Array:
    del key
    value = jnp.asarray(_field(example, name))
    return value if dtype is None else value.astype(dtype)

  return view


def _field(example: Mapping[str, jax.Array], name: str) -> jax.Array:
  if name not in example:
    raise errors.UserError(
      f"the view reads field {name!r}, which the example lacks:"
      f" {errors.nearest(name, example)}"
    )
  return example[name]


def _pixels(example: Mapping[str, jax.Array], field: str) -> jax.Array:
  """The image, float32 [height, width, channels]; 0..1 if it was uint8."""
  pixels = jnp.asarray(_field(example, field))
  if pixels.ndim != 3:
    raise errors.UserError(
      f"field {field!r} of an example is {list(pixels.shape)}; an image view"
      " needs [height, width, channels]"
    )
  if pixels.dtype == jnp.uint8:
    return pixels.astype(jnp.float32) / 255
  if not jnp.issubdtype(pixels.dtype, jnp.floating):
    raise errors.UserError(
      f"field {field!r} is {pixels.dtype}; an image is uint8, or float in 0..1"
    )
  return pixels.astype(jnp.float32)


def _per_channel(
  name: str, value: float | tuple[float, ...], channels: int
) -> np.ndarray:
  """`value` as float32 [1, 1, 1] or [1, 1, channels]."""
  array = np.asarray(value, np.float32).reshape(1, 1, -1)
  if array.size not in (1, channels):
    raise errors.UserError(
      f"{name} has {array.size} values and the image {channels} channels"
    )
  return array


def _shift(
  pixels: jax.Array, shift: int, pad_mode: str, key: jax.Array
) -> jax.Array:
  """Moves the image by up to `shift` pixels along both axes."""
  if pad_mode in ("reflect", "symmetric") and shift >= min(pixels.shape[:2]):
    raise errors.UserError(
      f"shift={shift} is too large to {pad_mode} an image of"
      f" {list(pixels.shape[:2])}; use pad_mode='edge'"
    )
  padded = jnp.pad(pixels, ((shift, shift), (shift, shift), (0, 0)), pad_mode)
  return _crop(padded, pixels.shape[:2], key)


def _crop(
  pixels: jax.Array, window: tuple[int, int], key: jax.Array | None
) -> jax.Array:
  """A window at a random place, or in the middle without a key."""
  room = pixels.shape[0] - window[0], pixels.shape[1] - window[1]
  if min(room) < 0:
    raise errors.UserError(
      f"crop={tuple(window)} is larger than the image, {pixels.shape[:2]}"
    )
  if key is None:
    top, left = room[0] // 2, room[1] // 2
  else:
    top, left = jax.random.randint(
      key, (2,), jnp.zeros(2, jnp.int32), jnp.array(room, jnp.int32) + 1
    )
  return jax.lax.dynamic_slice(
    pixels, (top, left, 0), (*window, pixels.shape[-1])
  )


def _rotate(
  pixels: jax.Array, degrees: float, pad_mode: str, key: jax.Array
) -> jax.Array:
  """Turns the image about its middle by up to `degrees` either way."""
  limit = math.radians(degrees)
  angle = jax.random.uniform(key, minval=-limit, maxval=limit)
  middle = [(side - 1) / 2 for side in pixels.shape[:2]]
  down, right = np.meshgrid(
    *(
      np.arange(side, dtype=np.float32) - np.float32(half)
      for side, half in zip(pixels.shape[:2], middle, strict=True)
    ),
    indexing="ij",
  )
  coordinates = [
    jnp.cos(angle) * down - jnp.sin(angle) * right + middle[0],
    jnp.sin(angle) * down + jnp.cos(angle) * right + middle[1],
  ]

  def turn(channel: jax.Array) -> jax.Array:
    return jax.scipy.ndimage.map_coordinates(
      channel, coordinates, order=1, mode=_PAD_MODES[pad_mode]
    )

  return jax.vmap(turn, in_axes=-1, out_axes=-1)(pixels)
