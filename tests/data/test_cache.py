"""A cache: keys of contents, files that prove themselves, refusals."""

import dataclasses
import importlib
import json
import pathlib

from etils import epath
from fsspec.implementations import memory
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.data import (
  cache,
  cache_header,
  cache_keys,
  cache_shards,
  cache_writer,
  pipeline,
  sources,
  splits,
)
from tsjax.data import order as order_lib

SIZE, CLASSES = 50, 4
VIEW = {"call": "tsjax.data.views.image", "shift": 1}


def source(seed=0, size=SIZE):
  draw = np.random.RandomState(seed)
  return sources.Arrays(
    {
      name: {
        "image": draw.rand(size, 3, 3, 1).astype(np.float32),
        "label": draw.randint(0, CLASSES, size),
      }
      for name in ("train", "test")
    },
    classes=tuple("abcd"),
  )


def train(seed=0):
  return splits.whole(source(seed), "train")


def header(**changes):
  return dataclasses.replace(
    cache_header.Header(
      kind="logits",
      dtype="float32",
      shape=(CLASSES,),
      top_k=None,
      temperature=None,
      examples=SIZE,
      fields={"image": "float32[3, 3, 1]"},
      view="train",
      view_spec=VIEW,
      augmentation=None,
      teacher={"stage": "teacher", "run": "mine", "checksum": "aa"},
      computed={"batch_size": 8},
      shard_examples=16,
    ),
    **changes,
  )


def outputs(header):
  """Outputs of all examples, by name: no two rows alike."""
  values = {}
  for name, (dtype, shape) in header.arrays().items():
    draw = np.random.RandomState(len(name)).rand(SIZE, *shape)
    values[name] = (draw * 3).astype(dtype)
  return values


def write(folder, header, split, stop=None):
  """Writes a cache, or its first shards and then no more."""
  batch = split.read(np.arange(SIZE))
  drawn = batch["index"] if header.augmentation else None
  keys = cache_keys.content_keys(cache_keys.key_fields(batch), drawn)
  values = {"key": keys, **outputs(header)}
  writer = cache_writer.Writer(folder, header)
  for shard in writer.missing[:stop]:
    rows = header.rows(shard)
    writer.write(
      shard, {k: x[rows.start : rows.stop] for k, x in values.items()}
    )
  if stop is None:
    writer.finish()
  return writer


def contents(folder):
  return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


def facts(**changes):
  return cache_header.Facts(
    **{
      "key": "config.stages.student.cached.big",
      "view": "train",
      "view_spec": VIEW,
      "random": False,
      "seed": 0,
      "epochs": 3,
      "classes": CLASSES,
      **changes,
    }
  )


def test_a_key_is_of_the_content_alone():
  batch = train().read(np.arange(SIZE))
  fields = cache_keys.key_fields(batch)
  # Label, index and what a stage may use say nothing of the question.
  assert list(fields) == ["image"]
  keys = cache_keys.content_keys(fields)
  assert keys.shape == (SIZE, 16)
  assert len(np.unique(keys, axis=0)) == SIZE
  order = np.random.RandomState(0).permutation(SIZE)
  np.testing.assert_array_equal(
    cache_keys.content_keys({"image": batch["image"][order]}), keys[order]
  )
  strided = np.repeat(batch["image"], 2, axis=0)[::2]
  np.testing.assert_array_equal(
    cache_keys.content_keys({"image": strided.astype(">f4")}), keys
  )
  for changed in (
    {"image": batch["image"].reshape(SIZE, 9)},
    {"image": batch["image"].view(np.int32)},
    {"picture": batch["image"]},
    {"image": batch["image"] + np.float32(1e-7)},
  ):
    assert (cache_keys.content_keys(changed) != keys).any(axis=1).all()


def test_a_key_is_the_one_that_was_written_down_years_ago():
  # hashlib.blake2b(b'{"fields": {"x": "int16[3]"}, "index": false}\0' + row,
  # digest_size=16), row the six bytes, little end first.
  batch = {"x": np.arange(6, dtype=np.int16).reshape(2, 3)}
  keys = cache_keys.to_text(cache_keys.content_keys(batch))
  assert keys.tolist() == [
    "f9ff5ac7bf5064a8160483b3360bc8f4",
    "6bc7ca0890b384a8475ef16ac6508dca",
  ]


