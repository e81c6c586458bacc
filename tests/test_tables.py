"""The script behind docs/results.md: rows are trained once, found again, and printed as Markdown."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vsc import data, runs
from vsc.comparison import changed
from vsc.config import Config

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
            runs.new_model(runs.resolve(changed(Config(), settings), digits), digits)
            assert seeds >= 1


@pytest.mark.slow
def test_a_table_is_made_and_its_rows_are_found_again(tmp_path):
    words = ["soft-sparsity", "--data", "digits", "--steps", "20", "--split", "valid", "--only", "VAE", "--jobs", "2"]

    def made():
        command = [sys.executable, SCRIPT, *words, "--out", tmp_path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    first = made()
    found = sorted(tmp_path.glob("soft-sparsity/*/valid.json"))
    names = [f"{row}-seed{seed}" for row in ("laplace-vae", "vae") for seed in range(3)]
    assert [path.parent.name for path in found] == names
    elbo = [json.loads(path.read_text())["elbo"] for path in found[3:]]
    (row,) = [line for line in first if line.startswith("| VAE ")]
    assert f"{sum(elbo) / 3:.2f} ±" in row
    changed_at = [path.stat().st_mtime_ns for path in found]
    assert row in made()
    assert [path.stat().st_mtime_ns for path in found] == changed_at
