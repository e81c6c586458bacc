"""What the metrics share: arrays checked once, codes cut into bins with exact zero in one of its own, and ranks."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from vsc.errors import UsageError

Array = np.ndarray

BINS = 20
"""Bins of equal width for non-zero values, as the reference implementations of MIG and modularity use."""

LEVELS = 64
"""A true factor of at most so many distinct values is discrete: each value is a bin (dSprites has up to 40)."""


def matrix(a: Any, what: str, rows: int | None = None) -> Array:
    """
    Check an array of one row per example.

    Parameters
    ----------
    a : array_like, shape (N, K)
        Numbers.
    what : str
        What they are, for the message.
    rows : int, optional
        The N that it must have.

    Returns
    -------
    numpy.ndarray, shape (N, K), float64
        The same numbers.

    Raises
    ------
    UsageError
        If it has not two dimensions, has no row or no column, not `rows` rows, or a value that is not finite.
    """
    a = np.asarray(a)
    if a.dtype.kind not in "fiub":
        raise UsageError(f"{what}: expected an array of numbers, but got one of type {a.dtype}")
    a = a.astype(np.float64, copy=False)
    if a.ndim != 2 or 0 in a.shape:
        raise UsageError(f"{what}: expected an array (examples, columns) with at least one of each, got {a.shape}")
    if rows is not None and len(a) != rows:
        raise UsageError(f"{what}: {len(a)} rows, but there are codes of {rows} examples")
    if not np.isfinite(a).all():
        raise UsageError(f"{what}: there are NaN or infinite values")
    return a


def probabilities(gamma: Any, what: str = "gamma") -> Array:
    """Check spike probabilities, (N, J): as `matrix`, and each in [0, 1]."""
    gamma = matrix(gamma, what)
    if gamma.min() < 0 or gamma.max() > 1:
        raise UsageError(f"{what}: probabilities must lie in [0, 1], not in [{gamma.min():g}, {gamma.max():g}]")
    return gamma


def classes(labels: Any, rows: int, what: str = "labels") -> tuple[Array, Array]:
    """Check class `labels`, `what` in messages, one for each of `rows`: the classes, (C,), and each one's, (N,)."""
    labels = np.asarray(labels)
    if labels.shape != (rows,):
        raise UsageError(f"{what}: expected one per example, shape ({rows},), but got {labels.shape}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise UsageError(f"{what}: there are NaN or infinite values")
    found, index = np.unique(labels, return_inverse=True)
    return found, index


def group_index(groups: Any, columns: int) -> tuple[Array, tuple[str, ...]]:
    """Read `groups`, the attribute of each of so many `columns`: its number for each, and all attributes' names."""
    given = np.asarray(groups)
    if given.shape != (columns,):
        raise UsageError(f"groups: expected the attribute of each of the {columns} factors, but got {given.shape}")
    if given.dtype.kind in "iu":
        if given.min() < 0:
            raise UsageError("groups: an attribute's number must not be negative")
        return given.astype(int), tuple(str(i) for i in range(int(given.max()) + 1))
    order: dict[Hashable, int] = {}
    index = np.array([order.setdefault(name, len(order)) for name in given.tolist()])
    return index, tuple(str(name) for name in order)


def discretise(values: Any, bins: int = BINS, distinct: int | None = None) -> Array:
    """
    Cut each column of `values`, (N, K), into bins, int64: 0 for exact zero, 1 and up for the rest.

    A column's non-zero values get `bins` bins of equal width from its smallest to its largest, so that scaling a
    column moves no value to another bin. A column of no more than `distinct` non-zero values, by default `bins`, keeps
    each as a bin.
    """
    if bins < 1:
        raise UsageError(f"bins must be at least 1, not {bins}")
    values = matrix(values, "values")
    keep = bins if distinct is None else distinct
    out = np.zeros(values.shape, dtype=np.int64)
    for j, column in enumerate(values.T):
        on = column != 0
        nonzero = column[on]
        levels = np.unique(nonzero)
        if len(levels) <= keep:
            out[on, j] = 1 + np.searchsorted(levels, nonzero)
        else:
            low, high = levels[0], levels[-1]
            # halves first: the width of a column from -1e308 to 1e308 is no float
            position = (nonzero / 2 - low / 2) / (high / 2 - low / 2)
            out[on, j] = 1 + np.minimum((position * bins).astype(np.int64), bins - 1)
    return out


def standardised(a: Array) -> Array:
    """Return columns of mean 0 and sum of squares 1; a constant column becomes exact zeros."""
    # constant columns are told by their range: their rounded mean would leave noise of length 1
    span = np.abs(a).max(0)
    a = a / np.where(span > 0, span, 1)
    moving = a.max(0) > a.min(0)
    centred = np.where(moving, a - a.mean(0), 0)
    length = np.sqrt(np.square(centred).sum(0))
    return centred / np.where(length > 0, length, 1)


def auroc(scores: Array, positive: Array) -> Array:
    """Return the area under the ROC curve of scores (N, K) for classes (N, G), (G, K); ties count half."""
    from scipy.stats import rankdata

    P = positive.sum(0, dtype=float)[:, None]  # (G, 1)
    pairs = P * (len(positive) - P)
    wins = positive.T.astype(float) @ rankdata(scores, axis=0) - P * (P + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), 0.5)
