"""Choosing l0 without labels: the path, what is refused, the rule on hand-made curves, and the whole command."""

import json
from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest
import yaml

from vsc.cli import running
from vsc.errors import RunError, UsageError
from vsc.measure.returning import Trace, match_runs
from vsc.settings.commands import Tune
from vsc.settings.config import Config
from vsc.settings.presets import changed
from vsc.settings.schedule import Schedule
from vsc.sweep import path
from vsc.training import runs

SMALL = {"train.steps": 20, "model.latent_dim": 6, "model.hidden": (8,), "train.valid_every": 10}
BASE = changed(Config(), SMALL)


def ask(**settings):
    return Tune(BASE.data, BASE.model, BASE.train, choose="l0", **settings)


def choose(folder, lines=None, **settings):
    return path.choose_l0(ask(**settings), folder, "vsc tune x", tell=(lines if lines is not None else []).append)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("path")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path, "MET", 100.0)  # in so few steps no l0 is held
        return choose(folder, at="2,1,3"), folder


def test_each_point_is_the_mean_over_its_seeds_on_the_validation_part(chosen):
    found, folder = chosen
    assert sorted(point.asked for point in found.points) == [1, 2, 3]
    assert [point.l0 for point in found.points] == sorted(point.l0 for point in found.points)
    for point in found.points:
        files = [json.loads((job.folder / "results.json").read_text()) for job in point.jobs]
        assert {one["split"] for one in files} == {"valid"}
        assert [runs.read_config(job.folder).train.seed for job in point.jobs] == [0, 1]
        assert {runs.read_config(job.folder).train.target_l0.last for job in point.jobs} == {point.asked}
        scores = [one["scores"] for one in files]
        for name in ("elbo", "l0", "active", "used"):
            assert getattr(point, name) == pytest.approx(fmean(one[name] for one in scores))
        assert point.spread == pytest.approx(stdev(one["elbo"] for one in scores))
        assert 0 <= point.stability <= 1
    said = json.loads((folder / "l0.json").read_text())
    assert said["recommended"] == found.best.asked
    assert said["reason"] == found.reason
    assert [one["asked"] for one in said["points"]] == [point.asked for point in found.points]
    assert said["points"][0]["stability"] == found.points[0].returning.summary
    asked = yaml.safe_load((folder / "best.yaml").read_text())["train"]["target_l0"]
    assert Schedule.parse(asked).last == found.best.asked


def test_runs_are_found_again_and_more_values_add_to_them(chosen, monkeypatch):
    monkeypatch.setattr(path, "MET", 100.0)
    found, folder = chosen
    before = {run: (run / "model" / "model.safetensors").stat().st_mtime_ns for run in (folder / "runs").iterdir()}
    lines = []
    more = choose(folder, lines, at="1,2,3,4")
    assert [line.split(": done")[0] for line in lines] == ["[1/2] l0 4, seed 0", "[2/2] l0 4, seed 1"]
    assert {run: (run / "model" / "model.safetensors").stat().st_mtime_ns for run in before} == before
    assert [point.elbo for point in more.points if point.asked != 4] == [point.elbo for point in found.points]


