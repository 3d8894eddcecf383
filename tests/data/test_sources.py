"""Sources read what they hold and name what is wrong with it."""

import numpy as np
import pytest

from tsjax.core import errors
from tsjax.data import sources


def split(size=4, **fields):
  return {
    "image": np.arange(size * 4, dtype=np.float32).reshape(size, 2, 2, 1),
    "label": np.arange(size) % 2,
    **fields,
  }


def test_digits_are_the_documented_data_set():
  source = sources.digits()
  assert source.splits == {"train": 1437, "test": 360}
  assert source.classes == tuple("0123456789")
  batch = source.read("train", np.array([3, 1, 3]))
  assert batch["image"].shape == (3, 8, 8, 1)
  assert batch["image"].dtype == np.float32
  assert batch["label"].dtype == np.int32
  np.testing.assert_array_equal(batch["image"][0], batch["image"][2])
  everything = source.read("train", np.arange(1437))["image"]
  assert everything.min() == 0 and everything.max() == 1


def test_digits_are_stratified_and_seeded():
  counts = np.bincount(sources.digits().labels("test"))
  # load_digits has 174 to 183 examples of each class.
  assert counts.min() >= 34 and counts.max() <= 37
  again = sources.digits(seed=0).labels("train")
  np.testing.assert_array_equal(again, sources.digits().labels("train"))
  assert (again != sources.digits(seed=1).labels("train")).any()


def test_read_answers_in_the_order_asked():
  source = sources.Arrays({"train": split()})
  batch = source.read("train", np.array([2, 0]))
  np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], [8, 0])
  assert source.read("train", np.array([], int))["image"].shape == (0, 2, 2, 1)


def test_npz_reads_what_was_saved(tmp_path):
  path = tmp_path / "small.npz"
  train, test = split(6), split(2)
  arrays = {f"train/{k}": v for k, v in train.items()}
  arrays |= {f"test/{k}": v for k, v in test.items()}
  np.savez(path, **arrays)
  source = sources.npz(path)
  assert source.splits == {"train": 6, "test": 2}
  assert source.classes == ("0", "1")
  np.testing.assert_array_equal(
    source.read("test", np.array([1]))["image"], test["image"][1:]
  )
  np.savez(path, **arrays, classes=np.array(["cat", "dog"]))
  assert sources.npz(path).classes == ("cat", "dog")
  assert sources.npz(path, classes=3).classes == ("0", "1", "2")
  assert sources.npz(path, classes=["a", "b"]).classes == ("a", "b")


nan = np.ones((4, 2, 2, 1), np.float32)
nan[3, 1, 0] = np.nan


@pytest.mark.parametrize(
  "arrays, told",
  [
    ({}, ["no split"]),
    ({"train": {"image": np.ones((2, 1))}}, ["'train'", "'label'"]),
    (
      {"train": split(), "test": {"imag": nan, "label": np.zeros(4, int)}},
      ["'train'", "'imag'", "did you mean 'image'"],
    ),
    ({"train": split(0)}, ["'train'", "empty"]),
    (
      {"train": split(4, label=np.zeros(3, int))},
      ["'train'", "different lengths", "image 4", "label 3"],
    ),
    (
      {"train": split(4, label=np.zeros(4))},
      ["'train'", "float64", "integers"],
    ),
    (
      {"train": split(), "test": split(4, label=np.array([0, 1, 2, 0]))},
      ["'test'", "row 2", "label 2", "0..1"],
    ),
    (
      {"train": split(4, label=np.array([0, -1, 1, 0]))},
      ["'train'", "row 1", "label -1"],
    ),
    ({"train": split(4, image=nan)}, ["'train'", "row 3", "corrupt", "finite"]),
    ({"train": split(4, index=np.zeros(4))}, ["'index'"]),
    ({"train": split(4, text=np.array(list("abcd")))}, ["'text'", "numbers"]),
    (
      {"train": split(), "test": split(4, image=np.ones((4, 3, 3, 1)))},
      ["'image'", "'test'", "[3, 3, 1]", "[2, 2, 1]"],
    ),
  ],
)
def test_arrays_that_do_not_fit(arrays, told):
  with pytest.raises(errors.UserError) as e:
    sources.Arrays(arrays, classes=("a", "b"), name="mine")
  for part in ["mine", *told]:
    assert part in str(e.value)
  assert "\n" not in str(e.value)


def test_large_finite_values_are_not_corrupt():
  large = np.full((4, 2), np.finfo(np.float64).max)
  sources.Arrays({"train": {"image": large, "label": np.zeros(4, int)}})


@pytest.mark.parametrize(
  "read, told",
  [
    (lambda s: s.read("tran", np.array([0])), ["'tran'", "'train'"]),
    (lambda s: s.labels("tset"), ["'tset'", "'test'"]),
    (lambda s: s.read("train", np.array([0, 4])), ["'train'", "row 4", "0..3"]),
    (lambda s: s.read("train", np.array([-1])), ["'train'", "row -1"]),
  ],
)
def test_what_is_not_there_cannot_be_read(read, told):
  source = sources.Arrays({"train": split(), "test": split()})
  with pytest.raises(errors.UserError) as e:
    read(source)
  for part in told:
    assert part in str(e.value)


@pytest.mark.parametrize("test", [0.0, 1.0, -0.2, 1.5, 0.001, 0.999])
def test_digits_need_both_splits(test):
  with pytest.raises(errors.UserError, match=f"test={test}"):
    sources.digits(test=test)


def cut(path):
  path.write_bytes(path.read_bytes()[:200])


def damaged(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 3] ^= 0xFF
  path.write_bytes(content)


def objects(path):
  label = np.array([0, None])
  np.savez(path, **{"train/label": label})


@pytest.mark.parametrize(
  "spoil, told",
  [
    (cut, ["the file", "cannot be read"]),
    (damaged, ["'train/image'", "cannot be read"]),
    (objects, ["'train/label'", "cannot be read", "without objects"]),
    (lambda path: path.write_bytes(b""), ["the file", "cannot be read"]),
    (lambda path: np.savez(path, image=np.ones(3)), ["'image'", "SPLIT/FIELD"]),
    (
      lambda path: path.rename(path.with_name("smal.npz")),
      ["no such file", "did you mean 'smal.npz'"],
    ),
  ],
)
def test_npz_that_cannot_be_read(tmp_path, spoil, told):
  path = tmp_path / "small.npz"
  np.savez(path, **{f"train/{k}": v for k, v in split(64).items()})
  spoil(path)
  with pytest.raises(errors.UserError) as e:
    sources.npz(path)
  for part in ["small.npz", *told]:
    assert part in str(e.value)
  assert "\n" not in str(e.value)


def test_npz_takes_no_bare_array(tmp_path):
  path = tmp_path / "bare.npz"
  with path.open("wb") as f:
    np.save(f, np.ones(3))
  with pytest.raises(errors.UserError, match=r"bare\.npz.*cannot be read"):
    sources.npz(path)


def test_npz_counts_classes_by_train(tmp_path):
  path = tmp_path / "small.npz"
  arrays = {f"train/{k}": v for k, v in split(4).items()}
  test = split(4, label=np.array([0, 1, 5, 0]))
  np.savez(path, **arrays, **{f"test/{k}": v for k, v in test.items()})
  with pytest.raises(errors.UserError, match=r"'test' row 2 has label 5"):
    sources.npz(path)
  assert len(sources.npz(path, classes=6).classes) == 6
