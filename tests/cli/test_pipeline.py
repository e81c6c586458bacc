"""Commands on runs, and the whole way from data to codes, samples and pages."""

import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vsc.cli import commands as cli
from vsc.cli.running import main
from vsc.data import from_arrays, load
from vsc.settings import presets
from vsc.settings.config import Config, TrainConfig, as_plain
from vsc.settings.presets import PRESETS
from vsc.training import runs
from vsc.training.loop import train

SMALL = ["--steps", "20", "--latent-dim", "6", "--model.hidden", "[16]", "--batch-size", "64", "--device", "cpu"]


# ---- runs


def test_a_run_that_exists_is_refused_resumed_or_replaced(tmp_path, says, fails):
    assert "runs/digits-vsc" in says("train", *SMALL)
    assert "--resume" in fails("train", *SMALL)
    model = (tmp_path / "runs/digits-vsc/model/model.safetensors").read_bytes()
    assert "runs/digits-vsc" in says("train", "--resume")  # with its own settings, not the defaults
    assert "choose one" in fails("train", "--resume", "--overwrite")
    says("train", "--overwrite", *SMALL, "--seed", "1")
    assert (tmp_path / "runs/digits-vsc/model/model.safetensors").read_bytes() != model


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "30"], "train.steps 20, not 30"),
        (["--alpha", "0.2", "--train.penalty", "1"], "model.alpha 0.1, not 0.2"),
        (["--gates", "fixed", "--model.components", "null", "--model.slab", "auto"], "pseudo-inputs, not fixed"),
        (["--latent-dim", "32"], "model.latent_dim 6, not 32"),  # the default, but asked for
        (["--model", "vae"], "model.name vsc, not vae"),
        (["--data.seed", "3"], "data.seed 0, not 3"),
    ],
)
def test_resuming_with_contradicting_settings_is_refused(run, words, message, fails):
    assert message in fails("train", "--out", run, "--resume", *words)


def test_resuming_with_the_settings_repeated_is_fine(run, tmp_path, says, fails):
    says("train", "--out", run, "--resume", *SMALL, "--likelihood", "auto")
    (tmp_path / "mine.yaml").write_text("train: {steps: 21}")
    assert "train.steps 20, not 21" in fails("train", "--config", "mine.yaml", "--out", run, "--resume")


def test_early_stopping_reports_the_validation_that_was_kept(tmp_path, says):
    out = says("train", *SMALL, "--lr", "0.05", "--train.valid_every", "1", "--train.patience", "4")
    scores = {
        row["step"]: row["elbo"] for row in runs.read_history(tmp_path / "runs/digits-vsc") if row["split"] == "valid"
    }
    best = max(scores, key=lambda step: scores[step])
    assert re.search(rf"step +{best}\n", out)


# ---- the whole pipeline


def arrays(path):
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def test_evaluate_writes_results_and_prints_a_table(run, says):
    out = says("evaluate", run, "--samples", "2")
    results = yaml.safe_load((Path(run) / "results.json").read_text())
    assert (results["split"], results["examples"], results["samples"]) == ("test", 360, 2)
    assert f"{results['scores']['elbo']:.2f}" in out
    assert "ELBO" in out
    first = results["scores"]
    says("evaluate", run, "--samples", "2")
    assert yaml.safe_load((Path(run) / "results.json").read_text())["scores"] == first
    says("evaluate", run, "--split", "valid")
    assert yaml.safe_load((Path(run) / "results.json").read_text())["examples"] == 144


def test_evaluate_measures_the_importance_weighted_bound_if_asked(run, says, fails):
    assert "IWAE" not in says("evaluate", run)
    assert "IWAE" in says("evaluate", run, "--iwae", "20")
    results = yaml.safe_load((Path(run) / "results.json").read_text())
    assert results["iwae_draws"] == 20
    assert results["scores"]["iwae"] > results["scores"]["elbo"]
    assert "iwae is a number of draws" in fails("evaluate", run, "--iwae", "0")


def test_evaluate_measures_metrics_and_their_parts(run, says):
    out = says("evaluate", run, "--metrics", "hoyer, linear, knn-1000")
    results = yaml.safe_load((Path(run) / "results.json").read_text())
    assert set(results["metrics"]) == {"hoyer", "linear-100", "linear-1000", "linear-5000", "knn-1000"}
    assert f"{results['metrics']['hoyer']:.4g}" in out
    assert "| no latents" in out


