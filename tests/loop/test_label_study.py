"""Any config with a teacher becomes a study of label fractions."""

import json
import pathlib

import pytest

from tests.loop import pair
from tsjax import config, objectives
from tsjax.config import checked, spec
from tsjax.core import errors
from tsjax.data import views
from tsjax.loop import build, experiment, label_study
from tsjax.report import labels

FRACTIONS = (0.02, 1.0)


def small(strong=True, **arguments):
  text = ",".join(f"{k}={v}" for k, v in arguments.items())
  c = pair.get_config(text)
  if strong:
    c.data.views.strong = spec(views.image, shift=1, rotate=5.0)
  for stage in c.stages.values():
    stage.arms = {}
  return c


@pytest.fixture(scope="module")
def expanded():
  return label_study.expand(small(), fractions=FRACTIONS)


def test_every_method_stands_at_every_fraction_after_the_teacher(expanded):
  assert expanded.order == (
    "teacher",
    *(labels.stage_name(m, f) for f in FRACTIONS for m in labels.METHODS),
  )
  run = checked.check(expanded)
  for fraction in FRACTIONS:
    for method in labels.METHODS:
      stage = run.stages[labels.stage_name(method, fraction)]
      assert stage.labels == fraction
      assert stage.train == "student"


def test_methods_differ_in_what_they_are_named_for(expanded):
  run = checked.check(expanded)
  alone, pseudo, started, distilled, both = (
    run.stages[labels.stage_name(m, 0.02)] for m in labels.METHODS
  )
  assert not alone.teachers and alone.start is None
  assert set(alone.objective) == {"labels"} and alone.examples == "labelled"
  assert started.start is not None and set(started.objective) == {"labels"}
  assert distilled.start is None and "soft" in distilled.objective
  assert both.start is not None and both.teachers == ("teacher",)
  assert both.examples == distilled.examples == pseudo.examples == "all"
  assert (pseudo.view, pseudo.teacher_view) == ("strong", "train")
  assert pseudo.average == 0.0
  assert pseudo.objective["pseudo"].teacher == "average"
  assert pseudo.start.stage == "alone_2pc"


def test_no_label_beyond_the_fraction_is_seen(expanded):
  parts = build.build(checked.check(expanded))
  size = parts.splits["train"].size
  few = round(0.02 * size)
  for name, stage in parts.stages.items():
    if name.endswith("_2pc"):
      assert stage.split.labelled.sum() == few
      for term in stage.program.structure.terms:
        assert term.labelled == ("target" in term.reads)
  assert parts.stages["alone_2pc"].split.size == few
  assert parts.stages["distilled_2pc"].split.size == size


def test_epochs_are_those_of_all_examples_for_every_method():
  c = small()
  c.stages.student.steps = "2 epochs"
  c.stages.student.schedule.warmup = "1 epoch"
  c.stages.student.save_every = "1 epoch"
  study = label_study.expand(c, fractions=(0.1,))
  parts = build.build(checked.check(study))
  steps = {s.timeline.steps for n, s in parts.stages.items() if n != "teacher"}
  assert len(steps) == 1
  (steps,) = steps
  assert steps == -(-2 * parts.splits["train"].size // 32)
  assert study.stages.alone_10pc.schedule.warmup == -(-steps // 2)
  # The config that was given is as it was.
  assert c.stages.student.steps == "2 epochs"
  assert c.order == ("teacher", "student")


def test_what_a_config_lacks_is_left_out_with_a_line():
  said = []
  c = small(strong=False)
  c.stages.student.start = None
  study = label_study.expand(c, fractions=(0.001, 0.1), say=said.append)
  assert study.order == ("teacher", "alone_10pc", "distilled_10pc")
  assert len(said) == 3
  assert "pseudo is left out" in said[0] and "'strong'" in said[0]
  assert "started and both are left out" in said[1]
  assert "0.1 % is left out" in said[2] and "10 classes" in said[2]
  c = small()
  for term in ("soft", "hint"):
    del c.stages.student.objective[term]
  study = label_study.expand(c, fractions=(0.1,), say=said.append)
  assert study.order[1:] == ("alone_10pc", "pseudo_10pc", "started_10pc")
  assert "distilled and both are left out" in said[3]


def test_stages_that_the_template_needs_not_are_dropped():
  c = small()
  c.stages.other = c.stages.teacher
  c.stages.last = c.stages.other
  c.order = ("other", "teacher", "student", "last")
  c.reference = "other"
  study = label_study.expand(c, fractions=(0.1,))
  assert study.order[0] == "teacher" and len(study.order) == 6
  assert study.reference == "teacher"
  c.stages.student.ensembles = {
    "all": config.ensemble(members=("other", "teacher"))
  }
  c.stages.student.teachers = ()
  for term in ("soft", "hint"):
    c.stages.student.objective[term].teacher = "all"
  del c.stages.student.objective["hint"]
  study = label_study.expand(c, fractions=(0.1,))
  assert study.order[:2] == ("other", "teacher")
  checked.check(study)


def test_changes_reach_one_method_only():
  study = label_study.expand(
    small(),
    fractions=(0.1,),
    changes={
      "pseudo": {"learning_rate": 0.5, "objective.pseudo.weight": 0.25},
    },
  )
  assert study.stages.pseudo_10pc.learning_rate == 0.5
  assert study.stages.pseudo_10pc.objective.pseudo.weight == 0.25
  assert study.stages.alone_10pc.learning_rate != 0.5


def test_the_flag_is_read():
  assert label_study.parse("") == {}
  assert label_study.parse(None) == {}
  assert label_study.parse("0.01,5%, 1") == {"fractions": (0.01, 0.05, 1.0)}
  assert label_study.parse("1,strong=hard,threshold=0.8") == {
    "fractions": (1.0,),
    "strong": "hard",
    "threshold": 0.8,
  }


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ("some", "'some' is no number"),
    ("0.1,0.1", "name each fraction once"),
    ("0.1,10%", "name each fraction once"),
    ("2", "2 is no share of the labels"),
    ("0", "0 is no share"),
    ("-0.1", "-0.1 is no share"),
    ("nan", "nan is no share"),
    ("strnog=hard", "did you mean 'strong'"),
    ("threshold=high", "'high' is no number"),
  ],
)
def test_a_wrong_flag_is_told(text, told):
  with pytest.raises(errors.UserError) as caught:
    label_study.parse(text)
  assert told in str(caught.value) and "\n" not in str(caught.value)


