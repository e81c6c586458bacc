"""The script behind docs/results.md: rows are trained once, found again, and printed as Markdown."""

import importlib.util
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from vsc import data
from vsc.settings import build
from vsc.settings.resolve import resolve
from vsc.training import runs

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "tables.py"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_is_a_valid_setting(tables):
    digits = data.load("digits")
    for table in tables.TABLES.values():
        for own, seeds in table.rows.values():
            settings = {k: v for k, v in (table.common | own).items() if k != "iwae"} | {"data.name": "digits"}
            build.new_model(resolve(tables.config_of(settings), digits), digits)
            assert seeds >= 1


@pytest.mark.slow
def test_a_table_is_made_and_its_rows_are_found_again(tmp_path, tables):
    words = ["warmup", "--data", "digits", "--steps", "20", "--split", "valid", "--only", "lambda", "--jobs", "2"]

    def made(*more):
        command = [sys.executable, SCRIPT, *words, "--out", tmp_path, *more]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    first = [line for line in made() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in first] == ["warmup", *list(tables.WARMUPS)[2:]]
    folders = [folder for folder in tmp_path.iterdir() if runs.is_finished(folder)]
    assert len(folders) == 6  # two rows of three seeds
    plain = [f for f in folders if runs.read_config(f).train.beta == 1]
    scores = [json.loads((f / "results.json").read_text()) for f in plain]
    assert {one["split"] for one in scores} == {"valid"}
    elbo = [one["scores"]["elbo"] for one in scores]
    assert f"| {statistics.fmean(elbo):.2f} ± {statistics.stdev(elbo):.2f} |" in first[1]
    per_used = [(s["kl_slab"] + s["kl_spike"]) / max(s["used"], 1) for s in (one["scores"] for one in scores)]
    assert f"| {statistics.fmean(per_used):.2f} ±" in first[1] or f"| {statistics.fmean(per_used):.3f} ±" in first[1]
    changed_at = {f: (f / "model" / "model.safetensors").stat().st_mtime_ns for f in folders}
    assert [line for line in made() if line.startswith("| ")] == first
    assert {f: (f / "model" / "model.safetensors").stat().st_mtime_ns for f in folders} == changed_at


def test_a_whole_table_leaves_its_numbers(tmp_path, tables, capsys):
    common = {"data.name": "digits", "train.steps": 3, "model.latent_dim": 4}
    table = tables.Table(common, {"VAE": ({"model.name": "vae"}, 2), "VSC": ({"iwae": 7}, 1)}, ("elbo", "iwae"))
    lines = tables.make("few", table, tmp_path, 1, "valid", "")
    saved = json.loads((tmp_path / "few.json").read_text())
    assert saved["split"] == "valid"
    assert [len(saved["rows"][name]) for name in ("VAE", "VSC")] == [2, 1]
    (vsc,) = saved["rows"]["VSC"]
    assert lines[-1].startswith(f"| VSC | 1 | {vsc['elbo']:.2f} | {vsc['iwae']:.2f} |")
    assert lines[-2].split("|")[4].strip() == "–"  # no such bound was asked for there
