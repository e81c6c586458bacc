"""Likelihoods of values in [0, 1], by their logits."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from vsc.model.likelihoods.base import Likelihood, mean_inside


class Bernoulli(Likelihood):
    """
    Bernoulli with logits l: x l - ln(1 + e^l).

    A likelihood on binary data. On grey values in [0, 1] it is the usual cross-entropy: comparable between models,
    but not a log-likelihood.
    """

    unit_interval = True
    response = "sigmoid"

    def terms(self, x, out):
        return -binary_cross_entropy_with_logits(out, x, reduction="none")

    def mean(self, out):
        return torch.sigmoid(out)

    def sample(self, out):
        return torch.bernoulli(torch.sigmoid(out))

    def constant(self, x):
        """Return the logits of the means, with half an example of either kind added: no outcome is impossible."""
        return torch.logit(mean_inside(x)).to(x)


class ContinuousBernoulliLogits(Likelihood):
    """
    Continuous Bernoulli with logits l: a normalised likelihood on grey values in [0, 1] (Loaiza-Ganem et al. 2019).

    p(x) = e^{x l} l / (e^l - 1), exact at every logit: a series where l is near 0, and nothing that overflows far
    out. Its nats are log-densities, so they do not compare with the cross-entropy of `bernoulli`.
    """

    unit_interval = True
    response = "continuous-bernoulli"

    def terms(self, x, out):
        """Return x l - ln((e^l - 1) / l)."""
        near, a = _from_zero(out)
        inside = (x - 0.5) * out - out.square() * _series(torch.where(near, out, 0.0), LOG_SINH)
        outside = -a * torch.where(out > 0, 1 - x, x) - torch.log(-torch.expm1(-a) / a)
        return torch.where(near, inside, outside)

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
        wanted = mean_inside(x)
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
