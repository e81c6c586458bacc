"""AE, VAE and VSC: each forward is one batch's way from data to the terms of the bound, read straight down."""

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vsc import spikes
from vsc.bounds import Bound
from vsc.distributions import SpikeAndSlab
from vsc.errors import UsageError, choose
from vsc.likelihoods import LIKELIHOODS, Likelihood
from vsc.nets import NETS, last_bias
from vsc.priors import NormalPrior, SpikeSlabPrior
from vsc.scaling import Scaler, as_examples


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
        return self.active * self.mu


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

    @abstractmethod
    def sample_code(self, n: int) -> Tensor:
        """Draw z ~ p(z), shape (n, J)."""

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, shape (B,), of x (B, M) and z (B, J)."""
        return self.likelihood.log_prob(x, self.decoder(z))

    def decode(self, z: Tensor) -> Tensor:
        """Return E[x|z] in model units, shape (B, M), of z (B, J)."""
        return self.likelihood.mean(self.decoder(z))

    @torch.no_grad()
    def encode(self, x: Any, batch_size: int = 1024) -> Codes:
        """
        Encode examples as they are stored: scaled as in training, in batches.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Examples of M values each, in the units of the training data (uint8 stays uint8).
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
        chunks = as_examples(x, math.prod(self.shape)).split(batch_size)
        parts = [self.codes(self.scaler(chunk.to(device))) for chunk in chunks]
        return Codes(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw z ~ p(z) and return E[x|z] in model units, shape (n, *shape)."""
        return self.decode(self.sample_code(n).to(next(self.parameters()).device)).reshape(n, *self.shape)


class AE(Autoencoder):
    """
    Autoencoder: z = encoder(x), maximise log p(x|z). No distribution over z, so no bound and no prior.

    Takes the parameters of `Autoencoder`.
    """

    features = 1

    def forward(self, x, lam=1.0, relaxation=0.5):
        """Return log p(x|z) of x (B, M) with zero KL."""
        log_px = self.log_px(x, self.encoder(x))  # (B,)
        zero = torch.zeros_like(log_px)
        return Bound(log_px, zero, zero)

    def codes(self, x):
        """Return z = mu = encoder(x), gamma = 1."""
        z = self.encoder(x)
        return Codes(z, torch.ones_like(z), z)

    def sample_code(self, n):
        """Refuse: an AE has no prior."""
        raise UsageError("an AE has no prior to sample from; train a VAE or a VSC")


class VAE(Autoencoder):
    """
    Variational autoencoder: q(z|x) = N(mu, s^2), p(z) = N(0, I). With beta != 1 in training, the beta-VAE.

    Takes the parameters of `Autoencoder`.
    """

    features = 2

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.prior = NormalPrior(self.latent_dim)

    def posterior(self, x: Tensor) -> Normal:
        """Return q(z|x), shape (B, J), of x (B, M)."""
        mu, logvar = self.encoder(x).chunk(2, -1)
        return Normal(mu, (0.5 * logvar).exp(), validate_args=False)

    def forward(self, x, lam=1.0, relaxation=0.5):
        """Return the terms of the ELBO of x (B, M)."""
        qz = self.posterior(x)  # q(z|x)  (B, J)
        log_px = self.log_px(x, qz.rsample())  # E_q log p(x|z)  (B,)
        return Bound(log_px, *self.prior.kl(qz))

    def codes(self, x):
        """Return z = mu, gamma = 1."""
        mu = self.posterior(x).loc
        return Codes(mu, torch.ones_like(mu), mu)

    def sample_code(self, n):
        """Draw z ~ N(0, I), shape (n, J)."""
        return self.prior.sample(n)


class VSC(Autoencoder):
    """
    Variational sparse coding: q(z|x) and p(z) are spike-and-slabs (ICLR eq. 4, 5).

    Parameters
    ----------
    *args, **kwargs
        As for `Autoencoder`.
    alpha : float
        Prior spike probability in (0, 1]; smaller is sparser. At 1 the gates are held open: the VAE.
    spike_estimator : str
        Name in `spikes.SPIKES`.
    head : str
        Name in `HEADS`: how encoder outputs become spike logits.
    gate_init : float
        Spike logit at the start of training; 0 is gamma = 1/2, larger opens the gates.

    Raises
    ------
    UsageError
        If alpha is outside (0, 1] or a name is unknown, and as `Autoencoder`.
    """

    features = 3

    def __init__(
        self,
        *args,
        alpha: float = 0.01,
        spike_estimator: str = "straight-through",
        head: str = "logit",
        gate_init: float = 0.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.prior = SpikeSlabPrior(self.latent_dim, alpha)
        self.spikes = choose(spikes.SPIKES, spike_estimator, "spike estimator")
        self.head = open_gates if alpha == 1 else choose(HEADS, head, "head")
        with torch.no_grad():
            last_bias(self.encoder)[2 * self.latent_dim :] += gate_init

    def posterior(self, x: Tensor, lam: float = 1.0) -> SpikeAndSlab:
        """Return q_lambda(z|x), shape (B, J), of x (B, M) (UAI sec. 3.4)."""
        mu, logvar, v = (part.contiguous() for part in self.encoder(x).chunk(3, -1))  # strided exp is slow
        if lam < 1:  # the slab N(lam mu, lam s^2 + 1 - lam): variances are interpolated, not deviations
            mu, logvar = lam * mu, torch.log(lam * logvar.exp() + (1 - lam))
        return SpikeAndSlab(mu, logvar, spike_logits=self.head(v), validate_args=False)

    def forward(self, x, lam=1.0, relaxation=0.5):
        """Return the terms of the ELBO of x (B, M); in eval mode the spikes are hard, whatever the estimator."""
        estimate = self.spikes if self.training else spikes.hard
        qz = self.posterior(x, lam)  # q(z|x)  (B, J)          ICLR eq. 5
        log_px = estimate(qz, partial(self.log_px, x), relaxation)  # E_q log p(x|z)  (B,)
        return Bound(log_px, *self.prior.kl(qz))  # (B,)        ICLR eq. 9

    def codes(self, x):
        """Return z = gamma mu, gamma and mu."""
        qz = self.posterior(x)
        return Codes(qz.mean, qz.gamma, qz.mu)

    def sample_code(self, n):
        """Draw z ~ p(z), shape (n, J); exactly zero where the spike is off."""
        return self.prior.sample(n)


def logit_head(v: Tensor) -> Tensor:
    """Take the encoder's output as the spike logit."""
    return v


def log_relu_head(v: Tensor) -> Tensor:
    """
    Return the logit of gamma where ln gamma = -ReLU(-v) (ICLR), kept 1e-6 below gamma = 1.

    For reproduction only: the gradient is exactly zero for v > 0, where half of the gates start.
    """
    log_gamma = -torch.relu(-v) - 1e-6
    return log_gamma - torch.log(-torch.expm1(log_gamma))


def open_gates(v: Tensor) -> Tensor:
    """Hold every gate open: an infinite spike logit."""
    return torch.full_like(v, math.inf)


HEADS = {"logit": logit_head, "log-relu": log_relu_head}
MODELS: dict[str, type[Autoencoder]] = {"ae": AE, "vae": VAE, "vsc": VSC}
