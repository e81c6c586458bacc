"""Likelihoods against torch.distributions, their stated ceiling, and the contract of the registry."""

import math

import mpmath
import pytest
import torch
from scipy.stats import laplace
from torch import distributions as D
from torch.nn.functional import binary_cross_entropy_with_logits

from vsc.errors import UsageError
from vsc.model.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulliLogits,
    Gaussian,
    GaussianFixed,
    GaussianShared,
    Laplace,
)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_bernoulli_on_binary_data():
    out = 5 * doubles(6, 9)
    x = torch.bernoulli(torch.full_like(out, 0.4))
    torch.testing.assert_close(
        Bernoulli().log_prob(x, out), D.Bernoulli(logits=out).log_prob(x).sum(-1), rtol=1e-7, atol=0
    )


def test_bernoulli_on_grey_data_is_minus_the_cross_entropy():
    out, x = 5 * doubles(6, 9), torch.rand(6, 9, dtype=torch.float64)
    expected = -binary_cross_entropy_with_logits(out, x, reduction="none").sum(-1)
    torch.testing.assert_close(Bernoulli().log_prob(x, out), expected, rtol=1e-7, atol=0)


def test_bernoulli_stays_finite_for_certain_logits():
    out = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = Bernoulli().log_prob(torch.tensor([[0.0, 1.0]]), out)
    assert value.item() == -2e4
    assert torch.autograd.grad(value.sum(), out)[0].tolist() == [[-1, 1]]


@pytest.mark.parametrize("floor", [1e-6, 0.1])
def test_gaussian_with_its_floor(floor):
    mean, logvar, x = doubles(3, 6, 9)
    expected = D.Normal(mean, (logvar.exp() + floor).sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(Gaussian(floor).log_prob(x, torch.cat([mean, logvar], -1)), expected)


def test_gaussian_ceiling_on_constant_data():
    x = torch.full((2, 10), 0.3, dtype=torch.float64)
    out = torch.cat([x, torch.full_like(x, -100.0)], -1)
    per_output = Gaussian(1e-6).log_prob(x, out) / 10
    assert per_output[0].item() == pytest.approx(5.99, abs=0.005)
    assert per_output[0].item() == pytest.approx(-0.5 * math.log(2 * math.pi * 1e-6), rel=1e-12)
    # nothing scores higher, whatever the log-variance
    for logvar in (-20.0, -14.0, -5.0):
        below = Gaussian(1e-6).log_prob(x, torch.cat([x, torch.full_like(x, logvar)], -1)) / 10
        assert below[0] <= per_output[0]


def test_labels_say_what_the_nats_depend_on():
    assert "floor 1e-06" in Gaussian().label
    assert "5.99 nats" in Gaussian().label
    assert "floor 1e-06" in Laplace().label
    assert "6.56 nats" in Laplace().label
    assert "0.25" in GaussianFixed(0.25).label
    assert Bernoulli().label == "bernoulli"


@pytest.mark.parametrize("variance", [0.02, 1.0, 7.0])
def test_gaussian_fixed(variance):
    out, x = doubles(2, 6, 9)
    expected = D.Normal(out, math.sqrt(variance)).log_prob(x).sum(-1)
    torch.testing.assert_close(GaussianFixed(variance).log_prob(x, out), expected)


def test_gaussian_shared_learns_one_variance():
    likelihood = GaussianShared(0.01).double()
    out, x = doubles(2, 6, 9)
    likelihood.logvar.data.fill_(-0.7)
    variance = math.exp(-0.7) + 0.01
    expected = D.Normal(out, math.sqrt(variance)).log_prob(x).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(x, out), expected)
    assert "floor 0.01" in likelihood.label
    # its optimum is the mean squared error, where the gradient vanishes
    likelihood.logvar.data.fill_(math.log((x - out).square().mean().item() - 0.01))
    assert torch.autograd.grad(likelihood.log_prob(x, out).sum(), likelihood.logvar)[0].abs() < 1e-9


@pytest.mark.parametrize("floor", [1e-6, 0.1])
def test_laplace_with_its_floor(floor):
    m, logscale, x = doubles(3, 6, 9)
    scale = logscale.exp() + math.sqrt(floor / 2)
    value = Laplace(floor).log_prob(x, torch.cat([m, logscale], -1))
    torch.testing.assert_close(value, D.Laplace(m, scale).log_prob(x).sum(-1))
    torch.testing.assert_close(value, torch.from_numpy(laplace.logpdf(x, m, scale)).sum(-1))


