"""The spike-and-slab distribution: exactly zero with probability 1 - gamma, Gaussian otherwise."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.nn.functional import logsigmoid

LOG_2PI = math.log(2 * math.pi)


class SpikeAndSlab(Distribution):
    """
    q(z) = gamma N(z; mu, s^2) + (1 - gamma) delta(z), independent over all elements (ICLR eq. 5).

    Parameters
    ----------
    mu : torch.Tensor, shape (...)
        Mean of the slab.
    logvar : torch.Tensor, shape (...)
        Log-variance ln s^2 of the slab.
    gamma, spike_logits : torch.Tensor, shape (...)
        Spike probability P(z != 0), or its logit; exactly one of the two. An infinite logit is allowed.
    validate_args : bool, optional
        As in `torch.distributions`.

    Raises
    ------
    ValueError
        If both or none of gamma and spike_logits are given, or an argument is outside its domain.

    Notes
    -----
    `log_prob` is the density with respect to the sum of a point mass at zero and the Lebesgue measure: at zero it
    is the atom's log-mass, elsewhere ln gamma plus the slab's log-density, never their sum.
    """

    arg_constraints = {  # noqa: RUF012 # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        "mu": constraints.real,
        "logvar": constraints.real,
        "gamma": constraints.unit_interval,
        "spike_logits": constraints.real,
    }
    support = constraints.real  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def __init__(
        self,
        mu: Tensor,
        logvar: Tensor,
        gamma: Tensor | None = None,
        spike_logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        if (gamma is None) == (spike_logits is None):
            raise ValueError("give exactly one of gamma and spike_logits")
        self.mu, self.logvar = mu, logvar
        if spike_logits is None:
            assert gamma is not None
            self.__dict__["gamma"] = gamma
            spike_logits = torch.logit(gamma)
        self.spike_logits = spike_logits
        super().__init__(mu.shape, validate_args=validate_args)

    @property
    def gamma(self) -> Tensor:
        """Spike probability P(z != 0), shape (...)."""
        if "gamma" not in self.__dict__:
            self.__dict__["gamma"] = torch.sigmoid(self.spike_logits)
        return self.__dict__["gamma"]

    @property
    def mean(self) -> Tensor:
        """Posterior-mean code gamma * mu, shape (...)."""
        return self.gamma * self.mu

    @property
    def variance(self) -> Tensor:
        """Variance gamma (s^2 + mu^2) - (gamma mu)^2, shape (...)."""
        return self.gamma * (self.logvar.exp() + self.mu.square()) - self.mean.square()

    @property
    def active(self) -> Tensor:
        """Where gamma > 1/2, shape (...), bool."""
        return self.spike_logits > 0

    @property
    def hard(self) -> Tensor:
        """Hard code 1[gamma > 1/2] * mu, shape (...): exactly zero where a latent is off."""
        return self.active * self.mu

    def slab(self, eps: Tensor | None = None) -> Tensor:
        """Reparameterised draw mu + s * eps from the slab alone, shape (...)."""
        eps = torch.randn_like(self.mu) if eps is None else eps
        return torch.addcmul(self.mu, (0.5 * self.logvar).exp(), eps)

    def sample(self, sample_shape=()) -> Tensor:
        """Draw codes, shape sample_shape + (...); exactly zero where the spike is off."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            w = torch.bernoulli(self.gamma.expand(shape))
            return w * self.slab(torch.randn(shape, dtype=self.mu.dtype, device=self.mu.device))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density with respect to delta_0 + Lebesgue, shape of `value` and the parameters (see Notes)."""
        if self._validate_args:
            self._validate_sample(value)
        slab = -0.5 * (LOG_2PI + self.logvar + (value - self.mu).square() / self.logvar.exp())
        on = logsigmoid(self.spike_logits) + slab
        return torch.where(value == 0, logsigmoid(-self.spike_logits), on)


class KLParts(NamedTuple):
    """A divergence in nats: `slab` from the continuous part, `spike` from the gates."""

    slab: Tensor
    spike: Tensor


def softplus(x: Tensor) -> Tensor:
    """Return ln(1 + e^x) to rounding error, in half the time of torch's own, whose log1p is slow on CPUs."""
    return x.abs().neg_().exp_().add_(1).log_().add_(torch.relu(x))


def normal_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, s^2) || N(0, 1)) elementwise, in nats."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def bernoulli_kl(logits: Tensor, prior_logits: Tensor) -> Tensor:
    """
    KL(Bern(S(l)) || Bern(S(p))) elementwise, in nats, for any logits, infinite ones included.

    Written as gamma (l - p) + ln S(-l) - ln S(-p), which needs no clamp: gamma ln gamma + (1 - gamma) ln(1 - gamma)
    is gamma l + ln S(-l).
    """
    logits, prior_logits = torch.broadcast_tensors(logits, prior_logits)
    finite = torch.isfinite(logits) & torch.isfinite(prior_logits)
    l, p = (torch.where(finite, t, torch.zeros_like(t)) for t in (logits, prior_logits))  # noqa: E741
    inside = torch.sigmoid(l) * (l - p) + logsigmoid(-l) - logsigmoid(-p)
    # an infinite logit is a certain gate: only -ln of what the prior gives to that outcome is left
    certain = torch.where(logits > 0, -logsigmoid(prior_logits), -logsigmoid(-prior_logits))
    limit = torch.where(torch.isinf(logits), certain, torch.full_like(l, math.inf))
    return torch.where(finite, inside, limit)


def kl_parts(q: SpikeAndSlab, p: SpikeAndSlab) -> KLParts:
    """
    KL(q || p) of two spike-and-slabs elementwise, in its two parts (spec of the divergence: ICLR eq. 9 generalised).

    Parameters
    ----------
    q, p : SpikeAndSlab, broadcastable shapes (...)
        The two distributions.

    Returns
    -------
    KLParts
        Nats, shape (...). The UAI supplement prints s where s^2 is meant in the quadratic term.
    """
    gauss = 0.5 * (p.logvar - q.logvar + (q.logvar.exp() + (q.mu - p.mu).square()) / p.logvar.exp() - 1)
    return KLParts(q.gamma * gauss, bernoulli_kl(q.spike_logits, p.spike_logits))


@register_kl(SpikeAndSlab, SpikeAndSlab)
def _kl_spike_and_slab(q: SpikeAndSlab, p: SpikeAndSlab) -> Tensor:
    slab, spike = kl_parts(q, p)
    return slab + spike