def _without_teacher(c):
  c.stages.student.teachers = ()


def _two_models(c):
  c.stages.student.train = ("student", "teacher")


def _no_labels_term(c):
  del c.stages.student.objective["labels"]


@pytest.mark.parametrize(
  ("spoil", "options", "told"),
  [
    (_without_teacher, {}, "no stage of this config has a teacher"),
    (_two_models, {}, "config.stages.student trains 2 models"),
    (_no_labels_term, {}, "no term without a teacher"),
    (None, {"fractions": (0.001,)}, "no fraction has one example of every"),
    (None, {"changes": {"alnoe": {}}}, "did you mean 'alone'?"),
    (None, {"fractions": ()}, "at least one"),
    (None, {"strong": "strng"}, "did you mean 'strong'"),
  ],
)
def test_a_config_that_gives_no_study_is_told(spoil, options, told):
  c = small()
  if spoil:
    spoil(c)
  with pytest.raises(errors.UserError) as caught:
    label_study.expand(c, **{"fractions": (0.1,), **options})
  assert told in str(caught.value)


def test_a_study_of_numbers_is_refused():
  c = small()
  c.data.source = spec(_numbers)
  with pytest.raises(errors.UserError, match="one class for each example"):
    label_study.expand(c, fractions=(0.1,))


def _numbers():
  source = pair.digits()
  arrays = {
    split: {**fields, "label": fields["label"].astype("float32")}
    for split, fields in source.arrays.items()
  }
  return type(source)(arrays, (), target="number")


def test_a_study_runs_to_its_figure(tmp_path):
  c = small(steps=6, save=6)
  c.stages.student.objective.soft.temperature = 2.0
  study = label_study.expand(c, fractions=(0.05, 1.0))
  found = experiment.fit(study, tmp_path)
  results = json.loads((tmp_path / "report" / "results.json").read_text())
  assert set(labels.study(results)) == {0.05, 1.0}
  assert len(labels.section(results)) == 1
  assert found.results["stages"]["alone_5pc"]["labels"] == 0.05


def test_the_studied_config_is_built():
  path = pathlib.Path(__file__).parents[2] / "configs" / "digits_labels.py"
  study = config.load(str(path))
  run = checked.check(study)
  assert len(run.order) == 31 and len(run.seeds) == 5
  loss = run.stages["pseudo_1pc"].objective["pseudo"].loss
  assert loss.call is objectives.pseudo_labels
  # As much is tried for each method.
  tuned = checked.check(config.load(f"{path}:tune"))
  tried = {
    s.arms.get("learning_rate")
    for n, s in tuned.stages.items()
    if n != "teacher"
  }
  assert len(tried) == 1 and not set(tuned.seeds) & set(run.seeds)
