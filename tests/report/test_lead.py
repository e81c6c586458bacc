"""What a comparison opens with: words that follow the numbers, whoever wins, and pictures for every kind of data."""

from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vsc.data.split import Dataset, Split
from vsc.measure.detectors import Detected, detected
from vsc.measure.frontier import Frontier, frontier
from vsc.measure.measured import Measured
from vsc.measure.showcase import showcase
from vsc.metrics import Detectors
from vsc.model import VAE, VSC
from vsc.model.nets import mlp
from vsc.report import Entry
from vsc.report.lead import Contest, findings, rows
from vsc.report.page import render

pytestmark = pytest.mark.usefixtures("undrawn")

CONTEST = Contest(lead=0, dense=1, small=2, kept=4)


def cut(kept, mse, probe=None):
    """Return a frontier whose non-zeros are what is kept."""
    kept = np.array(kept)
    return Frontier(kept, kept.astype(float), np.array(mse), None if probe is None else np.array(probe))


@pytest.fixture
def trio(scores):
    """Return a sparse model, a VAE of 10 latents and one of 4: the sparse one wins but for the bound."""
    sparse = scores._replace(active=4.0, used=9, always_on=1, elbo=-101.0, no_latents=-150.0)
    return [
        model("VSC", 10, sparse, cut([2, 4], [0.03, 0.02], [0.8, 0.9])),
        model("VAE", 10, scores._replace(elbo=-98.0), cut([2, 4, 10], [0.09, 0.04, 0.01], [0.3, 0.6, 0.95])),
        model("VAE, J = 4", 4, scores._replace(elbo=-104.0), cut([2, 4], [0.05, 0.025], [0.5, 0.85])),
    ]


def model(title, J, scores, frontier):
    return Entry(title, title, J, title == "VSC", [scores], {}, frontier=frontier)


def told(models, contest=CONTEST):
    return {one.topic: one for one in findings(models, contest)}


def rescored(model, **changes):
    return replace(model, scores=[model.mean._replace(**changes)])


def lead(models, **changes):
    """Give the first model other scores."""
    return [rescored(models[0], **changes), *models[1:]]


def test_the_table_has_every_code_and_the_model_without_latents(trio):
    seen = SimpleNamespace(no_latents=(-150.0, 0.1))
    table = rows([replace(trio[0], seen=seen), *trio[1:]], CONTEST)
    labels = ["VSC", "VAE, J = 4", "VAE, cut to its 4 largest", "VAE, all 10", "no latents"]
    assert [row.label for row in table] == labels
    assert [row.nonzeros for row in table] == [4, 4, 4, 10, 0]
    assert [row.mse for row in table] == [0.02, 0.025, 0.04, 0.01, 0.1]
    assert [row.probe for row in table] == [0.9, 0.85, 0.6, 0.95, None]
    assert [row.elbo for row in table] == [-101, -104, None, -98, -150]
    assert [row.equal for row in table] == [True, True, True, False, False]
    alone = rows(trio[:1], Contest(0, None, None, 4))
    assert [row.label for row in alone] == ["VSC", "no latents"]


def test_what_is_won_is_said(trio):
    said = told(trio)
    assert (said["Few"].value, said["Few"].unit) == ("4.0", "of 10 latents per input")
    assert "other 6.0 are zero" in said["Few"].text
    assert "8 are on for some inputs and off for others" in said["Its own"].text
    assert (said["Bound"].value, said["Bound"].unit) == ("−3.0", "nats against VAE")
    assert "costs 3.0 nats" in said["Bound"].text
    assert "−150.00" in said["Bound"].text
    assert said["Error"].value == "−20 %"  # 0.02 of 0.025
    assert (
        "0.0200, lower than VAE, J = 4 (0.0250) and lower than VAE, cut to its 4 largest (0.0400)" in said["Error"].text
    )
    assert said["Classes"].value == "+5.0"
    assert "90.0 %, higher than VAE, J = 4 (85.0 %) and higher than VAE, cut" in said["Classes"].text


def test_what_is_lost_is_said_in_the_same_places(trio):
    worse = [replace(trio[0], frontier=cut([2, 4], [0.06, 0.05], [0.4, 0.5])), *trio[1:]]
    said = told(worse)
    assert said["Error"].value == "+100 %"
    assert "0.0500, higher than VAE, J = 4 (0.0250) and higher than VAE, cut to its 4 largest" in said["Error"].text
    assert said["Classes"].value == "−35.0"
    assert "50.0 %, lower than VAE, J = 4 (85.0 %)" in said["Classes"].text
    assert said.keys() == told(trio).keys()
    assert len(rows(worse, CONTEST)) == len(rows(trio, CONTEST))
    assert "gains 7.0 nats" in told(lead(trio, elbo=-91.0))["Bound"].text
    assert "is level" in told(lead(trio, elbo=-98.01))["Bound"].text


def test_a_difference_that_seeds_make_is_called_so(trio, seeds):
    assert (
        "less than seeds differ" in told([replace(trio[0], scores=seeds(trio[0].mean, 4.0)), *trio[1:]])["Bound"].text
    )
    assert "seeds" not in told(trio)["Bound"].text


def test_equal_as_printed_is_equal(trio):
    same = [replace(trio[0], frontier=cut([4], [0.025001], [0.85])), *trio[1:]]
    assert "0.0250, as in VAE, J = 4" in told(same)["Error"].text
    assert "85.0 %, as in VAE, J = 4" in told(same)["Classes"].text


