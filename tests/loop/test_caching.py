"""`tsjax cache`: what is written, what is read, and what is refused."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from flax import linen as nn
import jax
import numpy as np
import pytest

from tests.loop import pair
from tsjax import config, main, objectives, optim
from tsjax.config import checked, spec
from tsjax.core import errors, schedules
from tsjax.data import cache, cache_writer, sources, still, views
from tsjax.distill import forward
from tsjax.loop import build, cache_files, cached, caching, experiment
from tsjax.objectives import top_k
from tsjax.tasks import regression
from tsjax.train import step

STEPS = 24
DRAWN = {"epochs": 2, "seed": 0}
TOP = {"top_k": 3, "temperature": 4.0}


def make_config(cache=None, **changes):
  """The pair with more views, whose student may read a cache."""
  c = pair.get_config(f"steps={STEPS}")
  c.data.views.still = spec(still.still, view=spec(views.image, shift=1))
  c.data.views.plain = spec(views.image)
  for stage in c.stages.values():
    stage.arms, stage.learning_rate = {}, 0.1
  student = c.stages.student
  del student.objective["hint"]
  student.start = None
  if cache is None:
    del c.stages["student"]
    c.order = ("teacher",)
    return c
  student.teachers, student.cached = (), {"big": str(cache)}
  student.teacher_view = "still"
  if changes.pop("alone", True):
    del c.stages["teacher"]
    c.order = ("student",)
  c.update_from_flattened_dict(changes)
  return c


def parts_of(c):
  return build.build(checked.check(c))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
  """A run whose teacher has ended."""
  run = experiment.Experiment(make_config(), tmp_path_factory.mktemp("run"))
  run.train()
  return run


@pytest.fixture(scope="module")
def written(teacher, tmp_path_factory):
  """Caches of the teacher's outputs, by what they hold."""
  folder = tmp_path_factory.mktemp("caches")
  return {
    name: caching.write(teacher, "teacher", folder / name, **options)
    for name, options in {
      "still": {"view": "still"},
      "half": {"view": "still", "dtype": "float16"},
      "drawn": DRAWN,
      "top": {"view": "still", **TOP},
    }.items()
  }


@pytest.fixture
def refused(monkeypatch, tmp_path, capsys):
  """Runs a command that must fail as a user's mistake; returns its line."""
  handler = signal.getsignal(signal.SIGTERM)
  monkeypatch.chdir(tmp_path)

  def run(*flags, config_file=pair.__file__):
    argv = ["cache", f"--config={config_file}", *flags]
    assert main.main(argv) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("tsjax: error: ")
    return said

  yield run
  signal.signal(signal.SIGTERM, handler)


def contents(folder):
  return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


def spoken(teacher, batch, view, seed):
  """What the teacher says of a batch within a larger jitted function."""
  parts = teacher.parts
  structure = parts.stage("teacher").program.structure
  module = parts.module("teacher")

  @jax.jit
  def run(variables, batch, seed):
    if view == "still":
      seen = jax.vmap(lambda x: parts.views["still"](x, None))(batch)
    else:
      seen = step.apply_view(structure, view, batch, seed)
    outputs, _ = forward.forward(module, variables, seen, train=False)
    # As a loss would, beside a use of the same inputs.
    return outputs.output, outputs.output.sum() + seen.mean()

  with jax.default_matmul_precision("highest"):
    variables = jax.device_get(teacher.variables("teacher", 0))
    return np.asarray(run(variables, batch, np.uint32(seed))[0])


@pytest.mark.parametrize("view", ["still", "train"])
def test_rows_in_any_order_get_the_bits_of_the_live_teacher(
  teacher, written, view
):
  split = teacher.parts.splits["train"]
  places = np.random.RandomState(0).permutation(split.size)[:32]
  batch = split.read(places)
  for epoch in range(2 if view == "train" else 1):
    # On as many devices as the run, each device sees as many rows.
    share = 32 // jax.device_count()
    seen = dict(batch, epoch=np.full(32, epoch, np.int32))
    expected = np.concatenate(
      [
        spoken(teacher, {k: x[i : i + share] for k, x in seen.items()}, view, 0)
        for i in range(0, 32, share)
      ]
    )
    opened = written["drawn" if view == "train" else "still"]
    found = opened.lookup(batch, batch["index"])["logits"]
    found = found[:, epoch] if view == "train" else found
    np.testing.assert_array_equal(found, expected)


