"""The examples run, in few steps."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vsc.errors.Caution")  # few steps make bad models
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEPS", "200" if path.stem == "digits" else "50")  # whose figure needs latents that are used
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr()
    assert said.out
    assert said.err == ""
