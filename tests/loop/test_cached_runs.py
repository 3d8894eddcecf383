"""Runs that learn from a cache, beside those that learn from its teacher."""

import jax
import numpy as np
import pytest

from tests.loop import pair
from tsjax import loop
from tsjax.core import errors
from tsjax.loop import caching
from tsjax.report import writers

STEPS = 24


def make_config(cache=None):
  """The pair, whose student may read a cache in place of its teacher."""
  c = pair.get_config(f"steps={STEPS}")
  for stage in c.stages.values():
    stage.arms, stage.learning_rate = {}, 0.1
  student = c.stages.student
  # A cache holds outputs, and no taps.
  del student.objective["hint"]
  if cache is not None:
    student.teachers, student.cached = (), {"teacher": str(cache)}
  return c


@pytest.fixture(scope="module")
def live(tmp_path_factory):
  return loop.fit(make_config(), tmp_path_factory.mktemp("live"))


def cached_run(live, folder, **options):
  # 1,293 examples in batches of 32: one epoch.
  caching.write(live, "teacher", folder / "outputs", epochs=1, **options)
  return loop.fit(make_config(folder / "outputs"), folder / "run")


def losses(run):
  path = run.folder("student", 0, 0.1) / "metrics.jsonl"
  return [x["loss"] for x in writers.read(path) if x["kind"] == "train"]


def test_a_cache_of_float32_gives_the_bits_of_the_live_teacher(live, tmp_path):
  run = cached_run(live, tmp_path)
  expected = jax.tree.leaves(live.variables("student", 0))
  for ours, theirs in zip(
    jax.tree.leaves(run.variables("student", 0)), expected, strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
  assert losses(run) == losses(live)


def test_a_cache_of_float16_gives_nearly_its_loss(live, tmp_path):
  run = cached_run(live, tmp_path, dtype="float16")
  assert losses(run) != losses(live)
  np.testing.assert_allclose(losses(run), losses(live), rtol=0, atol=1e-3)


def test_a_cache_of_another_teacher_is_refused(live, tmp_path):
  other = make_config(tmp_path / "outputs")
  other.stages.teacher.learning_rate = 0.05
  caching.write(live, "teacher", tmp_path / "outputs", epochs=1)
  with pytest.raises(errors.UserError, match=r"student\.cached\.teacher"):
    loop.fit(other, tmp_path / "run")
  assert not (tmp_path / "run" / "student").exists()
