"""Config files and overrides."""

import json

from ml_collections import config_dict
import pytest

from tsjax.config import loading
from tsjax.core import errors

HEAD = """
from tsjax import config
from tsjax.config import spec


def loss(student, target):
  return student - target


def get_config(arg=None):
  a = config.arguments(arg, steps=3)
  c = config.run(name="mine", seeds=(0, 1))
  c.stages.only = config.stage(
    train="student",
    steps=a.steps,
    objective={"term": config.term(spec(loss), weight=0.5)},
  )
"""
CONFIG = HEAD + "  return c\n"


@pytest.fixture
def write(tmp_path):
  """Writes a config file and gives its path."""

  def write(text, name="mine.py"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)

  return write


def test_a_file_with_its_argument_and_overrides(write):
  path = write(CONFIG)
  assert loading.load(path).stages.only.steps == 3
  config = loading.load(
    f"{path}:steps=5",
    [
      "seeds=7,8",
      "stages.only.objective.term.weight=2",
      "stages.only.learning_rate=1e-2",
      "stages.only.clip=1.5",
      "mesh.fsdp=2",
    ],
  )
  assert config.stages.only.steps == 5
  assert config.seeds == (7, 8)
  assert config.stages.only.objective.term.weight == 2.0
  assert config.stages.only.learning_rate == 0.01
  assert config.stages.only.clip == 1.5
  assert config.mesh.fsdp == 2


@pytest.mark.parametrize(
  "item,message",
  [
    ("seds=1", "config.seds is not known: did you mean 'seeds'"),
    ("stages.onyl.steps=1", "config.stages.onyl is not known: .*'only'"),
    ("name.x=1", "config.name.x is not known"),
    ("stages.only=1", "only values can be overridden"),
    ("stages.only.objective.term.loss.call=x", "only values can be"),
    ("name", "write --config.name=VALUE"),
  ],
)
def test_overrides_that_are_mistakes(write, item, message):
  with pytest.raises(errors.UserError, match=message):
    loading.load(write(CONFIG), [item])


def test_two_files_of_one_name_are_two_modules(write):
  first = loading.load(write(CONFIG, "a/mine.py"))
  second = loading.load(write(CONFIG, "b/mine.py"))
  losses = [c.stages.only.objective.term.loss.call for c in (first, second)]
  assert losses[0] is not losses[1]
  assert losses[0].__module__ != losses[1].__module__


@pytest.mark.parametrize(
  "text,message",
  [
    ("x = 1\n", "defines no function get_config"),
    ("x = 1\ny = = 2\n", r"mine.py:2: SyntaxError"),
    ("x = 1\n\nimport nowhere_at_all\n", r"mine.py:3: ModuleNotFoundError"),
    (HEAD + "  c.stages.other.x = 1\n", r"mine.py:18: get_config raised Attr"),
    (HEAD + "  config.stage(x=1)\n", r"mine.py:18: stage has no key 'x'"),
    (HEAD, "get_config returned NoneType"),
  ],
)
def test_files_that_are_mistakes(write, monkeypatch, tmp_path, text, message):
  path = write(text)
  with pytest.raises(errors.UserError, match=message):
    loading.load(path)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(errors.UserError, match=message):
    loading.load("mine.py")


def test_a_file_that_is_not_there(write, tmp_path):
  write(CONFIG)
  with pytest.raises(errors.UserError, match=r"no such file; .*mine.py"):
    loading.load(str(tmp_path / "mine2.py"))


def test_json_of_a_config_is_stable(write):
  path = write(CONFIG)
  told = loading.as_json(loading.load(path))
  assert json.loads(json.dumps(told)) == loading.as_json(loading.load(path))
  assert told["seeds"] == [0, 1]
  name, at, digest = told["stages"]["only"]["objective"]["term"]["loss"][
    "call"
  ].partition("@")
  assert (name, at, len(digest)) == ("loss", "@", 12)


def test_json_tells_when_a_configs_own_function_changed(write):
  def call(text, name):
    told = loading.as_json(loading.load(write(text, name)))
    return told["stages"]["only"]["objective"]["term"]["loss"]["call"]

  plain = call(CONFIG, "a/mine.py")
  # Another place in another file is no change.
  assert call("# moved\n" + CONFIG, "b/mine.py") == plain
  changed = CONFIG.replace("student - target", "target - student")
  assert call(changed, "c/mine.py") != plain


def test_json_of_a_librarys_function_is_its_name():
  config = config_dict.ConfigDict({"call": json.dumps, "values": (1, None)})
  assert loading.as_json(config) == {"call": "json.dumps", "values": [1, None]}
