"""The FactorVAE score, from a fixed set of codes and factors instead of a generator."""

from typing import Any

import numpy as np

from vsc.errors import UsageError
from vsc.metrics.arrays import BINS, LEVELS, Array, discretise, matrix

BATCH = 64
"""Examples per vote, as in the paper's implementation."""


def factor_vae(
    z: Any, factors: Any, present: Any = None, votes: int = 10_000, bins: int = BINS, seed: int = 0
) -> float:
    """
    Return the FactorVAE score: how surely the latent that stands still tells which factor was held fixed.

    A vote: pick a factor, an example at random, and 64 examples (with replacement) that share its bin of that factor;
    the latent of least variance, relative to its variance over all data, votes for the factor. Each latent is
    then assigned its most frequent factor on two thirds of the votes; the score is the accuracy on the last third.
    Range [0, 1], higher is better, chance 1/F; invariant to permuting, scaling and flipping latents. Source: Kim and
    Mnih, "Disentangling by Factorising" (2018).

    What differs from the generator-based score: a continuous factor is fixed up to a bin (1/20 of its range), not
    exactly, so that its latent keeps a little variance; the other factors vary as the data have them, not
    independently; and a bin's examples recur. Two more, for exact zeros: with `present`, (N, F), of `votes` in all
    those on a factor are cast among examples where it has an effect; and latents that are constant, or zero so often
    that all 64 may be zero by chance (more than one time in 100: non-zero on less than 7 %), do not vote. Factors that
    never change cannot be told from one another. 0 where no latent may vote, or no two examples share a bin. Cost: 2 s
    at 200 latents.
    """
    z = matrix(z, "codes")
    factors = matrix(factors, "factors", len(z))
    shown = np.ones(factors.shape, bool) if present is None else matrix(present, "present", len(z)).astype(bool)
    if shown.shape != factors.shape:
        raise UsageError(f"present: expected the shape of the factors, {factors.shape}, but got {shown.shape}")
    if votes < 3:
        raise UsageError(f"votes must be at least 3, not {votes}")
    often = (z != 0).mean(0) >= 1 - 0.01 ** (1 / BATCH)
    voters = np.flatnonzero(often & (z.max(0) > z.min(0)))
    rng = np.random.default_rng(seed)
    pools = [_pool(column, rows) for column, rows in zip(discretise(factors, bins, LEVELS).T, shown.T, strict=True)]
    able = [f for f, (order, _, _) in enumerate(pools) if len(order)]
    if not len(voters) or not able:
        return 0.0
    z = z[:, voters] / z[:, voters].std(0)
    fixed = rng.choice(able, votes)
    winner = np.empty(votes, dtype=np.int64)
    for vote, f in enumerate(fixed):
        order, start, count = pools[f]
        anchor = rng.integers(len(order))
        batch = order[start[anchor] + rng.integers(count[anchor], size=BATCH)]
        winner[vote] = z[batch].var(0).argmin()
    table = np.zeros((len(voters), factors.shape[1]), dtype=np.int64)
    learn = 2 * votes // 3
    np.add.at(table, (winner[:learn], fixed[:learn]), 1)
    return float((table.argmax(1)[winner[learn:]] == fixed[learn:]).mean())


def _pool(column: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Sort the examples that may be anchors by bin; return them, and the start and size of the bin of each."""
    index = np.flatnonzero(rows)
    _, own, size = np.unique(column[index], return_inverse=True, return_counts=True)
    index, own = index[size[own] > 1], own[size[own] > 1]  # alone in its bin, an example says nothing of variance
    order = np.argsort(own, kind="stable")
    own = own[order]
    return index[order], np.searchsorted(own, own), size[own]
