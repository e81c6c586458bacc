"""What all models share: an encoder, a decoder and a likelihood, and what can be asked of them once trained."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsc.errors import UsageError, at_least
from vsc.fields import Field
from vsc.model.applied import applied, fitting, single
from vsc.model.applied import evaluating as evaluating
from vsc.model.bounds import Bound
from vsc.model.filling import filled
from vsc.model.likelihoods import Bernoulli, Likelihood
from vsc.model.nets import Dictionary, Refining
from vsc.model.priors import Prior
from vsc.model.scaling import Examples, Scaler, as_examples, identity
from vsc.model.spikes import Curved
from vsc.torchstate import seeded

TOGETHER = 20_000
"""Codes that are decoded at a time where there are many of an example."""


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
        (B, J) -> (B, outputs * M), in any shape; `outputs` is the likelihood's. Of the likelihood of a table of mixed
        columns, its `width`.
    shape : tuple of int
        One example's shape; M is its product.
    latent_dim : int
        J >= 1.
    likelihood : Likelihood, optional
        p(x|z); by default `Bernoulli`.
    scaler : Scaler, optional
        How stored examples become model inputs; by default they are taken as they are.
    missing : bool
        Whether values of x may be NaN, where they are missing: log p(x|z) is then that of what is there, and the
        encoder must make something of NaN, as one behind a `vsc.model.front.Front` does.

    Raises
    ------
    UsageError
        If J < 1, or the encoder or decoder does not take or give what it must.

    Attributes
    ----------
    columns, classes : tuple of str
        Names of a table's columns and of the classes, where they are known (`adopt`), for whoever reads the codes.
    binarise : bool
        Whether training draws every value anew as a bit.
    fields : tuple of vsc.fields.Field
        What a table's columns are, so that data frames can be read; a categorical one is several of `columns`.
    """

    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    binarise = False
    features: int
    """Encoder outputs per latent."""
    schedules: frozenset[str] = frozenset()
    """Names of the settings of training that bear on it, but for the optimiser's."""
    spiked = False
    """Whether latents have gates, so that codes have exact zeros."""
    refines = False
    """Whether `sweeps` may be other than 0."""
    _sweeps = 0
    bounded = True
    """Whether it has p(z) and q(z|x), and its forward a bound on log p(x)."""
    asks_l0 = False
    """Whether it needs an l0 to go to, `train.target_l0`, where none is given."""
    prior: Prior
    """p(z); one without a bound has none."""
    posterior: Callable[..., Any]
    """x (B, M) -> q(z|x), (B, J); one without a bound has none."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: tuple[int, ...],
        latent_dim: int,
        likelihood: Likelihood | None = None,
        scaler: Scaler | None = None,
        missing: bool = False,
    ):
        super().__init__()
        at_least(1, latent_dim, "latent_dim")
        self.shape, self.latent_dim, self.missing = tuple(shape), latent_dim, missing
        self.likelihood = Bernoulli() if likelihood is None else likelihood
        self.scaler, self._scales = identity() if scaler is None else scaler, scaler is not None
        self.encoder, self.decoder = encoder, decoder
        self.begin()
        rows, images = (math.prod(self.shape),), self.shape
        self._taken = fitting(encoder, [rows, images], self.features * latent_dim, "encoder")
        fitting(decoder, [(latent_dim,)], self.likelihood.width(math.prod(self.shape)), "decoder")

    def begin(self) -> None:
        """Make what a kind of model has besides, of which its constructor is not told: by default nothing."""

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

    def start_at(self, x: Tensor) -> None:
        """Start at some training examples, model inputs (n, M), before training; most models have nothing to start."""

    @abstractmethod
    def codes(self, x: Tensor) -> Codes:
        """Return the codes of model inputs x (B, M)."""

    @property
    def sweeps(self) -> int:
        """Sweeps of `refining.ascend` beyond the encoder in codes, and in eval mode in bounds; only a VSC has any."""
        return self._sweeps

    @sweeps.setter
    def sweeps(self, count: int) -> None:
        """Refuse what is no number of them."""
        at_least(0, count, "sweeps")
        if count and not self.refines:
            raise UsageError("only a VSC refines its codes; leave out --refine (or sweeps)")
        self._sweeps = count

    @property
    def gated(self) -> bool:
        """Whether its latents have gates that are not all held open."""
        return self.spiked and not (self.bounded and self.prior.gates_open)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.parameters(), self.scaler.factor).device

    def from_encoder(self, x: Tensor) -> Tensor:
        """Return what the encoder makes of x (B, M): (B, features * J), never in half precision."""
        return applied(self.encoder, x.unflatten(-1, self._taken))

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return the same in `features` parts, (B, J) each; an encoder that has them so is not made to join them."""
        if isinstance(self.encoder, Refining):
            return [single(part) for part in self.encoder.parts(x.to(self.encoder.read.dtype))]
        return [part.contiguous() for part in self.from_encoder(x).chunk(self.features, -1)]  # strided exp is slow

    def from_decoder(self, z: Tensor) -> Tensor:
        """Return what the decoder makes of codes z (B, J): (B, width), never in half precision."""
        return applied(self.decoder, z)

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, shape (B,), of x (B, M) and z (B, J)."""
        out = self.from_decoder(z)
        return self.likelihood.log_prob(x.to(out.dtype), out, self.missing)

    def given(self, x: Tensor) -> Curved:
        """Return z -> log p(x|z) of x (B, M), as spike estimators take it."""
        return Curved(partial(self.log_px, x), partial(self.curvature, x))

    def curvature(self, x: Tensor) -> Tensor:
        """
        Return -d^2 log p(x|z) / dz_j^2, the same for every z: |d_j|^2 / sigma^2, over what is there of x (B, M).

        Returns
        -------
        torch.Tensor, shape (J,), or (B, J) where values may be missing
            Nats.

        Raises
        ------
        UsageError
            If log p(x|z) is not quadratic in z.
        """
        precision = self.likelihood.precision
        if precision is None or not isinstance(self.decoder, Dictionary):
            raise UsageError(
                "spikes analytic and refined codes need a linear decoder and one variance: choose model.net linear or "
                "lista and model.likelihood gaussian-shared or gaussian-fixed, or do without them"
            )
        if not self.missing:  # directions have unit norm
            return precision.to(x).expand(self.latent_dim)
        return precision.to(x) * ((~x.isnan()).to(x) @ self.decoder.weight.to(x).square().T)

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
        return self.weighted(x, draws)[1]

    def weighted(self, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """Return K hard draws z of q(z|x), (K, B, J), and their `log_weights`, (K, B)."""
        qz = self.posterior(x)
        z = qz.sample((draws,))  # (K, B, J)
        flat = z.flatten(0, 1)
        log_px = self.log_px(x.repeat(draws, 1), flat)
        log_pz = self.prior.log_prob(flat, self.posterior)
        return z, (log_px + log_pz).unflatten(0, (draws, len(x))) - qz.log_prob(z).sum(-1)

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
            data frame are taken by name, in any order. Values may be missing where some were in the training data.

        Returns
        -------
        torch.Tensor or Chunked, shape (N, M)
            The same values; those that stay on disk (`vsc.data.stored.Stored`) still do.

        Raises
        ------
        UsageError
            If the shape does not fit, a column is missing, a value is not finite or not of its column, or the values
            are plainly in other units than those of the training data.
        """
        found = as_examples(x, math.prod(self.shape), self.columns, self.fields, self.missing)
        return self.scaler.checked(found)

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
        parts = list(self.encode_parts(x, batch_size))
        return Codes(*(torch.cat(part) for part in zip(*parts, strict=True)))

    @torch.no_grad()
    def encode_parts(self, x: Any, batch_size: int = 1024) -> Iterator[Codes]:
        """
        Yield what `encode` returns a batch at a time, so that codes of many examples need not fit into memory.

        Parameters
        ----------
        x, batch_size
            As for `encode`; of examples on disk, such as the `x` of a split of many, only a batch is in memory.
        """
        at_least(1, batch_size, "batch_size")
        for part in self.stored(x).split(batch_size):
            yield Codes(*(one.cpu() for one in self.codes(self.scaler(part))))

    def impute(self, x: Any, draws: int = 200, seed: int = 0) -> Any:
        """
        Fill in what is missing, by its expectation given what is there, E[x_missing | x_observed].

        It is taken over K draws of q(z | x_observed), weighted by p(x_observed|z) p(z) / q(z | x_observed): at many
        draws it is the model's own, whatever the encoder has learned. An AE has one code, and no weights.

        Parameters
        ----------
        x : array_like or data frame, shape (N, ...)
            As for `stored`; NaN, or what a data frame calls missing, is filled.
        draws : int
            K.
        seed : int
            Of the draws.

        Returns
        -------
        array or data frame
            The same as given, with nothing missing. Of a column of levels the most probable.

        Raises
        ------
        UsageError
            As `stored`: where the training data had no missing values, the model cannot be told of any.
        """
        at_least(1, draws, "draws")
        stored = self.stored(x)
        if not isinstance(stored, Tensor):
            raise UsageError("examples that stay on disk have no missing values")
        with seeded(seed), torch.no_grad():
            return filled(x, torch.where(stored.isnan(), self._expected(stored, draws), stored), self.fields)

    def _expected(self, stored: Tensor, draws: int) -> Tensor:
        """Return E[x | what is there] of stored examples (N, M), as stored; of rows that lack nothing, themselves."""
        out = stored.clone()
        for rows in stored.isnan().any(1).nonzero().flatten().split(max(1, TOGETHER // draws)):
            z, log_w = self.weighted(self.scaler(stored[rows]), draws)  # (K, B, J), (K, B)
            w = log_w.double().nan_to_num(-1e300, neginf=-1e300).softmax(0)  # the same for all where none is a number
            mean = self.decode(z.flatten(0, 1)).unflatten(0, log_w.shape)
            out[rows] = self.scaler.inverse((w.unsqueeze(-1).to(mean) * mean).sum(0)).to(out)
        return out

    def adopt(
        self,
        scaler: Scaler,
        columns: tuple[str, ...] = (),
        classes: tuple[str, ...] = (),
        binarise: bool = False,
        fields: tuple[Field, ...] = (),
        missing: bool = False,
    ) -> None:
        """
        Take over what is known of the data, before training or where a saved model is read.

        Parameters
        ----------
        scaler : Scaler
            Not taken by a model that was made with one of its own.
        columns, classes, binarise, fields, missing
            As the attributes; `missing` as at construction.
        """
        self.scaler = self.scaler if self._scales else scaler.to(self.device)
        self.columns, self.classes, self.binarise = tuple(columns), tuple(classes), binarise
        self.fields, self.missing = tuple(fields), missing
