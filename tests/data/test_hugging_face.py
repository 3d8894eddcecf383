"""Hugging Face data sets: folders that the tests themselves save to disk."""

import sys

import datasets
import numpy as np
import PIL.Image
import pytest

from tsjax.core import errors
from tsjax.data import hugging_face, splits

FEATURES = datasets.Features(
  {
    "image": datasets.Image(),
    "label": datasets.ClassLabel(names=["cat", "dog"]),
    "digit": datasets.Value("int64"),
    "word": datasets.Value("string"),
    "score": datasets.Value("float64"),
    "vector": datasets.List(datasets.Value("float32")),
    "matrix": datasets.Array2D((2, 2), "float32"),
    "tags": datasets.List(datasets.ClassLabel(names=["x", "y", "z"])),
    "truths": datasets.List(datasets.Value("bool")),
  }
)


def pixels(i):
  return np.full((4, 6, 3), 10 * i, np.uint8)


def rows(size):
  return [
    {
      "image": PIL.Image.fromarray(pixels(i)),
      "label": i % 2,
      "digit": 5 + i % 3,
      "word": ("b", "a")[i % 2],
      "score": i / 2,
      "vector": [i, i + 1],
      "matrix": [[i, 0], [0, i]],
      "tags": [0, 2][: i % 3],
      "truths": [i % 2 == 0, True],
    }
    for i in range(size)
  ]


def part(size, **columns):
  made = datasets.Dataset.from_list(rows(size), features=FEATURES)
  for name, values in columns.items():
    made = made.remove_columns(name).add_column(name, values)
  return made


def save(path, **parts):
  made = datasets.DatasetDict(parts) if "all" not in parts else parts["all"]
  made.save_to_disk(str(path))
  return path


@pytest.fixture(autouse=True, scope="module")
def _quiet():
  datasets.disable_progress_bars()
  yield
  datasets.enable_progress_bars()


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("data") / "things"
  return save(path, train=part(12), test=part(4), validation=part(2))


def test_features_become_fields(folder):
  source = hugging_face.hugging_face(
    folder, fields=("score", "vector", "matrix", "word", "digit")
  )
  assert source.splits == {"train": 12, "test": 4, "validation": 2}
  assert source.classes == ("cat", "dog")
  assert source.labels("test").tolist() == [0, 1, 0, 1]
  batch = source.read("train", np.array([7, 2]))
  np.testing.assert_array_equal(batch["image"], [pixels(7), pixels(2)])
  assert batch["image"].dtype == np.uint8
  np.testing.assert_array_equal(batch["label"], [1, 0])
  np.testing.assert_array_equal(batch["score"], [3.5, 1])
  np.testing.assert_array_equal(batch["vector"], [[7, 8], [2, 3]])
  np.testing.assert_array_equal(batch["matrix"][0], [[7, 0], [0, 7]])
  np.testing.assert_array_equal(batch["digit"], [6, 7])
  # "a" and "b" are numbers, in this order.
  np.testing.assert_array_equal(batch["word"], [0, 1])
  assert source.names["word"] == ("a", "b")
  assert {f: a.dtype.itemsize for f, a in batch.items() if f != "image"} == {
    f: 4 for f in ("label", "score", "vector", "matrix", "word", "digit")
  }
  empty = source.read("train", np.zeros(0, int))
  assert empty["image"].shape == (0, 4, 6, 3) and empty["label"].shape == (0,)


def test_what_is_kept_in_memory_is_what_is_decoded(folder):
  options = {"fields": ("vector",), "size": (2, 3), "channels": 1}
  kept, fresh = (
    hugging_face.hugging_face(folder, keep_in_memory=keep, **options)
    for keep in (True, False)
  )
  some = np.array([3, 0, 3])
  one, other = kept.read("train", some), fresh.read("train", some)
  assert one["image"].shape == (3, 2, 3, 1)
  for field in one:
    np.testing.assert_array_equal(one[field], other[field])


