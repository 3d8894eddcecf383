"""One run in a folder at a time: the second is told who holds it.

On a local disk the lock is the kernel's (`flock`): it ends with the process
that holds it, however that ends, so a restart is never refused by its own dead
predecessor. On a network file system it holds as far as that file system's
`flock` does.

An object store has no locks. There the holder writes its name and renews it
every `BEAT` seconds; another start is refused while the name is younger than
`STALE`, goes on at once where the holder was a process of this machine that is
gone, and takes the folder over, with a line, where nothing was renewed for so
long. What this cannot promise: of two starts within the same second both read
the folder as free; each reads its own name back after `SETTLE` seconds and the
later writer wins, so a store that shows a write later than that lets both go
on. The clocks of the two machines must agree to within STALE - BEAT.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shlex
import socket
import sys
import threading
import time
from typing import Any
import uuid

from etils import epath
import jax

from tsjax.core import errors

NAME = "run.lock"
BEAT, STALE, SETTLE = 30.0, 180.0, 2.0
# Open files of locks. A child must not hold a folder longer than its parent.
_FILES: set[int] = set()
os.register_at_fork(after_in_child=lambda: [os.close(f) for f in _FILES])
# A process that was just killed lets go a moment after it is gone.
PATIENCE = 2.0


class Lock:
  """Holds a run's folder; may be entered again while it is held.

  Args:
    workdir: the run's folder; made when missing.
    command: how this run was started, told to whoever comes second.
    warn: takes a line about a folder that was taken over.

  Raises:
    UserError: from `with`: another run holds the folder, or nothing can be
      written there.
  """

  def __init__(
    self, workdir: epath.PathLike, command: str = "", *, warn: Any = None
  ):
    self._workdir = epath.Path(workdir)
    command = command or shlex.join([pathlib.Path(sys.argv[0]).name])
    self._me = {
      "host": socket.gethostname(),
      "process": os.getpid(),
      "started": _started(os.getpid()),
      "since": time.strftime("%Y-%m-%d %H:%M:%S"),
      "command": command,
      "id": uuid.uuid4().hex,
    }
    self._warn = warn or (lambda line: print(line, file=sys.stderr))
    self._entered = 0
    self._held: _Flock | _Beats | None = None

  def __enter__(self) -> "Lock":
    self._entered += 1
    if self._entered == 1:
      try:
        self._held = self._take()
      except BaseException:
        self._entered = 0
        raise
    return self

  def __exit__(self, *exception: object) -> None:
    self._entered -= 1
    if not self._entered and self._held is not None:
      self._held.release()
      self._held = None

  def check(self) -> None:
    """Raises `UserError` if another run took the folder over meanwhile."""
    if self._held is not None and self._held.lost:
      raise errors.UserError(
        f"{self._workdir}: another run took the folder over, as this one had"
        f" not been heard of for {STALE:g} s; see {NAME} there"
      )

  def _take(self) -> "_Flock | _Beats | None":
    # The hosts of one run are one run.
    if jax.process_index() != 0:
      return None
    try:
      self._workdir.mkdir(parents=True, exist_ok=True)
      if "://" not in str(self._workdir):
        flock = _Flock.take(self._workdir / NAME, self._me)
        if flock is not None:
          return flock
      return _Beats.take(self._workdir / NAME, self._me, self._warn)
    except errors.UserError:
      raise
    except Exception as e:  # Every file system raises its own.
      raise errors.UserError(
        f"{self._workdir}: cannot be written ({type(e).__name__}: {e});"
        " mend that, or use another --workdir"
      ) from e


class _Flock:
  """A lock of the kernel's, with the holder's name in the file."""

  lost = False

  def __init__(self, path: epath.Path, file: int):
    self._path, self._file = path, file
    _FILES.add(file)

  @classmethod
  def take(cls, path: epath.Path, me: dict[str, Any]) -> "_Flock | None":
    """The lock, or None where the file system has none."""
    since = time.monotonic()
    while True:
      file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        holder = _parse(os.pread(file, 2**16, 0))
        os.close(file)
        if time.monotonic() - since > PATIENCE:
          raise _refused(path, holder) from None
        time.sleep(0.05)
        continue
      except OSError as e:
        os.close(file)
        if e.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
          return None
        raise
      # Whoever held it may have removed it since it was opened here.
      with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file), os.stat(path)):
          break
      os.close(file)
    os.ftruncate(file, 0)
    # A full disk leaves a lock without a name.
    with contextlib.suppress(OSError):
      os.pwrite(file, json.dumps(me).encode(), 0)
    return cls(path, file)

  def release(self) -> None:
    """Removes the file while it is still locked, then lets go."""
    with contextlib.suppress(OSError):
      os.unlink(self._path)
    _FILES.discard(self._file)
    os.close(self._file)


class _Beats:
  """A name that its holder keeps young."""

  def __init__(self, path: epath.Path, me: dict[str, Any]):
    self._path, self._me = path, me
    self.lost = False
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._renew, daemon=True)
    self._thread.start()

  @classmethod
  def take(cls, path: epath.Path, me: dict[str, Any], warn: Any) -> "_Beats":
    """Writes the name, and reads it back."""
    holder = _read(path)
    if holder:
      age = time.time() - float(holder.get("beat", 0))
      here = holder.get("host") == me["host"]
      if not (here and not _alive(holder)) and age < STALE:
        raise _refused(path, holder, f" (if it is gone: {STALE - age:.0f} s)")
      warn(f"{path}: taken over from {_told(holder)}, which is gone")
    _write(path, me)
    time.sleep(SETTLE)
    holder = _read(path)
    if holder.get("id") != me["id"]:
      raise _refused(path, holder)
    return cls(path, me)

  def release(self) -> None:
    """Ends the renewing and removes the name, if it is still this run's."""
    self._ended.set()
    self._thread.join()
    # The run has ended either way; the name grows stale by itself.
    with contextlib.suppress(Exception):
      if _read(self._path).get("id") == self._me["id"]:
        self._path.unlink(missing_ok=True)

  def _renew(self) -> None:
    while not self._ended.wait(BEAT):
      # A network that is away for a while is not the end of a run.
      with contextlib.suppress(Exception):
        if _read(self._path).get("id", self._me["id"]) != self._me["id"]:
          self.lost = True
          return
        _write(self._path, self._me)


