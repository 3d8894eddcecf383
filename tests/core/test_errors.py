"""The names that could have been meant."""

from tsjax.core import errors


def test_a_near_name_is_proposed():
  told = errors.nearest("studnet", ("student", "teacher"))
  assert told == "did you mean 'student'?"
  assert " or " in errors.nearest("stage_3", ("stage_1", "stage_2"))


def test_where_none_is_near_the_known_ones_are_listed():
  assert errors.nearest("x", ("b", "a", "a")) == "known: a, b"
  many = errors.nearest("x", [f"name_{i:02d}" for i in range(20)])
  assert many.endswith("name_11, ...")
  assert errors.nearest("x", ()) == "there is none"
  assert errors.nearest(7, (1, 2)) == "known: 1, 2"
