"""Spike-and-slab distributions: exactly zero with probability 1 - gamma, Gaussian or Laplace otherwise."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution, Laplace, constraints, register_kl
from torch.nn.functional import logsigmoid

LOG_2PI = math.log(2 * math.pi)


def in_full_precision(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Let an autograd function's forward run outside of autocast, which would round its products to half precision."""

    @wraps(forward)
    def run(ctx, first: Tensor, *rest: Any):
        with torch.autocast(first.device.type, enabled=False):
            return forward(ctx, first, *rest)

    return run


class Spiked(Distribution, ABC):
    """
    A slab with an atom at zero, independent over all elements: what every posterior with gates has.

    Attributes
    ----------
    mu : torch.Tensor, shape (...)
        Mean of the slab.
    spike_logits : torch.Tensor, shape (...)
        Logit of the spike probability P(z != 0).

    Notes
    -----
    `log_prob` is the density with respect to the sum of a point mass at zero and the Lebesgue measure: at zero it
    is the atom's log-mass, elsewhere ln gamma plus the slab's log-density, never their sum.
    """

    mu: Tensor
    spike_logits: Tensor
    _gamma: Tensor | None = None
    support = constraints.real  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    @abstractmethod
    def slab(self, sample_shape=()) -> Tensor:
        """Reparameterised draw from the slab alone, shape sample_shape + (...)."""

    @abstractmethod
    def slab_log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the slab alone, in nats, elementwise."""

    @property
    def gamma(self) -> Tensor:
        """Spike probability P(z != 0), shape (...)."""
        if self._gamma is None:
            self._gamma = torch.sigmoid(self.spike_logits)
        return self._gamma

    @property
    def mean(self) -> Tensor:
        """Posterior-mean code gamma * mu, shape (...)."""
        return self.gamma * self.mu

    @property
    def active(self) -> Tensor:
        """Where gamma > 1/2, shape (...), bool."""
        return self.spike_logits > 0

    @property
    def hard(self) -> Tensor:
        """Hard code 1[gamma > 1/2] * mu, shape (...): exactly zero where a latent is off."""
        return torch.where(self.active, self.mu, 0.0)  # a product would leave -0.0

    def sample(self, sample_shape=()) -> Tensor:
        """Draw codes, shape sample_shape + (...); exactly zero where the spike is off."""
        with torch.no_grad():
            w = torch.bernoulli(self.gamma.expand(self._extended_shape(torch.Size(sample_shape))))
            return torch.where(w > 0, self.slab(sample_shape), 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density with respect to delta_0 + Lebesgue, shape of `value` and the parameters (see Notes)."""
        if self._validate_args:
            self._validate_sample(value)
        on = logsigmoid(self.spike_logits) + self.slab_log_prob(value)
        return torch.where(value == 0, logsigmoid(-self.spike_logits), on)


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
        Spike probability P(z != 0), or its logit; exactly one of the two. An infinite logit is allowed.
    validate_args : bool, optional
        As in `torch.distributions`.

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
            self._gamma = gamma
            spike_logits = torch.logit(gamma)
        self.spike_logits = spike_logits
        super().__init__(mu.shape, validate_args=validate_args)

    def parted(self, n: int) -> tuple["SpikeAndSlab", "SpikeAndSlab"]:
        """Return the first n along the first dimension, and the rest."""
        if n == len(self.mu):
            return self, self  # a prior that asked for nothing more does not look at the rest
        halves = zip(
            *(part.split([n, len(part) - n]) for part in (self.mu, self.logvar, self.spike_logits)), strict=True
        )
        first, rest = (SpikeAndSlab(m, v, spike_logits=g, validate_args=False) for m, v, g in halves)
        return first, rest

    @property
    def variance(self) -> Tensor:
        """Variance gamma (s^2 + mu^2) - (gamma mu)^2, shape (...)."""
        return self.gamma * (self.logvar.exp() + self.mu.square()) - self.mean.square()

    def slab(self, sample_shape=()) -> Tensor:
        """Reparameterised draw mu + s * eps from the slab alone, shape sample_shape + (...)."""
        eps = torch.randn((*sample_shape, *self.mu.shape), dtype=self.mu.dtype, device=self.mu.device)
        return _Slab.apply(self.mu, self.logvar, eps)

    def slab_log_prob(self, value: Tensor) -> Tensor:
        """Return ln N(value; mu, s^2), elementwise."""
        return -0.5 * (LOG_2PI + self.logvar + (value - self.mu).square() / self.logvar.exp())


