"""Likelihoods: what the decoder's output says of p(x|z), summed over the M outputs, in nats."""

import copy
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import ContinuousBernoulli

from vsc.errors import UsageError
from vsc.model.distributions import LOG_2PI, in_full_precision, softplus


class Likelihood(nn.Module, ABC):
    """
    p(x|z), given the decoder's raw output.

    Attributes
    ----------
    outputs : int
        Decoder outputs per data dimension.
    unit_interval : bool
        Whether x must lie in [0, 1].
    """

    outputs = 1
    unit_interval = False

    @abstractmethod
    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """Return log p(x|z) in nats, shape (B,), of x (B, M) given decoder output `out` (B, outputs * M)."""

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

    @property
    def label(self) -> str:
        """Name for tables, with every setting that its nats depend on."""
        return type(self).__name__.lower()


def _checked_floor(variance_floor: float) -> float:
    if not variance_floor > 0:
        raise UsageError(f"variance_floor must be positive, not {variance_floor}")
    return variance_floor


class Bernoulli(Likelihood):
    """
    Bernoulli with logits.

    A likelihood on binary data. On grey values in [0, 1] it is the usual cross-entropy: comparable between models,
    but not a log-likelihood.
    """

    unit_interval = True

    def log_prob(self, x, out):
        """Return sum_m x l - ln(1 + e^l), in nats, shape (B,)."""
        return _BernoulliLogProb.apply(x, out)

    def mean(self, out):
        """Return S(l), shape (B, M)."""
        return torch.sigmoid(out)

    def sample(self, out):
        """Draw binary x, shape (B, M)."""
        return torch.bernoulli(torch.sigmoid(out))

    def constant(self, x):
        """Return the logits of the means, with half an example of either kind added: no outcome is impossible."""
        return torch.logit(_mean_inside(x)).to(x.dtype)


def _mean_inside(x: Tensor) -> Tensor:
    """Return column means in (0, 1) of x (N, M) in [0, 1], in float64."""
    return (x.sum(0, dtype=torch.float64) + 0.5) / (len(x) + 1)


class _BernoulliLogProb(torch.autograd.Function):
    """sum_m x l - ln(1 + e^l), with its gradient x - S(l): half the time of differentiating the formula."""

    @staticmethod
    @in_full_precision
    def forward(ctx, x: Tensor, l: Tensor) -> Tensor:  # noqa: E741
        ctx.save_for_backward(x, l)
        return torch.linalg.vecdot(x, l) - softplus(l).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, l = ctx.saved_tensors  # noqa: E741
        return None, torch.sigmoid(l).neg_().add_(x).mul_(grad.unsqueeze(-1))


class Gaussian(Likelihood):
    """
    Gaussian with mean and log-variance per output (ICLR).

    Parameters
    ----------
    variance_floor : float
        Added to every variance. On constant outputs log p grows until the floor stops it, at
        -1/2 ln(2 pi floor) nats per output (5.99 for 1e-6), so it is part of every result.

    Raises
    ------
    UsageError
        If the floor is not positive.
    """

    outputs = 2

    def __init__(self, variance_floor: float = 1e-6):
        super().__init__()
        self.variance_floor = _checked_floor(variance_floor)

    def log_prob(self, x, out):
        """Return the sum of the Gaussian log-densities in nats, shape (B,)."""
        mean, logvar = out.chunk(2, -1)
        var = logvar.exp() + self.variance_floor
        return -0.5 * ((x - mean).square() / var + var.log() + LOG_2PI).sum(-1)

    def mean(self, out):
        """Return the means, shape (B, M)."""
        return out.chunk(2, -1)[0]

    def sample(self, out):
        """Draw x, shape (B, M)."""
        mean, logvar = out.chunk(2, -1)
        return mean + (logvar.exp() + self.variance_floor).sqrt() * torch.randn_like(mean)

    def constant(self, x):
        """Return the columns' means and log-variances, less the floor."""
        var = (x.double().var(0, correction=0) - self.variance_floor).clamp_min(1e-3 * self.variance_floor)
        return torch.cat([x.double().mean(0), var.log()]).to(x.dtype)

    def at_floor(self, out):
        """Return the share of outputs whose variance is below 10 floors, shape (B,)."""
        var = out.chunk(2, -1)[1].exp() + self.variance_floor
        return (var < 10 * self.variance_floor).to(out.dtype).mean(-1)

    @property
    def label(self):
        """Name with the floor and the ceiling that it sets."""
        ceiling = -0.5 * (LOG_2PI + math.log(self.variance_floor))
        return f"gaussian (variance floor {self.variance_floor:g}, ceiling {ceiling:.2f} nats per output)"


class GaussianFixed(Likelihood):
    """
    Gaussian with one given variance; the AE's squared error is this with no KL.

    Parameters
    ----------
    variance : float
        The variance of every output.

    Raises
    ------
    UsageError
        If the variance is not positive.
    """

    def __init__(self, variance: float = 1.0):
        super().__init__()
        if not variance > 0:
            raise UsageError(f"variance must be positive, not {variance}")
        self.variance = variance

    def log_prob(self, x, out):
        """Return the sum of the Gaussian log-densities in nats, shape (B,)."""
        constant = 0.5 * x.shape[-1] * (LOG_2PI + math.log(self.variance))
        return (x - out).square().sum(-1) * (-0.5 / self.variance) - constant

    def mean(self, out):
        """Return the means, shape (B, M)."""
        return out

    def sample(self, out):
        """Draw x, shape (B, M)."""
        return out + math.sqrt(self.variance) * torch.randn_like(out)

    def constant(self, x):
        """Return the means."""
        return x.mean(0, dtype=torch.float64).to(x.dtype)

    @property
    def label(self):
        """Name with the variance."""
        return f"gaussian-fixed (variance {self.variance:g})"


