"""Checkpoints: the same bits back, or a line that says why not."""

import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tsjax.checkpoint import store as store_lib
from tsjax.core import errors


def mesh(count):
  return jax.sharding.Mesh(np.array(jax.devices()[:count]), ("data",))


def whole(tree, *, count=1):
  place = jax.sharding.NamedSharding(mesh(count), jax.sharding.PartitionSpec())
  return jax.tree.map(lambda x: place, tree)


def state(seed=0):
  random = np.random.default_rng(seed)
  values = random.normal(size=(16, 24)).astype(np.float32)
  return jax.device_put(
    {
      "step": jnp.int32(seed),
      "params": {
        "kernel": values,
        "half": jnp.asarray(values[:8], jnp.bfloat16),
        "flags": values[0] > 0,
      },
      "optimizer": (values * 2, {"count": np.uint32(2**32 - 1 - seed)}),
    }
  )


def abstract(tree):
  return jax.eval_shape(lambda x: x, tree)


def assert_same_bits(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right)):
    assert x.dtype == y.dtype
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def read(store, like):
  return store.latest(abstract(like), whole(like))


@pytest.fixture
def filled(tmp_path):
  """A folder with the steps 10 and 20, whose states are `state(step)`."""
  store = store_lib.Store(tmp_path / "checkpoints")
  for step in (10, 20):
    store.save(state(step), step=step, manifest={"position": 32 * step})
  store.close()
  return tmp_path / "checkpoints"


def test_restores_bits_and_manifest(filled):
  store = store_lib.Store(filled)
  restored, manifest = read(store, state())
  assert_same_bits(restored, state(20))
  assert manifest["step"] == 20
  assert manifest["position"] == 640
  assert manifest["score"] is None
  assert store.steps() == [10, 20]
  store.close()


def test_an_empty_folder_has_no_checkpoint(tmp_path):
  store = store_lib.Store(tmp_path / "new" / "checkpoints")
  assert store.steps() == []
  assert store.best() is None
  assert read(store, state()) is None
  store.close()


def test_saving_a_step_again_keeps_the_first(filled):
  store = store_lib.Store(filled)
  store.save(state(7), step=20, manifest={})
  assert_same_bits(read(store, state())[0], state(20))
  store.close()


@pytest.mark.parametrize("again", [False, True])
def test_keeps_the_latest_and_the_best(tmp_path, again):
  # Opened anew before each save, as a run that is often killed does.
  store = store_lib.Store(tmp_path, keep=2)
  scores = {1: 0.1, 2: 0.9, 3: None, 4: 0.9, 5: 0.2, 6: float("nan")}
  for step, score in scores.items():
    store.save(state(step), step=step, manifest={}, score=score)
    if again:
      store.close()
      store = store_lib.Store(tmp_path, keep=2)
  store.close()
  store = store_lib.Store(tmp_path, keep=2)
  # The earliest of equals: 2 and not 4.
  assert store.steps() == [2, 5, 6]
  assert store.best() == 2
  assert_same_bits(
    store.restore(2, abstract(state()), whole(state()))[0], state(2)
  )
  store.close()


def test_without_scores_there_is_no_best(filled):
  store = store_lib.Store(filled)
  assert store.best() is None
  store.close()


def files(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file())