def _write(path: epath.Path, me: dict[str, Any]) -> None:
  path.write_text(json.dumps({**me, "beat": time.time()}))


def _read(path: epath.Path) -> dict[str, Any]:
  try:
    return _parse(path.read_bytes())
  except FileNotFoundError:
    return {}


def _parse(content: bytes) -> dict[str, Any]:
  try:
    value = json.loads(content)
  except ValueError:
    return {}
  return value if isinstance(value, dict) else {}


def _refused(
  path: epath.Path, holder: dict[str, Any], until: str = ""
) -> errors.UserError:
  return errors.UserError(
    f"{path.parent}: held by {_told(holder)}; wait until it has ended{until},"
    " end it, or use another --workdir"
  )


def _told(holder: dict[str, Any]) -> str:
  if "process" not in holder:
    return "another run"
  return (
    f"process {holder['process']} on host {holder.get('host')} since"
    f" {holder.get('since')} ({holder.get('command')})"
  )


def _alive(holder: dict[str, Any]) -> bool:
  """Whether a process of this machine still runs."""
  return _started(holder.get("process")) == holder.get("started")


def _started(process: Any) -> str:
  """When a process started, in the kernel's words; "" if it is gone.

  A number that was given to another process since then is told apart by it.
  """
  try:
    status = pathlib.Path(f"/proc/{process}/stat").read_text()
  except OSError:
    pass
  else:
    # The name in parentheses may hold anything; 20 fields follow it.
    state, *fields = status.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
  try:
    os.kill(int(process), 0)
  except (OSError, TypeError, ValueError):
    return ""
  return "runs"