def test_equal_examples_at_two_places_have_two_keys_where_draws_differ():
  batch = {"image": np.zeros((2, 3, 3, 1), np.float32)}
  plain = cache_keys.content_keys(batch)
  drawn = cache_keys.content_keys(batch, np.array([4, 5], np.int32))
  assert (plain[0] == plain[1]).all()
  assert (drawn[0] != drawn[1]).any()


def test_a_table_finds_every_key_among_near_ones_and_no_other():
  draw = np.random.RandomState(0)
  keys = draw.randint(0, 256, (300, 16)).astype(np.uint8)
  keys[:100, :8] = keys[0, :8]  # One first half, as chance would not do.
  keys[200:210] = keys[40]  # Examples that are the same.
  table = cache_keys.Table(keys)
  assert table.size == 290
  expected = np.arange(300)
  expected[200:210] = 40
  order = draw.permutation(300)
  np.testing.assert_array_equal(table.find(keys[order]), expected[order])
  others = keys.copy()
  others[:, 15] ^= 1
  np.testing.assert_array_equal(table.find(others), -1)


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"dtype": "float16", "augmentation": {"seed": 0, "epochs": 3}},
    {"kind": "top_k", "top_k": 2, "temperature": 4.0, "dtype": "float16"},
  ],
)
def test_outputs_come_back_as_they_were_written(tmp_path, changes):
  told = header(**changes)
  split = train()
  write(tmp_path / "c", told, split)
  opened = cache.open(tmp_path / "c")
  assert opened.header == told and opened.size == SIZE
  positions = np.random.RandomState(1).randint(0, SIZE, 64)
  batch = split.read(positions)
  found = opened.lookup(batch, batch["index"])
  for name, expected in outputs(told).items():
    assert found[name].dtype == expected.dtype
    np.testing.assert_array_equal(found[name], expected[positions])


def test_the_safetensors_layout_is_the_published_one(tmp_path):
  # https://huggingface.co/docs/safetensors: length, JSON, arrays without gaps.
  write(tmp_path / "c", header(), train())
  data = (tmp_path / "c" / "shard_00003.safetensors").read_bytes()
  length = int.from_bytes(data[:8], "little")
  head = json.loads(data[8 : 8 + length])
  assert head.pop("__metadata__").keys() == {"header", "key", "logits"}
  assert head == {
    "logits": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
    "key": {"dtype": "U8", "shape": [2, 16], "data_offsets": [32, 64]},
  }
  assert len(data) == 8 + length + 64
  logits = np.frombuffer(data[8 + length :][:32], "<f4").reshape(2, 4)
  np.testing.assert_array_equal(logits, outputs(header())["logits"][48:])


def test_a_killed_writer_ends_in_the_same_bytes(tmp_path):
  split = train()
  write(tmp_path / "whole", header(), split)
  write(tmp_path / "c", header(), split, stop=1)
  write(tmp_path / "c", header(), split, stop=2)
  # What a kill in the middle of a file leaves.
  (tmp_path / "c" / "shard_00003.safetensors.17.part").write_bytes(b"half")
  with pytest.raises(errors.UserError) as error:
    cache.open(tmp_path / "c")
  assert "unfinished, with 3" in str(error.value)
  assert "run the same `tsjax cache` again" in str(error.value)
  assert write(tmp_path / "c", header(), split, stop=0).missing == [3]
  write(tmp_path / "c", header(), split)
  assert contents(tmp_path / "c") == contents(tmp_path / "whole")
  assert write(tmp_path / "c", header(), split).missing == []


def test_a_shard_that_is_written_again_unfinishes_the_cache(tmp_path):
  writer = write(tmp_path / "c", header(), train())
  shard = cache_shards.Shard(epath.Path(tmp_path / "c/shard_00003.safetensors"))
  arrays = {name: shard.array(name) for name in ("key", "logits")}
  writer.write(3, arrays)
  with pytest.raises(errors.UserError, match="unfinished"):
    cache.open(tmp_path / "c")