def test_metrics_that_cannot_be_are_refused_before_anything_is_measured(run, says, fails):
    says("evaluate", run)
    before = (Path(run) / "results.json").read_bytes()
    assert "unknown metric 'nope'; one of: mig" in fails("evaluate", run, "--metrics", "nope")
    assert "metric 'mig' needs factors" in fails("evaluate", run, "--metrics", "hoyer,mig")
    assert before == (Path(run) / "results.json").read_bytes()


def test_a_collapsed_run_says_so_and_names_the_setting(tmp_path, says):
    words = ["--gates", "fixed", "--alpha", "0.0001", "--beta", "1000", "--out", str(tmp_path / "r")]
    out = says("train", *SMALL, "--steps", "300", *words)
    assert "CAUTION: the model has collapsed" in out
    assert "model.alpha" in out
    assert "CAUTION" in says("evaluate", str(tmp_path / "r"))
    assert "CAUTION: the model is worse than a model without latents" in out  # with such a weight of the KL


def test_a_bound_that_leans_on_the_variance_floor_says_so(tmp_path, says):
    np.save(tmp_path / "x.npy", np.hstack([np.random.default_rng(0).normal(size=(200, 2)), np.ones((200, 3))]))
    run = str(tmp_path / "r")
    words = ["--data.scale", "none", "--likelihood", "gaussian", "--model.variance_floor", "0.2", "--lr", "1e-2"]
    says("train", "--data", str(tmp_path / "x.npy"), *SMALL, "--steps", "100", *words, "--out", run)
    out = says("evaluate", run)
    assert "variance floor 0.2" in out
    assert "CAUTION: the model leans on model.variance_floor" in out


def test_report_writes_a_page_on_a_run(run, tmp_path, says):
    assert f"{run}/report.html" in says("report", run)
    page = (Path(run) / "report.html").read_text(encoding="utf-8")
    assert "VSC on digits" in page
    assert "360 test examples" in page.replace("\u202f", "")
    says("report", run, "--split", "valid", "--out", "deep/er/mine.html")
    assert "144 validation examples" in (tmp_path / "deep/er/mine.html").read_text(encoding="utf-8")


def test_what_a_report_cannot_be_of_is_said_in_one_line(run, table, tmp_path, says, fails):
    assert "split must be test or valid, not 'train'" in fails("report", run, "--split", "train")
    assert "out must end in .html" in fails("report", run, "--out", "page.pdf")
    unfinished = tmp_path / "unfinished"
    runs.create(unfinished, runs.read_config(Path(run)))
    assert "no trained model; finish its run" in fails("report", "unfinished")
    says("train", "--data", "mine.csv", *SMALL, "--out", "run")
    Path("mine.csv").write_text(Path("mine.csv").read_text().replace("a,b,c", "a,x,c"))
    assert "the columns are not those of the model" in fails("report", "run")
    Path("mine.csv").unlink()
    assert "mine.csv" in fails("report", "run")
    (tmp_path / "file").write_text("mine")
    assert "file" in fails("report", run, "--out", "file/report.html", code=1)
    assert (tmp_path / "file").read_text() == "mine"


def test_encode_writes_the_codes_of_the_test_set(run, says):
    assert "360 codes of 6 latents" in says("encode", run)
    codes, digits = arrays("codes.npz"), load("digits")
    assert {name: array.shape for name, array in codes.items()} == {
        "z": (360, 6), "hard": (360, 6), "gamma": (360, 6), "mu": (360, 6), "y": (360,), "rows": (360,)
    }  # fmt: skip
    np.testing.assert_array_equal(codes["rows"], digits.test.index)
    np.testing.assert_array_equal(codes["z"], codes["gamma"] * codes["mu"])
    np.testing.assert_array_equal(codes["hard"], np.where(codes["gamma"] > 0.5, codes["mu"], 0))
    assert (codes["hard"] == 0).any()
    assert digits.test.y is not None
    np.testing.assert_array_equal(codes["y"], digits.test.y.numpy())
    ours = runs.load(run).encode(digits.test.x)
    np.testing.assert_array_equal(codes["mu"], ours.mu.numpy())
    says("encode", run, "--split", "valid", "--out", "deep/er/valid.npz")
    assert len(arrays("deep/er/valid.npz")["z"]) == 144


