"""What the README and the guide tell a reader to type works as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vsc.cli import commands as cli
from vsc.cli import options

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language=""):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands():
    """Every line of the pages that calls vsc, without its comment."""
    lines = [line for page in PAGES for block in blocks(page, r"\w*") for line in block.splitlines()]
    lines += [code for page in PAGES for code in re.findall(r"`(vsc [^`]*)`", page.read_text(encoding="utf-8"))]
    typed = (shlex.split(line, comments=True) for line in lines if line.startswith("vsc "))
    return sorted({tuple(words) for words in typed if words[1:] and words[1] in cli.COMMANDS and len(words) > 2})


@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_commands_are_understood(words, monkeypatch):
    monkeypatch.setattr(options, "_default_to_saved", lambda *_: None)  # there is no run to resume here
    config = options.parse(words[1], cli._takes(cli.COMMANDS[words[1]]), list(words[2:]))
    assert isinstance(config, cli._takes(cli.COMMANDS[words[1]])) or "--help" in words


def test_commands_were_found():
    assert {words[1] for words in commands()} >= set(cli.COMMANDS) - {"sample"}


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    named = {target for page in pages for target in re.findall(r"\bmake (\w+) ", page.read_text(encoding="utf-8"))}
    named -= {"and", "for"}
    assert {"demo", "test", "check"} <= named
    for target in named & {"demo", "test", "check", "bench"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.slow
def test_readme_python_runs(tmp_path):
    (code,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "elbo=" in done.stdout


@pytest.mark.slow
def test_guide_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    causes = (rng.random((400, 2)) < 0.4) * rng.normal(size=(400, 2))
    table = causes @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(400, 6))
    np.savetxt("mine.csv", table, delimiter=",", header="a,b,c,d,e,f", comments="")
    assert cli.main(["train", "--data", "mine.csv", "--latent-dim", "4", "--steps", "600", "--out", "runs/mine"]) == 0
    capsys.readouterr()
    for code in blocks(ROOT / "docs" / "guide.md", "python"):
        exec(compile(code, "guide.md", "exec"), {})
    assert re.search(r"latent \d, on for \d+%: [a-f] [+-]\d", capsys.readouterr().out)
