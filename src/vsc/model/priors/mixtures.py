"""Priors that are mixtures of spike-and-slabs, and how an example chooses among their components."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from vsc.errors import UsageError, choose
from vsc.model.distributions import SpikeAndSlab, mixture_log_prob, pairwise_kl
from vsc.model.priors.base import Divergence, Posterior, Prior, checked


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
    unit_slab : bool
        Whether all components have the slab N(0, 1), so that they differ in their gates only.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1), U < 1 or the selector is unknown.
    """

    def __init__(
        self,
        inputs: int,
        latent_dim: int,
        alpha: float,
        components: int = 100,
        selector: str = "optimal",
        unit_slab: bool = False,
    ):
        super().__init__()
        if components < 1:
            raise UsageError(f"a mixture needs at least 1 component, not {components}")
        self.latent_dim, self.alpha, self.components = latent_dim, checked(alpha), components
        self.select = choose(SELECTORS, selector, "selector")
        self.scores = None if self.select is optimal else nn.Linear(inputs, components)
        self.unit_slab = unit_slab

    @abstractmethod
    def own(self, posterior: Posterior) -> SpikeAndSlab:
        """Return the U components with slabs of their own, (U, J)."""

    def mixed(self, posterior: Posterior) -> SpikeAndSlab:
        """Return the U components, (U, J)."""
        parts = self.own(posterior)
        if not self.unit_slab:
            return parts
        zeros = torch.zeros_like(parts.mu)
        return SpikeAndSlab(zeros, zeros, spike_logits=parts.spike_logits, validate_args=False)

    def kl(self, qz, x, posterior):
        """Return the bound's parts in nats, shape (B,) each; `penalty` is J KL(Bern(mean gamma_u) || Bern(alpha))."""
        parts = self.mixed(posterior)
        slab, spike = pairwise_kl(qz, parts)  # (B, U) each
        log_C = self.choice(x, slab + spike)  # ln q(u|x)  (B, U)
        C = log_C.exp()
        selection = (C * log_C).sum(-1) + math.log(self.components)
        penalty = self.latent_dim * _bernoulli_kl(parts.gamma.mean(), self.alpha)  # UAI: for the loss alone
        return Divergence((C * slab).sum(-1), (C * spike).sum(-1), selection, penalty.expand(len(C)))

    def latent_kl(self, qz, x, posterior):
        """Return the terms of `kl`, shape (B, J); logits beyond +-40 count as 40."""
        parts = self.mixed(posterior)
        C = self.choice(x, torch.stack(pairwise_kl(qz, parts)).sum(0)).exp().double()  # q(u|x)  (B, U)
        mu, logvar, l = qz.mu.double(), qz.logvar.double(), qz.spike_logits.double().clamp(-40, 40)  # noqa: E741
        m, logvar_p, k = parts.mu.double(), parts.logvar.double(), parts.spike_logits.double().clamp(-40, 40)
        gamma, precision = torch.sigmoid(l), (-logvar_p).exp()
        # sum_u C_u of the log-variance ratio, of the variance ratio, and of (mu - m_u)^2 / t_u^2
        square = mu.square() * (C @ precision) - 2 * mu * (C @ (m * precision)) + C @ (m.square() * precision)
        slab = 0.5 * gamma * (C @ logvar_p - logvar + logvar.exp() * (C @ precision) + square - 1)
        spike = gamma * (l - C @ k) + logsigmoid(-l) - C @ logsigmoid(-k)
        return (slab + spike).to(qz.mu.dtype)

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
    inputs, latent_dim, alpha, components, selector, unit_slab
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
        unit_slab: bool = False,
    ):
        super().__init__(inputs, latent_dim, alpha, components, selector, unit_slab)
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

    def beside(self, x):
        """Return x and the pseudo-inputs, (B + U, M)."""
        return torch.cat([x, self.pseudo_inputs.to(x.dtype)])

    def own(self, posterior):
        """Return q(z|x_u), (U, J)."""
        parts = posterior(self.pseudo_inputs)
        if self.nu is None:
            return parts
        logits = self.nu * (parts.gamma - 0.5)
        return SpikeAndSlab(parts.mu, parts.logvar, spike_logits=logits, validate_args=False)


CERTAIN = 8.0
"""Largest spike logit of a free component: farther out, its gate would have no gradient left to come back by."""


class FreeMixturePrior(MixturePrior):
    """
    Mixture of U spike-and-slabs whose (m, t^2, pi)_u are parameters of their own.

    Parameters
    ----------
    inputs, latent_dim, alpha, components, selector, unit_slab
        As for `MixturePrior`.
    gate_init : float
        Mean of the spike logits at the start; 0 is pi near 1/2.
    """

    def __init__(
        self,
        inputs: int,
        latent_dim: int,
        alpha: float,
        components: int = 100,
        selector: str = "optimal",
        unit_slab: bool = False,
        gate_init: float = 0.0,
    ):
        super().__init__(inputs, latent_dim, alpha, components, selector, unit_slab)
        self.mu = nn.Parameter(0.5 * torch.randn(components, latent_dim))
        self.logvar = nn.Parameter(torch.zeros(components, latent_dim))
        self.spike_logits = nn.Parameter(gate_init + torch.randn(components, latent_dim))

    def own(self, posterior):
        """Return the components, (U, J)."""
        logits = CERTAIN * torch.tanh(self.spike_logits / CERTAIN)  # nearly the same within +-2
        return SpikeAndSlab(self.mu, self.logvar, spike_logits=logits, validate_args=False)


def _bernoulli_kl(g: Tensor, alpha: float) -> Tensor:
    g = g.clamp(1e-6, 1 - 1e-6)  # gates that are all certain would have no gradient but NaN
    return g * torch.log(g / alpha) + (1 - g) * torch.log((1 - g) / (1 - alpha))


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
