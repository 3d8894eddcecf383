"""The page tells the whole run, and tells it safely."""

import copy
import html
import html.parser
import json
import re

from etils import epath
import numpy as np
import pytest

from tests.report import samples
from tsjax.core import errors
from tsjax.report import page


@pytest.fixture(name="results", scope="module")
def _results():
  return samples.make_results()


class _Reader(html.parser.HTMLParser):
  """Collects texts, headings and tags; fails where tags do not nest."""

  VOID = frozenset({"meta", "br", "img", "wbr"})

  def __init__(self):
    super().__init__(convert_charrefs=True)
    self.open, self.tags, self.texts, self.attributes = [], [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    assert self.open and self.open.pop() == tag, f"</{tag}> closes another"

  def handle_data(self, data):
    if self.open[-1:] != ["style"]:
      self.texts.append(data)


def _read(results):
  reader = _Reader()
  reader.feed(page.render(page._plain(results)))
  reader.close()
  assert not reader.open, f"never closed: {reader.open}"
  return reader


def _text(results):
  # Elements may part a sentence; what is read is the whole.
  return re.sub(r"\s+", " ", "".join(_read(results).texts))


def test_writes_a_page_and_its_data(results, tmp_path):
  path = page.write(results, epath.Path(tmp_path) / "run" / "report")
  assert isinstance(path, epath.Path)
  assert path == epath.Path(tmp_path) / "run" / "report" / "index.html"
  names = {p.name for p in path.parent.iterdir()}
  assert names == {"index.html", "results.json"}
  stored = json.loads((path.parent / "results.json").read_text())
  assert stored == results


def test_needs_no_other_file_script_or_network(results):
  reader = _read(results)
  assert not {"script", "link", "iframe", "object"} & set(reader.tags)
  loads = [v for k, v in reader.attributes if k in ("src", "href")]
  pictures = set(results["pictures"].values())
  assert {v for v in loads if v not in pictures} == {"results.json"}
  assert pictures <= set(loads)
  text = page.render(results)
  for picture in pictures:
    text = text.replace(picture, "")
  assert "http" not in text.replace("http-equiv", "")
  assert "url(" not in text and "@import" not in text


def test_all_numbers_are_on_the_page(results):
  text = _text(results)
  for name, stage in results["stages"].items():
    assert name in text
    assert f"{stage['model']['parameters']:,}" in text
    for metric, found in stage["test"].items():
      digits = 0 if metric == "examples_per_second" else 4
      for value in (found["mean"], found["std"], *found["values"]):
        assert f"{value:,.{digits}f}" in text, (name, metric)
    for metric in ("accuracy", "f1", "agreement", "calibration_error"):
      found = stage["test"][metric]
      shown = f"{100 * found['mean']:.1f} ± {100 * found['std']:.1f}"
      assert shown in text, (name, metric)
    for row in stage["confusion"]:
      for count in row:
        assert not count or str(count) in text
    for scores in ("precision", "recall", "f1"):
      for value in stage["per_class"][scores]:
        assert f"{100 * value:.1f}" in text
  for value in (
    "0, 1, 2",
    "1 min 34 s",
    "3,136",
    "params/layer_2/kernel",
    "0.003",
  ):
    assert value in text
  for key in ("command", "device", "date", "name"):
    assert results[key] in text
  for name, version in results["versions"].items():
    assert f"{name} {version}" in text


def test_every_figure_has_a_caption_and_a_name(results):
  reader = _read(results)
  assert reader.tags.count("figure") == reader.tags.count("figcaption") >= 12
  labels = [v for k, v in reader.attributes if k == "aria-label"]
  assert reader.tags.count("figure") <= len(labels)
  assert all(labels)


def test_no_drawing_holds_a_number_that_is_none(results):
  text = page.render(results)
  assert "nan" not in text.lower().replace("finance", "")
  assert ">None<" not in text and "inf" not in re.findall(r'"([a-z]+)"', text)


@pytest.mark.parametrize(
  "hostile",
  [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</title></style><script>",
    "a & b &lt; c",
    "]]><!-- ",
    "\u202eevil\x00\ud800 名前 🎓",
    "x" * 300,
  ],
)
def test_hostile_names_stay_text(results, tmp_path, hostile):
  results = copy.deepcopy(results)
  results["stages"] = {
    name + hostile: stage for name, stage in results["stages"].items()
  }
  for stage in results["stages"].values():
    stage["trains"] += hostile
    stage["teachers"] = [t + hostile for t in stage["teachers"]]
    stage["model"]["kind"] = hostile
    stage["chosen"][0]["arm"] = {hostile: hostile}
    stage["chosen"][0]["validation"] = {hostile: 0.5}
    stage["test"][hostile] = stage["test"]["f1"]
    stage["validation"][hostile] = stage["test"]["f1"]
    stage["score"] = hostile
    stage["groups"] = {hostile: samples.groups()["writer 1"]}
    for key in ("similarity", "disagreements"):
      if stage[key]:
        stage[key]["with"] = hostile
    if stage["similarity"]:
      stage["similarity"]["rows"][0] = hostile
      stage["similarity"]["columns"][0] = hostile
    if stage["transfer"]:
      stage["transfer"]["leaves"][0] = {"path": hostile, hostile: hostile}
  results["classes"] = [hostile + c for c in samples.CLASSES]
  results["versions"] = {hostile: hostile}
  results["pictures"] = {"0": hostile, "10": hostile + "data:image/png;base64,"}
  for key in ("name", "command", "device", "date", "loss"):
    results[key] = hostile
  reader = _read(results)
  assert not {"script", "img"} & set(reader.tags)
  assert not [k for k, _ in reader.attributes if k.startswith("on")]
  assert reader.tags.count("style") == 1
  seen = re.sub("[\x00\ud800]", "\ufffd", hostile)
  assert seen in "".join(reader.texts)
  path = page.write(results, tmp_path)
  assert seen in html.unescape(path.read_bytes().decode())
  assert json.loads((tmp_path / "results.json").read_bytes()) == results


def _without(results, *path):
  results = copy.deepcopy(results)
  found = [results]
  for key in path[:-1]:
    found = [x for f in found for x in (f.values() if key == "*" else [f[key]])]
  for x in found:
    x.pop(path[-1])
  return results


@pytest.mark.parametrize(
  "key",
  ["name", "command", "seeds", "seconds", "device", "date", "versions"]
  + ["classes", "stages", "pictures", "loss", "reference"],
)
def test_works_without_a_part_of_the_run(results, key):
  assert _text(_without(results, key))


@pytest.mark.parametrize("missing", [None, "absent"])
@pytest.mark.parametrize(
  "key",
  ["model", "steps", "seconds", "teachers", "labels", "test", "validation"]
  + [
    "per_class",
    "confusion",
    "chosen",
    "curves",
    "line",
    "transfer",
    "trains",
    "score",
    "lower_is_better",
    "reliability",
    "speed",
    "groups",
    "targets",
    "similarity",
    "disagreements",
  ],
)
def test_works_without_a_part_of_the_stages(results, key, missing):
  results = _without(results, "stages", "*", key)
  if missing is None:
    for stage in results["stages"].values():
      stage[key] = None
  assert "teacher" in _text(results)


def test_sections_without_content_are_left_out(results):
  bare = results
  for key in ("confusion", "curves", "line", "transfer", "per_class"):
    bare = _without(bare, "stages", "*", key)
  text = _text(bare)
  for heading in ("Confusion", "Learning curves", "Transferred", "Classes"):
    assert heading in _text(results)
    assert heading not in text


def _section(text, heading, following):
  """The text of one section."""
  assert heading in text and following in text, (heading, following)
  return text[text.index(heading) : text.index(following)]


def test_reliability_tells_counts_and_who_claims_too_much(results):
  text = _section(_text(results), "Reliability", "Similarity of layers")
  for stage in results["stages"].values():
    bins = stage["reliability"]
    count = np.array(bins["count"])
    for value in count[count > 0]:
      assert str(value) in text
    sure = count @ bins["confidence"] / count.sum()
    right = count @ bins["accuracy"] / count.sum()
    assert f"On average {100 * sure:.1f} % sure and {100 * right:.1f} %" in text
    assert f"points too {'much' if sure > right else 'little'}" in text


def test_similarity_names_what_is_most_alike(results):
  text = _section(_text(results), "Similarity of layers", "Where student")
  # The ending that all taps share is left out, the other names stay.
  assert "Most alike are stem and stem (96)" in text
  assert "360 test examples, with seed 0" in text
  for value in (96, 64, 43, 29):
    assert str(value) in text


def test_large_similarities_are_shown_in_part(results):
  results = copy.deepcopy(results)
  found = results["stages"]["student"]["similarity"]
  found["rows"] = [f"block_{k}/output" for k in range(100)]
  found["cka"] = np.eye(100, 4).tolist()
  text = _text(results)
  assert "Shown are 20 of 100 rows and 4 of 4 columns" in text
  assert "block_0" in text and "block_99" in text
  found["cka"] = [[None] * 4] * 100
  assert "No layer says more" in _text(results)
  found["cka"] = [[0.5]]
  assert "Similarity of layers" not in _text(results)


def test_disagreements_have_pictures_classes_and_confidences(results):
  reader = _read(results)
  images = [v for k, v in reader.attributes if k == "src"]
  assert images == list(results["pictures"].values())
  alts = [v for k, v in reader.attributes if k == "alt"]
  assert alts == [f"Test example {k}, which is 8" for k in (0, 10, 20)]
  text = _section(_text(results), "Where student", "From start to end")
  assert "disagree on 33 of 360 test examples with seed 0" in text
  assert "Shown are 4." in text
  assert "teacher was right, student wrong" in text
  assert "student was right, teacher wrong" in text
  assert "teacher8 · 64 %student3 · 91 %" in text.replace(" 8 row", "")
  assert "row 30" in text  # Of which there is no picture.


def test_costs_are_told_with_their_machine(results):
  text = _section(_text(results), "What it costs", "Learning curves")
  assert "Latency and F1" in text and "Size and F1" in text
  assert results["device"] in text and "95th percentile" in text
  table = _section(_text(results), "latency, ms", "All metrics")
  # 10 ns for each of 150,218 parameters, and twice as long in the tail.
  assert "1.50 · 3.00" in table and "26,628" in table


def test_costs_that_are_all_alike_are_no_figure(results):
  results = copy.deepcopy(results)
  for stage in results["stages"].values():
    stage["model"]["parameters"] = 7
    stage["speed"] = None
  assert "What it costs" not in _text(results)


def test_groups_are_compared_and_their_confusion_folded(results):
  results = copy.deepcopy(results)
  for k, stage in enumerate(results["stages"].values()):
    stage["groups"] = samples.groups(1 - 0.1 * k)
  text = _section(_text(results), "Groups", "Reliability")
  assert "lowest is 56.0 %, of student on group writer 2" in text
  assert "All groups in numbers" in text and "Confusion of each group" in text
  for value in ("writer 1", "95.0", "70.0", "300"):
    assert value in text


def test_numbers_have_a_page_without_classes():
  results = samples.make_regression()
  text = _text(results)
  for heading in ("Predictions and targets", "Similarity of layers", "Stages"):
    assert heading in text
  for absent in ("accuracy", "F1", "Confusion", "Reliability", "%, by"):
    assert absent not in text, absent
  # 1.02 and 4.08 are the means over seeds; less is better.
  assert (
    "The teacher lowered mean squared error by 3.06: student reached 1.02 with"
    " it, alone 4.08 without."
  ) in text
  assert "of the 3.83 between it and the control" in text
  assert "made up 80 %" in text and "ahead on 3 of 3" in text
  assert "farther left is better" in text and "lower left" in text
  assert "within" in _section(text, "Predictions and", "Similarity of layers")


def test_labels_have_a_page_without_confusion():
  text = _text(samples.make_labels())
  for told in ("points of F1", "subset accuracy, %", "Hamming loss, %"):
    assert told in text
  assert "Confusion" not in text and "Reliability" not in text
  assert "F1 by class" in text


def test_many_stages_are_told_in_a_table_and_folds():
  results = samples.make_many(31)
  text = _text(results)
  assert "Of 15 stages that learnt from a teacher" in text
  assert "Each comparison in words" in text
  # Long names break between words, and stay one text.
  assert "distilled_and_started_5.0%" in text and "wbr" not in text
  assert "22 more" in text  # Of 31 confusions, 9 stand open.
  assert len(page.render(results)) < 3_000_000


def test_one_stage_of_one_seed():
  results = samples.make_results(seeds=(7,))
  results["stages"] = {"teacher": results["stages"]["teacher"]}
  text = _text(results)
  assert "no stage here learnt from a teacher" in text
  assert "7" in text and "± 0" not in text


def test_curves_that_are_not_finite_leave_gaps(results, tmp_path):
  results = copy.deepcopy(results)
  stage = results["stages"]["student"]
  stage["curves"][0]["train"]["loss"][3] = float("nan")
  stage["curves"][1]["train"]["loss"] = [float("inf")] * 30
  stage["curves"][2]["train"]["loss"] = []
  stage["line"]["loss"][0][0] = None
  stage["test"]["f1"]["values"][0] = float("nan")
  path = page.write(results, tmp_path)
  assert not re.search(r"\bnan\b", path.read_text())
  stored = json.loads(
    (tmp_path / "results.json").read_text(), parse_constant=pytest.fail
  )
  assert stored["stages"]["student"]["curves"][0]["train"]["loss"][3] is None


def test_numpy_values_are_stored_as_plain_ones(tmp_path):
  results = {
    "format": 1,
    "seconds": np.float32(1.5),
    "classes": np.array(["a", "b"]),
    "stages": {"one": {"confusion": np.array([[3, 1], [0, 4]]), "steps": 5}},
  }
  page.write(results, tmp_path)
  stored = json.loads((tmp_path / "results.json").read_text())
  assert stored["seconds"] == 1.5
  assert stored["classes"] == ["a", "b"]
  assert stored["stages"]["one"]["confusion"] == [[3, 1], [0, 4]]


def test_many_classes_make_no_giant_page(results):
  random = np.random.default_rng(0)
  results = copy.deepcopy(results)
  results["classes"] = [f"class number {k}" for k in range(1000)]
  for stage in results["stages"].values():
    stage["confusion"] = (
      random.integers(0, 2, (1000, 1000)) + 50 * np.eye(1000, dtype=int)
    ).tolist()
    for name in stage["per_class"]:
      stage["per_class"][name] = random.uniform(size=1000).tolist()
  assert "20 of 1000 classes" in _text(results)
  assert len(page.render(results)) < 1_500_000


class _Failing(type(epath.Path())):
  """A path whose second write fails midway."""

  written = 0

  def write_bytes(self, data):
    _Failing.written += 1
    if _Failing.written == 2:
      super().write_bytes(data[:100])
      raise OSError("the disk is full")
    return super().write_bytes(data)


def test_nothing_is_half_written_where_a_write_fails(
  results, tmp_path, monkeypatch
):
  page.write(results, tmp_path)
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  _Failing.written = 0
  monkeypatch.setattr(page.epath, "Path", _Failing)
  with pytest.raises(OSError, match="the disk is full"):
    page.write(results | {"name": "another"}, tmp_path)
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x"])
def test_nothing_is_written_of_what_json_cannot_hold(results, tmp_path, value):
  with pytest.raises(TypeError):
    page.write(results | {"more": value}, tmp_path / "report")
  assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_format_is_an_error(results, tmp_path, version):
  with pytest.raises(errors.UserError, match="format="):
    page.write(results | {"format": version}, tmp_path)
