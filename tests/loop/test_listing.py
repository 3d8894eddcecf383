"""`tsjax list` and `tsjax explain`: what there is, and what will be."""

import pathlib

import pytest

from tsjax import main
from tsjax.core import errors
from tsjax.loop import listing

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", listing.ROOMS)
def test_every_kind_lists_what_a_config_can_name(kind):
  found = list(listing.lines(kind))
  assert found
  for line in found:
    name, sentence = line.split("  ", 1)
    assert "." in name and sentence.endswith(".")


def test_lists_what_the_digits_config_names():
  for kind, name in (
    ("models", "models.resnet.ResNeXt "),
    ("objectives", "objectives.logits.soft_targets "),
  ):
    assert any(line.startswith(name) for line in listing.lines(kind))


def test_lists_configs_without_running_them(tmp_path):
  (tmp_path / "a.py").write_text('"""One thing."""\nraise RuntimeError\n')
  assert list(listing.lines("configs", configs=str(tmp_path))) == [
    f"{tmp_path / 'a.py'}  One thing."
  ]


def test_an_unknown_kind_names_the_nearest():
  with pytest.raises(errors.UserError, match="'models'"):
    list(listing.lines("modles"))


def test_explain_tells_stages_terms_and_sizes(capsys):
  code = main.main(
    [
      "explain", f"--config={ROOT / 'configs' / 'digits.py'}",
      "--config.stages.student.objective.soft.temperature=2",
    ]
  )  # fmt: skip
  said = capsys.readouterr().out
  assert code == 0
  assert "stage student: trains student (10,738 parameters" in said
  assert "examples 1,293, labelled 65" in said
  assert "term soft: weight 3, temperature 2; reads student output" in said
