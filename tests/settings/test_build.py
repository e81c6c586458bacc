"""From names to objects: what a member takes it says itself, what nothing takes is refused, and what is saved loads."""

import hashlib
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import vsc
from vsc.errors import RunError, UsageError
from vsc.model import MODELS
from vsc.model.likelihoods import GaussianFixed, Likelihood
from vsc.model.nets import NETS
from vsc.model.priors import PRIORS, Divergence, Prior
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig

SHORT = TrainConfig(steps=4, batch_size=20, valid_every=4, log_every=4)


def config(**model):
    return Config(model=ModelConfig(**({"latent_dim": 3, "hidden": (7,)} | model)), train=SHORT)


@pytest.mark.parametrize(
    ("model", "idle"),
    [
        ({"name": "vae", "prior": "pseudo-inputs"}, "model.prior"),
        ({"name": "ae", "alpha": 0.3}, "model.alpha"),
        ({"name": "thresholded-laplace", "gate_init": 1.0}, "model.gate_init"),
        ({"prior": "normal", "alpha": 0.3}, "model.alpha"),
        ({"prior": "learned", "components": 5}, "model.components"),
        ({"prior": "mixture", "nu": 10.0}, "model.nu"),
        ({"net": "conv", "hidden": (7,)}, "model.hidden"),
        ({"likelihood": "bernoulli", "variance": 0.1}, "model.variance"),
        ({"likelihood": "gaussian-fixed", "variance_floor": 0.1}, "model.variance_floor"),
    ],
)
def test_a_setting_that_no_part_of_the_model_takes_is_refused(tiny, model, idle):
    with pytest.raises(UsageError, match=f"^{re.escape(idle)} does nothing with model") as caught:
        build.resolve(config(**model), tiny)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prior", PRIORS)
def test_resolving_twice_changes_nothing(tiny, name, prior):
    asked = config(name=name) if name != "vsc" else config(prior=prior)
    resolved = build.resolve(asked, tiny)
    assert build.resolve(resolved, tiny) == resolved


@pytest.mark.parametrize(
    ("name", "value"),
    [("gate_init", math.nan), ("off_value", math.inf), ("variance", 1e-40), ("nu", math.nan), ("alpha", -math.inf)],
)
def test_what_is_no_number_is_refused_by_name(tiny, name, value):
    with pytest.raises(UsageError, match=f"^model.{name} must be a number"):
        build.resolve(config(**{name: value}), tiny)


@pytest.mark.parametrize("latent_dim", [10**9, 10**20])
def test_a_model_larger_than_memory_is_refused_before_memory_is_taken(tiny, latent_dim):
    with pytest.raises(UsageError, match=r"takes .* GiB, and this machine has .*; lower model.latent_dim"):
        build.new_model(build.resolve(config(latent_dim=latent_dim), tiny), tiny)


@pytest.mark.parametrize("scale", ["none", "unit-norm", "standard"])
def test_auto_is_gaussian_where_values_leave_the_unit_interval(scale):
    data = vsc.from_arrays(3 * torch.randn(500, 5))
    resolved = build.resolve(replace(config(), data=DataConfig(scale=scale)), data)
    assert resolved.model.likelihood == "gaussian"


def test_defaults_of_torch_do_not_reach_a_model(tiny):
    resolved = build.resolve(config(off_value=-1.0, prior="mixture"), tiny)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            model = build.new_model(resolved, tiny)
    finally:
        torch.set_default_dtype(torch.float32)
    tensors = [*model.parameters(), *model.buffers()]
    assert {(t.dtype, t.device.type, t.is_inference()) for t in tensors} == {(torch.float32, "cpu", False)}


class Wide(Prior):
    """N(0, 4) in every dimension, without spikes: a prior written as `Prior` says."""

    gates_open = True

    def __init__(self, latent_dim):
        super().__init__()
        self.latent_dim = latent_dim

    def kl(self, qz, x, posterior):
        """Return KL(N(mu, s^2) || N(0, 4)), all of it in the slab part."""
        slab = (0.5 * ((qz.logvar.exp() + qz.mu.square()) / 4 - 1 - qz.logvar) + math.log(2)).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, zero, zero, zero)

    def sample(self, n, posterior):
        """Draw z."""
        return 2 * torch.randn(n, self.latent_dim)

    def log_prob(self, z, posterior):
        """Return ln p(z)."""
        return torch.distributions.Normal(0.0, 2.0).log_prob(z).sum(-1)


class Squared(Likelihood):
    """N(out, 1) without its constant: a likelihood written as `Likelihood` says."""

    def log_prob(self, x, out):
        """Return minus half of the squared error."""
        return -0.5 * (x - out).square().sum(-1)

    def mean(self, out):
        """Return the mean."""
        return out

    def sample(self, out):
        """Draw x."""
        return out + torch.randn_like(out)

    def constant(self, x):
        """Return the mean of the columns."""
        return x.mean(0)


class Images(nn.Module):
    """An encoder of images (B, 1, 8, 8) that is no Sequential and ends in no Linear."""

    def __init__(self, features):
        super().__init__()
        self.conv = nn.Conv2d(1, features, 8)

    def forward(self, x):
        """Return (B, features)."""
        return self.conv(x).tanh().flatten(1)


