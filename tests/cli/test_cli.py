"""The command line: every option from the dataclasses, one clear line for every mistake, and a whole pipeline."""

import os
import re
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import get_type_hints

import pytest

from vsc.cli import commands as cli
from vsc.cli.commands import COMMANDS
from vsc.cli.options import SHORT
from vsc.cli.running import main
from vsc.data import DATASETS
from vsc.model import HEADS, MODELS
from vsc.model.likelihoods import LIKELIHOODS
from vsc.model.nets import NETS
from vsc.model.priors import GATES, SELECTORS, SLABS
from vsc.model.scaling import SCALES
from vsc.model.spikes import SPIKES
from vsc.settings.commands import (
    Compare,
    Demo,
    Encode,
    Evaluate,
    Export,
    Impute,
    Push,
    Report,
    RunStudy,
    Sample,
    ShowData,
    TrainRun,
    Tune,
)
from vsc.settings.presets import PRESETS
from vsc.settings.upgrade import INSTEAD
from vsc.training import runs

KINDS = {"train": TrainRun, "compare": Compare, "evaluate": Evaluate, "encode": Encode, "sample": Sample}
KINDS |= {"impute": Impute, "report": Report, "data": ShowData, "study": RunStudy, "tune": Tune}
KINDS |= {"push": Push, "export": Export, "demo": Demo}
SMALL = ["--steps", "20", "--latent-dim", "6", "--model.hidden", "[16]", "--batch-size", "64", "--device", "cpu"]


