"""Errors of values that are hidden, of models that guess in ways whose errors are known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vsc.fields import Field
from vsc.measure.gaps import hidden_errors

rng = np.random.default_rng(0)
FRAME = pd.DataFrame({"size": rng.normal(3, 2, 400), "visits": rng.poisson(3, 400), "rare": np.nan})
FRAME["colour"] = np.where(rng.random(400) < 0.7, "red", "blue")
FRAME.loc[::7, "size"] = np.nan
FRAME.loc[:5, "rare"] = 1.0
FIELDS = (
    Field("size", "gaussian"),
    Field("visits", "poisson"),
    Field("rare", "gaussian"),
    Field("colour", "bernoulli", ("blue", "red")),
)


def guessing(how) -> Any:
    def impute(left, draws, seed):
        return left.apply(lambda column: column.where(column.notna(), how(column)))

    return SimpleNamespace(fields=FIELDS, impute=impute)


def means(column):
    return column.mean() if column.dtype.kind == "f" else column.mode()[0]


@pytest.mark.parametrize(("how", "expected"), [(lambda column: FRAME[column.name], 0), (means, 1)])
def test_the_truth_has_no_error_and_the_mean_has_one(how, expected):
    errors = hidden_errors(guessing(how), FRAME)
    assert list(errors) == ["size", "visits", "colour"]  # too little of the other is known
    np.testing.assert_allclose(list(errors.values()), expected)


def test_errors_are_those_of_a_guess_further_off():
    """Off by as much again as the mean is: root mean square sqrt(sd^2 + sd^2) where the truth is random."""
    errors = hidden_errors(guessing(lambda c: c.mean() + c.std() if c.dtype.kind == "f" else "blue"), FRAME)
    assert errors["size"] == pytest.approx(np.sqrt(2), rel=0.15)
    assert errors["colour"] == pytest.approx(0.7 / 0.3, rel=0.35)


def test_the_caller_chooses_how_many_rows_are_looked_at():
    seen = []

    def impute(left, draws, seed):
        seen.append(left)
        return left.fillna(0.0)

    frame = pd.DataFrame(FRAME["size"])
    one: Any = SimpleNamespace(fields=FIELDS[:1], impute=impute)
    hidden_errors(one, frame, most=50)
    assert len(seen[0]) == 50
    assert seen[0].index[0] == 0
    assert seen[0].index[-1] == 399
    lost = seen[0]["size"].isna() & frame.loc[seen[0].index, "size"].notna()
    assert 1 < lost.sum() < 25  # a fifth of some 43


def test_modules_of_measure_are_there_when_asked_for():
    import vsc

    assert vsc.measure.gaps.hidden_errors is hidden_errors
    with pytest.raises(AttributeError, match=r"module 'vsc.measure' has no attribute 'nope'"):
        _ = vsc.measure.nope
