import gzip

import numpy as np
import pytest
import torch

from vsc.data import load
from vsc.data.table import read_csv
from vsc.errors import UsageError


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_header_features_and_labels(table):
    found = read_csv(table("width,Label,height\n1,cat,2.5\n-3,dog,4e2\n"))
    assert found.features == ("width", "height")
    assert found.x.tolist() == [[1, 2.5], [-3, 400]]
    assert found.y.tolist() == ["cat", "dog"]


@pytest.mark.parametrize("name", ["label", "class", "target", "y", "Y", "TARGET"])
def test_names_of_the_label_column(table, name):
    found = read_csv(table(f"a,b,{name}\n1,2,7\n3,4,10\n"))
    assert found.y.tolist() == [7, 10]
    assert found.x.tolist() == [[1, 2], [3, 4]]


def test_no_header(table):
    found = read_csv(table("1,2\n3,4\n"))
    assert found.x.tolist() == [[1, 2], [3, 4]]
    assert (found.features, found.y) == ((), None)


def test_header_of_numbers_beside_a_label(table):
    found = read_csv(table("label,0,1\n5,10,11\n6,12,13\n"))
    assert found.features == ("0", "1")
    assert found.x.tolist() == [[10, 11], [12, 13]]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\r\n1,2\r\n3,4\r\n",
        "\ufeffa,b\n1,2\n3,4",
        "a;b\n1;2\n3;4\n",
        "a\tb\n1\t2\n3\t4\n",
        '"a", "b"\n 1 , 2\n\n3,4\n\n',
    ],
)
def test_dialects(table, text):
    found = read_csv(table(text))
    assert found.features[0] == "a"
    assert found.x.tolist() == [[1, 2], [3, 4]]


def test_true_and_false_are_one_and_nought(table):
    found = read_csv(table("a,b,label\nTrue,FALSE,True\nfalse,2,False\n"))
    assert found.x.tolist() == [[1, 0], [0, 2]]
    assert found.y is not None
    assert found.y.tolist() == ["True", "False"], "labels are what they are"
    assert read_csv(table("true,false\ntrue,true\n")).x.tolist() == [[1, 0], [1, 1]], "and no names of columns"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,red\n", r"column 'b' is not numeric \('red' in row 3\); encode"),
        ("1,2\n3,red\n", r"column '2' is not numeric \('red' in row 2\)"),
        ("1,2,setosa\n3,4,setosa\n", r"column '3' is not numeric .* is named 'label' or by --label"),
        ("a,b\n1,2\n3,1_0\n", r"column 'b' is not numeric \('1_0' in row 3\)"),
        ("a,b\n1,2\n,4\n", r"column 'a' is blank \(row 3\)"),
        ("a,b\n1,2\n3,NaN\n", r"column 'b' is blank \('NaN' in row 3\)"),
        ("a,b\n1,n/a\n", r"column 'b' is blank \('n/a' in row 2\)"),
        ("a,b\n1,-inf\n", r"column 'b' is infinite \('-inf' in row 2\)"),
        ("a,y\n1,0\n2,\n", r"column 'y' is blank \(row 3\)"),
        (
            "a,b,c,d\n1,red,x,\n3,2,blue,inf\n",
            r"columns 'b', 'c' are not numeric \('red' in row 2\), column 'd' is blank \(row 2\), column 'd' is inf",
        ),
        ("a,b,a,b,c\n1,2,3,4,5\n", "the header has more than one column named 'a', 'b'"),
        ("a,b\n1,2\n3\n", "row 3 has 1 cells where the first row has 2"),
        ("a,b\n1,2,3\n", "row 2 has 3 cells"),
        (",a,b\n0,1,2\n", "column 1 has no name"),
        ("a,y,label\n1,2,3\n", "'y' and 'label' could both be"),
        ("\n\n", "empty"),
        ("a,b\n1,2\0\n", "not numeric|damaged"),
    ],
)
def test_unsuitable_tables(table, text, message):
    path = table(text)
    with pytest.raises(UsageError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_not_text(table):
    with pytest.raises(UsageError, match="UTF-8"):
        load(table("a,b\n1,2\n", encoding="utf-16"))


def test_load(table):
    x = np.random.default_rng(0).normal(size=(20, 3))
    lines = [f"{a},{b},{c},{'yes' if a > 0 else 'no'}" for a, b, c in x]
    data = load(table("\n".join(["a,b,c,class", *lines])))
    assert (data.name, data.shape, data.classes) == ("table", (3,), ("no", "yes"))
    assert data.features == ("a", "b", "c")
    for part in (data.train, data.valid, data.test):
        assert torch.equal(part.y == 1, part.x[:, 0] > 0)
    rows = torch.cat([data.train.x, data.valid.x, data.test.x])
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in x.astype(np.float32).tolist()}


@pytest.mark.parametrize(("text", "message"), [("a,b\n", "0 examples"), ("y\n" + "1\n" * 20, "no features")])
def test_too_little(table, text, message):
    with pytest.raises(UsageError, match=message):
        load(table(text))


