"""A run that the tests of commands share."""

import pytest

from vsc.cli.running import main

SMALL = ["--steps", "20", "--latent-dim", "6", "--model.hidden", "[16]", "--batch-size", "64", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--out", str(folder), *SMALL]) == 0
    return str(folder)