def test_a_top_k_is_that_of_the_logits(teacher, written):
  batch = teacher.parts.splits["train"].read(np.arange(100))
  logits = written["still"].lookup(batch, batch["index"])["logits"]
  found = written["top"].lookup(batch, batch["index"])
  expected = top_k.top_k(logits, 3, temperature=4.0)
  np.testing.assert_array_equal(found["indices"], expected.indices)
  for name in ("log_probabilities", "log_sum_exp"):
    np.testing.assert_allclose(
      found[name], getattr(expected, name), rtol=1e-5, atol=1e-6
    )


def test_float16_changes_the_loss_by_less_than_a_thousandth(teacher, written):
  batch = teacher.parts.splits["train"].read(np.arange(1000))
  exact, rounded = (
    written[name].lookup(batch, batch["index"])["logits"]
    for name in ("still", "half")
  )
  student = np.random.RandomState(0).randn(1000, 10).astype(np.float32)
  for temperature in (1.0, 4.0):
    losses = [
      float(objectives.soft_targets(student, x, temperature=temperature).mean())
      for x in (exact, rounded)
    ]
    assert 0 < abs(losses[0] - losses[1]) < 1e-3


def test_the_header_says_what_was_written(teacher, written):
  header = written["drawn"].header
  assert header.teacher == {
    "model": "tests.loop.pair.Small",
    "run": "pair",
    "stage": "teacher",
    "seed": 0,
    "checksum": cached.checksum(teacher.variables("teacher", 0)),
  }
  assert header.augmentation == {"seed": 0, "epochs": 2}
  assert header.computed["batch_size"] == 32
  assert header.computed["devices"] == jax.device_count()
  # A view that is held still is known by what it holds.
  assert written["still"].header.view_spec == header.view_spec


def test_what_was_written_is_told(teacher, tmp_path, capsys):
  caching.write(teacher, "teacher", tmp_path / "c", **TOP, split="validation")
  said = capsys.readouterr().err
  assert "144 examples, top 3 of 10 classes in float32, view 'train'" in said
  assert "the first class is the label of" in said and "of 144" in said
  caching.write(teacher, "teacher", tmp_path / "c", **TOP, split="validation")
  assert "cache: 1 of 1 shards are there" in capsys.readouterr().err


def test_a_write_that_was_broken_off_ends_in_the_same_bytes(
  teacher, tmp_path, monkeypatch
):
  options = {"view": "still", "shard_examples": 320}
  whole = caching.write(teacher, "teacher", tmp_path / "whole", **options)
  assert whole.header.shards == 5
  put = cache_writer.Writer.write
  for stop in (0, 2, 1):
    done = []

    def kill(self, shard, arrays, stop=stop, done=done):
      if len(done) == stop:
        raise KeyboardInterrupt
      put(self, shard, arrays)
      done.append(shard)

    monkeypatch.setattr(cache_writer.Writer, "write", kill)
    with pytest.raises(KeyboardInterrupt):
      caching.write(teacher, "teacher", tmp_path / "c", **options)
    assert len(done) == stop
  # One that lies there and is damaged is written again, and no other.
  path = tmp_path / "c" / "shard_00001.safetensors"
  path.write_bytes(path.read_bytes()[:-1])
  done = []
  monkeypatch.setattr(
    cache_writer.Writer,
    "write",
    lambda self, shard, arrays: (done.append(shard), put(self, shard, arrays)),
  )
  caching.write(teacher, "teacher", tmp_path / "c", **options)
  assert done == [1, 3, 4]
  assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def large(student, teacher):
  """Reads a teacher, and no temperature."""
  return ((student - teacher) ** 2).sum(-1)


