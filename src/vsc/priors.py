"""Priors p(z) over the latent code: a posterior's divergence from them, samples, and densities at hard codes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Laplace
from torch.nn.functional import log_softmax, logsigmoid

from vsc.distributions import (
    LOG_2PI,
    SpikeAndSlab,
    ThresholdedLaplace,
    bernoulli_kl,
    laplace_kl,
    mixture_log_prob,
    normal_kl,
    pairwise_kl,
    softplus,
)
from vsc.errors import UsageError, choose

Posterior = Callable[[Tensor], Any]
"""x (N, M) -> q(z|x), (N, J): the encoder, for priors that are made of it."""


class Divergence(NamedTuple):
    """
    How far a posterior is from the prior: the parts of an upper bound of KL(q(z|x) || p(z)), in nats.

    Attributes
    ----------
    slab, spike : torch.Tensor, shape (B,)
        The continuous part, and that of the gates.
    selection : torch.Tensor, shape (B,)
        KL(C(x) || pi), the price of choosing a component; zero for priors of one component. With it the sum of the
        three is at least KL(q || p), and equal to it for one component.
    penalty : torch.Tensor, shape (B,)
        What training may add to the loss; never part of a bound.
    """

    slab: Tensor
    spike: Tensor
    selection: Tensor
    penalty: Tensor


class Prior(nn.Module, ABC):
    """p(z): what every prior can be asked. `posterior` is the encoder's q(z|x), for priors that are made of it."""

    gates_open = False
    """Whether the posterior's gates must be held open, since the prior has no atom at zero."""

    @abstractmethod
    def kl(self, qz: Any, x: Tensor, posterior: Posterior) -> Divergence:
        """
        Return the divergence of q(z|x) from the prior.

        Parameters
        ----------
        qz : SpikeAndSlab, shape (B, J)
            q(z|x).
        x : torch.Tensor, shape (B, M)
            Model inputs, for priors that choose a component by them.
        posterior : callable
            x (N, M) -> q(z|x), for priors that are made of it.

        Returns
        -------
        Divergence
            Nats, shape (B,) each.
        """

    @abstractmethod
    def sample(self, n: int, posterior: Posterior) -> Tensor:
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""

    @abstractmethod
    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        """Return ln p(z) of hard codes z (N, J), shape (N,), with respect to delta_0 + Lebesgue in each dimension."""


class NormalPrior(Prior):
    """
    N(0, I), without spikes (VAE); a VSC with it holds its gates open.

    Parameters
    ----------
    latent_dim : int
        J.
    """

    gates_open = True

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim

    def kl(self, qz, x, posterior):
        """Return KL(q || p), all of it in the slab part, of a Normal or of a spike-and-slab with open gates."""
        sparse = isinstance(qz, SpikeAndSlab)
        mu, logvar = (qz.mu, qz.logvar) if sparse else (qz.loc, 2 * qz.scale.log())
        slab = normal_kl(mu, logvar).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, zero, zero, zero)

    def sample(self, n, posterior):
        """Draw z ~ N(0, I), shape (n, J)."""
        return torch.randn(n, self.latent_dim)

    def log_prob(self, z, posterior):
        """Return ln N(z; 0, I), shape (N,)."""
        return -0.5 * (z.square() + LOG_2PI).sum(-1)


class SpikeSlabPrior(Prior):
    """
    alpha N(0, 1) + (1 - alpha) delta_0 in every dimension, with alpha given (ICLR eq. 4).

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Prior spike probability in (0, 1]; smaller is sparser. At 1 the gates must be open: the VAE's prior.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1].
    """

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__()
        self.latent_dim, self.alpha = latent_dim, _checked(alpha, most=1.0)
        self.gates_open = alpha == 1
        self.logit = math.log(alpha / (1 - alpha)) if alpha < 1 else math.inf

    def kl(self, qz, x, posterior):
        """Return KL(q || p) in nats, shape (B,) each (ICLR eq. 9); below alpha = 1 for finite spike logits."""
        if self.gates_open:
            slab = (qz.gamma * normal_kl(qz.mu, qz.logvar)).sum(-1)
            spike = torch.zeros_like(slab)
        else:
            slab, spike = _FixedKL.apply(qz.mu, qz.logvar, qz.spike_logits, self.logit)
            spike = spike - self.latent_dim * math.log1p(-self.alpha)
        zero = torch.zeros_like(slab)
        return Divergence(slab, spike, zero, zero)

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        w = torch.bernoulli(torch.full((n, self.latent_dim), self.alpha))
        return w * torch.randn(n, self.latent_dim)

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        on = math.log(self.alpha) - 0.5 * (z.square() + LOG_2PI)
        off = math.log1p(-self.alpha) if self.alpha < 1 else -math.inf
        return torch.where(z == 0, torch.full_like(z, off), on).sum(-1)


