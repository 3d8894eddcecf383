"""TFDS data sets are read at random, without TensorFlow."""

import io
import pathlib
import sys

import numpy as np
import pytest

from tsjax.core import errors
from tsjax.data import order, pipeline, splits, tfds_source

tfds = pytest.importorskip("tensorflow_datasets")
Image = pytest.importorskip("PIL.Image")

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"


def png(value, side=4):
  buffer = io.BytesIO()
  array = np.full((side, side, 3), value, np.uint8)
  Image.fromarray(array).save(buffer, "PNG")
  return buffer.getvalue()


def prepare(folder, name, examples, *, shape=(4, 4, 3), label=None):
  """Writes a data set with TFDS's own writer; splits by name."""
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=shape),
      "label": label or tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
      "size": np.float32,
      "text": tfds.features.Text(),
    }
  )
  body = {
    "name": name,
    "VERSION": tfds.core.Version("1.0.0"),
    "pkg_dir_path": None,
    "_info": lambda self: tfds.core.DatasetInfo(
      builder=self, features=features
    ),
    "_split_generators": lambda self, _: {
      split: iter(
        (i, {"size": float(i), "text": "none", **e}) for i, e in enumerate(rows)
      )
      for split, rows in examples.items()
    },
    "_generate_examples": lambda self: (),
  }
  # Registering would make a second preparation under this name an error.
  with tfds.core.registered.skip_registration():
    builder = type(
      name.title().replace("_", ""), (tfds.core.GeneratorBasedBuilder,), body
    )
  builder(
    data_dir=str(folder), file_format="array_record"
  ).download_and_prepare()