@pytest.mark.parametrize(
  ("name", "changes", "said"),
  [
    (
      "still",
      {"stages.student.teacher_view": "train"},
      "without its random draws, and the teachers of this run see 'train' with"
      " them",
    ),
    (
      "still",
      {"stages.student.teacher_view": "plain"},
      "of view 'still' with view.shift=1, and the teachers of this run see"
      " 'plain' with 0",
    ),
    (
      "drawn",
      {"stages.student.teacher_view": "train", "seeds": (3,)},
      "of the draws of seed 0, and this run draws with seed 3",
    ),
    (
      "drawn",
      {"stages.student.teacher_view": "train", "stages.student.steps": 90},
      "of the draws of 2 epochs, and the stage begins 3",
    ),
    (
      "still",
      # More are trained on, and some of them were validation before.
      {"data.validation": 0.05},
      " examples of split 'train' (the first: index ",
    ),
    (
      "top",
      {"stages.student.objective.soft.temperature": 2.0},
      "at temperature 4, and that of term 'soft' is 2",
    ),
    (
      "top",
      {
        "stages.student.objective.soft.temperature": spec(
          schedules.linear, start=4.0, end=1.0
        )
      },
      "at temperature 4, and that of term 'soft' changes",
    ),
    (
      "top",
      {},
      "the teacher's output is its top k, not logits; compare it by"
      " objectives.soft_targets_top_k",
    ),
  ],
)
def test_a_run_that_does_not_fit_a_cache_is_refused(
  written, name, changes, said
):
  c = make_config(written[name].folder, **changes)
  with pytest.raises(errors.UserError) as error:
    parts_of(c)
  text = str(error.value)
  assert text.startswith("config.stages.student") and "\n" not in text
  assert said in text


def test_a_cache_that_does_not_exist_or_is_unfinished_is_told(
  teacher, tmp_path
):
  with pytest.raises(
    errors.UserError, match=r"student.cached.big: .*nowhere: holds no cache"
  ):
    parts_of(make_config(tmp_path / "nowhere"))
  caching.write(teacher, "teacher", tmp_path / "c", view="still")
  (tmp_path / "c" / "manifest.json").unlink()
  with pytest.raises(errors.UserError, match=r"cached.big: .*: unfinished"):
    parts_of(make_config(tmp_path / "c"))


def test_a_term_without_a_temperature_may_read_any_cache(written):
  c = make_config(written["half"].folder)
  c.stages.student.objective = {"large": config.term(spec(large))}
  assert parts_of(c).stages["student"].program is not None


def test_a_folder_for_each_seed_is_named_by_the_seed(teacher, tmp_path):
  for seed in (0, 1):
    caching.write(
      teacher, "teacher", tmp_path / f"s{seed}", epochs=1, seed=seed
    )
  c = make_config(tmp_path / "s{seed}", seeds=(0, 1))
  c.stages.student.teacher_view = "train"
  found = parts_of(c).stages["student"].caches
  for seed in (0, 1):
    header = found[seed]["big"].header
    assert header.augmentation == {"seed": seed, "epochs": 1}
    # The run has trained no teacher with seed 1.
    assert header.teacher["seed"] == 0


def test_what_the_last_bits_depend_on_is_told_where_it_differs(written):
  c = make_config(written["still"].folder)
  c.data.batch_size = 64
  parts = parts_of(c)
  (line,) = cached.notes(parts.stages["student"].caches[0], parts)
  assert "cached teacher big: computed with batch_size 32, here 64" in line
  parts = parts_of(make_config(written["still"].folder))
  assert cached.notes(parts.stages["student"].caches[0], parts) == []


def test_which_views_draw(teacher):
  split = teacher.parts.splits["train"]
  draws = {n: cached.draws(v, split) for n, v in teacher.parts.views.items()}
  assert draws == {"train": True, "still": False, "plain": False}


def run_with(written, name, folder, term):
  c = make_config(written[name].folder)
  c.stages.student.objective.soft = term
  return loop_bits(c, folder)


def loop_bits(c, folder):
  run = experiment.Experiment(c, folder)
  run.train()
  return pair.leaves(run.variables("student", 0))


