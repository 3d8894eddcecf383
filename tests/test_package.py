"""What the package says about itself."""

import importlib
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import tsjax

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project():
  return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_version_is_one(project):
  assert project["project"]["version"] == tsjax.__version__
  citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
  assert re.search(r"^version: (.+)$", citation, re.M)[1] == tsjax.__version__


def test_console_command_is_a_function(project):
  module, _, name = project["project"]["scripts"]["tsjax"].partition(":")
  assert callable(getattr(importlib.import_module(module), name))


def test_extras_exist(project):
  extras = project["project"]["optional-dependencies"]
  assert set(extras) == {
    "test",
    "prepare",
    "gcs",
    "tables",
    "hugging_face",
    "wandb",
    "gpu",
    "tpu",
  }


def test_tensorflow_is_an_extra_only(project):
  names = [
    re.match(r"[\w.-]+", item)[0] for item in project["project"]["dependencies"]
  ]
  assert "tensorflow" not in names
  assert "torch" not in names


def test_ruff_is_the_same_everywhere(project):
  (pinned,) = (
    item.partition("==")[2]
    for item in project["project"]["optional-dependencies"]["test"]
    if item.startswith("ruff")
  )
  hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
  assert re.search(r"rev: v(\S+)", hooks)[1] == pinned


def test_import_is_light():
  # `tsjax --help` and a mistyped flag should answer at once.
  code = "import sys, tsjax.main; print('jax' in sys.modules)"
  told = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
  )
  assert told.stdout.strip() == "False", told.stderr
