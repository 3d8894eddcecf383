"""Tables: what they read, and the one line for what they cannot."""

import json
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tsjax.core import errors
from tsjax.data import splits, tables

ANIMALS = """name,age,height,writer,label
Ada,3,0.5,w2,cat
Bob,4,1.5,w1,dog
Cyd,5,2.5,w2,cat
Dan,6,3.5,w1,bird
"""
TEST = "label,writer,height,age\ndog,w3,9,1\ncat,w1,8,2\n"


@pytest.fixture(name="write")
def _write(tmp_path):
  """Writes text or bytes into a file; returns its path."""

  def write(content, name="train.csv"):
    path = tmp_path / name
    if isinstance(content, bytes):
      path.write_bytes(content)
    else:
      path.write_text(content, encoding="utf-8", newline="")
    return path

  return write


def everything(source, split="train"):
  return source.read(split, np.arange(source.splits[split]))


def test_csv_reads_numbers_classes_and_fields(write):
  source = tables.csv(
    write(ANIMALS), write(TEST, "test.csv"), fields=("writer",)
  )
  assert source.splits == {"train": 4, "test": 2}
  assert source.classes == ("bird", "cat", "dog")
  train, test = everything(source), everything(source, "test")
  # `name` is a text, and no feature; the test file has another order.
  assert source.names["features"] == ("age", "height")
  np.testing.assert_array_equal(
    train["features"], [[3, 0.5], [4, 1.5], [5, 2.5], [6, 3.5]]
  )
  assert train["features"].dtype == np.float32
  np.testing.assert_array_equal(test["features"], [[1, 9], [2, 8]])
  assert train["label"].tolist() == [1, 2, 1, 0]
  assert test["label"].tolist() == [2, 1]
  # A writer of test alone has a number, too.
  assert source.names["writer"] == ("w1", "w2", "w3")
  assert train["writer"].tolist() == [1, 0, 1, 0]
  assert test["writer"].tolist() == [2, 0]
  assert train["writer"].dtype == np.int32


def test_the_same_table_in_three_formats(write, tmp_path):
  header, *lines = ANIMALS.split()
  rows = [
    {**dict(zip(header.split(","), r.split(","))), "age": int(r.split(",")[1])}
    for r in lines
  ]
  for row in rows:
    row["height"] = float(row["height"])
  json_lines = write("\n".join(map(json.dumps, rows)), "t.jsonl")
  parquet = tmp_path / "t.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
  options = {"test": 0.5, "classes": ("bird", "cat", "dog"), "fields": ["name"]}
  lines_of_csv = write(ANIMALS + ANIMALS.split("\n", 1)[1])
  for twice in (json_lines, parquet):
    if twice.suffix == ".jsonl":
      twice.write_text(twice.read_text() + "\n" + twice.read_text())
    else:
      table = pyarrow.parquet.read_table(twice)
      pyarrow.parquet.write_table(pyarrow.concat_tables([table] * 2), twice)
  expected = tables.csv(lines_of_csv, **options)
  for source in (
    tables.json_lines(json_lines, **options),
    tables.parquet(parquet, **options),
  ):
    assert source.splits == expected.splits == {"train": 4, "test": 4}
    assert source.names == expected.names
    for split in source.splits:
      batch, other = everything(source, split), everything(expected, split)
      assert batch.keys() == other.keys()
      for field, values in batch.items():
        np.testing.assert_array_equal(values, other[field])
        assert values.dtype == other[field].dtype


@pytest.mark.parametrize(
  "features, taken",
  [
    (("height", "age"), ("height", "age")),
    ("he.*|age", ("age", "height")),
    ("height", ("height",)),
    (".*e.*t", ("height",)),
  ],
)
def test_features_by_name_and_pattern(write, features, taken):
  source = tables.csv(
    write(ANIMALS), write(TEST, "test.csv"), features=features
  )
  assert source.names["features"] == taken


def test_a_column_without_a_name_is_no_feature(write):
  text = ",x,label\n0,1.5,a\n1,2.5,b\n2,3.5,a\n3,4.5,b\n"
  assert tables.csv(write(text), 0.5).names["features"] == ("x",)


