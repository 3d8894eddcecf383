"""The rules of the house, read from the syntax of every file of the package.

The table is the one of docs/design.md: a module imports only from layers below
its own room's, or from its own room.
"""

import ast
from collections.abc import Iterator
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(
  path.relative_to(ROOT).as_posix() for path in ROOT.glob("tsjax/**/*.py")
)
LINES = 400

# tsjax/__init__.py is loaded before everything else, so it stands below all.
PACKAGE = "tsjax"
LAYERS = {PACKAGE: -1} | {
  room: layer
  for layer, rooms in enumerate(
    (
      ("core",),
      ("config", "sharding"),
      ("data", "models", "objectives", "optim", "hub"),
      ("evaluate",),
      ("distill", "tasks"),
      ("train", "checkpoint", "report"),
      ("loop",),
      ("commands",),
      ("main", "__main__"),
    )
  )
  for room in rooms
}
# Modules of one layer that may know each other, in this direction.
BESIDE = {("__main__", "main")}
OUTSIDE = ("configs", "launch", "colab", "tests")

CODE_LOADERS = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
FILE_NAMES = ("utils.py", "helpers.py")
SHELLS = ("os.system", "os.popen", "subprocess.getoutput")


def room_of(path: str) -> str:
  """The room of a file: its folder, or its own name right under tsjax/."""
  parts = pathlib.PurePosixPath(path).with_suffix("").parts[1:]
  return PACKAGE if parts[0] == "__init__" else parts[0]


