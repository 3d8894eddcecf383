"""Batches: one global stream, whatever the hosts and wherever it resumes."""

import itertools
import threading

import numpy as np
import pytest

from tsjax.core import errors
from tsjax.data import order, pipeline, sources, splits


def make(size=50, labels=1.0):
  y = np.arange(size) % 5
  x = np.arange(size, dtype=np.float32)[:, None]
  source = sources.Arrays({"train": {"image": x, "label": y}})
  split = splits.whole(source, "train")
  return splits.with_labels(split, labels, seed=0)


def take(count, split, batch_size=8, **options):
  stream = pipeline.train_batches(
    split, order.Order(split.size, 1), batch_size=batch_size, **options
  )
  return list(itertools.islice(stream, count))


def same(one, other):
  assert len(one) == len(other)
  for a, b in zip(one, other):
    assert a.keys() == b.keys()
    for field in a:
      np.testing.assert_array_equal(a[field], b[field])


def join(parts):
  """The global batches of the hosts' batches."""
  return [
    {k: np.concatenate([p[k] for p in step]) for k in step[0]}
    for step in zip(*parts)
  ]


def test_a_batch_has_the_fields_of_the_contract():
  (batch,) = take(1, make(labels=0.2))
  types = {k: (v.dtype.name, v.shape) for k, v in batch.items()}
  assert types == {
    "image": ("float32", (8, 1)),
    "label": ("int32", (8,)),
    "index": ("int32", (8,)),
    "epoch": ("int32", (8,)),
    "labelled": ("bool", (8,)),
    "mask": ("bool", (8,)),
  }
  assert batch["mask"].all()
  np.testing.assert_array_equal(batch["image"][:, 0], batch["index"])


def test_every_epoch_has_every_example_once_across_batches():
  batches = take(25, make())  # 25 * 8 = 4 * 50
  index = np.concatenate([b["index"] for b in batches]).reshape(4, 50)
  epoch = np.concatenate([b["epoch"] for b in batches]).reshape(4, 50)
  np.testing.assert_array_equal(np.sort(index), [np.arange(50)] * 4)
  np.testing.assert_array_equal(epoch, np.arange(4)[:, None].repeat(50, 1))


def test_reading_ahead_changes_nothing():
  same(take(20, make(), prefetch=0), take(20, make(), prefetch=4))


def test_four_hosts_see_the_batches_of_one():
  parts = [take(20, make(), process=p, processes=4) for p in range(4)]
  same(join(parts), take(20, make()))


def test_hosts_may_change_within_an_epoch():
  one = take(3, make())
  parts = [
    take(10, make(), start_step=3, process=p, processes=2) for p in range(2)
  ]
  same(one + join(parts), take(13, make()))


@pytest.mark.parametrize("step", [1, 6, 7, 17])
def test_a_resumed_stream_continues(step):
  same(take(5, make(), start_step=step), take(step + 5, make())[step:])


def test_evaluation_masks_its_padding():
  split = make(10, labels=0.5)
  batches = list(pipeline.eval_batches(split, 4))
  assert [len(b["mask"]) for b in batches] == [4, 4, 4]
  everything = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  mask = everything["mask"]
  np.testing.assert_array_equal(mask, np.arange(12) < 10)
  np.testing.assert_array_equal(everything["index"][mask], np.arange(10))
  np.testing.assert_array_equal(everything["index"][~mask], [0, 0])
  np.testing.assert_array_equal(everything["labelled"][mask], split.labelled)
  assert not everything["labelled"][~mask].any()
  assert not everything["epoch"].any()


def test_evaluation_of_a_split_smaller_than_a_batch():
  (batch,) = pipeline.eval_batches(make(5), 8)
  assert batch["mask"].sum() == 5 and batch["image"].shape == (8, 1)


def test_hosts_evaluate_one_pass_together():
  whole = list(pipeline.eval_batches(make(10), 4))
  parts = [
    list(pipeline.eval_batches(make(10), 4, process=p, processes=2))
    for p in range(2)
  ]
  same(join(parts), whole)


def test_evaluation_without_padding():
  batches = list(pipeline.eval_batches(make(8), 4, prefetch=0))
  assert len(batches) == 2 and all(b["mask"].all() for b in batches)


class Corrupt:
  """A source whose train row 13 cannot be read."""

  splits = {"train": 50}
  classes = ()

  def read(self, split, rows):
    if 13 in rows:
      raise errors.UserError(f"corrupt: split {split!r} row 13 is corrupt")
    return {"label": np.zeros(len(rows), np.int32)}

  def labels(self, split):
    return np.zeros(50, np.int32)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_record_that_cannot_be_read_is_told(prefetch):
  split = splits.whole(Corrupt(), "train")
  batches = pipeline.eval_batches(split, 4, prefetch=prefetch)
  good = list(itertools.islice(batches, 3))
  assert len(good) == 3
  with pytest.raises(errors.UserError, match="'train' row 13 is corrupt"):
    next(batches)


def test_one_read_of_the_source_for_a_batch():
  calls = []

  class Counted(Corrupt):
    def read(self, split, rows):
      calls.append(len(rows))
      return {"label": np.zeros(len(rows), np.int32)}

  list(pipeline.eval_batches(splits.whole(Counted(), "train"), 10))
  assert calls == [10] * 5


def test_a_stream_that_is_dropped_ends_its_threads():
  before = set(threading.enumerate())
  stream = pipeline.train_batches(
    make(), order.Order(50), batch_size=8, prefetch=4
  )
  next(stream)
  readers = set(threading.enumerate()) - before
  assert readers
  stream.close()
  for reader in readers:
    reader.join(timeout=30)
    assert not reader.is_alive()


@pytest.mark.parametrize(
  "call, told",
  [
    (lambda: take(1, make(), batch_size=0), "batch_size=0"),
    (lambda: take(1, make(), processes=3), "batch_size=8.*3 hosts; 6 can"),
    (lambda: take(1, make(), process=2, processes=2), "process=2"),
    (lambda: take(1, make(), start_step=-1), "start_step=-1"),
    (lambda: take(1, make(), prefetch=-1), "prefetch=-1"),
    (lambda: pipeline.eval_batches(make(), 0), "batch_size=0"),
  ],
)
def test_errors_come_before_the_first_batch(call, told):
  with pytest.raises(errors.UserError, match=told):
    call()


def test_an_order_of_another_size_is_a_bug():
  with pytest.raises(ValueError, match=r"order\.size"):
    pipeline.train_batches(make(), order.Order(49), batch_size=8)
