import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from vsc.errors import UsageError
from vsc.fields import Field, collapse, describe, expand, names, parts

PEOPLE = pd.DataFrame(
    {
        "age": [31.5, np.nan, 20, 64],
        "smoker": ["no", "yes", None, "no"],
        "colour": ["red", "blue", "green", None],
        "owner": [True, False, True, True],
        "member": [0, 1, 1, 0],
        "visits": [0, 3, 1, 7],
    }
)
FIELDS = (
    Field("age", "gaussian"),
    Field("smoker", "bernoulli", ("no", "yes")),
    Field("colour", "categorical", ("blue", "green", "red")),
    Field("owner", "bernoulli"),
    Field("member", "bernoulli"),
    Field("visits", "negative-binomial"),
)
X = [
    [31.5, 0, 0, 0, 1, 1, 0, 0],
    [np.nan, 1, 1, 0, 0, 0, 1, 3],
    [20, np.nan, 0, 1, 0, 1, 1, 1],
    [64, 0, np.nan, np.nan, np.nan, 1, 0, 7],
]


def frames():
    columns = {name: [None if pd.isna(v) else v for v in PEOPLE[name].tolist()] for name in PEOPLE}
    return {
        "pandas": PEOPLE,
        "polars": pl.DataFrame(columns),
        "pyarrow": pa.table(columns),
        "nullable": PEOPLE.convert_dtypes(),
    }


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "nullable"])
def test_a_table_of_all_kinds(kind):
    frame = frames()[kind]
    assert describe(frame) == FIELDS
    np.testing.assert_array_equal(expand(frame, FIELDS), X)


def test_names_and_places():
    assert names(FIELDS) == (
        *("age", "smoker=yes", "colour=blue", "colour=green", "colour=red", "owner", "member", "visits"),
    )
    assert {field.name: (place.start, place.stop) for field, place in parts(FIELDS)} == {
        **{"age": (0, 1), "smoker": (1, 2), "colour": (2, 5), "owner": (5, 6), "member": (6, 7), "visits": (7, 8)}
    }


def test_collapse_undoes_expand():
    back = collapse(expand(PEOPLE, FIELDS), FIELDS)
    pd.testing.assert_frame_equal(pd.DataFrame(back).convert_dtypes(), PEOPLE.astype({"owner": float}).convert_dtypes())


def test_collapse_takes_the_most_probable_level():
    x = np.array([[40, 0.6, 0.2, 0.5, 0.3, 0.7, 0.1, 2.5]])
    found = {name: column.tolist() for name, column in collapse(x, FIELDS).items()}
    assert found == {
        **{"age": [40], "smoker": ["yes"], "colour": ["green"], "owner": [0.7], "member": [0.1], "visits": [2.5]}
    }


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ([0, 0, 0], ("gaussian",)),  # nothing else than 0 was seen
        ([0, 5, 0], ("gaussian",)),
        ([1, 2, 3], ("gaussian",)),
        ([0, 1.5, 3], ("gaussian",)),
        ([0.0, 1.0, 3.0, np.nan], ("negative-binomial",)),
        ([-1, 0, 2], ("gaussian",)),
        ([1, 0, np.nan], ("bernoulli",)),
        (["x", "x", None], ("categorical", ("x",))),
        (pd.Categorical(["mid", "low", "mid"], ["low", "mid", "high"]), ("bernoulli", ("low", "mid"))),
        (pd.Categorical([3, 10, 1]), ("categorical", ("1", "3", "10"))),
        ([True, None, False], ("bernoulli",)),
    ],
)
def test_what_a_column_is(values, field):
    frame = pd.DataFrame({"a": values})
    assert describe(frame) == (Field("a", *field),)
    known = frame.dropna()
    assert expand(known, describe(frame)).shape == (
        len(known),
        max(1, len(field[-1]) if field[0] == "categorical" else 1),
    )


@pytest.mark.parametrize(
    ("values", "kind", "field"),
    [
        ([0, 1, 2], "gaussian", ("gaussian",)),
        ([0, 1, 1], "gaussian", ("gaussian",)),
        ([0, 1, 1], "poisson", ("poisson",)),
        ([10, 9, np.nan], "categorical", ("categorical", ("9", "10"))),
        ([0.5, 1, 2], "categorical", ("categorical", ("0.5", "1", "2"))),
        ([1, 2, 2], "bernoulli", ("bernoulli", ("1", "2"))),
        (["1", "2", "x"], "categorical", ("categorical", ("1", "2", "x"))),
        ([f"id{i}" for i in range(100)], "categorical", ("categorical", tuple(sorted(f"id{i}" for i in range(100))))),
        ([3, 4, 6], "negative-binomial", ("negative-binomial",)),
    ],
)
def test_what_is_chosen_goes_first(values, kind, field):
    assert describe(pd.DataFrame({"a": values}), {"a": kind}) == (Field("a", *field),)


