"""Likelihoods: what the decoder's output says of p(x|z), summed over the M outputs, in nats."""

import copy
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vsc.errors import UsageError
from vsc.model.distributions import LOG_2PI, exp, laplace_like

RESPONSES = ("identity", "sigmoid", "exp", "softmax", "continuous-bernoulli")
"""Functions that a mean can be made by; `report/decode.js` has them too."""


class Likelihood(nn.Module, ABC):
    """
    p(x|z), given the decoder's raw output `out` (B, outputs * M).

    Attributes
    ----------
    outputs : int
        Decoder outputs per data dimension.
    unit_interval : bool
        Whether x must lie in [0, 1].
    learns_variances : bool
        Whether it does, which can run away in training: the KL rises slowly then, and gradients are clipped.
    response : str
        Name of the function that makes `mean` of the first M outputs, for whoever decodes elsewhere (`RESPONSES`);
        empty where there is none.
    """

    outputs = 1
    unit_interval = False
    learns_variances = False
    response = ""

    @abstractmethod
    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """Return log p(x|z) in nats, shape (B,), of x (B, M): finite or -inf for finite x and outputs."""

    @abstractmethod
    def mean(self, out: Tensor) -> Tensor:
        """Return E[x|z], shape (B, M)."""

    @abstractmethod
    def sample(self, out: Tensor) -> Tensor:
        """Draw x ~ p(x|z), shape (B, M)."""

    @abstractmethod
    def constant(self, x: Tensor) -> Tensor:
        """Return the output (outputs * M,) that, the same for all of x (N, M), has the highest likelihood."""

    def without_latents(self, x: Tensor) -> tuple["Likelihood", Tensor]:
        """Return the best that a model without latents can do on x (N, M): a likelihood and its `constant` output."""
        return self, self.constant(x)

    def at_floor(self, out: Tensor) -> Tensor | None:
        """Return the share of an example's outputs whose variance is below 10 floors, shape (B,); None: no floor."""
        return None

    def responses(self, M: int) -> list[tuple[str, int, int]]:
        """Say how `mean` is made, M values in order: (name in `RESPONSES`, first output, how many); [] if unknown."""
        return [(self.response, 0, M)] if self.response else []

    @property
    def label(self) -> str:
        """Name for tables, with every setting that its nats depend on."""
        return type(self).__name__.lower()


def _checked(name: str, variance: float) -> float:
    """Return a variance by which single precision can divide; refuse any other."""
    single = torch.finfo(torch.float32)
    if not variance > 0:
        raise UsageError(f"{name} must be positive, not {variance}")
    if not single.tiny <= variance <= single.max:
        raise UsageError(f"{name} must lie between {single.tiny:.1e} and {single.max:.1e}, not {variance}")
    return variance


def _exactly(x: Tensor) -> Tensor:
    """Return x on the CPU in float64, which not every accelerator has."""
    return x.cpu().double()


class Bernoulli(Likelihood):
    """
    Bernoulli with logits l: x l - ln(1 + e^l).

    A likelihood on binary data. On grey values in [0, 1] it is the usual cross-entropy: comparable between models,
    but not a log-likelihood.
    """

    unit_interval = True
    response = "sigmoid"

    def log_prob(self, x, out):
        return -binary_cross_entropy_with_logits(out, x, reduction="none").sum(-1)

    def mean(self, out):
        return torch.sigmoid(out)

    def sample(self, out):
        return torch.bernoulli(torch.sigmoid(out))

    def constant(self, x):
        """Return the logits of the means, with half an example of either kind added: no outcome is impossible."""
        return torch.logit(_mean_inside(x)).to(x)


def _mean_inside(x: Tensor) -> Tensor:
    """Return column means in (0, 1) of x (N, M) in [0, 1], in float64."""
    return (_exactly(x).sum(0) + 0.5) / (len(x) + 1)