def damaged_reads(folder, split):
  """Opens and reads a whole cache."""
  batch = split.read(np.arange(SIZE))
  return cache.open(folder).lookup(batch, batch["index"])["logits"]


@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "empty"])
def test_a_damaged_file_is_told_and_never_read(tmp_path, how):
  split, draw = train(), np.random.RandomState(3)
  write(tmp_path / "c", header(), split)
  whole = contents(tmp_path / "c")
  expected = outputs(header())["logits"]
  for name, data in whole.items():
    path = tmp_path / "c" / name
    for _ in range(12 if how == "flipped" else 2):
      broken = bytearray(data)
      if how == "flipped":
        broken[draw.randint(len(data))] ^= 1 << draw.randint(8)
      elif how == "cut":
        broken = broken[: draw.randint(1, len(data))]
      path.write_bytes(b"" if how == "empty" else broken)
      if how == "gone":
        path.unlink()
      try:
        found = damaged_reads(tmp_path / "c", split)
      except errors.UserError as e:
        assert "\n" not in str(e) and str(tmp_path) in str(e)
        assert "tsjax cache" in str(e) or "write the cache anew" in str(e)
      else:
        # A flip in the white space of JSON says nothing else.
        assert name.endswith(".json")
        np.testing.assert_array_equal(found, expected)
      # The same command again mends it.
      write(tmp_path / "c", header(), split)
      assert contents(tmp_path / "c") == whole


def test_a_shard_of_another_cache_is_not_taken_for_ones_own(tmp_path):
  # Of the same size and shapes, but another teacher's.
  split = train()
  write(tmp_path / "a", header(), split)
  write(tmp_path / "b", header(teacher={"checksum": "bb"}), split)
  name = "shard_00001.safetensors"
  (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
  with pytest.raises(cache_shards.Damaged, match="shard_00001"):
    cache.open(tmp_path / "a")
  assert write(tmp_path / "a", header(), split, stop=0).missing == [1]


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"dtype": "float16"}, "header.dtype was 'float32' and is now 'float16'"),
    (
      {"teacher": {"stage": "teacher", "run": "mine", "checksum": "bb"}},
      "header.teacher.checksum was 'aa' and is now 'bb'",
    ),
    ({"view": "plain"}, "header.view was 'train' and is now 'plain'"),
  ],
)
def test_a_folder_of_another_cache_is_refused(tmp_path, changes, said):
  write(tmp_path / "c", header(), train())
  before = contents(tmp_path / "c")
  with pytest.raises(errors.UserError) as error:
    cache_writer.Writer(tmp_path / "c", header(**changes))
  assert said in str(error.value) and "another --out" in str(error.value)
  assert contents(tmp_path / "c") == before


def test_a_folder_with_other_things_is_refused(tmp_path):
  (tmp_path / "run.json").write_text("{}")
  with pytest.raises(errors.UserError, match=r"holds other things \(run.json"):
    cache_writer.Writer(tmp_path, header())
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match="is a file; name a folder"):
    cache_writer.Writer(tmp_path / "file", header())
  with pytest.raises(errors.UserError, match="cannot be made"):
    cache_writer.Writer(tmp_path / "file" / "below", header())
  with pytest.raises(errors.UserError, match=r"header.json is not there"):
    cache.open(tmp_path)


