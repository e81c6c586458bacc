"""From names to objects: what a member takes it says itself, what nothing takes is refused, and what is saved loads."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

import vsc
from vsc.data.split import Dataset, Split
from vsc.errors import RunError, UsageError
from vsc.model import MODELS
from vsc.model.likelihoods import GaussianFixed, Likelihood
from vsc.model.nets import NETS
from vsc.model.priors import GATES, SLABS, Divergence, Prior
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.presets import changed
from vsc.settings.resolve import _prior, resolve, unused, unused_by_model, without
from vsc.settings.schedule import Schedule

SHORT = TrainConfig(steps=4, batch_size=20, valid_every=4, log_every=4)


def config(**model):
    return Config(model=ModelConfig(**({"latent_dim": 3, "hidden": (7,)} | model)), train=SHORT)


@pytest.mark.parametrize(
    ("model", "idle"),
    [
        ({"name": "vae", "gates": "fixed"}, "model.gates"),
        ({"name": "vae", "slab": "unit"}, "model.slab"),
        ({"name": "ae", "alpha": 0.3}, "model.alpha"),
        ({"name": "thresholded-laplace", "gate_init": 1.0}, "model.gate_init"),
        ({"alpha": 0.3}, "model.alpha"),
        ({"gates": "mixture", "alpha": 0.3}, "model.alpha"),
        ({"gates": "learned", "components": 5}, "model.components"),
        ({"gates": "fixed", "selector": "softmax"}, "model.selector"),
        ({"gates": "mixture", "nu": 10.0}, "model.nu"),
        ({"slab_mean": 1.0}, "model.slab_mean"),
        ({"net": "conv", "hidden": (7,)}, "model.hidden"),
        ({"likelihood": "bernoulli", "variance": 0.1}, "model.variance"),
        ({"likelihood": "gaussian-fixed", "variance_floor": 0.1}, "model.variance_floor"),
    ],
)
def test_a_setting_that_no_part_of_the_model_takes_is_refused(tiny, model, idle):
    with pytest.raises(UsageError, match=f"^{re.escape(idle)} does nothing with model") as caught:
        resolve(config(**model), tiny)
    assert "\n" not in str(caught.value)


OTHERS = [{"name": name} for name in MODELS if name != "vsc"]
PRIORS = [{"gates": gates, "slab": slab} for gates in ("auto", *GATES) for slab in ("auto", *SLABS)]


@pytest.mark.parametrize("model", [*OTHERS, *PRIORS], ids=str)
@pytest.mark.parametrize(
    "train", [{}, {"target_l0": 1.0}, {"target_l0": "3 -> 2 at 0.5", "cap": 0.9}, {"cap": 0.2}], ids=str
)
def test_resolving_twice_changes_nothing(tiny, model, train):
    asked = changed(config(**model), {f"train.{name}": value for name, value in train.items()})
    resolved = resolve(without(asked, unused(asked)), tiny)
    assert resolve(resolved, tiny) == resolved


# ---- what is left open


@pytest.mark.parametrize(
    ("gates", "slab"),
    [("fixed", "unit"), ("learned", "unit"), ("mixture", "own"), ("pseudo-inputs", "own"), ("auto", "own")],
)
def test_the_slab_that_suits_the_gates(tiny, gates, slab):
    assert resolve(config(gates=gates), tiny).model.slab == slab
    assert resolve(config(gates=gates, slab="learned"), tiny).model.slab == "learned"


@pytest.mark.parametrize("gates", ["fixed", "learned"])
def test_one_component_has_no_slab_of_its_own(tiny, gates):
    with pytest.raises(UsageError, match="slab own is for gates of several components, mixture and pseudo-inputs"):
        build.new_model(resolve(config(gates=gates, slab="own"), tiny), tiny)


@pytest.mark.parametrize(("n", "components"), [(5, 1), (10, 1), (60, 6), (999, 99), (1000, 100), (5000, 100)])
def test_components_are_a_tenth_of_the_examples_and_at_most_100(n, components):
    assert _prior(ModelConfig(), n).components == components
    assert _prior(ModelConfig(gates="mixture"), n).components == components
    assert _prior(ModelConfig(components=3), n).components == 3
    assert _prior(ModelConfig(gates="fixed"), n).components is None


def test_more_components_than_examples_are_refused(tiny):
    assert resolve(config(components=60), tiny).model.components == 60
    with pytest.raises(UsageError, match=r"model\.components is 61, more than there are training examples, 60"):
        resolve(config(components=61), tiny)


@pytest.mark.parametrize(
    ("model", "approached"),
    [
        *(({"gates": gates}, True) for gates in ("pseudo-inputs", "mixture", "learned")),
        *((model, False) for model in ({"gates": "fixed"}, {"name": "thresholded-laplace"})),
    ],
)
def test_a_target_is_come_to_from_above_where_the_prior_does_not_ask_for_few_itself(tiny, model, approached):
    asked = replace(config(latent_dim=32, **model), train=replace(SHORT, target_l0=6.0, patience=0))
    found = resolve(asked, tiny)
    assert found.train.target_l0 == (Schedule.parse("24 -> 6 at 0.1 over 0.3") if approached else 6.0)
    assert resolve(found, tiny) == found


@pytest.mark.parametrize(
    ("model", "train", "cap"),
    [
        ({"latent_dim": 32}, {}, 0.4),
        ({"latent_dim": 25}, {}, 0.4),
        ({"latent_dim": 16}, {}, 0.5),
        ({"latent_dim": 4}, {}, 1.0),
        ({"latent_dim": 1}, {}, 1.0),
        ({"latent_dim": 32, "gates": "learned"}, {}, 0.4),
        ({"latent_dim": 32, "gates": "mixture"}, {}, 0.4),
        ({"latent_dim": 32, "gates": "fixed"}, {}, 1.0),
        ({"latent_dim": 32, "name": "thresholded-laplace"}, {}, 1.0),
        ({"latent_dim": 32}, {"penalty": 1.0}, 1.0),
        ({"latent_dim": 32}, {"target_l0": 6.0}, 0.4),
        ({"latent_dim": 32}, {"target_l0": "32 -> 16 at 0.5"}, 0.625),
        ({"latent_dim": 32}, {"target_l0": 31.0}, 1.0),
        ({"latent_dim": 32}, {"cap": 0.1}, 0.1),
        ({"latent_dim": 32, "gates": "fixed"}, {"cap": 0.1}, 0.1),
        ({"name": "vae"}, {}, None),
        ({"name": "ae"}, {}, None),
        ({"gates": "fixed", "alpha": 1.0}, {}, None),
    ],
)
def test_the_cap_where_none_is_given(tiny, model, train, cap):
    asked = replace(config(**model), train=replace(SHORT, **train))
    found = resolve(asked, tiny).train.cap
    assert found == (cap if cap is None else pytest.approx(cap))


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (
            {"target_l0": 5.0, "cap": 0.3},
            "train.target_l0 5 cannot be met: with train.cap 0.3, at most 2.4 of 8 latents",
        ),
        ({"target_l0": 8.0}, "train.target_l0 must be below the number of latents, 8, in the end, not 8"),
        ({"target_l0": "4 -> 9 at 0.5"}, "must be below the number of latents, 8, in the end, not 9"),
    ],
)
@pytest.mark.parametrize("gates", GATES)
def test_a_target_that_cannot_be_met_is_refused(tiny, train, says, gates):
    with pytest.raises(UsageError, match=says):
        resolve(replace(config(latent_dim=8, gates=gates), train=replace(SHORT, **train)), tiny)


@pytest.mark.parametrize("model", [{"name": "thresholded-laplace"}, *({"gates": gates} for gates in GATES)], ids=str)
def test_a_target_sets_the_alpha_that_bears_on_l0(tiny, model):
    asked = replace(config(latent_dim=4, **model), train=TrainConfig(target_l0=1.0))
    mixture = model.get("gates") in ("mixture", "pseudo-inputs")
    assert resolve(asked, tiny).model.alpha == (ModelConfig().alpha if mixture else 1 / 4)


def test_alpha_is_heard_where_a_penalty_asks_for_it(tiny):
    charged = replace(config(alpha=0.3), train=replace(SHORT, penalty=1.0))
    assert resolve(charged, tiny).model.alpha == 0.3


def test_nu_asks_for_pseudo_inputs(tiny):
    assert resolve(config(nu=10.0), tiny).model.gates == "pseudo-inputs"


@pytest.mark.parametrize(
    ("n", "steps", "gates"),
    [
        (60, 2000, "mixture"),
        (999, 2000, "mixture"),
        (1000, 2000, "pseudo-inputs"),
        (10_000, 2000, "pseudo-inputs"),
        (10_001, 10_000, "pseudo-inputs"),
    ],
)
def test_steps_and_gates_suit_the_number_of_examples(n, steps, gates):
    x = torch.zeros(n, 2)
    x[::2] = 1
    data = Dataset("plain", (2,), *(Split(part) for part in (x, x[:1], x[:1])), high=1.0)
    resolved = resolve(Config(), data)
    assert (resolved.train.steps, resolved.train.valid_every) == (steps, steps // 20)
    assert resolved.model.gates == gates
    assert resolve(Config(train=TrainConfig(steps=7)), data).train.steps == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [("gate_init", math.nan), ("slab_mean", math.inf), ("variance", 1e-40), ("nu", math.nan), ("alpha", -math.inf)],
)
def test_what_is_no_number_is_refused_by_name(tiny, name, value):
    with pytest.raises(UsageError, match=f"^model.{name} must be a number"):
        resolve(config(**{name: value}), tiny)


@pytest.mark.parametrize("latent_dim", [10**9, 10**20])
def test_a_model_larger_than_memory_is_refused_before_memory_is_taken(tiny, latent_dim):
    with pytest.raises(UsageError, match=r"takes .* GiB, and this machine has .*; lower model.latent_dim"):
        build.new_model(resolve(config(latent_dim=latent_dim), tiny), tiny)


@pytest.mark.parametrize("scale", ["none", "unit-norm", "standard"])
def test_auto_is_gaussian_where_values_leave_the_unit_interval(scale):
    data = vsc.from_arrays(3 * torch.randn(500, 5))
    resolved = resolve(replace(config(), data=DataConfig(scale=scale)), data)
    assert resolved.model.likelihood == "gaussian"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (torch.rand(400, 9), "gaussian-shared"),  # variance 1/12 of 1/4: a third
        (torch.randint(256, (400, 1, 3, 3), dtype=torch.uint8), "gaussian-shared"),
        ((torch.rand(400, 9) < 0.3).float(), "bernoulli"),  # all of it
        ((torch.rand(400, 9) < 0.3).float() * 0.6 + 0.1, "gaussian-shared"),  # .36 x .21 of .28 x .72: .375
        ((torch.rand(400, 9) < 0.5).float() * 0.9 + 0.05, "bernoulli"),  # .81
    ],
)
def test_shades_of_grey_are_told_from_black_and_white(own, expected):
    data = vsc.from_arrays(own)
    assert resolve(config(), data).model.likelihood == expected
    binarised = replace(config(), data=DataConfig(scale="unit-interval", binarise=True))
    assert resolve(binarised, data).model.likelihood == "bernoulli"


def test_a_learned_variance_starts_at_a_quarter_of_that_of_the_data():
    x = torch.rand(2000, 9) * torch.linspace(0.1, 1, 9)  # U(0, a) has variance a^2 / 12
    data = vsc.from_arrays(x)
    resolved = resolve(config(likelihood="gaussian-shared"), data)
    start = build.new_model(resolved, data).likelihood.get_parameter("logvar").exp()
    assert resolved.data.scale == "unit-interval"
    assert start.item() == pytest.approx((torch.linspace(0.1, 1, 9) ** 2 / 48).mean().item(), rel=0.1)
    standard = resolve(replace(config(likelihood="gaussian-shared"), data=DataConfig(scale="standard")), data)
    assert build.new_model(standard, data).likelihood.get_parameter("logvar").item() == 0


def test_defaults_of_torch_do_not_reach_a_model(tiny):
    resolved = resolve(config(slab="learned", slab_mean=1.0, gates="mixture"), tiny)
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

    def terms(self, x, out):
        """Return minus half of the squared error."""
        return -0.5 * (x - out).square()

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
    asked = config(net=net, gate_init=2.0, slab="learned", slab_mean=1.0)
    vsc.train(tiny, without(asked, unused_by_model(asked.model)), tmp_path / "run")
    assert math.isfinite(vsc.evaluate(vsc.load(tmp_path / "run"), tiny).elbo)


def test_a_config_that_asks_for_more_than_its_weights_is_refused_before_memory_is_taken(tiny, tmp_path):
    vsc.train(tiny, config(gates="fixed"), tmp_path / "run")
    path = tmp_path / "run" / "model" / "config.json"
    described = json.loads(path.read_text())
    described["model"]["latent_dim"] = 10**8
    path.write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"has shape \(.*00000000.*\), and \(.*\) was saved"):
        vsc.load(tmp_path / "run")


def test_a_model_loaded_in_inference_mode_can_be_trained_outside(tiny, tmp_path):
    vsc.train(tiny, config(likelihood="gaussian-fixed"), tmp_path / "run")
    with torch.inference_mode():
        model = vsc.load(tmp_path / "run")
    model(torch.rand(5, 64)).elbo.sum().backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
    assert isinstance(model.likelihood, GaussianFixed)


@pytest.mark.parametrize(
    ("likelihood", "clip"),
    [
        ("bernoulli", None),
        ("continuous-bernoulli", None),
        ("gaussian-fixed", None),
        ("gaussian", 10.0),
        ("gaussian-shared", 10.0),
        ("laplace", 10.0),
    ],
)
def test_gradients_are_clipped_where_variances_are_learned(tiny, likelihood, clip):
    resolved = resolve(config(likelihood=likelihood), tiny)
    assert resolved.train.clip == clip
    own = build.new_model(resolved, tiny)
    assert resolve(Config(train=TrainConfig(steps=7)), tiny, own).train.clip == clip
