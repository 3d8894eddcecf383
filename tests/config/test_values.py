"""Text as typed values."""

import pytest

from tsjax.config import values
from tsjax.core import errors


@pytest.mark.parametrize(
  "text,like,expected",
  [
    ("3", 1, 3),
    ("3", 1.0, 3.0),
    ("1e-3", 1.0, 1e-3),
    ("true", False, True),
    ("False", True, False),
    ("3", "text", "3"),
    ("2 epochs", "1 epoch", "2 epochs"),
    ("(1, 2)", (3,), (1, 2)),
    ("0.1,0.3", (1.0,), (0.1, 0.3)),
    ("0.1", (1.0, 2.0), (0.1,)),
    ("teacher", ("x",), ("teacher",)),
    ("teacher, student", ("x",), ("teacher", "student")),
    ("1,x", (1,), (1, "x")),
    ("none", None, None),
    ("3", None, 3),
    ("some text", None, "some text"),
    ("{[]: 1}", None, "{[]: 1}"),
  ],
)
def test_text_is_read_as_the_old_values_type(text, like, expected):
  value = values.parse_value(text, like, key="k")
  assert value == expected
  assert type(value) is type(expected)


@pytest.mark.parametrize(
  "text,like",
  [("x", 1), ("1.5", 1), ("true", 1), ("1", True), ("true", 1.0), ("x", 1.0)],
)
def test_text_of_another_type(text, like):
  with pytest.raises(
    errors.UserError, match=f"k='{text}': expected {type(like).__name__}"
  ):
    values.parse_value(text, like, key="k")


def test_arguments():
  defaults = dict(data="digits", labels=1.0, steps=300, smoke=False)
  told = values.arguments("data=cifar10, labels=1,smoke", **defaults)
  assert vars(told) == {
    "data": "cifar10", "labels": 1.0, "steps": 300, "smoke": True
  }  # fmt: skip
  assert isinstance(told.labels, float)
  for nothing in (None, ""):
    assert vars(values.arguments(nothing, **defaults)) == defaults


@pytest.mark.parametrize(
  "text,message",
  [
    ("lables=1", "argument 'lables' is not known: did you mean 'labels'"),
    ("steps", "argument 'steps' needs a value: steps=300"),
    ("steps=many", "argument steps='many': expected int, like 300"),
  ],
)
def test_arguments_that_are_mistakes(text, message):
  with pytest.raises(errors.UserError, match=message):
    values.arguments(text, labels=1.0, steps=300)
