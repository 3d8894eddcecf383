"""Views are pure in (example, key), and one example's view is the batch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.data import views


@pytest.fixture(autouse=True)
def strict():
  with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
    yield


def pixels(channels=3, height=8, width=6):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (height, width, channels)).astype(np.uint8)


def moved(image, down, right):
  """The image moved with black coming in, by hand."""
  height, width = image.shape[:2]
  result = np.zeros_like(image)
  result[
    max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)
  ] = image[
    max(-down, 0) : height + min(-down, 0),
    max(-right, 0) : width + min(-right, 0),
  ]
  return result


def draw(view, image, count):
  """Views of one image under `count` keys."""
  keys = jax.random.split(jax.random.key(1), count)
  mapped = jax.jit(jax.vmap(view, in_axes=(None, 0)))
  return np.asarray(mapped({"image": image}, keys))


ALL = {
  "shift": 2,
  "flip": True,
  "crop": (5, 4),
  "rotate": 30.0,
  "pad_mode": "reflect",
  "mean": (0.4, 0.5, 0.6),
  "std": 0.25,
}
KEYS = jax.random.split(jax.random.key(0), 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_scaled_and_floats_are_not(channels):
  image = pixels(channels)
  view = views.image()
  out = view({"image": image}, None)
  assert out.shape == image.shape and out.dtype == jnp.float32
  np.testing.assert_allclose(out, image / 255, rtol=1e-6)
  floats = (image / 255).astype(np.float32)
  np.testing.assert_allclose(view({"image": floats}, None), floats)


def test_normalisation_is_by_channel():
  image = pixels()
  out = views.image(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))(
    {"image": image}, None
  )
  want = (image / 255 - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
  np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)


def test_without_a_key_nothing_is_random():
  example = {"image": pixels()}
  plain = views.image(mean=ALL["mean"], std=ALL["std"])(example, None)
  out = views.image(**{**ALL, "crop": None})(example, None)
  np.testing.assert_array_equal(out, plain)
  middle = views.image(crop=(4, 2))(example, None)
  np.testing.assert_allclose(middle, pixels()[2:6, 2:4] / 255, rtol=1e-6)


def test_a_view_is_a_function_of_its_key():
  view, example = jax.jit(views.image(**ALL)), {"image": pixels()}
  np.testing.assert_array_equal(view(example, KEYS[0]), view(example, KEYS[0]))
  assert (view(example, KEYS[0]) != view(example, KEYS[1])).any()


def test_the_view_of_a_batch_is_the_views_of_its_examples():
  view = jax.jit(views.image(**ALL))
  batch = {"image": np.stack([pixels(), pixels()[::-1], pixels()[:, ::-1]])}
  mapped = jax.jit(jax.vmap(view))(batch, KEYS)
  assert mapped.shape == (3, 5, 4, 3)
  for i in range(3):
    one = view({"image": batch["image"][i]}, KEYS[i])
    np.testing.assert_allclose(mapped[i], one, atol=1e-5)
  plain = jax.vmap(lambda e: view(e, None))(batch)
  np.testing.assert_allclose(
    plain[1], view({"image": batch["image"][1]}, None), atol=1e-6
  )


def test_a_shift_moves_by_every_offset_up_to_its_limit():
  image = pixels().astype(np.float32) / 255
  seen = set()
  known = {(d, r): moved(image, d, r) for d in (-1, 0, 1) for r in (-1, 0, 1)}
  for out in draw(views.image(shift=1), image, 100):
    offsets = [o for o, m in known.items() if np.array_equal(m, out)]
    assert len(offsets) == 1
    seen.add(offsets[0])
  assert seen == set(known)


def test_a_flip_mirrors_half_of_the_draws():
  image = pixels().astype(np.float32) / 255
  out = draw(views.image(flip=True), image, 200)
  mirrored = [np.array_equal(o, image[:, ::-1]) for o in out]
  straight = [np.array_equal(o, image) for o in out]
  assert all(m != s for m, s in zip(mirrored, straight))
  assert 70 < sum(mirrored) < 130


def test_a_crop_is_a_window_of_the_image():
  image = pixels().astype(np.float32) / 255
  windows = np.lib.stride_tricks.sliding_window_view(image, (5, 5, 3))
  seen = set()
  for out in draw(views.image(crop=5), image, 60):
    (where,) = np.argwhere((windows == out).all((-3, -2, -1)))
    seen.add(tuple(where[:2].tolist()))
  assert seen == {(i, j) for i in range(4) for j in range(2)}


def test_a_rotation_keeps_the_middle_and_moves_the_rim():
  image = np.zeros((9, 9, 1), np.float32)
  image[4, 4] = 1.0
  image[4, 8] = 1.0
  out = draw(views.image(rotate=60.0), image, 32)
  np.testing.assert_allclose(out[:, 4, 4, 0], 1.0, atol=1e-5)
  # Up and down from the right, at both signs of the angle.
  assert out[:, :4].sum((1, 2, 3)).max() > 0.5
  assert out[:, 5:].sum((1, 2, 3)).max() > 0.5


def test_shift_uses_the_padding_that_it_is_told():
  image = np.ones((4, 4, 1), np.float32)
  for mode, least in [("constant", 0.0), ("edge", 1.0), ("symmetric", 1.0)]:
    out = draw(views.image(shift=2, pad_mode=mode), image, 32)
    assert out.min() == least


def test_a_field_is_itself():
  example = {"audio": np.arange(5, dtype=np.int16)}
  out = views.fields("audio")(example, KEYS[0])
  assert out.dtype == jnp.float32
  np.testing.assert_array_equal(out, np.arange(5))
  assert views.fields("audio", dtype=None)(example, None).dtype == jnp.int16


@pytest.mark.parametrize(
  "options, told",
  [
    ({"pad_mode": "reflec"}, "pad_mode='reflec'.*'reflect'"),
    ({"shift": -1}, "shift=-1"),
    ({"shift": 1.5}, "shift=1.5"),
    ({"rotate": 200.0}, "rotate=200.0"),
    ({"std": 0.0}, "std=0.0"),
    ({"std": (1.0, 0.0)}, r"std=\(1.0, 0.0\)"),
    ({"crop": 0}, "crop=0"),
    ({"crop": (3,)}, r"crop=\(3,\)"),
  ],
)
def test_options_are_checked_when_the_view_is_built(options, told):
  with pytest.raises(errors.UserError, match=told):
    views.image(**options)


@pytest.mark.parametrize(
  "view, example, told",
  [
    (views.image("imag"), {"image": pixels()}, "'imag'.*'image'"),
    (views.fields("imag"), {"image": pixels()}, "'imag'.*'image'"),
    (views.image(), {"image": pixels()[0]}, r"\[6, 3\].*\[height, width"),
    (views.image(), {"image": pixels().astype(np.int32)}, "int32"),
    (views.image(mean=(0.1, 0.2)), {"image": pixels()}, "mean has 2 .* 3"),
    (views.image(std=(0.1, 0.2)), {"image": pixels(1)}, "std has 2 .* 1"),
    (views.image(crop=7), {"image": pixels()}, r"crop=\(7, 7\).*\(8, 6\)"),
    (
      views.image(shift=6, pad_mode="reflect"),
      {"image": pixels()},
      "shift=6.*'edge'",
    ),
  ],
)
def test_examples_that_do_not_fit(view, example, told):
  with pytest.raises(errors.UserError, match=told):
    view(example, KEYS[0])