def test_laplace_is_normalised():
    x = torch.linspace(-30, 30, 600_001, dtype=torch.float64).unsqueeze(-1)
    for m, logscale in [(0.0, 0.0), (1.3, -2.0), (-2.0, 0.5)]:
        out = torch.tensor([[m, logscale]], dtype=torch.float64).expand(len(x), -1)
        assert torch.trapezoid(Laplace().log_prob(x, out).exp(), x[:, 0]).item() == pytest.approx(1, abs=1e-6)


def test_laplace_ceiling_and_floor_on_constant_data():
    x = torch.full((2, 10), 0.3, dtype=torch.float64)
    out = torch.cat([x, torch.full_like(x, -100.0)], -1)
    per_output = Laplace(1e-6).log_prob(x, out) / 10
    # -ln(2 b) at 2 b^2 = floor
    assert per_output[0].item() == pytest.approx(-0.5 * math.log(2e-6), rel=1e-12)
    for logscale in (-20.0, -14.0, -5.0):
        below = Laplace(1e-6).log_prob(x, torch.cat([x, torch.full_like(x, logscale)], -1)) / 10
        assert below[0] <= per_output[0]
    draws = Laplace(0.1).sample(out[:1].expand(40_000, -1)).flatten()
    # the kurtosis of a Laplace is 6, so the standard error of its variance is var sqrt(5 / n)
    assert abs(draws.var() - 0.1) <= 4 * 0.1 * math.sqrt(5 / len(draws))


def test_at_floor_counts_the_outputs_below_ten_floors():
    floor = 1e-3
    variance = floor * torch.tensor([1.5, 9.0, 11.0, 1000.0], dtype=torch.float64)
    logvar = (variance - floor).log()
    logscale = ((variance / 2).sqrt() - math.sqrt(floor / 2)).log()
    for likelihood, spread in [(Gaussian(floor), logvar), (Laplace(floor), logscale)]:
        rows = torch.stack([spread, spread[[0, 0, 1, 1]], spread[[2, 2, 3, 3]]])
        share = likelihood.at_floor(torch.cat([doubles(3, 4), rows], -1))
        assert share.tolist() == [0.5, 1.0, 0.0]
    shared = GaussianShared(floor)
    for value, expected in zip(logvar, [1.0, 1.0, 0.0, 0.0], strict=True):
        shared.logvar.data.fill_(value)
        assert shared.at_floor(torch.zeros(3, 4)).tolist() == [expected] * 3


def test_likelihoods_without_a_floor_say_so():
    for name in ("bernoulli", "continuous-bernoulli", "gaussian-fixed"):
        assert LIKELIHOODS[name]().at_floor(torch.zeros(3, 4)) is None


LOGITS = [-1e4, -300.0, -20.0, -0.51, -0.49, -1e-3, -1e-9, 0.0, 1e-9, 0.1, 0.5, 3.0, 17.0, 90.0, 1e4]


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 2e-5), (torch.float64, 1e-11)])
def test_continuous_bernoulli_is_exact_at_every_logit(dtype, digits):
    """Density, mean and slope in fifty digits: ln p = x l - ln((e^l - 1) / l), E x = 1 / (1 - e^-l) - 1 / l."""
    likelihood = ContinuousBernoulliLogits()
    for logit in LOGITS:
        out = torch.tensor([[logit]], dtype=dtype, requires_grad=True)
        with mpmath.workdps(50):
            l = mpmath.mpf(out.item())  # noqa: E741
            normaliser = mpmath.log(mpmath.expm1(l) / l) if l else mpmath.mpf(0)
            mean = 1 / (1 - mpmath.exp(-l)) - 1 / l if l else mpmath.mpf(1) / 2
            for x in (0.0, 0.25, 1.0):
                value = likelihood.log_prob(torch.full_like(out, x), out)
                slope = torch.autograd.grad(value.sum(), out)[0].item()
                assert value.item() == pytest.approx(float(x * l - normaliser), rel=digits, abs=digits)
                assert slope == pytest.approx(float(x - mean), rel=digits, abs=digits)
        # relative, even where half of all pixels are 0
        assert likelihood.mean(out.detach()).item() == pytest.approx(float(mean), rel=digits)