def test_a_class_may_be_called_none(table):
    found = read_csv(table("a,label\n1,none\n2,NA\n"))
    assert found.y.tolist() == ["none", "NA"]


LONG = "1" * 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a,label\n1,{LONG}\n2,b\n", "row 2, the label: one is 100000 characters long"),
        (f"{'a' * 100_000},b\n1,2\n", "names of columns: one is 100000"),
        (f"a,b\n1,x{LONG}\n", r"'x1{16}\.\.\.' in row 2"),
        (f"a,b\n1,{LONG}\n", "column 'b' is infinite"),
        (f"a,b\n1,{LONG}{LONG}\n", "damaged"),
        ("," * 20_000 + "\n", "column 1 has no name"),
        (",".join("a" * 20_000) + "\n", "more than one column named 'a'"),
        (",".join(map(str, range(20_000))) + "\n" + ",".join("b" * 20_000) + "\n", "and 19997 more are not numeric"),
        ("1" * 2**24 + "1\n", "a line has more than"),
    ],
)
def test_what_is_very_long_is_refused_in_a_short_line(table, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_csv(table(text))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("0,1,2\n5,6,9\n3,4,8\n", ("0", "1", "2")),  # as pandas writes
        ("1999,2000,2001,2002\n5,6,9,1\n3,4,8,2\n", ("1999", "2000", "2001", "2002")),
        ("0\n0.5\n0.25\n", ("0",)),
        ("0,1\n0.5,3.5\n", ("0", "1")),
        ("0,1\n1,1\n", ()),  # bits
        ("5,6\n1,1.5\n", ()),
        ("0,1,2,3\n4,5,6,7\n8,9,10,11\n", ()),  # all rows count
        ("5,3,1\n2,2,2\n", ()),
        ("0.0,1.0,2.0\n5,3,1\n", ()),
    ],
)
def test_a_header_of_numbers(table, text, features):
    found = read_csv(table(text))
    assert found.features == features
    assert len(found.x) == text.count("\n") - bool(features)
    assert bool(found.notes) == bool(features)


def test_an_index_without_a_name_above_numbers_is_a_header(table):
    with pytest.raises(UsageError, match="column 1 has no name"):
        read_csv(table(",0,1,2\n0,5,6,9\n1,3,4,8\n"))


@pytest.mark.parametrize("ending", [".csv.gz", ".tsv", ".tsv.gz", ".CSV"])
def test_other_endings(tmp_path, ending):
    rows = np.random.default_rng(0).integers(0, 9, (20, 2))
    text = "a\tb\n" + "".join(f"{a}\t{b}\n" for a, b in rows)
    path = tmp_path / f"mine{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
    data = load(path)
    assert (data.name, data.features) == ("mine", ("a", "b"))
    np.testing.assert_array_equal(data.test.x, rows[data.test.index])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "damaged"),
        (b"a,b\n1,2\n", "damaged"),
        (gzip.compress(b"a,b\n" + b"1,1\n" * 2**19, mtime=0), "over 200 times its size"),
    ],
)
def test_damaged_gz(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr("vsc.data.checks.UNPACKED", 2**20)
    path = tmp_path / "mine.csv.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_csv(path)


def column(name, values):
    return f"a,{name},b\n" + "".join(f"{i % 7},{value},{i % 5}\n" for i, value in enumerate(values))


@pytest.mark.parametrize("values", [np.linspace(0, 1, 50), np.arange(50), [0.5, 1] * 25])
@pytest.mark.parametrize("name", ["target", "y"])
def test_a_continuous_target_is_kept_apart(table, name, values):
    data = load(table(column(name, values)))
    assert (data.features, data.classes, data.train.y) == (("a", "b"), (), None)
    np.testing.assert_allclose(data.test.extras[name], np.asarray(values)[data.test.index])
    assert f"column '{name}' holds {len(set(values))} different numbers: it is kept apart" in data.notes[0]
    as_feature = load(table(column(name, values)), label="none")
    assert (as_feature.features, as_feature.notes) == (("a", name, "b"), ())


@pytest.mark.parametrize("values", [[0, 1] * 25, range(1, 21), [3.0, 4.0] * 25, ["u", "v"] * 25])
def test_few_whole_numbers_are_classes(table, values):
    values = list(values)
    data = load(table(column("target", values)))
    assert len(data.classes) == len(set(values))
    assert data.notes == ()


def test_the_label_column_may_be_named(table):
    text = column("kind", ["u", "v"] * 25)
    data = load(table(text), label="kind")
    assert (data.features, data.classes) == (("a", "b"), ("u", "v"))
    assert load(table(column("y", range(50))), label="y").classes == tuple(map(str, range(50)))
    assert load(table(column("y", [0, 1] * 25)), label="b").features == ("a", "y")
    assert load(table("1,2\n2,1\n" * 10), label="2").classes == ("1", "2")
    for given, wrong in ((text, "kinds"), ("1,2\n" * 20, "3")):
        with pytest.raises(UsageError, match=f"no column '{wrong}' for the labels; the columns are '"):
            load(table(given), label=wrong)
    with pytest.raises(UsageError, match="labels of its own"):
        load("digits", label="kind")
