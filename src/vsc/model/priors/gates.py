"""The gates of a spike-and-slab prior: with what probability each latent is on, in each of its components."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vsc.errors import UsageError
from vsc.model.distributions import SpikeAndSlab
from vsc.model.priors.base import Posterior, checked


class Asked(NamedTuple):
    """What gates say: their logits (U, J), and the encoder's posteriors (U, J) that they were read from, if any."""

    logits: Tensor
    encoded: SpikeAndSlab | None = None


class Gates(nn.Module, ABC):
    """
    pi_uj, the spike probabilities of U components; half of a `SpikeSlabPrior`.

    Attributes
    ----------
    latent_dim, components : int
        J and U. With U > 1 every example chooses among the components, and the choice is charged.
    alpha : float
        In (0, 1): where the gates start or stay, or what `train.penalty` holds a mixture's mean to.
    schedules : frozenset of str
        As for `Autoencoder`: what bears on it besides.
    pace : float
        Learning rate of its weights, in multiples of the model's.
    open : bool
        Whether the posterior's gates must be held open, since the prior has no atom at zero.
    wants : int
        Training examples that `start_at` is to be given before training.
    sparse : bool
        Whether their alpha asks for sparsity, so that no cap is needed.
    mixture : bool
        Whether there may be several components.
    encoder : bool
        Whether `asked` reads them from the encoder, whose slabs can then be taken with them.

    Raises
    ------
    UsageError
        If alpha, U or another number that a kind takes is out of its range.
    """

    schedules: frozenset[str] = frozenset()
    sparse = False
    mixture = False
    encoder = False
    pace = 1.0
    open = False
    wants = 0

    def __init__(self, latent_dim: int, alpha: float, components: int = 1):
        super().__init__()
        if components < 1:
            raise UsageError(f"a mixture needs at least 1 component, not {components}")
        self.latent_dim, self.alpha, self.components = latent_dim, alpha, components

    @abstractmethod
    def asked(self, posterior: Posterior | None, dtype: torch.dtype) -> Asked:
        """Return the spike logits (U, J) in a floating-point type."""

    def encoded(self, x: Tensor, posterior: Posterior) -> tuple[SpikeAndSlab, Posterior]:
        """Return what `Prior.encoded` does."""
        return posterior(x), posterior

    def start_at(self, x: Tensor) -> None:
        """Start at as many training examples as there are, at most `wants`: model inputs (n, M)."""


class FixedGates(Gates):
    """
    One alpha for every latent, given (ICLR eq. 4).

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Prior spike probability in (0, 1]; smaller is sparser. At 1 the gates must be open: the VAE's prior.
    """

    zero: Tensor
    """Zeros (J,), which go where the model goes."""
    sparse = True

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__(latent_dim, checked(alpha, most=1.0))
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)
        self.open = alpha == 1
        self.logit = math.log(alpha / (1 - alpha)) if alpha < 1 else math.inf

    def asked(self, posterior, dtype):
        return Asked(torch.full_like(self.zero, self.logit, dtype=dtype)[None])


class LearnedGates(Gates):
    """
    An alpha_j learned for every latent; its optimum is alpha_j = mean_x gamma_j(x).

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        Where every alpha_j starts, in (0, 1).
    """

    def __init__(self, latent_dim: int, alpha: float):
        super().__init__(latent_dim, checked(alpha))
        self.spike_logits = nn.Parameter(torch.full((latent_dim,), math.log(alpha / (1 - alpha))))

    def asked(self, posterior, dtype):
        return Asked(self.spike_logits.to(dtype)[None])


CERTAIN = 8.0
"""Largest spike logit of a mixture's gate: farther out, it would have no gradient left to come back by."""


class MixtureGates(Gates):
    """
    U patterns of gates, pi_u, that are parameters of their own.

    Parameters
    ----------
    latent_dim : int
        J.
    alpha : float
        In (0, 1): what `train.penalty` holds the patterns' mean to.
    components : int
        U >= 1.
    gate_init : float
        Mean of the spike logits at the start; 0 is pi near 1/2.
    """

    schedules = frozenset({"penalty"})
    mixture = True
    pace = 15.0  # logits have farther to go than weights

    def __init__(self, latent_dim: int, alpha: float = 0.1, components: int = 100, gate_init: float = 0.0):
        super().__init__(latent_dim, checked(alpha), components)
        if not math.isfinite(gate_init):
            raise UsageError(f"gate_init must be a finite number, not {gate_init}")
        self.spike_logits = nn.Parameter(gate_init + torch.randn(components, latent_dim))

    def asked(self, posterior, dtype):
        return Asked(CERTAIN * torch.tanh(self.spike_logits.to(dtype) / CERTAIN))  # nearly the same within +-2


class PseudoInputGates(Gates):
    """
    The encoder's own gates of U learned pseudo-inputs x_u (UAI sec. 3.3).

    Parameters
    ----------
    inputs, latent_dim : int
        M and J.
    alpha : float
        In (0, 1): what `train.penalty` holds the gates' mean to.
    components : int
        U >= 1.
    nu : float, optional
        Sharpen the gates to S(nu (gamma - 1/2)), as the released code does with nu = 10.
    """

    schedules = frozenset({"penalty"})
    mixture = True
    encoder = True

    def __init__(
        self, inputs: int, latent_dim: int, alpha: float = 0.1, components: int = 100, nu: float | None = None
    ):
        super().__init__(latent_dim, checked(alpha), components)
        if nu is not None and not 0 < nu < math.inf:
            raise UsageError(f"nu must be a positive number, not {nu}")
        self.nu, self.wants = nu, components
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

    def asked(self, posterior, dtype):
        assert posterior is not None
        encoded = posterior(self.pseudo_inputs)
        return Asked(encoded.spike_logits if self.nu is None else self.nu * (encoded.gamma - 0.5), encoded)


GATES: dict[str, type[Gates]] = {
    "fixed": FixedGates,
    "learned": LearnedGates,
    "mixture": MixtureGates,
    "pseudo-inputs": PseudoInputGates,
}
