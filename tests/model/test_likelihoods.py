"""Likelihoods against torch.distributions, their stated ceiling, and the contract of the registry."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import entr
from scipy.stats import laplace, nbinom, poisson
from torch import distributions as D
from torch.nn.functional import binary_cross_entropy_with_logits

from vsc.errors import UsageError
from vsc.fields import Field
from vsc.model.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Columns,
    ContinuousBernoulliLogits,
    Gaussian,
    GaussianFixed,
    GaussianShared,
    Laplace,
    NegativeBinomial,
    Poisson,
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


MIXED = (
    Field("dose", "gaussian"),
    Field("colour", "categorical", ("red", "green", "blue")),
    Field("visits", "negative-binomial"),
    Field("height", "gaussian"),
    Field("smoker", "bernoulli", ("no", "yes")),
    Field("calls", "poisson"),
    Field("kind", "categorical", ("a", "b")),
)


def made(name):
    return Columns(MIXED) if name == "columns" else LIKELIHOODS[name]()


def size(name):
    """How many values an example has."""
    return 10 if name == "columns" else 7


def examples(name, n):
    """Return n examples (n, M) that the likelihood is of, each column another share or mean."""
    M = size(name)
    shares = torch.linspace(0.2, 0.7, M).double()
    if name == "columns":
        bits, counts = torch.rand(n, M).double() < shares, examples("negative-binomial", n)
        x = torch.where(bits, 1.0, 0.0).double()
        x[:, [0, 5]], x[:, [4, 7]] = 2 * torch.randn(n, 2).double() + 1, counts[:, :2]
        for first, levels in ((1, 3), (8, 2)):
            x[:, first : first + levels] = torch.eye(levels).double()[torch.arange(n) // 2 % levels]
        return x
    if name in ("poisson", "negative-binomial"):
        return torch.poisson(20 * shares * torch.rand(n, M).double() ** 2)
    x = torch.rand(n, M).double() ** (1 / shares)
    return (x > 0.3).double() if name == "bernoulli" else x


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
    if name == "columns":
        pytest.skip("each column is one of the others")
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
        likelihood, M = made(name), size(name)
        out, x = torch.randn(4, likelihood.width(M)), examples(name, 4).float()
        assert likelihood.terms(x, out).shape == (4, M)
        assert likelihood.log_prob(x, out).shape == (4,)
        assert likelihood.mean(out).shape == (4, M)
        assert likelihood.sample(out).shape == (4, M)
        assert likelihood.constant(x).shape == (likelihood.width(M),)
        assert likelihood.counted(M).shape == likelihood.unscaled(M).shape == (M,)
        assert name.split("-")[0] in likelihood.label

    def test_gradient_reaches_every_output(self, name):
        likelihood, M = made(name), size(name)
        out = torch.randn(4, likelihood.width(M), requires_grad=True)
        x = torch.rand(4, M)  # no likelihood is at its best there
        gradient = torch.autograd.grad(likelihood.log_prob(x, out).sum(), out)[0]
        assert torch.isfinite(gradient).all()
        assert (gradient != 0).all()

    def test_a_missing_value_adds_nothing_and_no_gradient(self, name):
        """As if the column were not there, forward and backward, whatever its output says."""
        likelihood, M = made(name).double(), size(name)
        x, out = examples(name, 5), doubles(5, likelihood.width(M)).requires_grad_()
        lost = torch.zeros(5, M, dtype=torch.bool)
        lost[0, 0] = lost[1, 4] = lost[2, 7 % M] = True
        lost[3] = True
        value = likelihood.log_prob(torch.where(lost, math.nan, x), out, missing=True)
        expected = torch.where(lost, 0.0, likelihood.terms(x, out)).sum(-1)
        torch.testing.assert_close(value, expected)
        assert value[3] == 0
        weights = [out, *likelihood.parameters()]
        found, wanted = (torch.autograd.grad(part.sum(), weights, retain_graph=True) for part in (value, expected))
        torch.testing.assert_close(found, wanted)
        far = out.detach() * torch.where(value.isnan(), 1, 1e8)[:, None]
        far.requires_grad_()
        assert torch.autograd.grad(likelihood.log_prob(x.fill_(math.nan), far, missing=True).sum(), far)[0].eq(0).all()

    def test_what_is_fitted_to_data_does_not_look_at_what_is_missing(self, name):
        likelihood, M = made(name).double(), size(name)
        x = examples(name, 60)
        lost = torch.zeros(60, M, dtype=torch.bool)
        lost[:20] = True
        fitted, out = likelihood.without_latents(torch.where(lost, math.nan, x))
        expected, best = likelihood.without_latents(x[20:])
        torch.testing.assert_close(out, best)
        torch.testing.assert_close(dict(fitted.state_dict()), dict(expected.state_dict()))
        lost[:, M - 1] = True
        assert likelihood.constant(torch.where(lost, math.nan, x)).isfinite().all()

    def test_samples_average_to_the_mean(self, name):
        likelihood = made(name)
        out = doubles(1, likelihood.width(size(name)))
        draws = likelihood.sample(out.expand(40_000, -1))
        error = (draws.mean(0) - likelihood.mean(out)[0]).abs()
        assert (error <= 4 * draws.std(0) / 200).all()

    def test_samples_score_the_negative_entropy(self, name):
        """E ln p(x) at x ~ p is minus the entropy: sample and log_prob speak of one distribution."""
        if name == "columns":
            pytest.skip("each column is one of the others")
        likelihood = LIKELIHOODS[name]()
        out = doubles(1, likelihood.outputs * 3).expand(40_000, -1)
        scores = likelihood.log_prob(likelihood.sample(out), out)
        if name == "bernoulli":
            entropy = D.Bernoulli(logits=out[0]).entropy().sum()
        elif name == "continuous-bernoulli":
            entropy = D.ContinuousBernoulli(logits=out[0]).entropy().sum()
        elif name == "laplace":
            entropy = (2 * math.e * (out[0, 3:].exp() + math.sqrt(5e-7))).log().sum()
        elif likelihood.counts:
            m, r = out[0, :3].exp().numpy(), out[0, 3:].exp().numpy()
            p = poisson(m) if name == "poisson" else nbinom(r, r / (m + r))
            mass = p.pmf(np.arange(5000)[:, None])
            entropy = torch.from_numpy(entr(mass).sum(0)).sum()
        else:
            variance = out[0, 3:].exp() + 1e-6 if name == "gaussian" else torch.ones(3)
            entropy = 0.5 * (2 * math.pi * math.e * variance).log().sum()
        assert abs(scores.mean() + entropy) <= 4 * scores.std() / 200


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_constant_output_is_the_best_there_is(name):
    """No step away from it, in any output, raises the likelihood of the examples that it was fitted to."""
    torch.manual_seed(0)
    x = examples(name, 4000)
    fitted, out = made(name).double().without_latents(x)

    def mean(out):
        return fitted.log_prob(x, out.expand(len(x), -1)).mean()

    best = mean(out)
    moves = 0.02 * torch.eye(len(out)).double()
    for step in torch.cat([moves, -moves]):
        assert mean(out + step) < best
    if name == "gaussian-shared":
        for step in (0.02, -0.02):
            fitted.logvar += step
            assert mean(out) < best
            fitted.logvar -= step


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_column_that_never_changed_leaves_other_values_possible(name):
    M = size(name)
    fitted, out = made(name).without_latents(torch.zeros(50, M))
    assert torch.isfinite(fitted.log_prob(torch.arange(M)[None] % 2.0, out[None])).all()


RATES = [1e-3, 0.5, 1.0, 30.0, 1e5]


@pytest.mark.parametrize("x", [0, 1, 7, 1000, 10**6])
def test_counts_have_the_mass_that_scipy_gives_them(x):
    m, r = (part.flatten() for part in np.meshgrid(RATES, [0.01, 1.0, 50.0, 1e4]))
    out = torch.from_numpy(np.log(np.concatenate([m, r]))[None])
    wanted = [poisson(m).logpmf(x), nbinom(r, r / (m + r)).logpmf(x)]
    for dtype in (torch.float64, torch.float32):
        at, own = torch.full((1, len(m)), float(x), dtype=dtype), out.to(dtype)
        found = [Poisson().terms(at, own[:, : len(m)]), NegativeBinomial().terms(at, own)]
        for one, expected in zip(found, wanted, strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one[0].numpy(), expected, rtol=1e-6, atol=1e-6 * (1 + x))


def test_counts_sum_to_one():
    x = torch.arange(3000.0).double()[:, None]
    for m, r in [(0.3, 0.2), (7.0, 1.5), (40.0, 100.0)]:
        out = torch.tensor([[m, r]]).double().log().expand(len(x), -1)
        assert NegativeBinomial().log_prob(x, out).exp().sum().item() == pytest.approx(1, abs=1e-9)
        assert Poisson().log_prob(x, out[:, :1]).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_counts_draw_the_variance_that_they_say():
    """m, and m + m^2 / r; the standard error of a variance is about sqrt((kurtosis - 1) / n) of it."""
    out = torch.tensor([[5.0, 2.0]]).double().log().expand(40_000, -1)
    assert Poisson().sample(out[:, :1]).var().item() == pytest.approx(5, rel=0.04)
    assert NegativeBinomial().sample(out).var().item() == pytest.approx(17.5, rel=0.06)


class TestColumns:
    def test_each_column_has_its_own_distribution(self):
        """Against torch.distributions and SciPy, column by column."""
        likelihood = Columns(MIXED, variance_floor=1e-3).double()
        x, out = examples("columns", 6), doubles(6, 13)
        # groups of one kind: 2 gaussian (means, log-variances), 5 categorical, count (mean, dispersion), bit, count
        mean, logvar = out[:, :2], out[:, 2:4]
        expected = D.Normal(mean, (logvar.exp() + 1e-3).sqrt()).log_prob(x[:, [0, 5]]).sum(-1)
        expected += D.OneHotCategorical(logits=out[:, 4:7]).log_prob(x[:, 1:4])
        expected += D.OneHotCategorical(logits=out[:, 7:9]).log_prob(x[:, 8:10])
        m, r = out[:, 9].exp(), out[:, 10].exp()
        expected += torch.from_numpy(nbinom(r, r / (m + r)).logpmf(x[:, 4]))
        expected += D.Bernoulli(logits=out[:, 11]).log_prob(x[:, 6]) + D.Poisson(out[:, 12].exp()).log_prob(x[:, 7])
        torch.testing.assert_close(likelihood.log_prob(x, out), expected)

    def test_says_which_values_are_counts_and_which_are_not_scaled(self):
        likelihood = Columns(MIXED)
        assert likelihood.counted(10).nonzero().flatten().tolist() == [4, 7]
        assert (~likelihood.unscaled(10)).nonzero().flatten().tolist() == [0, 5]
        assert NegativeBinomial().counted(3).all()
        assert not Gaussian().unscaled(3).any()

    def test_says_how_its_means_are_made_column_by_column(self):
        """What decodes elsewhere applies these functions and gets `mean`."""
        functions = {
            "identity": lambda t: t,
            "sigmoid": torch.sigmoid,
            "exp": torch.exp,
            "softmax": lambda t: t.softmax(-1),
        }
        likelihood, out = Columns(MIXED), torch.randn(5, 13)
        told = [functions[name](out[:, first : first + n]) for name, first, n in likelihood.responses(10)]
        torch.testing.assert_close(torch.cat(told, -1), likelihood.mean(out))

    def test_levels_that_are_drawn_are_one_hot(self):
        drawn = Columns(MIXED).sample(torch.randn(50, 13))
        for place in (slice(1, 4), slice(8, 10)):
            assert drawn[:, place].sum(1).eq(1).all()
            assert drawn[:, place].unique().tolist() == [0, 1]

    def test_only_columns_with_a_variance_lean_on_the_floor(self):
        out = torch.zeros(3, 13)
        out[:, 2:4] = torch.tensor([[-100.0, -100.0], [-100.0, 0.0], [0.0, 0.0]])
        assert Columns(MIXED, 0.01).at_floor(out).tolist() == [1.0, 0.5, 0.0]
        assert Columns(MIXED[1:3]).at_floor(torch.zeros(3, 5)) is None

    def test_names_what_it_is_made_of(self):
        assert Columns(MIXED).label == (
            "columns (2 gaussian, 2 categorical, 1 negative-binomial, 1 bernoulli, 1 poisson; variance floor 1e-06)"
        )
        assert Columns(MIXED[1:3]).label == "columns (1 categorical, 1 negative-binomial)"

    def test_columns_must_be_known(self):
        with pytest.raises(UsageError, match="give a data frame"):
            Columns(())
        with pytest.raises(UsageError, match=r"unknown likelihood of a column 'laplace'"):
            Columns([Field("a", "laplace")])
