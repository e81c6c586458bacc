"""Attributes that are present or absent: whether spikes tell their presence, and codes their factors when present."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vsc.errors import UsageError
from vsc.metrics.arrays import Array, auroc, group_index, matrix
from vsc.metrics.correlation import mcc
from vsc.metrics.disentanglement import mig


class Grouped(NamedTuple):
    """
    Presence told once per attribute.

    Attributes
    ----------
    presence : numpy.ndarray, shape (N, G), bool
        Whether each attribute is present.
    groups : numpy.ndarray, shape (F,), int
        The attribute, a column of `presence`, of each factor.
    names : tuple of str, length G
        What the attributes are called.
    """

    presence: Array
    groups: Array
    names: tuple[str, ...]


def attributes(presence: Any, groups: Any = None) -> Grouped:
    """
    Join the columns of a presence told once per factor, (N, F), as data sets hold it, to one per attribute.

    Attributes are in the order of their first factors, or of their numbers; without `groups`, factors with equal
    columns share one. UsageError if two factors of one attribute are not present together.
    """
    S = flags(presence)
    if groups is None:
        groups = [column.tobytes() for column in S.T]
        index, _ = group_index(groups, S.shape[1])
        names = tuple(str(g) for g in range(index.max() + 1))
    else:
        index, names = group_index(groups, S.shape[1])
    first = [np.flatnonzero(index == g)[:1] for g in range(len(names))]
    if not all(len(one) for one in first):
        raise UsageError("groups: an attribute's number is missing; they must be 0, 1, 2 and so on")
    joined = S[:, np.concatenate(first)]
    if not np.array_equal(joined[:, index], S):
        raise UsageError("presence: factors of one attribute must be present together")
    return Grouped(joined, index, names)


def presence_auroc(gamma: Any, presence: Any) -> Array:
    """
    Return how well the best latent's spike probability tells that an attribute is present: max_j AUROC, (G,).

    Range [0, 1], higher is better; chance is 0.5 (with J latents that know nothing, a little more). A latent that is
    *off* where the attribute is present does not count. 0.5 where gamma is constant, or an attribute is always or
    never present. Invariant to permuting latents and to monotone changes of gamma. Cost: one sort of each latent.
    Any other score, such as |z|, is taken too. Source: ours; AUROC as scikit-learn's `roc_auc_score`.
    """
    return detectors(matrix(gamma, "gamma"), presence).auroc


class Detectors(NamedTuple):
    """
    The latent that tells best that something is there, for each of G attributes or classes.

    Attributes
    ----------
    latent : numpy.ndarray, shape (G,), int
        Which latent; the first of several that are equally good.
    auroc : numpy.ndarray, shape (G,)
        Chance that an example with the attribute scores higher than one without; ties count half.
    hits, alarms : numpy.ndarray or None, shape (G,)
        Share of the examples with the attribute, and of those without, for which the latent is on (recall, false
        alarms); NaN where there are none. None for scores without a threshold.
    precision : numpy.ndarray or None, shape (G,)
        Share of the examples for which it is on that have the attribute; NaN where it is never on.
    """

    latent: Array
    auroc: Array
    hits: Array | None = None
    alarms: Array | None = None
    precision: Array | None = None


def detectors(score: Any, presence: Any, on: Any = None) -> Detectors:
    """
    Find the latent whose `score` (N, J), such as gamma, tells best which rows of `presence` (N, G) are true.

    `on` (N, J) says where it counts as on: by default there is no threshold. AUROC as in `presence_auroc`, whose
    invariances, cost and chance it has; chance is 0.5, and precision is then the attribute's share. Source: ours.
    """
    score = matrix(score, "scores")
    present = flags(presence, len(score))
    areas = auroc(score, present)
    best = areas.argmax(1)
    found = Detectors(best, areas.max(1))
    if on is None:
        return found
    told = flags(on, len(score))[:, best]
    both, P, T = (told & present).sum(0), present.sum(0), told.sum(0)
    hits, alarms, precision = (
        np.where(total > 0, part / np.maximum(total, 1), np.nan)
        for part, total in ((both, P), (T - both, len(score) - P), (both, T))
    )
    return found._replace(hits=hits, alarms=alarms, precision=precision)


def within_mcc(z: Any, factors: Any, presence: Any, groups: Any, kind: str = "pearson") -> float:
    """
    Return MCC among the examples where an attribute is present, over attributes weighted by their factors.

    sum_g F_g mcc(z[S_g], v_g[S_g]) / sum_g F_g, each attribute with a linear assignment of its own. A code that knows
    only presence is constant there and scores 0 (up to the latents of other attributes, which are noise here: about
    sqrt(2 ln J / N)). Range [0, 1], higher is better; invariant to permuting, scaling and flipping latents.
    Attributes present in fewer than two examples are left out; 0.0 if all are. Cost: G matrix products. Source: ours.
    """
    return _within(lambda code, factor: mcc(code, factor, kind), z, factors, presence, groups)


def within_mig(z: Any, factors: Any, presence: Any, groups: Any) -> float:
    """
    Return MIG among the examples where an attribute is present, over attributes weighted by their factors.

    sum_g F_g mig(z[S_g], v_g[S_g]) / sum_g F_g. A code that knows only presence scores 0. Range [0, 1], higher is
    better; invariant to permuting and scaling latents. Attributes present in fewer than two examples are left out; 0.0
    if all are. Cost: as one `mig`. Source: ours.
    """
    return _within(mig, z, factors, presence, groups)


def _within(score: Callable[[Array, Array], float], z: Any, factors: Any, presence: Any, groups: Any) -> float:
    z = matrix(z, "codes")
    factors = matrix(factors, "factors", len(z))
    S = flags(presence, len(z))
    index = columns_of(groups, factors.shape[1], S.shape[1])
    total = weight = 0
    for g in range(S.shape[1]):
        rows, mine = S[:, g], index == g
        if rows.sum() > 1 and mine.any():
            total += mine.sum() * score(z[rows], factors[rows][:, mine])
            weight += mine.sum()
    return float(total / weight) if weight else 0.0


def columns_of(groups: Any, F: int, G: int) -> Array:
    """Return the column of presence, of `G`, that each of `F` factors belongs to by `groups`, (F,), int."""
    index, names = group_index(groups, F)
    if len(names) != G:
        raise UsageError(f"groups name {len(names)} attributes, but presence has {G} columns")
    return index


def flags(presence: Any, rows: int | None = None) -> Array:
    """Check presence, (N, G): as `matrix`, and each value 0 or 1; return it as bool."""
    S = matrix(presence, "presence", rows)
    if not np.isin(S, (0, 1)).all():
        raise UsageError("presence: every value must be 0 or 1")
    return S.astype(bool)
