"""When each latent of a trained model is on, for what, and with which others: arrays out, no pictures and no words."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vsc.metrics.sparsity import USED
from vsc.model import Autoencoder, Codes

Array = np.ndarray


class Survey(NamedTuple):
    """
    All J latents over the N examples of a split.

    Attributes
    ----------
    gated : bool
        Whether latents can be off. Where they cannot, all count as on.
    on : numpy.ndarray, shape (N, J), bool
        Where gamma > 1/2.
    value : numpy.ndarray, shape (N, J)
        Hard codes: exactly zero where a latent is off.
    rate : numpy.ndarray, shape (J,)
        Share of the examples that a latent is on for.
    size : numpy.ndarray, shape (J,)
        Mean absolute value where it is on; 0 of one that never is.
    variance : numpy.ndarray, shape (J,)
        Variance of the mean code gamma mu over the examples.
    low, high : numpy.ndarray, shape (J,)
        5 % and 95 % quantile of the value where it is on; 0 of one that never is.
    rest : numpy.ndarray, shape (J,)
        The value that says nothing of an example: 0 for latents with gates, else the mean of the code.
    kl : numpy.ndarray or None, shape (J,)
        Nats per example that a latent costs on average; their sum is KL slab + KL spike. None without a prior.
    shown : numpy.ndarray, shape (K,), int
        The used latents. With gates: on for more than 1 % of the examples, in falling order of `rate`. Without: of
        variance above 0.01 (Burda et al. 2016), in falling order of it; without a prior, above 0.01 of the largest.
    """

    gated: bool
    on: Array
    value: Array
    rate: Array
    size: Array
    variance: Array
    low: Array
    high: Array
    rest: Array
    kl: Array | None
    shown: Array


class Extremes(NamedTuple):
    """
    The examples with the most extreme values of each shown latent; -1 where there are no more.

    Attributes
    ----------
    highest : numpy.ndarray, shape (K, T), int
        Those that are on and above `rest`, the largest value first.
    lowest : numpy.ndarray, shape (K, T), int
        Those that are on and below `rest`, the smallest value first.
    """

    highest: Array
    lowest: Array


class Together(NamedTuple):
    """
    Which shown latents go together.

    Attributes
    ----------
    given : numpy.ndarray or None, shape (K, K)
        P(column is on | row is on); None for latents without gates.
    correlation : numpy.ndarray, shape (K, K)
        Of being on, with gates; else of the values. 0 where one of the two never changes.
    """

    given: Array | None
    correlation: Array


@torch.no_grad()
def survey(model: Autoencoder, x: Tensor, codes: Codes, batch_size: int = 1000) -> Survey:
    """
    Measure all latents over the model inputs `x` (N, M) of a split and their `codes`.

    The `model` is in eval mode and on the CPU; `batch_size` bounds the memory.
    """
    prior = getattr(model, "prior", None)
    gated = model.gated
    on, value, z = codes.active.numpy(), codes.hard.numpy(), codes.z.numpy()
    rate, variance = on.mean(0), z.var(0, dtype=np.float64)
    ends = [
        np.quantile(v[where], (0.05, 0.95)) if where.any() else (0, 0) for v, where in zip(value.T, on.T, strict=True)
    ]
    low, high = np.array(ends, np.float32).T
    kl = None
    if prior is not None:
        parts = [prior.latent_kl(model.posterior(chunk), chunk, model.posterior) for chunk in x.split(batch_size)]
        kl = None if parts[0] is None else torch.cat(parts).double().mean(0).numpy()
    weight, least = (rate, USED) if gated else (variance, USED * (1.0 if prior is not None else variance.max()))
    order = np.argsort(-weight, kind="stable")
    return Survey(
        gated=gated,
        on=on,
        value=value,
        rate=rate,
        size=np.abs(value).sum(0, dtype=np.float64) / np.maximum(on.sum(0), 1),
        variance=variance,
        low=low,
        high=high,
        rest=np.zeros_like(low) if gated else value.mean(0),
        kl=kl,
        shown=order[weight[order] > least],
    )


def by_class(found: Survey, y: Array, classes: int) -> Array:
    """
    Say for which of C `classes` the latents that `found` shows are on, (C, K), by each example's class `y`, (N,) int.

    That is P(on | class); for latents without gates, the mean value in the class less that over all,
    in standard deviations. NaN for a class without examples.
    """
    k = found.shown
    table = found.on[:, k].astype(np.float64)
    if not found.gated:
        table = (found.value[:, k] - found.value[:, k].mean(0)) / found.value[:, k].std(0)
    count = np.bincount(y, minlength=classes)
    sums = np.stack([table[y == c].sum(0) for c in range(classes)])
    return np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], np.nan)


def extremes(found: Survey, most: int = 8) -> Extremes:
    """Find the `most` examples that each latent that `found` shows is largest and smallest for, equal ones in order."""

    def ends(sign: int) -> Array:
        out = np.full((len(found.shown), most), -1)
        for row, j in zip(out, found.shown, strict=True):
            beyond = sign * (found.value[:, j] - found.rest[j])
            order = np.argsort(-beyond, kind="stable")[:most]
            order = order[(beyond[order] > 0) & found.on[order, j]]
            row[: len(order)] = order
        return out

    return Extremes(ends(1), ends(-1))


def together(found: Survey) -> Together:
    """Return which shown latents are on together, or, without gates, vary together."""
    part = (found.on if found.gated else found.value)[:, found.shown].astype(np.float64)
    centred = part - part.mean(0)
    covariance, sd = centred.T @ centred / len(part), part.std(0)
    scale = np.outer(sd, sd)
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 1e-12)
    given = part.T @ part / np.maximum(part.sum(0), 1)[:, None] if found.gated else None
    return Together(given, correlation)
