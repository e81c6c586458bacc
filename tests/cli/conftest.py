"""What the tests of commands share: where they write, how commands are called, and a run."""

import pytest

from vsc.cli import commands as cli
from vsc.cli import options as command_line
from vsc.cli.running import main

SMALL = ["--steps", "20", "--latent-dim", "6", "--model.hidden", "[16]", "--batch-size", "64", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--out", str(folder), *SMALL]) == 0
    return str(folder)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Whatever a command writes lands in the test's folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def says(capsys):
    def of(*words):
        """Run a command that must succeed; return what it prints."""
        assert main(words) == 0
        return capsys.readouterr().out

    return of


@pytest.fixture
def fails(capsys):
    def of(*words, code=2):
        """Run a command that must fail with this exit code and one line on stderr; return the line."""
        capsys.readouterr()
        assert main(words) == code
        err = capsys.readouterr().err
        assert err.startswith("vsc: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "<class" not in err
        assert "Parser key" not in err
        return err

    return of


@pytest.fixture(scope="session")
def parse():
    return lambda name, *words: command_line.parse(name, cli.takes(cli.COMMANDS[name]), list(words))
