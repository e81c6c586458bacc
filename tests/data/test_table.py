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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,red\n", r"column 'b' is not numeric \('red' in row 3\); encode it"),
        ("1,2\n3,red\n", r"column '2' is not numeric \('red' in row 2\)"),
        ("1,2,setosa\n3,4,setosa\n", r"column '3' is not numeric .* name it 'label'"),
        ("a,b\n1,2\n,4\n", "row 3, column 'a' is blank"),
        ("a,b\n1,2\n3,NaN\n", "row 3, column 'b' is blank"),
        ("a,b\n1,n/a\n", "row 2, column 'b' is blank"),
        ("a,b\n1,-inf\n", "row 2, column 'b' is infinite"),
        ("a,y\n1,0\n2,\n", "row 3, column 'y' is blank"),
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


def test_an_empty_label_is_refused(table):
    with pytest.raises(UsageError, match=r"row 3, column 'label' is blank"):
        read_csv(table("a,label\n1,none\n2,\n"))