def test_a_data_set_without_splits_is_shared_out(tmp_path):
  source = hugging_face.hugging_face(
    save(tmp_path / "one", all=part(12)), test=1 / 3
  )
  assert source.splits == {"train": 8, "test": 4}
  assert np.bincount(source.labels("test")).tolist() == [2, 2]
  seen = np.concatenate(
    [
      source.read(split, np.arange(size))["image"][:, 0, 0, 0] // 10
      for split, size in source.splits.items()
    ]
  )
  np.testing.assert_array_equal(np.sort(seen), np.arange(12))
  labels = np.concatenate([source.labels(split) for split in source.splits])
  np.testing.assert_array_equal(labels, seen % 2)


def test_splits_by_our_names(folder):
  source = hugging_face.hugging_face(
    folder, splits={"train": "train", "test": "validation"}
  )
  assert source.splits == {"train": 12, "test": 2}


@pytest.mark.parametrize(
  "label, target, classes, first",
  [
    ("digit", "class", ("5", "6", "7"), [0, 1, 2]),
    ("word", "class", ("a", "b"), [1, 0, 1]),
    ("score", "number", (), [0, 0.5, 1]),
    ("digit", "number", (), [5, 6, 7]),
    ("tags", "labels", ("x", "y", "z"), [[0, 0, 0], [1, 0, 0], [1, 0, 1]]),
    ("truths", "labels", ("0", "1"), [[1, 1], [0, 1], [1, 1]]),
  ],
)
def test_labels_of_every_kind(folder, label, target, classes, first):
  source = hugging_face.hugging_face(folder, label=label, target=target)
  assert source.classes == classes
  labels = source.labels("train")
  kinds = {"class": np.int32, "number": np.float32, "labels": bool}
  assert labels.dtype == kinds[target]
  np.testing.assert_array_equal(labels[:3], first)
  carved = splits.carve(
    hugging_face.hugging_face(
      folder, label=label, target=target, splits={"train": "train"}, test=0.25
    ),
    validation=0.3,
  )
  assert carved["validation"].size == 3


def test_classes_that_are_given(folder):
  source = hugging_face.hugging_face(
    folder, label="word", classes=("b", "a", "c")
  )
  assert source.classes == ("b", "a", "c")
  assert source.labels("train")[:2].tolist() == [0, 1]


# Arguments -> what the one line must hold.
BAD = [
  ({"image": "img"}, "has no feature 'img'; did you mean 'image'"),
  ({"image": "img"}, "image=None reads no image"),
  ({"image": "vector"}, "'vector' is List(Value('float32')), not an Image"),
  ({"label": "lable"}, "has no feature 'lable'; did you mean 'label'"),
  ({"image": None}, "nothing is read but the label; name fields=, or image="),
  ({"fields": ("label",)}, "'label' is a name that batches use themselves"),
  ({"fields": ("tags",)}, "field 'tags' of split 'train' is"),
  ({"splits": {"train": "tran"}}, "has no split 'tran'; did you mean 'train'"),
  ({"splits": {"test": "test"}}, "has no split 'train'; name one with splits="),
  ({"label": "score"}, "row 1, column 'score' is '0.5', a fraction and not a"),
  ({"label": "word", "target": "number"}, "'word' is 'b', not a number"),
  ({"label": "digit", "target": "labels"}, "target='labels' reads a list"),
  ({"target": "clas"}, "target='clas': did you mean 'class'"),
  ({"label": "word", "classes": ("a",)}, "column 'word' is 'b', no class of"),
  ({"size": 0}, "size=0 must be (height, width)"),
  ({"channels": 5}, "channels=5 must be 1 (grey)"),
]  # fmt: skip


@pytest.mark.parametrize("options, told", BAD)
def test_what_does_not_fit(folder, options, told):
  with pytest.raises(errors.UserError) as e:
    source = hugging_face.hugging_face(folder, **options)
    source.read("train", np.arange(12))
  assert told in str(e.value) and "\n" not in str(e.value)


