"""Every mistake costs its maker one line, and before anything is written."""

import os
import pathlib
import signal
import subprocess
import sys

from etils import epath
import numpy as np
import pytest

from tests import bad_input_cases as cases
from tests import bad_input_commands as more_cases
from tsjax import main
from tsjax.config import loading
from tsjax.loop import arm
from tsjax.report import writers

EDITS = cases.EDITS | more_cases.EDITS
COMMANDS = cases.COMMANDS | more_cases.COMMANDS

# A whole config file -> what the one line must hold.
FILES = {
  "x = 1\n": "TMP/mine.py defines no function get_config(arg)",
  "x = 1\ndef get_config(arg:\n": "TMP/mine.py:2: SyntaxError: ",
  "import os\nimport tsjaxx\n": (
    "TMP/mine.py:2: ModuleNotFoundError: No module named 'tsjaxx'"
  ),
  "from tsjax.models import resnext\n": "TMP/mine.py:1: ImportError: ",
  "def get_config(arg=None):\n  c = {}\n  return c['x']\n": (
    "TMP/mine.py:3: get_config raised KeyError: 'x'"
  ),
  "def get_config(arg=None):\n  raise ValueError('two\\nlines')\n": (
    "TMP/mine.py:2: get_config raised ValueError: two lines"
  ),
  "def get_config():\n  pass\n": "takes 0 positional arguments but 1 was given",
  "def get_config(arg=None):\n  pass\n": (
    "TMP/mine.py: get_config returned NoneType, not a ConfigDict: end it with"
  ),
}

# What lies in the run's folder, a command -> what the one line must hold.
FOLDERS = {
  ("report/results.json", '{"format": 1, "sta', "report --workdir=TMP/run"): (
    "TMP/run/report/results.json: not JSON ("
  ),
  ("report/results.json", "[1]", "report --workdir=TMP/run"): (
    "TMP/run/report/results.json: holds no results of a run"
  ),
  (
    "report/results.json",
    '{"format": 99, "stages": {}}',
    "report --workdir=TMP/run",
  ): "results have format=99, this page reads 1",
}

# Arrays of tiny.npz that are other than they should be -> the line.
DATA = {
  "train gone": "config.data: the source: has no split 'train'; known: test",
  "test gone": "config.data: the source: has no split 'test'; known: train",
  "label gone": "split 'train' has no field 'label'; known: image",
  "label too large": (
    "npz TMP/tiny.npz: split 'test' row 3 has label 4, outside 0..3; mend the"
    " label or leave the row out"
  ),
  "label negative": "split 'train' row 3 has label -1, outside 0..",
  "labels float": (
    "labels of split 'train' are float32 [80]; store class numbers"
  ),
  "lengths differ": (
    "split 'train' has arrays of different lengths: image 80, label 79"
  ),
  "empty": "split 'test' is empty; leave it out",
  "not finite": "split 'train' row 3 is corrupt: 'image' has a value that is",
  "objects": "cannot be read (Object arrays cannot be loaded",
  "flat key": "key 'train' is not SPLIT/FIELD, such as 'train/image'",
  "cut short": "npz TMP/tiny.npz: the file cannot be read (",
}


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
  """Runs a command that must fail as a user's mistake; returns its line."""
  write_arrays(tmp_path, arrays())
  write_config(tmp_path)

  def train(*_):
    raise AssertionError("training began")

  monkeypatch.setattr(arm, "train", train)
  before = signal.getsignal(signal.SIGTERM)

  def run(command: str) -> str:
    there = content(tmp_path)
    code = main.main(command.replace("TMP", str(tmp_path)).split())
    out, error = capsys.readouterr()
    assert code == 1
    assert not out
    assert content(tmp_path) == there
    return line(error, tmp_path)

  yield run
  signal.signal(signal.SIGTERM, before)


def arrays() -> dict[str, np.ndarray]:
  """A data set of 4 classes and 4x4 pixels."""
  rng = np.random.default_rng(0)
  return {
    f"{split}/{field}": value
    for split, size in (("train", 80), ("test", 16))
    for field, value in (
      ("image", rng.random((size, 4, 4, 1), np.float32)),
      ("label", np.arange(size) % 4),
    )
  }


def write_arrays(folder: pathlib.Path, values: dict[str, np.ndarray]) -> None:
  np.savez(folder / "tiny.npz", **values)


def write_config(folder: pathlib.Path, edit: str = "") -> None:
  text = cases.CONFIG.replace("# EDIT", edit).replace("TMP", str(folder))
  (folder / "mine.py").write_text(text)


def content(folder: pathlib.Path) -> dict[str, bytes]:
  """All files and folders but Python's own cache."""
  return {
    str(path): path.read_bytes() if path.is_file() else b""
    for path in folder.rglob("*")
    if "__pycache__" not in str(path)
  }


def line(error: str, folder: pathlib.Path) -> str:
  """What was printed, which must be one line."""
  assert error.startswith("tsjax: error: ")
  assert error.count("\n") == 1 and error.endswith("\n")
  assert "Traceback" not in error
  return error.replace(str(folder), "TMP")


