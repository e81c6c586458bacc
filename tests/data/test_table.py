import gzip
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from vsc.data import load
from vsc.data.asked import Asked
from vsc.data.table import read_table
from vsc.errors import UsageError
from vsc.fields import Field, names


def read(path, **how):
    return read_table(path, Asked(**how))


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_header_features_and_labels(table):
    found = read(table("width,Label,height\n1,cat,2.5\n-3,dog,4e2\n"))
    assert names(found.fields) == ("width", "height")
    assert found.x.tolist() == [[1, 2.5], [-3, 400]]
    assert found.y.tolist() == ["cat", "dog"]


@pytest.mark.parametrize("name", ["label", "class", "target", "y", "Y", "TARGET"])
def test_names_of_the_label_column(table, name):
    found = read(table(f"a,b,{name}\n1,2,7\n3,4,10\n"))
    assert found.y.tolist() == [7, 10]
    assert found.x.tolist() == [[1, 2], [3, 4]]


def test_no_header(table):
    found = read(table("1,2\n3,4\n"))
    assert found.x.tolist() == [[1, 2], [3, 4]]
    assert (found.named, found.y) == (False, None)


def test_header_of_numbers_beside_a_label(table):
    found = read(table("label,0,1\n5,10,11\n6,12,13\n"))
    assert names(found.fields) == ("0", "1")
    assert found.x.tolist() == [[10, 11], [12, 13]]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\r\n1,2\r\n3,4\r\n",
        "\ufeffa,b\n1,2\n3,4",
        "a;b\n1;2\n3;4\n",
        "a\tb\n1\t2\n3\t4\n",
        "a|b\n1|2\n3|4\n",
        '"a", "b"\n 1 , 2\n\n3,4\n\n',
    ],
)
def test_dialects(table, text):
    found = read(table(text))
    assert found.fields[0].name == "a"
    assert found.x.tolist() == [[1, 2], [3, 4]]


def test_true_and_false_are_one_and_nought(table):
    found = read(table("a,b,label\nTrue,3.5,True\nfalse,2,False\n"))
    assert found.x.tolist() == [[1, 3.5], [0, 2]]
    assert found.y is not None
    assert found.y.tolist() == ["True", "False"], "labels are what they are"
    assert read(table("true,false\nfalse,true\n")).x.tolist() == [[1, 0], [0, 1]], "and no names of columns"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n4,5\n3,red\n", r"column 'b' holds numbers but for 'red' in row 4; mend it, or say that it is cat"),
        ("1,2\n4,5\n3,red\n", r"column '2' holds numbers but for 'red' in row 3"),
        ("a,b\n1,2\n3,1_0\n4,4\n", r"column 'b' holds numbers but for '1_0' in row 3"),
        ("a,b\n1,\n4,\n", r"column 'b' has no values; drop it"),
        ("a,b\n1,2\n,\n", r"row 3 has no values; remove it"),
        ("a,b\n1,3\n1,-inf\n", r"column 'b' is -inf in row 3: infinite"),
        ("a,y\n1,0\n2,\n", r"column 'y', the labels, is blank in row 3"),
        ("a,day\n1,2020-01-31\n2,2020-02-01\n", "column 'day' holds dates; drop it"),
        ("name,b\n" + "".join(f"n{i},{i}\n" for i in range(60)), "'name' has 60 different texts in 60 rows"),
        ("a,b,a,b,c\n1,2,3,4,5\n", "the header has more than one column named 'a', 'b'"),
        (
            "a,b\n1,2\n3,4,5\n",
            "a row has 3 cells \\('3', '4' and 1 more\\), the first 2; name all there",
        ),
        ("a,b\n" + "1,2\n" * 200 + "1,2,3\n", "damaged .*Expected 2 fields in line 202, saw 3"),
        (",a,b\n0,1,2\n0,1,2\n", "column 1 has no name, and does not name the rows"),
        ("a,,b\n0,1,2\n", "column 2 has no name; name or remove it"),
        ("a,y,label\n1,2,3\n", "'y' and 'label' could both be"),
        ("\n\n", "empty"),
        ("a,b\n1,2\n1,3\n1,2\0\n", "holds numbers but for"),
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