@pytest.mark.slow
def test_a_stored_top_k_trains_like_one_of_the_live_teacher(written, tmp_path):
  stored = config.term(spec(objectives.soft_targets_top_k), temperature=4.0)
  fresh = config.term(spec(objectives.soft_targets_top_k, k=3), temperature=4.0)
  found = run_with(written, "top", tmp_path / "stored", stored)
  # Of the logits that lie in a cache, the top k of every step.
  expected = run_with(written, "still", tmp_path / "fresh", fresh)
  for x, y in zip(found, expected, strict=True):
    np.testing.assert_array_equal(x, y)


def dumped(teacher, written, folder):
  """A dump as another framework would write it, in an order of its own."""
  cache_files.write_keys(teacher.parts, folder / "keys.npz")
  keys = dict(np.load(folder / "keys.npz"))
  batch = teacher.parts.splits["train"].read(np.arange(len(keys["key"])))
  logits = written["still"].lookup(batch, batch["index"])["logits"]
  order = np.random.RandomState(0).permutation(len(logits))
  np.savez(folder / "dump.npz", key=keys["key"][order], logits=logits[order])
  return folder / "dump.npz", keys, logits


def test_a_dump_by_key_or_by_index_becomes_the_cache(
  teacher, written, tmp_path, capsys
):
  file, keys, logits = dumped(teacher, written, tmp_path)
  np.savez(tmp_path / "index.npz", index=keys["index"], logits=logits)
  split = teacher.parts.splits["train"]
  assert (keys["label"] == split.labels()).all()
  batch = split.read(np.arange(split.size))
  for name in (file, tmp_path / "index.npz"):
    out = tmp_path / name.stem
    opened = cache_files.import_file(teacher.parts, name, out, view="still")
    said = capsys.readouterr().err
    assert "the first class is the label of" in said and "lacks" not in said
    np.testing.assert_array_equal(
      opened.lookup(batch, batch["index"])["logits"], logits
    )
    assert opened.header.teacher["file"] == name.name
    parts_of(make_config(out))


def test_an_import_that_was_broken_off_ends_in_the_same_bytes(
  teacher, written, tmp_path
):
  file, _, _ = dumped(teacher, written, tmp_path)
  options = {"view": "still", "shard_examples": 300}
  cache_files.import_file(teacher.parts, file, tmp_path / "a", **options)
  expected = contents(tmp_path / "a")
  for name in ("shard_00001.safetensors", "manifest.json"):
    (tmp_path / "a" / name).unlink()
  cache_files.import_file(teacher.parts, file, tmp_path / "a", **options)
  assert contents(tmp_path / "a") == expected


def test_a_dump_of_some_examples_says_how_many_are_missing(
  teacher, written, tmp_path, capsys
):
  _, keys, logits = dumped(teacher, written, tmp_path)
  np.savez(tmp_path / "some.npz", key=keys["key"][5:], logits=logits[5:])
  cache_files.import_file(
    teacher.parts, tmp_path / "some.npz", tmp_path / "some", view="still"
  )
  assert "lacks 5 of 1,293 examples of split 'train'" in capsys.readouterr().err
  with pytest.raises(errors.UserError, match="lacks 5 of 1293 examples"):
    parts_of(make_config(tmp_path / "some"))


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (("--stage=techer",), "--stage='techer': did you mean 'teacher'?"),
    (("--stage=teacher", "--split=trian"), "did you mean 'train'?"),
    (("--stage=teacher", "--view=tran"), "--view='tran': did you mean 'train'"),
    (("--stage=teacher", "--dtype=bfloat16"), "did you mean 'float16'"),
    (("--stage=teacher", "--top-k=3"), "--top-k=3: say at what temperature"),
    (("--stage=teacher", "--top-k=-1"), "--top-k=-1: must be 1 or more"),
    (("--stage=teacher", "--temperature=4"), "logits are stored without one"),
    (
      ("--stage=teacher", "--top-k=3", "--temperature=0"),
      "--temperature=0: must be above 0",
    ),
    (("--stage=teacher", "--epochs=-1"), "--epochs=-1: must be 0 or more"),
    (("--stage=teacher", "--seed=-1"), "--seed=-1: is no seed"),
    (("--stage=teacher",), "has not ended for seed 0; run `fit` with the same"),
  ],
)
def test_flags_that_do_not_fit_are_told(refused, flags, said):
  assert said in refused(*flags, "--workdir=run", "--out=c")
  assert not pathlib.Path("c").exists()