class Spread(Likelihood):
    """Gaussian about the first of the outputs, unless a member says otherwise: the sum of ln N(x; m, v)."""

    response = "identity"

    @abstractmethod
    def variances(self, out: Tensor) -> Tensor:
        """Return the variance of every output, broadcastable to (B, M)."""

    def log_prob(self, x, out):
        sd = self.variances(out).sqrt()
        return -(0.5 * ((x - self.mean(out)) / sd).square() + sd.log() + 0.5 * LOG_2PI).sum(-1)

    def mean(self, out):
        return out.chunk(self.outputs, -1)[0]

    def sample(self, out):
        mean = self.mean(out)
        return mean + self.variances(out).sqrt() * torch.randn_like(mean)

    def constant(self, x):
        return _exactly(x).mean(0).to(x)


class Floored(Spread):
    """
    A likelihood that learns variances, none of which goes below a floor.

    On constant outputs log p grows until the floor stops it, so it is part of every result.

    Parameters
    ----------
    variance_floor : float
        Least variance of an output.

    Raises
    ------
    UsageError
        If the floor is not positive, or too small or large for single precision.
    """

    learns_variances = True

    def __init__(self, variance_floor: float = 1e-6):
        super().__init__()
        self.variance_floor = _checked("variance_floor", variance_floor)

    def at_floor(self, out):
        low = self.variances(out) < 10 * self.variance_floor
        return low.to(out.dtype).expand(*out.shape[:-1], -1).mean(-1)


class Gaussian(Floored):
    """Gaussian with mean and log-variance per output (ICLR); the floor is added to every variance."""

    outputs = 2

    def variances(self, out):
        return exp(out.chunk(2, -1)[1]) + self.variance_floor

    def constant(self, x):
        """Return the columns' means and log-variances, less the floor."""
        var = (_exactly(x).var(0, correction=0) - self.variance_floor).clamp_min(1e-3 * self.variance_floor)
        return torch.cat([_exactly(x).mean(0), var.log()]).to(x)

    @property
    def label(self):
        ceiling = -0.5 * (LOG_2PI + math.log(self.variance_floor))
        return f"gaussian (variance floor {self.variance_floor:g}, ceiling {ceiling:.2f} nats per output)"


class GaussianFixed(Spread):
    """
    Gaussian with one given variance; the AE's squared error is this with no KL.

    Parameters
    ----------
    variance : float
        The variance of every output.

    Raises
    ------
    UsageError
        As for a floor.
    """

    def __init__(self, variance: float = 1.0):
        super().__init__()
        self.variance = _checked("variance", variance)

    def variances(self, out):
        return out.new_full((1, 1), self.variance)

    @property
    def label(self):
        return f"gaussian-fixed (variance {self.variance:g})"


class GaussianShared(Floored):
    """Gaussian with one learned variance for all outputs (sigma-VAE; Rybkin et al. 2021), the floor added to it."""

    def __init__(self, variance_floor: float = 1e-6):
        super().__init__(variance_floor)
        self.logvar = nn.Parameter(torch.zeros(()))

    def variances(self, out):
        return (exp(self.logvar) + self.variance_floor).expand(1, 1)

    def without_latents(self, x):
        """Return also a likelihood with the variance about the means: the learned one is that about reconstructions."""
        own = copy.deepcopy(self).requires_grad_(False)
        var = _exactly(x).var(0, correction=0).mean() - self.variance_floor
        own.logvar.fill_(var.clamp_min(1e-3 * self.variance_floor).log().item())
        return own, self.constant(x)

    @property
    def label(self):
        return f"gaussian-shared (one learned variance, floor {self.variance_floor:g})"