@pytest.mark.parametrize(("text", "message"), [("a,b\n", "no rows"), ("y\n" + "1\n" * 20, "no features")])
def test_too_little(table, text, message):
    with pytest.raises(UsageError, match=message):
        load(table(text))


def test_a_class_may_be_called_none(table):
    found = read(table("a,label\n1,none\n2,NA\n"))
    assert found.y.tolist() == ["none", "NA"]


LONG = "1" * 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a,label\n1,{LONG}\n2,b\n", "'label', the labels: one is 100000 characters long"),
        (f"{'a' * 100_000},b\n1,2\n", "names of columns: one is 100000"),
        (f"a,b\n1,2\n1,3\n1,x{LONG}\n", r"'x1{16}\.\.\.' in row 4"),
        (f"a,b\n1,{LONG}{LONG}\n", "damaged"),
        ("," * 20_000 + "\n", "column 20001 has no name"),
        (",".join("a" * 20_000) + "\n", "more than one column named 'a'"),
        ("1" * 2**24 + "1\n", "the first line is longer than"),
    ],
)
def test_what_is_very_long_is_refused_in_a_short_line(table, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read(table(text))
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
    found = read(table(text))
    assert (names(found.fields) if found.named else ()) == features
    assert len(found.x) == text.count("\n") - bool(features)
    assert bool(found.notes) == bool(features)


@pytest.mark.parametrize("text", [",0,1,2\nu,5,6,9\nv,3,4,8\n", ",a,b,c\nu,5,6,9\nv,3,4,8\n"])
def test_a_first_column_without_a_name_names_the_rows(table, text):
    found = read(table(text))
    assert (len(found.fields), found.x.tolist()) == (3, [[5, 6, 9], [3, 4, 8]])
    assert found.rows is not None
    assert found.rows.tolist() == ["u", "v"]


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
        read(path)


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
    for how in ({"label": "kind"}, {"drop": "kind"}, {"columns": "a=gaussian"}):
        with pytest.raises(
            UsageError, match=f"data.{next(iter(how))} is for tables .* digits has columns and labels of"
        ):
            load("digits", **how)


MIXED = "age;height;colour;smoker;visits\n31,5;1,80;red;no;0\n;1,75;blue;yes;3\n20;1,6;?;no;1\n"
FIELDS = (
    Field("age", "gaussian"),
    Field("height", "gaussian"),
    Field("colour", "bernoulli", ("blue", "red")),
    Field("smoker", "bernoulli", ("no", "yes")),
    Field("visits", "negative-binomial"),
)
VALUES = [[31.5, 1.8, 1, 0, 0], [np.nan, 1.75, 0, 1, 3], [20, 1.6, np.nan, 0, 1]]


def test_semicolons_decimal_commas_text_and_missing_cells(table):
    found = read(table(MIXED))
    assert found.fields == FIELDS
    np.testing.assert_array_equal(found.x, VALUES)


@pytest.mark.parametrize("kind", ["parquet", "feather", "arrow"])
def test_files_of_arrow(tmp_path, table, kind):
    frame = pd.read_csv(table(MIXED), sep=";", decimal=",", na_values="?").set_index(pd.Index(["u", "v", "w"]))
    path = tmp_path / f"mine.{kind}"
    frame.to_parquet(path) if kind == "parquet" else frame.reset_index(drop=True).to_feather(path)
    found = read(path)
    assert found.fields == FIELDS
    np.testing.assert_array_equal(found.x, VALUES)
    assert (None if found.rows is None else found.rows.tolist()) == (["u", "v", "w"] if kind == "parquet" else None)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UsageError, match="damaged"):
        load(path)


@pytest.mark.parametrize("kind", ["parquet", "h5ad"])
def test_libraries_that_are_not_there(tmp_path, monkeypatch, kind):
    for name in ("pyarrow", "anndata"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / f"mine.{kind}"
    path.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=rf'to read .{kind} files: pip install "variational-sparse-coding\[tables\]"'):
        load(path)


