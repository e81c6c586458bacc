"""The page as a browser gets it: one file, nothing fetched, every picture described, best cells marked."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from vsc.report import figures, write
from vsc.report.page import render

pytestmark = pytest.mark.usefixtures("undrawn")  # all but the page of `four`

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Tree(HTMLParser):
    """Opened tags with their attributes, visible text, and whether tags close in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.stack, self.broken, self.text = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def four(make_entry, scores, make_page):
    page = make_page(
        [
            make_entry("ae", spikes=False, scores=scores._replace(elbo=None, kl_slab=None, kl_spike=None, l0=6.0)),
            make_entry("vae", spikes=False, scores=scores._replace(elbo=-98.0, kl_spike=0.0, l0=6.0)),
            make_entry("vsc", scores=scores._replace(elbo=-101.0, relaxed_elbo=-90.0)),
            make_entry("vsc-warmup", title="VSC with warm-up", scores=scores._replace(elbo=-99.0)),
        ]
    )
    return render(page)


def row(html, label):
    """Cells of one model's row in the table of scores, by the columns' keys."""
    table = re.search(r'<table class="scores">.*?</table>', html, re.S).group()
    keys = re.findall(r'data-key="(\w+)"', table)
    cells = re.search(rf'<th scope="row">{re.escape(label)}</th>(.*?)</tr>', table, re.S).group(1)
    cells = re.findall(r"<td.*?</td>", cells, re.S)
    assert len(keys) == len(cells)
    return dict(zip(keys, cells, strict=True))


def test_the_document_is_well_formed_and_its_links_lead_somewhere(four):
    tree = Tree(four)
    assert (tree.stack, tree.broken) == ([], [])
    ids = [attrs["id"] for _, attrs in tree.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for attrs in tree.all("a")}
    assert {"scores", "model-4", "reproduce"} <= targets <= set(ids)
    headings = [int(tag[1]) for tag, _ in tree.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))