@pytest.mark.parametrize(
  "content",
  [
    ANIMALS.replace("\n", "\r\n"),
    "\ufeff" + ANIMALS,
    ANIMALS.replace("Ada", '"Ada, of ""Y"",\nthe first"'),
    ANIMALS.replace(",", " , "),
    ANIMALS + "\n\n,,,,\n",
  ],
  ids=["CRLF", "byte-order mark", "quotes", "blanks", "blank lines"],
)
def test_ways_to_write_the_same_csv(write, content):
  source = tables.csv(write(content), write(TEST, "test.csv"))
  np.testing.assert_array_equal(
    everything(source)["features"], [[3, 0.5], [4, 1.5], [5, 2.5], [6, 3.5]]
  )
  assert source.classes == ("bird", "cat", "dog")


def test_other_delimiters_and_encodings(write):
  content = ANIMALS.replace(",", ";").replace("bird", "Vögel")
  source = tables.csv(
    write(content.encode("latin-1")),
    write(TEST.replace(",", ";"), "test.csv"),
    delimiter=";",
    encoding="latin-1",
  )
  assert source.classes == ("Vögel", "cat", "dog")


def test_whole_numbers_are_classes_by_their_size(write):
  text = "x,label\n" + "".join(f"{i},{(10, 9, 2)[i % 3]}\n" for i in range(12))
  source = tables.csv(write(text), 0.25)
  assert source.classes == ("2", "9", "10")
  # What a missing value once made floats of is the same class.
  floats = write(text.replace(",9\n", ",9.0\n"), "test.csv")
  assert tables.csv(write(text), floats).classes == ("2", "9", "10")


def test_classes_that_are_given(write):
  paths = write(ANIMALS), write(TEST, "test.csv")
  order = ("dog", "cat", "bird", "fish")
  source = tables.csv(*paths, classes=order)
  assert source.classes == order
  assert source.labels("train").tolist() == [1, 0, 1, 2]
  numbers = "x,label\n1,0\n2,2\n3,1\n4,2\n"
  source = tables.csv(
    write(numbers), write("x,label\n1,1\n", "t.csv"), classes=("a", "b", "c")
  )
  assert source.labels("train").tolist() == [0, 2, 1, 2]


def test_a_number_as_target(write):
  text = "x,price\n" + "".join(f"{i},{i * 1.5}\n" for i in range(100))
  source = tables.csv(write(text), 0.2, label="price", target="number")
  assert source.classes == ()
  assert source.labels("test").dtype == np.float32
  # A tenth of the range is in the share as often as any other.
  tenths = np.bincount((source.labels("test") / 15).astype(int), minlength=10)
  np.testing.assert_array_equal(tenths, np.full(10, 2))
  assert set(splits.carve(source)) == {"train", "validation", "test"}


def test_several_labels_in_columns(write):
  text = "x,cat,dog\n1,0,1\n2,1,1\n3,true,False\n4,0,0\n"
  source = tables.csv(write(text), 0.5, label=("cat", "dog"), target="labels")
  assert source.classes == ("cat", "dog")
  labels = np.concatenate([source.labels(s) for s in ("train", "test")])
  assert labels.dtype == bool and labels.sum(axis=0).tolist() == [2, 2]


def test_several_labels_in_one_cell(write, tmp_path):
  train = "x,tags\n1,cat|dog\n2,\n3, dog \n"
  source = tables.csv(
    write(train),
    write("x,tags\n1,dog|cat|dog\n", "test.csv"),
    label="tags",
    target="labels",
  )
  assert source.classes == ("cat", "dog")
  assert source.labels("train").tolist() == [[1, 1], [0, 0], [0, 1]]
  assert source.labels("test").tolist() == [[1, 1]]
  rows = [{"x": 1, "tags": ["cat", "dog"]}, {"x": 2, "tags": []}]
  lines = write("\n".join(map(json.dumps, [*rows, *rows])), "t.jsonl")
  parquet = tmp_path / "t.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows * 2), parquet)
  for kind, path in (("json_lines", lines), ("parquet", parquet)):
    read = getattr(tables, kind)
    source = read(path, 0.5, label="tags", target="labels")
    assert source.labels("train").sum() == source.labels("test").sum() == 2