def test_continuous_bernoulli_draws_have_its_mean():
    out = torch.tensor(LOGITS, dtype=torch.float64)
    draws = ContinuousBernoulliLogits().sample(out.expand(20_000, -1))
    assert ((draws >= 0) & (draws <= 1)).all()
    error = (draws.mean(0) - ContinuousBernoulliLogits().mean(out)).abs()
    assert (error <= 4 * draws.std(0) / math.sqrt(20_000)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_extreme_outputs_and_rows_give_no_nan(name, dtype):
    """Outputs of +-1e4 and +-1e30, rows up to 1e30 away: finite or -inf, with finite gradients where it is finite."""
    likelihood = LIKELIHOODS[name]().to(dtype)
    ends = torch.tensor([-1e30, -1e4, -1000.0, -1e-9, 0.0, 0.3, 30.0, 1e4, 1e30], dtype=dtype)
    out = torch.cartesian_prod(*[ends] * likelihood.outputs).reshape(-1, likelihood.outputs).requires_grad_()
    for x in (0.0, 0.5, 1.0) if likelihood.unit_interval else (0.0, 100.0, 1e5, 1e30):
        value = likelihood.log_prob(torch.full((len(out), 1), x, dtype=dtype), out)
        finite = torch.isfinite(value)
        assert (finite | (value == -math.inf)).all()
        assert finite.any()
        assert torch.isfinite(torch.autograd.grad(value[finite].sum(), out)[0]).all()
    assert torch.isfinite(likelihood.mean(out)).all()
    assert torch.isfinite(likelihood.sample(out)).all()


@pytest.mark.parametrize("kind", [Gaussian, GaussianFixed, GaussianShared, Laplace])
def test_variances_must_be_positive_and_fit_into_single_precision(kind):
    for variance in (0.0, -1.0, math.nan, 1e-40, math.inf):
        with pytest.raises(UsageError, match=r"^variance(_floor)? must (be positive|lie between 1.2e-38 and 3.4e\+38)"):
            kind(variance)


@pytest.mark.parametrize("name", LIKELIHOODS)
class TestEveryLikelihood:
    def test_shapes(self, name):
        likelihood = LIKELIHOODS[name]()
        out = torch.randn(4, likelihood.outputs * 7)
        x = torch.rand(4, 7).requires_grad_()
        assert likelihood.log_prob(x, out).shape == (4,)
        assert likelihood.mean(out).shape == (4, 7)
        assert likelihood.sample(out).shape == (4, 7)
        assert name.split("-")[0] in likelihood.label

    def test_gradient_reaches_every_output(self, name):
        likelihood = LIKELIHOODS[name]()
        out = torch.randn(4, likelihood.outputs * 7, requires_grad=True)
        gradient = torch.autograd.grad(likelihood.log_prob(torch.rand(4, 7), out).sum(), out)[0]
        assert torch.isfinite(gradient).all()
        assert (gradient != 0).all()

    def test_samples_average_to_the_mean(self, name):
        likelihood = LIKELIHOODS[name]()
        out = doubles(1, likelihood.outputs * 7)
        draws = likelihood.sample(out.expand(40_000, -1))
        error = (draws.mean(0) - likelihood.mean(out)[0]).abs()
        assert (error <= 4 * draws.std(0) / 200).all()

    def test_samples_score_the_negative_entropy(self, name):
        """E ln p(x) at x ~ p is minus the entropy: sample and log_prob speak of one distribution."""
        likelihood = LIKELIHOODS[name]()
        out = doubles(1, likelihood.outputs * 3).expand(40_000, -1)
        scores = likelihood.log_prob(likelihood.sample(out), out)
        if name == "bernoulli":
            entropy = D.Bernoulli(logits=out[0]).entropy().sum()
        elif name == "continuous-bernoulli":
            entropy = D.ContinuousBernoulli(logits=out[0]).entropy().sum()
        elif name == "laplace":
            entropy = (2 * math.e * (out[0, 3:].exp() + math.sqrt(5e-7))).log().sum()
        else:
            variance = out[0, 3:].exp() + 1e-6 if name == "gaussian" else torch.ones(3)
            entropy = 0.5 * (2 * math.pi * math.e * variance).log().sum()
        assert abs(scores.mean() + entropy) <= 4 * scores.std() / 200


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_constant_output_is_the_best_there_is(name):
    """No step away from it, in any output, raises the likelihood of the examples that it was fitted to."""
    torch.manual_seed(0)
    x = torch.rand(4000, 3).double() ** 2
    x = (x > 0.3).double() if name == "bernoulli" else x
    fitted, out = LIKELIHOODS[name]().double().without_latents(x)

    def mean(out):
        return fitted.log_prob(x, out.expand(len(x), -1)).mean()

    best = mean(out)
    for step in 0.02 * torch.cat([torch.eye(len(out)), -torch.eye(len(out))]).double():
        assert mean(out + step) < best
    if name == "gaussian-shared":
        for step in (0.02, -0.02):
            fitted.logvar += step
            assert mean(out) < best
            fitted.logvar -= step


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_column_that_never_changed_leaves_other_values_possible(name):
    fitted, out = LIKELIHOODS[name]().without_latents(torch.zeros(50, 2))
    assert torch.isfinite(fitted.log_prob(torch.tensor([[0.0, 1.0]]), out[None])).all()
