"""
What altering single latents does to what a trained model decodes: arrays out, no pictures and no words.

Everywhere `model` is in eval mode and on the CPU; `x` are the model inputs of N examples, (N, M), and `found` their
survey; `unit`, (M,) or a number, is what changes are told in (`Measured.unit`).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vsc.measure.latents import Survey
from vsc.model import Autoencoder

Array = np.ndarray


class Effects(NamedTuple):
    """
    What each of the K used latents does to the output: the one account of a latent that pages, commands and users get.

    A latent alone is altered in the codes of examples that have it on, all else as it is: 64 of them, spread evenly
    over the split, or all. `change` is the mean of E[x|z] less the same with the latent off. A latent that is never
    off, or whose values have both signs, so that such changes would cancel, is raised instead: E[x|z] with it at its
    95 % quantile less E[x|z] with it at its 5 % quantile. Changes are in model units, or where these differ from column
    to column in standard deviations of each (`Measured.unit`): "units" below.

    Attributes
    ----------
    latent : numpy.ndarray, shape (K,), int
        Which latents, as in `Survey.shown`.
    rate : numpy.ndarray, shape (K,)
        Share of the examples that each is on for.
    low, high : numpy.ndarray, shape (K,)
        5 % and 95 % quantile of its value where it is on.
    positive : numpy.ndarray, shape (K,)
        Share of the examples that have it on for which its value is above zero.
    drop : numpy.ndarray, shape (K,)
        Median of log p(x|z) less the same with the latent at `Survey.rest`, in nats, z the hard code.
    effect : numpy.ndarray, shape (K,)
        Mean of the root mean square, over the M outputs, of what that does to E[x|z], in units.
    presence : numpy.ndarray or None, shape (K, M)
        Mean of E[x|z] less the same with the latent off, in units, over those of these examples whose value has the
        more common sign. None for latents without gates.
    raising : numpy.ndarray, shape (K, M)
        Mean of E[x|z] with the latent at `high` less E[x|z] with it at `low`, in units.
    observed : numpy.ndarray, shape (K, M)
        What the data show of `change`, in units: the mean of all examples that have the latent on less that of all
        others; for a latent that is raised, the rise from `low` to `high` of the least-squares line over its values.
        Other latents move along there: where the two differ, they are entangled. NaN where nothing is known.
    """

    latent: Array
    rate: Array
    low: Array
    high: Array
    positive: Array
    drop: Array
    effect: Array
    presence: Array | None
    raising: Array
    observed: Array

    @property
    def turned_on(self) -> Array:
        """Whether `change` is that of turning the latent on and not that of raising it, (K,), bool."""
        return _one_sided(self.positive, self.presence is not None)

    @property
    def change(self) -> Array:
        """What the latent does to the output, (K, M), in units: see above."""
        return self.raising if self.presence is None else np.where(self.turned_on[:, None], self.presence, self.raising)

    def first(self, most: int) -> "Effects":
        """Return the first latents alone."""
        presence = None if self.presence is None else self.presence[:most]
        parts = {name: part[:most] for name, part in self._asdict().items() if name != "presence"}
        return Effects(presence=presence, **parts)


def spread(index: Array, most: int) -> Array:
    """Return at most so many entries of an `index`, spread evenly over it."""
    return index[np.linspace(0, len(index) - 1, min(len(index), most)).round().astype(int)]


def _one_sided(positive: Array, gated: bool) -> Array:
    return ((positive < 0.1) | (positive > 0.9)) & gated


class Strips(NamedTuple):
    """
    One example for each shown latent, decoded with that latent set to V values.

    Attributes
    ----------
    example : numpy.ndarray, shape (K,), int
        The example whose value is nearest to the median of those that have the latent on.
    values : numpy.ndarray, shape (K, V)
        What the latent is set to: from `low` to `high`, with gates after a first 0.
    x : numpy.ndarray, shape (K, V, M)
        E[x|z], in model units.
    """

    example: Array
    values: Array
    x: Array


class Parts(NamedTuple):
    """
    What each of A latents does for one example.

    Attributes
    ----------
    latent : numpy.ndarray, shape (A,), int
        Those that are on, or, without gates, the shown ones; in falling order of `drop`.
    value : numpy.ndarray, shape (A,)
        Their values.
    drop : numpy.ndarray, shape (A,)
        log p(x|z) less the same with this latent alone at `rest`, nats; below 0 if the example is better off without.
    change : numpy.ndarray, shape (A, M)
        E[x|z] less the same with this latent alone at `rest`, in units as `Effects`.
    reconstruction : numpy.ndarray, shape (M,)
        E[x|z] at the hard code, in model units.
    log_px, empty : float
        log p(x|z) at the hard code, and with every latent at `rest`, nats.
    """

    latent: Array
    value: Array
    drop: Array
    change: Array
    reconstruction: Array
    log_px: float
    empty: float


@torch.no_grad()
def effects(model: Autoencoder, x: Tensor, found: Survey, contexts: int = 64, unit: Tensor | float = 1.0) -> Effects:
    """
    Alter each shown latent alone in the codes of examples that have it on, `contexts` of them, spread over the split.

    The means are over these examples; one that cannot be decoded to finite values does not count.
    """
    K, M = len(found.shown), x.shape[1]
    drop, effect, presence, raising = np.zeros(K), np.zeros(K), np.zeros((K, M)), np.zeros((K, M))
    for k, j in enumerate(found.shown):
        where = spread(np.flatnonzero(found.on[:, j]), contexts)
        z = torch.from_numpy(found.value[where]).repeat(4, 1, 1)  # as it is, at rest, low, high  (4, n, J)
        for row, end in zip(z[1:], (found.rest, found.low, found.high), strict=True):
            row[:, j] = float(end[j])
        mean = (model.decode(z.flatten(0, 1)) / unit).unflatten(0, z.shape[:2])
        log_px = model.log_px(x[where].repeat(2, 1), z[:2].flatten(0, 1)).unflatten(0, (2, len(where)))
        sound = mean.isfinite().all(-1).all(0) & log_px.isfinite().all(0)
        if not sound.any():
            continue
        mean, log_px, sign = mean[:, sound], log_px[:, sound], np.sign(found.value[where, j])[sound.numpy()]
        drop[k] = np.median((log_px[0] - log_px[1]).numpy())  # log-densities of single examples can be far out
        effect[k] = (mean[0] - mean[1]).square().mean(-1).sqrt().mean()
        presence[k] = (mean[0] - mean[1])[sign == (1 if sign.sum() >= 0 else -1)].mean(0)
        raising[k] = (mean[3] - mean[2]).mean(0)
    value, shown = found.value[:, found.shown], found.shown
    positive = (value > 0).sum(0) / np.maximum((value != 0).sum(0), 1)
    return Effects(
        latent=shown,
        rate=found.rate[shown],
        low=found.low[shown],
        high=found.high[shown],
        positive=positive,
        drop=drop,
        effect=effect,
        presence=presence if found.gated else None,
        raising=raising,
        observed=_observed((x / unit).numpy(), found, _one_sided(positive, found.gated)),
    )


def _observed(x: Array, found: Survey, turned_on: Array) -> Array:
    """Return `Effects.observed` of model inputs x (N, M), where NaN is a value that is missing."""
    there = np.ones((len(x), 1), x.dtype)
    if np.isnan(x.sum()):
        there, x = np.isfinite(x).astype(x.dtype), np.nan_to_num(x)
    on, value = (part[:, found.shown].T.astype(x.dtype) for part in (found.on, found.value))  # (K, N)
    n, total = on @ there, on @ x
    centred = on * (value - (on * value).sum(1, keepdims=True) / np.maximum(on.sum(1, keepdims=True), 1))
    rest = centred @ there  # zero where nothing is missing
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = total / n - (x.sum(0) - total) / (there.sum(0) - n)
        slope = (centred @ x - rest * total / n) / (centred**2 @ there - rest**2 / n)
    return np.where(turned_on[:, None], difference, slope * (found.high - found.low)[found.shown, None])


@torch.no_grad()
def strips(model: Autoencoder, found: Survey, values: int = 8) -> Strips:
    """
    Set each shown latent alone to so many `values` in the code of one example that is typical for it.

    With gates, the first of them is 0.
    """
    K, M = len(found.shown), math.prod(model.shape)
    example, grid, x = np.zeros(K, int), np.zeros((K, values), np.float32), np.zeros((K, values, M), np.float32)
    for k, j in enumerate(found.shown):
        where = np.flatnonzero(found.on[:, j])
        there = found.value[where, j]
        example[k] = where[np.argmin(np.abs(there - np.median(there)))]
        first = [0.0] if found.gated else []
        grid[k] = [*first, *np.linspace(found.low[j], found.high[j], values - len(first))]
        z = torch.from_numpy(found.value[example[k]]).repeat(values, 1)
        z[:, j] = torch.from_numpy(grid[k])
        x[k] = model.decode(z).numpy()
    return Strips(example, grid, x)


@torch.no_grad()
def contributions(model: Autoencoder, x: Tensor, found: Survey, example: int, unit: Tensor | float = 1.0) -> Parts:
    """
    Leave each latent of one `example` out, alone, and say what it is worth.

    The drops need not add up: latents can stand in for each other.
    """
    own = found.value[example]
    latent = np.flatnonzero(found.on[example]) if found.gated else found.shown
    z = torch.from_numpy(np.repeat(own[None], len(latent) + 2, 0))
    z[torch.arange(len(latent)), latent] = torch.from_numpy(found.rest[latent])
    z[-2] = torch.from_numpy(found.rest)  # the last two rows: all at rest, and the code as it is
    mean = model.decode(z).numpy()
    log_px = model.log_px(x[[example]].expand(len(z), -1), z).double().numpy()
    drop = log_px[-1] - log_px[:-2]
    order = np.argsort(-drop, kind="stable")
    return Parts(
        latent=latent[order],
        value=own[latent][order],
        drop=drop[order],
        change=((mean[-1] - mean[:-2]) / np.asarray(unit))[order],
        reconstruction=mean[-1],
        log_px=float(log_px[-1]),
        empty=float(log_px[-2]),
    )
