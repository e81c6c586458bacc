"""Sparse autoencoders that are told how many latents are on: TopK, BatchTopK and Matryoshka."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vsc.errors import UsageError
from vsc.model.bounds import simple
from vsc.model.likelihoods import Likelihood
from vsc.model.peers.coder import Coder, also, on_where
from vsc.model.scaling import Scaler

IDLE = 10_000
"""Examples without being on after which a latent counts as dead, and is helped."""

HELP = 1 / 32
"""Weight of what dead latents make of the error (Gao et al. 2024, alpha of AuxK)."""

MEMORY = 0.99
"""Share of the remembered threshold that a batch leaves."""

NESTED = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)
"""Ends of the nested prefixes in shares of J: each part is twice as wide as the one before (Bussmann et al. 2025)."""


class Counted(Coder, ABC):
    """
    A coder that keeps the largest: k latents are on, whatever the rest is worth.

    Parameters
    ----------
    encoder, decoder, shape, latent_dim, likelihood, scaler, missing
        As for `Autoencoder`.
    k : float, optional
        Latents that are on, of J; by default a tenth of them. From settings, the last value of `train.target_l0`.

    Raises
    ------
    UsageError
        If k is not above 0 and at most J, or must be a whole number, and as `Autoencoder`.
    """

    whole = False
    """Whether k must be a whole number."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: tuple[int, ...],
        latent_dim: int,
        k: float | None = None,
        likelihood: Likelihood | None = None,
        scaler: Scaler | None = None,
        missing: bool = False,
    ):
        super().__init__(
            encoder,
            decoder,
            shape=shape,
            latent_dim=latent_dim,
            likelihood=likelihood,
            scaler=scaler,
            missing=missing,
        )
        k = max(1, round(latent_dim / 10)) if k is None else k
        if not 0 < k <= latent_dim or (self.whole and k != round(k)):
            what = "a whole number" if self.whole else "a number above 0"
            raise UsageError(f"k, how many latents are on, must be {what}, at most {latent_dim}, not {k:g}")
        self.k, self.seen = float(k), 0  # examples of training, up to IDLE
        self.idle: Tensor  # examples since a latent was on  (J,)
        self.register_buffer("idle", torch.zeros(latent_dim, dtype=torch.float32))

    def get_extra_state(self) -> Tensor:
        """Return what is saved with the weights, since a code or a resumed training needs it: k and `seen`."""
        return torch.tensor([self.k, self.seen], dtype=torch.float32, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Take it back."""
        self.k, self.seen = float(state[0]), int(state[1])

    def forward(self, x, lam=1.0, relaxation=None):
        """Return log p(x|z) of x (B, M) with zero KL; its gradient is also that of the losses that a kind adds."""
        pre = torch.relu(self.from_encoder(x))
        z = self.kept(pre) if self.training else self.code(pre)
        out = self.from_decoder(z)
        log_px = self.likelihood.log_prob(x.to(out.dtype), out, self.missing)
        on = on_where(z)
        if self.training:
            self.idle = torch.where(on.any(0), 0.0, self.idle + len(x))
            self.seen = min(self.seen + len(x), IDLE)
            log_px = self._more(also(log_px, self._revival(x, pre, out)), x, z)
        return simple(log_px, on)

    def kept(self, pre: Tensor) -> Tensor:
        """Return what training keeps of ReLU'd encoder outputs (B, J)."""
        return self.code(pre)

    @abstractmethod
    def _more(self, log_px: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) (B,), of x (B, M) and z (B, J), with the gradient of what else a kind trains."""

    def _revival(self, x: Tensor, pre: Tensor, out: Tensor) -> Tensor | None:
        """
        Return the weighted log-likelihood (B,) of what dead latents add to outputs that are held fixed (AuxK).

        With a linear decoder and squared error, that is |e - D z_dead|^2 for the M / 2 largest of the dead latents.
        """
        dead = self.idle >= IDLE
        if self.seen < IDLE or not dead.any():
            return None
        z = _largest(torch.where(dead, pre, 0.0), min(self.latent_dim, max(1, x.shape[-1] // 2)))
        added = self.from_decoder(z) - self.from_decoder(torch.zeros_like(z[:1]))
        return HELP * self.likelihood.log_prob(x.to(out.dtype), out.detach() + added, self.missing)


class TopK(Counted):
    """
    TopK autoencoder: the k largest of an example's encoder outputs are kept (Gao et al. 2024).

    What is not positive is never on. Dead latents learn from the error (AuxK). Takes the parameters of `Counted`.
    """

    whole = True

    def code(self, pre):
        """Return the k largest of each example."""
        return _largest(torch.relu(pre), int(self.k))

    def _more(self, log_px, x, z):
        """Return what is given: there is no more."""
        return log_px


class Batched(Counted, ABC):
    """A coder that keeps the k B largest of a batch; afterwards what reaches the mean of the smallest kept."""

    def begin(self) -> None:
        """Make the threshold; until training has seen a batch it lets all through that is positive."""
        self.threshold: Tensor
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float32))

    def kept(self, pre):
        """Return the k B largest of a batch, and remember the smallest of them."""
        n = min(pre.numel(), max(1, round(self.k * len(pre))))
        z = _largest(pre.flatten(), n).view_as(pre)
        least = torch.where(z > 0, z, torch.inf).amin().detach()
        now = torch.where(self.threshold > 0, self.threshold.lerp(least.to(self.threshold), 1 - MEMORY), least)
        self.threshold = torch.where(least.isfinite(), now, self.threshold)
        return z

    def code(self, pre):
        """Return what reaches the threshold, of each example by itself."""
        return torch.where(pre >= self.threshold, torch.relu(pre), 0.0)


class BatchTopK(Batched):
    """
    BatchTopK autoencoder: the k B largest encoder outputs of a batch are kept (Bussmann et al. 2024).

    Examples share them as they need. Afterwards a latent is on at a threshold: the mean, over the last batches of
    training, of the smallest output that was kept. Dead latents learn from the error (AuxK). Takes the parameters of
    `Counted`.
    """

    def _more(self, log_px, x, z):
        """Return what is given: there is no more."""
        return log_px


class Matryoshka(Batched):
    """
    Matryoshka autoencoder: a `BatchTopK` whose first latents must do alone, too (Bussmann et al. 2025).

    The loss is the sum, over nested prefixes of the latents, of what each reconstructs by itself: general things come
    first, and special ones do not absorb them. Takes the parameters of `Counted`.
    """

    @property
    def prefixes(self) -> list[int]:
        """How many latents each nested code has; the last has all."""
        return sorted({max(1, round(share * self.latent_dim)) for share in NESTED})

    def _more(self, log_px, x, z):
        """Add what each shorter prefix reconstructs."""
        for m in self.prefixes[:-1]:
            alone = torch.cat([z[:, :m], torch.zeros_like(z[:, m:])], -1)
            log_px = also(log_px, self.log_px(x, alone))
        return log_px


def _largest(pre: Tensor, k: int) -> Tensor:
    """Keep the k largest values along the last dimension, and put zeros for the others."""
    values, where = pre.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter(-1, where, values)
