"""The study of Smiley's factors: what is compared, and what the words make of it."""

import numpy as np
import pytest

from vsc.data.smiley import export
from vsc.errors import UsageError
from vsc.metrics import correlations
from vsc.settings.commands import RunStudy
from vsc.settings.config import Config, DataConfig, TrainConfig
from vsc.studies import STUDIES, Ask, conduct, smiley
from vsc.studies.base import Group, Row
from vsc.sweep.jobs import dataset


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Settings of a short training on few faces."""
    path = tmp_path_factory.mktemp("data") / "smiley.npz"
    export(path, n=300)
    return Config(DataConfig(str(path)), train=TrainConfig(steps=5, batch_size=16, valid_every=5))


class Scored(Group):
    """A group whose seeds' values are given."""

    def values(self, name):
        return self.results[0][name]


def groups(vsc, vae, J=60):
    rows = [("VSC", vsc), ("VAE", vae)]
    return [Scored(Row({"model": name, "J": J}, {}), [], [{"mcc": values}]) for name, values in rows]


@pytest.mark.parametrize(
    ("vsc", "vae", "said"),
    [
        ([0.7, 0.72], [0.6, 0.62], "above VAE"),
        ([0.6, 0.62], [0.7, 0.72], "below VAE"),
        ([0.6, 0.7], [0.64, 0.68], "level with VAE"),  # a difference smaller than the spread is none
    ],
)
def test_the_words_weigh_a_difference_against_the_spread(vsc, vae, said):
    assert said in smiley.compare(groups(vsc, vae), "mcc", "MCC")


def test_the_models_are_those_of_the_source(short):
    ask = Ask(dataset(short.data))
    assert {"VAE", "VSC"} < set(smiley.models(ask))
    every = set(smiley.models(ask._replace(full=True)))
    assert every >= {"VAE", "VSC", *(f"beta-VAE ({beta})" for beta in (2, 4, 8))}
    assert any(name.startswith("beta-TCVAE") for name in every)
    assert {row["J"] for row in (r.facets for r in smiley.rows(ask))} == {18, 40, 60}


def test_it_runs_and_draws_what_the_metrics_say(tmp_path, short):
    asked = RunStudy(*vars(short).values(), dims="17", out=str(tmp_path))
    found = conduct("smiley", smiley.STUDY, asked, "vsc study smiley", tell=lambda line: None)
    assert found.alt == " ".join(["Four panels over J.", *(said for said in found.words if "CAUTION" not in said)])
    folder = tmp_path / "smiley-smiley"
    expected = {"figure.png", "figure.svg", "figure-correlations.png", "figure-correlations.svg"}
    assert expected < {path.name for path in folder.iterdir()}
    columns = found.table.columns
    vsc = next(row for row in found.table.rows if row[0] == "VSC")
    assert 0 <= vsc[columns.index("presence-min")] <= vsc[columns.index("presence-mean")] <= 1
    assert "J 17" in found.words[0]


def test_the_matrix_holds_every_latent_once_sorted_by_its_factor(short):
    class Stub:
        def encode(self, x):
            z = np.random.default_rng(0).normal(size=(len(x), 4))
            return type("Codes", (), {"z": type("T", (), {"numpy": lambda self: z})()})()

    class One(Group):
        def model(self, seed=0):
            return Stub()

    data = dataset(short.data)
    matrix = smiley.matrix(Ask(data), One(Row({"model": "VSC", "J": 4}, {}), [], []), most=6)
    seen = data.test.factors.numpy() * data.test.presence.numpy()
    z = np.random.default_rng(0).normal(size=(len(data.test), 4))
    whole = correlations(z, seen, magnitudes=True)
    assert matrix.shape == (18, 6)
    np.testing.assert_allclose(np.sort(matrix[:, :4].sum(0)), np.sort(whole.sum(0)))
    assert not matrix[:, 4:].any()
    assert (np.diff(matrix[:, :4].argmax(0)) >= 0).all()


def test_data_without_attributes_are_refused_before_anything_is_trained(tmp_path):
    asked = RunStudy(DataConfig("digits"), out=str(tmp_path))
    with pytest.raises(UsageError, match="needs true factors that can be absent, which digits does not know"):
        conduct("smiley", STUDIES["smiley"], asked, "x")
    assert list(tmp_path.iterdir()) == []
