"""One run in a folder: the second is told who holds it."""

import errno
import fcntl
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from etils import epath
import pytest

from tsjax.core import errors
from tsjax.loop import lock

HOLD = """
import pathlib, sys
from tsjax.loop import lock
with lock.Lock(sys.argv[1], "tsjax fit --config=a.py"):
  print("held", flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
  """Starts a process that holds a folder."""
  started = []

  def start(folder):
    process = subprocess.Popen(
      [sys.executable, "-c", HOLD, str(folder)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    started.append(process)
    assert process.stdout.readline() == "held\n"
    return process

  yield start
  for process in started:
    process.kill()
    process.communicate()


def contents(folder):
  return {p: p.read_bytes() for p in pathlib.Path(folder).rglob("*")}


def test_the_second_is_told_who_holds_the_folder(hold, tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "PATIENCE", 0.1)
  process = hold(tmp_path)
  before = contents(tmp_path)
  with pytest.raises(errors.UserError) as error:
    lock.Lock(tmp_path, "mine").__enter__()
  text = str(error.value)
  assert text.startswith(
    f"{tmp_path}: held by process {process.pid} on host {os.uname().nodename}"
    " since 2"
  )
  assert "(tsjax fit --config=a.py); wait until it has ended" in text
  assert text.endswith("or use another --workdir") and "\n" not in text
  assert contents(tmp_path) == before


def test_a_killed_process_holds_nothing(hold, tmp_path):
  # At once, as `kill -9 ...; tsjax fit ...` does.
  hold(tmp_path).kill()
  with lock.Lock(tmp_path):
    assert json.loads((tmp_path / lock.NAME).read_text())["process"] == (
      os.getpid()
    )


def test_a_held_folder_is_left_as_it_was(tmp_path):
  folder = tmp_path / "new" / "run"
  held = lock.Lock(folder)
  with held, held:
    assert (folder / lock.NAME).exists()
  assert list(folder.iterdir()) == []
  with held:
    assert (folder / lock.NAME).exists()


def test_two_runs_of_one_process_are_two(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "PATIENCE", 0.1)
  with (
    lock.Lock(tmp_path, "the first"),
    pytest.raises(errors.UserError, match=r"\(the first\)"),
  ):
    lock.Lock(tmp_path).__enter__()
  with lock.Lock(tmp_path):
    pass


def test_a_child_that_lives_longer_holds_nothing(tmp_path):
  with lock.Lock(tmp_path):
    # Of the parent's files, a child keeps what is not closed at the fork.
    child = subprocess.run(
      [
        sys.executable,
        "-c",
        "import os, sys, time\n"
        "from tsjax.loop import lock\n"
        "lock.Lock(sys.argv[1]).__enter__()\n"
        "if not os.fork(): time.sleep(20)\n"
        "os._exit(0)\n",
        str(tmp_path / "child"),
      ],
      env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
      check=True,
    )
  assert child.returncode == 0
  with lock.Lock(tmp_path / "child"):
    pass


def test_one_of_many_that_start_together_gets_the_folder(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "PATIENCE", 0.0)
  taken, refused, go = [], [], threading.Barrier(16)

  def start():
    go.wait()
    try:
      taken.append(lock.Lock(tmp_path).__enter__())
    except errors.UserError:
      refused.append(1)

  threads = [threading.Thread(target=start) for _ in range(16)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(taken) == 1 and len(refused) == 15
  taken[0].__exit__()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match="cannot be written") as error:
    lock.Lock(tmp_path / "file" / "run").__enter__()
  assert "use another --workdir" in str(error.value)


@pytest.fixture
def without_locks(monkeypatch):
  """A file system that has no locks, as an object store."""

  def fail(*args):
    raise OSError(errno.ENOTSUP, "Operation not supported")

  monkeypatch.setattr(fcntl, "flock", fail)
  monkeypatch.setattr(lock, "SETTLE", 0.01)
  monkeypatch.setattr(lock, "BEAT", 0.02)


def write(folder, **changed):
  """The name of another holder."""
  (folder / lock.NAME).write_text(
    json.dumps(
      {
        "host": "elsewhere",
        "process": 7,
        "started": "1",
        "since": "2026-01-01 00:00:00",
        "command": "tsjax fit",
        "id": "other",
        "beat": time.time(),
      }
      | changed
    )
  )


def test_without_locks_a_name_that_is_renewed_holds(without_locks, tmp_path):
  with lock.Lock(tmp_path) as held:
    path = epath.Path(tmp_path / lock.NAME)
    first = json.loads(path.read_text())["beat"]
    deadline = time.monotonic() + 20
    while json.loads(path.read_text() or "{}").get("beat") in (first, None):
      assert time.monotonic() < deadline
      time.sleep(0.01)
    held.check()
    with pytest.raises(errors.UserError, match="held by process"):
      lock.Lock(tmp_path).__enter__()
  assert not path.exists()


def test_without_locks_another_host_holds_while_its_name_is_young(
  without_locks, tmp_path
):
  write(tmp_path, beat=time.time() - 0.5 * lock.STALE)
  with pytest.raises(
    errors.UserError, match=r"process 7 on host elsewhere.*if it is gone: 90 s"
  ):
    lock.Lock(tmp_path).__enter__()
  write(tmp_path, beat=time.time() - 1.1 * lock.STALE)
  lines = []
  with lock.Lock(tmp_path, warn=lines.append):
    pass
  assert (
    len(lines) == 1 and "taken over from process 7 on host else" in lines[0]
  )


def test_without_locks_a_dead_predecessor_of_this_machine_is_passed(
  without_locks, tmp_path
):
  ended = subprocess.Popen([sys.executable, "-c", ""])
  ended.wait()
  here = os.uname().nodename
  write(tmp_path, host=here, process=ended.pid)
  with lock.Lock(tmp_path, warn=[].append):
    pass
  # Its number may be another process's by now.
  write(tmp_path, host=here, process=os.getpid(), started="1")
  with lock.Lock(tmp_path, warn=[].append):
    pass


def test_without_locks_a_run_whose_folder_was_taken_over_is_told(
  without_locks, tmp_path
):
  held = lock.Lock(tmp_path)
  with (
    pytest.raises(errors.UserError, match="another run took the folder"),
    held,
  ):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
      # More than once: a renewal may have been on its way.
      write(tmp_path)
      time.sleep(0.05)
      held.check()
  # The name is the other's and stays.
  assert json.loads((tmp_path / lock.NAME).read_text())["id"] == "other"