def test_sample_writes_what_the_prior_holds(says):
    says("train", *SMALL, "--gates", "fixed", "--out", run := "fixed")
    says("sample", run, "--n", "500", "--out", "a.npz")
    says("sample", run, "--n", "500", "--out", "b.npz")
    says("sample", run, "--n", "500", "--out", "c.npz", "--seed", "1")
    a, b, c = arrays("a.npz"), arrays("b.npz"), arrays("c.npz")
    assert a["x"].shape == (500, 1, 8, 8)
    assert a["z"].shape == (500, 6)
    np.testing.assert_array_equal(a["x"], b["x"])
    assert not np.array_equal(a["x"], c["x"])
    on = (a["z"] != 0).mean()  # alpha is 0.1
    assert on == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 3000))
    says("sample", run, "--n", "5", "--out", "samples.png")
    assert Path("samples.png").read_bytes().startswith(b"\x89PNG")


def test_an_ae_has_nothing_to_sample_from(tmp_path, says, fails):
    says("train", "--model", "ae", *SMALL, "--out", "ae")
    assert "no prior" in fails("sample", "ae")
    assert "evaluate ae" in says("train", "--out", "ae", "--resume")
    assert "–" in says("evaluate", "ae")
    assert [path.name for path in tmp_path.iterdir()] == ["ae"]


def test_data_says_what_is_there_and_its_file_can_be_trained_on(says):
    out = says("data", "digits", "--out", "digits.npz")
    assert "1293 train, 144 valid, 360 test" in out
    found = arrays("digits.npz")
    assert {name: len(array) for name, array in found.items() if name[:2] in ("x", "y", "x_", "y_")} == {
        "x": 1293, "x_valid": 144, "x_test": 360, "y": 1293, "y_valid": 144, "y_test": 360
    }  # fmt: skip
    assert set(found) - {"shape", "high", "classes"} == {name + end for name in "xy" for end in ("", "_valid", "_test")}
    says("train", "--data", "digits.npz", *SMALL)
    says("evaluate", "runs/digits-vsc")


def test_training_that_stopped_early_says_which_weights_are_kept(table, says):
    words = [*SMALL, "--steps", "400", "--lr", "0.03", "--train.valid_every", "10", "--out", "run"]
    out = says("train", "--data", "mine.csv", *words)
    rows = [row for row in runs.read_history(Path("run")) if row["split"] == "valid"]
    best = max(rows, key=lambda row: row["elbo"])["step"]
    assert rows[-1]["step"] == best + 30
    assert f"kept: the weights of step {best} of 400, the best on the validation part" in out
    assert "kept:" not in says("train", "--data", "mine.csv", *SMALL, "--train.patience", "0", "--out", "other")


def test_data_that_have_changed_since_are_said_and_those_of_python_are_not_guessed(table, says, fails):
    says("train", "--data", "mine.csv", *SMALL, "--out", "run")
    for words in (["evaluate", "run"], ["report", "run"], ["encode", "run"]):
        assert "have changed" not in says(*words)
    lines = Path("mine.csv").read_text().splitlines()
    Path("mine.csv").write_text("\n".join(lines[:20] + lines[25:]) + "\n")
    for words in (["evaluate", "run"], ["report", "run"], ["encode", "run"]):
        assert "CAUTION: the data have changed since: 25 training examples, not 29" in says(*words)
    x = np.random.default_rng(0).normal(size=(40, 64))
    train(from_arrays(x.reshape(40, 1, 8, 8)), Config(train=TrainConfig(steps=2)), "python")
    assert "trained in Python, on data called 'array'" in fails("evaluate", "python")


