"""`vsc impute`: a table with gaps in, the same table without gaps out."""

import re

import numpy as np
import pandas as pd
import pytest

from vsc.cli.running import main
from vsc.training import runs

SMALL = ["--latent-dim", "4", "--model.hidden", "[8]", "--steps", "5"]


def people(n=60):
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    own = {"age": 40 + z, "colour": np.where(z > 0, "red", "blue"), "visits": rng.poisson(3, n), "height": 170 - z}
    frame = pd.DataFrame(own).astype({"visits": float})
    gone = rng.random(frame.shape) < 0.2
    gone[np.arange(n), rng.integers(4, size=n)] = False
    return frame.mask(gone).assign(id=[f"p{i}" for i in range(n)], label=np.where(z > 0, "old", "young"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table that has gaps, one that has none, and a run of each."""
    where = tmp_path_factory.mktemp("imputed")
    frame = people()
    frame.to_csv(where / "people.csv", index=False)
    frame.dropna().to_csv(where / "whole.csv", index=False)
    for name in ("people", "whole"):
        words = ["train", "--data", str(where / f"{name}.csv"), "--drop", "id", "--out", str(where / name)]
        assert main([*words, *SMALL]) == 0
    return where


def test_the_same_table_comes_back_without_gaps(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    given = pd.read_csv("people.csv")
    gaps = int(given.isna().sum().sum())
    for out, read in (("filled.csv", pd.read_csv), ("deep/filled.parquet", pd.read_parquet)):
        assert main(["impute", "people", "--data", "people.csv", "--out", out, "--draws", "20"]) == 0
        said = capsys.readouterr().out
        assert f"{gaps} values of 60 rows were missing" in said
        errors = [float(error) for error in re.findall(r"[a-z]+ (\d+\.\d\d)", said)]
        assert len(errors) > 1
        assert ("caution" in said) == (max(errors) > 1.05)
        filled = read(out)
        assert list(filled.columns) == list(given.columns)  # the label and what was left out too
        assert not filled.isna().any().any()
        there = given.notna()
        pd.testing.assert_frame_equal(filled.where(there), given.where(there), check_dtype=False)
        assert set(filled["colour"]) == {"red", "blue"}
    model = runs.load("people")
    fields = [field.name for field in model.fields]
    expected = model.impute(given[fields], draws=20)
    pd.testing.assert_frame_equal(filled[fields], expected, check_dtype=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["whole", "--data", "people.csv"], "without missing values"),
        (["people", "--data", "nope.csv"], "nope.csv"),
        (["people", "--data", "people.npy"], "only tables have missing values"),
        (["people", "--data", "people.csv", "--out", "filled.txt"], "must end in .csv or .parquet"),
        (["people", "--data", "people.csv", "--draws", "0"], "draws must be at least 1"),
        (["people", "--data", "new.csv"], "unseen in training"),
        (["people", "--data", "narrow.csv"], "no 'age'"),
    ],
)
def test_what_cannot_be_filled_is_one_line(folder, capsys, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    np.save("people.npy", np.zeros((20, 3)))
    people().replace("red", "green").to_csv("new.csv", index=False)
    people().drop(columns="age").to_csv("narrow.csv", index=False)
    assert main(["impute", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told
