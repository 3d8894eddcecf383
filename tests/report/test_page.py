"""The page tells the whole run, and tells it safely."""

import copy
import html
import html.parser
import json
import re

from etils import epath
import numpy as np
import pytest

from tsjax.core import errors
from tsjax.evaluate import classification
from tsjax.report import page

CLASSES = [str(k) for k in range(10)]
SEEDS = [0, 1, 2]


def _metric(values):
  return {
    "mean": float(np.mean(values)),
    "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
    "values": [float(v) for v in values],
  }


def _stage(trains, sharpness, *, seeds, teachers=(), parameters, **changes):
  """A stage whose logits are right more often where `sharpness` is larger."""
  random = np.random.default_rng([parameters, round(100 * sharpness)])
  labels = random.integers(0, 10, 360)
  truth = np.eye(10)[labels]
  # 8 looks like 1, 3 and 9.
  truth[labels == 8, 1] += 0.5
  truth[labels == 8, 3] += 0.35
  truth[labels == 3, 9] += 0.4
  results, counts = [], 0
  for _ in seeds:
    logits = sharpness * truth + random.normal(size=(360, 10))
    reference = 6 * truth + random.normal(size=(360, 10))
    results.append(
      classification.metrics(logits, labels, reference=reference)
      | {"examples_per_second": 4e9 / parameters * random.uniform(0.95, 1.05)}
    )
    counts = counts + classification.confusion(labels, logits.argmax(-1), 10)
  step = np.arange(20, 620, 20)
  every = np.arange(100, 700, 100)
  alpha = np.linspace(-1, 0.25, 26)
  test = {m: _metric([r[m] for r in results]) for m in results[0]}
  stage = {
    "trains": trains,
    "model": {"kind": "mlp", "parameters": parameters, "bytes": 4 * parameters},
    "steps": 600,
    "seconds": parameters / 4e3,
    "teachers": list(teachers),
    "labels": 0.1,
    "test": test,
    "validation": {"f1": test["f1"], "cross_entropy": test["cross_entropy"]},
    "per_class": {
      name: values.tolist()
      for name, values in classification.per_class(counts).items()
    },
    "confusion": counts.tolist(),
    "chosen": [
      {
        "seed": seed,
        "arm": {"learning_rate": 0.003},
        "validation": {"0.001": 0.9, "0.003": 0.92},
      }
      for seed in seeds
    ],
    "curves": [
      {
        "seed": seed,
        "train": {
          "step": step.tolist(),
          "loss": (
            2.4 * np.exp(-step / 110)
            + 0.3 / sharpness
            + random.normal(size=30) * 0.03
          ).tolist(),
        },
        "validation": {
          "step": every.tolist(),
          "f1": (
            result["f1"] * (1 - 0.7 * np.exp(-every / 90))
            + random.normal(size=6) * 0.006
          ).tolist(),
        },
      }
      for seed, result in zip(seeds, results, strict=True)
    ],
    "line": {
      "alpha": alpha.tolist(),
      "loss": [
        (
          0.2
          + 2.2 * alpha**2
          + random.uniform(0.3, 0.6) * np.exp(-(((alpha + 0.7) / 0.15) ** 2))
        ).tolist()
        for _ in seeds
      ],
    },
    "transfer": None,
  }
  return stage | changes


def make_results(seeds=tuple(SEEDS)):
  """A run of teacher, control and student as `docs/design.md` describes it."""
  leaves = [
    {
      "path": f"params/layer_{k}/{part}",
      "source": f"params/layer_{k}/{part}" if k < 2 else "",
      "kind": "sliced" if k < 2 else "missing",
      "parameters": count,
      "note": "",
    }
    for k, counts in enumerate(((2048, 32), (1024, 32), (320, 10)))
    for part, count in zip(("kernel", "bias"), counts, strict=True)
  ]
  return {
    "format": 1,
    "name": "digits",
    "command": "python -m tsjax.main --config=configs/digits.py --seeds=0,1,2",
    "seeds": list(seeds),
    "seconds": 93.7,
    "device": "1 × cpu",
    "date": "2024-05-06",
    "versions": {"jax": "0.10.2", "flax": "0.12.8", "numpy": "2.4.6"},
    "classes": CLASSES,
    "stages": {
      "teacher": _stage(
        "large", 6.2, seeds=seeds, parameters=150218, labels=1.0
      ),
      "alone": _stage("small", 3.2, seeds=seeds, parameters=3466),
      "student": _stage(
        "small",
        3.9,
        seeds=seeds,
        parameters=3466,
        teachers=["large"],
        transfer={
          "exact": 0,
          "sliced": 3136,
          "unlike": 0,
          "missing": 330,
          "parameters": 3466,
          "leaves": leaves,
        },
      ),
    },
  }


@pytest.fixture(name="results", scope="module")
def _results():
  return make_results()


class _Reader(html.parser.HTMLParser):
  """Collects texts, headings and tags; fails where tags do not nest."""

  VOID = frozenset({"meta", "br"})

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
  assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
  loads = [v for k, v in reader.attributes if k in ("src", "href")]
  assert loads == ["results.json"]
  text = page.render(results)
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
    if stage["transfer"]:
      stage["transfer"]["leaves"][0] = {"path": hostile, hostile: hostile}
  results["classes"] = [hostile + c for c in CLASSES]
  results["versions"] = {hostile: hostile}
  for key in ("name", "command", "device", "date"):
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
  + ["classes", "stages"],
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


def test_one_stage_of_one_seed():
  results = make_results(seeds=(7,))
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
