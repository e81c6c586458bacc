"""Distributions with an atom at zero: exactly zero with probability 1 - gamma, otherwise drawn from a slab."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all
from torch.nn.functional import logsigmoid

LOG_2PI = math.log(2 * math.pi)
WIDEST = 80.0
"""Log-variance that a draw takes for any beyond it: e^40 is as far away as matters, and nets stay finite there."""


def largest(like: Tensor) -> float:
    """Return the number from which on e^x counts as constant: e^80 in single precision."""
    return 0.9 * math.log(torch.finfo(like.dtype).max)


def exp(x: Tensor) -> Tensor:
    """Return e^x, constant from where it would overflow: finite at any x."""
    return x.clamp(max=largest(x)).exp()


def at_least_single(x: Tensor) -> Tensor:
    """Return x in single precision if it has half: nats of many latents do not fit into that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def gate_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of Bernoulli(S(l)) elementwise, in nats, for any logits, infinite ones included."""
    finite = logits.clamp(-1000, 1000)  # 0 times infinity is no number; e^-1000 is 0 in floats
    return -torch.sigmoid(logits) * finite - logsigmoid(-finite)


def draw_gates(gamma: Tensor) -> Tensor:
    """Draw w ~ Bernoulli(gamma), 0 or 1; a gamma that is no number stays shut, and is found where nats are summed."""
    return (torch.rand_like(gamma) < gamma).to(gamma.dtype)


def laplace_like(x: Tensor) -> Tensor:
    """Draw from Lap(0, 1), of the shape of x."""
    u = 2 * torch.rand_like(x) - 1  # in [-1, 1)
    return -u.sign() * torch.log1p(-u.abs().clamp(max=1 - torch.finfo(x.dtype).eps))


class Spiked(Distribution, ABC):
    """
    A slab with an atom at zero, independent over all elements: what every posterior with gates has.

    Attributes
    ----------
    mu : torch.Tensor, shape (...)
        Mean of the slab.
    spike_logits : torch.Tensor, shape (...)
        Logit of the spike probability P(z != 0); infinite where a gate is certain.
    gamma : torch.Tensor, shape (...)
        Spike probability P(z != 0).

    Notes
    -----
    `log_prob` is the density with respect to the sum of a point mass at zero and the Lebesgue measure: at zero it
    is the atom's log-mass, elsewhere ln gamma plus the slab's log-density, never their sum. `entropy` is with respect
    to the same measure. `q[i]` is the distribution of the elements that `i` picks.
    """

    mu: Tensor
    spike_logits: Tensor
    gamma: Tensor
    _parts: ClassVar[tuple[str, ...]]
    support = constraints.real  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    @abstractmethod
    def slab(self, sample_shape=()) -> Tensor:
        """Reparameterised draw from the slab alone, shape sample_shape + (...)."""

    @abstractmethod
    def slab_log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the slab alone, in nats, elementwise."""

    @abstractmethod
    def slab_moments(self) -> tuple[Tensor, Tensor]:
        """Variance and entropy (nats) of the slab alone, shape (...)."""

    @property
    def mean(self) -> Tensor:
        """Posterior-mean code gamma * mu, shape (...)."""
        return self.gamma * self.mu

    @property
    def variance(self) -> Tensor:
        """Variance gamma (v + (1 - gamma) mu^2) for a slab of variance v, shape (...)."""
        return self.gamma * self.slab_moments()[0] + self.mean * ((1 - self.gamma) * self.mu)

    @property
    def active(self) -> Tensor:
        """Where gamma > 1/2, shape (...), bool."""
        return self.gamma > 0.5

    @property
    def hard(self) -> Tensor:
        """Hard code 1[gamma > 1/2] * mu, shape (...): exactly zero where a latent is off."""
        return torch.where(self.active, self.mu, 0.0)  # a product would leave -0.0

    def rsample(self, sample_shape=()) -> Tensor:
        """
        Draw codes with hard gates, shape sample_shape + (...): exactly zero where the spike is off.

        Only the slab's parameters have a gradient through it. A gate is open or shut, so it has none: for that take
        an estimator of `vsc.model.spikes`.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.where(draw_gates(self.gamma.expand(shape)) > 0, self.slab(sample_shape), 0.0)

    def sample(self, sample_shape=()) -> Tensor:
        """Draw codes, shape sample_shape + (...); exactly zero where the spike is off."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density with respect to delta_0 + Lebesgue, shape of `value` and the parameters (see Notes)."""
        if self._validate_args:
            self._validate_sample(value)
        off = value == 0
        on = self.slab_log_prob(torch.where(off, self.mu.detach(), value))  # where it does not count, finite
        return torch.where(off, logsigmoid(-self.spike_logits), logsigmoid(self.spike_logits) + on)

    def entropy(self) -> Tensor:
        """Entropy gamma H(slab) + H(gate) with respect to delta_0 + Lebesgue, in nats, shape (...)."""
        return self.gamma * self.slab_moments()[1] + gate_entropy(self.spike_logits)

    def expand(self, batch_shape, _instance=None) -> Self:
        """Return the distribution with its parameters expanded to `batch_shape`."""
        shape = torch.Size(batch_shape)
        return self._with([part.expand(shape) for part in self._values()], shape, _instance)

    def __getitem__(self, index) -> Self:
        parts = [part[index] for part in self._values()]
        return self._with(parts, parts[0].shape, None)

    def _values(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._parts]

    def _with(self, parts: list[Tensor], shape: torch.Size, instance) -> Self:
        new: Self = self._get_checked_instance(type(self), instance)  # pyright: ignore[reportAssignmentType]
        for name, part in zip(self._parts, parts, strict=True):
            setattr(new, name, part)
        Distribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


