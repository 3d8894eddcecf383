"""Dumps of other frameworks: read a part at a time, and what is wrong told."""

import sys

import numpy as np
import pyarrow
from pyarrow import parquet
import pytest

from tsjax.core import errors
from tsjax.data import cache_import, cache_keys

SIZE, CLASSES = 30, 5
KEYS = np.random.RandomState(0).randint(0, 256, (SIZE, 16)).astype(np.uint8)
LOGITS = np.random.RandomState(1).randn(SIZE, CLASSES).astype(np.float32)


def top_k():
  """The columns of a top 3, in the order of the classes."""
  log_sum_exp = np.log(np.exp(LOGITS).sum(-1))
  indices = np.sort(np.argsort(-LOGITS, axis=-1)[:, :3], axis=-1)
  kept = np.take_along_axis(LOGITS, indices, axis=-1)
  return {
    "log_probabilities": kept - log_sum_exp[:, None],
    "indices": indices,
    "log_sum_exp": log_sum_exp,
  }


def columns(**changes):
  """The columns of a good dump of logits, with some replaced or removed."""
  whole = {"key": cache_keys.to_text(KEYS), "logits": LOGITS} | changes
  return {name: x for name, x in whole.items() if x is not None}


def write(folder, values, suffix=".npz"):
  path = folder / f"dump{suffix}"
  if suffix == ".npz":
    np.savez(path, **values)
  else:
    table = pyarrow.table(
      {name: x if x.ndim == 1 else list(x) for name, x in values.items()}
    )
    # Rows of a group and rows asked for do not go into each other.
    parquet.write_table(table, path, row_group_size=7)
  return path


def whole(dump, rows=4):
  """All blocks of a dump, joined."""
  blocks = list(dump.blocks(rows))
  assert [len(next(iter(b.values()))) for b in blocks[:-1]] == [rows] * (
    len(blocks) - 1
  )
  return {k: np.concatenate([b[k] for b in blocks]) for k in blocks[0]}


@pytest.mark.parametrize("suffix", cache_import.SUFFIXES)
@pytest.mark.parametrize("rows", [4, 30, 100])
def test_logits_come_back_in_blocks(tmp_path, suffix, rows):
  dump = cache_import.open_dump(write(tmp_path, columns(), suffix))
  assert (dump.size, dump.kind, dump.width) == (SIZE, "logits", CLASSES)
  np.testing.assert_array_equal(dump.keys, KEYS)
  found = whole(dump, rows) if rows < SIZE else next(dump.blocks(rows))
  np.testing.assert_array_equal(found["logits"], LOGITS)


@pytest.mark.parametrize("suffix", cache_import.SUFFIXES)
def test_a_top_k_comes_back_with_its_index(tmp_path, suffix):
  index = np.random.RandomState(2).permutation(SIZE)
  values = columns(key=None, logits=None, index=index, **top_k())
  dump = cache_import.open_dump(write(tmp_path, values, suffix))
  assert (dump.size, dump.kind, dump.width) == (SIZE, "top_k", 3)
  np.testing.assert_array_equal(dump.index, index)
  for name, expected in top_k().items():
    np.testing.assert_array_equal(whole(dump)[name], expected)


@pytest.mark.parametrize(
  "keys",
  [
    KEYS,
    cache_keys.to_text(KEYS).astype("S32"),
    np.char.upper(cache_keys.to_text(KEYS)),
  ],
)
def test_keys_may_be_bytes_or_text(tmp_path, keys):
  dump = cache_import.open_dump(write(tmp_path, columns(key=keys)))
  np.testing.assert_array_equal(dump.keys, KEYS)


def test_an_archive_is_read_a_part_at_a_time(tmp_path, monkeypatch):
  monkeypatch.setattr("tsjax.data.cache_columns._ROWS", 7)
  path = tmp_path / "dump.npz"
  np.savez_compressed(path, **columns())
  dump = cache_import.open_dump(path)
  np.testing.assert_array_equal(whole(dump)["logits"], LOGITS)


def test_the_likeliest_class_of_a_top_k_comes_first():
  best = cache_import.check_top_k(top_k(), CLASSES, str)
  np.testing.assert_array_equal(
    best["indices"], np.argsort(-LOGITS, axis=-1)[:, :3]
  )
  assert (np.diff(best["log_probabilities"], axis=-1) <= 0).all()


