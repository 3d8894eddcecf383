"""A headless Chromium, spoken to over a pipe in its DevTools protocol.

    with browser.Browser(tmp_path) as b:
      b.open(path, width=400, scheme="dark")
      b.evaluate("document.title")

Source: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 60  # that an answer may take, on a machine that is busy


def find():
  """The browser's path, or None where there is none."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """One browser with one page, ended with the block that it is made in."""

  def __init__(self, profile):
    self._profile = pathlib.Path(profile)
    self.events = []

  def __enter__(self):
    ours, theirs = self._pipes()
    to_browser, self._read = ours[1], theirs[0]
    self._write, self._buffer, self._count = to_browser, b"", 0
    null = os.open(os.devnull, os.O_RDWR)
    self._process = os.posix_spawn(
      find(),
      [
        find(),
        "--headless",
        "--no-sandbox",  # Tests may run as root in a container.
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-extensions",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        "--hide-scrollbars",
        f"--user-data-dir={self._profile}",
        "--remote-debugging-pipe",
        "about:blank",
      ],
      os.environ,
      file_actions=[
        *((os.POSIX_SPAWN_DUP2, null, k) for k in range(3)),
        # The protocol's own: it reads from 3 and writes to 4.
        (os.POSIX_SPAWN_DUP2, ours[0], 3),
        (os.POSIX_SPAWN_DUP2, theirs[1], 4),
      ],
      setpgroup=0,
    )
    for end in (null, ours[0], theirs[1]):
      os.close(end)
    target = self._call("Target.createTarget", url="about:blank")["targetId"]
    self._session = self._call(
      "Target.attachToTarget", targetId=target, flatten=True
    )["sessionId"]
    for domain in ("Page", "Network", "Log", "Runtime"):
      self.send(f"{domain}.enable")
    return self

  def __exit__(self, *error):
    os.close(self._write)
    os.close(self._read)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process, signal.SIGKILL)
    os.waitpid(self._process, 0)

  def _pipes(self):
    """Two pipes, away from the numbers that the child gives its own."""

    def pipe():
      ends = os.pipe()
      high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 64) for end in ends]
      for end in ends:
        os.close(end)
      return high

    return pipe(), pipe()

  def open(self, path, *, width, scheme, height=900):
    """Loads a file of this machine at a width and in a colour scheme."""
    self.events.clear()
    self.resize(width, height)
    self.send(
      "Emulation.setEmulatedMedia",
      features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    self.send("Page.navigate", url=pathlib.Path(path).absolute().as_uri())
    self._until(lambda e: e.get("method") == "Page.loadEventFired")

  def resize(self, width, height):
    """Sets the size of the window's content."""
    self.send(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 600,
    )

  def evaluate(self, script):
    """The value of a script, a promise waited for."""
    found = self.send(
      "Runtime.evaluate",
      expression=script,
      awaitPromise=True,
      returnByValue=True,
    )
    if "exceptionDetails" in found:
      raise AssertionError(found["exceptionDetails"])
    return found["result"].get("value")

  def picture(self, path):
    """Writes what the whole page looks like as PNG."""
    found = self.send(
      "Page.captureScreenshot", captureBeyondViewport=True, format="png"
    )
    pathlib.Path(path).write_bytes(base64.b64decode(found["data"]))

  def requests(self):
    """Addresses that were asked for since the page was opened.

    What a page holds itself, its `data:`, is none.
    """
    asked = [
      e["params"]["request"]["url"]
      for e in self.events
      if e.get("method") == "Network.requestWillBeSent"
    ]
    return [address for address in asked if not address.startswith("data:")]

  def complaints(self):
    """What the browser logged: blocked loads, errors."""
    return [
      e["params"] for e in self.events if e.get("method") == "Log.entryAdded"
    ]

  def send(self, method, **parameters):
    """Calls a method of the page and waits for its answer."""
    return self._call(method, session=self._session, **parameters)

  def _call(self, method, *, session=None, **parameters):
    self._count += 1
    message = {"id": self._count, "method": method, "params": parameters}
    if session:
      message["sessionId"] = session
    data = json.dumps(message).encode() + b"\0"
    while data:
      data = data[os.write(self._write, data) :]
    answer = self._until(lambda e: e.get("id") == self._count)
    if "error" in answer:
      raise AssertionError(f"{method}: {answer['error']}")
    return answer["result"]

  def _until(self, wanted):
    """The first message that is wanted; the others are kept as events."""
    end = time.monotonic() + SECONDS
    while True:
      while b"\0" in self._buffer:
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self.events.append(message)
        if wanted(message):
          return message
      left = end - time.monotonic()
      if left <= 0 or not select.select([self._read], [], [], left)[0]:
        raise AssertionError(f"no answer of the browser in {SECONDS} s")
      data = os.read(self._read, 1 << 16)
      if not data:
        raise AssertionError("the browser ended")
      self._buffer += data