@pytest.mark.parametrize(
    ("changes", "topic", "words"),
    [
        ({"active": 9.0}, "Few", "not sparse"),
        ({"used": 0, "active": 0.0, "always_on": 0}, "Few", "No latent is in use"),
        ({"used": 5, "always_on": 5}, "Its own", "says nothing"),
        ({"used": 7, "always_on": 6}, "Its own", "only 1 choose"),
    ],
)
def test_a_code_that_is_not_sparse_is_not_called_so(trio, changes, topic, words):
    assert words in told(lead(trio, **changes))[topic].text


def test_a_collapsed_code_is_compared_with_nothing_but_the_bound(trio):
    assert list(told(lead(trio, used=0, active=0.0, always_on=0))) == ["Few", "Bound"]


def test_numbers_that_are_missing_or_infinite_make_no_sentence(trio):
    bare = [replace(rescored(one, elbo=None, no_latents=None), frontier=None) for one in trio]
    assert list(told(bare)) == ["Few", "Its own"]
    far = [replace(trio[0], frontier=cut([4], [np.inf])), *trio[1:]]
    assert "Error" not in told(lead(far, elbo=float("-inf")))
    alone = told([trio[0]], Contest(0, None, None, 4))
    assert list(alone) == ["Few", "Its own", "Bound"]
    assert "−150.00" in alone["Bound"].text


def test_gates_are_held_against_dense_latents(trio):
    def found(area, classes=False):
        return Detected(("hat", "eyes"), classes, np.full(2, 0.5), Detectors(np.arange(2), np.array(area)))

    models = [replace(trio[0], detected=found([1.0, 0.9])), replace(trio[1], detected=found([0.6, 0.7])), trio[2]]
    said = told(models)["Presence"]
    assert said.value == "0.950"
    assert "VAE have 0.650" in said.text
    assert "Presence" not in told([replace(trio[0], detected=found([1.0, 0.9], True)), *trio[1:]])


class Tags(HTMLParser):
    """Whether tags close in order, all alternative texts, and the visible text."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.broken, self.alts, self.text = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.alts += [value for key, value in attrs if key == "alt"]
        if tag not in {"meta", "link", "img", "path", "polyline"}:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"path", "polyline"} and (not self.stack or self.stack.pop() != tag):
            self.broken.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def opened(make_entry, make_page, shape, labels=True, presence=False, shut=False):
    """Render a page of an untrained VSC and VAE on data of a shape."""
    M, J, n = int(np.prod(shape)), 5, 40
    torch.manual_seed(0)
    S = torch.arange(2 * n).reshape(n, 2) % 3 == 0
    part = Split(torch.rand(n, M), torch.arange(n) % 3 if labels else None, presence=S if presence else None)
    names = [f"column {m}" for m in range(M)] if len(shape) == 1 else []
    data = Dataset("made", shape, part, part, part, ("a", "b", "c") if labels else (), features=names)
    entries = []
    for kind, name in ((VSC, "vsc"), (VAE, "vae")):
        model = kind(*mlp(shape, kind.features * J, J, 1, (8,)), shape=shape, latent_dim=J).eval()
        if shut and kind is VSC:
            with torch.no_grad():
                next(module for module in reversed(list(model.encoder.modules())) if hasattr(module, "bias")).bias[
                    :
                ] = -50
        seen = Measured(model, data)
        one = make_entry(name, shape=shape, J=J, spikes=kind is VSC, link=f"{name}/report.html")
        one = replace(one, showcase=showcase(seen), scores=[seen.scores()], seen=seen)
        entries.append(replace(one, frontier=frontier(seen, (2,)), detected=detected(seen)))
    known = {"shape": shape, "classes": data.classes, "features": names}
    return render(make_page(entries, contest=Contest(0, 1, None, 2), **known))


@pytest.mark.parametrize(
    ("shape", "labels", "presence"),
    [
        ((1, 6, 6), True, False),
        ((3, 6, 6), False, True),
        ((7,), False, True),
        ((2, 12), True, False),
        ((7,), False, False),
    ],
)
def test_the_page_opens_for_images_tables_and_signals(make_entry, make_page, shape, labels, presence):
    html = opened(make_entry, make_page, shape, labels, presence)
    tags, text = Tags(html), " ".join("".join(html.split("<main>")[1].split("</section>")[0]).split())
    assert (tags.stack, tags.broken) == ([], [])
    assert all(len(alt) > 30 for alt in tags.alts)
    assert html.index('id="sparse"') < html.index('id="summary"') < html.index('id="scores"')
    for heading in ("What one latent means", "What switching it off does", "At equal non-zeros"):
        assert heading in text
    assert 'href="vsc/report.html#latents"' in text
    assert ("Gates as detectors" in text) == presence
    assert ("the one that tells best of an attribute" in text) == presence
    assert ("classes named right" in text) == labels
    assert ("strongest inputs" in text) == ((labels or presence) and len(shape) == 3)
    assert ("detectors of classes" in text) == labels
    if len(shape) == 1:
        assert "column 3" in text
    if len(shape) == 2:
        assert "alone adds" in text
        assert "<svg" in text


@pytest.mark.parametrize("shape", [(1, 6, 6), (7,)])
def test_a_page_whose_code_is_empty_says_so(make_entry, make_page, shape):
    html = opened(make_entry, make_page, shape, shut=True)
    assert "No latent is in use" in html
    assert "What one latent means" not in html
    assert "0 latents on" in html


def test_a_page_without_a_sparse_model_opens_with_the_summary(make_entry, make_page):
    html = render(make_page([make_entry("vae", spikes=False)]))
    assert "sparse code buys" not in html
