"""Priors that are mixtures of spike-and-slabs, and how an example chooses among their components."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from vsc.errors import UsageError
from vsc.model.distributions import SpikeAndSlab, at_least_single
from vsc.model.divergences import chosen_kl, mixture_log_prob, pairwise_kl
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
    selector : callable, optional
        How C comes about, as those in `SELECTORS`; by default `optimal`.
    unit_slab : bool
        Whether all components have the slab N(0, 1), so that they differ in their gates only.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1), or U < 1.
    """

    schedules = frozenset({"penalty", "prior_lr"})

    def __init__(
        self,
        inputs: int,
        latent_dim: int,
        alpha: float,
        components: int = 100,
        selector: "Selector | None" = None,
        unit_slab: bool = False,
    ):
        super().__init__()
        if components < 1:
            raise UsageError(f"a mixture needs at least 1 component, not {components}")
        self.latent_dim, self.alpha, self.components = latent_dim, checked(alpha), components
        self.select = optimal if selector is None else selector
        self.scores = None if self.select is optimal else nn.Linear(inputs, components)
        self.unit_slab = unit_slab

    @abstractmethod
    def mixed(self, posterior: Posterior) -> SpikeAndSlab:
        """Return the U components, (U, J)."""

    def kl(self, qz, x, posterior):
        """Return the bound's parts in nats, shape (B,) each; `penalty` is J KL(Bern(mean gamma_u) || Bern(alpha))."""
        parts = self.mixed(posterior)
        pairs = pairwise_kl(qz, parts)  # (B, U) each
        log_C = self.choice(x, pairs.total)  # ln q(u|x)  (B, U)
        C = log_C.exp()
        selection = (C * log_C).sum(-1) + math.log(self.components)
        penalty = self.latent_dim * _bernoulli_kl(parts.gamma.mean(), self.alpha)  # UAI: for the loss alone
        slab, spike = ((C * part).sum(-1) for part in pairs)
        return Divergence(slab, spike, selection, penalty.expand(len(C)))

    def latent_kl(self, qz, x, posterior):
        parts = self.mixed(posterior)
        C = self.choice(x, pairwise_kl(qz, parts).total).exp()  # q(u|x)  (B, U)
        return chosen_kl(qz, parts, C).total

    def choice(self, x: Tensor, kl: Tensor) -> Tensor:
        """Return ln q(u|x), (B, U), of model inputs x (B, M), given the KL to every component (B, U)."""
        if self.scores is None:
            return self.select(None, kl)
        return self.select(self.scores(x.to(self.scores.weight.dtype)).to(kl.dtype), kl)

    def slab(self, qz, x, n, posterior):
        """Draw u ~ C(x) anew for each of the n values, and the value from its slab."""
        parts = self.mixed(posterior)  # (U, J)
        C = self.choice(x, torch.stack(pairwise_kl(qz, parts)).sum(0)).exp()  # q(u|x)  (B, U)
        return parts[torch.multinomial(C, n, replacement=True)].slab()

    def sample(self, n, posterior):
        """Draw u ~ pi and z from component u, shape (n, J)."""
        parts = self.mixed(posterior)
        return parts[torch.randint(self.components, (n,), device=parts.mu.device)].sample()

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
        As `MixturePrior`, and if nu is not positive and finite.
    """

    def __init__(
        self,
        inputs: int,
        latent_dim: int,
        alpha: float,
        components: int = 100,
        selector: "Selector | None" = None,
        nu: float | None = None,
        unit_slab: bool = False,
    ):
        super().__init__(inputs, latent_dim, alpha, components, selector, unit_slab)
        if nu is not None and not 0 < nu < math.inf:
            raise UsageError(f"nu must be a positive number, not {nu}")
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

    def encoded(self, x, posterior):
        """Pass the pseudo-inputs through the encoder beside x."""
        own = self.pseudo_inputs
        both = posterior(torch.cat([x, own.to(x.dtype)]))
        qz, parts = both[: len(x)], both[len(x) :]
        return qz, lambda inputs: parts if inputs is own else posterior(inputs)

    @property
    def wants(self):
        """U: each pseudo-input starts at a training example."""
        return self.components

    def mixed(self, posterior):
        parts = posterior(self.pseudo_inputs)
        mu, logvar = (torch.zeros_like(p) if self.unit_slab else p for p in (parts.mu, parts.logvar))
        logits = parts.spike_logits if self.nu is None else self.nu * (parts.gamma - 0.5)
        return SpikeAndSlab(mu, logvar, spike_logits=logits, validate_args=False)


CERTAIN = 8.0
"""Largest spike logit of a free component: farther out, its gate would have no gradient left to come back by."""


class FreeMixturePrior(MixturePrior):
    """
    Mixture of U spike-and-slabs whose (m, t^2, pi)_u are parameters of their own; with `unit_slab`, pi_u alone.

    Parameters
    ----------
    inputs, latent_dim, alpha, components, selector, unit_slab
        As for `MixturePrior`.
    gate_init : float
        Mean of the spike logits at the start; 0 is pi near 1/2.

    Raises
    ------
    UsageError
        As `MixturePrior`, and if gate_init is not finite.
    """

    def __init__(
        self,
        inputs: int,
        latent_dim: int,
        alpha: float,
        components: int = 100,
        selector: "Selector | None" = None,
        unit_slab: bool = False,
        gate_init: float = 0.0,
    ):
        super().__init__(inputs, latent_dim, alpha, components, selector, unit_slab)
        if not math.isfinite(gate_init):
            raise UsageError(f"gate_init must be a finite number, not {gate_init}")
        mu = 0.5 * torch.randn(components, latent_dim)  # drawn either way: the gates start as they do with slabs
        if unit_slab:
            self.register_load_state_dict_pre_hook(_without_slabs)
        else:
            self.mu, self.logvar = nn.Parameter(mu), nn.Parameter(torch.zeros(components, latent_dim))
        self.spike_logits = nn.Parameter(gate_init + torch.randn(components, latent_dim))

    def mixed(self, posterior):
        logits = CERTAIN * torch.tanh(at_least_single(self.spike_logits) / CERTAIN)  # nearly the same within +-2
        zero = torch.zeros_like(logits)
        mu, logvar = (zero, zero) if self.unit_slab else (at_least_single(self.mu), at_least_single(self.logvar))
        return SpikeAndSlab(mu, logvar, spike_logits=logits, validate_args=False)


def _without_slabs(prior: nn.Module, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Take from the weights of an older file those of slabs that are not used."""
    for name in ("mu", "logvar"):
        state.pop(prefix + name, None)


def _bernoulli_kl(g: Tensor, alpha: float) -> Tensor:
    g = g.clamp(1e-6, 1 - 1e-6)  # gates that are all certain would have no gradient but NaN
    return g * torch.log(g / alpha) + (1 - g) * torch.log((1 - g) / (1 - alpha))


Selector = Callable[[Any, Tensor], Tensor]
"""(scores of a linear layer on x (B, U), KL to every component (B, U)) -> ln q(u|x) (B, U), normalised."""


def optimal(scores: None, kl: Tensor) -> Tensor:
    """
    Choose q(u|x) proportional to exp(-KL_u): the best choice there is, with nothing to learn (Hershey & Olsen 2007).

    The bound's gradient through this choice is zero, so none is kept. Where training weighs the KL's parts otherwise
    (`beta`, `slab_beta`, `spike_beta` other than 1) it is still the choice of the unweighted bound: a heuristic, best
    for what is reported and not for the loss.
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