def test_nothing_is_fetched_from_anywhere(four):
    tree = Tree(four)
    addresses = [a[key] for _, a in tree.tags for key in ("src", "href", "action", "srcset", "data") if key in a]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not tree.all("script")
    assert "@import" not in four
    assert "url(" not in four
    policy = next(a["content"] for a in tree.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_every_picture_has_its_own_words(four):
    pictures = Tree(four).all("img")
    # curves, denoising, two per model; the effects and the spike probabilities of the two with spikes
    assert len(pictures) == 2 + 2 * 4 + 2 * 2
    alts = [picture["alt"] for picture in pictures]
    assert all(len(alt) > 60 and re.search(r"\d", alt) for alt in alts)
    assert len(set(alts)) == len(alts)
    assert all(picture["src"].startswith("data:image/png;base64,iVBOR") for picture in pictures)


def test_table_headers_have_a_scope(four):
    headers = Tree(four).all("th")
    assert headers
    assert {attrs.get("scope") for attrs in headers} == {"col", "row", "colgroup"}


def test_the_best_cell_is_marked_by_more_than_colour(four):
    assert "★" in row(four, "VAE")["elbo"]
    assert "(best)" in row(four, "VAE")["elbo"]
    for label in ("AE", "VSC", "VSC with warm-up"):
        assert "★" not in row(four, label)["elbo"]
    assert "–" in row(four, "AE")["elbo"]
    assert "no bound" in row(four, "AE")["elbo"]
    assert not any("★" in row(four, label)["l0"] for label in ("AE", "VAE", "VSC"))


def test_the_relaxed_bound_stands_beside_the_hard_one_with_its_gap(four, make_page, make_entry):
    cells = row(four, "VSC")
    assert "−90.00" in cells["relaxed"]
    assert "+11.00" in cells["gap"]
    assert "★" not in cells["relaxed"]
    assert "relaxed" not in row(render(make_page([make_entry("vsc")])), "VSC")


def test_what_users_type_is_escaped(make_entry, make_page):
    evil = "<script>alert('x')</script>&\"$_^"
    entry = make_entry(evil, title=evil, settings={evil: evil}, cautions=[evil])
    names = dict.fromkeys(("title", "data", "likelihood", "command"), evil)
    html = render(make_page([entry], classes=[evil, "b"], environment={evil: evil}, **names))
    tree = Tree(html)
    assert "<script" not in html
    assert (tree.stack, tree.broken) == ([], [])
    assert evil in tree.text
    assert evil in tree.all("img")[1]["alt"]


def test_seeds_and_their_spread_are_shown(make_entry, make_page):
    html = render(make_page([make_entry("vsc", sd=0.25), make_entry("vae", sd=0.25)]))
    assert "±0.25" in row(html, "VSC")["elbo"]
    assert "first of 3 seeds" in html
    assert "standard deviation over seeds" in html


def test_the_model_without_latents_is_a_row(make_entry, make_page, scores):
    entries = [make_entry("vae", scores=scores._replace(no_latents=-120.5)), make_entry("vsc")]
    cells = row(render(make_page(entries)), "no latents")
    assert "−120.50" in cells["elbo"]
    assert "−120.50" in cells["log_px"]
    assert "–" in cells["mse"]
    assert "there are no latents" in cells["probe"], "not for want of labels"
    assert "no_latents" not in cells
    assert 'scope="row">no latents<' not in render(make_page([make_entry("vsc")]))


def test_different_noise_is_owned_up_to(make_entry, make_page):
    one, two = make_entry("a"), make_entry("b")
    assert "noise of its own" not in render(make_page([one, two]))
    two = replace(two, showcase=two.showcase._replace(noisy=two.showcase.noisy + 0.01))
    assert "noise of its own" in render(make_page([one, two]))


def test_what_a_latent_does_is_told_in_the_names_of_the_columns(make_entry, make_page, with_effects):
    entry = make_entry("vsc", shape=(4,), settings={"data": {"scale": "standard"}})
    entry = with_effects(entry, [5, 2], [0.34, 0.1], [[0.1, -2.5, 0.0, 1.0], [0.3, 0, 0, 0]], [1.0, 0.5])
    columns = ["age", "<dose>", "noise", "height"]
    html = render(make_page([entry], shape=(4,), features=columns))
    (alt,) = (a["alt"] for a in Tree(html).all("img") if "What single latents" in a["alt"])
    assert "latent 5 (on for 34 %, on, not off) changes <dose> by −2.50, height by +1.00 and age by +0.10" in alt
    assert "latent 2 (on for 10 %, from −1.2 to 2.0) changes age by +0.30" in alt
    assert "<dose>" not in html
    assert "one standard deviation of the column" in html
    assert "halves of one factor" in html


def test_what_a_latent_does_to_an_image_is_told_by_its_place(make_entry, make_page, with_effects):
    change = np.zeros((1, 16))
    change[0, 6] = -0.8  # row 1, column 2 of 4 by 4; the mean size is 0.8 / 16
    html = render(make_page([with_effects(make_entry("vsc"), [3], [0.5], change, [1.0])]))
    (alt,) = (a["alt"] for a in Tree(html).all("img") if "What single latents" in a["alt"])
    assert "row 1, column 2 most, by −0.80 (mean size 0.05)" in alt
    assert "standard deviation of the column" not in html


def test_a_collapsed_code_has_no_picture_of_its_latents_but_a_sentence(make_entry, make_page, with_effects):
    entry = with_effects(make_entry("vsc"), [], [], np.zeros((0, 16)), [])
    html = render(make_page([entry]))
    assert "No latent is in use." in html
    assert not any("What single latents" in a["alt"] for a in Tree(html).all("img"))
    dense = render(make_page([make_entry("vae", spikes=False)]))
    assert "What each latent does" not in dense


def test_one_entry_alone_makes_a_page(make_entry, make_page):
    html = render(make_page([make_entry("vsc")]))
    assert "★" not in "".join(row(html, "VSC").values())
    assert "single run" in html
    assert "settings that differ" not in html.lower()


@pytest.mark.parametrize(("shape", "J"), [((3, 4, 4), 1), ((12,), 2), ((12,), 200)])
def test_other_data_and_code_sizes(make_entry, make_page, shape, J):
    tree = Tree(render(make_page([make_entry("vsc", shape=shape, J=J)], shape=shape, classes=[])))
    assert len(tree.all("img")) == (7 if J == 2 else 6)


def test_names_that_are_the_same_are_told_apart(make_entry, make_page):
    html = render(make_page([make_entry("a", title="VSC"), make_entry("b", title="VSC"), make_entry("b", title="VSC")]))
    assert all(row(html, label) for label in ("VSC (a)", "VSC (b) #1", "VSC (b) #2"))


def test_settings_environment_cautions_and_command_are_there(make_entry, make_page):
    entries = [
        make_entry("a", settings={"seed": 0, "model": {"alpha": 0.1, "hidden": [400]}}, cautions=["has collapsed."]),
        make_entry("b", settings={"seed": 0, "model": {"hidden": [400]}}),
    ]
    html = render(make_page(entries))
    text = " ".join(Tree(html).text)
    for words in (
        "A has collapsed.",
        "vsc compare --data shapes",
        "threads",
        "1 min 15 s",
        "12\u202f345",
    ):
        assert words in text
    before, after = html.split("<details", 1)
    assert "model.alpha" in before
    assert "model.hidden" in after
    assert "model.alpha" not in after


def test_the_file_is_written_whole_or_not_at_all(tmp_path, make_entry, make_page, monkeypatch):
    path = tmp_path / "new" / "report.html"
    page = make_page([make_entry("vsc")])
    assert write(page, path) == path
    first = path.read_text(encoding="utf-8")
    assert first.rstrip().endswith("</html>")

    def fail(*_):
        raise RuntimeError("no picture")

    monkeypatch.setattr(figures, "denoising", fail)
    with pytest.raises(RuntimeError, match="no picture"):
        write(page, path)
    monkeypatch.undo()
    monkeypatch.setattr("vsc.files.os.replace", fail)
    with pytest.raises(RuntimeError, match="no picture"):
        write(page, path)
    assert path.read_text(encoding="utf-8") == first
    assert list(path.parent.iterdir()) == [path]


def test_a_page_without_models_is_refused(make_page, tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write(make_page([]), tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