def rows(count, **changes):
  return [{"image": png(i), "label": i % 3, **changes} for i in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  prepare(folder, "plain", {"train": rows(30), "test": rows(6)})
  bad = rows(9)
  bad[5]["image"] = b"\x89PNG not really"
  uneven = rows(9)
  uneven[4]["image"] = png(4, side=6)
  prepare(folder, "bad_image", {"train": bad, "test": rows(3)})
  prepare(folder, "uneven", {"train": uneven}, shape=(None, None, 3))
  labels = rows(9)
  labels[6]["label"] = -1
  prepare(folder, "bad_label", {"train": labels})
  real = tfds.features.Scalar(np.float32)
  prepare(folder, "real_label", {"train": rows(3)}, label=real)
  return folder


@pytest.mark.parametrize("keep", [True, False])
def test_reads_any_rows(folder, keep):
  source = tfds_source.tfds(
    "plain", data_dir=folder, fields=["size"], keep_in_memory=keep
  )
  assert source.splits == {"train": 30, "test": 6}
  assert source.classes == ("cat", "dog", "owl")
  # TFDS shuffles what it writes; `size` is the example's own number.
  everything = source.read("train", np.arange(30))
  assert sorted(everything["size"]) == list(range(30))
  assert everything["image"].dtype == np.uint8
  assert everything["label"].dtype == np.int32
  np.testing.assert_array_equal(
    everything["image"][:, 3, 3, 0], everything["size"]
  )
  np.testing.assert_array_equal(everything["label"], everything["size"] % 3)
  some = source.read("train", np.array([7, 0, 7]))
  for field in some:
    np.testing.assert_array_equal(some[field], everything[field][[7, 0, 7]])
  np.testing.assert_array_equal(source.labels("train"), everything["label"])
  empty = source.read("train", np.array([], int))
  assert empty["image"].shape == (0, 4, 4, 3)
  assert "tensorflow" not in sys.modules


def test_splits_can_be_renamed_and_sliced(folder):
  source = tfds_source.tfds(
    "plain",
    data_dir=folder,
    splits={
      "train": "train[:50%]",
      "validation": "train[50%:]",
      "test": "test",
    },
  )
  assert source.splits == {"train": 15, "validation": 15, "test": 6}


def test_labels_need_no_images(folder):
  source = tfds_source.tfds("bad_image", data_dir=folder)
  assert len(source.labels("train")) == 9


def test_memory_is_used_where_it_suffices(folder):
  plain = tfds_source.tfds("plain", data_dir=folder)
  assert plain.keep_in_memory
  # 36 examples of 48 + 4 bytes.
  least = tfds_source.tfds("plain", data_dir=folder, memory_limit=36 * 52)
  assert least.keep_in_memory
  small = tfds_source.tfds("plain", data_dir=folder, memory_limit=36 * 52 - 1)
  assert not small.keep_in_memory
  assert not tfds_source.tfds("uneven", data_dir=folder).keep_in_memory


@pytest.mark.parametrize("keep", [True, False])
def test_feeds_the_pipeline(folder, keep):
  source = tfds_source.tfds("plain", data_dir=folder, keep_in_memory=keep)
  split = splits.carve(source, validation=0.2)["train"]
  stream = pipeline.train_batches(
    split, order.Order(split.size), batch_size=8, prefetch=3
  )
  index = np.concatenate([next(stream)["index"] for _ in range(3)])
  np.testing.assert_array_equal(np.sort(index), split.rows)


@pytest.mark.parametrize("keep", [True, False])
def test_a_corrupt_record_is_named(folder, keep):
  source = tfds_source.tfds("bad_image", data_dir=folder, keep_in_memory=keep)
  with pytest.raises(
    errors.UserError, match=r"'bad_image': split 'train' row \d is corrupt"
  ) as e:
    source.read("train", np.arange(9))
  assert "\n" not in str(e.value)
  assert len(source.read("test", np.arange(3))["label"]) == 3


def test_images_of_two_sizes_are_named(folder):
  source = tfds_source.tfds("uneven", data_dir=folder)
  with pytest.raises(errors.UserError, match=r"'train' row \d has 'image'"):
    source.read("train", np.arange(9))


def test_a_label_that_is_no_class_is_named(folder):
  source = tfds_source.tfds("bad_label", data_dir=folder)
  with pytest.raises(
    errors.UserError, match=r"'train' row \d has label -1, outside 0\.\.2"
  ):
    source.labels("train")


def test_a_file_that_is_cut(folder, tmp_path):
  prepare(tmp_path, "cut", {"train": rows(30)})
  (record,) = tmp_path.glob("cut/1.0.0/*array_record*")
  record.write_bytes(record.read_bytes()[:100])
  with pytest.raises(errors.UserError, match=r"'cut'.*'train'") as e:
    tfds_source.tfds("cut", data_dir=tmp_path).labels("train")
  assert "\n" not in str(e.value)


def test_a_file_that_is_gone(folder, tmp_path):
  prepare(tmp_path, "gone", {"train": rows(30)})
  (record,) = tmp_path.glob("gone/1.0.0/*array_record*")
  record.unlink()
  with pytest.raises(errors.UserError, match=r"'gone'.*'train'") as e:
    tfds_source.tfds("gone", data_dir=tmp_path).labels("train")
  assert "\n" not in str(e.value)


@pytest.mark.parametrize(
  "name, options, told",
  [
    ("cifar11", {}, ["'cifar11'", "no such data set", "'cifar10'"]),
    ("glue/sst9", {}, ["'glue/sst9'", "no config 'sst9'", "'sst2'"]),
    ("CIFAR 10", {}, ["'CIFAR 10'", "cannot be opened"]),
    ("mnist", {}, ["'mnist'", "not prepared", "download_and_prepare()"]),
    ("plain", {"image": "imag"}, ["'imag'", "did you mean 'image'"]),
    ("plain", {"label": "lable"}, ["'lable'", "did you mean 'label'"]),
    ("plain", {"label": "text"}, ["'text'", "cannot be the label"]),
    ("real_label", {}, ["'label'", "not an integer"]),
    ("plain", {"fields": ["text"]}, ["'text'", "numbers only"]),
    ("plain", {"splits": {"train": "tran"}}, ["'tran'", "'train'"]),
    ("plain", {"splits": {"train": "train[:x]"}}, ["'train[:x]'"]),
    ("plain", {"splits": {"train": "train[:0]"}}, ["'train'", "empty"]),
  ],
)
def test_errors(folder, name, options, told):
  with pytest.raises(errors.UserError) as e:
    tfds_source.tfds(name, data_dir=folder, **options)
  for part in told:
    assert part in str(e.value)
  assert "\n" not in str(e.value)


def test_what_is_not_there_cannot_be_read(folder):
  source = tfds_source.tfds("plain", data_dir=folder)
  with pytest.raises(errors.UserError, match=r"'tset'.*'test'"):
    source.labels("tset")
  with pytest.raises(errors.UserError, match=r"'train' has no row 30"):
    source.read("train", np.array([30]))


@pytest.mark.slow
def test_cifar10_of_real_images(tmp_path, monkeypatch):
  tool = SHARED / "tools" / "prepare_tfds.py"
  if not tool.exists():
    pytest.skip(f"{tool} is not there: it holds real images")
  import importlib.util

  spec = importlib.util.spec_from_file_location("prepare_tfds", tool)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert module.prepare("cifar10", tmp_path) == {"train": 3000, "test": 1000}
  source = tfds_source.tfds("cifar10", data_dir=tmp_path)
  assert len(source.classes) == 10
  carved = splits.carve(source)
  assert {k: v.size for k, v in carved.items()} == {
    "train": 2700,
    "validation": 300,
    "test": 1000,
  }
  (batch, *_) = pipeline.eval_batches(carved["test"], 64)
  assert batch["image"].shape == (64, 32, 32, 3)
  assert 100 < batch["image"].mean() < 150
  labels = source.labels("test")
  np.testing.assert_array_equal(batch["label"], labels[:64])
