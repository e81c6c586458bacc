"""The main job: models in order, means and spreads over seeds, nothing half-written, nothing foreign removed."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from vsc.data import load as load_data
from vsc.data.batches import Batches
from vsc.errors import Interrupted, UsageError
from vsc.measure.measured import Measured
from vsc.measure.results import weights
from vsc.metrics import code_correlations, cosines, matched, stability
from vsc.model import Autoencoder
from vsc.settings.commands import Compare
from vsc.settings.config import DataConfig, ModelConfig, TrainConfig
from vsc.settings.presets import PRESETS, changed
from vsc.studies import comparison, equal
from vsc.studies.comparison import compare
from vsc.training import runs

SETTINGS = Compare(
    DataConfig("tiny"),
    ModelConfig(latent_dim=4, hidden=(16,)),
    TrainConfig(steps=5, batch_size=16, log_every=2, valid_every=2, checkpoint_every=2, device="cpu"),
    models="vsc,ae",
    seeds=2,
)


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "out"
    return compare(SETTINGS, tiny, folder, "vsc compare --seeds 2"), folder


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def only(models, **changes):
    return replace(SETTINGS, models=models, seeds=1, **changes)


@pytest.fixture
def no_page(monkeypatch):
    """Leave the page out where it is not what is tested; its pictures take seconds."""
    monkeypatch.setattr(comparison, "_write_page", lambda *_: None)


def test_results_and_report_are_there_with_the_models_in_order(compared):
    trained, folder = compared
    results = json.loads((folder / "results.json").read_text())
    assert list(results["models"]) == ["vsc", "ae"] == [one.name for one in trained]
    assert results["command"] == "vsc compare --seeds 2"
    assert results["examples"] == 20
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.index("VSC") < page.index("AE on tiny")
    assert "vsc compare --seeds 2" in page
    links = re.findall(r'href="([^"#]+/report.html)"', page)
    assert links == ["vsc-seed0/report.html", "ae-seed0/report.html"]
    assert all("on tiny</h1>" in (folder / link).read_text(encoding="utf-8") for link in links)
    runs_there = {path.name for path in folder.iterdir() if path.is_dir()}
    assert runs_there == {"vsc-seed0", "vsc-seed1", "ae-seed0", "ae-seed1"}
    for name in runs_there:
        assert runs.read_config(folder / name).train.seed == int(name[-1])


def test_means_and_spreads_are_those_of_the_seeds(compared):
    _, folder = compared
    results = json.loads((folder / "results.json").read_text())["models"]
    for name, found in results.items():
        files = [folder / f"{name}-seed{seed}" / "results.json" for seed in (0, 1)]
        seeds = [json.loads(path.read_text())["scores"] for path in files]
        assert found["seeds"] == seeds
        for score in seeds[0]:
            values = [seed[score] for seed in seeds]
            if None in values:
                assert found["mean"][score] is found["spread"][score] is None
            else:
                assert found["mean"][score] == pytest.approx(np.mean(values))
                assert found["spread"][score] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert results["vsc"]["seeds"][0] != results["vsc"]["seeds"][1]
    assert results["ae"]["mean"]["elbo"] is None


def test_several_seeds_say_which_latents_come_back(compared, tiny):
    trained, folder = compared
    results = json.loads((folder / "results.json").read_text())["models"]
    for one in trained:
        a, b = (Measured(folder / f"{one.name}-seed{seed}", tiny) for seed in (0, 1))
        similar = cosines(a.effects.change, b.effects.change, a.effects.turned_on, b.effects.turned_on)
        found = results[one.name]["stability"]
        assert found["effects"] == pytest.approx(stability(similar), abs=1e-6)
        z, w = (seen.codes.z.numpy()[:, seen.survey.shown] for seen in (a, b))
        assert found["codes"] == pytest.approx(stability(code_correlations(z, w)), abs=1e-6)
        assert found["of"] == len(a.survey.shown)
        assert found["come_back"] == (matched(similar).similarity >= 0.8).sum()
    page = (folder / "report.html").read_text(encoding="utf-8")
    vsc = results["vsc"]["stability"]
    assert f"{vsc['come_back']} of {vsc['of']} latents of VSC come back in every seed (cosine ≥ 0.8)." in page
    assert 'data-key="stability"' in page


def test_what_latents_do_is_read_and_not_measured_again(compared, tiny, tmp_path, no_page, monkeypatch):
    trained, folder = compared
    shutil.copytree(folder, tmp_path / "out")
    monkeypatch.setattr(Measured, "effects", property(lambda _: pytest.fail("measured again")))
    again = compare(replace(SETTINGS, resume=True), tiny, tmp_path / "out", "vsc compare")
    assert [one.returning.summary for one in again] == [one.returning.summary for one in trained]


def test_more_seeds_later_match_the_runs_that_are_there(tiny, tmp_path, no_page):
    """What latents do is measured where it was not kept, as after an older version."""
    folder = tmp_path / "out"
    one = replace(SETTINGS, models="vsc")
    (before,) = compare(one, tiny, folder, "vsc compare")
    (folder / "vsc-seed1" / "latents.npz").unlink()
    (folder / "vsc-seed0" / "latents.npz").write_bytes(b"damaged")
    (after,) = compare(replace(one, resume=True), tiny, folder, "vsc compare")
    assert after.returning.summary == before.returning.summary


def test_one_seed_has_no_spread(tiny, tmp_path, no_page):
    (one,) = compare(only("vae"), tiny, tmp_path / "out", "vsc compare")
    assert one.spread is None
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["models"]["vae"]["spread"] is None
    assert results["models"]["vae"]["stability"] is None
    assert not (tmp_path / "out" / "vae" / "latents.npz").exists()
    assert results["models"]["vae"]["seeds"] == [one.mean._asdict()]


def test_every_preset_trains(tiny, tmp_path, no_page):
    trained = compare(only(",".join(PRESETS)), tiny, tmp_path / "out", "vsc compare")
    for one in trained:
        known = PRESETS["vae" if one.name == equal.SMALL else one.name][1]
        config = runs.read_config(tmp_path / "out" / one.name)
        assert changed(config, known) == config


def test_resume_keeps_what_is_finished_and_trains_the_rest(tiny, tmp_path, no_page):
    folder = tmp_path / "out"
    compare(only("ae,vae"), tiny, folder, "vsc compare")
    before = {path: stamp for path, stamp in stamps(folder).items() if path.parent != folder}
    trained = compare(only("ae,vsc,vae", resume=True, equal=False), tiny, folder, "vsc compare")
    assert [one.name for one in trained] == ["ae", "vsc", "vae"]
    after = stamps(folder)
    assert {path: after[path] for path in before} == before
    assert list(json.loads((folder / "results.json").read_text())["models"]) == ["ae", "vsc", "vae"]


@pytest.fixture
def soon_sparse(monkeypatch):
    """Let the model that is called vsc be one that has shut some of its gates after five steps."""
    monkeypatch.setitem(PRESETS, "vsc", PRESETS["vsc-fixed"])


def small_of(folder, data):
    """Return how many latents an input of the first vsc has on, on the validation part."""
    first = folder / ("vsc" if (folder / "vsc").is_dir() else "vsc-seed0")
    return round(Measured(first, data, "valid").survey.rate.sum())


def test_a_vae_of_as_many_latents_is_a_model_like_the_others_and_is_found_again(tiny, tmp_path, soon_sparse, undrawn):
    folder = tmp_path / "out"
    trained = compare(only("vae,vsc"), tiny, folder, "vsc compare")
    J = small_of(folder, tiny)
    assert 1 <= J < 4, "else there is nothing to compare"
    assert [(one.name, one.title) for one in trained][2:] == [("vae-small", f"VAE, J = {J}")]
    vae, small = (runs.read_config(folder / name) for name in ("vae", "vae-small"))
    assert small == changed(vae, {"model.latent_dim": J})
    results = json.loads((folder / "results.json").read_text())
    assert results["equal"] == {"lead": "vsc", "dense": "vae", "small": "vae-small", "kept": J}
    kept = [results["models"][name]["frontier"]["kept"] for name in ("vae", "vsc", "vae-small")]
    assert (kept[0][-1], kept[2][-1]) == (4, J)
    assert J in kept[0]
    for one in trained:
        found = results["models"][one.name]
        assert found["frontier"]["mse"][-1] == pytest.approx(found["mean"]["mse"], rel=1e-5), "the code as it is"
        assert found["frontier"]["nonzeros"][-1] == pytest.approx(found["mean"]["active"])
        assert [row["name"] for row in found["detectors"]] == ["row", "column", "corner"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"VAE, J = {J}</th>" in page
    assert 'href="vae-small/report.html"' in page
    before = {path: stamp for path, stamp in stamps(folder).items() if path.suffix == ".safetensors"}
    again = compare(only("vae,vsc", resume=True), tiny, folder, "vsc compare")
    assert [one.scores for one in again] == [one.scores for one in trained]
    assert {path: stamp for path, stamp in stamps(folder).items() if path.suffix == ".safetensors"} == before
    with_ae = compare(only("ae", overwrite=True), tiny, folder, "vsc compare")
    assert [one.name for one in with_ae] == ["ae"]
    assert not runs.is_run(folder / "vae-small")


def test_the_small_vae_has_the_seeds_of_the_others_and_can_be_left_out(tiny, tmp_path, no_page, soon_sparse):
    trained = compare(replace(SETTINGS, models="vsc,vae"), tiny, tmp_path / "two", "vsc compare")
    configs = [runs.read_config(tmp_path / "two" / f"vae-small-seed{seed}") for seed in (0, 1)]
    assert [config.train.seed for config in configs] == [0, 1]
    assert len(trained[2].scores) == 2
    assert trained[2].latent_dim == small_of(tmp_path / "two", tiny)
    for name, settings in (("off", only("vsc,vae", equal=False)), ("none", only("vsc-learned,vae"))):
        assert len(compare(settings, tiny, tmp_path / name, "vsc compare")) == 2
    no_valid = replace(tiny, valid=tiny.valid.take(slice(0)))
    assert len(compare(only("vsc,vae"), no_valid, tmp_path / "blind", "vsc compare")) == 2


def test_a_small_vae_of_another_size_is_trained_anew(tiny, tmp_path, no_page, soon_sparse, monkeypatch):
    folder = tmp_path / "out"
    first = compare(only("vsc,vae"), tiny, folder, "vsc compare")[2]
    J, before = first.latent_dim, weights(folder / "vae-small")
    monkeypatch.setattr(equal, "round", lambda value: round(value) % 3 + 1, raising=False)
    again = compare(only("vsc,vae", resume=True), tiny, folder, "vsc compare")[2]
    assert again.latent_dim == J % 3 + 1
    assert weights(folder / "vae-small") != before


def test_an_interrupted_comparison_says_how_to_go_on_and_ends_the_same(tiny, tmp_path, no_page, monkeypatch):
    whole = compare(only("ae,vsc"), tiny, tmp_path / "whole", "vsc compare")
    fetch, calls = Batches.__call__, []

    def kill(self, step):
        calls.append(step)
        if len(calls) == 5 + 4:  # the second model's fourth step
            os.kill(os.getpid(), signal.SIGTERM)
        return fetch(self, step)

    monkeypatch.setattr(Batches, "__call__", kill)
    with pytest.raises(Interrupted) as caught:
        compare(only("ae,vsc"), tiny, tmp_path / "parts", "vsc compare --out 'my runs' --overwrite")
    assert str(caught.value) == "stopped with 1 of 2 runs finished; go on with: vsc compare --out 'my runs' --resume"
    assert caught.value.code == 143
    assert not (tmp_path / "parts" / "results.json").exists()
    parts = compare(only("ae,vsc", resume=True), tiny, tmp_path / "parts", "vsc compare")
    assert [one.scores for one in parts] == [one.scores for one in whole]


def test_each_model_is_built_once_and_its_split_encoded_once(tiny, tmp_path, monkeypatch, undrawn):
    """A `Measured` encodes its split once, as its own test says, so there may be one for each model."""
    built, measured, measure = [], [], Measured.__init__

    def note(self, model, data, split="test", *more):
        measure(self, model, data, split, *more)
        measured.append((type(self.model).__name__, split))

    monkeypatch.setattr(Measured, "__init__", note)
    real = Autoencoder.__init__

    @wraps(real)
    def count(self, *arguments, **settings):
        real(self, *arguments, **settings)
        if all(weight.device.type != "meta" for weight in self.parameters()):
            built.append(type(self).__name__)

    monkeypatch.setattr(Autoencoder, "__init__", count)
    compare(only("ae,vsc"), tiny, tmp_path / "out", "vsc compare")
    assert built == ["AE", "VSC"]
    assert measured == [("AE", "test"), ("VSC", "test")]
    built.clear(), measured.clear()
    compare(replace(only("vsc"), seeds=3), tiny, tmp_path / "seeds", "vsc compare")
    assert built == ["VSC"] * 3
    assert measured == [("VSC", "test")] * 3


def test_data_that_have_changed_are_said_and_trained_anew(tiny, tmp_path, no_page, capsys):
    folder = tmp_path / "out"
    compare(only("ae"), tiny, folder, "vsc compare")
    old = json.loads((folder / "ae" / "results.json").read_text())
    other = replace(tiny, train=replace(tiny.train, x=255 - tiny.train.x))
    (one,) = compare(only("ae", resume=True), other, folder, "vsc compare")
    assert "the data have changed since" in capsys.readouterr().out
    assert weights(folder / "ae") != old["weights"]
    assert json.loads((folder / "before-1" / "ae" / "results.json").read_text()) == old
    again = compare(only("ae", resume=True), other, folder, "vsc compare")
    assert again[0].scores == one.scores
    assert "changed" not in capsys.readouterr().out


@pytest.mark.slow
def test_several_workers_find_the_numbers_of_one(tmp_path, no_page):
    digits, found = load_data("digits"), []
    for workers in (1, 2):
        asked = only("ae,vae", data=DataConfig("digits"), workers=workers)
        found.append(compare(asked, digits, tmp_path / str(workers), "vsc compare"))
    assert [one.scores[0].mse for one in found[0]] == pytest.approx([one.scores[0].mse for one in found[1]], rel=1e-4)


def test_resuming_with_other_settings_is_refused(tiny, tmp_path, no_page):
    compare(only("ae"), tiny, tmp_path / "out", "vsc compare")
    other = only("ae", resume=True, train=replace(SETTINGS.train, lr=0.5))
    with pytest.raises(UsageError, match=r"train\.lr .*, not 0\.5"):
        compare(other, tiny, tmp_path / "out", "vsc compare")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (only("vae,nope"), "'nope'.*" + ".*".join(PRESETS)),
        (only("vae,vae"), "different names"),
        (only(" , "), "different names"),
        (replace(SETTINGS, seeds=0), "seeds must be at least 1"),
        (only("ae,vsc", model=ModelConfig(alpha=2.0)), "alpha"),
        (only("ae,vsc", model=ModelConfig(spikes="nope")), "unknown spike estimator"),
        (only("ae", train=TrainConfig(devices=2)), "one process"),
        (only("ae", resume=True, overwrite=True), "choose one"),
    ],
)
def test_every_mistake_shows_before_anything_is_written(tiny, tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        compare(settings, tiny, tmp_path / "out", "vsc compare")
    assert list(tmp_path.iterdir()) == []


def test_several_processes_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process"):
        compare(only("ae"), tiny, tmp_path / "out", "vsc compare")


def test_an_existing_comparison_is_refused_or_replaced(tiny, tmp_path, no_page):
    folder = tmp_path / "out"
    compare(only("ae,vae"), tiny, folder, "vsc compare")
    before = stamps(folder)
    with pytest.raises(UsageError, match=r"--resume.*--overwrite"):
        compare(only("ae"), tiny, folder, "vsc compare")
    assert stamps(folder) == before
    (folder / "notes.txt").write_text("mine")
    (folder / "vae" / "codes.npz").write_text("mine")
    (folder / "thesis").mkdir()
    (folder / "thesis" / "config.yaml").write_text("mine")
    compare(only("ae", overwrite=True), tiny, folder, "vsc compare")
    assert list(json.loads((folder / "results.json").read_text())["models"]) == ["ae"]
    assert not runs.is_run(folder / "vae")
    for kept in ("notes.txt", "vae/codes.npz", "thesis/config.yaml"):
        assert (folder / kept).read_text() == "mine"


@pytest.mark.parametrize("files", [["results.json"], ["ae/config.yaml"], ["ae/config.yaml", "ae/environment.json"]])
@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_that_is_no_comparison_is_never_touched(tiny, tmp_path, files, how):
    folder = tmp_path / "mine"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("dear to me")
    before = stamps(folder)
    with pytest.raises(UsageError, match="holds no comparison"):
        compare(only("ae", **how), tiny, folder, "vsc compare")
    assert stamps(folder) == before
    with pytest.raises(UsageError, match="is a file"):
        compare(only("ae", **how), tiny, folder / files[0], "vsc compare")


def test_the_settings_of_a_comparison_are_kept_as_yaml(compared):
    _, folder = compared
    kept = yaml.safe_load((folder / "comparison.yaml").read_text())
    assert kept["models"] == "vsc,ae"
    assert kept["train"]["steps"] == 5
    assert kept["model"]["hidden"] == [16]


def test_likelihoods_that_differ_are_named_with_their_models():
    models: Any = [SimpleNamespace(likelihood=own, title=title) for own, title in zip("aba", "XYZ", strict=True)]
    assert comparison.likelihoods(models[:1]) == "a"
    assert comparison.likelihoods(models) == "a of X and Z; b of Y: their nats do not compare"