class Laplace(Floored):
    """
    Laplace with location m and log-scale per output: heavier tails than `Gaussian`, and an absolute error.

    The scale is b = exp(log-scale) + sqrt(floor / 2), so that the variance 2 b^2 never goes below the floor. The
    ceiling is -ln(2 b) = -1/2 ln(2 floor) nats per output.
    """

    outputs = 2

    def scales(self, out: Tensor) -> Tensor:
        """Return b, shape (B, M)."""
        return exp(out.chunk(2, -1)[1]) + math.sqrt(self.variance_floor / 2)

    def variances(self, out):
        return 2 * self.scales(out).square()

    def log_prob(self, x, out):
        """Return sum_m -|x - m| / b - ln(2 b)."""
        b = self.scales(out)
        return -((x - self.mean(out)).abs() / b + b.log() + math.log(2)).sum(-1)

    def sample(self, out):
        mean = self.mean(out)
        return mean + self.scales(out) * laplace_like(mean)

    def constant(self, x):
        """Return the columns' medians and the logarithms of their mean distances from them, less the floor."""
        m, floor = x.median(0).values, math.sqrt(self.variance_floor / 2)
        b = (_exactly(x - m).abs().mean(0) - floor).clamp_min(1e-3 * floor)
        return torch.cat([m, b.log().to(x)])

    @property
    def label(self):
        ceiling = -0.5 * math.log(2 * self.variance_floor)
        return f"laplace (variance floor {self.variance_floor:g}, ceiling {ceiling:.2f} nats per output)"


class ContinuousBernoulliLogits(Likelihood):
    """
    Continuous Bernoulli with logits l: a normalised likelihood on grey values in [0, 1] (Loaiza-Ganem et al. 2019).

    p(x) = e^{x l} l / (e^l - 1), exact at every logit: a series where l is near 0, and nothing that overflows far
    out. Its nats are log-densities, so they do not compare with the cross-entropy of `bernoulli`.
    """

    unit_interval = True
    response = "continuous-bernoulli"

    def log_prob(self, x, out):
        """Return sum_m x l - ln((e^l - 1) / l)."""
        near, a = _from_zero(out)
        inside = (x - 0.5) * out - out.square() * _series(torch.where(near, out, 0.0), LOG_SINH)
        outside = -a * torch.where(out > 0, 1 - x, x) - torch.log(-torch.expm1(-a) / a)
        return torch.where(near, inside, outside).sum(-1)

    def mean(self, out):
        """Return the means 1 / (1 - e^-l) - 1 / l; not S(l)."""
        near, a = _from_zero(out)
        small = 1 / a - 1 / torch.expm1(a)  # of -|l|: it keeps its digits where the mean is near 0
        slope = 2 * out * _series(torch.where(near, out, 0.0), [n * c for n, c in enumerate(LOG_SINH, 1)])
        return torch.where(near, 0.5 + slope, torch.where(out > 0, 1 - small, small))

    def sample(self, out):
        """Draw x in [0, 1], by the inverse of the distribution function of -|l|."""
        a = out.abs().clamp(min=1e-6)
        x = (torch.log1p(torch.rand_like(out) * torch.expm1(-a)) / -a).clamp(0, 1)
        return torch.where(out > 0, 1 - x, x)

    def constant(self, x):
        """Return the logits whose means are those of the columns, half an example at 0 and at 1 added: bisection."""
        wanted = _mean_inside(x)
        low, high = torch.full_like(wanted, -1e5), torch.full_like(wanted, 1e5)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.mean(middle) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low.to(x)

    @property
    def label(self):
        return "continuous-bernoulli"


NEAR_ZERO = 0.5
LOG_SINH = [1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000, 1 / 1046139494400]
"""Coefficients B_2n / (2n (2n)!) of l^2n in ln(sinh(l / 2) / (l / 2)): below 1/2 the rest is less than 1e-18."""


def _from_zero(l: Tensor) -> tuple[Tensor, Tensor]:  # noqa: E741
    """Return where l is near zero, and |l| away from there (1 elsewhere)."""
    near = l.abs() < NEAR_ZERO
    return near, torch.where(near, torch.ones_like(l), l.abs())


def _series(l: Tensor, coefficients: list[float]) -> Tensor:  # noqa: E741
    """Return sum_n c_n l^(2 n - 2), n = 1, 2, ..."""
    square, total = l.square(), torch.zeros_like(l)
    for c in reversed(coefficients):
        total = c + square * total
    return total


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "gaussian-fixed": GaussianFixed,
    "gaussian-shared": GaussianShared,
    "laplace": Laplace,
    "continuous-bernoulli": ContinuousBernoulliLogits,
}
