"""Errors that a person can mend, told in one line."""

from collections.abc import Iterable
import difflib


class UserError(ValueError):
  """A mistake in a config, a command or the data.

  The message is one line: the key, the value, and the remedy. The command line
  prints it without a traceback and exits with code 1.
  """


class Diverged(UserError):
  """Training came apart: a loss, a weight or an output is no number any more.

  Other runs of the same data and folder may still be well.
  """


def nearest(name: object, known: Iterable[object]) -> str:
  """Says what could have been meant: "did you mean 'student'?"."""
  known = sorted({str(k) for k in known})
  close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
  if close:
    return "did you mean " + " or ".join(repr(c) for c in close) + "?"
  if not known:
    return "there is none"
  shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
  return f"known: {shown}"
