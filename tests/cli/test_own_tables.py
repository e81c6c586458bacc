"""A table with text, counts and missing cells on its way through the commands."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse

import vsc
from vsc.cli.running import main
from vsc.training import runs

SMALL = ["--steps", "20", "--latent-dim", "4", "--model.hidden", "[16]", "--batch-size", "64", "--device", "cpu"]
RNG = np.random.default_rng(0)
PEOPLE = pd.DataFrame(
    {
        "age": RNG.normal(40, 10, 200).round(1),
        "colour": RNG.choice(["red", "green", "blue"], 200),
        "visits": RNG.poisson(1.5, 200),
        "smoker": RNG.choice(["no", "yes"], 200),
        "zip": RNG.choice([101, 102, 103], 200),
        "species": RNG.choice(["cat", "dog"], 200),
        "id": [f"n{i}" for i in range(200)],
    }
)
PEOPLE.loc[::7, ["age", "colour"]] = None
WISHES = ["--label", "species", "--drop", "id", "--columns", "zip=categorical"]
KINDS = {"age": "gaussian", "colour": "categorical", "visits": "negative-binomial"}
KINDS |= {"smoker": "bernoulli", "zip": "categorical"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    PEOPLE.to_csv(folder / "people.csv", index=False)
    assert main(["train", "--data", str(folder / "people.csv"), *WISHES, *SMALL, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def says(capsys, *words, code=0):
    capsys.readouterr()
    assert main(words) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_every_column_is_listed_with_what_else_it_may_be(capsys):
    lines = says(capsys, "data", "people.csv", *WISHES).splitlines()
    cells = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert {name: line.split()[1] for name, line in cells.items() if name != "column"} == KINDS
    age = PEOPLE["age"]
    assert f"{age.min():.4g} to {age.max():.4g}, mean {age.mean():.4g}" in cells["age"]
    assert "14.5%" in cells["age"]
    assert "blue, green, red" in cells["colour"]
    assert cells["visits"].endswith("gaussian or poisson or categorical")
    assert (
        "1 gaussian, 1 bernoulli ('smoker'), 2 categorical ('colour', 'zip'), 1 negative-binomial ('visits')"
        in lines[1]
    )
    assert "classes: cat, dog" in lines


def test_training_says_what_was_chosen(capsys):
    said = says(capsys, "train", "--data", "people.csv", *WISHES, *SMALL, "--steps", "2", "--out", "other")
    assert "2 categorical ('colour', 'zip')" in said
    assert "5.8% of the values are missing. vsc data people.csv lists them" in said  # 29 of 200 in two of five columns
    assert "29" in str(PEOPLE["age"].isna().sum())


def test_codes_go_into_every_kind_of_file(capsys):
    new = PEOPLE[["zip", "smoker", "colour", "age", "visits"]].set_index(pd.Index([f"n{i}" for i in range(200)]))
    new.to_csv("new.csv")  # neither label nor id, in another order, with names of rows
    model = runs.load("run")
    hard = model.encode(new).hard.numpy()
    assert (hard == 0).any()
    for out in ("codes.csv", "codes.parquet", "codes.npz", "codes.csr.npz"):
        said = says(capsys, "encode", "run", "--data", "new.csv", "--out", out)
        assert f"200 codes of 4 latents, {(hard != 0).sum(1).mean():.1f} of them on per example: {out}" in said
    for frame in (pd.read_csv("codes.csv"), pd.read_parquet("codes.parquet")):
        assert list(frame) == ["row", "latent_0", "latent_1", "latent_2", "latent_3"]
        assert list(frame["row"]) == list(new.index)
        np.testing.assert_allclose(frame.filter(like="latent"), hard, rtol=1e-6)
    csr = sparse.load_npz("codes.csr.npz")
    assert (csr.format, csr.dtype, csr.nnz) == ("csr", np.float32, (hard != 0).sum())
    np.testing.assert_array_equal(csr.toarray(), hard)
    with np.load("codes.npz") as codes:
        np.testing.assert_array_equal(codes["hard"], hard)
        assert codes["rows"].tolist() == list(new.index)


def test_codes_of_the_runs_own_rows_tell_which_they_are(capsys):
    says(capsys, "encode", "run", "--out", "test.csv")
    data = vsc.load_data("people.csv", label="species", drop="id", columns="zip=categorical")
    frame = pd.read_csv("test.csv")
    assert frame["row"].tolist() == data.test.index.tolist()
    assert frame["label"].tolist() == data.test.y.tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(colour="purple"), "'colour' holds 'purple' in row 2, unseen in training"),
        (lambda t: t.drop(columns="age"), "no 'age'"),
        (lambda t: t.assign(height=1.0), "unknown 'height'"),
        (lambda t: t.assign(age="old"), "'age' held numbers in training, and here 'old'"),
        (lambda t: t.assign(visits=-1), "'visits' is -1 in row 2: no count"),
        (lambda t: t.assign(zip=999), "'zip' holds '999' in row 2"),
        (lambda t: t.iloc[:0], "the table has no rows"),
    ],
)
def test_new_rows_that_do_not_fit(capsys, change, said):
    change(PEOPLE.head(20)).to_csv("odd.csv", index=False)
    line = says(capsys, "encode", "run", "--data", "odd.csv", "--out", "odd.npz", code=2)
    assert "odd.csv: " in line
    assert said in line
    assert line.count("\n") == 1
    assert len(line) < 300


def test_files_of_codes_that_are_unknown(capsys):
    said = says(capsys, "encode", "run", "--out", "codes.txt", code=2)
    assert "out must end in .npz, .csr.npz, .csv, .parquet, not 'codes.txt'" in said


def test_a_data_set_with_fields_is_written_and_read_again(capsys):
    says(capsys, "data", "people.csv", *WISHES, "--out", "people.npz")
    first = vsc.load_data("people.csv", label="species", drop="id", columns="zip=categorical")
    again = vsc.load_data("people.npz")
    assert (again.fields, again.features, again.content) == (first.fields, first.features, first.content)


CONFIG = vsc.Config(
    data=vsc.DataConfig(drop="id", label="species", columns="zip=categorical"),
    model=vsc.ModelConfig(latent_dim=4, hidden=[16]),
    train=vsc.TrainConfig(steps=3, device="cpu"),
)


@pytest.mark.parametrize("kind", [lambda frame: frame, pl.from_pandas, pa.Table.from_pandas])
def test_a_data_frame_is_trained_on_and_encoded(kind):
    model = vsc.train(kind(PEOPLE), CONFIG)
    assert {field.name: field.likelihood for field in model.fields} == KINDS
    frame = PEOPLE[["age", "colour", "visits", "smoker", "zip"]]
    torch.testing.assert_close(model.encode(kind(frame)).mu, model.encode(frame).mu)


def test_a_data_frame_as_a_data_set():
    data = vsc.from_arrays(PEOPLE, y="species", drop=["id"], columns={"zip": "categorical"}, x_test=PEOPLE[:30])
    assert (data.classes, len(data.test)) == (("cat", "dog"), 30)
    assert data.test.y is not None
    assert [data.classes[k] for k in data.test.y] == PEOPLE["species"][:30].tolist()
    assert torch.isnan(data.test.x[0]).sum() == 4  # an age and three colours
    named = PEOPLE.rename(columns={"species": "target"}).drop(columns="id")
    assert vsc.from_arrays(named).classes == ("cat", "dog")
    assert vsc.from_arrays(named, PEOPLE["smoker"]).classes == ("no", "yes")
    assert vsc.from_arrays(named, "none").features[-1] == "target=dog"
    with pytest.raises(vsc.UsageError, match=r"data\.drop is for tables .* x is no data frame"):
        vsc.from_arrays(np.eye(20), drop="a")
    with pytest.raises(vsc.UsageError, match="if they are missing, give a data frame"):
        vsc.from_arrays(np.full((20, 3), np.nan))


def test_many_counts_may_be_grey_values(capsys):
    grey = RNG.integers(0, 256, (20, 60))
    grey[0] = 0
    pd.DataFrame(grey).to_csv("grey.csv", index=False)
    assert "if these are grey values: --columns '*=gaussian'" in says(capsys, "data", "grey.csv")
    assert "60 gaussian" in says(capsys, "data", "grey.csv", "--columns", "*=gaussian").splitlines()[1]