def test_images_of_other_sizes_and_damaged_ones(tmp_path):
  table = rows(12)
  table[3]["image"] = PIL.Image.new("RGB", (9, 9))
  path = tmp_path / "sizes"
  made = datasets.Dataset.from_list(table, features=FEATURES)
  source = hugging_face.hugging_face(save(path, train=made, test=part(4)))
  told = r"split 'train' row 3, 'image', is \[9, 9\], unlike \[4, 6\]"
  with pytest.raises(errors.UserError, match=told):
    source.read("train", np.arange(12))
  stretched = hugging_face.hugging_face(path, size=4)
  assert stretched.read("train", np.arange(12))["image"].shape[1:] == (4, 4, 3)

  table[3]["image"] = {"bytes": b"\x89PNG no more", "path": None}
  made = datasets.Dataset.from_list(table, features=FEATURES)
  source = hugging_face.hugging_face(
    save(tmp_path / "damaged", train=made, test=part(4))
  )
  with pytest.raises(errors.UserError, match="row 3, 'image', cannot be read"):
    source.read("train", np.array([3]))

  table[3]["image"] = None
  made = datasets.Dataset.from_list(table, features=FEATURES)
  source = hugging_face.hugging_face(
    save(tmp_path / "missing", train=made, test=part(4))
  )
  with pytest.raises(errors.UserError, match="row 3, 'image', is missing"):
    source.read("train", np.array([3]))


def test_labels_and_numbers_that_are_missing(tmp_path):
  table = rows(12)
  table[5] |= {"label": None, "score": None, "word": None}
  made = datasets.Dataset.from_list(table, features=FEATURES)
  path = save(tmp_path / "missing", train=made, test=part(4))
  for label, told in (
    ("label", "split 'train': row 5, column 'label' is empty"),
    ("word", "split 'train': row 5, column 'word' is empty"),
  ):
    with pytest.raises(errors.UserError, match=told):
      hugging_face.hugging_face(path, label=label)
  source = hugging_face.hugging_face(path, label="digit", fields=("score",))
  with pytest.raises(errors.UserError, match=r"'score' of .*row 5, has a num"):
    source.read("train", np.arange(12))
  # GLUE's test splits keep their labels to themselves.
  table = [{**row, "label": -1} for row in rows(4)]
  made = datasets.Dataset.from_list(table, features=FEATURES)
  path = save(tmp_path / "secret", train=part(12), test=made)
  with pytest.raises(errors.UserError, match="'test' row 0 has label -1"):
    hugging_face.hugging_face(path)


def test_numbers_that_do_not_fit_32_bits(tmp_path):
  table = [
    {**row, "digit": 2**40 if i == 2 else i} for i, row in enumerate(rows(6))
  ]
  made = datasets.Dataset.from_list(table, features=FEATURES)
  source = hugging_face.hugging_face(
    save(tmp_path / "large", train=made, test=part(4)), fields=("digit",)
  )
  with pytest.raises(errors.UserError, match=r"row 2, has a .*not fit int32"):
    source.read("train", np.arange(6))


def test_folders_that_are_none(folder, tmp_path, monkeypatch):
  (tmp_path / "empty").mkdir()
  for name, told in (
    (tmp_path / "empty", "cannot be loaded .*save_to_disk"),
    (folder.with_name("thing"), "no such folder; did you mean 'things'"),
    ("./nowhere/things", "there is no such folder"),
    ("somebody/things", "needs revision=, the commit"),
  ):
    with pytest.raises(errors.UserError, match=told) as e:
      hugging_face.hugging_face(name)
    assert "\n" not in str(e.value)
  monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
  with pytest.raises(errors.UserError, match="the Hub cannot be reached"):
    hugging_face.hugging_face("somebody/things", revision="1a2b3c")


def test_without_the_library(folder, monkeypatch):
  monkeypatch.setitem(sys.modules, "datasets", None)
  with pytest.raises(errors.UserError, match=r"pip install 'tsjax\[hugging_f"):
    hugging_face.hugging_face(folder)


def test_a_cut_file_is_told(folder, tmp_path):
  path = save(tmp_path / "cut", train=part(12), test=part(4))
  file = next((path / "train").glob("*.arrow"))
  file.write_bytes(file.read_bytes()[:200])
  with pytest.raises(
    errors.UserError, match=r"cannot be loaded .*write it again"
  ):
    hugging_face.hugging_face(path)