class ThresholdedLaplace(Spiked):
    """
    z = mu + soft_t(xi) with xi ~ Lap(0, b), and z = 0 where |xi| <= t.

    It is a spike-and-slab: gamma = exp(-t / b), and where it is on, z ~ Lap(mu, b).

    Parameters
    ----------
    mu, logscale : torch.Tensor, shape (...)
        Mean of the slab, and ln b.
    threshold : torch.Tensor, shape broadcastable to (...)
        t > 0.
    validate_args : bool, optional
        As in `torch.distributions`.
    """

    arg_constraints = {  # noqa: RUF012 # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        "mu": constraints.real,
        "logscale": constraints.real,
        "threshold": constraints.positive,
    }

    def __init__(self, mu: Tensor, logscale: Tensor, threshold: Tensor, validate_args: bool | None = None):
        self.mu, self.logscale, self.threshold = mu, logscale, threshold
        ratio = (threshold * (-logscale).exp()).clamp(min=1e-12)
        self.spike_logits = -ratio - torch.log(-torch.expm1(-ratio))  # logit exp(-t / b)
        super().__init__(mu.shape, validate_args=validate_args)

    def slab(self, sample_shape=()) -> Tensor:
        """Reparameterised draw from Lap(mu, b), shape sample_shape + (...)."""
        return Laplace(self.mu, self.logscale.exp(), validate_args=False).rsample(torch.Size(sample_shape))

    def slab_log_prob(self, value: Tensor) -> Tensor:
        """Return ln Lap(value; mu, b), elementwise."""
        return Laplace(self.mu, self.logscale.exp(), validate_args=False).log_prob(value)


class _Slab(torch.autograd.Function):
    """mu + s eps with its gradient written out, since this is in every training step."""

    @staticmethod
    def forward(ctx, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        noise = (0.5 * logvar).exp_() * eps  # s eps
        ctx.save_for_backward(noise)
        return mu + noise

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (noise,) = ctx.saved_tensors
        return grad, (grad * noise).mul_(0.5), None


class KLParts(NamedTuple):
    """A divergence in nats: `slab` from the continuous part, `spike` from the gates."""

    slab: Tensor
    spike: Tensor


def softplus(x: Tensor) -> Tensor:
    """Return ln(1 + e^x), in half the time of torch's own, whose log1p is slow on CPUs. Not to be differentiated."""
    return x.abs().neg_().exp_().add_(1).log_().add_(torch.relu(x))


def normal_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, s^2) || N(0, 1)) elementwise, in nats."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def laplace_kl(mu: Tensor, logscale: Tensor) -> Tensor:
    """KL(Lap(mu, b) || Lap(0, 1)) elementwise, in nats: |mu| - ln b - 1 + b exp(-|mu| / b)."""
    size = mu.abs()
    return size - logscale - 1 + (logscale - size * (-logscale).exp()).exp()


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


def pairwise_kl(q: SpikeAndSlab, p: SpikeAndSlab) -> KLParts:
    """
    KL(q_i || p_u) of every pair, summed over the latents, by matrix products: no (B, U, J) tensor is made.

    The sum over j is bilinear in (gamma, gamma (s^2 + mu^2), gamma mu) of q and (ln t^2 / 2 + m^2 r, r, -2 m r) of p,
    r = 1 / (2 t^2): one product of (B, 3 J) with (3 J, U), and one more for the gates.

    Parameters
    ----------
    q : SpikeAndSlab, shape (B, J)
        The posteriors.
    p : SpikeAndSlab, shape (U, J)
        The components. Logits of either beyond +-40 count as 40: in floats such gates are certain.

    Returns
    -------
    KLParts
        Nats, shape (B, U).
    """
    l, k = q.spike_logits.clamp(-40, 40), p.spike_logits.clamp(-40, 40)  # noqa: E741
    return KLParts(*_PairwiseKL.apply(q.mu, q.logvar, l, p.mu, p.logvar, k))