def imports(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
  """Yields (line, absolute dotted name) of everything that is imported."""
  folder = pathlib.PurePosixPath(path).parent.parts
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for name in node.names:
        yield node.lineno, name.name
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        package = folder[: len(folder) - node.level + 1]
        base = ".".join((*package, base)).rstrip(".")
      for name in node.names:
        yield node.lineno, f"{base}.{name.name}"
    elif isinstance(node, ast.Call) and node.args:
      called = ast.unparse(node.func).rpartition(".")[2]
      text = node.args[0]
      if called in ("import_module", "__import__") and isinstance(
        text, ast.Constant
      ):
        yield node.lineno, str(text.value)


def wrong_imports(path: str, tree: ast.AST) -> Iterator[str]:
  """Yields what the file imports against the table."""
  room = room_of(path)
  if room not in LAYERS:
    yield f"{path}: room {room!r} is not in the table of docs/design.md"
    return
  for line, name in imports(path, tree):
    top, _, rest = name.partition(".")
    if top in OUTSIDE:
      yield f"{path}:{line}: imports {top}, which is outside the package"
    if top in CODE_LOADERS:
      yield f"{path}:{line}: imports {top}, whose files can run code"
    if top != PACKAGE:
      continue
    target = rest.partition(".")[0]
    if target not in LAYERS:
      if f"tsjax/{target}.py" not in FILES and (
        not any(file.startswith(f"tsjax/{target}/") for file in FILES)
      ):
        target = PACKAGE  # An attribute, such as `tsjax.__version__`.
      else:
        yield f"{path}:{line}: room {target!r} is not in the table"
        continue
    if target == room or (room, target) in BESIDE:
      continue
    if LAYERS[target] >= LAYERS[room]:
      yield (
        f"{path}:{line}: {room} (layer {LAYERS[room]}) imports {target}"
        f" (layer {LAYERS[target]})"
      )


def runs_text(path: str, tree: ast.AST) -> Iterator[str]:
  """Yields what would run text or a stranger's file as code."""
  for node in ast.walk(tree):
    where = f"{path}:{getattr(node, 'lineno', 0)}"
    if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
      yield f"{where}: {node.id} of text"
    if isinstance(node, ast.Attribute):
      name = ast.unparse(node)
      if name in ("builtins.eval", "builtins.exec"):
        yield f"{where}: {name} of text"
      if name in SHELLS:
        yield f"{where}: {name} goes through a shell"
    if isinstance(node, ast.Constant) and node.value == "trust_remote_code":
      yield f"{where}: trust_remote_code runs a stranger's code"
    if isinstance(node, ast.keyword):
      value = getattr(node.value, "value", None)
      if node.arg == "trust_remote_code":
        yield f"{where}: trust_remote_code runs a stranger's code"
      if node.arg == "shell" and value is not False:
        yield f"{where}: shell=True"
      if node.arg == "allow_pickle" and value is not False:
        yield f"{where}: allow_pickle reads files that can run code"
      if node.arg == "weights_only" and value is not True:
        yield f"{where}: weights_only=False unpickles"


def undocumented(path: str, tree: ast.Module) -> Iterator[str]:
  """Yields public functions and classes of a module without a docstring."""
  for node in tree.body:
    if not isinstance(
      node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    ):
      continue
    overload = any("overload" in ast.unparse(d) for d in node.decorator_list)
    if node.name.startswith("_") or overload or ast.get_docstring(node):
      continue
    yield f"{path}:{node.lineno}: {node.name} has no docstring"


def violations(path: str, source: str) -> list[str]:
  """All that is wrong with one file of the package, a line for each."""
  tree = ast.parse(source)
  found = [
    *wrong_imports(path, tree),
    *runs_text(path, tree),
    *undocumented(path, tree),
  ]
  lines = len(source.splitlines())
  if lines > LINES:
    found.append(f"{path}: {lines} lines; at most {LINES}")
  if pathlib.PurePosixPath(path).name in FILE_NAMES:
    found.append(f"{path}: name the file after what it holds")
  return found


@pytest.mark.parametrize("path", FILES)
def test_file_keeps_the_rules(path):
  found = violations(path, (ROOT / path).read_text(encoding="utf-8"))
  assert not found, "\n" + "\n".join(found)


def test_every_room_was_walked():
  assert {"core", "main"} <= {room_of(path) for path in FILES}


def test_table_is_the_one_of_the_design():
  page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
  rows = re.findall(r"^\| (\d) \| ([^|]+) \|", page, re.MULTILINE)
  told = {
    room: int(layer)
    for layer, rooms in rows
    for room in re.findall(r"`(\w+)`", rooms)
  }
  assert len(told) > 10
  assert told == {room: LAYERS.get(room) for room in told}


@pytest.mark.parametrize(
  ("path", "source", "fault"),
  [
    ("tsjax/core/a.py", "import tsjax.config.specs", "layer 0"),
    ("tsjax/core/a.py", "from tsjax import models", "imports models"),
    ("tsjax/models/a.py", "from tsjax.data import order", "imports data"),
    ("tsjax/models/a.py", "from ..objectives import logits", "objectives"),
    ("tsjax/models/a.py", "from .. import train as t", "imports train"),
    ("tsjax/train/a.py", "def _f():\n  import tsjax.report", "imports report"),
    ("tsjax/train/a.py", "import tsjax as t, tsjax.loop", "imports loop"),
    ("tsjax/loop/a.py", "from tsjax import main", "imports main"),
    ("tsjax/__init__.py", "from tsjax.core import errors", "layer -1"),
    ("tsjax/main.py", "from configs import digits", "outside"),
    ("tsjax/main.py", "import launch.local", "outside"),
    (
      "tsjax/core/a.py",
      "import importlib\nimportlib.import_module('tsjax.tasks.a')",
      "imports tasks",
    ),
    ("tsjax/extra/a.py", "", "not in the table"),
    ("tsjax/core/a.py", "\n" * 401, "401 lines"),
    ("tsjax/core/utils.py", "", "name the file"),
    ("tsjax/core/helpers.py", "", "name the file"),
    ("tsjax/core/a.py", "def f(): pass", "f has no docstring"),
    ("tsjax/core/a.py", "class A: pass", "A has no docstring"),
    ("tsjax/core/a.py", "import pickle", "can run code"),
    ("tsjax/core/a.py", "from pickle import loads", "can run code"),
    ("tsjax/core/a.py", "eval('1')", "eval of text"),
    ("tsjax/core/a.py", "list(map(exec, 'a'))", "exec of text"),
    ("tsjax/core/a.py", "import os\nos.system('ls')", "shell"),
    ("tsjax/core/a.py", "run('ls', shell=True)", "shell=True"),
    ("tsjax/core/a.py", "load(a, trust_remote_code=True)", "stranger"),
    ("tsjax/core/a.py", "load(**{'trust_remote_code': 1})", "stranger"),
    ("tsjax/core/a.py", "load(a, allow_pickle=True)", "can run code"),
    ("tsjax/core/a.py", "load(a, weights_only=False)", "unpickles"),
  ],
)
def test_a_fault_is_found(path, source, fault):
  found = violations(path, source)
  assert len(found) == 1
  assert fault in found[0]


@pytest.mark.parametrize(
  ("path", "source"),
  [
    ("tsjax/models/a.py", "from tsjax.core import errors"),
    ("tsjax/models/a.py", "from tsjax.models import norm\nfrom . import norm"),
    ("tsjax/models/a.py", "import tsjax\nfrom tsjax import __version__"),
    ("tsjax/models/a.py", "import jax, configs_of_others, tsjax_other.loop"),
    ("tsjax/loop/a.py", "from tsjax.loop import build"),
    ("tsjax/__main__.py", "from tsjax import main"),
    ("tsjax/core/a.py", "import jax\njax.eval_shape(len, ())"),
    ("tsjax/core/a.py", "run(['ls'], shell=False)"),
    ("tsjax/core/a.py", "def _f(): pass\ndef g():\n  'Does it.'"),
    ("tsjax/core/a.py", "\n" * 400),
  ],
)
def test_what_is_allowed_is_not_a_fault(path, source):
  assert violations(path, source) == []