def test_without_values_the_path_lies_around_what_the_model_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(path, "MET", 100.0)
    lines = []
    found = choose(tmp_path, lines)
    (free,) = (point for point in found.points if point.asked is None)
    assert lines[0] == "first the latents that the model has on by itself, 2 runs"
    asked = sorted(point.asked for point in found.points if point.asked is not None)
    near = [share * free.active for share in sorted(path.SHARES) if share * free.active < 6]
    assert asked == pytest.approx(near, rel=0.06)
    assert len(list((tmp_path / "runs").iterdir())) == 2 * len(found.points)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"at": "3"}, "at needs at least two different numbers"),
        ({"at": "3,3.0"}, "at needs at least two different numbers"),
        ({"at": "3,many"}, "at must be numbers separated by commas, and 'many' is none"),
        ({"at": "3,,4"}, "at must be numbers separated by commas, and '' is none"),
        ({"at": "0,3"}, "at must be positive numbers, not 0"),
        ({"at": "3,nan"}, "at must be positive numbers, not nan"),
        ({"at": "3,6"}, "target_l0 must be below the number of latents, 6, in the end, not 6"),
        ({"at": "2,3", "train": {"cap": 0.4}}, "target_l0 3 cannot be met: with train.cap 0.4, at most 2.4 of 6"),
        ({"at": "2,3", "model": {"name": "vae"}}, "train.target_l0 does nothing"),
        ({"model": {"name": "ae"}}, "train.target_l0 does nothing"),
        ({"train": {"target_l0": 2.0}}, "--choose l0 finds train.target_l0 itself"),
        ({"train": {"devices": 2}}, "one process"),
        ({"seeds": 1}, "seeds must be at least 2, not 1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"space": "train.lr=1e-4..1e-2"}, "space is for a search"),
        ({"metric": "mse"}, "metric is for a search"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(settings, says, tmp_path):
    parts = {name: settings.pop(name) for name in ("model", "train") if name in settings}
    config = replace(ask(**settings), **{name: replace(getattr(BASE, name), **own) for name, own in parts.items()})
    with pytest.raises(UsageError, match=says):
        path.choose_l0(config, tmp_path / "out", "x")
    assert list(tmp_path.iterdir()) == []


# ---- the rule


def returning(shared, K=10):
    """Return two runs of K latents of which so many are the same."""
    eye, none = np.eye(2 * K), np.zeros((50, K))
    runs_ = [Trace(np.arange(K), np.ones(K), eye[s : s + K], np.ones(K, bool), none) for s in (0, K - shared)]
    return match_runs(runs_)


def point(l0, elbo, shared=5, asked: float | None = 0.0, spread=0.2, used=10.0):
    return path.Point(l0 if asked == 0 else asked, l0, l0, used, 0, elbo, spread, returning(shared), [])


def rate(curve, **more):
    return path.recommended([point(l0, elbo, **more) for l0, elbo in curve.items()])


def test_a_further_latent_must_bring_a_nat():
    """Up to 9 each further latent brings 3 nats, beyond it half a nat."""
    curve = {3: -100, 6: -91, 9: -82, 12: -80.5, 18: -77.5}
    best, reason = rate(curve)
    assert best.asked == 9
    assert reason.startswith("l0 9, where l0 is 9: ELBO less l0 is -91.00 nats, no other comes within the spread")


def test_a_bound_that_falls_where_latents_are_many_is_no_trouble():
    assert rate({4: -50, 8: -40, 16: -45})[0].asked == 8


def test_of_those_within_the_spread_of_seeds_the_latents_that_come_back_decide():
    points = [point(6, -90, shared=9, spread=1), point(9, -86.5, shared=3, spread=1), point(12, -84, 6, spread=1)]
    best, reason = path.recommended(points)  # ELBO less l0: -96, -95.5, -96
    assert best.asked == 6
    assert "of 3 within the spread of seeds (1 nats), its latents come back best, stability 0.90" in reason
    assert path.recommended([one._replace(spread=0.1) for one in points])[0].asked == 9


def test_an_l0_that_training_did_not_come_to_and_unused_latents_are_passed_over():
    missed, empty, met = point(8, -10, asked=4.0), point(0.5, -1, used=0.0), point(6, -90)
    assert path.recommended([missed, empty, met])[0].asked == 6
    with pytest.raises(RunError, match=r"raise train\.steps"):
        path.recommended([missed, empty])


def test_what_the_model_finds_by_itself_can_be_the_best():
    best, reason = path.recommended([point(6, -80, asked=None), point(9, -90)])
    assert best.asked is None
    assert best.target is None
    assert reason.startswith("no target, where l0 is 6")


# ---- the command


def test_the_command_prints_the_path_and_writes_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # target and cap are held over hundreds of steps; in so few any l0 counts as met
    monkeypatch.setattr(path, "MET", 100.0)
    words = ["--steps", "20", "--latent-dim", "6", "--model.hidden", "[8]", "--choose", "l0", "--at", "2,4"]
    assert running.main(["tune", *words]) == 0
    text = capsys.readouterr().out
    assert "| target l0 | l0 " in text
    best = json.loads((tmp_path / "runs" / "tune-digits" / "l0.json").read_text())
    assert f"recommended: {best['reason']}" in text
    settings = f"--model.latent_dim 6 --model.hidden '[8]' --train.steps 20 --train.target_l0 {best['recommended']:g}"
    assert f"vsc train {settings}" in text
    folder = tmp_path / "runs" / "tune-digits"
    html = (folder / "l0.html").read_text()
    assert best["reason"] in html
    assert path.RULE.partition(":")[0] in html
    assert html.count("<img") == 1
    assert (folder / "l0.png").read_bytes().startswith(b"\x89PNG")


def test_another_choice_is_refused_in_one_line(capsys):
    assert running.main(["tune", "--choose", "l1"]) == 2
    err = capsys.readouterr().err
    assert err == "vsc: unknown choice 'l1'; one of: l0\n"