class _PairwiseKL(torch.autograd.Function):
    """The two parts (B, U), with their gradients written out: this is in every training step of a mixture prior."""

    @staticmethod
    @in_full_precision
    def forward(ctx, mu, logvar, l, m, logvar_p, k):  # noqa: E741
        training, dtype = any(ctx.needs_input_grad), mu.dtype
        # Terms nearly cancel where slabs are narrow: a common shift helps, and costs nothing; to measure, float64.
        shift = m.mean(0)
        mu, m = mu - shift, m - shift
        wide = dtype if training else torch.float64
        a, second, r = torch.sigmoid(l), logvar.to(wide).exp() + mu.to(wide).square(), 0.5 * (-logvar_p).exp()
        left = torch.cat([torch.ones_like(second), second, mu.to(wide)], -1) * a.repeat(1, 3)
        right = _quadratic(m.to(wide), r.to(wide), 0.5 * logvar_p)
        slab = (left @ right.T).to(dtype) - 0.5 * torch.linalg.vecdot(a, 1 + logvar).unsqueeze(-1)
        entropy = torch.linalg.vecdot(a, l) - softplus(l).sum(-1)  # of every gate, with its sign turned
        if training:
            ctx.save_for_backward(mu, logvar, l, m, k, a, second, r, left, right)
        return slab, entropy.unsqueeze(-1) - a @ k.T + softplus(k).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, G, H):  # pyright: ignore[reportIncompatibleMethodOverride]
        mu, logvar, l, m, k, a, second, r, left, right = ctx.saved_tensors  # noqa: E741
        g, h = G.sum(-1, keepdim=True), H.sum(-1, keepdim=True)
        by_a, by_b, by_d = (G @ right).chunk(3, -1)  # by a, a (s^2 + mu^2) and a mu
        slope = by_a.addcmul(by_b, second).addcmul_(by_d, mu) - 0.5 * g * (1 + logvar) + h * l - H @ k
        grad_logvar = by_b * (second - mu.square()) - 0.5 * g
        constant, quadratic, linear = (G.T @ left).chunk(3, -1)
        grad_k = torch.sigmoid(k) * H.sum(0).unsqueeze(-1) - H.T @ a
        towards = constant * m - linear
        grad_logvar_p = 0.5 * constant - r * (m * (towards - linear) + quadratic)
        return a * (2 * by_b * mu + by_d), a * grad_logvar, slope * a * (1 - a), 2 * r * towards, grad_logvar_p, grad_k


def mixture_log_prob(z: Tensor, p: SpikeAndSlab) -> Tensor:
    """
    Return ln p_u(z_i) of hard codes under every component, by matrix products as in `pairwise_kl`.

    Parameters
    ----------
    z : torch.Tensor, shape (N, J)
        Hard codes: exactly zero where a latent is off.
    p : SpikeAndSlab, shape (U, J)
        The components.

    Returns
    -------
    torch.Tensor, shape (N, U)
        Nats, with respect to delta_0 + Lebesgue in each dimension.
    """
    k, exact = p.spike_logits.clamp(-40, 40), z.double()
    left = torch.cat([(z != 0).double(), exact.square(), exact], -1)
    right = _quadratic(p.mu.double(), 0.5 * (-p.logvar).double().exp(), 0.5 * (LOG_2PI + p.logvar) - k)
    return logsigmoid(-k).sum(-1) - (left @ right.T).to(z.dtype)


def _quadratic(m: Tensor, r: Tensor, constant: Tensor) -> Tensor:
    """Coefficients (U, 3 J) of 1, z^2 and z in constant + r (z - m)^2."""
    return torch.cat([constant + m.square() * r, r, -2 * m * r], -1)


@register_kl(SpikeAndSlab, SpikeAndSlab)
def _kl_spike_and_slab(q: SpikeAndSlab, p: SpikeAndSlab) -> Tensor:
    slab, spike = kl_parts(q, p)
    return slab + spike
