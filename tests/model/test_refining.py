"""The coordinate ascent of codes of a linear decoder: against Bayes' rule, and it never lowers the bound."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from vsc.errors import UsageError
from vsc.model import VSC
from vsc.model.likelihoods import GaussianFixed
from vsc.model.nets import linear
from vsc.model.priors import LearnedGates, LearnedSlab, MixtureGates, SpikeSlabPrior
from vsc.model.refining import ascend
from vsc.model.spikes import analytic

VARIANCE, M = 0.3, 6


def model_of(J, prior=None):
    torch.manual_seed(J)
    if prior is None:
        prior = SpikeSlabPrior(LearnedGates(J, 0.2), LearnedSlab(J, 1.5))
    model = VSC(
        *linear((M,), 3 * J, J, 1),
        shape=(M,),
        latent_dim=J,
        likelihood=GaussianFixed(VARIANCE),
        prior=prior,
        spikes=analytic,
    )
    with torch.no_grad():
        for part in model.parameters():
            part.add_(0.4 * torch.randn_like(part))
    return model.double()


def posterior_of_one(model, x, j):
    """Return gamma, mean and variance of z_j given x by Bayes' rule, of a model whose other latents do not matter."""
    p, d = model.prior.mixed(model.posterior)[0], model.decoder.weight[j]
    (alpha, m, t2), eye = (p.gamma[j], p.mu[j], p.logvar[j].exp()), VARIANCE * torch.eye(M).double()
    on = MultivariateNormal(model.decoder.bias + m * d, eye + t2 * torch.outer(d, d)).log_prob(x)
    off = MultivariateNormal(model.decoder.bias, eye).log_prob(x)
    gamma = torch.sigmoid(torch.logit(alpha) + on - off)
    gain = t2 * d / (VARIANCE + t2)  # of the Kalman filter, |d| = 1
    return gamma, m + (x - model.decoder.bias - m * d) @ gain, t2 * (1 - gain @ d)


@torch.no_grad()
def test_one_latent_is_at_bayes_rule_after_one_sweep():
    model, x = model_of(1), torch.randn(50, M).double()
    found = ascend(model, x, model.posterior(x), 1)
    expected = posterior_of_one(model, x, 0)
    for value, right in zip((found.gamma, found.mu, found.logvar.exp()), expected, strict=True):
        torch.testing.assert_close(value[:, 0], right.expand(50))


@torch.no_grad()
def test_latents_at_right_angles_are_each_at_bayes_rule():
    model, x = model_of(4), torch.randn(50, M).double()
    model.decoder.get_parameter("directions").copy_(torch.linalg.qr(torch.randn(M, 4).double()).Q.T)
    found = ascend(model, x, model.posterior(x), 1)
    for j in range(4):
        gamma, mean, _ = posterior_of_one(model, x, j)
        torch.testing.assert_close(found.gamma[:, j], gamma)
        torch.testing.assert_close(found.mu[:, j], mean)


@torch.no_grad()
def test_no_sweep_lowers_the_bound_of_any_example():
    model, x = model_of(12), 2 * torch.randn(40, M).double()
    bounds = []
    for sweeps in range(6):
        qz = ascend(model, x, model.posterior(x), sweeps) if sweeps else model.posterior(x)
        kl = model.prior.kl(qz, x, model.posterior)
        bounds.append(analytic(qz, model.given(x)) - kl.slab - kl.spike)
    rise = torch.stack(bounds).diff(dim=0)
    assert (rise > -1e-9).all()
    assert rise[0].mean() > 1  # from a random encoder there is much to gain
    assert rise[-1].mean() < 0.1 * rise[0].mean()


@torch.no_grad()
def test_codes_and_bounds_take_the_sweeps_and_training_does_not():
    model, x = model_of(5).eval(), torch.randn(20, M).double()
    plain, refined = model.codes(x), ascend(model, x, model.posterior(x), 3)
    model.sweeps = 3
    torch.testing.assert_close(model.codes(x).gamma, refined.gamma)
    assert not torch.equal(plain.gamma, refined.gamma)
    torch.testing.assert_close(model(x).gamma, refined.gamma)
    torch.testing.assert_close(model.train()(x).gamma, plain.gamma)


def test_other_models_are_refused():
    mixed = model_of(3, SpikeSlabPrior(MixtureGates(3, 0.2, 4)))
    x = torch.randn(2, M).double()
    with pytest.raises(UsageError, match="gates without components"):
        ascend(mixed, x, mixed.posterior(x), 1)
    mixed.prior, mixed.decoder = model_of(3).prior, torch.nn.Linear(3, M).double()
    with pytest.raises(UsageError, match="linear decoder"):
        ascend(mixed, x, mixed.posterior(x), 1)
