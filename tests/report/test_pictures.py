"""Pictures read back as what they were."""

import base64
import io

import numpy as np
import PIL.Image
import pytest

from tsjax.report import pictures


def read(uri):
  head, _, data = uri.partition(",")
  assert head == "data:image/png;base64"
  image = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
  image.verify()  # Checksums, too.
  return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("shape", [(8, 8, 1), (3, 5, 3), (64, 1, 1)])
def test_a_picture_reads_back_as_it_was(shape):
  image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  found = pictures.uri(image)
  assert pictures.is_uri(found)
  np.testing.assert_array_equal(read(found).reshape(shape), image)


@pytest.mark.parametrize(
  ("values", "expected"),
  [
    (np.uint8([7, 200]), [7, 200]),
    (np.float32([0, 0.2]), [0, 51]),
    (np.float32([-1, 1]), [0, 255]),
    (np.float32([0, 16]), [0, 255]),
    (np.int32([100, 100]), [0, 0]),
    (np.array([False, True]), [0, 255]),
    (np.float32([np.nan, 1]), [0, 255]),
  ],
)
def test_what_is_black_and_white(values, expected):
  images = np.broadcast_to(values[:, None, None, None], (2, 4, 4, 1))
  found = pictures.pixels(images)
  assert found.dtype == np.uint8 and found.shape == (2, 4, 4, 1)
  assert found[:, 0, 0, 0].tolist() == expected


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (224, 224), (500, 3)])
def test_large_pictures_shrink_by_averages(shape):
  random = np.random.default_rng(0)
  images = random.uniform(size=(2, *shape, 3))
  found = pictures.pixels(images)
  assert max(found.shape[1:3]) <= pictures.SIDE
  factor = -(-max(shape) // pictures.SIDE)
  corner = images[:, :factor, :factor].mean(axis=(1, 2))
  np.testing.assert_allclose(found[:, 0, 0], 255 * corner, atol=0.51)


@pytest.mark.parametrize(
  ("shape", "dtype", "expected"),
  [
    ((2, 8, 8, 1), "float32", True),
    ((2, 8, 8, 3), "uint8", True),
    ((2, 8, 8, 4), "uint8", False),
    ((2, 8, 8), "uint8", False),
    ((2, 1, 8, 1), "uint8", False),
    ((2, 8), "int32", False),
    ((2, 8, 8, 1), "complex64", False),
  ],
)
def test_what_is_a_picture(shape, dtype, expected):
  assert pictures.is_picture(np.zeros(shape, dtype)) is expected


@pytest.mark.parametrize(
  "value",
  [None, 3, "x", "http://a/b.png", "data:image/svg+xml;base64,AAAA"]
  + ['data:image/png;base64,A"><script>', "data:image/png;base64,"],
)
def test_nothing_else_passes_for_a_picture(value):
  assert not pictures.is_uri(value)
