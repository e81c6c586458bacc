"""Tuning: reading a space, trials that are kept and gone on with, pruning, wrong requests, and the whole command."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vsc.cli import commands as cli
from vsc.cli import options, running
from vsc.errors import Interrupted, RunError, UsageError
from vsc.settings.commands import TrainRun, Tune
from vsc.settings.config import Config
from vsc.settings.presets import changed
from vsc.sweep import space, tune
from vsc.sweep.trials import open_study
from vsc.training.loop import runs, train

SMALL = {"train.steps": 20, "model.latent_dim": 3, "model.hidden": (8,), "train.valid_every": 4}
BASE = changed(Config(), SMALL)
TWO = "train.lr=1e-6|1e-2"


def ask(**settings):
    return Tune(BASE.data, BASE.model, BASE.train, **settings)


def search(folder, lines=None, **settings):
    return tune.tune(ask(**settings), folder, "vsc tune x", tell=(lines if lines is not None else []).append)


# ---- the space


def test_a_space_is_read():
    text = (
        "train.lr=1e-4..1e-2:log, model.latent_dim=8..64,model.hidden=[400]|[400, 400],train.relaxation=0.3..1,"
        "train.clip=null|1,model.gates=learned|fixed,train.steps=10..100:log"
    )
    found = {setting.name: setting for setting in space.parse(text)}
    assert found["train.lr"][1:4] == (1e-4, 1e-2, True)
    assert found["model.latent_dim"][1:4] == (8, 64, False)
    assert isinstance(found["model.latent_dim"].low, int)
    assert found["model.hidden"].extremes() == [(400,), (400, 400)]
    assert found["train.relaxation"].extremes() == [0.3, 1.0]
    assert isinstance(found["train.relaxation"].high, float)
    assert found["train.clip"].extremes() == [None, 1.0]
    assert found["model.gates"].value("learned") == "learned"
    assert space.parse(",".join(map(str, found.values()))) == tuple(found.values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train.lr", "'train.lr' must be SETTING=LOW..HIGH"),
        ("train.lr=", "must be SETTING=LOW..HIGH"),
        ("lr=1..2", "unknown setting 'lr'; did you mean train.lr?"),
        ("train.rl=1..2", "unknown setting 'train.rl'; did you mean train.lr?"),
        ("out=a|b", "unknown setting 'out'; vsc tune --help"),
        ("train.lr=1..2,train.lr=3..4", "train.lr is there twice"),
        ("train.lr=2..1", "must go from the lower to the higher"),
        ("train.lr=1..1", "must go from the lower to the higher"),
        ("model.slab_mean=0..1:log", "must begin above 0"),
        ("train.lr=1..2:lin", "train.lr: '2:lin' is no schedule: it is a number"),
        ("train.lr=1..2:logs", "more after :log"),
        ("train.lr=..2", "train.lr: '' is no schedule: it is a number"),
        ("train.lr=1..nan", "a schedule's values are finite numbers, not nan"),
        ("train.lr=0.1", "leaves no choice; to fix it, give --train.lr 0.1"),
        ("model.latent_dim=8..9.5", "model.latent_dim must be a whole number, not 9.5"),
        ("model.latent_dim=8|x", "model.latent_dim must be a whole number, not 'x'"),
        ("model.hidden=400|[400]", "model.hidden must be a list of whole numbers such as .*, not 400"),
        ("model.hidden=[1]..[2]", "model.hidden is no number; give choices"),
        ("train.clip=none|1", "train.clip must be a number or null, not 'none'"),
        ("data.scale=none|standard", "data.scale cannot be searched: numbers on different data"),
        ("train.seed=0..9", "train.seed cannot be searched: the best seed is a lucky one"),
        ("train.device=cpu|cuda", "train.device cannot be searched: it does not change"),
    ],
)
def test_what_is_wrong_with_a_space_is_said(text, says):
    with pytest.raises(UsageError, match=f"^space: .*{says}"):
        space.parse(text)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["model.latent_dim", "train.cap"]),
        ({"train.lr": 1e-3}, ["train.lr", "model.latent_dim", "train.cap"]),
        ({"model.gates": "fixed"}, ["model.latent_dim", "model.alpha"]),
        ({"model.gates": "learned"}, ["model.latent_dim", "train.cap"]),
        ({"model.name": "thresholded-laplace"}, ["model.latent_dim", "model.alpha"]),
        ({"train.target_l0": 2.0}, ["model.latent_dim"]),
        ({"model.name": "vae"}, ["model.latent_dim"]),
    ],
)
def test_the_default_space_suits_the_model(settings, names, tmp_path):
    config = changed(BASE, settings)
    assert [setting.name for setting in space.default(config)] == names
    tune._search(Tune(config.data, config.model, config.train), tmp_path)  # all of its ends can be trained


# ---- what is refused before anything is trained


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"trials": 0}, "trials must be at least 1, not 0"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
        ({"at": "3,6"}, "at and seeds are for --choose l0"),
        ({"seeds": 3}, "at and seeds are for --choose l0"),
        ({"metric": "elob"}, r"unknown metric 'elob'; did you mean 'elbo'\? one of: "),
        ({"metric": "l0"}, "neither more nor less l0 is better"),
        ({"metric": "knn"}, "'knn' is not a single number; choose one of: knn-100,"),
        ({"metric": "mig"}, "metric 'mig' needs factors"),
        ({"pruner": "x"}, "unknown pruner 'x'; one of: median, halving, none"),
        ({"space": "model.nu=-1..5"}, r"space: model.nu=-1..5: nu must be a positive number"),
        ({"space": "model.gates=learned|x"}, r"space: model.gates=learned\|x: unknown gates 'x'"),
        ({"space": "model.likelihood=bernoulli|gaussian"}, "elbo does not compare across model.likelihood"),
        ({"space": "model.name=vae|ae"}, "model ae has no ELBO"),
        ({"storage": "none/journal.log"}, "its folder does not exist"),
    ],
)
def test_wrong_requests(settings, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says):
        search(tmp_path / "out", **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metric", ["probe", "knn-100", "linear-100"])
def test_metrics_that_need_labels_are_refused_where_there_are_none(metric, tmp_path):
    table = tmp_path / "mine.csv"
    np.savetxt(table, np.random.default_rng(0).normal(size=(60, 3)), delimiter=",")
    config = replace(ask(metric=metric), data=replace(BASE.data, name=str(table)))
    with pytest.raises(UsageError, match="needs labels"):
        tune.tune(config, tmp_path / "out", "x")


def test_without_validation_examples_there_is_nothing_to_choose_by(tmp_path):
    config = replace(ask(), data=replace(BASE.data, valid_fraction=0.0))
    with pytest.raises(UsageError, match="valid split of digits is empty"):
        tune.tune(config, tmp_path / "out", "x")


# ---- the search


def test_the_better_of_two_settings_is_found_and_trials_are_kept(tmp_path):
    lines = []
    found = search(tmp_path, lines, space=TWO, trials=3)
    assert len(lines) == 5
    assert lines[2].startswith("[1/3] trial 1: train.lr ")
    assert found.best.settings == {"train.lr": 1e-2}
    assert found.best.value == max(one.value for one in found.tried)
    assert len(list((tmp_path / "runs").iterdir())) == 2  # the third is one of them again, found and not trained
    assert json.loads((found.job.folder / "results.json").read_text())["split"] == "valid"

    said = json.loads((tmp_path / "tune.json").read_text())
    assert (said["metric"], said["better"], said["split"], said["seed"]) == ("elbo", "higher", "valid", 0)
    assert [one["state"] for one in said["trials"]] == ["complete"] * 3
    assert said["trials"][0]["settings"].keys() == {"train.lr"}
    assert {"optuna", "torch", "python"} <= said["environment"].keys()

    lines.clear()
    more = search(tmp_path, lines, space=TWO, trials=4)
    assert lines[1] == "4 trials for the highest elbo, 3 of them there already"
    assert [line.split(":")[0] for line in lines[2:]] == ["[4/4] trial 4"]
    assert more.tried[:3] == found.tried
    lines.clear()
    assert search(tmp_path, lines, space=TWO, trials=4).tried == more.tried
    assert len(lines) == 2


@pytest.mark.parametrize("left", ["file", "link"])
def test_a_lock_and_half_a_line_that_a_killed_process_left_stop_no_search(tmp_path, monkeypatch, left):
    monkeypatch.chdir(tmp_path)
    kept = search(Path("t"), space=TWO, trials=1).tried
    if left == "link":
        Path("t/journal.log.lock").symlink_to("t/journal.log")  # as optuna's own, which then waits for ever
    else:
        Path("t/journal.log.lock").touch()
    with Path("t/journal.log").open("a") as journal:
        journal.write('{"op_code": 4, "trial_')
    begun = time.monotonic()
    assert search(Path("t"), space=TWO, trials=2).tried[:1] == kept
    assert time.monotonic() - begun < 20


def test_a_search_on_edited_data_begins_anew_and_says_so(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3))
    lines = []
    for shift, said in ((0.0, False), (1.0, True), (0.0, False)):
        np.savetxt(tmp_path / "mine.csv", x + shift * (np.arange(60) == 59)[:, None], delimiter=",")
        asked = replace(ask(space=TWO, trials=1), data=replace(BASE.data, name=str(tmp_path / "mine.csv")))
        lines.clear()
        tune.tune(asked, tmp_path / "out", "x", tell=lines.append)
        assert any("the data have changed since" in line for line in lines) == said
    assert "1 trials for the highest elbo, 1 of them there already" in lines


def test_a_trial_of_a_process_that_died_is_taken_up_with_its_settings(tmp_path, monkeypatch):
    real = tune.finish
    monkeypatch.setattr(tune, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, space="train.lr=1e-4..1e-2:log", trials=1)
    (journal,) = tmp_path.glob("journal.log")
    study = open_study(str(journal), tune_name(journal), "maximize")
    (trial,) = study.trials
    assert trial.state.name == "RUNNING"
    monkeypatch.setattr(tune, "finish", real)
    found = search(tmp_path, space="train.lr=1e-4..1e-2:log", trials=1)
    assert found.best.settings == trial.params


def test_another_question_in_the_same_folder_is_another_search(tmp_path):
    search(tmp_path, space=TWO, trials=1)
    lines = []
    found = search(tmp_path, lines, space=TWO, trials=1, metric="mse")
    assert "for the lowest mse, 0 of them" in lines[1]
    assert found.best.value == runs_mse(found)


def runs_mse(found):
    return json.loads((found.job.folder / "results.json").read_text())["scores"]["mse"]


def test_a_search_can_be_repeated_and_goes_on_as_if_it_had_not_been_interrupted(tmp_path, monkeypatch):
    asked = {"space": "train.lr=1e-4..1e-2:log,model.latent_dim=2..9", "trials": 4}
    whole = search(tmp_path / "a", **asked)
    real, calls = tune.finish, []

    def stop_once(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted("stopped at step 5 of 20", "x", signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(tune, "finish", stop_once)
    with pytest.raises(Interrupted) as error:
        search(tmp_path / "b", **asked)
    assert str(error.value) == "stopped with 2 of 4 trials ended; go on with: vsc tune x"
    assert error.value.code == 143
    assert search(tmp_path / "b", **asked).tried == whole.tried


def test_a_metric_of_the_codes_can_be_the_aim(tmp_path):
    found = search(tmp_path, space=TWO, trials=2, metric="knn-100")
    assert 0 <= found.best.value <= 1
    assert found.search.better == "higher"
    assert json.loads((tmp_path / "tune.json").read_text())["pruner"] == "none"


def test_a_trial_that_fails_is_kept_and_the_others_go_on(tmp_path, monkeypatch):
    real = tune.finish

    def fail(job, *others):
        if job.config.train.lr == 1e-6:
            raise RunError("the loss stopped being finite")
        return real(job, *others)

    monkeypatch.setattr(tune, "finish", fail)
    lines = []
    found = search(tmp_path, lines, space=TWO, trials=3)
    failed = [one for one in found.tried if one.state == "failed"]
    assert failed
    assert failed[0].problem == "the loss stopped being finite"
    assert any("train.lr 1e-06: failed: the loss stopped being finite" in line for line in lines)
    monkeypatch.setattr(tune, "finish", lambda *_: fail(found.job._replace(config=changed(BASE, {"train.lr": 1e-6}))))
    with pytest.raises(RunError, match="none of 1 trials came to a good end; the last: the loss"):
        search(tmp_path / "other", space=TWO, trials=1)


def test_a_bad_run_is_stopped_early(tmp_path, monkeypatch):
    """Four trials that learn, then one that does not: it ends at a validation below the median of theirs."""
    rates = iter([0.01, 0.01, 0.01, 0.01, 1e-7])

    def suggest(setting, trial):
        rate = next(rates)
        return trial.suggest_float(setting.name, rate, rate)

    monkeypatch.setattr(space.Setting, "suggest", suggest)
    lines = []
    found = search(tmp_path, lines, space="train.lr=1e-7..0.1", trials=5)
    assert [one.state for one in found.tried] == ["complete"] * 4 + ["pruned"]
    assert "trial 5: train.lr 1e-07: stopped early at elbo -" in lines[-1]
    folder = tmp_path / "runs" / found.tried[-1].run
    assert not runs.is_finished(folder)
    last = runs.read_history(folder)[-1]
    assert last["step"] < 20
    assert found.tried[-1].value == last["elbo"]
    assert found.best.trial == "trial 1"


def test_training_shows_each_validation_to_who_watches(tmp_path):
    rows = []
    train(tune.dataset(BASE.data), BASE, tmp_path / "run", watch=rows.append)
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20]
    logged = [row for row in runs.read_history(tmp_path / "run") if row["split"] == "valid"]
    assert [row["elbo"] for row in rows] == [row["elbo"] for row in logged]


# ---- the command


def says(capsys, *words):
    assert running.main(words) == 0
    return capsys.readouterr().out


def test_the_help_says_what_can_be_searched_and_aimed_at(capsys):
    text = " ".join(says(capsys, "tune", "--help").split())
    assert "the test set is never looked at" in text
    assert "SETTING=LOW..HIGH:log" in text
    assert "One of: elbo, log_px, mse, denoise_mse, denoise_psnr, probe, mig," in text
    assert "{median,halving,none}" in text
    assert "By default model.latent_dim from half to twice its value" in text


def test_the_command_prints_a_table_and_what_to_type_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--steps", "20", "--latent-dim", "3", "--model.hidden", "[8]", "--space", TWO, "--trials", "2"]
    text = says(capsys, "tune", *words)
    assert "| trial | train.lr | elbo " in text
    assert "2 trials on the validation part: 2 complete, 0 stopped early, 0 failed" in text
    command = next(line for line in text.splitlines() if line.startswith("train with them: vsc train "))
    expected = "vsc train --model.latent_dim 3 --model.hidden '[8]' --train.steps 20 --train.lr 0.01"
    assert command.endswith(expected)
    saved = yaml.safe_load((tmp_path / "runs" / "tune-digits" / "best.yaml").read_text())
    assert saved["train"]["lr"] == 0.01
    config = options.parse("train", TrainRun, ["--config", "runs/tune-digits/best.yaml"])
    assert config.model.hidden == (8,)
    says(capsys, "train", "--config", "runs/tune-digits/best.yaml", "--out", "again")
    folder = next(line for line in text.splitlines() if "vsc evaluate" in line).split("evaluate ")[1].split()[0]
    assert (tmp_path / folder / "metrics.jsonl").is_file()
    a, b = (
        [row["elbo"] for row in runs.read_history(tmp_path / one) if row["split"] == "valid"]
        for one in (folder, "again")
    )
    assert a == pytest.approx(b)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host/db",
        "postgresql://me:sec@secret@host/db",
        "postgresql://host/db?user=me&password=secret",
        "mysql+pymysql://me@host/db?ssl_key=a&passwd=secret&charset=utf8",
    ],
)
@pytest.mark.parametrize("form", ["--storage {}", "--storage={}"])
def test_a_password_is_written_nowhere(monkeypatch, url, form):
    monkeypatch.setattr(sys, "argv", ["vsc", "tune", *form.format(url).split(), "--trials", "3"])
    assert "secret" not in cli._command()
    assert "host/db" in cli._command()
    with pytest.raises(UsageError) as error:
        open_study(url.replace("postgresql", "nosuch"), "x", "maximize")
    assert "secret" not in str(error.value)


@pytest.mark.slow
def test_several_workers_divide_the_trials(tmp_path):
    found = search(tmp_path, space="train.lr=1e-4..1e-2:log", trials=5, workers=2, storage=f"sqlite:///{tmp_path}/x.db")
    assert [one.trial for one in found.tried] == [f"trial {i}" for i in range(1, 6)]
    assert len(list((tmp_path / "runs").iterdir())) == 5


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupted_search_says_how_to_go_on_and_keeps_its_runs(tmp_path, workers):
    words = ["--steps", "100000", "--latent-dim", "3", "--model.hidden", "[8]", "--workers", workers, "--trials", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "vsc", "tune", *words, "--train.checkpoint_every", "50"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for _ in range(600):
            if len(list(tmp_path.glob("runs/*/runs/*/checkpoints/last.pt"))) == int(workers):
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert err.startswith("vsc: stopped with 0 of 2 trials ended; go on with: vsc tune --steps 100000")
    assert err.count("\n") == 1
    (journal,) = tmp_path.glob("runs/*/journal.log")
    study = open_study(str(journal), tune_name(journal), "maximize")
    assert {trial.state.name for trial in study.trials} == {"RUNNING"}


def tune_name(journal):
    return next(json.loads(line)["study_name"] for line in journal.read_text().splitlines() if "study_name" in line)
