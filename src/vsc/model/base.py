"""What all models share: an encoder, a decoder and a likelihood, and what can be asked of them once trained."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsc.errors import UsageError, choose
from vsc.model.bounds import Bound
from vsc.model.likelihoods import LIKELIHOODS, Likelihood
from vsc.model.nets import NETS
from vsc.model.priors import Prior
from vsc.model.scaling import Scaler, as_examples


class Codes(NamedTuple):
    """
    The code of each example.

    Attributes
    ----------
    z : torch.Tensor, shape (N, J)
        Posterior-mean code: gamma * mu.
    gamma : torch.Tensor, shape (N, J)
        Spike probability; ones for models without spikes.
    mu : torch.Tensor, shape (N, J)
        Mean of the slab.
    """

    z: Tensor
    gamma: Tensor
    mu: Tensor

    @property
    def active(self) -> Tensor:
        """Where gamma > 1/2, shape (N, J), bool."""
        return self.gamma > 0.5

    @property
    def hard(self) -> Tensor:
        """Hard code 1[gamma > 1/2] * mu, shape (N, J): exactly zero where a latent is off."""
        return torch.where(self.active, self.mu, 0.0)  # a product would leave -0.0


def _as_weights(net: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Give a net inputs of its weights' precision."""
    return inputs[0].to(next(net.parameters()).dtype)


def _at_least_single(net: nn.Module, inputs: Any, out: Tensor) -> Tensor:
    """Take a net's outputs out of half precision: sums of hundreds of nats do not fit into it."""
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


class Autoencoder(nn.Module, ABC):
    """
    An encoder, a decoder and a likelihood; what AE, VAE and VSC share.

    Parameters
    ----------
    shape : tuple of int
        One example's shape; M is its product.
    latent_dim : int
        J >= 1.
    net : str
        Name in `nets.NETS`.
    hidden : tuple of int
        Widths of the hidden layers of net `mlp`.
    likelihood : Likelihood
        p(x|z).
    scaler : Scaler, optional
        How stored examples become model inputs; by default they are taken as they are.

    Raises
    ------
    UsageError
        If J < 1, a hidden width < 1, or the net does not fit the shape.
    """

    features: int
    """Encoder outputs per latent."""
    schedules: frozenset[str] = frozenset()
    """Names of the settings of training that bear on it, but for the optimiser's."""
    spiked = False
    """Whether latents have gates, so that codes have exact zeros."""
    prior: Prior
    """p(z); an AE has none."""
    posterior: Callable[..., Any]
    """x (B, M) -> q(z|x), (B, J); an AE has none."""

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        net: str = "mlp",
        hidden: tuple[int, ...] = (400,),
        likelihood: Likelihood | None = None,
        scaler: Scaler | None = None,
    ):
        super().__init__()
        if latent_dim < 1:
            raise UsageError(f"latent_dim must be at least 1, not {latent_dim}")
        if any(width < 1 for width in hidden):
            raise UsageError(f"hidden widths must be at least 1, not {hidden}")
        self.shape, self.latent_dim = shape, latent_dim
        self.columns: tuple[str, ...] = ()  # names of a table's columns and of the classes, where they are known:
        self.classes: tuple[str, ...] = ()  # kept with the model for whoever reads its codes
        self.likelihood = LIKELIHOODS["bernoulli"]() if likelihood is None else likelihood
        self.scaler = Scaler("none", torch.zeros(1), torch.ones(1)) if scaler is None else scaler
        build = choose(NETS, net, "net")
        self.encoder, self.decoder = build(
            shape, self.features * latent_dim, latent_dim, self.likelihood.outputs, hidden
        )
        for part in (self.encoder, self.decoder):
            part.register_forward_pre_hook(_as_weights)
            part.register_forward_hook(_at_least_single)

    @abstractmethod
    def forward(self, x: Tensor, lam: float = 1.0, relaxation: float = 0.5) -> Bound:
        """
        Return the terms of the bound at one draw of z.

        Parameters
        ----------
        x : torch.Tensor, shape (B, M)
            Model inputs.
        lam : float
            Warm-up lambda in [0, 1] of the slab (VSC).
        relaxation : float
            T or c of the spike estimator (VSC, in training mode only).

        Returns
        -------
        Bound
            Nats, shape (B,) each.
        """

    @abstractmethod
    def codes(self, x: Tensor) -> Codes:
        """Return the codes of model inputs x (B, M)."""

    def sample_code(self, n: int) -> Tensor:
        """Draw z ~ p(z), shape (n, J); exactly zero where a gate is shut."""
        return self.prior.sample(n, self.posterior)

    def log_weights(self, x: Tensor, draws: int) -> Tensor:
        """
        Return importance weights at hard draws of q(z|x), for the bound of `bounds.importance_weighted`.

        Parameters
        ----------
        x : torch.Tensor, shape (B, M)
            Model inputs.
        draws : int
            K.

        Returns
        -------
        torch.Tensor, shape (K, B)
            ln p(x|z) + ln p(z) - ln q(z|x) in nats, with the prior's mixture summed out.
        """
        qz = self.posterior(x)
        z = qz.sample((draws,))  # (K, B, J)
        flat = z.flatten(0, 1)
        log_px = self.log_px(x.repeat(draws, 1), flat)
        log_pz = self.prior.log_prob(flat, self.posterior)
        return (log_px + log_pz).unflatten(0, (draws, len(x))) - qz.log_prob(z).sum(-1)

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, shape (B,), of x (B, M) and z (B, J)."""
        out = self.decoder(z)
        return self.likelihood.log_prob(x.to(out.dtype), out)

    def decode(self, z: Tensor) -> Tensor:
        """Return E[x|z] in model units, shape (B, M), of z (B, J)."""
        return self.likelihood.mean(self.decoder(z))

    @torch.no_grad()
    def encode(self, x: Any, batch_size: int = 1024) -> Codes:
        """
        Encode examples as they are stored: scaled as in training, in batches.

        Parameters
        ----------
        x : array_like or data frame, shape (N, ...)
            Examples of M values each, in the units of the training data (uint8 stays uint8); the columns of a data
            frame may come in any order where the model knows their names. Those that stay on disk
            (`vsc.data.stored.Stored`) are read a batch at a time.
        batch_size : int
            Examples at a time.

        Returns
        -------
        Codes
            On the CPU, shape (N, J) each.

        Raises
        ------
        UsageError
            If the shape does not fit, or a value is not finite.
        """
        device = next(self.parameters()).device
        chunks = as_examples(x, math.prod(self.shape), self.columns).split(batch_size)
        parts = [self.codes(self.scaler(chunk.to(device))) for chunk in chunks]
        return Codes(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw z ~ p(z) and return E[x|z] in model units, shape (n, *shape)."""
        return self.decode(self.sample_code(n).to(next(self.parameters()).device)).reshape(n, *self.shape)