class LearnedPrior(Prior):
    """
    alpha_j N(0, 1) + (1 - alpha_j) delta_0 with every alpha_j learned; its optimum is alpha_j = mean_x gamma_j(x).

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Where every alpha_j starts, in (0, 1).

    Raises
    ------
    UsageError
        If alpha is outside (0, 1).
    """

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__()
        alpha = _checked(alpha)
        self.spike_logits = nn.Parameter(torch.full((latent_dim,), math.log(alpha / (1 - alpha))))

    def kl(self, qz, x, posterior):
        """Return KL(q || p) in nats, shape (B,) each."""
        slab = (qz.gamma * normal_kl(qz.mu, qz.logvar)).sum(-1)
        spike = bernoulli_kl(qz.spike_logits, self.spike_logits).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, spike, zero, zero)

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        return self._distribution().sample((n,))

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        return self._distribution().log_prob(z).sum(-1)

    def _distribution(self) -> SpikeAndSlab:
        zero = torch.zeros_like(self.spike_logits)
        return SpikeAndSlab(zero, zero, spike_logits=self.spike_logits, validate_args=False)


class LaplacePrior(Prior):
    """
    Lap(0, 1) in every dimension: dense but softly sparse.

    Parameters
    ----------
    latent_dim : int
        J.
    """

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim

    def kl(self, qz, x, posterior):
        """Return KL(q || p) of a Laplace posterior, all of it in the slab part."""
        slab = laplace_kl(qz.loc, qz.scale.log()).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, zero, zero, zero)

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J)."""
        return Laplace(0.0, 1.0).sample((n, self.latent_dim))

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        return -(z.abs() + math.log(2)).sum(-1)


class ThresholdedLaplacePrior(Prior):
    """
    The thresholded Laplace with mu = 0, b = 1 and a learned threshold t_j: alpha_j = exp(-t_j).

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Where every alpha_j starts, in (0, 1).

    Raises
    ------
    UsageError
        If alpha is outside (0, 1).
    """

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__()
        self.log_threshold = nn.Parameter(torch.full((latent_dim,), math.log(-math.log(_checked(alpha)))))

    @property
    def threshold(self) -> Tensor:
        """Thresholds t, shape (J,)."""
        return self.log_threshold.exp()

    def kl(self, qz, x, posterior):
        """Return gamma KL(Lap(mu, b) || Lap(0, 1)) and KL(Bern(gamma) || Bern(alpha)), shape (B,) each."""
        slab = (qz.gamma * laplace_kl(qz.mu, qz.logscale)).sum(-1)
        spike = bernoulli_kl(qz.spike_logits, self._distribution().spike_logits).sum(-1)
        zero = torch.zeros_like(slab)
        return Divergence(slab, spike, zero, zero)

    def sample(self, n, posterior):
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        return self._distribution().sample((n,))

    def log_prob(self, z, posterior):
        """Return ln p(z), shape (N,)."""
        return self._distribution().log_prob(z).sum(-1)

    def _distribution(self) -> ThresholdedLaplace:
        zero = torch.zeros_like(self.log_threshold)
        return ThresholdedLaplace(zero, zero, self.threshold, validate_args=False)


class MixturePrior(Prior):
    """
    Uniform mixture of U spike-and-slabs; each example chooses among them, and the choice is charged.

    With q(u|x) = C(x), E log p(x|z) - sum_u C_u KL(q(z|x) || p_u) - KL(C(x) || pi) is a bound for any C. The UAI
    paper's printed objective leaves the last term out and is none: its prior may depend on x for free.

    Parameters
    ----------
    inputs : int
        M, for selectors that look at x.
    latent_dim : int
        J.
    alpha : float
        In (0, 1): the sparsity that `penalty` asks of the components.
    components : int
        U >= 1.
    selector : str
        Name in `SELECTORS`: how C comes about.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1), U < 1 or the selector is unknown.
    """

    def __init__(self, inputs: int, latent_dim: int, alpha: float, components: int = 100, selector: str = "optimal"):
        super().__init__()
        if components < 1:
            raise UsageError(f"a mixture needs at least 1 component, not {components}")
        self.latent_dim, self.alpha, self.components = latent_dim, _checked(alpha), components
        self.select = choose(SELECTORS, selector, "selector")
        self.scores = None if self.select is optimal else nn.Linear(inputs, components)

    @abstractmethod
    def mixed(self, posterior: Posterior) -> SpikeAndSlab:
        """Return the U components, (U, J)."""

    def kl(self, qz, x, posterior):
        """Return the bound's parts in nats, shape (B,) each; `penalty` is J KL(Bern(mean gamma_u) || Bern(alpha))."""
        parts = self.mixed(posterior)
        slab, spike = pairwise_kl(qz, parts)  # (B, U) each
        log_C = self.choice(x, slab + spike)  # ln q(u|x)  (B, U)
        C = log_C.exp()
        selection = (C * log_C).sum(-1) + math.log(self.components)
        penalty = self.latent_dim * _bernoulli_kl(parts.gamma.mean(), self.alpha)  # UAI: for the loss alone
        return Divergence((C * slab).sum(-1), (C * spike).sum(-1), selection, penalty.expand(len(C)))

    def choice(self, x: Tensor, kl: Tensor) -> Tensor:
        """Return ln q(u|x), (B, U), of model inputs x (B, M), given the KL to every component (B, U)."""
        return self.select(None if self.scores is None else self.scores(x), kl)

    def sample(self, n, posterior):
        """Draw u ~ pi and z from component u, shape (n, J)."""
        parts = self.mixed(posterior)
        u = torch.randint(self.components, (n,), device=parts.mu.device)
        return SpikeAndSlab(
            parts.mu[u], parts.logvar[u], spike_logits=parts.spike_logits[u], validate_args=False
        ).sample()

    def log_prob(self, z, posterior):
        """Return ln 1/U sum_u p_u(z), shape (N,)."""
        return mixture_log_prob(z, self.mixed(posterior)).logsumexp(-1) - math.log(self.components)


