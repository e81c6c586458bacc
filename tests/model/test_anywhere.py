"""Numerics are those of the place where a model is: any device, precision, grad mode, default, and under torch.func."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Laplace, Normal
from torch.func import functional_call, grad, jacrev, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsc.fields import Field
from vsc.model import MODELS, VSC
from vsc.model.distributions import SpikeAndSlab
from vsc.model.likelihoods import LIKELIHOODS, Columns
from vsc.model.nets import NETS
from vsc.model.spikes import SPIKES, Curved, analytic, hard

B, M, J = 6, 5, 3
MIXED = [Field("a", "gaussian"), Field("b", "categorical", ("u", "v", "w")), Field("c", "negative-binomial")]
SIZES = {"inputs": M, "latent_dim": J, "components": 4}


@pytest.fixture
def built(build, variant):
    """Return what makes every prior, x (B, M) and the encoder, at a precision and on a device."""

    def make(dtype=torch.float32, device="cpu", name=variant):
        prior, _, posterior = build(name, dtype, device, **SIZES)
        return prior, torch.rand(B, M).to(dtype).to(device), posterior

    return make


class Elsewhere(TorchDispatchMode):
    """A pretended accelerator, on the meta device: refuses float64, and tensors of two devices in one operation."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        seen = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.ndim] + made
        assert all(t.device.type == "meta" for t in seen), f"{func} leaves the device"
        assert all(t.dtype != torch.float64 for t in made), f"{func} makes float64"
        return out


def everything(prior, x, posterior):
    """Return all that a prior says, in one list of tensors."""
    qz, beside = prior.encoded(x, posterior)
    z = prior.sample(B, posterior)
    draws = [] if isinstance(qz, Normal | Laplace) else [qz.mean, qz.hard, qz.entropy(), qz.variance, qz.log_prob(z)]
    return [*prior.kl(qz, x, beside), prior.latent_kl(qz, x, posterior), z, prior.log_prob(z, posterior), *draws]


class TestEveryPrior:
    def test_stays_on_its_device_without_float64(self, built):
        prior, x, posterior = built(device="meta")
        with Elsewhere():
            found = everything(prior, x, posterior)
            with torch.no_grad():
                found += everything(prior, x, posterior)
        assert {t.dtype for t in found} == {torch.float32}

    def test_half_precision_weights_are_as_good_as_their_digits(self, built):
        """The weights alone are rounded: nats stay in single precision, and are those of the rounded weights."""
        prior, x, posterior = built(torch.bfloat16)
        rough = prior.kl(posterior(x), x, posterior)
        assert all(part.dtype == torch.float32 for part in rough)
        sample = prior.sample(1000, posterior)
        assert torch.isfinite(prior.log_prob(sample, posterior)).all()
        prior = prior.float()
        for part, exact in zip(rough, prior.kl(posterior(x), x, posterior), strict=True):
            torch.testing.assert_close(part, exact, rtol=0.05, atol=0.05)

    def test_defaults_of_the_caller_change_no_number(self, built):
        prior, x, posterior = built()
        before, results = torch.get_default_dtype(), []
        with torch.no_grad():
            for default in (before, torch.float64, torch.bfloat16):
                torch.set_default_dtype(default)
                try:
                    with torch.device("meta" if results else "cpu"):
                        torch.manual_seed(1)
                        results.append(everything(prior, x, posterior))
                finally:
                    torch.set_default_dtype(before)
        for found in results[1:]:
            torch.testing.assert_close(found, results[0], rtol=0, atol=0)

    @pytest.mark.parametrize("looking", [torch.no_grad, torch.inference_mode])
    def test_what_was_looked_at_before_changes_no_gradient(self, built, looking):
        """Nor does it have to be made anew: a prior and an encoder are as good outside of inference mode as inside."""
        prior, x, posterior = built()
        qz, results = posterior(x.requires_grad_()), []
        for looks in (False, True):
            if looks:
                with looking():
                    _ = qz.mean, qz.sample(), qz.stddev, everything(prior, x, posterior)
            kl = prior.kl(qz, x, posterior)
            results.append(torch.autograd.grad((kl.slab + kl.spike).sum(), x, retain_graph=True)[0])
        assert results[0].any()
        assert torch.equal(*results)


def test_likelihoods_and_estimators_stay_on_their_device_without_float64():
    mu, logvar, logits = torch.randn(3, B, J, device="meta")
    qz = SpikeAndSlab(mu, logvar, spike_logits=logits, validate_args=False)
    likelihoods = [(Columns(MIXED) if kind is Columns else kind()).to("meta") for kind in LIKELIHOODS.values()]
    with Elsewhere():
        for likelihood in likelihoods:
            x, out = torch.rand(B, M, device="meta"), torch.randn(B, likelihood.width(M), device="meta")
            found = [
                likelihood.log_prob(x, out),
                likelihood.mean(out),
                likelihood.sample(out),
                likelihood.at_floor(out),
            ]
            assert {t.dtype for t in found if t is not None} == {torch.float32}
        for estimator in (*SPIKES.values(), hard):
            log_px = Curved(lambda z: -z.square().sum(-1), lambda: torch.full((J,), 2.0, device="meta"))
            assert estimator(qz, log_px, 0.5).shape == (B,)


