"""What the README, the site and the examples tell a reader to type works as it stands there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import vsc
from vsc.cli import commands as cli
from vsc.cli import options, running
from vsc.model import MODELS, sampling
from vsc.model.likelihoods import LIKELIHOODS
from vsc.model.nets import NETS
from vsc.model.priors import GATES, SELECTORS, SLABS
from vsc.model.spikes import SPIKES

ROOT = Path(__file__).parent.parent
SITE = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *SITE]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LEDGERS = {"results.md", "studies.md", "changelog.md"}


def blocks(page, language=""):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands():
    """Every line of the pages that calls vsc, without its comment."""
    lines = [line for page in PAGES for block in blocks(page, r"\w*") for line in block.splitlines()]
    text = " ".join(page.read_text(encoding="utf-8").replace("\n# ", " ") for page in [*PAGES, *EXAMPLES])
    lines += [code.replace("\n", " ") for code in re.findall(r"`(vsc [^`]*)`", text)]
    typed = (shlex.split(line, comments=True) for line in lines if line.startswith("vsc "))
    return sorted({tuple(words) for words in typed if words[1:] and words[1] in cli.COMMANDS and len(words) > 2})


@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_commands_are_understood(words, monkeypatch):
    monkeypatch.setattr(options, "_default_to_saved", lambda *_: None)  # there is no run to resume here
    config = options.parse(words[1], cli.takes(cli.COMMANDS[words[1]]), list(words[2:]))
    assert isinstance(config, cli.takes(cli.COMMANDS[words[1]])) or "--help" in words


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


def anchors(page):
    """The names that headings of a page can be linked by."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        if target.parent.name == "tutorials":  # written from the script of that name
            target = ROOT / "examples" / f"{target.stem}.py"
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.name)
def test_every_page_is_in_the_menu_and_short(page):
    menus = re.findall(r"^```{toctree}\n(.*?)^```", "".join(p.read_text() for p in SITE), re.MULTILINE | re.DOTALL)
    assert page.stem in {*" ".join(menus).split(), "index"}
    assert page.name in LEDGERS or page.read_text(encoding="utf-8").count("\n") <= 200


def test_every_example_is_a_tutorial():
    listed = re.findall(r"^tutorials/(\w+)$", (ROOT / "docs" / "tutorials.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [path.stem for path in EXAMPLES if path.stem != "activations"]  # needs others' packages


def test_the_site_explains_everything_public():
    pages = "\n".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("api", "api-models", "api-metrics"))
    explained = set(re.findall(r"^   (vsc[\w.]+)$", pages, re.MULTILINE))
    offered = {*vsc.__all__} - {*vsc._MODULES}
    assert explained >= {f"vsc.{name}" for name in offered}
    assert explained >= {f"vsc.metrics.{name}" for name in vsc.metrics.__all__}
    assert explained >= {f"vsc.plots.{name}" for name in vsc.plots.__all__}
    assert explained >= {f"vsc.data.{name}" for name in {*vsc.data.__all__} - {"load", "from_arrays", "from_torch"}}
    families = [MODELS, GATES, SLABS, LIKELIHOODS, SPIKES, NETS, SELECTORS, sampling.PATHS]
    members = {member.__name__ for family in families for member in family.values()}
    assert {name.rpartition(".")[2] for name in explained} >= members


@pytest.mark.slow
def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for code in blocks(ROOT / "README.md", "python"):
        exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "elbo=" in said
    assert "latent" in said


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a table and a run, as the pages name them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    causes = (rng.random((400, 2)) < 0.4) * rng.normal(size=(400, 2))
    table = causes @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(400, 6))
    np.savetxt("mine.csv", table, delimiter=",", header="a,b,c,d,e,f", comments="")
    assert (
        running.main(["train", "--data", "mine.csv", "--latent-dim", "4", "--steps", "400", "--out", "runs/mine"]) == 0
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vsc.errors.Caution")  # steps are few
def test_the_python_of_the_site_runs(mine, capsys):
    capsys.readouterr()
    for page in SITE:
        if page.name != "index.md":  # the README's
            for code in blocks(page, "python"):
                exec(compile(code, page.name, "exec"), {})
    assert re.search(r"latent \d, on for \d+%, (turned on|raised): [a-f] [+-]\d", capsys.readouterr().out)


def test_the_front_page_begins_as_the_readme():
    assert blocks(ROOT / "docs" / "index.md", "python")[0] in blocks(ROOT / "README.md", "python")
