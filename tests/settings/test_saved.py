"""Models saved in earlier formats come back as what they were."""

import pytest
import torch

from vsc.model import VSC
from vsc.model.priors import NormalPrior
from vsc.settings.build import Form, build_model
from vsc.settings.config import ModelConfig
from vsc.settings.saved import described, restored

SHAPE, J, OFF = (1, 6, 5), 3, torch.tensor([-3.0, 0.5, -1.0])
X = torch.rand(20, 30, generator=torch.Generator().manual_seed(0))


def built(gates, slab="unit", **options):
    settings = ModelConfig(
        net=options.pop("net", "mlp"),
        latent_dim=J,
        likelihood="bernoulli",
        gates=gates,
        slab=slab,
        components=4 if gates in ("mixture", "pseudo-inputs") else None,
        **options,
    )
    return build_model(settings, Form(SHAPE)).eval(), settings


def as_format(number, model):
    """Return a model's weights under the names of format 1 or 2."""
    renamed = {name.replace("gates.", "").replace("own_slab.", ""): w for name, w in model.state_dict().items()}
    if number == 2:
        return renamed
    del renamed["gate_init"]
    return {name.replace("decoder.", "decoder.1."): w for name, w in renamed.items()}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("gates", ["fixed", "learned", "mixture", "pseudo-inputs"])
def test_a_value_for_what_is_off_is_a_learned_slab_beside_a_spike_at_zero(gates, net, number):
    """Old models gave the decoder o_j where a latent was off; the same is a spike at 0 and slabs moved by -o."""
    old, _ = built(gates, net=net)
    weights = as_format(number, old) | {"decoder.0.value" if number == 1 else "off_value": OFF}
    old.decoder.register_forward_pre_hook(lambda _, args: torch.where(args[0] == 0, OFF, args[0]))
    settings = built(gates, "learned", net=net)[1]
    new = restored(described(old, settings) | {"format": number}, settings, weights)
    z = torch.randn(50, J) * (torch.rand(50, J) < 0.5)
    torch.testing.assert_close(new.decode(torch.where(z == 0, 0, z - OFF)), old.decode(z))
    found = []
    for model in (old, new):
        torch.manual_seed(1)
        with torch.no_grad():
            bound = model(X)
            found.append([bound.terms, bound.gamma, model.log_weights(X, 4), model.sample(50)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    codes, before = new.encode(X), old.encode(X)
    torch.testing.assert_close(codes.mu, before.mu - OFF)
    assert torch.equal(codes.active, before.active)


@pytest.mark.parametrize("slab", ["unit", "own"])
@pytest.mark.parametrize("gates", ["mixture", "pseudo-inputs"])
def test_parts_of_a_mixture_are_found_under_their_old_names(gates, slab):
    """A mixture of parameters had slabs in its file even where it did not use them."""
    old, settings = built(gates, slab, selector="softmax")
    weights = as_format(2, old)
    if gates == "mixture":
        weights = {f"prior.{name}": torch.randn(4, J) for name in ("mu", "logvar")} | weights
    new = restored(described(old, settings) | {"format": 2}, settings, weights)
    torch.testing.assert_close(new.state_dict(), old.state_dict(), rtol=0, atol=0)


class Shifted(NormalPrior):
    """A prior of a user's own, with weights that ours of earlier formats had too."""

    def __init__(self, latent_dim):
        super().__init__(latent_dim)
        self.mu = torch.nn.Parameter(torch.randn(latent_dim))


def test_weights_of_a_prior_of_your_own_keep_their_names():
    def own():
        nets = torch.nn.Linear(30, 3 * J), torch.nn.Linear(J, 30)
        return VSC(*nets, shape=SHAPE, latent_dim=J, prior=Shifted(J))

    made, settings = own(), ModelConfig(name="custom", latent_dim=J)
    about = described(made, settings) | {"format": 2}
    again = restored(about, settings, dict(made.state_dict()), own())
    assert torch.equal(again.prior.mu, made.prior.mu)