def options(kind, prefix=""):
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        if is_dataclass(hint):
            yield from options(hint, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


# ---- help


def test_every_command_has_settings_of_its_own():
    assert {name: cli.takes(command) for name, command in COMMANDS.items()} == KINDS


def test_train_prints_the_last_validation_without_what_is_kept_of_each_latent(tmp_path, says):
    text = says("train", "--out", str(tmp_path / "run"), *SMALL)
    row = [row for row in runs.read_history(tmp_path / "run") if row["split"] == "valid"][-1]
    assert f"elbo         {row['elbo']:.4g}" in text
    assert f"dead         {row['dead']}" in text
    assert len(row["rates"]) == len(row["kl_latent"]) == 6
    assert "rates" not in text
    assert "[" not in text


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_the_overview_names_every_command(words, says):
    text = says(*words)
    for name in COMMANDS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_with_its_sentence(name, says):
    text = "".join(says(name, "-h").split())  # argparse breaks lines anywhere
    for option in options(KINDS[name]):
        assert f"--{option}" in text or f"{option}" in text
    assert "".join((KINDS[name].__doc__ or "").split()) in text
    assert "ofMISSING" not in text


@pytest.mark.parametrize("name", ["train", "compare"])
def test_help_names_every_registry_choice_and_short_form(name, says):
    text = "".join(says(name, "--help").split())
    assert f"Oneof:{','.join(DATASETS)}." in text
    listed = [set(found.split(",")) - {"auto"} for found in re.findall(r"\{([^}]*)\}", text)]
    for registry in (MODELS, NETS, LIKELIHOODS, SPIKES, HEADS, SCALES):
        assert set(registry) in listed
    for short, full in SHORT.items():
        assert f"{short}={full}" in text


def test_help_names_what_can_be_compared_and_shown(says):
    assert f"Oneof:{','.join(PRESETS)}." in "".join(says("compare", "--help").split())
    assert f"Oneof:{','.join(DATASETS)}." in "".join(says("data", "--help").split())


# ---- settings


@pytest.mark.parametrize("name", ["train", "compare"])
def test_printed_settings_fed_back_are_the_same(tmp_path, name, says, parse):
    words = [
        "--alpha",
        "0.3",
        "--model.hidden",
        "[8,4]",
        "--train.lr",
        "1e-3 -> 1e-5 at 0.5",
        "--data.binarise",
        "--steps",
        "7",
    ]
    printed = says(name, *words, "--print_config")
    (tmp_path / "mine.yaml").write_text(printed)
    assert says(name, "--config", "mine.yaml", "--print_config") == printed
    assert parse(name, "--config", "mine.yaml") == parse(name, *words)
    assert parse(name) == KINDS[name]()  # nothing given, nothing changed


def test_later_options_beat_the_yaml_file(tmp_path, parse):
    (tmp_path / "mine.yaml").write_text("model: {alpha: 0.3, latent_dim: 5}\ntrain:\n  steps: 9\n")
    config = parse("train", "--config", "mine.yaml", "--model.alpha", "0.2")
    assert (config.model.alpha, config.model.latent_dim, config.train.steps) == (0.2, 5, 9)
    assert config.model.net == "mlp"


def test_a_run_can_be_repeated_from_its_own_settings(run, tmp_path, parse):
    config = parse("train", "--config", f"{run}/config.yaml")
    saved = runs.read_config(Path(run))
    assert (config.data, config.model, config.train) == (saved.data, saved.model, saved.train)


def test_short_forms_stand_for_their_long_ones(parse):
    given = dict.fromkeys(SHORT, "1") | {"--data": "mnist", "--data-root": "x", "--model": "ae", "--net": "conv"}
    given |= {"--device": "cpu", "--likelihood": "gaussian", "--gates": "mixture", "--cap": "0.5"}
    config = parse("train", *(word for one in given.items() for word in one))
    assert config == parse("train", *(word for short, value in given.items() for word in (SHORT[short], value)))
    assert config == parse("train", *map("=".join, given.items()))
    for full in SHORT.values():
        where = attrgetter(full.removeprefix("--"))
        assert where(config) != where(TrainRun()), f"{full} was not given anything of its own"


def test_flags_need_no_value_and_take_one(parse):
    assert parse("train", "--overwrite").overwrite
    assert parse("train", "--overwrite", "true").overwrite
    assert not parse("train", "--overwrite", "false").overwrite
    assert parse("train", "--data.binarise", "--steps", "3").data.binarise
    assert not parse("train", "--data.binarise=false").data.binarise


def test_the_bare_word_may_stand_anywhere(parse):
    for words in (["here", "--split", "valid"], ["--split", "valid", "here"], ["--split=valid", "here"]):
        assert parse("evaluate", *words) == Evaluate("here", split="valid")
    assert parse("evaluate", "--run", "here") == Evaluate("here")
    assert parse("data", "--label", "kind", "mine.csv") == ShowData("mine.csv", label="kind")
    assert parse("train", "--label", "kind").data.label == "kind"
    assert parse("encode", "here", "--data-root", "there") == Encode("here", data_root="there")


# ---- wrong use


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (["nope"], COMMANDS),
        (["--nope"], COMMANDS),
        (["train", "--data", "nope"], DATASETS),
        (["train", "--model", "nope"], MODELS),
        (["train", "--net", "nope"], NETS),
        (["train", "--likelihood", "nope"], LIKELIHOODS),
        (["train", "--model.spikes", "nope"], SPIKES),
        (["train", "--model.head", "nope"], HEADS),
        (["train", "--gates", "nope"], GATES),
        (["train", "--model.slab", "nope"], SLABS),
        (["train", "--model.selector", "nope"], SELECTORS),
        (["train", "--data.scale", "nope"], SCALES),
        (["compare", "--models", "vae,nope"], PRESETS),
        (["data", "nope"], DATASETS),
    ],
)
def test_an_unknown_name_lists_the_choices(tmp_path, words, choices, fails):
    line = fails(*words)
    assert "'--nope'" in line or "'nope'" in line
    for choice in choices:
        assert choice in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latent-dim", "x"], "model.latent_dim must be a whole number, not x"),
        (["--latent-dim", "2.5"], "model.latent_dim must be a whole number, not 2.5"),
        (["--latent-dim", "0"], "latent_dim must be at least 1, not 0"),
        (["--model.hidden", "[0]"], "hidden widths must be at least 1"),
        (["--model.hidden", "5"], "model.hidden must be a list of whole numbers such as [400,200], not 5"),
        (["--model.hidden", "[x]"], "model.hidden must be"),
        (["--steps", "0"], "train.steps must be at least 1, not 0"),
        (["--steps", "x"], "train.steps must be a whole number or null, not x"),
        (["--steps"], "--train.steps needs a value"),
        (["--batch-size", "0"], "train.batch_size must be at least 1"),
        (["--gates", "fixed", "--alpha", "0"], "alpha is the prior probability that a latent is on, in (0, 1], not 0"),
        (
            ["--gates", "learned", "--alpha", "2"],
            "alpha is the prior probability that a latent is on, in (0, 1), not 2",
        ),
        (["--alpha", "0.5"], "model.alpha does nothing with model vsc, gates auto, slab auto"),
        (["--alpha", "nan"], "model.alpha must be a number, not nan"),
        (["--lr", "0"], "train.lr must be a positive number, not 0"),
        (["--lr", "1e-3 => 1e-4"], "train.lr: '1e-3 => 1e-4' is no schedule: it is a number, or corners"),
        (["--beta", "0 -> x"], "train.beta: '0 -> x' is no schedule"),
        (["--beta", "0 -> 1 at 2"], "train.beta: '0 -> 1 at 2': 'at' and 'over' are shares of the steps"),
        (["--beta", "0 -> 1 -> 2 at 0.5"], "say of each corner where it is"),
        (["--lr", "inf"], "train.lr"),
        (["--beta", "-1"], "train.beta"),
        (["--beta", ".inf"], "train.beta"),
        (["--seed", "-1"], "train.seed"),
        (["--seed", "99999999999999999999"], "train.seed"),
        (["--train.relaxation", "-1"], "train.relaxation must be a positive number"),
        (["--train.lam", "0 -> 2"], "train.lam must be in [0, 1]"),
        (["--train.patience", "-1"], "train.patience"),
        (["--train.valid_every", "0"], "train.valid_every"),
        (["--train.devices", "0"], "train.devices"),
        (["--train.devices", "3"], "multiple of the 3 processes"),
        (["--train.precision", "foo"], "precision"),
        (["--device", "foo"], "device"),
        (["--data.valid_fraction", "1.5"], "valid_fraction"),
        (["--data.valid_fraction", "x"], "data.valid_fraction must be a number, not x"),
        (["--data.binarise", "maybe"], ""),
        (["--data.binarise", "--data.scale", "standard"], "binarise"),
        (["--likelihood", "bernoulli", "--data.scale", "standard"], "bernoulli"),
        (["--likelihood", "gaussian-fixed", "--model.variance", "0"], "variance must be positive"),
        (["--model.components", "0"], "at least 1 component, not 0"),
        (["--model.components", "9999"], "model.components is 9999, more than there are training examples"),
        (["--model.nu", "-1"], "nu must be"),
        (["--gates", "learned", "--alpha", "1"], "in (0, 1), not 1"),
        (["--gates", "fixed", "--model.slab", "own"], "slab own is for gates of several components"),
        (["--model.slab_mean", "3"], "model.slab_mean does nothing with model vsc, gates auto, slab auto"),
        (["--target-l0", "-1"], "train.target_l0 must be a positive number, not -1"),
        (["--target-l0", "0"], "train.target_l0 must be a positive number, not 0"),
        (["--target-l0", "4 -> 0"], "train.target_l0 must be a positive number"),
        (["--target-l0", "4", "--model", "vae"], "train.target_l0 does nothing with model vae, likelihood"),
        (
            ["--target-l0", "4", "--gates", "fixed", "--alpha", "1"],
            "train.target_l0 does nothing with model vsc, gates fi",
        ),
        (["--target-l0", "40"], "train.target_l0 must be below the number of latents, 32, in the end, not 40"),
        (
            ["--target-l0", "8", "--cap", "0.2"],
            "train.target_l0 8 cannot be met: with train.cap 0.2, at most 6.4 of 32",
        ),
        (["--cap", "0"], "train.cap must be a positive number, not 0"),
        (["--cap", "1.5"], "train.cap is a share of the data, above 0 and at most 1, not 1.5"),
        (["--cap", "some"], "train.cap must be a number or null, not some"),
        (["--cap", "0.2", "--model", "vae"], "train.cap does nothing with model vae"),
        *(([f"--{name}", "3"], f"--{name} no longer exists; take ") for name in INSTEAD),
        (["--train.price=3"], "--train.price no longer exists; take --train.cap or --train.target_l0"),
        (["--prior", "learned"], "--prior no longer exists; take --model.gates, which is fixed, learned, mixture or"),
        (["--train.penalty", "-1"], "train.penalty"),
        (["--train.clip", "0"], "train.clip must be a positive number"),
        (["--nope", "3"], "unknown option --nope; vsc train --help lists all"),
        (["--latent-dims", "3"], "unknown option --latent-dims; did you mean --latent-dim?"),
        (["--resum"], "did you mean --resume?"),
        (["--train", "nope"], "train is a group of settings"),
        (["bare"], "unexpected 'bare'; did you mean --data bare?"),
        (["--model", "VSC"], "did you mean 'vsc'?"),
        (["--train.lam_hold=0.2"], "lam_hold is part of a schedule now: type --train.lam with a number"),
        (["--train.penalty_hold", "0.5"], "type --train.penalty or --train.target_l0 with a number"),
        (["--train.kl_warmup"], "type --train.beta with a number, or corners"),
        (["--config", "nope.yaml"], "nope.yaml"),
        (["--resume"], "not a run folder"),
        (["--resume", "--out", "nope"], "nope is not a run folder"),
        (["--data", ""], ""),
        (["--data", "nope.csv"], "nope.csv: no such file"),
    ],
)
def test_a_wrong_setting_is_one_clear_line_and_writes_nothing(tmp_path, words, message, fails):
    assert message in fails("train", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope: 3", "unknown setting nope"),
        ("train: {stepz: 5}", "unknown setting train.stepz"),
        ("train: {steps: many}", "train.steps must be a whole number or null, not many"),
        ("train: {steps: 0}", "train.steps must be at least 1"),
        ("train: [1", ""),
        ("3", ""),
        ("\0", ""),
    ],
)
def test_a_wrong_yaml_file_is_one_clear_line(tmp_path, text, message, fails):
    (tmp_path / "bad.yaml").write_text(text)
    assert message in fails("train", "--config", "bad.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize("name", ["evaluate", "report", "encode", "sample"])
def test_commands_on_runs_want_a_run(tmp_path, name, fails):
    assert "run is missing; see vsc" in fails(name)
    assert "nope" in fails(name, "nope")
    assert "unexpected 'other'" in fails(name, "nope", "other")
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(name, "empty")
    assert os.listdir(tmp_path) == ["empty"]


def test_wrong_use_of_the_other_commands(run, tmp_path, fails):
    assert "one of: train, valid, test" in fails("evaluate", run, "--split", "nope")
    assert "samples must be at least 1" in fails("evaluate", run, "--samples", "0")
    assert "one of: train, valid, test" in fails("encode", run, "--split", "nope")
    assert "out must end in .npz" in fails("encode", run, "--out", "codes.txt")
    assert "nope.csv" in fails("encode", run, "--data", "nope.csv")
    assert "n must be at least 1" in fails("sample", run, "--n", "0")
    assert "out must end in .npz or .png" in fails("sample", run, "--out", "x.txt")
    assert "seed" in fails("sample", run, "--seed", "-1")
    assert "name is missing" in fails("data")
    assert "out must end in .npz" in fails("data", "digits", "--out", "x.txt")
    assert "seeds must be at least 1" in fails("compare", "--seeds", "0")
    assert list(tmp_path.iterdir()) == []


# ---- failures


def test_debug_shows_the_whole_story(capsys, tmp_path):
    for words in (["train", "--latent-dim", "0", "--debug"], ["--debug", "train", "--latent-dim", "0"]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("vsc: ")


def break_with(monkeypatch, error):
    def broken(config: ShowData) -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "data", broken)


class LibraryError(Exception):
    code = 404


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            ZeroDivisionError("first\n   second"),
            1,
            "unexpected ZeroDivisionError: first second; run again with --debug",
        ),
        (AssertionError(), 1, "unexpected AssertionError"),
        (LibraryError("from a library"), 1, "unexpected LibraryError"),
        (OSError(28, "No space left on device", "x.npz"), 1, "No space left on device: x.npz"),
        (PermissionError(13, "Permission denied", "x.npz"), 1, "Permission denied: x.npz"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_failures_are_one_line_with_their_exit_code(monkeypatch, error, code, message, fails):
    break_with(monkeypatch, error)
    assert message in fails("data", "digits", code=code)


def test_a_reader_that_has_gone_is_no_failure(capsys, monkeypatch):
    break_with(monkeypatch, BrokenPipeError())
    out = cli.sys.stdout
    try:
        assert main(["data", "digits"]) == 0
    finally:
        cli.sys.stdout.close()
        cli.sys.stdout = out
    assert capsys.readouterr().err == ""


def test_a_loss_that_is_not_finite_exits_with_1(fails):
    line = fails("train", "--lr", "1e30", *SMALL, code=1)
    assert "stopped being finite at step" in line


@pytest.mark.parametrize("out", ["file/run", "file/deep/run"])
def test_a_folder_that_cannot_be_written_exits_with_1(tmp_path, run, out, fails):
    (tmp_path / "file").write_text("mine")
    assert "file" in fails("train", "--out", out, *SMALL, code=1)
    assert "file" in fails("encode", run, "--out", f"{out}.npz", code=1)
    assert "file" in fails("sample", run, "--out", f"{out}.npz", code=1)
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]


def test_a_damaged_run_exits_with_1(run, tmp_path, fails):
    folder = tmp_path / "copy"
    for path in Path(run).rglob("*.*"):
        target = folder / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if path.suffix != ".safetensors" else b"not weights")
    for name in ("evaluate", "report", "encode", "sample"):
        assert "damaged or not ours" in fails(name, "copy", code=1)
    assert not (folder / "results.json").exists()