def model(kind, likelihood=None, **options):
    """Build a model of M outputs and J latents whose nets have one hidden layer, or those that its estimator needs."""
    if options.get("spikes") is analytic:
        nets = NETS["lista"]((M,), kind.features * J, J, 1)
        return kind(*nets, shape=(M,), latent_dim=J, likelihood=LIKELIHOODS["gaussian-shared"](), **options)
    width = likelihood.width(M) if likelihood else M
    encoder = nn.Sequential(nn.Linear(M, 4), nn.ReLU(), nn.Linear(4, kind.features * J))
    decoder = nn.Sequential(nn.Linear(J, 4), nn.ReLU(), nn.Linear(4, width))
    return kind(encoder, decoder, shape=(M,), latent_dim=J, likelihood=likelihood, **options)


WHOLE = {"vsc", "topk", "batch-topk", "matryoshka"}
"""Models that are tried otherwise, or that keep count of whole batches."""

ELBOS = (
    {f"estimator {name}": lambda spikes=spikes: model(VSC, spikes=spikes) for name, spikes in SPIKES.items()}
    | {
        f"likelihood {name}": lambda kind=kind: model(VSC, Columns(MIXED) if kind is Columns else kind())
        for name, kind in LIKELIHOODS.items()
    }
    | {f"model {name}": lambda kind=kind: model(kind) for name, kind in MODELS.items() if name not in WHOLE}
)


@pytest.mark.parametrize("name", ELBOS)
def test_functional_transforms_of_the_elbo(name):
    transforms(ELBOS[name]())


def test_functional_transforms_of_the_elbo_with_every_prior(named, case):
    transforms(model(VSC, prior=named(case, **SIZES)))


def test_functional_transforms_of_the_elbo_with_open_gates(named):
    transforms(model(VSC, prior=named("fixed unit alpha=1", **SIZES)))


def transforms(whole):
    """jacrev's rows are per-example gradients, and sum to backward's; vmap of grad gives such rows too."""
    x = torch.rand(B, M)
    weights = {key: value.detach() for key, value in whole.named_parameters()}

    def elbo(weights, x):
        return functional_call(whole, weights, (x,)).elbo

    torch.manual_seed(2)
    rows = jacrev(elbo)(weights, x)
    torch.manual_seed(2)
    whole(x).elbo.sum().backward()
    for key, parameter in whole.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(rows[key].sum(0), expected, rtol=1e-4, atol=1e-4)

    def one(weights, row):
        return elbo(weights, row.unsqueeze(0)).squeeze(0)

    torch.manual_seed(3)
    each = vmap(grad(one), (None, 0), randomness="same")(weights, x)
    for i in range(B):
        torch.manual_seed(3)
        alone = grad(one)(weights, x[i])
        torch.testing.assert_close({key: value[i] for key, value in each.items()}, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in ("laplace", "columns")])
def test_second_derivatives_of_likelihoods(name):
    likelihood = LIKELIHOODS[name]().double()
    out = torch.randn(2, likelihood.outputs * 2, dtype=torch.float64, requires_grad=True)
    x = torch.rand(2, 2, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda out: likelihood.log_prob(x, out), out)


def test_derivatives_of_divergences(built, variant):
    """Against finite differences; the optimal choice is held fixed, so mixtures choose by their scores here."""
    name = f"{variant} softmax" if variant.startswith(("mixture", "pseudo-inputs")) else variant
    prior, x, posterior = built(torch.float64, name=name)

    def kl(x):
        qz = posterior(x)
        parts = prior.kl(qz, x, posterior)
        return parts.slab + parts.spike + parts.selection

    assert torch.autograd.gradcheck(kl, x.requires_grad_())
    assert torch.autograd.gradgradcheck(kl, x)


@pytest.mark.parametrize(
    ("name", "likelihood"),
    [
        *((name, "gaussian") for name in MODELS),
        *(("vsc", name) for name in ("gaussian-fixed", "gaussian-shared", "laplace")),
    ],
)
def test_rows_far_out_have_a_bound_that_is_a_number(name, likelihood):
    """100 to 1e30 standard deviations away a log-density is finite or -inf, and never NaN; so is every weight."""
    trained = model(MODELS[name], LIKELIHOODS[likelihood]()).eval()
    x = torch.cat([scale * torch.randn(20, M) for scale in (1e2, 1e5, 1e10, 1e20, 1e30)])
    with torch.no_grad():
        bound = trained(x)
        assert not any(part.isnan().any() for part in (*bound, bound.elbo))
        assert not (bound.elbo == math.inf).any()
        assert torch.isfinite(bound.elbo[:20]).sum() >= 15  # e^60 is not far, and its square is no float
        if trained.bounded:
            assert not trained.log_weights(x, 3).isnan().any()