@pytest.mark.parametrize(
  ("stored", "asked", "said"),
  [
    ({}, {"classes": 100}, "of 4 classes, and this run has 100"),
    (
      {},
      {"view_spec": {**VIEW, "shift": 2}},
      "of view 'train' with view.shift=1, and the teachers of this run see"
      " 'train' with 2; set the stage's teacher_view",
    ),
    (
      {},
      {"random": True},
      "without its random draws, and the teachers of this run see 'train' with"
      " them: set the stage's teacher_view to that view held still"
      " (tsjax.data.still), or write the cache with --epochs=3 --seed=0",
    ),
    (
      {"augmentation": {"seed": 0, "epochs": 3}},
      {"random": True, "seed": 1},
      "of the draws of seed 0, and this run draws with seed 1; write it with"
      " --epochs=3 --seed=1",
    ),
    (
      {"augmentation": {"seed": 0, "epochs": 2}},
      {"random": True},
      "of the draws of 2 epochs, and the stage begins 3; train for less, or"
      " write it with --epochs=3",
    ),
    (
      {"augmentation": {"seed": 0, "epochs": 3}},
      {"random": True, "view": "other"},
      "of the draws of view 'train', and the teachers of this run see other"
      " draws, those of 'other'",
    ),
    (
      {"kind": "top_k", "top_k": 2, "temperature": 4.0},
      {"temperatures": {"soft": 2.0}},
      "the top 2 at temperature 4, and that of term 'soft' is 2; set it to 4,"
      " or write the cache with --temperature=2",
    ),
    (
      {"kind": "top_k", "top_k": 2, "temperature": 4.0},
      {"temperatures": {"soft": None}},
      "and that of term 'soft' changes; make it a number",
    ),
    (
      {},
      {"teachers": {"teacher": "bb"}},
      "of stage 'teacher' of run 'mine' with checksum aa, and that of this run"
      " with seed 0 has bb; write the cache from this run",
    ),
  ],
)
def test_a_run_that_asks_for_other_outputs_is_refused(stored, asked, said):
  with pytest.raises(errors.UserError) as error:
    cache_header.check(header(**stored), facts(**asked), "FOLDER")
  text = str(error.value)
  assert text.startswith("config.stages.student.cached.big=FOLDER: holds")
  assert said in text and "\n" not in text


@pytest.mark.parametrize(
  ("stored", "asked"),
  [
    ({}, {}),
    # A view that draws nothing may have another name.
    ({}, {"view": "plain", "seed": 5}),
    ({"augmentation": {"seed": 0, "epochs": 4}}, {"random": True}),
    (
      {"kind": "top_k", "top_k": 2, "temperature": 4.0},
      {"temperatures": {"soft": 4.0}},
    ),
    ({}, {"temperatures": {"soft": None}, "teachers": {"teacher": "aa"}}),
    ({"teacher": {"file": "dump.npz"}}, {"teachers": {"teacher": "bb"}}),
  ],
)
def test_a_run_that_asks_for_these_outputs_takes_them(stored, asked):
  cache_header.check(header(**stored), facts(**asked), "FOLDER")


def test_examples_that_are_missing_are_counted_and_the_first_is_named(tmp_path):
  split = train()
  write(tmp_path / "c", header(), split)
  opened = cache.open(tmp_path / "c")
  opened.check_examples(split, "key")
  images = split.source.arrays["train"]["image"].copy()
  images[[17, 30]] += 1
  other = sources.Arrays(
    {"train": {**split.source.arrays["train"], "image": images}}
  )
  with pytest.raises(errors.UserError) as error:
    opened.check_examples(splits.whole(other, "train"), "key")
  assert "lacks 2 of 50 examples of split 'train' (the first: index 17)" in str(
    error.value
  )
  batch = splits.whole(other, "train").read(np.arange(16, 20))
  with pytest.raises(errors.UserError, match=r"lacks 1 of 4 .*index 17\)"):
    opened.lookup(batch, batch["index"])


def test_examples_of_other_fields_are_told(tmp_path):
  split = train()
  write(tmp_path / "c", header(), split)
  opened = cache.open(tmp_path / "c")
  arrays = dict(split.source.arrays["train"])
  arrays["image"] = (arrays["image"] * 255).astype(np.uint8)
  other = splits.whole(sources.Arrays({"train": arrays}), "train")
  with pytest.raises(
    errors.UserError,
    match=r"field.image float32\[3, 3, 1\], and this data has uint8\[3, 3, 1\]",
  ):
    opened.check_examples(other, "key")
  arrays["picture"] = arrays.pop("image")
  other = splits.whole(sources.Arrays({"train": arrays}), "train")
  with pytest.raises(
    errors.UserError, match="by field 'image', which the data"
  ):
    opened.check_examples(other, "key")