class PseudoInputPrior(MixturePrior):
    """
    1/U sum_u q(z|x_u): the encoder's own posteriors of U learned pseudo-inputs x_u (UAI sec. 3.3).

    Parameters
    ----------
    inputs, latent_dim, alpha, components, selector
        As for `MixturePrior`.
    nu : float, optional
        Sharpen the components' gates to S(nu (gamma - 1/2)), as the released code does with nu = 10.

    Raises
    ------
    UsageError
        As `MixturePrior`, and if nu is not positive.
    """

    def __init__(
        self,
        inputs: int,
        latent_dim: int,
        alpha: float,
        components: int = 100,
        selector: str = "optimal",
        nu: float | None = None,
    ):
        super().__init__(inputs, latent_dim, alpha, components, selector)
        if nu is not None and not nu > 0:
            raise UsageError(f"nu must be positive, not {nu}")
        self.nu = nu
        self.pseudo_inputs = nn.Parameter(torch.rand(components, inputs))

    def start_at(self, x):
        """Copy examples x (U, M), before training."""
        if len(x) < self.components:
            raise UsageError(
                f"{self.components} pseudo-inputs start at as many training examples, but there are {len(x)}; "
                "lower model.components"
            )
        with torch.no_grad():
            self.pseudo_inputs.copy_(x)

    def mixed(self, posterior):
        """Return q(z|x_u), (U, J)."""
        parts = posterior(self.pseudo_inputs)
        if self.nu is None:
            return parts
        logits = self.nu * (parts.gamma - 0.5)
        return SpikeAndSlab(parts.mu, parts.logvar, spike_logits=logits, validate_args=False)


