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


class Mixture(NamedTuple):
    """
    p(z) as U equally likely components, in each of which the latents are independent.

    Attributes
    ----------
    gamma : torch.Tensor, shape (U, J)
        With what probability a latent is on; else it is exactly zero.
    mean, scale : torch.Tensor, shape (U, J)
        Of its value where it is on: mean + scale * noise.
    noise : str
        `normal`, N(0, 1), or `laplace`, Lap(0, 1).
    """

    gamma: Tensor
    mean: Tensor
    scale: Tensor
    noise: str


class Prior(nn.Module, ABC):
    """
    p(z): what every prior can be asked, in nats.

    In all of it `qz` is q(z|x): in a `VSC` a `SpikeAndSlab` of mu, logvar and gamma, which is a torch distribution.
    `posterior` is the encoder, x (N, M) -> q(z|x), for priors that are made of it; a prior may call it on
    any inputs. `x` (B, M) are the model inputs that `qz` is the posterior of, for priors that choose a component by
    them. Every tensor is made where the prior's own parameters and buffers are.
    """

    schedules: frozenset[str] = frozenset()
    """As for `Autoencoder`: what bears on it besides."""
    gates_open = False
    """Whether the posterior's gates must be held open, since the prior has no atom at zero."""
    pace = 1.0
    """Learning rate of its weights, in multiples of the model's."""

    @property
    def origin(self) -> Tensor | None:
        """What the posterior's means are counted from, (J,); None for zero."""
        return None

    @abstractmethod
    def kl(self, qz: Any, x: Tensor, posterior: Posterior) -> Divergence:
        """Return the divergence of q(z|x), of shape (B, J), from the prior."""

    def latent_kl(self, qz: Any, x: Tensor, posterior: Posterior) -> Tensor | None:
        """Return what each latent adds to slab + spike of `kl`, (B, J), not for training; None if it is not known."""
        return None

    def encoded(self, x: Tensor, posterior: Posterior) -> tuple[Any, Posterior]:
        """
        Return q(z|x), and the encoder as `kl` is to be given it.

        A prior that wants inputs of its own encoded has them pass beside x, and answers for them from that pass; on
        any other inputs what it returns is the encoder.
        """
        return posterior(x), posterior

    @property
    def wants(self) -> int:
        """Training examples that `start_at` is to be given before training."""
        return 0

    def start_at(self, x: Tensor) -> None:
        """Start at as many training examples as there are, at most `wants`: model inputs (n, M)."""

    def slab(self, qz: Any, x: Tensor, n: int, posterior: Posterior) -> Tensor:
        """
        Draw values of every latent from the slab of p(z), or of the component that each x chooses.

        Parameters
        ----------
        qz, x, posterior
            As for `kl`.
        n : int
            Values for each of x.

        Returns
        -------
        torch.Tensor, shape (B, n, J)
            None of them taken to zero by a gate.
        """
        raise UsageError(f"the slab of the prior {type(self).__name__} is not known: it has no method `slab`")

    @abstractmethod
    def sample(self, n: int, posterior: Posterior) -> Tensor:
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""

    def mixture(self, posterior: Posterior) -> Mixture | None:
        """Return what `sample` draws from, for whoever draws elsewhere; None if it is no mixture of products."""
        return None

    @abstractmethod
    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        """Return ln p(z) of hard codes z (N, J), shape (N,), with respect to delta_0 + Lebesgue in each dimension."""


def checked(alpha: float, most: float = math.nextafter(1, 0)) -> float:
    """Return alpha, if it is a probability in (0, most]; refuse it otherwise."""
    if not 0 < alpha <= most:
        interval = "(0, 1]" if most == 1 else "(0, 1)"
        raise UsageError(f"alpha is the prior probability that a latent is on, in {interval}, not {alpha}")
    return alpha
