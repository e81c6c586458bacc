"""Likelihoods of counts 0, 1, 2, ..., by the logarithm of their mean."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vsc.model.likelihoods.base import Likelihood, mean_there

MOST = 40.0
"""Largest ln m and |ln r|: counts and dispersions beyond e^40 are beyond all data, and stay there."""


class Poisson(Likelihood):
    """
    Poisson with log-mean l: x l - e^l - ln x!, for counts whose variance is their mean.

    Where a count varies more, as most do, take `negative-binomial`.
    """

    counts = own_units = True
    response = "exp"

    def terms(self, x, out):
        wide, l = _wide(x), _within(_wide(out))  # noqa: E741
        return (wide * l - l.exp() - torch.lgamma(wide + 1)).to(out.dtype)

    def mean(self, out):
        return _within(out).exp()

    def sample(self, out):
        return _poisson(self.mean(out))

    def constant(self, x):
        """Return the logarithms of the means, with half a count added: no outcome is impossible."""
        return _log_mean(x).to(x)


class NegativeBinomial(Likelihood):
    """
    Negative binomial with log-mean and log-dispersion r per output: variance m + m^2 / r, for counts of any spread.

    ln p(x) = ln G(x + r) - ln G(r) - ln x! + x ln(m / (m + r)) + r ln(r / (m + r)); `poisson` as r grows. For single
    cells (Lopez et al. 2018) and most counts of a table.
    """

    outputs = 2
    counts = own_units = True
    response = "exp"

    def terms(self, x, out):
        wide, (log_m, log_r) = _wide(x), (_within(part) for part in _wide(out).chunk(2, -1))
        r = log_r.exp()
        ways = torch.lgamma(wide + r) - torch.lgamma(r) - torch.lgamma(wide + 1)
        return (ways + wide * logsigmoid(log_m - log_r) + r * logsigmoid(log_r - log_m)).to(out.dtype)

    def mean(self, out):
        return _within(out.chunk(2, -1)[0]).exp()

    def sample(self, out):
        log_m, log_r = (_within(part) for part in out.chunk(2, -1))
        r = log_r.exp()
        return _poisson(torch.distributions.Gamma(r, 1.0, validate_args=False).sample() * (log_m - log_r).exp())

    def constant(self, x):
        """Return the logarithms of the means, half a count added, and the best dispersions beside them."""
        log_m = _log_mean(x)
        log_r = [_dispersion(column[~column.isnan()].double(), m) for column, m in zip(x.cpu().T, log_m, strict=True)]
        return torch.cat([log_m, torch.stack(log_r)]).to(x)

    @property
    def label(self):
        return "negative-binomial"


def _wide(x: Tensor) -> Tensor:
    """Return x in float64, where there is such: differences of ln G of large counts need the digits."""
    return x.double() if x.device.type in ("cpu", "cuda") else x


def _within(l: Tensor) -> Tensor:  # noqa: E741
    return l.clamp(-MOST, MOST)


def _poisson(rate: Tensor) -> Tensor:
    """Draw counts; of a huge mean, the normal ones that they then are, for torch's own fail there."""
    near = torch.poisson(rate.clamp(max=1e6))
    return torch.where(rate <= 1e6, near, (rate + rate.sqrt() * torch.randn_like(rate)).round())


def _log_mean(x: Tensor) -> Tensor:
    there = (~x.cpu().isnan()).sum(0)
    return torch.log((mean_there(x) * there + 0.5) / (there + 1))


def _dispersion(x: Tensor, log_m: Tensor) -> Tensor:
    """Return the ln r that is best for counts x (N,) of mean e^log_m, by bisection of the slope."""
    values, times = x.unique(return_counts=True)
    low, high = torch.tensor(-20.0, dtype=torch.float64), torch.tensor(20.0, dtype=torch.float64)
    for _ in range(40):
        log_r = (low + high) / 2
        r, m = log_r.exp(), log_m.exp()
        slope = torch.digamma(values + r) - torch.digamma(r) + logsigmoid(log_r - log_m) + (m - values) / (m + r)
        rises = (times * slope).sum() > 0
        low, high = torch.where(rises, log_r, low), torch.where(rises, high, log_r)
    return low