class FreeMixturePrior(MixturePrior):
    """
    Mixture of U spike-and-slabs whose (m, t^2, pi)_u are parameters of their own.

    Parameters
    ----------
    inputs, latent_dim, alpha, components, selector
        As for `MixturePrior`; every pi starts near 1/2.
    """

    def __init__(self, inputs: int, latent_dim: int, alpha: float, components: int = 100, selector: str = "optimal"):
        super().__init__(inputs, latent_dim, alpha, components, selector)
        self.mu = nn.Parameter(0.5 * torch.randn(components, latent_dim))
        self.logvar = nn.Parameter(torch.zeros(components, latent_dim))
        self.spike_logits = nn.Parameter(0.5 * torch.randn(components, latent_dim))

    def mixed(self, posterior):
        """Return the components, (U, J)."""
        return SpikeAndSlab(self.mu, self.logvar, spike_logits=self.spike_logits, validate_args=False)


Selector = Callable[[Any, Tensor], Tensor]
"""(scores of a linear layer on x (B, U), KL to every component (B, U)) -> ln q(u|x) (B, U), normalised."""


def optimal(scores: None, kl: Tensor) -> Tensor:
    """
    Choose q(u|x) proportional to exp(-KL_u): the best choice there is, with nothing to learn (Hershey & Olsen 2007).

    The bound's gradient through this choice is zero, so none is kept.
    """
    return log_softmax(-kl.detach(), -1)


def softmax(scores: Tensor, kl: Tensor) -> Tensor:
    """Choose by one linear layer on x and a softmax: UAI's classifier, read as q(u|x)."""
    return log_softmax(scores, -1)


def paper(scores: Tensor, kl: Tensor) -> Tensor:
    """
    Choose as the UAI paper prints it: outputs c normalised to sum 1, then S(60 (c_u - 1/2)).

    Those weights are nearly all 0 or 1 but sum to anything; they are normalised here, so that the choice can be
    charged. In the paper it is not, and the objective is no bound.
    """
    return log_softmax(logsigmoid(60 * (torch.softmax(scores, -1) - 0.5)), -1)


def released(scores: Tensor, kl: Tensor) -> Tensor:
    """
    Choose as the UAI paper's released code does: a sigmoid of each output, over their L2 norm.

    Those weights do not sum to 1; they are normalised here, which the norm drops out of, so that the choice can be
    charged. In that code it is not, and the objective is no bound.
    """
    return log_softmax(logsigmoid(scores), -1)


SELECTORS: dict[str, Selector] = {"optimal": optimal, "softmax": softmax, "paper": paper, "released": released}


def _checked(alpha: float, most: float = math.nextafter(1, 0)) -> float:
    if not 0 < alpha <= most:
        interval = "(0, 1]" if most == 1 else "(0, 1)"
        raise UsageError(f"alpha is the prior probability that a latent is on, in {interval}, not {alpha}")
    return alpha


def _bernoulli_kl(g: Tensor, alpha: float) -> Tensor:
    g = g.clamp(1e-6, 1 - 1e-6)  # gates that are all certain would have no gradient but NaN
    return g * torch.log(g / alpha) + (1 - g) * torch.log((1 - g) / (1 - alpha))


class _FixedKL(torch.autograd.Function):
    """
    sum_j gamma KL(N(mu, s^2) || N(0, 1)) and sum_j gamma (l - p) - ln(1 + e^l), (B,) each, for finite logits l, p.

    The same as `distributions.kl_parts`, with its gradient written out: this is in every training step.
    """

    @staticmethod
    def forward(ctx, mu: Tensor, logvar: Tensor, l: Tensor, p: float):  # noqa: E741
        var, gamma, d = logvar.exp(), torch.sigmoid(l), l - p
        gauss = torch.addcmul(var, mu, mu).sub_(logvar).sub_(1).mul_(0.5)
        ctx.save_for_backward(mu, var, gamma, d, gauss)
        return (gamma * gauss).sum(-1), (gamma * d).sub_(softplus(l)).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, slab: Tensor, spike: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        mu, var, gamma, d, gauss = ctx.saved_tensors
        slab, spike = slab.unsqueeze(-1), spike.unsqueeze(-1)
        on = slab * gamma
        grad_l = (gauss * slab).addcmul_(d, spike).mul_(gamma).mul_(1 - gamma)
        return on * mu, (on * (var - 1)).mul_(0.5), grad_l, None


PRIORS: dict[str, type[Prior]] = {
    "normal": NormalPrior,
    "spike-slab": SpikeSlabPrior,
    "learned": LearnedPrior,
    "pseudo-inputs": PseudoInputPrior,
    "mixture": FreeMixturePrior,
}