def test_lists_are_as_many_features(write, tmp_path):
  rows = [{"v": [i, i + 0.5], "age": i, "label": i % 2} for i in range(6)]
  parquet = tmp_path / "t.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
  lines = write("\n".join(map(json.dumps, rows)), "t.jsonl")
  for source in (
    tables.parquet(parquet, 1 / 3),
    tables.json_lines(lines, 1 / 3),
  ):
    assert source.names["features"] == ("v", "age")
    features = everything(source)["features"]
    np.testing.assert_array_equal(features[:, 1], features[:, 0] + 0.5)
    np.testing.assert_array_equal(features[:, 2], features[:, 0])


def test_standardized_features_are_those_of_train(write):
  source = tables.csv(write(ANIMALS), write(TEST, "test.csv"), standardize=True)
  train = everything(source)["features"]
  np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
  np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-6)
  # Ages 3 to 6 have mean 4.5 and deviation sqrt(1.25).
  np.testing.assert_allclose(
    everything(source, "test")["features"][:, 0],
    [-3.5 / 1.25**0.5, -2.5 / 1.25**0.5],
    rtol=1e-6,
  )


def test_a_feature_that_never_varies_stays_finite(write):
  text = "x,one,label\n" + "".join(f"{i},7,{i % 2}\n" for i in range(8))
  source = tables.csv(write(text), 0.25, standardize=True)
  np.testing.assert_array_equal(everything(source)["features"][:, 1], 0)


def test_a_table_of_many_parts(write, monkeypatch, tmp_path):
  monkeypatch.setattr(tables.table_files, "_ROWS", 7)
  text = "x,label\n" + "".join(f"{i},{i % 2}\n" for i in range(50))
  read = everything(tables.csv(write(text), write("x,label\n0,1\n", "e.csv")))
  np.testing.assert_array_equal(read["features"][:, 0], np.arange(50))
  parquet = tmp_path / "t.parquet"
  pyarrow.parquet.write_table(
    pyarrow.table({"x": np.arange(50.0), "label": np.arange(50) % 2}), parquet
  )
  source = tables.parquet(parquet, 0.5)
  both = [everything(source, split)["features"] for split in source.splits]
  np.testing.assert_array_equal(
    np.sort(np.concatenate(both)[:, 0]), np.arange(50)
  )
  broken = text.replace("33,1", "33,x")
  with pytest.raises(errors.UserError, match="line 35, column 'label' is 'x'"):
    tables.csv(write(text), write(broken, "e.csv"))


def edited(old, new):
  return ANIMALS.replace(old, new)