COUNTS = np.array([[0, 3, 0], [1, 0, 0], [2, 5, 0], [0, 0, 1]] * 5)


@pytest.mark.filterwarnings("ignore:The 'future.infer_string'")
@pytest.mark.slow  # anndata takes seconds to import
def test_counts_of_cells(tmp_path):
    anndata = pytest.importorskip("anndata")
    path = tmp_path / "cells.h5ad"
    with pd.option_context("future.infer_string", False):  # anndata cannot yet write what pandas 3 holds text in
        cells = anndata.AnnData(
            sparse.csr_matrix(COUNTS.astype(np.float32)),
            obs=pd.DataFrame({"kind": pd.Categorical(["t", "b"] * 10)}, index=[f"c{i}" for i in range(20)]),
            var=pd.DataFrame(index=["g1", "g2", "g3"]),
        )
        cells.write_h5ad(path)
    data = load(path, label="kind")
    assert data.fields == tuple(Field(name, "negative-binomial") for name in ("g1", "g2", "g3"))
    assert data.classes == ("b", "t")
    np.testing.assert_array_equal(data.test.x, COUNTS[data.test.index])
    found = read(path, drop=["g2"], columns={"g3": "poisson"})
    assert found.fields == (Field("g1", "negative-binomial"), Field("g3", "poisson"))
    assert (found.y, found.rows[3]) == (None, "c3")
    path.write_bytes(b"no HDF5")
    with pytest.raises(UsageError, match="damaged"):
        load(path)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix])
def test_sparse_matrices_of_scipy(tmp_path, form):
    sparse.save_npz(path := tmp_path / "mine.npz", form(COUNTS))
    data = load(path)
    assert [field.likelihood for field in data.fields] == ["negative-binomial"] * 3
    np.testing.assert_array_equal(data.test.x, COUNTS[data.test.index])
    sparse.save_npz(path, form(COUNTS - 0.5 * (COUNTS > 0)))
    assert [field.likelihood for field in load(path).fields] == ["gaussian", "gaussian", "gaussian"]
    np.savez(path, format=b"csr", shape=(20, 3), data=[1.0], indices=[7], indptr=[0] * 20 + [1])
    with pytest.raises(UsageError, match=r"mine\.npz: damaged"):
        load(path)


def test_columns_may_be_dropped_and_chosen(table):
    text = "id,when,zip,age,y\n" + "".join(f"n{i},2020-01-{i + 1:02},0{i % 3},{i % 7},{i % 2}\n" for i in range(30))
    data = load(table(text), drop="id, when", columns="zip=categorical,a*=gaussian")
    assert data.fields == (Field("zip", "categorical", ("00", "01", "02")), Field("age", "gaussian"))
    assert data.features == ("zip=00", "zip=01", "zip=02", "age")
    assert data.classes == ("0", "1")
    for how, message in (
        ({"drop": "day,id"}, "no column 'day' to drop; the columns are 'id', 'when'"),
        ({"columns": "zip"}, "data.columns has 'zip' where NAME=KIND is due"),
        ({"columns": "zip=normal"}, "unknown likelihood of column 'zip': 'normal'"),
        ({"columns": "zap=poisson", "drop": "id,when"}, "no column 'zap' to be poisson"),
    ):
        with pytest.raises(UsageError, match=message):
            load(table(text), **how)


def test_what_is_known_of_the_columns_goes_with_new_rows(table):
    known = read(table("a,b,y\n1.5,u,0\n2.5,v,1\n")).fields
    found = read(table("b,a\nv,1\n,2\n"), fields=known, drop=["gone"], label="y")
    np.testing.assert_array_equal(found.x, [[1, 1], [2, np.nan]])
    assert found.y is None
    with pytest.raises(UsageError, match="no 'a'; unknown 'c'"):
        read(table("b,c\nv,1\n"), fields=known)


@pytest.mark.parametrize(
    ("text", "named"), [("1,a\n2,b\n", False), ("x,2\n1,3\n", True), ("x,2000\nred,3\n", False), ("1,2\nNA,3\n", False)]
)
def test_text_above_numbers_is_a_header(table, text, named):
    assert read(table(text)).named == named
