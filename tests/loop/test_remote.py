"""A run in a bucket: the real protocol, against a store on the loopback."""

import json
import os
import signal
import time

import pytest

from tests import object_store
from tests.loop import runs

pytestmark = pytest.mark.slow
BUCKET, FOLDER = "bucket", "run"


class Started(runs.Started):
  """`tsjax fit` with its workdir in a bucket of a store."""

  def __init__(self, store, cache):
    self.store = store
    super().__init__(
      f"gs://{BUCKET}/{FOLDER}",
      cache,
      # gcsfs and TensorStore both ask this one, and nobody for a password.
      STORAGE_EMULATOR_HOST=store.url,
      TENSORSTORE_GCS_HTTP_URL=store.url,
      FSSPEC_GCS_TOKEN="anon",
      GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false",
      GCE_METADATA_ROOT="127.0.0.1:1",
    )

  def wait_until(self, there):
    """Waits until a name of an object contains all of `there`."""
    while self.process.poll() is None:
      names = [name for _, name in list(self.store.objects)]
      if any(all(part in name for part in there) for name in names):
        return
      time.sleep(0.02)
    raise AssertionError(self.process.communicate()[1])


def outcome(read, names):
  """What runs came to, of files that `read` gives by name."""
  found = {}
  for name in sorted(names):
    if name.endswith("result.json"):
      found[name] = json.loads(read(name))
      del found[name]["seconds"], found[name]["checksum"]
    elif name.endswith("metrics.jsonl"):
      found[name] = read(name)
    elif name.endswith("checkpoints/40/manifest/metadata"):
      found[name] = json.loads(read(name))
  return found


def test_a_run_in_a_bucket_that_is_killed_ends_with_the_bits_of_a_local_one(
  tmp_path,
):
  cache, local = tmp_path / "cache", tmp_path / "local"
  code, said = runs.Started(local, cache).end()
  assert code == 0, said
  expected = outcome(
    lambda name: (local / name).read_bytes(),
    [p.relative_to(local).as_posix() for p in local.rglob("*") if p.is_file()],
  )
  assert len(expected) == 2 + 4 + 4
  with object_store.Store() as store:
    for stage in runs.STAGES:
      started = Started(store, cache)
      started.wait_until((stage, "checkpoints/10/commit_success.txt"))
      second = Started(store, cache)
      code, said = second.end()
      assert code == 1
      line = said.strip().splitlines()[-1]
      assert str(started.process.pid) in line and f"{FOLDER}" in line, said
      os.kill(started.process.pid, signal.SIGKILL)
      started.end()
    code, said = Started(store, cache).end()
    assert code == 0, said
    assert "resumed at step" in said
    names = [name.removeprefix(f"{FOLDER}/") for _, name in store.objects]
    found = outcome(
      lambda name: store.objects[BUCKET, f"{FOLDER}/{name}"][0], names
    )
  assert found == expected
  assert {"report/index.html", "report/results.json"} <= set(names)
  assert "run.lock" not in names