def test_more_flags_need_a_trained_stage(teacher, tmp_path):
  for options, said in (
    ({"top_k": 11, "temperature": 1.0}, "--top-k=11: stage 'teacher' has 10"),
    ({"view": "plain", "epochs": 2}, "view 'plain' draws nothing, so one"),
    ({"teacher_seed": 7}, "has not ended for seed 7"),
  ):
    with pytest.raises(errors.UserError) as error:
      caching.write(teacher, "teacher", tmp_path / "c", **options)
    assert said in str(error.value)
  caching.write(teacher, "teacher", tmp_path / "c", view="still")
  with pytest.raises(errors.UserError) as error:
    caching.write(
      teacher, "teacher", tmp_path / "c", view="still", dtype="float16"
    )
  assert "header.dtype was 'float32' and is now 'float16'" in str(error.value)
  with pytest.raises(errors.UserError, match=r"holds other things"):
    caching.write(teacher, "teacher", teacher.workdir, view="still")


LOG = np.log(np.full((1437, 2), 0.4, np.float32))
IMPORTS = {
  "'logits' are of 9 classes, and the data has 10": {
    "index": np.arange(3),
    "logits": np.zeros((3, 9), np.float32),
  },
  "'index' of row 2 is 1437, and split 'train' of the source has rows": {
    "index": np.array([0, 1, 1437]),
    "logits": np.zeros((3, 10), np.float32),
  },
  "no 'key' is of an example of split 'train'": {
    "key": np.array(["ab" * 16]),
    "logits": np.zeros((1, 10), np.float32),
  },
  "dump.npz: row 1: logits holds nan, which is not finite": {
    "index": np.arange(2),
    "logits": np.array([[0.0] * 10, [np.nan] * 10], np.float32),
  },
  "holds a top k; say of what temperature": {
    "index": np.arange(1437),
    "log_probabilities": LOG,
    "indices": np.tile([0, 1], (1437, 1)),
    "log_sum_exp": np.zeros(1437, np.float32),
  },
}


@pytest.mark.parametrize("said", IMPORTS)
def test_a_dump_that_does_not_fit_the_data_is_told(refused, said):
  np.savez("dump.npz", **IMPORTS[said])
  assert said in refused("--from=dump.npz", "--out=c")


def test_flags_that_do_not_fit_a_dump_are_told(refused):
  np.savez("dump.npz", index=np.arange(2), logits=np.zeros((2, 10), np.float32))
  said = refused("--from=dump.npz", "--out=c", "--temperature=2")
  assert "--temperature=2: dump.npz holds logits, which have none" in said
  said = refused("--from=dump.npy", "--out=c")
  assert "--from=dump.npy: is neither .npz nor .parquet" in said
  said = refused("--keys=keys.csv")
  assert "keys.csv: is neither .npz nor .parquet" in said


def test_a_dump_needs_the_view_where_there_are_several(
  teacher, written, tmp_path
):
  file, _, _ = dumped(teacher, written, tmp_path)
  with pytest.raises(
    errors.UserError, match=r"--view is missing: .* plain, still, train"
  ):
    cache_files.import_file(teacher.parts, file, tmp_path / "c")


def test_an_output_that_is_no_number_is_named(teacher, tmp_path, monkeypatch):
  run = experiment.Experiment(make_config(), teacher.workdir)
  variables = jax.tree.map(np.array, teacher.variables("teacher", 0))
  variables["params"]["head"]["bias"][4] = np.inf
  monkeypatch.setattr(run, "variables", lambda stage, seed: variables)
  with pytest.raises(
    errors.UserError, match=r"stage 'teacher', index \d+: logits holds inf"
  ):
    caching.write(run, "teacher", tmp_path / "c")


