"""Whatever users hold numbers in becomes the same plain array, or is refused in one line."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import sparse

from vsc.arrays import KEPT, as_stored, column_order, numeric, plain
from vsc.errors import UsageError

pd = pytest.importorskip("pandas")

X = np.array([[0.0, 1.5, 0.0], [2.0, 0.0, -3.0]])

SAME = {
    "array": X,
    "big-endian": X.astype(">f8"),
    "Fortran order": np.asfortranarray(X),
    "reversed": X[::-1][::-1],
    "half": X.astype(np.float16),
    "long double": X.astype(np.longdouble),
    "list": X.tolist(),
    "rows as tensors": [torch.tensor(row) for row in X],
    "objects": X.astype(object),
    "Decimal and Fraction": [[Decimal(0), Fraction(3, 2), 0], [2, np.False_, np.float32(-3)]],
    "tensor": torch.tensor(X, requires_grad=True),
    "bfloat16": torch.tensor(X, dtype=torch.bfloat16),
    "torch COO": torch.tensor(X).to_sparse(),
    "torch CSR": lambda: torch.tensor(X).to_sparse_csr(),
    "negative view": torch.view_as_complex(torch.tensor(np.stack([X, -X], -1))).conj().imag,
    "CSR array": sparse.csr_array(X),
    "CSC matrix": sparse.csc_matrix(X),
    "nothing masked": np.ma.array(X, mask=False),
    "numpy.matrix": np.asmatrix(X),
    "structured": np.array([tuple(row) for row in X], dtype=[("a", "f8"), ("b", ">f4"), ("c", "i1")]),
    "data frame": pd.DataFrame(X),
    "mixed frame": pd.DataFrame({"a": [0, 2], "b": [1.5, 0], "c": pd.array([0, -3], dtype="Int64")}),
    "object frame": pd.DataFrame(X).astype(object),
    "sparse frame": pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X)),
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("what", SAME)
def test_all_become_the_same_array(what):
    given = SAME[what]
    values = numeric(given() if callable(given) else given).values
    assert values.dtype.isnative
    assert values.dtype.kind == "f"
    np.testing.assert_array_equal(values, X)


def test_names_and_types_of_columns():
    frame = pd.DataFrame({"a": [True, False], 5: [1, 2], ("b", 1): pd.array([1, None], dtype="Int64")})
    values, names = numeric(frame)
    assert names == ("a", "5", "b 1")
    np.testing.assert_array_equal(values, [[1, 1, 1], [0, 2, np.nan]])
    assert numeric(pd.DataFrame({"a": np.arange(3, dtype=np.uint8)})).values.dtype == np.uint8
    assert numeric(np.array([(1, 2)], dtype=[("u", int), ("v", int)])).names == ("u", "v")
    assert numeric(X).names == ()


@pytest.mark.parametrize("missing", [None, pd.NA, pd.NaT, float("nan")])
def test_what_is_missing_is_nan(missing):
    np.testing.assert_array_equal(numeric([[1, missing]]).values, [[1, np.nan]])


def test_labels_stay_what_they_are():
    assert plain(["a", "b"]).values.dtype.kind == "U"
    assert plain(pd.Series(["a", "b"], dtype="category")).values.tolist() == ["a", "b"]
    assert plain(torch.tensor([1, 2])).values.dtype == np.int64


def _huge():
    return sparse.csr_array((10**6, 10**6))


REFUSED = {
    "text": ([["a", "b"]], "text, which is not numeric"),
    "numbers as text": ([["1", "2"]], "text, which is not numeric"),
    "objects": ([[print, 1]], "no numbers"),
    "complex": (X * 1j, "complex"),
    "dates": (np.zeros((2, 2), "M8[s]"), "datetime64"),
    "lists of different lengths": ([[1, 2], [3]], "same length"),
    "tensors of different lengths": ([torch.ones(2), torch.ones(3)], "same length"),
    "masked": (np.ma.array(X, mask=X < 0), "1 masked value;"),
    "large once dense": (_huge(), "sparse and would take 7451 GiB"),
    "large once dense (torch)": (torch.ones(1, 1).to_sparse().sparse_resize_((10**6, 10**6), 2, 0), "would take"),
    "all bad columns": (
        pd.DataFrame({"a": ["u"], "b": [1], "c": [np.datetime64("2020-01-01")]}),
        "not numeric: 'a', 'c'",
    ),
    "two of a name": (pd.DataFrame(X, columns=["a", "b", "a"]), "more than one column named 'a'"),
    "no columns": (pd.DataFrame(index=range(3)), "no columns"),
    "many bad columns": (pd.DataFrame({"x" * 99 + str(i): ["u"] for i in range(999)}), "and 994 more"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_refused_in_a_line(what):
    given, why = REFUSED[what]
    with pytest.raises(UsageError, match=why) as caught:
        numeric(given)
    assert len(str(caught.value)) <= 300


SECONDS = 1.7e9 + np.linspace(0, 100, 216)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (np.arange(6, dtype=np.uint8), np.uint8),
        (np.arange(6) > 2, np.float32),
        (np.arange(6), np.float32),
        (np.linspace(-3, 3, 99), np.float32),
        (1000 + np.linspace(0, 1, 99), np.float32),
        (np.full(99, 1e9 + 0.1), np.float32),
        (SECONDS, np.float64),
        (SECONDS.astype(np.int64), np.float64),
        (np.geomspace(1e-30, 1e30, 99), np.float32),
        (np.array([0, 1e300]), np.float32),
    ],
)
def test_only_what_float32_would_blur_stays_float64(x, dtype):
    stored = as_stored(np.stack([x, x * 0], 1).astype(x.dtype))
    assert stored.dtype == dtype
    spread = float(x.max()) - float(x.min())
    if 0 < spread < 1e38:
        assert abs(stored[:, 0] - x.astype(np.float64)).max() <= KEPT * spread


def test_column_order():
    assert column_order(("a", "b", "c"), ("c", "a", "b")) == [2, 0, 1]
    for features, columns in [(("a", "b"), ("a", "b")), ((), ("a",)), (("a",), ())]:
        assert column_order(features, columns) is None
    with pytest.raises(UsageError, match="no 'd'; unknown 'b', 'c'"):
        column_order(("a", "b", "c"), ("a", "d"))
