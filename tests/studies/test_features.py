"""The study of features with known answers: a hand-made case of each error, and a small world from end to end."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from vsc.data import DATASETS, load, synth
from vsc.errors import UsageError
from vsc.metrics import cosines, detection
from vsc.settings.commands import RunStudy
from vsc.settings.config import Config, DataConfig, TrainConfig
from vsc.settings.presets import PRESETS
from vsc.studies import STUDIES, Ask, conduct, features

DIGITS = load("digits")
LINEAR = {"model.net": "linear", "model.likelihood": "gaussian-fixed"}


@pytest.fixture
def world():
    """Return a world of a parent, its two children, and two others."""
    plan = synth.Plan(5, 6, 0.4, 0.1, roots=1, children=2)
    return synth.World(plan)


def looked_at(world, latents, on, fires):
    """Return the errors of latents with these directions, on in these rows."""
    z = np.asarray(on, dtype=float)
    truth = np.eye(5, 6)
    alike = cosines(latents, truth, directed_a=False)
    return features.errors(detection(z, fires, latents, truth), z, fires, alike, world)


@pytest.fixture
def fires():
    """Return 8 rows: the parent (0) alone, with child 1, with child 2, and the others (3, 4)."""
    found = np.zeros((8, 5), dtype=bool)
    found[:6, 0] = found[2:4, 1] = found[4:6, 2] = found[6, 3] = found[7, 4] = True
    return found


def test_a_perfect_model_makes_no_errors(world, fires):
    found = looked_at(world, np.eye(5, 6), fires, fires)
    assert (found.best == 1).all()
    assert tuple(found[2:]) == (1, 0, 0, 0, 0)
    assert found.f1 == 1


def test_children_swallowed_by_their_parent(world, fires):
    """Without latents of the children, the two frequent ones are missed; a latent never on has found nothing."""
    found = looked_at(world, np.eye(5, 6)[[0, 3, 4]], fires[:, [0, 3, 4]], fires)
    assert found.best.tolist() == [1, 0, 0, 1, 1]
    assert (found.frequent, found.swallowed) == (3 / 5, 2)


def test_a_parent_absorbed_by_a_child(world, fires):
    """Its latent is off wherever child 1 fires: precision 1, recall 4 of 6."""
    on = fires.copy()
    on[2:4, 0] = False
    found = looked_at(world, np.eye(5, 6), on, fires)
    assert (found.absorbed, found.swallowed, found.mixed) == (1, 0, 0)
    assert found.best[0] == 2 * (4 / 6) / (1 + 4 / 6)


def test_a_latent_that_is_never_on_absorbs_nothing(world, fires):
    on = fires.copy()
    on[:, 0] = False
    assert looked_at(world, np.eye(5, 6), on, fires).absorbed == 0


def test_latents_that_mix_two_features_or_share_one(world, fires):
    latents = np.eye(5, 6)
    latents[3] = latents[3] + 0.9 * latents[4]
    latents[1] = latents[2]
    found = looked_at(world, latents, fires, fires)
    assert (found.mixed, found.repeated) == (1, 2)


@pytest.fixture
def tiny(monkeypatch):
    """Name a world of 24 features that is learned from 2048 rows, and two models."""
    monkeypatch.setitem(synth.WORLDS, "synth-tiny", synth.Plan(24, 12, 0.3, 0.05, roots=2, children=2))
    monkeypatch.setitem(synth.ROWS, "synth-tiny", (2048, 1024))
    monkeypatch.setitem(DATASETS, "synth-tiny", lambda root: synth.source("synth-tiny"))
    monkeypatch.setitem(PRESETS, "free", ("Free", {"model.name": "ae", **LINEAR}))
    monkeypatch.setitem(PRESETS, "told", ("Told", {"model.name": "vsc", "model.gates": "learned", **LINEAR}))
    monkeypatch.setattr(features, "FREE", ("free",))
    monkeypatch.setattr(features, "ASKED", ("told",))
    monkeypatch.setattr(features, "L0", (2.0, 3.0))
    return Config(DataConfig("synth-tiny"), train=TrainConfig(steps=20, valid_every=20))


def test_it_runs_from_end_to_end(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "lines", lambda *given, **more: Figure((1, 1)))  # drawing takes seconds
    study = STUDIES["features"]
    asked = RunStudy(*vars(tiny).values(), dims="8", out=str(tmp_path))
    found = conduct("features", study, asked, "vsc study features", tell=lambda line: None)
    columns = found.table.columns
    assert [row[: columns.index("seeds")] for row in found.table.rows] == [("Free", "own"), ("Told", 2), ("Told", 3)]
    world, rates = synth.world("synth-tiny"), synth.world("synth-tiny").rates.sort(descending=True).values
    assert f"{world.l0:.1f} of them fire in a row, and {rates[:8].sum():.1f} of the 8 most frequent" in found.words[0]
    assert "Free, not told any l0, is" in found.words[1]
    assert (tmp_path / "synth-tiny-features" / "figure-found.png").exists()
    # an AE has all latents on: precision is the rate of the nearest feature, recall 1
    free = found.table.rows[0]
    assert free[columns.index("active")] == 8
    assert free[columns.index("feature-f1")] < 0.5


def test_what_is_told_an_l0_is_compared_at_several(monkeypatch):
    """Of those that are said to be told one, an AE does not hear it, and is trained once."""
    usual = {row.facets["model"] for row in features.rows(Ask(DIGITS))}
    assert usual == {PRESETS[name][0] for name in (*features.FREE, *features.ASKED)}
    monkeypatch.setattr(features, "FREE", ("vsc",))
    monkeypatch.setattr(features, "ASKED", ("vsc-fixed", "ae"))
    for full, l0, J in ((False, features.L0, 256), (True, features.FULL_L0, 4096)):
        rows = features.rows(Ask(DIGITS, full))
        told = {row.facets["l0 asked"]: row.settings["train.target_l0"] for row in rows[1:-1]}
        assert told == {number: number for number in l0}
        assert [rows[i].facets for i in (0, -1)] == [{"model": name, "l0 asked": "own"} for name in ("VSC", "AE")]
        assert all(row.settings["model.latent_dim"] == J for row in rows)
    assert (STUDIES["features"].data, STUDIES["features"].full_data) == ("synth", "synth-16k")


def test_other_data_are_refused(tmp_path):
    with pytest.raises(UsageError, match="take --data synth"):
        conduct("features", STUDIES["features"], RunStudy(DataConfig("digits"), out=str(tmp_path)), "")
