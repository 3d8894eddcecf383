"""Progress: a bar on a terminal, plain lines where there is none."""

import sys
import time
from typing import TextIO


class Progress:
  """Shows what runs, how far it is, how fast, and how long it will take.

  Args:
    total: steps of the whole run, over all stages, seeds and arms.
    stream: where to write; a bar if it is a terminal.
    every: seconds between two updates of a bar; lines come ten times rarer.
  """

  def __init__(
    self, total: int, *, stream: TextIO | None = None, every: float = 0.5
  ):
    self._stream = stream or sys.stderr
    self._bar = self._stream.isatty()
    self._every = every if self._bar else 10 * every
    self._total, self._done, self._stepped = max(total, 1), 0, 0
    self._start = self._shown = time.monotonic()
    self._name, self._loss = "", None
    self._open = False

  def begin(self, name: str) -> None:
    """Names what runs now: "student, seed 1"."""
    self._name, self._loss = name, None

  def skip(self, steps: int) -> None:
    """Counts steps that an earlier run had done."""
    self._done += steps

  def loss(self, value: float) -> None:
    """The latest loss that is known; it may be some steps old."""
    self._loss = value

  def advance(self, steps: int) -> None:
    """Counts steps that were sent to the device."""
    self._done += steps
    self._stepped += steps
    now = time.monotonic()
    if now - self._shown >= self._every:
      self._shown = now
      self._show(now)

  def line(self, text: str) -> None:
    """Writes a line above the bar."""
    if self._open:
      self._stream.write("\r\x1b[K")
      self._open = False
    self._stream.write(text + "\n")
    self._stream.flush()

  def close(self) -> None:
    """Ends the bar."""
    if self._open:
      self._stream.write("\r\x1b[K")
      self._stream.flush()
      self._open = False

  def _show(self, now: float) -> None:
    rate = self._stepped / max(now - self._start, 1e-9)
    left = (self._total - self._done) / rate if rate else 0.0
    share = min(self._done / self._total, 1.0)
    loss = "" if self._loss is None else f"  loss {self._loss:.4f}"
    text = (
      f"{self._name}  {self._done}/{self._total} steps{loss}"
      f"  {rate:.1f} steps/s  {duration(left)} left"
    )
    if not self._bar:
      self.line(text)
      return
    width = 20
    filled = round(width * share)
    bar = "█" * filled + "░" * (width - filled)
    self._stream.write(f"\r\x1b[K{bar} {share:4.0%}  {text}")
    self._stream.flush()
    self._open = True


def duration(seconds: float) -> str:
  """ "1h02m", "3m05s" or "7s"."""
  whole = round(seconds)
  if whole >= 3600:
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
  if whole >= 60:
    return f"{whole // 60}m{whole % 60:02d}s"
  return f"{whole}s"
