"""Runs of the pair in processes of their own, and what they came to."""

import json
import os
import pathlib
import subprocess
import sys
import time

from etils import epath

from tests.loop import pair
from tsjax.checkpoint import store as store_lib
from tsjax.report import writers

STAGES = ("teacher", "student")


def arms(workdir, stage):
  """The folders of a stage's arms."""
  return sorted(
    p.parent
    for p in pathlib.Path(workdir).glob(f"{stage}/seed_*/**/checkpoints")
  )


def outcome(workdir, stages=STAGES):
  """What a run came to: checksums of final states, results, metric lines."""
  found = {}
  for stage in stages:
    record = json.loads(
      (pathlib.Path(workdir) / stage / "seed_0" / "result.json").read_text()
    )
    del record["seconds"], record["checksum"]
    found[stage] = {"result.json": record}
    for folder in arms(workdir, stage):
      store = store_lib.Store(folder / "checkpoints")
      manifest = store.manifest(max(store.steps()))
      store.close()
      found[stage][folder.name] = {
        "step": manifest["step"],
        "position": manifest["position"],
        "checksums": manifest["checksums"],
        "lines": writers.read(epath.Path(folder / "metrics.jsonl")),
      }
  return found


class Started:
  """`tsjax fit` in a process of its own."""

  def __init__(self, workdir, cache, **environment):
    self.since = time.time()
    self.workdir = workdir
    environment = os.environ | environment
    environment |= {
      "JAX_COMPILATION_CACHE_DIR": str(cache),
      "XLA_FLAGS": "",
      "PYTHONPATH": os.pathsep.join(sys.path),
    }
    self.process = subprocess.Popen(
      [
        sys.executable,
        "-m",
        "tsjax",
        "fit",
        f"--config={pair.__file__}:steps=40,save=10,slow",
        f"--workdir={workdir}",
      ],
      env=environment,
      stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      text=True,
    )

  def wait_until_it_trains(self):
    while self.process.poll() is None:
      files = self.workdir.glob("*/seed_0/*/metrics.jsonl")
      if any(f.stat().st_mtime > self.since for f in files):
        return
      time.sleep(0.01)

  def end(self):
    _, said = self.process.communicate(timeout=240)
    return self.process.returncode, said