def ways(content):
  """Every way in which a file is damaged: its content then, or None."""
  yield "gone", None
  yield "empty", b""
  yield "half", content[: len(content) // 2]
  for offset in sorted({0, len(content) // 3, len(content) // 2}):
    flipped = bytearray(content)
    flipped[offset] ^= 0x04
    yield f"flipped at {offset}", bytes(flipped)
  yield "flipped at the end", content[:-1] + bytes([content[-1] ^ 0x04])


@pytest.mark.filterwarnings("ignore:coroutine")
def test_no_damage_of_any_file_gives_a_wrong_value(filled, tmp_path, capfd):
  passed_over, passed = set(), 0
  copy = tmp_path / "copy"
  shutil.copytree(filled, copy)
  for path in files(filled / "20"):
    content = path.read_bytes()
    damaged = copy / path.relative_to(filled)
    for way, new in ways(content):
      where = f"{path.relative_to(filled)} {way}"
      damaged.unlink(missing_ok=True)
      if new is not None:
        damaged.write_bytes(new)
      lines = []
      store = store_lib.Store(copy, warn=lines.append)
      restored, manifest = read(store, state())
      store.close()
      step = manifest["step"]
      assert step == (10 if lines else 20), where
      assert_same_bits(restored, state(step))
      for line in lines:
        assert "copy/20" in line and "\n" not in line, where
        passed_over.add(path.relative_to(filled / "20").parts[:2])
      passed += 1
      assert (copy / "20").is_dir() and (copy / "10").is_dir(), where
    damaged.write_bytes(content)
  assert passed > 80
  # The rest are files that nobody reads.
  assert {("manifest", "metadata"), ("state", "d")} < passed_over
  # Nor does what Orbax left running tell its own story.
  assert "Traceback" not in capfd.readouterr().err


def test_a_false_manifest_is_found(filled):
  # Valid JSON of another step, as a byte that flips in a digit leaves it.
  path = filled / "20" / "manifest" / "metadata"
  text = path.read_text()
  assert '"step": 20' in text
  path.write_text(text.replace('"step": 20', '"step": 30'))
  lines = []
  store = store_lib.Store(filled, warn=lines.append)
  assert read(store, state())[1]["step"] == 10
  assert "20: the manifest is damaged" in lines[0]
  store.close()


def test_an_empty_step_is_passed_over(filled):
  (filled / "30").mkdir()
  lines = []
  store = store_lib.Store(filled, warn=lines.append)
  restored, manifest = read(store, state())
  assert manifest["step"] == 20
  assert_same_bits(restored, state(20))
  assert len(lines) == 1 and "30: cannot be read" in lines[0]
  store.close()


def test_where_nothing_is_whole_there_is_nothing(filled):
  for step in ("10", "20"):
    shutil.rmtree(filled / step / "state")
  lines = []
  store = store_lib.Store(filled, warn=lines.append)
  assert read(store, state()) is None
  assert len(lines) == 2
  store.close()


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_makes_place_for_a_whole_one(filled, keep):
  # The run goes on from 10: 15 must be kept, and 20 be written anew.
  shutil.rmtree(filled / "20" / "manifest")
  lines = []
  store = store_lib.Store(filled, keep=keep, warn=lines.append)
  assert read(store, state())[1]["step"] == 10
  assert (filled / "20").exists()  # Nothing goes before it is replaced.
  store.save(state(15), step=15, manifest={})
  store.wait()
  assert 15 in store.steps() and 20 not in store.steps()
  store.save(state(20), step=20, manifest={}, score=0.5)
  store.close()
  store = store_lib.Store(filled, keep=keep, warn=lines.append)
  restored, manifest = read(store, state())
  assert manifest["step"] == 20
  assert_same_bits(restored, state(20))
  assert store.best() == 20
  assert len(lines) == 1
  store.close()


def spoil(folder, step, old, new):
  path = folder / str(step) / "manifest" / "metadata"
  assert old in path.read_text()
  path.write_text(path.read_text().replace(old, new))


def scored(folder, lines, keep=4):
  return store_lib.Store(folder, keep=keep, warn=lines.append)


def test_a_damaged_best_stays_the_best(tmp_path):
  # Else a run that goes on would end with other weights than one undisturbed.
  lines = []
  store = scored(tmp_path, lines)
  for step, score in ((1, 0.9), (2, 0.5), (3, 0.2)):
    store.save(state(step), step=step, manifest={}, score=score)
  store.close()
  spoil(tmp_path, 1, "0.9", "0.8")
  store = scored(tmp_path, lines, keep=1)
  assert store.best() == 1 and not lines
  with pytest.raises(store_lib.Damaged):
    store.restore(1, abstract(state()), whole(state()))
  store.save(state(4), step=4, manifest={}, score=0.7)
  store.close()
  store = scored(tmp_path, lines)
  assert store.steps() == [1, 4] and store.best() == 1
  store.close()
  # Where nobody knows, there is a line.
  spoil(tmp_path, 4, "0.7", "0.6")
  store = scored(tmp_path, lines)
  assert store.best() is None
  assert len(lines) == 2 and "1: the manifest is damaged" in lines[0]
  store.close()


def test_going_back_before_a_step(filled):
  store = store_lib.Store(filled)
  store.drop_from(20)
  assert store.steps() == [10]
  store.save(state(20), step=20, manifest={}, score=0.5)
  store.drop_from(5)
  assert store.steps() == [] and store.best() is None
  assert read(store, state()) is None
  store.close()


@pytest.mark.parametrize(
  ("kernel", "said"),
  [
    (jnp.zeros((16, 25)), "float32[16, 24] there and float32[16, 25]"),
    (jnp.zeros((16, 24), jnp.int32), "float32[16, 24] there and int32"),
    (None, "float32[16, 24] there and missing"),
  ],
)
def test_another_state_is_an_error_and_not_passed_over(filled, kernel, said):
  other = state()
  other["params"]["kernel"] = kernel
  lines = []
  store = store_lib.Store(filled, warn=lines.append)
  with pytest.raises(errors.UserError) as error:
    read(store, other)
  assert "leaf 'params/kernel' is " + said in str(error.value)
  assert "\n" not in str(error.value)
  assert not lines
  store.close()


@pytest.mark.parametrize(("before", "after"), [(8, 1), (1, 8)])
def test_restores_on_another_mesh(tmp_path, before, after):
  def place(count):
    rows = jax.sharding.NamedSharding(
      mesh(count), jax.sharding.PartitionSpec("data")
    )
    shardings = whole(state(), count=count)
    shardings["params"]["kernel"] = rows
    return shardings

  store = store_lib.Store(tmp_path)
  saved = jax.device_put(state(3), place(before))
  store.save(saved, step=3, manifest={})
  store.wait()
  restored, _ = store.latest(abstract(state()), place(after))
  store.close()
  assert_same_bits(restored, state(3))
  kernel = restored["params"]["kernel"]
  assert len(kernel.sharding.device_set) == after
  assert kernel.addressable_shards[0].data.shape == (16 // after, 24)


def test_what_is_saved_is_the_state_of_that_instant(tmp_path):
  # The write goes on while the next step takes the state's buffers.
  @jax.jit
  def make(seed):
    return jax.random.normal(jax.random.key(seed), (512, 1024))

  step = jax.jit(lambda x: x * 2 + 1, donate_argnums=0)
  store = store_lib.Store(tmp_path, keep=5)
  for seed in range(5):
    x = make(seed)
    store.save({"x": x}, step=seed, manifest={})
    for _ in range(3):
      x = step(x)
    jax.block_until_ready(x)
  store.wait()
  for seed in range(5):
    like = {"x": make(seed)}
    restored, _ = store.restore(seed, abstract(like), whole(like))
    assert_same_bits(restored, like)
  store.close()


def fail_in_the_background(monkeypatch):
  """Every write of a checkpoint's end fails, in Orbax's own thread."""
  threads = []
  commit = ocp.AsyncCheckpointer.wait_until_finished

  def fail(self):
    if threading.current_thread() is threading.main_thread():
      return commit(self)
    threads.append(threading.current_thread())
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(ocp.AsyncCheckpointer, "wait_until_finished", fail)
  return threads


@pytest.mark.parametrize("then", ["wait", "save", "close"])
def test_a_write_that_failed_later_is_told(tmp_path, monkeypatch, then):
  threads = fail_in_the_background(monkeypatch)
  store = store_lib.Store(tmp_path)
  store.save(state(1), step=1, manifest={})
  with pytest.raises(errors.UserError, match="could not be written") as error:
    if then == "save":
      store.save(state(2), step=2, manifest={})
    else:
      getattr(store, then)()
  assert threads
  assert "No space left on device" in str(error.value)
  assert str(tmp_path) in str(error.value)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match="cannot be opened"):
    store_lib.Store(tmp_path / "file" / "checkpoints")


def test_a_write_that_fails_at_once_is_told(tmp_path, monkeypatch):
  store = store_lib.Store(tmp_path)

  def fail(*args, **kwargs):
    path = "/".join(["checkpoints"] * 40)
    raise ValueError(f"RESOURCE_EXHAUSTED: {path}: No space left on device")

  with monkeypatch.context() as context:
    context.setattr(ocp.CheckpointManager, "save", fail)
    with pytest.raises(errors.UserError, match="RESOURCE_EXHAUSTED") as error:
      store.save(state(1), step=1, manifest={})
  assert "No space left on device); make room and start again" in str(
    error.value
  )
  store.close()


def test_checksums_tell_values_shapes_and_dtypes_apart():
  zeros = np.zeros((2, 3), np.float32)
  others = [
    zeros,
    zeros.T,
    zeros.astype(np.int32),
    np.array([[0, 0, 0], [0, 0, 1e-45]], np.float32),
    -zeros,
  ]
  found = {store_lib.checksums({"x": x})["x"] for x in others}
  assert len(found) == len(others)
  # A view and its copy are the same values.
  assert store_lib.checksums({"x": zeros.T}) == store_lib.checksums(
    {"x": zeros.T.copy()}
  )