class Repeat(nn.Module):
    """A decoder without child modules or parameters, whose outputs have the shape of an image."""

    def forward(self, z):
        """Return (B, 1, 8, 8)."""
        return z.mean(-1)[:, None, None, None].expand(-1, 1, 8, 8)


def mine(kind=vsc.VSC, **options):
    own = {"prior": Wide(3)} if kind is vsc.VSC else {}
    return kind(
        Images(3 * kind.features), Repeat(), shape=(1, 8, 8), latent_dim=3, likelihood=Squared(), **own | options
    )


@pytest.mark.parametrize("kind", MODELS.values())
def test_a_model_of_ones_own_is_trained_saved_and_loaded(tiny, tmp_path, kind):
    trained = vsc.train(tiny, Config(train=SHORT), tmp_path / "run", model=mine(kind))
    loaded = vsc.load(tmp_path / "run", model=mine(kind))
    assert loaded.scaler.high == 255
    torch.testing.assert_close(loaded.encode(tiny.test.x), trained.encode(tiny.test.x), rtol=0, atol=0)
    assert loaded.likelihood.__class__ is Squared
    with pytest.raises(UsageError, match=r"made in Python; load it there: vsc.load\(path, model=...\)"):
        vsc.load(tmp_path / "run")


def test_settings_of_a_model_beside_one_of_ones_own_are_refused(tiny):
    with pytest.raises(UsageError, match=r"model\.latent_dim is for models built from settings"):
        vsc.train(tiny, config(hidden=(400,)), model=mine())


def test_weights_of_another_model_are_one_line(tiny, tmp_path):
    vsc.train(tiny, Config(train=SHORT), tmp_path / "run", model=mine())
    with pytest.raises(UsageError, match=r"is not that which was given: .*conv\.weight has shape") as caught:
        vsc.load(tmp_path / "run", model=mine(vsc.VAE))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::vsc.errors.Caution")  # of four steps not much can be asked
@pytest.mark.parametrize("net", ["plain", "mlp"])
def test_a_registered_net_of_any_kind_trains_and_is_measured(tiny, tmp_path, monkeypatch, net):
    def plain(shape, features, latent_dim, outputs):
        return Images(features), nn.Bilinear(latent_dim, latent_dim, 64) if outputs > 1 else Repeat()

    monkeypatch.setitem(NETS, "plain", plain)
    asked = (
        config(net=net, gate_init=2.0, off_value=-1.0)
        if net == "mlp"
        else Config(model=ModelConfig(latent_dim=3, net=net, gate_init=2.0, off_value=-1.0), train=SHORT)
    )
    vsc.train(tiny, asked, tmp_path / "run")
    assert math.isfinite(vsc.evaluate(vsc.load(tmp_path / "run"), tiny).elbo)


def as_format_1(folder, model):
    """Rewrite a saved model as format 1 had it: what is added at the start in a bias, off values before the decoder."""
    described = json.loads((folder / "config.json").read_text())
    weights, old = load_file(folder / "model.safetensors"), {}
    J = model.latent_dim
    for name, value in weights.items():
        name = "decoder.0.value" if name == "off_value" else name
        name = name.replace("decoder.", "decoder.1.", 1) if "off_value" in weights and "weight" in name else name
        name = name.replace("decoder.", "decoder.1.", 1) if "off_value" in weights and "bias" in name else name
        old[name] = value
    for added in ("gate_init", "scale_init"):
        if added in old:
            old["encoder.2.bias"][-J:] += old.pop(added)
    save_file(old, folder / "model.safetensors")
    kept = ("model", "shape", "scale", "columns", "classes")
    described = {"format": 1, **{name: described[name] for name in kept}}
    described["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(described))


@pytest.mark.parametrize(
    "model",
    [{"gate_init": 2.0, "off_value": -1.5}, {"off_value": 0.5}, {}, {"name": "thresholded-laplace"}, {"name": "vae"}],
)
def test_models_of_format_1_load(tiny, tmp_path, model):
    trained = vsc.train(tiny, config(**model), tmp_path / "run")
    as_format_1(tmp_path / "run" / "model", trained)
    loaded = vsc.load(tmp_path / "run")
    torch.testing.assert_close(loaded.encode(tiny.test.x), trained.encode(tiny.test.x), rtol=1e-5, atol=1e-5)
    torch.manual_seed(1)
    z = torch.randn(4, 3) * (torch.rand(4, 3) < 0.5)
    torch.testing.assert_close(loaded.decode(z), trained.decode(z))


def test_a_config_that_asks_for_more_than_its_weights_is_refused_before_memory_is_taken(tiny, tmp_path):
    vsc.train(tiny, config(), tmp_path / "run")
    path = tmp_path / "run" / "model" / "config.json"
    described = json.loads(path.read_text())
    described["model"]["latent_dim"] = 10**8
    path.write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"encoder.2.weight has shape \(300000000, 7\), and \(9, 7\) was saved"):
        vsc.load(tmp_path / "run")


def test_a_model_loaded_in_inference_mode_can_be_trained_outside(tiny, tmp_path):
    vsc.train(tiny, config(likelihood="gaussian-fixed"), tmp_path / "run")
    with torch.inference_mode():
        model = vsc.load(tmp_path / "run")
    model(torch.rand(5, 64)).elbo.sum().backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
    assert isinstance(model.likelihood, GaussianFixed)
