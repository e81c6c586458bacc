"""What all models share: an encoder, a decoder and a likelihood, and what can be asked of them once trained."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsc.errors import UsageError, at_least
from vsc.model.bounds import Bound
from vsc.model.likelihoods import Bernoulli, Likelihood
from vsc.model.priors import Prior
from vsc.model.scaling import Examples, Scaler, as_examples, identity


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


class Autoencoder(nn.Module, ABC):
    """
    An encoder, a decoder and a likelihood; what AE, VAE and VSC share.

    Parameters
    ----------
    encoder : torch.nn.Module
        (B, M) or (B, *shape) -> (B, features * J), whichever it takes.
    decoder : torch.nn.Module
        (B, J) -> (B, outputs * M), in any shape; `outputs` is the likelihood's.
    shape : tuple of int
        One example's shape; M is its product.
    latent_dim : int
        J >= 1.
    likelihood : Likelihood, optional
        p(x|z); by default `Bernoulli`.
    scaler : Scaler, optional
        How stored examples become model inputs; by default they are taken as they are.
    columns, classes : tuple of str
        Names of a table's columns and of the classes, where they are known, for whoever reads the codes.
    binarise : bool
        Whether training draws every value anew as a bit.

    Raises
    ------
    UsageError
        If J < 1, or the encoder or decoder does not take or give what it must.
    """

    features: int
    """Encoder outputs per latent."""
    schedules: frozenset[str] = frozenset()
    """Names of the settings of training that bear on it, but for the optimiser's."""
    spiked = False
    """Whether latents have gates, so that codes have exact zeros."""
    own_prior: Callable[[int], Prior] | None = None
    """J -> p(z), of a model that takes no other."""
    prior: Prior
    """p(z); an AE has none."""
    posterior: Callable[..., Any]
    """x (B, M) -> q(z|x), (B, J); an AE has none."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: tuple[int, ...],
        latent_dim: int,
        likelihood: Likelihood | None = None,
        scaler: Scaler | None = None,
        columns: tuple[str, ...] = (),
        classes: tuple[str, ...] = (),
        binarise: bool = False,
    ):
        super().__init__()
        at_least(1, latent_dim, "latent_dim")
        self.shape, self.latent_dim = tuple(shape), latent_dim
        self.columns, self.classes, self.binarise = tuple(columns), tuple(classes), binarise
        self.likelihood = Bernoulli() if likelihood is None else likelihood
        self.scaler, self._scales = identity() if scaler is None else scaler, scaler is not None
        self.encoder, self.decoder = encoder, decoder
        if self.own_prior is not None:
            self.prior = self.own_prior(latent_dim)
        rows, images = (math.prod(self.shape),), self.shape
        self._taken = _fitting(encoder, [rows, images], self.features * latent_dim, "encoder")
        _fitting(decoder, [(latent_dim,)], self.likelihood.outputs * math.prod(self.shape), "decoder")

    @abstractmethod
    def forward(self, x: Tensor, lam: float = 1.0, relaxation: float | None = None) -> Bound:
        """
        Return the terms of the bound at one draw of z.

        Parameters
        ----------
        x : torch.Tensor, shape (B, M)
            Model inputs.
        lam : float
            Warm-up lambda in [0, 1] of the slab (VSC).
        relaxation : float, optional
            T or c of the spike estimator (VSC, in training mode only); by default the model's own.

        Returns
        -------
        Bound
            Nats, shape (B,) each.
        """

    @abstractmethod
    def codes(self, x: Tensor) -> Codes:
        """Return the codes of model inputs x (B, M)."""

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.parameters(), self.scaler.factor).device

    def from_encoder(self, x: Tensor) -> Tensor:
        """Return what the encoder makes of x (B, M): (B, features * J), never in half precision."""
        return _through(self.encoder, x.unflatten(-1, self._taken))

    def from_decoder(self, z: Tensor) -> Tensor:
        """Return what the decoder makes of codes z (B, J): (B, outputs * M), never in half precision."""
        return _through(self.decoder, z)

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, shape (B,), of x (B, M) and z (B, J)."""
        out = self.from_decoder(z)
        return self.likelihood.log_prob(x.to(out.dtype), out)

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

    def sample_code(self, n: int) -> Tensor:
        """Draw z ~ p(z), shape (n, J); exactly zero where a gate is shut."""
        return self.prior.sample(n, self.posterior).to(self.device)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw z ~ p(z) and return E[x|z] in model units, shape (n, *shape)."""
        at_least(0, n, "the number of draws, n,")
        return self.decode(self.sample_code(n)).reshape(n, *self.shape)

    def decode(self, z: Any) -> Tensor:
        """
        Return E[x|z] in model units; `scaler.inverse` takes it back to stored values.

        Parameters
        ----------
        z : array_like, shape (B, J)
            Codes.

        Returns
        -------
        torch.Tensor, shape (B, M)
            Where the model is.

        Raises
        ------
        UsageError
            If a code has not J values.
        """
        z = torch.as_tensor(z, device=self.device)
        if z.ndim != 2 or z.shape[-1] != self.latent_dim:
            J = self.latent_dim
            raise UsageError(f"expected codes of {J} latents, (N, {J}), but got an array of shape {tuple(z.shape)}")
        return self.likelihood.mean(self.from_decoder(z if z.is_floating_point() else z.float()))

    def stored(self, x: Any) -> Examples:
        """
        Check examples as they are stored, as the other methods take them.

        Parameters
        ----------
        x : array_like or data frame, shape (N, ...)
            Examples of M values each, in the units of the training data. Where the model knows its columns, those of a
            data frame are taken by name, in any order.

        Returns
        -------
        torch.Tensor or Chunked, shape (N, M)
            The same values; those that stay on disk (`vsc.data.stored.Stored`) still do.

        Raises
        ------
        UsageError
            If the shape does not fit, a column is missing, a value is not finite, or the values are plainly in other
            units than those of the training data.
        """
        return self.scaler.checked(as_examples(x, math.prod(self.shape), self.columns))

    def scaled(self, x: Any) -> Tensor:
        """Return stored examples x (N, ...) in model units, (N, M), where the model is."""
        found = self.stored(x)
        return torch.cat([self.scaler(part) for part in ([found] if isinstance(found, Tensor) else found.parts())])

    def inputs(self, x: Any) -> Tensor:
        """Return stored examples x (N, ...) as training sees them: scaled and, if it binarises, drawn as bits."""
        inputs = self.scaled(x)
        return torch.bernoulli(inputs) if self.binarise else inputs

    @torch.no_grad()
    def encode(self, x: Any, batch_size: int = 1024) -> Codes:
        """
        Encode examples as they are stored: scaled as in training, in batches.

        Parameters
        ----------
        x : array_like or data frame, shape (N, ...)
            As for `stored`.
        batch_size : int
            Examples at a time.

        Returns
        -------
        Codes
            On the CPU, shape (N, J) each.

        Raises
        ------
        UsageError
            As `stored`.
        """
        at_least(1, batch_size, "batch_size")
        parts = [self.codes(self.scaler(part)) for part in self.stored(x).split(batch_size)]
        return Codes(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))

    def adopt(
        self, scaler: Scaler, columns: tuple[str, ...] = (), classes: tuple[str, ...] = (), binarise: bool = False
    ) -> None:
        """
        Take over what is known of the data, before training or where a saved model is read.

        Parameters
        ----------
        scaler : Scaler
            Not taken by a model that was made with one of its own.
        columns, classes, binarise
            As at construction.
        """
        self.scaler = self.scaler if self._scales else scaler.to(self.device)
        self.columns, self.classes, self.binarise = tuple(columns), tuple(classes), binarise


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model, or any module, in eval mode without gradients; afterwards every part has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _through(net: nn.Module, x: Tensor) -> Tensor:
    """Apply a net in its weights' precision; what it gives is flattened and taken out of half precision."""
    weight = next(net.parameters(), None)
    out = net(x if weight is None else x.to(weight.dtype)).flatten(1)
    # sums of hundreds of nats do not fit into half precision
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


def _fitting(net: nn.Module, shapes: list[tuple[int, ...]], width: int, what: str) -> tuple[int, ...]:
    """Return the first of the shapes that a net takes and makes `width` numbers of, found by trying."""
    like = next(net.parameters(), torch.zeros(()))
    if like.is_meta:  # nets without numbers are not tried: torch's imports for that take seconds
        return shapes[0]
    given, failure = None, ""
    with evaluating(net), torch.random.fork_rng(devices=[]):
        for shape in shapes:
            try:
                given = tuple(_through(net, torch.zeros(2, *shape, device=like.device)).shape)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                failure = failure or str(error).partition("\n")[0]
                continue
            if given == (2, width):
                return shape
    taken = " or ".join(str(("B", *shape)).replace("'", "") for shape in dict.fromkeys(shapes))
    found = f"gives (B, {', '.join(map(str, given[1:]))})" if given else f"fails ({failure})"
    raise UsageError(f"the {what} must make (B, {width}) of {taken}, but {found}")