class SpikeAndSlab(Spiked):
    """
    q(z) = gamma N(z; mu, s^2) + (1 - gamma) delta(z), independent over all elements (ICLR eq. 5).

    Parameters
    ----------
    mu : torch.Tensor, shape (...)
        Mean of the slab.
    logvar : torch.Tensor, shape (...)
        Log-variance ln s^2 of the slab.
    gamma, spike_logits : torch.Tensor, shape (...)
        Spike probability P(z != 0), or its logit; exactly one of the two. An infinite logit is allowed. A gate that is
        given as exactly 0 or 1 is certain, and the divergence of the gates has no slope there.
    validate_args : bool, optional
        As in `torch.distributions`. Shapes and numbers are broadcast as there.

    Raises
    ------
    ValueError
        If both or none of gamma and spike_logits are given, or an argument is outside its domain.
    """

    arg_constraints = {  # noqa: RUF012 # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        "mu": constraints.real,
        "logvar": constraints.real,
        "gamma": constraints.unit_interval,
        "spike_logits": constraints.real,
    }
    _parts = ("mu", "logvar", "spike_logits", "gamma")

    def __init__(
        self,
        mu: Tensor | float,
        logvar: Tensor | float,
        gamma: Tensor | float | None = None,
        spike_logits: Tensor | float | None = None,
        validate_args: bool | None = None,
    ):
        if (gamma is None) == (spike_logits is None):
            raise ValueError("give exactly one of gamma and spike_logits")
        if gamma is None:
            assert spike_logits is not None
            self.mu, self.logvar, self.spike_logits = broadcast_all(mu, logvar, spike_logits)
            self.gamma = torch.sigmoid(self.spike_logits)
        else:
            self.mu, self.logvar, self.gamma = broadcast_all(mu, logvar, gamma)
            self.spike_logits = _logit(self.gamma)
        super().__init__(self.mu.shape, validate_args=validate_args)

    def slab(self, sample_shape=()) -> Tensor:
        """Reparameterised draw mu + s * eps from the slab alone, shape sample_shape + (...)."""
        eps = torch.randn_like(self.mu.expand(*sample_shape, *self.mu.shape))
        return self.mu + (0.5 * self.logvar.clamp(max=WIDEST)).exp() * eps

    def slab_log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * (LOG_2PI + self.logvar + ((value - self.mu) * exp(-0.5 * self.logvar)).square())

    def slab_moments(self):
        return exp(self.logvar), 0.5 * (1 + LOG_2PI + self.logvar)


def _logit(gamma: Tensor) -> Tensor:
    """Return logit gamma; where gamma is 0 or 1 an infinity without a slope, whose product with 0 is no number."""
    certain = (gamma == 0) | (gamma == 1)
    inside = torch.logit(torch.where(certain, torch.full_like(gamma, 0.5), gamma))
    return torch.where(certain, (gamma - 0.5).detach() * math.inf, inside)
