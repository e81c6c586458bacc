"""The page of one run: every used latent has its row and card, nothing is fetched, and every picture has its words."""

import base64
import hashlib
import io
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from vsc.cli.options import parse
from vsc.cli.running import main
from vsc.data import load as load_data
from vsc.data.split import Dataset, Split
from vsc.errors import UsageError
from vsc.measure.measured import Measured
from vsc.report import lines, sprites
from vsc.report import run as reporting
from vsc.report.material import bars
from vsc.report.words import measure
from vsc.settings import build
from vsc.settings.commands import TrainRun
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.presets import training_command
from vsc.settings.resolve import resolve
from vsc.training import runs

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Tree(HTMLParser):
    """Opened tags with their attributes, and whether tags close in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.stack, self.broken = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.broken.append(tag)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def table_data():
    """Return rows of five columns around two centres, with a column name that needs escaping."""
    generator = torch.Generator().manual_seed(1)

    def draw(n):
        y = torch.arange(n) % 2
        return Split(100 * torch.randn(n, 5, generator=generator) + 400 * y[:, None], y)

    return Dataset(
        "rows", (5,), draw(60), draw(10), draw(30), ("low", "high"), features=("a", "b", "<c>", "d & e", "f")
    )


def signal_data():
    generator = torch.Generator().manual_seed(1)
    parts = [Split(torch.randn(n, 2 * 70, generator=generator)) for n in (40, 10, 20)]
    return Dataset("waves", (2, 70), *parts)


def text_data():
    """Return rows of a table that are words of two texts, in turns; one text needs escaping."""
    texts, spans = ("a <b> & c", "red fox"), torch.tensor([(0, 0, 1), (0, 2, 5), (1, 0, 3), (1, 4, 7)])
    data = table_data()
    parts = {
        name: replace(part, extras={"span": spans[torch.arange(len(part)) % 4]})
        for name, part in (("train", data.train), ("valid", data.valid), ("test", data.test))
    }
    return replace(data, texts=texts, **parts)


def page_of(data, folder, split="test", **settings):
    """Return the page, and the survey, of an untrained model whose codes differ: gates are open half of the time."""
    config = Config(DataConfig(data.name), ModelConfig(**{"latent_dim": 6, "hidden": (16,)} | settings), TrainConfig())
    config = resolve(config, data)
    torch.manual_seed(0)
    model = build.new_model(config, data).eval()
    with torch.no_grad():
        for weights in (part for part in model.encoder.parameters() if part.ndim > 1):
            weights *= 2
    runs.create(folder, config)
    row = {"step": 5, "split": "valid", "seconds": 75.0, "elbo": -3.0, "l0": 2.0, "used": 4}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    runs.save_model(folder, model, config)
    seen = Measured(model, data, split)
    return reporting.write(folder, seen).read_text(encoding="utf-8"), seen.survey


CASES = {
    "vsc": ("tiny", {}),
    "vae": ("tiny", {"name": "vae"}),
    "ae": ("tiny", {"name": "ae"}),
    "pseudo-inputs": ("tiny", {"gates": "pseudo-inputs", "components": 5}),
    "table": ("rows", {}),
    "table of a vae": ("rows", {"name": "vae"}),
    "texts": ("words", {}),
    "signals": ("waves", {"likelihood": "gaussian-shared"}),
    "nothing used": ("tiny", {"gate_init": -30.0}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tiny, tmp_path_factory):
    data, settings = CASES[request.param]
    data = {"tiny": tiny, "rows": table_data(), "words": text_data(), "waves": signal_data()}[data]
    html, found = page_of(data, tmp_path_factory.mktemp("run") / "run", **settings)
    return request.param, html, found, Tree(html)


def test_the_document_is_well_formed_and_every_link_has_its_target(case):
    _, html, _, tree = case
    assert (tree.stack, tree.broken) == ([], [])
    assert html.rstrip().endswith("</html>")
    ids = [attrs["id"] for _, attrs in tree.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for attrs in tree.all("a")}
    assert targets <= set(ids)
    labels = {attrs[key] for _, attrs in tree.tags for key in ("aria-labelledby", "for") if key in attrs}
    assert labels <= set(ids)
    assert len(tree.all("h1")) == 1


def test_nothing_is_fetched_and_only_our_script_may_run(case):
    _, html, _, tree = case
    addresses = [a[key] for _, a in tree.tags for key in ("src", "href", "action", "srcset", "data") if key in a]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?:|url\(|@import", html)
    (policy,) = (a["content"] for a in tree.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}'" in policy
    assert "default-src 'none'" in policy


def test_every_picture_has_words_that_say_something(case):
    _, _, _, tree = case
    pictures = [a["alt"] for a in tree.all("img")] + [a["aria-label"] for a in tree.all("svg")]
    assert pictures
    assert all(len(words) > 30 and re.search(r"\d", words) for words in pictures)
    assert all(a["role"] == "img" for a in tree.all("svg"))
    assert len(set(pictures)) == len(pictures)


def test_every_used_latent_has_one_row_and_one_card(case):
    name, html, found, tree = case
    rows = [attrs["data-card"] for attrs in tree.all("tr") if "data-card" in attrs]
    cards = [a["id"] for a in tree.all("article") if a["id"].startswith("latent-")]
    assert rows == cards == [f"latent-{j}" for j in found.shown]
    assert bool(rows) == (name != "nothing used")
    assert ("No latent is in use" in html) == (name == "nothing used")


def test_a_card_has_the_words_that_its_latent_is_strongest_for(tmp_path):
    html, found = page_of(text_data(), tmp_path / "run")
    words = ["a", "&lt;b&gt;", "red", "fox"]
    for j in found.shown:
        card = re.search(rf'<article class="card text" id="latent-{j}".*?</article>', html, re.DOTALL).group()
        value = found.value[:, j]
        on = np.flatnonzero(value)
        marked = re.findall(r"<mark>(.*?)</mark>", card)
        highest = [words[i % 4] for i in sorted(on, key=lambda i: -value[i]) if value[i] > found.rest[j]][:8]
        assert marked[: len(highest)] == highest
        bars = re.search(r'aria-label="Pieces of texts.*?</ul>', card, re.DOTALL).group()
        shares = dict(re.findall(r'<span class="name">(.+?)</span>.*?<span class="number">(\S+) %', bars, re.DOTALL))
        for word in set(words):  # fewer than 100 are on, so all of them count
            share = 100 * np.mean([words[i % 4] == word for i in on])
            assert float(shares.get(word, 0)) == pytest.approx(share, abs=1)
    assert "<mark>&lt;b&gt;</mark> &amp; c" in html


def test_the_table_is_sorted_by_real_buttons(case):
    name, html, found, tree = case
    if name == "nothing used":
        assert not tree.all("button")
        return
    table = re.search(r'<table class="sortable">.*?</table>', html, re.DOTALL).group()
    headings = re.findall(r"<th scope=\"col\".*?</th>", table, re.DOTALL)
    assert all("<button" in heading and " disabled" in heading for heading in headings)  # until the script is there
    assert [("aria-sort" in heading) for heading in headings] == [i == 1 for i in range(len(headings))]
    rows = re.findall(r"<tr data-group.*?</tr>", table, re.DOTALL)
    assert all(row.count("data-value") == len(headings) for row in rows)
    first = [float(re.findall(r'data-value="(.*?)"', row)[1]) for row in rows]
    assert first == sorted(first, reverse=True)
    expected = (found.rate if found.gated else found.variance)[found.shown]
    np.testing.assert_allclose(first, expected, rtol=1e-6)


def test_dense_models_are_not_spoken_of_as_sparse(case):
    name, html, _, _ = case
    dense = name in ("vae", "ae", "table of a vae")
    assert ("on for every input, so none can be picked" in html) == dense
    assert ("instead of off" in html) == (not dense and name not in ("nothing used", "signals", "texts"))
    assert ("nats per input" in html) == (name not in ("ae", "nothing used"))


def test_tables_speak_of_their_columns_and_are_escaped(case):
    name, html, _, tree = case
    if not name.startswith("table"):
        return
    assert "<c>" not in html
    assert "&lt;c&gt;" in html
    assert "d &amp; e" in html
    assert "400" in html  # the units of the data
    assert len(tree.all("img")) == 1  # the training curves


def test_the_opening_names_the_latents_that_matter(case):
    name, html, found, _ = case
    short = html.split("In short")[1].split("</section>")[0]
    named = [int(j) for j in re.findall(r"latent (\d+) \([^()]*on for", short)]
    assert set(named) <= set(found.shown.tolist())
    assert len(named) == min(3, len(found.shown))
    assert ("PSNR" in short) == (not name.startswith("table"))
    assert ("changes" in short) == name.startswith("table")


def test_examples_show_each_class_and_lead_to_the_cards(case):
    name, html, found, tree = case
    examples = [a["id"] for a in tree.all("article") if a["id"].startswith("example-")]
    assert len(examples) == 12
    body = html[html.index('<h2 id="examples">') : html.index('<h2 id="training">')]
    if found.gated and len(found.shown):
        assert set(re.findall(r"#latent-(\d+)", body)) <= {str(j) for j in found.shown}
    for label in {"vsc": ("row", "column", "corner"), "table": ("low", "high")}.get(name, ()):
        assert re.search(rf"Example \d+: (class )?{label}<", body)


def test_settings_and_commands_are_there(case):
    _, html, _, _ = case
    for words in (
        "model.latent_dim",
        "train.beta",
        "vsc report",
        "vsc train",
        "--model.hidden",
        "python",
        "1 min 15 s",
    ):
        assert words in html


def test_the_command_gives_the_settings_back(tiny, tmp_path):
    config = Config(
        DataConfig("digits", binarise=True),
        ModelConfig(hidden=(8, 4), gates="mixture", components=None),
        TrainConfig(lr=2e-3, steps=7, patience=3),
    )
    resolved = resolve(config, tiny)
    words = shlex.split(training_command(resolved, tmp_path))
    again = parse("train", TrainRun, words[2:])
    assert (again.data, again.model, again.train) == (resolved.data, resolved.model, resolved.train)
    assert again.out == str(tmp_path)


def test_the_other_split_and_what_is_refused(tiny, tmp_path):
    html, _ = page_of(tiny, tmp_path / "run", "valid")
    assert "20 validation examples" in html
    assert "--split valid" in html
    model = runs.load(tmp_path / "run")
    with pytest.raises(UsageError, match="must be test or valid, not 'train'"):
        reporting.write(tmp_path, Measured(model, tiny, "train"))


def decoded(sprite):
    kind, data = sprite.source.removeprefix("data:image/").split(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_sprite_holds_its_images_side_by_side():
    x = np.linspace(0, 1, 2 * 16).reshape(2, 16)
    sprite = sprites.examples(x, (1, 4, 4), (0.0, 1.0), height=8)
    kind, image = decoded(sprite)
    assert (kind, image.size) == ("png", (2 * (4 + 1), 4))
    assert (sprite.width, sprite.height, sprite.coarse) == (20, 8, True)
    pixels = np.asarray(image.convert("LA")).astype(float)
    np.testing.assert_allclose(pixels[:, :4, 0] / 255, x[0].reshape(4, 4), atol=0.006)
    np.testing.assert_allclose(pixels[:, 5:9, 0] / 255, x[1].reshape(4, 4), atol=0.006)
    assert (pixels[:, [4, 9], 1] == 0).all()  # the gaps are transparent
    assert (pixels[:, :4, 1] == 255).all()  # and black is not


def test_differences_are_red_blue_and_white():
    image = decoded(sprites.differences(np.array([[2.0, -2.0, 0.0, 0.5]]), (1, 2, 2), peak=1.0))[1].convert("RGB")
    (more, less), (none, some) = np.asarray(image).astype(int)
    assert more[0] > more[2] + 50
    assert less[2] > less[0] + 50
    assert none.min() > 240
    assert more[0] < some[0]  # darker is more, cut at the peak


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 32, 32), (32, 32)), ((3, 200, 100), (50, 25)), ((1, 3, 130), (43, 1))]
)
def test_large_and_colour_images_are_averaged_down(shape, size):
    sprite = sprites.examples(np.random.default_rng(0).random((1, int(np.prod(shape)))), shape, (0.0, 1.0))
    assert decoded(sprite)[1].size in (size, size[::-1])


def test_bars_begin_at_zero():
    up = bars([1.0, 0.5, float("nan")], list("abc"), list("xyz"), 1.0)
    assert [(bar.left, bar.width) for bar in up] == [(0, 100), (0, 50), (0, 0)]
    both = bars([3.0, -1.0], list("ab"), list("xy"))
    assert [(bar.left, bar.width, bar.negative) for bar in both] == [(25, 75, False), (0, 25, True)]
    assert [(bar.left, bar.width) for bar in bars([-2.0, -1.0], list("ab"), list("xy"))] == [(0, 100), (50, 50)]


def test_lines_are_averaged_down_and_stay_inside():
    found = lines.chart([("plain", np.linspace(-1, 1, 640))], (-1.0, 1.0), "alt", "caption")
    points = [tuple(map(float, point.split(","))) for point in found.lines[0].points.split()]
    assert len(points) == lines.POINTS
    assert points[0][1] > points[-1][1]  # up is more
    assert all(0 <= x <= lines.WIDTH and 0 <= y <= lines.HEIGHT for x, y in points)
    assert found.zero == lines.HEIGHT / 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12\u202f346"), (-12345.6, "−12\u202f346"), (0.012346, "0.01235"), (-3.0, "−3"), (0.0, "0")],
)
def test_values_of_data_are_printed_short(value, text):
    assert measure(value) == text


def test_two_hundred_latents_of_noise_stay_below_the_limit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    parts = [
        Split(torch.randint(0, 256, (n, 784), generator=generator).byte(), torch.arange(n) % 10) for n in (50, 5, 300)
    ]
    data = Dataset("noise", (1, 28, 28), *parts, tuple("0123456789"), high=255.0)
    html, found = page_of(data, tmp_path / "run", latent_dim=200, gate_init=2.0)
    assert len(found.shown) > 190
    assert len(html.encode()) < 15e6


def test_the_card_the_command_and_python_explain_a_latent_alike(tmp_path, capsys, monkeypatch):
    """The three columns that `vsc encode` prints for a latent are those of `Measured.effects` and of the page."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(80, 5, generator=generator)
    np.savetxt(tmp_path / "mine.csv", x.numpy(), delimiter=",", header="a,b,c,d,e", comments="")
    data = replace(load_data(str(tmp_path / "mine.csv")), name=str(tmp_path / "mine.csv"))
    html, found = page_of(data, tmp_path / "run", latent_dim=4)
    monkeypatch.chdir(tmp_path)
    assert main(["encode", "run", "--out", "codes.npz"]) == 0
    printed = dict(re.findall(r"latent +(\d+), [-\d.]+ nats, [^:]+: (.*)", capsys.readouterr().out))
    effects = Measured(tmp_path / "run", data).effects
    assert set(printed) == {str(j) for j in found.shown} == {str(j) for j in effects.latent}
    for j, change in zip(effects.latent, effects.change, strict=True):
        top = np.argsort(-np.abs(change))[:3]
        assert re.findall(r"(\w) ", printed[str(j)]) == [data.features[m] for m in top]
        row = re.search(rf'data-card="latent-{j}".*?</tr>', html, re.DOTALL).group()
        assert re.findall(r"\b([a-e]) [+−]", row)[-3:] == [data.features[m] for m in top]
    rows = {int(n) for n in re.findall(r'id="example-(\d+)"', html)}
    assert rows <= {i + 2 for i in data.test.index.tolist()}  # as the file's lines, of which the first is the header
    assert "examples by their line of the file, from 1" in html
    assert f"Example {min(rows)}<" in html