@pytest.fixture
def table(tmp_path):
    """Write a .csv file of 40 rows, with 5 numbers each around one of two centres, and a label."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 5)) + 4 * np.arange(40)[:, None] % 2
    lines = [",".join([*(f"{value:.4f}" for value in row), "ab"[i % 2]]) for i, row in enumerate(x)]
    (tmp_path / "mine.csv").write_text("\n".join(["a,b,c,d,e,label", *lines]) + "\n")
    return x


def test_a_table_of_the_users_own_goes_the_whole_way(table, says):
    assert "classes: a, b" in says("data", "mine.csv")
    says("train", "--data", "mine.csv", *SMALL, "--out", "run")
    saved = runs.read_config(Path("run"))
    assert (saved.data.scale, saved.model.likelihood, saved.train.patience) == ("standard", "gaussian-shared", 3)
    says("evaluate", "run")
    says("encode", "run", "--data", "mine.csv", "--out", "codes.npz")
    codes = arrays("codes.npz")
    assert codes["z"].shape == (40, 6)  # all rows, in their order
    one = runs.load("run").encode(np.array([[float(f"{value:.4f}") for value in table[7]]], dtype=np.float32))
    np.testing.assert_allclose(codes["mu"][7], one.mu[0].numpy(), rtol=1e-5, atol=1e-6)
    assert codes["y"].tolist() == ["a", "b"] * 20
    says("encode", "run", "--out", "test.npz")
    assert len(arrays("test.npz")["z"]) == 8


def test_encoding_a_file_of_another_width_is_refused(run, table, tmp_path, fails):
    line = fails("encode", run, "--data", "mine.csv")
    assert "64" in line
    assert "5" in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


def test_compare_prints_the_table_and_where_the_report_is(tmp_path, undrawn, says, fails):
    out = says("compare", "--models", "ae,vsc", *SMALL)
    assert out.index("| AE ") < out.index("| VSC ")
    assert "runs/compare-digits/report.html" in out
    assert (tmp_path / "runs/compare-digits/report.html").is_file()
    told = out[out.index("What the sparse code of VSC buys, and what it costs:") :]
    assert "latents per input" in told
    for code in ("VSC", "AE, cut to its", "AE, all", "no latents"):
        assert f"| {code}" in told
    assert "probe: of the mean codes in the first table" in out
    assert "FVU" not in out  # of pictures
    assert "--resume" in fails("compare", "--models", "ae,vsc", *SMALL)


def test_vectors_with_squared_errors_have_a_share_that_is_not_explained(says):
    x = np.random.default_rng(0).normal(3, [1, 2, 5, 1, 9], (200, 5)).astype(np.float32)
    np.save("x.npy", x)
    asked = {"data": "x.npy", "model": "topk", "target-l0": 2, "latent-dim": 6, "steps": 20, "out": "r"}
    says("train", *(f"--{name}={value}" for name, value in asked.items()))
    out = says("evaluate", "r")
    head, _, row, baseline, *_ = ([cell.strip(" |") for cell in line.split("| ")] for line in out.splitlines())
    test = from_arrays(x).test.x
    model = runs.load("r")
    lost = test - model.scaler.inverse(model.decode(model.encode(test).hard)).detach()
    share = (lost.square().sum() / (test - test.mean(0)).square().sum()).item()
    assert row[head.index("FVU")] == f"{share:.3f}"
    assert baseline[head.index("FVU")] == "1.000"


def test_the_demo_compares_in_folders_of_its_own(monkeypatch, says, parse):
    made = []
    monkeypatch.setattr(cli, "_compare", lambda *given: made.append(given))
    out = says("demo", "--out", "shown")
    for (config, typed), name in zip(made, presets.DEMO, strict=True):
        assert set(config.models.split(",")) <= PRESETS.keys()
        assert (config.data.name, config.out, config.overwrite) == (name, f"shown/{name}", True)
        assert f"$ {typed}\n" in out
        assert parse("compare", *shlex.split(typed)[2:]) == config
    assert made[1][0].train.cap == 0.55


def test_columns_are_known_by_their_names(table, says, fails):
    says("train", "--data", "mine.csv", *SMALL, "--out", "run")
    says("encode", "run", "--data", "mine.csv")
    before, expected = arrays("codes.npz"), runs.load("run").encode(load("mine.csv").test.x)
    text = Path("mine.csv").read_text()
    rows = [line.split(",") for line in text.split()]
    turned = "\n".join(",".join([*row[4::-1], row[5]]) for row in rows) + "\n"
    Path("turned.csv").write_text(turned)
    says("encode", "run", "--data", "turned.csv")
    np.testing.assert_array_equal(arrays("codes.npz")["mu"], before["mu"])
    Path("mine.csv").write_text(turned)
    says("encode", "run")
    np.testing.assert_array_equal(arrays("codes.npz")["mu"], expected.mu)
    Path("codes.npz").unlink()
    Path("mine.csv").write_text(text.replace("a,b,c", "a,b,f"))
    for words in (["encode", "run"], ["encode", "run", "--data", "mine.csv"], ["evaluate", "run"], ["report", "run"]):
        line = fails(*words)
        assert "mine.csv: the columns are not those of the " in line  # model, or training data
        assert "(no 'c'; unknown 'f')" in line
    assert not Path("codes.npz").exists()


def test_data_says_how_values_are_taken_and_what_to_type_for_the_other_reading(table, says):
    grey = np.random.default_rng(0).integers(0, 256, (20, 6, 5))
    np.savez("grey.npz", x=grey.astype(np.uint8))
    np.savez("wide.npz", x=grey.astype(np.uint16))
    np.savez("float.npz", x=grey.astype(float))
    other = "--data.scale unit-interval --model.likelihood bernoulli"
    for name in ("wide.npz", "float.npz", "mine.csv"):
        out = says("data", name)
        assert "by default: scale standard, likelihood gaussian" in out
        assert ("save them as uint8" in out) == (name != "mine.csv")
        assert other in out
        says("train", "--data", name, *SMALL, *other.split(), "--overwrite", "--out", "run")
    out = says("data", "grey.npz")
    assert "by default: scale unit-interval, likelihood gaussian-shared; for measurements: --data.scale standard" in out


@pytest.mark.parametrize(("columns", "low", "hinted"), [(64, -1.0, True), (64, 0.0, False), (20, -1.0, False)])
def test_data_names_the_linear_models_where_rows_may_be_activations(columns, low, hinted, says):
    np.save("x.npy", np.random.default_rng(0).uniform(low, 1, (40, columns)))
    assert ("--model vsc-linear" in says("data", "x.npy")) == hinted


def test_a_name_that_is_no_data_set_and_not_there_says_both(fails):
    said = fails("data", "missing_folder")
    assert "folder 'missing_folder'" in said


def test_data_lists_few_of_many_names(says):
    names = [f"column{i}" for i in range(3000)]
    np.savez("wide.npz", x=np.random.default_rng(0).normal(size=(20, 3000)), features=names)
    out = says("data", "wide.npz")
    assert "column49 and 2950 more" in out
    assert "column50" not in out


@pytest.mark.parametrize("option", ["--n", "--presence", "--seed"])
def test_new_smileys_are_made_in_python(option, fails):
    line = fails("data", "smiley", option, "3")
    code = line.partition('-c "')[2].partition('"')[0].replace("60000", "20")
    exec(code)
    assert len(arrays("faces.npz")["x"]) == 20


@pytest.mark.parametrize("words", [["data"], ["train", *SMALL, "--data"], ["encode", "RUN", "--data"]])
def test_a_name_with_a_home_that_is_not_there(run, words, fails):
    words = [run if word == "RUN" else word for word in words]
    assert "no such user" in fails(*words, "~nobody-of-this-name/x.csv")


def test_samples_of_a_table_are_in_its_own_units(table, says):
    says("train", "--data", "mine.csv", *SMALL, "--out", "run")
    says("sample", "run", "--n", "5")
    x, z = arrays("samples.npz")["x"], torch.from_numpy(arrays("samples.npz")["z"])
    model = runs.load("run")
    mean, std = model.scaler.shift.numpy(), 1 / model.scaler.factor.numpy()
    np.testing.assert_allclose(x, model.decode(z).detach().numpy() * std + mean, rtol=1e-4, atol=1e-5)


def test_a_resumed_comparison_takes_up_its_settings(tmp_path, parse):
    folder = tmp_path / "mine"
    folder.mkdir()
    asked = parse("compare", "--latent-dim", "7", "--models", "vae,vsc", "--seeds", "2", "--out", str(folder))
    kept = {
        name: value for name, value in as_plain(asdict(asked)).items() if name not in ("out", "resume", "overwrite")
    }
    (folder / "comparison.yaml").write_text(yaml.safe_dump(kept))
    again = parse("compare", "--resume", "--out", str(folder))
    assert again == replace(asked, resume=True)


def test_a_folder_of_shards_that_stays_on_disk_goes_the_whole_way(capsys, tmp_path, monkeypatch, fails):
    monkeypatch.setattr("vsc.data.reading.IN_MEMORY", 0)
    monkeypatch.setattr("vsc.data.batches.GROUP", 60 * (4 * 5 + 32))
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(400, 5))
    Path("shards").mkdir()
    np.save("shards/0.npy", x[:150])
    np.save("shards/1.npy", x[150:])
    np.save("shards/y.npy", np.arange(400) % 2)
    assert main(["data", "shards/"]) == 0
    printed = capsys.readouterr().out
    train = from_arrays(x).train.x
    assert "288 train, 32 valid, 80 test" in printed
    assert f"values from {train.min():g} to {train.max():g}, mean {train.mean(dtype=torch.float64):.4g}" in printed
    words = ["--latent-dim", "3", "--steps", "20", "--train.batch_size", "16", "--device", "cpu"]
    assert main(["train", "--data", "shards/", *words]) == 0
    assert "vsc encode runs/shards-vsc --data shards/" in capsys.readouterr().out
    assert main(["evaluate", "runs/shards-vsc"]) == 0
    assert main(["encode", "runs/shards-vsc", "--data", "shards/", "--out", "all.npz"]) == 0
    assert main(["encode", "runs/shards-vsc", "--split", "train", "--out", "train.npz"]) == 0
    capsys.readouterr()
    with np.load("all.npz") as codes, np.load("train.npz") as of_train:
        assert np.array_equal(codes["y"], np.arange(400) % 2)
        model = runs.load("runs/shards-vsc")
        np.testing.assert_allclose(codes["z"], model.encode(x).z, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(of_train["z"], model.encode(train).z, rtol=1e-5, atol=1e-6)
    assert main(["evaluate", "runs/shards-vsc", "--split", "train"]) == 2
    assert main(["data", "shards/", "--out", "all.npz"]) == 2
    assert capsys.readouterr().err.count("on disk") == 2
    assert "data.drop is for tables" in fails("data", "shards/", "--drop", "a")


def test_a_run_on_a_file_is_measured_from_another_folder(tmp_path, monkeypatch, says, fails):
    rng = np.random.default_rng(0)
    (tmp_path / "there").mkdir()
    np.save(tmp_path / "there" / "mine.npy", rng.normal(size=(60, 4)))
    monkeypatch.chdir(tmp_path / "there")
    assert main(["train", "--data", "mine.npy", "--steps", "5", "--latent-dim", "2", "--out", "../run"]) == 0
    monkeypatch.chdir(tmp_path)
    assert "say with --data-root in which folder it lies" in fails("evaluate", "run")
    assert "12 test examples" in says("evaluate", "run", "--data-root", "there")


def test_encode_says_what_raising_a_latent_does_with_the_sign_of_the_report(tmp_path, says):
    table = tmp_path / "mine.csv"
    size = np.random.default_rng(0).normal(size=(200, 1))
    rows = np.concatenate([size, -size, 0.1 * np.random.default_rng(1).normal(size=(200, 1))], 1)
    table.write_text("up,down,noise\n" + "\n".join(",".join(f"{v:.4f}" for v in row) for row in rows))
    words = ["--data", str(table), "--model", "vae", "--latent-dim", "1", "--steps", "300"]
    assert main(["train", *words, "--out", str(tmp_path / "r")]) == 0
    said = says("encode", str(tmp_path / "r"), "--data", str(table), "--out", str(tmp_path / "c.npz"))
    line = next(line for line in said.splitlines() if line.startswith("  latent   0, "))
    assert float(line.split()[2]) > 0.1  # nats: without it, two of the columns are known no better than by their means
    change = dict(re.findall(r"(up|down|noise) ([+-][\d.]+)", line))
    with np.load(tmp_path / "c.npz") as codes:
        slope = np.corrcoef(codes["mu"][:, 0], size[:, 0])[0, 1]
    assert np.sign(float(change["up"])) == np.sign(slope)
    assert float(change["up"]) * float(change["down"]) < 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dims", "0"], "dims must be at least 1, not 0"),
        (["--dims", "abc"], "dims needs whole numbers separated by commas, not 'abc'"),
        (["--dims", ""], "dims is empty"),
        (["--alphas", "2"], "alphas are probabilities in (0, 1], not '2'"),
        (["--workers", "0"], "workers must be at least 1, not 0"),
        (["--quick", "--full"], "--quick and --full exclude each other"),
    ],
)
def test_a_study_asked_for_wrongly_is_one_line_and_trains_nothing(tmp_path, words, said, fails):
    out = tmp_path / "out"
    assert said in fails("study", "denoise", "--data", "digits", "--out", str(out), *words)
    assert not out.exists()