@pytest.mark.parametrize("edit", EDITS)
def test_config_is_refused(edit, told, tmp_path):
  write_config(tmp_path, edit)
  assert EDITS[edit] in told(cases.FIT)


@pytest.mark.parametrize("text", FILES)
def test_file_is_refused(text, told, tmp_path):
  (tmp_path / "mine.py").write_text(text)
  assert FILES[text] in told(cases.FIT)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_refused(command, told):
  assert COMMANDS[command] in told(command)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_refused(folder, told, tmp_path):
  name, text, command = folder
  path = tmp_path / "run" / name
  path.parent.mkdir(parents=True)
  path.write_text(text)
  assert FOLDERS[folder] in told(command)


def test_folder_of_another_config_is_refused(told, tmp_path):
  config = loading.load(str(tmp_path / "mine.py"))
  (tmp_path / "run").mkdir()
  writers.write_json(
    epath.Path(tmp_path / "run" / "run.json"),
    {"config": loading.as_json(config)},
    checked=True,
  )
  assert (
    "TMP/run/run.json: config.stages.teacher.learning_rate was 0.001 and is"
    " now 0.5; restore it, or use another --workdir"
  ) in told(f"{cases.FIT} --config.stages.teacher.learning_rate=0.5")


@pytest.mark.parametrize("name", DATA)
def test_data_are_refused(name, told, tmp_path):
  path = tmp_path / "tiny.npz"
  values = arrays()
  match name:
    case "train gone" | "test gone":
      split = name.partition(" ")[0]
      values = {k: v for k, v in values.items() if not k.startswith(split)}
    case "label gone":
      del values["train/label"], values["test/label"]
    case "label too large":
      values["test/label"][3] = 4
    case "label negative":
      values["train/label"][3] = -1
    case "labels float":
      values["train/label"] = values["train/label"].astype(np.float32)
    case "lengths differ":
      values["train/label"] = values["train/label"][1:]
    case "empty":
      values["test/image"] = values["test/image"][:0]
      values["test/label"] = values["test/label"][:0]
    case "not finite":
      values["train/image"][3, 2, 1] = np.nan
    case "objects":
      values["train/name"] = np.array([None] * 80)
    case "flat key":
      values["train"] = values["train/image"]
  write_arrays(tmp_path, values)
  if name == "cut short":
    path.write_bytes(path.read_bytes()[:1000])
  assert DATA[name] in told(cases.FIT)


def test_override_changes_one_of_two_that_share_a_term(tmp_path):
  write_config(tmp_path)
  config = loading.load(
    str(tmp_path / "mine.py"), ["stages.student.objective.labels.weight=0.5"]
  )
  assert config.stages.student.objective.labels.weight == 0.5
  assert config.stages.teacher.objective.labels.weight == 1.0


def test_patterns_keep_their_order_and_their_dots(tmp_path):
  write_config(
    tmp_path,
    "student.groups = {'z': config.group(), 'a': config.group()};"
    " student.start = spec(transfer.from_stage, rename={'z.*': 'x', 'a': 'y'})",
  )
  student = loading.load(str(tmp_path / "mine.py")).stages.student
  assert list(student.groups) == ["z", "a"]
  assert list(student.start.rename) == ["z.*", "a"]


def test_unedited_config_begins_to_train(told):
  """Else every case above could fail for a reason of its own."""
  with pytest.raises(AssertionError, match="training began"):
    told(cases.FIT)


@pytest.mark.skipif(
  not hasattr(os, "geteuid") or os.geteuid() == 0,
  reason="root may write everywhere",
)
def test_folder_without_permission_is_refused(told, tmp_path):
  closed = tmp_path / "closed"
  closed.mkdir(mode=0o555)
  assert "you may not write in TMP/closed" in told(
    "fit --config=TMP/mine.py --workdir=TMP/closed/run"
  )


@pytest.mark.parametrize(
  "command, wanted",
  [
    ("fit --config=TMP/mine.py", "required: --workdir"),
    (
      "fit --config=TMP/mine.py --workdir=TMP/run --config.data.batch_size=60",
      "config.data.batch_size=60 does not divide over 8 parts (devices times"
      " accumulation): use 56 or 64",
    ),
    (
      "evaluate --config=TMP/mine.py --workdir=TMP/run",
      "stage 'teacher' has not ended for seed 0",
    ),
  ],
)
def test_process_ends_with_code_1(command, wanted, tmp_path):
  write_arrays(tmp_path, arrays())
  write_config(tmp_path)
  there = content(tmp_path)
  flags = "--xla_force_host_platform_device_count=8"
  ended = subprocess.run(
    [sys.executable, "-m", "tsjax"]
    + command.replace("TMP", str(tmp_path)).split(),
    capture_output=True,
    text=True,
    timeout=120,
    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    cwd=pathlib.Path(main.__file__).parents[1],
  )
  assert ended.returncode == 1
  assert not ended.stdout
  assert wanted in line(ended.stderr, tmp_path)
  assert content(tmp_path) == there
