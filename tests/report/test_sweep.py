"""The page of a sweep: the right figure, and what may be said of the best."""

import html
import json
import re

import numpy as np
import pytest

from tsjax.report import sweep as page

SEEDS = [0, 1, 2]


def point(name, values, scores):
  found = None
  if scores is not None:
    found = {
      "mean": float(np.mean(scores)),
      "std": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
      "values": list(scores),
    }
  return {
    "name": name,
    "values": values,
    "shared": {"teacher": "first"},
    "validation": found,
    "failed": None if found else "the loss is nan",
  }


def around(mean, spread=0.004):
  return [mean - spread, mean, mean + spread]


def sweep(points, chosen, **more):
  best = next(p for p in points if p["name"] == chosen)
  return {
    "format": 1,
    "name": "digits",
    "command": "tsjax sweep --config=mine.py",
    "stage": "student",
    "metric": "f1",
    "lower_is_better": False,
    "seeds": SEEDS,
    "validation_size": 144,
    "unequal": [],
    "sizes": {p["name"]: 1234 for p in points},
    "keys": list(points[0]["values"]),
    "points": points,
    "chosen": chosen,
    "test": {"student": {"f1": best["validation"], "cross_entropy": {}}},
  } | more


def rates():
  return sweep(
    [
      point("rate=0.001", {"stages.student.rate": 0.001}, around(0.60)),
      point("rate=0.01", {"stages.student.rate": 0.01}, [0.94, 0.91, 0.93]),
      point("rate=0.1", {"stages.student.rate": 0.1}, around(0.92)),
      point("rate=1", {"stages.student.rate": 1.0}, None),
    ],
    "rate=0.01",
  )


def grid(values=((1, 2, 3), ("a", "b"))):
  points = [
    point(f"w={w},k={k}", {"x.weight": w, "x.kind": k}, around(0.8 + w / 50))
    for w in values[0]
    for k in values[1]
  ]
  return sweep(points, points[-1]["name"])


def strengths(drawing):
  """Of a map's cells, by weight."""
  cells = re.findall(r"fill-opacity=\"([\d.]+)\"><title>w=(\d)", drawing)
  return {int(weight): float(opacity) for opacity, weight in cells}


def text_of(content):
  body = str(page.render(content)).partition("<body>")[2]
  text = html.unescape(
    re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", body.replace("\u200b", "")))
  )
  return re.sub(r" ([.,:;])", r"\1", text)


def test_the_words_say_who_is_ahead_and_what_it_is_not_told_from():
  text = text_of(rates())
  assert "rate=0.01 is ahead on validation with F1 92.7 ± 1.5 %;" in text
  assert "student then reached 92.7 ± 1.5 % on the test split." in text
  assert "Not told apart from it over 3 seeds: rate=0.1." in text
  assert "The validation score of the best of 3" in text
  assert "rate=1 came apart and takes no part: the loss is nan" in text


def test_what_is_clearly_behind_is_told_apart():
  found = {p["name"]: p for p in page.compared(rates())}
  assert found["rate=0.001"]["told"] is True
  assert found["rate=0.1"]["told"] is False
  assert found["rate=0.01"]["told"] is found["rate=1"]["told"] is None
  assert found["rate=0.001"]["low"] > 0.2


def test_one_numeric_key_is_a_line_with_the_values_that_were_tried():
  drawing = re.search(r"<svg[^>]*role.*?</svg>", str(page.render(rates())))[0]
  assert drawing.count("<path") == 1
  assert drawing.count("<title>") == 3
  for value in ("0.001", "0.01", "0.1"):
    assert f">{value}</text>" in drawing
  assert "log scale" in drawing
  # All but the chosen one are outlines.
  assert drawing.count("fill:var(--panel)") == 2


def test_two_keys_are_a_map_with_the_chosen_cell_framed():
  drawing = re.search(r"<svg[^>]*role.*?</svg>", str(page.render(grid())))[0]
  assert drawing.count('class="right"') == 6
  assert drawing.count("stroke:var(--ink)") == 1
  by_weight = strengths(drawing)
  assert by_weight[1] < by_weight[2] < by_weight[3]


def test_a_map_of_a_loss_is_strong_where_it_is_low():
  content = grid() | {"metric": "cross_entropy", "lower_is_better": True}
  content["test"] = {"student": {"cross_entropy": {"mean": 0.5, "std": 0.1}}}
  drawing = re.search(r"<svg[^>]*role.*?</svg>", str(page.render(content)))[0]
  by_weight = strengths(drawing)
  assert by_weight[1] > by_weight[3]
  assert "the lower the mean over seeds" in text_of(content)


@pytest.mark.parametrize(
  "points",
  [
    # Three keys.
    [{"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 1}],
    # One key without numbers.
    [{"a": "x"}, {"a": "y"}],
    [{"a": True}, {"a": False}],
    # Two keys, and not every pair.
    [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}],
    # A schedule.
    [{"a": {"call": "m.constant"}}, {"a": 0.5}],
  ],
)
def test_other_grids_are_dots_from_the_best_on(points):
  made = [
    point(f"p{k}", values, around(0.5 + k / 10))
    for k, values in enumerate(points)
  ]
  text = text_of(sweep(made, made[-1]["name"]))
  assert "The best first, farther right is better" in text
  drawing = re.search(
    r"<svg[^>]*role.*?</svg>", str(page.render(sweep(made, "p1")))
  )[0]
  names = re.findall(r">(p\d)</text>", drawing)
  assert names == sorted(names, reverse=True)


def test_many_points_show_the_best_and_say_so():
  made = [
    point(f"p{k}", {"a": str(k)}, around(0.5 + k / 100)) for k in range(30)
  ]
  assert "Shown are the best 20 of 30 points." in text_of(sweep(made, "p29"))


def test_ties_one_seed_and_unequal_budgets_are_said():
  made = [point(n, {"a": n}, [0.9]) for n in ("x", "y", "z")]
  content = sweep(made, "x", seeds=[0], unequal=["config.a is 1 at x"])
  text = text_of(content)
  assert "Equal on validation: x, y, z; the first of the grid" in text
  assert "Each point has one seed" in text
  assert "The points had not the same budget: config.a is 1 at x." in text
  assert "All points took the same number of steps" not in text


def test_the_files_are_whole_and_the_page_loads_nothing(tmp_path):
  path = page.write(rates(), tmp_path)
  text = path.read_text()
  assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
  assert "<script" not in text and "http" not in text.replace("http-equiv", "")
  assert 'href="../points/rate=0.01/report/index.html"' in text
  stored = json.loads((tmp_path / "sweep.json").read_text())
  assert stored == rates()


def test_names_cannot_break_the_page():
  made = [point(n, {"<i>": n}, around(0.9)) for n in ("<b>", "y")]
  assert "<b>" not in str(page.render(sweep(made, "<b>")))
