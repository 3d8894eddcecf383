"""Durations: "300 steps", "2 epochs", "10000 examples", "10%"."""

import fractions
import math
import re

from tsjax.core import errors

_FORM = re.compile(
  r"\s*(\d+(?:\.\d+)?)\s*(%|steps?|epochs?|examples?|)\s*", re.IGNORECASE
)


def steps(
  duration: int | str,
  *,
  key: str,
  examples: int,
  batch_size: int,
  total: int | None = None,
) -> int:
  """Converts a duration to steps, rounding up.

  Args:
    duration: an int (steps) or a string with a unit.
    key: the config key, for the error.
    examples: examples in an epoch.
    batch_size: examples in a step.
    total: steps of the whole stage, which a percentage needs.

  Raises:
    UserError: the text has no such form, or a percentage has no whole.
  """
  if isinstance(duration, bool) or not isinstance(duration, int | str):
    raise errors.UserError(
      f"{key}={duration!r} is not a duration: write 300, '2 epochs',"
      " '5000 examples' or '10%'"
    )
  match = _FORM.fullmatch(str(duration))
  if not match:
    raise errors.UserError(
      f"{key}={duration!r} is not a duration: write 300, '2 epochs',"
      " '5000 examples' or '10%'"
    )
  # Exact: 0.55 epochs of 100 are 55, and 55.00000000000001 would be 56.
  number, unit = fractions.Fraction(match[1]), match[2].lower().rstrip("s")
  if unit == "%":
    if total is None:
      raise errors.UserError(
        f"{key}={duration!r}: a percentage has no whole here; use steps,"
        " epochs or examples"
      )
    return math.ceil(total * number / 100)
  if unit == "epoch":
    return math.ceil(number * examples / batch_size)
  if unit == "example":
    return math.ceil(number / batch_size)
  if number != int(number):
    raise errors.UserError(f"{key}={duration!r}: steps are whole numbers")
  return int(number)
