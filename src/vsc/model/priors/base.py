"""What every prior p(z) can be asked: a posterior's divergence from it, samples, and densities at hard codes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from vsc.errors import UsageError

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

    def latent_kl(self, qz: Any, x: Tensor, posterior: Posterior) -> Tensor | None:
        """
        Return what each latent adds to the slab's and the spike's part of `kl`; not for training.

        Parameters
        ----------
        qz, x, posterior
            As for `kl`.

        Returns
        -------
        torch.Tensor or None, shape (B, J)
            Nats; their sum over the latents is slab + spike. None of a prior that does not say.
        """
        return None

    def beside(self, x: Tensor) -> Tensor:
        """Return x (B, M), and below it what the prior wants encoded along with it: (B + U, M) for pseudo-inputs."""
        return x

    @abstractmethod
    def sample(self, n: int, posterior: Posterior) -> Tensor:
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""

    @abstractmethod
    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        """Return ln p(z) of hard codes z (N, J), shape (N,), with respect to delta_0 + Lebesgue in each dimension."""


def checked(alpha: float, most: float = math.nextafter(1, 0)) -> float:
    """Return alpha, if it is a probability in (0, most]; refuse it otherwise."""
    if not 0 < alpha <= most:
        interval = "(0, 1]" if most == 1 else "(0, 1)"
        raise UsageError(f"alpha is the prior probability that a latent is on, in {interval}, not {alpha}")
    return alpha