# Content of train.csv, keywords of `csv` -> what the one line must hold.
BAD_CSV = {
  "wrong column": (
    ANIMALS,
    {"label": "lable"},
    "csv TMP/train.csv has no column 'lable'; did you mean 'label'",
  ),
  "wrong feature": (
    ANIMALS,
    {"features": ("age", "hight")},
    "has no column 'hight'; did you mean 'height'?",
  ),
  "pattern of nothing": (
    ANIMALS,
    {"features": "pixel_.*"},
    "features='pixel_.*' matches no column, so there is no feature; its"
    " columns: name, age",
  ),
  "broken pattern": (ANIMALS, {"features": "["}, "is no regular expression"),
  "no feature": ("label\na\nb\n", {}, "no column but the label is of numbers"),
  "label as feature": (
    ANIMALS,
    {"features": ("age", "label")},
    "features name the label, column 'label'; leave it out",
  ),
  "label as the only feature": (
    ANIMALS,
    {"features": "label"},
    "features name the label",
  ),
  "twice": (
    ANIMALS,
    {"features": ("age", "height"), "fields": ("age",)},
    "column 'age' is asked for twice",
  ),
  "reserved field": (
    edited("writer", "index"),
    {"fields": ("index",)},
    "fields: 'index' is a name that batches use themselves; rename the column",
  ),
  "text for a number": (
    edited("4,1.5", "four,1.5"),
    {},
    "csv TMP/train.csv: line 3, column 'age' is 'four', not a number; mend it",
  ),
  "decimal comma": (
    edited("4,1.5", '4,"1,5"'),
    {},
    "line 3, column 'height' is '1,5', not a number",
  ),
  "empty cell": (
    edited("5,2.5", "5,"),
    {},
    "line 4, column 'height' is empty; fill it, or leave the line out",
  ),
  "empty label": (
    edited("1,bird", "1,"),
    {},
    "line 5, column 'label' is empty; fill it",
  ),
  "empty field": (
    edited("w2,cat", ",cat"),
    {"fields": ("writer",)},
    "line 2, column 'writer' is empty",
  ),
  "not finite": (
    edited("5,2.5", "5,inf"),
    {},
    "line 4, column 'height' is 'inf', no finite float32",
  ),
  "too large": (edited("2.5", "1e300"), {}, "is '1e300', no finite float32"),
  "ragged row": (
    edited("w1,dog", "w1,dog,8"),
    {},
    "csv TMP/train.csv: line 3 has 6 cells and the header 5 columns; mend the",
  ),
  "short row": (edited(",w1,dog", ""), {}, "line 3 has 3 cells and the header"),
  "twice in the header": (
    edited("height", "age"),
    {},
    "line 1 names column 'age' twice; rename one",
  ),
  "no header": ("5.1,3.5,0\n4.9,3.0,1\n", {}, "line 1 holds numbers; write"),
  "empty file": ("", {}, "csv TMP/train.csv is empty; its first line names"),
  "blank file": ("\n\n", {}, "is empty; its first line names the columns"),
  "header only": ("x,label\n", {"features": "x"}, "has a header and no rows"),
  "header only, any feature": ("x,label\n", {}, "has a header and no rows"),
  "other delimiter": (
    ANIMALS.replace(",", ";"),
    {},
    "line 1 is one column, 'name;age;height;writer;label'; set delimiter=';'",
  ),
  "long delimiter": (ANIMALS, {"delimiter": ", "}, "must be one character"),
  "wrong encoding": (
    edited("Dan", "Zoë").encode("latin-1"),
    {},
    "csv TMP/train.csv: line 5 is not utf-8 text; set encoding=, such as",
  ),
  "UTF-16": (ANIMALS.encode("utf-16"), {}, "line 1 is not utf-8 text"),
  "unknown encoding": (
    ANIMALS,
    {"encoding": "utf-88"},
    "encoding='utf-88' is not known; the usual one is 'utf-8'",
  ),
  "open quote": (edited("Bob", '"Bob'), {}, "is not CSV (unexpected end"),
  "fractions as classes": (
    edited("cat", "0.5").replace("dog", "1").replace("bird", "2"),
    {},
    "line 2, column 'label' is '0.5', a fraction and not a class; set"
    " target='number'",
  ),
  "text as number": (
    ANIMALS,
    {"target": "number"},
    "line 2, column 'label' is 'cat', not a number",
  ),
  "unknown target": (
    ANIMALS,
    {"target": "labls"},
    "target='labls': did you mean 'labels'",
  ),
  "several columns of one class": (
    ANIMALS,
    {"label": ("age", "height")},
    "label=('age', 'height'): several columns are target='labels'",
  ),
  "counts for truth values": (
    ANIMALS,
    {"label": ("age",), "target": "labels", "features": ("height",)},
    "line 2, column 'age' is '3'; a label is 0 or 1 for each example",
  ),
  "class that is not given": (
    ANIMALS,
    {"classes": ("cat", "dog")},
    "line 5, column 'label' is 'bird', no class of csv TMP/train.csv; known:"
    " cat, dog",
  ),
  "share without classes": (ANIMALS, {}, "test=0.2 of 2 examples is 0"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_csv_that_cannot_be_read(write, tmp_path, case):
  content, options, told = BAD_CSV[case]
  with pytest.raises(errors.UserError) as e:
    tables.csv(write(content), **options)
  line = str(e.value).replace(str(tmp_path), "TMP")
  assert told in line and "\n" not in line


# Content of test.csv -> what the one line must hold.
BAD_TEST = {
  "age,height,label\n1,2,caat\n": (
    "csv TMP/test.csv: line 2, column 'label' is 'caat', no class of csv"
    " TMP/train.csv; did you mean 'cat'?"
  ),
  "age,label\n1,cat\n": "csv TMP/test.csv has no column 'height'",
  "age,height,label\n": "csv TMP/test.csv has a header and no rows",
  "age,height,label\n1,,cat\n": "csv TMP/test.csv: line 2, column 'height' is",
}


@pytest.mark.parametrize("content", BAD_TEST)
def test_csv_of_test_that_does_not_fit(write, tmp_path, content):
  with pytest.raises(errors.UserError) as e:
    tables.csv(write(ANIMALS), write(content, "test.csv"))
  assert BAD_TEST[content] in str(e.value).replace(str(tmp_path), "TMP")


def test_csv_files_that_are_not_there(write, tmp_path):
  path = write(ANIMALS)
  for call, told in (
    (lambda: tables.csv(tmp_path / "trian.csv"), "did you mean 'train.csv'"),
    (lambda: tables.csv(tmp_path), "is a folder; name the file in it"),
    (lambda: tables.csv(path, path), "two splits are one file"),
    (lambda: tables.csv(path, tmp_path / "x" / "y.csv"), "there is no such"),
  ):
    with pytest.raises(errors.UserError, match=told):
      call()


# Content of train.jsonl -> what the one line must hold.
BAD_JSON = {
  "": "json_lines TMP/t.jsonl is empty; write a JSON object in each line",
  '{"x": 1, "label": 0}\n{"x": 2 "label": 1}': (
    "json_lines TMP/t.jsonl: line 2 is not a JSON object (Expecting ','"
  ),
  '[{"x": 1, "label": 0}]': "line 1 is a list, not an object; write one object",
  '{"x": 1, "label": 0}\n\n{"x": 2}': "line 3, column 'label' is empty",
  '{"x": 1, "label": 0}\n{"x": null, "label": 1}': "2, column 'x' is empty",
  '{"x": 1, "label": 0}\n{"x": NaN, "label": 1}': "is nan, no finite float32",
  '{"x": 1, "label": 0}\n{"x": [1], "label": 1}': (
    "line 2, column 'x' has the shape [1]; write as many numbers in each row"
  ),
  '{"x": 1, "x": 2, "label": 0}': "it has the key 'x' twice",
  '{"x": 1, "label": 0}\n{"x": {"y": 2}, "label": 0}': (
    "line 2, column 'x' is {'y': 2}, not a number"
  ),
}


@pytest.mark.parametrize("content", BAD_JSON)
def test_json_lines_that_cannot_be_read(write, tmp_path, content):
  with pytest.raises(errors.UserError) as e:
    tables.json_lines(write(content, "t.jsonl"))
  line = str(e.value).replace(str(tmp_path), "TMP")
  assert BAD_JSON[content] in line and "\n" not in line


def test_parquet_that_cannot_be_read(tmp_path, monkeypatch):
  path = tmp_path / "t.parquet"
  good = {"x": [1.0, 2.0, 3.0], "label": ["a", "b", "a"]}

  def line(columns=None):
    if columns is not None:
      pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(errors.UserError) as e:
      tables.parquet(path)
    assert "\n" not in str(e.value)
    return str(e.value).replace(str(tmp_path), "TMP")

  told = line({**good, "x": [1.0, None, 3.0]})
  assert "parquet TMP/t.parquet: row 1, column 'x' is empty" in told
  assert "row 2, column 'x' is nan" in line({**good, "x": [1, 2, np.nan]})
  assert "row 2, column 'label' is empty" in line(
    {**good, "label": ["a", "b", None]}
  )
  assert "has columns and no rows" in line({"x": [], "label": []})
  path.write_bytes(b"x,label\n1,2\n")
  assert "parquet TMP/t.parquet: cannot be read as Parquet (" in line()
  pyarrow.parquet.write_table(
    pyarrow.table({"x": np.random.rand(9000), "label": np.arange(9000) % 2}),
    path,
  )
  content = bytearray(path.read_bytes())
  content[:4000] = bytes(4000)
  path.write_bytes(content)
  assert "cannot be read as Parquet (" in line()
  monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
  assert "run pip install 'tsjax[tables]'" in line()