class GaussianShared(Likelihood):
    """
    Gaussian with one learned variance for all outputs (sigma-VAE; Rybkin et al. 2021).

    Parameters
    ----------
    variance_floor : float
        Added to the variance, as for `Gaussian`.

    Raises
    ------
    UsageError
        If the floor is not positive.
    """

    def __init__(self, variance_floor: float = 1e-6):
        super().__init__()
        self.variance_floor = _checked_floor(variance_floor)
        self.logvar = nn.Parameter(torch.zeros(()))

    @property
    def variance(self) -> Tensor:
        """The variance of every output, a scalar tensor."""
        return self.logvar.exp() + self.variance_floor

    def log_prob(self, x, out):
        """Return the sum of the Gaussian log-densities in nats, shape (B,)."""
        constant = 0.5 * x.shape[-1] * (LOG_2PI + self.variance.log())
        return (x - out).square().sum(-1) * (-0.5 / self.variance) - constant

    def mean(self, out):
        """Return the means, shape (B, M)."""
        return out

    def sample(self, out):
        """Draw x, shape (B, M)."""
        return out + self.variance.sqrt() * torch.randn_like(out)

    def constant(self, x):
        """Return the means."""
        return x.mean(0, dtype=torch.float64).to(x.dtype)

    def without_latents(self, x):
        """Return also a likelihood with the variance about the means: the learned one is that about reconstructions."""
        own = copy.deepcopy(self).requires_grad_(False)
        var = x.double().var(0, correction=0).mean() - self.variance_floor
        own.logvar.fill_(var.clamp_min(1e-3 * self.variance_floor).log())
        return own, self.constant(x)

    def at_floor(self, out):
        """Return 1 if the one variance is below 10 floors, else 0, shape (B,)."""
        return (self.variance < 10 * self.variance_floor).to(out.dtype).expand(len(out))

    @property
    def label(self):
        """Name with the floor."""
        return f"gaussian-shared (one learned variance, floor {self.variance_floor:g})"


class Laplace(Likelihood):
    """
    Laplace with location m and log-scale per output: heavier tails than `Gaussian`, and an absolute error.

    The scale is b = exp(log-scale) + sqrt(floor / 2), so that the variance 2 b^2 never goes below the floor.

    Parameters
    ----------
    variance_floor : float
        Least variance of an output. On constant outputs log p grows until the floor stops it, at -ln(2 b) =
        -1/2 ln(2 floor) nats per output (6.56 for 1e-6), so it is part of every result.

    Raises
    ------
    UsageError
        If the floor is not positive.
    """

    outputs = 2

    def __init__(self, variance_floor: float = 1e-6):
        super().__init__()
        self.variance_floor = _checked_floor(variance_floor)
        self.scale_floor = math.sqrt(variance_floor / 2)

    def log_prob(self, x, out):
        """Return sum_m -|x - m| / b - ln(2 b), in nats, shape (B,)."""
        m, logscale = out.chunk(2, -1)
        b = logscale.exp() + self.scale_floor
        return -((x - m).abs() / b + (2 * b).log()).sum(-1)

    def mean(self, out):
        """Return the locations, shape (B, M)."""
        return out.chunk(2, -1)[0]

    def sample(self, out):
        """Draw x, shape (B, M)."""
        m, logscale = out.chunk(2, -1)
        return torch.distributions.Laplace(m, logscale.exp() + self.scale_floor, validate_args=False).sample()

    def constant(self, x):
        """Return the columns' medians and the logarithms of their mean distances from them, less the floor."""
        m = x.median(0).values
        b = ((x - m).abs().mean(0, dtype=torch.float64) - self.scale_floor).clamp_min(1e-3 * self.scale_floor)
        return torch.cat([m, b.log().to(x.dtype)])

    def at_floor(self, out):
        """Return the share of outputs whose variance 2 b^2 is below 10 floors, shape (B,)."""
        b = out.chunk(2, -1)[1].exp() + self.scale_floor
        return (2 * b.square() < 10 * self.variance_floor).to(out.dtype).mean(-1)

    @property
    def label(self):
        """Name with the floor and the ceiling that it sets."""
        ceiling = -math.log(2 * self.scale_floor)
        return f"laplace (variance floor {self.variance_floor:g}, ceiling {ceiling:.2f} nats per output)"


class ContinuousBernoulliLogits(Likelihood):
    """
    Continuous Bernoulli with logits: a normalised likelihood on grey values in [0, 1] (Loaiza-Ganem et al. 2019).

    Its nats are log-densities, so they do not compare with the cross-entropy of `bernoulli`.
    """

    unit_interval = True

    def log_prob(self, x, out):
        """Return the sum of the log-densities in nats, shape (B,)."""
        return ContinuousBernoulli(logits=out, validate_args=False).log_prob(x).sum(-1)

    def mean(self, out):
        """Return the means, shape (B, M); not S(l)."""
        return ContinuousBernoulli(logits=out, validate_args=False).mean

    def sample(self, out):
        """Draw x in [0, 1], shape (B, M)."""
        return ContinuousBernoulli(logits=out, validate_args=False).sample()

    def constant(self, x):
        """Return the logits whose means are those of the columns, half an example at 0 and at 1 added: bisection."""
        wanted = _mean_inside(x)
        low, high = torch.full_like(wanted, -1e5), torch.full_like(wanted, 1e5)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.mean(middle) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low.to(x.dtype)

    @property
    def label(self):
        """Name in the registry."""
        return "continuous-bernoulli"


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "gaussian-fixed": GaussianFixed,
    "gaussian-shared": GaussianShared,
    "laplace": Laplace,
    "continuous-bernoulli": ContinuousBernoulliLogits,
}
