"""Which latents come back when a model is trained again: two runs' latents, matched one to one."""

from typing import Any, NamedTuple

import numpy as np

from vsc.errors import UsageError
from vsc.metrics.arrays import Array, matrix, standardised


class Match(NamedTuple):
    """
    The latents of a second run that those of a first, K of them, are matched with.

    Attributes
    ----------
    other : numpy.ndarray, shape (K,), int
        Which one of the second run's; -1 where none is like it.
    similarity : numpy.ndarray, shape (K,)
        How alike they are; 0 where there is none.
    """

    other: Array
    similarity: Array


def matched(similarity: Any) -> Match:
    """
    Match the rows of a `similarity`, (K, L) in [0, 1], with its columns, one to one, so that the sum is largest.

    Where K > L, K - L rows are without a match, and their similarity counts 0. Cost: one linear assignment.
    """
    from scipy.optimize import linear_sum_assignment

    similarity = _table(similarity, "similarity")
    if similarity.size and not 0 <= similarity.min() <= similarity.max() <= 1:
        raise UsageError("similarity: must lie in [0, 1]")
    other, value = np.full(len(similarity), -1), np.zeros(len(similarity))
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    alike = similarity[rows, columns] > 0
    rows, columns = rows[alike], columns[alike]
    other[rows], value[rows] = columns, similarity[rows, columns]
    return Match(other, value)


def stability(similarity: Any) -> float:
    """
    Return how far the latents of two runs are the same: 2 / (K + L) times the sum of `matched`.

    `similarity` is (K, L), of the K latents of one run and the L of the other. Range [0, 1], higher is better: the mean
    over the latents of both, of which one without a match counts 0; 0 where neither run has any. With cosines it is the
    pairwise mean correlation coefficient of Song et al., "Position: Mechanistic Interpretability Should Prioritize
    Feature Consistency in SAEs" (2025), for latents without a decoder column of their own.
    """
    similarity = _table(similarity, "similarity")
    return float(2 * matched(similarity).similarity.sum() / max(sum(similarity.shape), 1))


def cosines(effects_a: Any, effects_b: Any, directed_a: Any = True, directed_b: Any = True) -> Array:
    """
    Return the cosine of each effect of one run with each of another, (K, L), in [0, 1].

    Parameters
    ----------
    effects_a, effects_b : array_like, shapes (K, M) and (L, M)
        What each latent does to the M outputs.
    directed_a, directed_b : array_like, shapes (K,) and (L,), bool
        Whether an effect's sign means something, as when a latent is turned on. Raising a latent does not: it could as
        well be lowered. Where one of two has no direction, the cosine's size counts; else, opposite effects are as
        unlike as unrelated ones: 0.

    Returns
    -------
    numpy.ndarray, shape (K, L)
        0 for an effect of zeros. Unrelated directed effects, random in M independent outputs, have 1 / sqrt(2 pi M) in
        the mean, and undirected ones twice that.
    """
    a, b = _table(effects_a, "effects"), _table(effects_b, "effects")
    if a.shape[1] != b.shape[1]:
        raise UsageError(f"effects: of {a.shape[1]} outputs in one run, and of {b.shape[1]} in the other")
    found = _unit(a) @ _unit(b).T
    one, two = np.broadcast_to(directed_a, len(a)), np.broadcast_to(directed_b, len(b))
    return np.clip(np.where(one[:, None] & two, found, np.abs(found)), 0, 1)


def matched_cosine(effects_a: Any, effects_b: Any, directed_a: Any = True, directed_b: Any = True) -> Array:
    """
    Return how like each effect of one run is to its match in another: `matched` of `cosines`, which says what it takes.

    Parameters
    ----------
    effects_a, effects_b, directed_a, directed_b
        As for `cosines`, of K and L latents.

    Returns
    -------
    numpy.ndarray, shape (K,)
        In [0, 1]; 0 for a latent without a match. Permuting the latents of b changes nothing.
    """
    return matched(cosines(effects_a, effects_b, directed_a, directed_b)).similarity


def code_correlations(codes_a: Any, codes_b: Any) -> Array:
    """Return |corr| of each code of one run with each of another over the same N examples: (N, K), (N, L) to (K, L)."""
    a, b = (_table(codes, "codes") for codes in (codes_a, codes_b))
    if len(a) != len(b):
        raise UsageError(f"codes: of {len(a)} examples in one run, and of {len(b)} in the other")
    if not a.size or not b.size:
        return np.zeros((a.shape[1], b.shape[1]))
    return np.minimum(np.abs(standardised(a).T @ standardised(b)), 1)


def _table(a: Any, what: str) -> Array:
    """Check as `matrix` does, but for arrays without rows or columns, which are of runs that use no latent."""
    a = np.asarray(a)
    return a.astype(float) if a.ndim == 2 and not a.size else matrix(a, what)


def _unit(a: Array) -> Array:
    span = np.abs(a).max(1, initial=0)[:, None]  # squares of tiny or huge values would be 0 or infinite
    a = a / np.where(span > 0, span, 1)
    return a / np.where(span > 0, np.linalg.norm(a, axis=1, keepdims=True), 1)