@pytest.mark.slow
def test_a_process_killed_many_times_ends_in_the_same_bytes(teacher, tmp_path):
  (tmp_path / "mine.py").write_text(
    "from tests.loop import test_caching\n"
    "from tsjax.config import spec\n"
    "def get_config(arg=None):\n"
    "  c = test_caching.make_config()\n"
    "  c.data.source = spec(test_caching.slow)\n"
    "  return c\n"
  )
  moments, killed = random.Random(0), 0
  environment = os.environ | {
    "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])
  }
  first = subprocess.run(
    command("fit", tmp_path), env=environment, capture_output=True, text=True
  )
  assert first.returncode == 0, first.stderr
  while killed < 6:
    process = subprocess.Popen(
      command("cache", tmp_path, "--stage=teacher", f"--out={tmp_path / 'c'}"),
      env=environment,
      stderr=subprocess.PIPE,
      text=True,
    )
    before = len(list((tmp_path / "c").glob("shard_*.safetensors")))
    while process.poll() is None and before == len(
      list((tmp_path / "c").glob("shard_*.safetensors"))
    ):
      time.sleep(0.005)
    time.sleep(moments.uniform(0, 0.4))
    process.kill()
    _, said = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), said
    if process.returncode == 0:
      break
    killed += 1
  assert killed > 2, said
  for out in ("c", "whole"):
    ended = subprocess.run(
      command("cache", tmp_path, "--stage=teacher", f"--out={tmp_path / out}"),
      env=environment,
      capture_output=True,
      text=True,
    )
    assert ended.returncode == 0, ended.stderr
  assert contents(tmp_path / "c") == contents(tmp_path / "whole")
  assert cache.open(tmp_path / "c").size == 1293
  assert json.loads((tmp_path / "c" / "header.json").read_text())["examples"]


def command(name, folder, *flags):
  return [
    sys.executable,
    "-m",
    "tsjax",
    name,
    f"--config={folder / 'mine.py'}",
    f"--workdir={folder / 'run'}",
    *flags,
  ]


def slow():
  """The digits, read slowly enough for a kill to come between."""
  source = sources.digits()
  return pair.Slow(source.arrays, source.classes)


class Number(nn.Module):
  """One number for an example."""

  @nn.compact
  def __call__(self, inputs, *, train):
    del train
    return nn.Dense(1, name="head")(inputs.reshape(inputs.shape[0], -1))[:, 0]


def numbers():
  """Sums of pixels, to be told from the pixels."""
  image = np.random.RandomState(0).rand(64, 4, 4, 1).astype(np.float32)
  split = {"image": image, "label": image.sum((1, 2, 3))}
  return sources.Arrays({"train": split, "test": split}, target="number")


def test_numbers_are_cached_as_logits_are(tmp_path, capsys):
  c = config.run(name="numbers")
  c.task = spec(regression.Regression)
  c.data.source = spec(numbers)
  c.data.batch_size, c.data.validation = 16, 0.0
  c.data.views.plain = spec(views.image)
  c.models.number = spec(Number)
  loss = config.term(spec(objectives.squared_error))
  common = dict(
    train="number", view="plain", steps=2, optimizer=spec(optim.adam)
  )
  c.stages.teacher = config.stage(objective={"labels": loss}, **common)
  c.order = ("teacher",)
  run = experiment.Experiment(c, tmp_path / "run")
  run.train()
  opened = caching.write(run, "teacher", tmp_path / "c", dtype="float16")
  assert "64 examples, numbers in float16" in capsys.readouterr().err
  c.stages.student = config.stage(
    objective={"soft": config.term(spec(objectives.squared_difference))},
    cached={"big": str(tmp_path / "c")},
    **common,
  )
  c.order = ("teacher", "student")
  parts_of(c)
  batch = run.parts.splits["train"].read(np.arange(64))
  found = opened.lookup(batch, batch["index"])["logits"]
  expected, _ = run.scores("teacher", run.variables("teacher", 0), "train")
  np.testing.assert_allclose(found, expected, rtol=2e-3)