FILES = {
  "names examples by one of 'key' and 'index', and its columns are logits": (
    columns(key=None)
  ),
  "and its columns are index, key, logits": columns(index=np.arange(SIZE)),
  "holds either 'logits', or 'log_probabilities', 'indices' and 'log_sum_exp';"
  " its columns are key, logit": columns(logits=None, logit=LOGITS),
  "holds either": columns(**top_k()),
  "has no 'log_sum_exp', which belongs to a top k: did you mean 'logsumexp'?;"
  " zeros take the log-probabilities for logits": columns(
    logits=None,
    **{k: x for k, x in top_k().items() if k != "log_sum_exp"},
    logsumexp=top_k()["log_sum_exp"],
  ),
  "'logits' has 29 rows and 'key' 30; write one row for each": columns(
    logits=LOGITS[1:]
  ),
  "'logits' is [30]; it must be [examples, values]": columns(
    logits=LOGITS[:, 0]
  ),
  "'key' of row 3 is 'zz', which is not 32 hexadecimal digits": columns(
    key=np.array([*cache_keys.to_text(KEYS)[:3], "zz"] * 8)[:SIZE]
  ),
  "'key' is int64 [30]; write 32 hexadecimal digits": columns(
    key=np.arange(SIZE)
  ),
  "'index' has 4 in 2 rows, the first of them 4": columns(
    key=None, index=np.array([*range(29), 4])
  ),
  "'index' is float64 [30]; write an integer": columns(
    key=None, index=np.arange(30.0)
  ),
  "'indices' is [30, 2] and 'log_probabilities' [30, 3]; write a class": (
    columns(logits=None, **{**top_k(), "indices": top_k()["indices"][:, :2]})
  ),
  "holds no rows": columns(
    key=np.array([], "U32"), logits=np.zeros((0, CLASSES), np.float32)
  ),
  "'key' holds objects, which can run code": columns(
    key=cache_keys.to_text(KEYS).astype(object)
  ),
  "'logits' lies column after column": columns(
    logits=np.asfortranarray(LOGITS)
  ),
}


@pytest.mark.parametrize("said", FILES)
def test_a_dump_that_does_not_fit_is_told(tmp_path, said):
  path = write(tmp_path, FILES[said])
  with pytest.raises(errors.UserError) as error:
    cache_import.open_dump(path)
  text = str(error.value)
  assert text.startswith(f"{path}: ") and said in text and "\n" not in text


def test_rows_of_unlike_lengths_are_told(tmp_path):
  path = tmp_path / "dump.parquet"
  rows = [x.tolist() for x in LOGITS]
  rows[17] = rows[17][:3]
  table = {"key": cache_keys.to_text(KEYS), "logits": rows}
  parquet.write_table(pyarrow.table(table), path)
  dump = cache_import.open_dump(path)
  with pytest.raises(errors.UserError, match="row 17 has 3 values, and the"):
    whole(dump)
  rows[17] = None
  parquet.write_table(pyarrow.table(table), path)
  dump = cache_import.open_dump(path)
  with pytest.raises(errors.UserError, match=r"'logits' (has a row|of row 17)"):
    whole(dump)


def changed(name, row, place, value):
  block = {k: x.copy() for k, x in top_k().items()}
  block[name][row, place] = value
  return block


@pytest.mark.parametrize(
  ("block", "said"),
  [
    (changed("indices", 3, 1, 5), "row 3: names class 5, and the classes of"),
    (changed("indices", 3, 1, -1), "row 3: names class -1"),
    (
      changed("indices", 3, 1, top_k()["indices"][3, 0]),
      "row 3: names a class twice",
    ),
    (
      changed("log_probabilities", 3, 1, 0.5),
      "row 3: its probabilities add up to",
    ),
    (
      {**top_k(), "indices": top_k()["indices"].astype(float)},
      "row 0: 'indices' are float64; write integers",
    ),
  ],
)
def test_a_row_that_is_no_top_k_is_told(block, said):
  with pytest.raises(errors.UserError) as error:
    cache_import.check_top_k(block, CLASSES, lambda row: f"row {row}")
  assert said in str(error.value)


@pytest.mark.parametrize("suffix", cache_import.SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_is_told(tmp_path, suffix, share):
  path = write(tmp_path, columns(), suffix)
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * share)])
  with pytest.raises(errors.UserError) as error:
    whole(cache_import.open_dump(path))
  assert "cannot be read (" in str(error.value) and "\n" not in str(error.value)


def test_a_flipped_value_in_an_archive_is_told(tmp_path):
  path = write(tmp_path, columns())
  data = bytearray(path.read_bytes())
  data[data.index(LOGITS[20].tobytes())] ^= 1
  path.write_bytes(data)
  with pytest.raises(errors.UserError, match="cannot be read"):
    whole(cache_import.open_dump(path))


def test_a_file_that_is_not_there_or_of_another_kind_is_told(tmp_path):
  path = write(tmp_path, columns())
  with pytest.raises(errors.UserError, match=r"did you mean 'dump.npz'"):
    cache_import.open_dump(tmp_path / "dumb.npz")
  with pytest.raises(errors.UserError, match=r"is neither \.npz nor \.parquet"):
    cache_import.open_dump(path.with_suffix(".pt"))


def test_without_pyarrow_what_to_install_is_told(tmp_path, monkeypatch):
  path = write(tmp_path, columns(), ".parquet")
  monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  with pytest.raises(errors.UserError, match=r"pip install 'tsjax\[tables\]'"):
    cache_import.open_dump(path)


def test_the_checksum_is_of_the_file(tmp_path):
  first = cache_import.open_dump(write(tmp_path, columns())).checksum()
  assert len(first) == 32
  again = cache_import.open_dump(write(tmp_path, columns())).checksum()
  assert again == first
  other = cache_import.open_dump(write(tmp_path, columns(logits=LOGITS + 1)))
  assert other.checksum() != first