def test_patterns_choose_many_columns_and_names_go_before_them():
    frame = pd.DataFrame({"p1": [0, 1, 2], "p2": [0, 1, 2], "q": [0, 1, 2]})
    kinds = [field.likelihood for field in describe(frame, {"p2": "poisson", "p*": "gaussian"})]
    assert kinds == ["gaussian", "poisson", "negative-binomial"]


def test_levels_that_are_numbers_come_back_as_numbers():
    frame = pd.DataFrame({"a": [9, 10, 9], "b": ["01", "y", "x"]})
    found = collapse(expand(frame, fields := describe(frame, {"a": "categorical"})), fields)
    assert found["a"].tolist() == [9, 10, 9]
    assert found["b"].tolist() == ["01", "y", "x"]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([None, None, None], None, "column 'a' has no values; drop it"),
        (pd.to_datetime(["2020-01-01", "2020-01-02", None]), None, "holds dates; drop it .* days since"),
        ([datetime.date(2020, 1, 1)] * 3, None, "holds dates"),
        (["2020-01-01", "2021-12-31 10:00", None], None, "holds dates"),
        (["1.2.2020", "3/4/21"], None, "holds dates"),
        (pd.to_timedelta([1, 2, 3]), None, "holds dates"),
        (["1", "2", "red", "4"], None, r"holds numbers but for 'red' in row 2; mend it, or say that it is categorical"),
        (["1", "2", "3"], None, "holds numbers as text"),
        (["red", "blue"], "gaussian", r"holds text \('red'\) and cannot be gaussian"),
        ([1, 2, 3], "bernoulli", "has 3 different values and cannot be bernoulli"),
        ([0, -2, 1], "poisson", r"cannot be poisson: it holds -2 in row 1; counts are whole and not negative"),
        ([0, 1.5], "negative-binomial", "cannot be negative-binomial: it holds 1.5 in row 1"),
        ([1, 2], "normal", "unknown likelihood of column 'a': 'normal'"),
        ([[1], [2]], None, "holds values of type mixed"),
        ([1j, 2], None, "holds values of type complex"),
        ([f"id{i}" for i in range(60)], None, "60 different texts in 60 rows, as names have; drop it"),
        ([f"id{i % 1001}" for i in range(5000)], None, "1001 different texts"),
    ],
)
def test_columns_that_cannot_be_used(values, kind, message):
    with pytest.raises(UsageError, match=message) as caught:
        describe(pd.DataFrame({"a": values}), {"a": kind} if kind else {})
    assert len(str(caught.value)) < 200


def test_a_choice_for_no_column():
    with pytest.raises(UsageError, match=r"no column 'b\*' to be poisson; the columns are 'a'"):
        describe(pd.DataFrame({"a": [1, 2]}), {"b*": "poisson"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"colour": ["red", "purple", None, "red"]},
            "'colour' holds 'purple' in row 1, unseen in training, where it was",
        ),
        ({"smoker": ["no", "maybe", "no", "no"]}, "'smoker' holds 'maybe' in row 1"),
        ({"member": [0, 2, 1, 1]}, "'member' is 2 in row 1: neither 0 nor 1"),
        ({"visits": [0, 2, -1, 1]}, "'visits' is -1 in row 2: no count"),
        ({"visits": [0, 2, 0.5, 1]}, "'visits' is 0.5 in row 2: no count"),
        ({"age": [1, np.inf, 2, 3]}, "'age' is inf in row 1: infinite"),
        ({"age": [1, "old", 2, 3]}, "'age' held numbers in training, and here '1'"),
        ({"colour": [1.0, 2.0, 3.0, 4.0]}, "'colour' holds '1' in row 0"),
        ({"colours": ["red"] * 4}, "unknown 'colours'"),
    ],
)
def test_values_that_were_not_so_in_training(change, message):
    with pytest.raises(UsageError, match=message):
        expand(PEOPLE.assign(**change), FIELDS)


def test_columns_missing_or_in_another_order():
    with pytest.raises(UsageError, match="no 'age', 'visits'; unknown 'old'"):
        expand(PEOPLE.drop(columns=["age", "visits"]).assign(old=1), FIELDS)
    np.testing.assert_array_equal(expand(PEOPLE[PEOPLE.columns[::-1]], FIELDS), X)


def test_a_row_without_values():
    frame = pd.DataFrame({"a": [1.5, None, 2], "b": ["u", None, "v"]}, index=["x", "y", "z"])
    with pytest.raises(UsageError, match="row y has no values"):
        expand(frame, describe(frame))