def test_batches_of_a_joined_split_hold_what_the_teachers_say(tmp_path):
  split = train()
  top = header(kind="top_k", top_k=2, temperature=4.0)
  drawn = header(augmentation={"seed": 0, "epochs": 3})
  for name, told in (("top", top), ("drawn", drawn)):
    write(tmp_path / name, told, split)
  some = dataclasses.replace(
    split, rows=split.rows[5:40], labelled=split.labelled[5:40]
  )
  joined = cache.Joined(
    some, {name: cache.open(tmp_path / name) for name in ("top", "drawn")}
  )
  assert joined.size == 35 and joined.name == "train"
  stream = pipeline.train_batches(
    joined, order_lib.Order(35, seed=1), batch_size=8
  )
  for _ in range(6):
    batch = next(stream)
    plain = {k: x for k, x in batch.items() if not k.startswith("teacher/")}
    assert plain.keys() == {
      "image", "label", "index", "labelled", "epoch", "mask"
    }  # fmt: skip
    assert batch["teacher/drawn"].shape == (8, 3, CLASSES)
    np.testing.assert_array_equal(
      batch["teacher/drawn"], outputs(drawn)["logits"][batch["index"]]
    )
    for name, expected in outputs(top).items():
      np.testing.assert_array_equal(
        batch[f"teacher/top/{name}"], expected[batch["index"]]
      )
  stream.close()


def test_a_remote_folder_is_written_and_read_like_a_local_one(
  tmp_path, monkeypatch
):
  known = importlib.import_module("fsspec.registry")._registry
  for name in ("gs", "gcs"):
    monkeypatch.setitem(known, name, memory.MemoryFileSystem)
  folder = epath.Path("gs://bucket/c")
  try:
    split = train()
    write(folder, header(), split, stop=2)
    with pytest.raises(errors.UserError, match="unfinished, with 2"):
      cache.open(folder)
    assert write(folder, header(), split).missing == []
    write(tmp_path / "c", header(), split)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == contents(
      tmp_path / "c"
    )
    batch = split.read(np.arange(7, 12))
    np.testing.assert_array_equal(
      cache.open(folder).lookup(batch, batch["index"])["logits"],
      outputs(header())["logits"][7:12],
    )
  finally:
    memory.MemoryFileSystem.store.clear()


def test_values_that_cannot_teach_are_named(tmp_path):
  def told(row):
    return f"row {row}"

  values = outputs(header())
  values["logits"][3, 1] = np.nan
  with pytest.raises(errors.UserError, match="row 3: logits holds nan, which"):
    cache_writer.stored(values, header(), told)
  values["logits"][3, 1] = 7e4
  cache_writer.stored(values, header(), told)
  with pytest.raises(
    errors.UserError, match="70000, which is too large for float16; store it"
  ):
    cache_writer.stored(values, header(dtype="float16"), told)
  # A class that the teacher excludes.
  values["logits"][3, 1] = -np.inf
  kept = cache_writer.stored(values, header(dtype="float16"), told)
  assert kept["logits"][3, 1] == -np.inf and kept["logits"].dtype == np.float16


@pytest.mark.parametrize(
  ("examples", "classes", "batch", "batches", "shards"),
  [
    (1293, 10, 64, 8, 3),
    (50_000, 100, 128, 8, 49),
    # ImageNet: a hundredth a file.
    (1_281_167, 1000, 256, 51, 99),
    # Draws of 300 epochs: more in a file, for a process maps no thousands.
    (1_281_167, 1000, 256, 20, 251),
  ],
)
def test_shards_are_whole_batches_of_a_bounded_size(
  examples, classes, batch, batches, shards
):
  told = header(
    examples=examples,
    shape=(classes,),
    dtype="float16",
    augmentation={"seed": 0, "epochs": 300} if shards > 100 else None,
  )
  rows = cache_header.shard_examples(told, batch)
  assert rows == batches * batch
  assert dataclasses.replace(told, shard_examples=rows).shards == shards
