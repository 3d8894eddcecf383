"""Checkpoints: the same bits back, or a line that says why not."""

import gc
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tsjax.checkpoint import store as store_lib
from tsjax.core import errors

# Orbax leaves futures behind whose reading failed; see `forgotten`.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


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


@pytest.fixture(autouse=True)
def forgotten():
  """Collects them while their warning is still ignored."""
  yield
  gc.collect()


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


def test_a_flipped_byte_never_gives_a_wrong_value(filled, tmp_path):
  found, passed = 0, 0
  for path in files(filled / "20"):
    size = path.stat().st_size
    for offset in sorted({0, size // 3, size // 2, size - 1} - {-1}):
      if not size:
        continue
      copy = tmp_path / "copy"
      shutil.copytree(filled, copy)
      damaged = copy / path.relative_to(filled)
      content = bytearray(damaged.read_bytes())
      content[offset] ^= 0x04
      damaged.write_bytes(content)
      lines = []
      store = store_lib.Store(copy, warn=lines.append)
      restored, manifest = read(store, state())
      step = manifest["step"]
      where = f"{path.relative_to(filled)} at {offset}"
      assert step == (10 if lines else 20), where
      assert_same_bits(restored, state(step))
      for line in lines:
        assert "copy/20" in line and "\n" not in line, where
      store.close()
      found, passed = found + bool(lines), passed + 1
      shutil.rmtree(copy)
  # The rest are bytes that nobody reads.
  assert found > 10 and passed > 40


def test_a_file_cut_short_is_found(filled, tmp_path):
  for path in files(filled / "20"):
    if not path.stat().st_size:
      continue
    copy = tmp_path / "copy"
    shutil.copytree(filled, copy)
    damaged = copy / path.relative_to(filled)
    damaged.write_bytes(damaged.read_bytes()[: path.stat().st_size // 2])
    lines = []
    store = store_lib.Store(copy, warn=lines.append)
    restored, manifest = read(store, state())
    assert manifest["step"] == (10 if lines else 20)
    assert_same_bits(restored, state(manifest["step"]))
    store.close()
    shutil.rmtree(copy)


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


def test_a_best_with_a_damaged_manifest_is_not_the_best(tmp_path):
  store = store_lib.Store(tmp_path, keep=3)
  for step, score in ((1, 0.9), (2, 0.5)):
    store.save(state(step), step=step, manifest={}, score=score)
  store.close()
  path = tmp_path / "1" / "manifest" / "metadata"
  path.write_text(path.read_text().replace("0.9", "0.8"))
  lines = []
  store = store_lib.Store(tmp_path, keep=3, warn=lines.append)
  assert store.best() == 2
  assert len(lines) == 1 and "1: the manifest is damaged" in lines[0]
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
  assert str(error.value).endswith("No space left on device)")
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
