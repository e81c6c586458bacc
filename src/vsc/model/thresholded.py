"""Distributions of what is thresholded: on where a symmetric variable is beyond its threshold."""

import math
from abc import ABC, abstractmethod
from statistics import NormalDist
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from vsc.model.distributions import LOG_2PI, WIDEST, Spiked, exp, laplace_like


class Thresholded(Spiked, ABC):
    """
    z = mu + soft_t(xi), and z = 0 where |xi| <= t, of a symmetric xi with scale b.

    It is a spike-and-slab: gamma = P(|xi| > t), and where it is on, z has mean mu.

    Parameters
    ----------
    mu, logscale : torch.Tensor, shape (...)
        Mean of the slab, and ln b.
    threshold : torch.Tensor, shape (...)
        t > 0.
    validate_args : bool, optional
        As in `torch.distributions`. Shapes and numbers are broadcast as there.
    """

    _reach: ClassVar[tuple[float, float | None]]

    arg_constraints = {  # noqa: RUF012 # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        "mu": constraints.real,
        "logscale": constraints.real,
        "threshold": constraints.positive,
    }
    _parts = ("mu", "logscale", "threshold", "spike_logits", "gamma")

    def __init__(
        self,
        mu: Tensor | float,
        logscale: Tensor | float,
        threshold: Tensor | float,
        validate_args: bool | None = None,
    ):
        self.mu, self.logscale, self.threshold = broadcast_all(mu, logscale, threshold)
        log_gamma = self.log_tail(self.ratio)
        self.spike_logits = log_gamma - torch.log(-torch.expm1(log_gamma))
        self.gamma = torch.sigmoid(self.spike_logits)
        super().__init__(self.mu.shape, validate_args=validate_args)

    @property
    def ratio(self) -> Tensor:
        """Ratio t / b, shape (...), within what floats tell apart."""
        return (self.threshold * exp(-self.logscale)).clamp(*self._reach)

    @staticmethod
    @abstractmethod
    def log_tail(ratio: Tensor) -> Tensor:
        """Return ln P(|xi| > t), shape (...), at t / b."""

    @staticmethod
    @abstractmethod
    def threshold_of(rate: float) -> float:
        """Return the t / b that xi exceeds at a rate in (0, 1)."""


class ThresholdedLaplace(Thresholded):
    """
    `Thresholded` xi ~ Lap(0, b): gamma = exp(-t / b), and where it is on, z ~ Lap(mu, b).

    Takes the parameters of `Thresholded`.
    """

    _reach = (1e-12, None)

    @staticmethod
    def log_tail(ratio):
        return -ratio

    @staticmethod
    def threshold_of(rate):
        return -math.log(rate)

    def slab(self, sample_shape=()) -> Tensor:
        """Reparameterised draw from Lap(mu, b), shape sample_shape + (...)."""
        noise = laplace_like(self.mu.expand(*sample_shape, *self.mu.shape))
        return self.mu + self.logscale.clamp(max=WIDEST / 2).exp() * noise

    def slab_log_prob(self, value: Tensor) -> Tensor:
        return -(math.log(2) + self.logscale + (value - self.mu).abs() * exp(-self.logscale))

    def slab_moments(self):
        return 2 * exp(2 * self.logscale), 1 + math.log(2) + self.logscale


class ThresholdedNormal(Thresholded):
    """
    `Thresholded` xi ~ N(0, b^2) (Fallah and Rozell 2022): gamma = 2 Phi(-t / b).

    Where it is on, z - mu has either sign, and in size the distribution of what a Gaussian has beyond t. Takes the
    parameters of `Thresholded`. A gamma below 1e-23 counts as that.
    """

    _reach = (1e-6, 10.0)

    @staticmethod
    def log_tail(ratio):
        return torch.erfc(ratio * math.sqrt(0.5)).log()

    @staticmethod
    def threshold_of(rate):
        return -NormalDist().inv_cdf(rate / 2)

    @property
    def hazard(self) -> Tensor:
        """phi(a) / Phi(-a) at a = t / b, shape (...)."""
        a = self.ratio
        return (-0.5 * (a.square() + LOG_2PI) + math.log(2) - self.log_tail(a)).exp()

    def slab(self, sample_shape=()) -> Tensor:
        """Reparameterised draw from the slab, shape sample_shape + (...): what is beyond t, by its quantile."""
        a = self.ratio
        v = 2 * torch.rand_like(self.mu.expand(*sample_shape, *self.mu.shape)) - 1
        tail = 0.5 * self.log_tail(a).exp() * v.abs().clamp(min=torch.finfo(v.dtype).eps)
        return self.mu + self.logscale.clamp(max=WIDEST / 2).exp() * v.sign() * (-torch.special.ndtri(tail) - a)

    def slab_log_prob(self, value: Tensor) -> Tensor:
        a = self.ratio
        w = (value - self.mu).abs() * exp(-self.logscale) + a
        return -0.5 * (w.square() + LOG_2PI) - self.logscale - self.log_tail(a)

    def slab_moments(self):
        a, h = self.ratio, self.hazard
        variance = exp(2 * self.logscale) * (1 + a * (a - h)).clamp(min=0)
        return variance, self.log_tail(a) + self.logscale + 0.5 * (1 + LOG_2PI + a * h)


def thresholded_normal_kl(q: ThresholdedNormal, p: ThresholdedNormal) -> Tensor:
    """
    Return KL of the slabs of two thresholded Gaussians elementwise, in nats.

    In units of p's base, with a = t_q / b_q, t = t_p, h = phi(a) / Phi(-a) and c = a + |mu| / b:
    ln Phi(-t) / Phi(-a) - ln b - (1 + a h) / 2 + (mu^2 + b^2 (1 + a^2 - a h) + 2 t E|z| + t^2) / 2,
    where E|z| = |mu| + b (phi(c) - c Phi(-c)) / Phi(-a) is that of q's slab.
    """
    mu, logscale = ((q.mu - p.mu) * exp(-p.logscale)).abs(), q.logscale - p.logscale
    a, t, h = q.ratio, p.ratio, q.hazard
    c = (a + mu * exp(-logscale)).clamp(max=10.0)
    tail_a, tail_c = q.log_tail(a), q.log_tail(c)  # ln 2 Phi(-a), ln 2 Phi(-c)
    over = (math.log(2) - 0.5 * (c.square() + LOG_2PI) - tail_a).exp() - c * (tail_c - tail_a).exp()
    square = mu.square() + exp(2 * logscale) * (1 + a * (a - h)).clamp(min=0)
    size = mu + exp(logscale) * over
    return q.log_tail(t) - tail_a - logscale - 0.5 * (1 + a * h) + 0.5 * (square + 2 * t * size + t.square())
