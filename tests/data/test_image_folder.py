"""Image folders: what they read, and the file that each mistake is told of."""

import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest

from tsjax.core import errors
from tsjax.data import image_folder, splits

RED, BLUE = (200, 10, 10), (10, 10, 200)


def paint(path, colour=RED, size=(6, 4), **options):
  """Writes an image of one colour; `size` is (height, width)."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full((*size, len(colour)), colour, np.uint8)
  PIL.Image.fromarray(pixels).save(path, **options)


@pytest.fixture(name="animals", scope="module")
def _animals(tmp_path_factory):
  """A folder with splits, of red cats (3 and 1) and blue dogs (2 and 1)."""
  root = tmp_path_factory.mktemp("data") / "animals"
  for i in range(3):
    paint(root / "train" / "cat" / f"{i}.png")
  for i in range(2):
    paint(root / "train" / "dog" / f"{i}.png", BLUE)
  paint(root / "test" / "cat" / "0.png")
  paint(root / "test" / "dog" / "0.png", BLUE)
  return root


@pytest.fixture(name="own")
def _own(animals, tmp_path):
  """A copy of the folder that a test may spoil."""
  return pathlib.Path(shutil.copytree(animals, tmp_path / "animals"))


def test_splits_and_classes_are_the_folders(animals):
  source = image_folder.image_folder(animals, (6, 4))
  assert source.splits == {"train": 5, "test": 2}
  assert source.classes == ("cat", "dog")
  assert source.labels("train").tolist() == [0, 0, 0, 1, 1]
  batch = source.read("train", np.array([4, 0]))
  assert batch["image"].shape == (2, 6, 4, 3)
  assert batch["image"].dtype == np.uint8
  assert batch["label"].tolist() == [1, 0] and batch["label"].dtype == np.int32
  np.testing.assert_array_equal(batch["image"][:, 0, 0], [BLUE, RED])
  assert source.read("test", np.zeros(0, int))["image"].shape == (0, 6, 4, 3)


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_a_validation_folder_is_the_validation_split(own, name):
  shutil.copytree(own / "test", own / name)
  source = image_folder.image_folder(own, 4)
  assert source.splits["validation"] == 2
  assert splits.carve(source)["validation"].name == "validation"


def test_folders_without_splits_give_a_stratified_share(tmp_path):
  for name, count in (("cat", 10), ("dog", 20), ("train", 30)):
    for i in range(count):
      paint(tmp_path / name / f"{i}.bmp", size=(2, 2))
  source = image_folder.image_folder(tmp_path, 2, test=0.3)
  # A class may be called "train": images lie right in it.
  assert source.classes == ("cat", "dog", "train")
  assert np.bincount(source.labels("test")).tolist() == [3, 6, 9]
  again = image_folder.image_folder(tmp_path, 2, test=0.3)
  np.testing.assert_array_equal(again.labels("test"), source.labels("test"))


@pytest.mark.parametrize("size", [4, (4,), (4, 4)])
def test_one_number_is_both_sides(animals, size):
  source = image_folder.image_folder(animals, size)
  assert source.read("test", np.array([0]))["image"].shape == (1, 4, 4, 3)


def test_the_order_of_classes_may_be_given(animals):
  source = image_folder.image_folder(animals, 4, classes=("dog", "cat"))
  assert source.classes == ("dog", "cat")
  image = source.read("train", np.array([0]))["image"]
  np.testing.assert_array_equal(image[0, 0, 0], BLUE)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_image_gets_one_shape(own, channels):
  folder = own / "train" / "cat"
  paint(folder / "a.jpg", size=(50, 30), quality=95)
  paint(folder / "b.JPEG", size=(3, 9), quality=95)
  paint(folder / "c.webp", size=(16, 16), lossless=True)
  paint(folder / "d.bmp", size=(1, 1))
  paint(folder / "e.png", (*RED, 128), size=(8, 2))
  PIL.Image.new("P", (5, 5)).save(folder / "f.png")
  PIL.Image.new("LA", (5, 5)).save(folder / "g.png")
  PIL.Image.new("1", (5, 5)).save(folder / "h.png")
  source = image_folder.image_folder(own, (8, 6), channels=channels)
  image = source.read("train", np.arange(11))["image"]
  assert image.shape == (11, 8, 6, channels)
  red = 200 if channels > 1 else 67  # 0.299 R + 0.587 G + 0.114 B
  np.testing.assert_allclose(image[3:8, :, :, 0].astype(int), red, atol=3)


def test_an_image_is_turned_as_its_camera_says(own):
  pixels = np.zeros((4, 2, 3), np.uint8)
  pixels[0] = 255  # the upper edge, which the camera held to the right
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  PIL.Image.fromarray(pixels).save(own / "train" / "cat" / "0.png", exif=exif)
  source = image_folder.image_folder(own, (2, 4), channels=1)
  image = source.read("train", np.array([0]))["image"]
  np.testing.assert_array_equal(image[0, :, :, 0], [[0, 0, 0, 255]] * 2)


def test_what_is_hidden_is_left_out(own):
  for path in (
    ".DS_Store",
    "train/.git/x",
    "train/cat/._0.png",
    "train/cat/Thumbs.db",
  ):
    file = own / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
  assert image_folder.image_folder(own, 4).splits["train"] == 5


def test_images_are_decoded_when_read_and_kept_if_they_fit(own):
  kept = image_folder.image_folder(own, 4)
  fresh = image_folder.image_folder(own, 4, keep_in_memory=False)
  small = image_folder.image_folder(own, 4, memory_limit=4 * 4 * 3 * 7 - 1)
  rows = np.array([0])
  for source in (kept, fresh, small):
    np.testing.assert_array_equal(
      source.read("train", rows)["image"][0, 0, 0], RED
    )
  paint(own / "train" / "cat" / "0.png", BLUE)
  seen = [s.read("train", rows)["image"][0, 0, 0] for s in (kept, fresh, small)]
  np.testing.assert_array_equal(seen, [RED, BLUE, BLUE])


def cut(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) - 40])


def sixteen_bits(path):
  pixels = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
  PIL.Image.fromarray(pixels).save(path)


# What is done to the folder -> what the one line must hold.
BAD = {
  "text in a class": (
    lambda own: (own / "train" / "cat" / "notes.txt").write_text("x"),
    "image_folder TMP/animals: TMP/animals/train/cat/notes.txt is no image"
    " (.png, .jpg,",
  ),
  "text beside classes": (
    lambda own: (own / "train" / "README").write_text("x"),
    "TMP/animals/train/README lies beside the folders of the classes; move it",
  ),
  "text beside the classes of test": (
    lambda own: (own / "test" / "README").write_text("x"),
    "TMP/animals/test/README lies beside the folders of the classes; move it",
  ),
  "text beside splits": (
    lambda own: (own / "labels.csv").write_text("x"),
    "TMP/animals/labels.csv is no split: known: test, train",
  ),
  "text called an image": (
    lambda own: (own / "test" / "dog" / "1.png").write_text("hello"),
    "TMP/animals/test/dog/1.png cannot be read as PNG, JPEG, WebP or BMP (",
  ),
  "empty file": (
    lambda own: (own / "test" / "dog" / "1.jpg").touch(),
    "TMP/animals/test/dog/1.jpg cannot be read as PNG",
  ),
  "another format": (
    lambda own: paint(own / "test" / "dog" / "1.gif"),
    "TMP/animals/test/dog/1.gif is no image (.png, .jpg, .jpeg, .webp, .bmp)",
  ),
  "16 bits": (
    lambda own: sixteen_bits(own / "test" / "dog" / "1.png"),
    "TMP/animals/test/dog/1.png has pixels of more than 8 bits (I;16)",
  ),
  "empty class": (
    lambda own: (own / "train" / "cow").mkdir(),
    "test has no folder of class 'cow', which train has",
  ),
  "empty class of both": (
    lambda own: [(own / s / "cow").mkdir() for s in ("train", "test")],
    "TMP/animals/train/cow holds no image; fill the class or take its folder",
  ),
  "class of test alone": (
    lambda own: paint(own / "test" / "cot" / "0.png"),
    "test has a folder of class 'cot', which train has not; did you mean 'cat'",
  ),
  "no class": (
    lambda own: shutil.rmtree(own / "test" / "cat")
    or shutil.rmtree(own / "test" / "dog"),
    "TMP/animals/test holds no folder of a class",
  ),
  "folder in a class": (
    lambda own: paint(own / "train" / "cat" / "more" / "0.png"),
    "TMP/animals/train/cat/more is a folder; images lie right in the folder",
  ),
  "misspelled split": (
    lambda own: (own / "test").rename(own / "tset"),
    "TMP/animals/tset is no split: did you mean 'test'",
  ),
  "two validations": (
    lambda own: [
      shutil.copytree(own / "test", own / name) for name in ("val", "valid")
    ],
    "val and valid are both the validation split; keep one",
  ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_cannot_be_read(own, tmp_path, case):
  spoil, told = BAD[case]
  spoil(own)
  with pytest.raises(errors.UserError) as e:
    image_folder.image_folder(own, 4)
  line = str(e.value).replace(str(tmp_path), "TMP")
  assert told in line and "\n" not in line


def test_a_damaged_image_is_named_when_it_is_read(own, tmp_path):
  paint(own / "test" / "cat" / "0.png", size=(64, 64))
  cut(own / "test" / "cat" / "0.png")
  source = image_folder.image_folder(own, 4)
  with pytest.raises(errors.UserError) as e:
    source.read("test", np.array([1, 0]))
  line = str(e.value).replace(str(tmp_path), "TMP")
  assert "TMP/animals/test/cat/0.png cannot be decoded (" in line


@pytest.mark.parametrize(
  "options, told",
  [
    ({"path": "anmals"}, "no such folder; did you mean 'animals'"),
    ({"size": 0}, r"size=0 must be \(height, width\)"),
    ({"size": (4, 4, 3)}, r"size=\(4, 4, 3\) must be"),
    ({"channels": 2}, r"channels=2 must be 1 \(grey\)"),
    ({"classes": ("cat",)}, "train has a folder of class 'dog', which classes"),
    ({"classes": ("cat", "dog", "emu")}, "train has no folder of class 'emu'"),
  ],
)
def test_options_that_do_not_fit(animals, options, told):
  given = {"path": animals, "size": 4, **options}
  given["path"] = animals.parent / given["path"]
  with pytest.raises(errors.UserError, match=told):
    image_folder.image_folder(**given)


def test_rows_that_are_not_there(animals):
  source = image_folder.image_folder(animals, 4)
  with pytest.raises(errors.UserError, match="no row -1"):
    source.read("train", np.array([-1]))
  with pytest.raises(errors.UserError, match="'tset'"):
    source.labels("tset")
