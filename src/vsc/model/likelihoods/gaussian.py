"""Likelihoods about a location, with variances that are learned or given."""

import copy
import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from vsc.errors import UsageError
from vsc.model.distributions import LOG_2PI, exp, laplace_like
from vsc.model.likelihoods.base import Likelihood, exactly, mean_there


class Spread(Likelihood):
    """Gaussian about the first of the outputs, unless a member says otherwise: ln N(x; m, v)."""

    response = "identity"

    @abstractmethod
    def variances(self, out: Tensor) -> Tensor:
        """Return the variance of every output, broadcastable to (B, M)."""

    def terms(self, x, out):
        sd = self.variances(out).sqrt()
        return -0.5 * ((x - self.mean(out)) / sd).square() - (sd.log() + 0.5 * LOG_2PI)

    def mean(self, out):
        return out.chunk(self.outputs, -1)[0]

    def sample(self, out):
        mean = self.mean(out)
        return mean + self.variances(out).sqrt() * torch.randn_like(mean)

    def constant(self, x):
        return mean_there(x).to(x)


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
        mean = mean_there(x)
        var = (mean_there((exactly(x) - mean).square()) - self.variance_floor).clamp_min(1e-3 * self.variance_floor)
        return torch.cat([mean, var.log()]).to(x)

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
    def precision(self):
        return torch.tensor(1 / self.variance)

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

    @property
    def precision(self):
        return 1 / (exp(self.logvar) + self.variance_floor)

    def without_latents(self, x):
        """Return also a likelihood with the variance about the means: the learned one is that about reconstructions."""
        own = copy.deepcopy(self).requires_grad_(False)
        own.start_at(x, 1.0)
        return own, self.constant(x)

    @torch.no_grad()
    def start_at(self, x, share=0.25):
        """Take a share of the variance about the columns' means: at all of it, no latent may be worth its price."""
        var = share * mean_there((exactly(x) - mean_there(x)).square().reshape(-1)) - self.variance_floor
        self.logvar.fill_(var.clamp_min(1e-3 * self.variance_floor).log().item())

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

    def terms(self, x, out):
        """Return -|x - m| / b - ln(2 b)."""
        b = self.scales(out)
        return -((x - self.mean(out)).abs() / b + b.log() + math.log(2))

    def sample(self, out):
        mean = self.mean(out)
        return mean + self.scales(out) * laplace_like(mean)

    def constant(self, x):
        """Return the columns' medians and the logarithms of their mean distances from them, less the floor."""
        m, floor = x.nanmedian(0).values.nan_to_num(0.0), math.sqrt(self.variance_floor / 2)
        b = (mean_there((x - m).abs()) - floor).clamp_min(1e-3 * floor)
        return torch.cat([m, b.log().to(x)])

    @property
    def label(self):
        ceiling = -0.5 * math.log(2 * self.variance_floor)
        return f"laplace (variance floor {self.variance_floor:g}, ceiling {ceiling:.2f} nats per output)"


def _checked(name: str, variance: float) -> float:
    """Return a variance by which single precision can divide; refuse any other."""
    single = torch.finfo(torch.float32)
    if not variance > 0:
        raise UsageError(f"{name} must be positive, not {variance}")
    if not single.tiny <= variance <= single.max:
        raise UsageError(f"{name} must lie between {single.tiny:.1e} and {single.max:.1e}, not {variance}")
    return variance
