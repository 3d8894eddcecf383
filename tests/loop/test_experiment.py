"""A run's folder: one config's, and read again as it was written."""

import pathlib

import numpy as np
import pytest

from tests.loop import pair
from tsjax.core import errors
from tsjax.loop import arm, experiment


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run."""
  return experiment.fit(pair.get_config(), tmp_path_factory.mktemp("finished"))


def contents(folder):
  """Every file of a folder, with its bytes and its time."""
  return {
    path: (path.read_bytes(), path.stat().st_mtime_ns)
    for path in pathlib.Path(folder).rglob("*")
    if path.is_file()
  }


@pytest.mark.parametrize(
  ("key", "value", "said"),
  [
    ("stages.student.learning_rate", 0.5, "was 0.001 and is now 0.5"),
    ("stages.student.labels", 0.5, "was 0.3 and is now 0.5"),
    ("stages.teacher.objective.labels.weight", 2.0, "was 1.0 and is now 2.0"),
    ("models.student.width", 8, "was 16 and is now 8"),
    ("data.batch_size", 64, "was 32 and is now 64"),
    ("stages.student.steps", 30, "was 24 and is now 30"),
    ("stages.student.accumulate", 2, "was 1 and is now 2"),
  ],
)
def test_a_changed_config_is_refused_and_nothing_is_written(
  finished, key, value, said
):
  c = pair.get_config()
  before = contents(finished.workdir)
  c.update_from_flattened_dict({key: value})
  with pytest.raises(errors.UserError) as error:
    experiment.fit(c, finished.workdir)
  text = str(error.value)
  assert text.startswith(f"{finished.workdir}/run.json: config.{key} {said};")
  assert "use another --workdir" in text and "\n" not in text
  assert contents(finished.workdir) == before


def test_a_removed_term_is_named(finished):
  c = pair.get_config()
  del c.stages.student.objective["hint"]
  with pytest.raises(
    errors.UserError, match=r"config.stages.student.objective.hint was "
  ) as error:
    experiment.fit(c, finished.workdir)
  assert str(error.value).endswith(
    "and is now None; restore it, or use another --workdir"
  )


def test_a_finished_run_trains_nothing_again(finished, monkeypatch):
  def fail(*args):
    raise AssertionError("something was trained")

  monkeypatch.setattr(arm, "train", fail)
  folders = [finished.workdir / stage for stage in ("teacher", "student")]
  before = [contents(folder) for folder in folders]
  c = pair.get_config()
  c.keep_checkpoints = 5  # One of the keys that are free to change.
  again = experiment.fit(c, finished.workdir)
  assert [contents(folder) for folder in folders] == before
  for name in ("teacher", "student"):
    ours, theirs = (x.results["stages"][name] for x in (again, finished))
    for split in ("validation", "test"):
      assert {
        k: v for k, v in ours[split].items() if k != "examples_per_second"
      } == {
        k: v for k, v in theirs[split].items() if k != "examples_per_second"
      }
    for x, y in zip(
      pair.leaves(again.variables(name, 0)),
      pair.leaves(finished.variables(name, 0)),
      strict=True,
    ):
      np.testing.assert_array_equal(x, y)


def test_another_seed_adds_to_what_is_there(finished, monkeypatch):
  trained = []
  train = arm.train

  def note(given):
    trained.append((given.stage.name, given.seed))
    return train(given)

  monkeypatch.setattr(arm, "train", note)
  c = pair.get_config()
  c.seeds = (0, 1)
  results = experiment.fit(c, finished.workdir).results
  assert set(trained) == {("teacher", 1), ("student", 1)}
  accuracy = results["stages"]["student"]["test"]["accuracy"]["values"]
  first = finished.results["stages"]["student"]["test"]["accuracy"]["values"]
  assert accuracy[:1] == first and len(accuracy) == 2


def test_variables_are_the_models_and_nothing_else(finished):
  variables = finished.variables("student", 0)
  assert variables.keys() == {"params", "batch_stats"}
  assert variables["params"].keys() == {"dense", "norm", "head"}
  assert variables["params"]["dense"]["kernel"].shape == (64, 16)
  # The hint's projection was trained beside it, and is in the state only.
  abstract = finished.parts.stages["student"].program.abstract
  assert abstract.params["objective"].keys() == {"hint"}
  assert abstract.params["models"].keys() == {"student"}


def test_variables_of_a_stage_that_has_not_ended_say_so(tmp_path):
  run = experiment.Experiment(pair.get_config(), tmp_path)
  with pytest.raises(errors.UserError, match="run `fit` with the same config"):
    run.variables("student", 0)


def test_the_arm_with_the_best_score_is_chosen(finished):
  record = finished.record("student", 0)
  best = max(record["arms"].values())
  assert record["arms"][f"learning_rate={record['learning_rate']:g}"] == best
  assert record["validation"]["f1"] == best
  assert len(record["arms"]) == 2
