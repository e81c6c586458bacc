"""What simple classifiers read from a code, and what single latents say of classes."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vsc.errors import UsageError
from vsc.metrics.arrays import Array, classes, matrix

LABELS = (100, 1000, 5000)
"""Labelled examples that the probes learn from."""


def knn_probe(
    train_z: Any, train_labels: Any, z: Any, labels: Any, counts: Sequence[int] = LABELS, k: int = 5, seed: int = 0
) -> dict[int, float]:
    """
    Return the accuracy of a k-nearest-neighbour vote in the code, for several numbers of labels.

    Euclidean distance of the codes as they are. Range [0, 1], higher is better; invariant to permuting, rotating and
    shifting the code, not to scaling single latents. With a single class among the labels it is that class's share.
    Cost: 1 s for 5000 labels and 20 000 x 200 codes.

    Parameters
    ----------
    train_z : array_like, shape (L, J)
        Codes to learn from.
    train_labels : array_like, shape (L,)
        Their classes.
    z : array_like, shape (N, J)
        Codes to classify.
    labels : array_like, shape (N,)
        Their classes.
    counts : sequence of int
        Numbers of labels, drawn at random, the small ones among the large; one that exceeds L uses all L.
    k : int
        Neighbours that vote; fewer if there are not so many.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict of int to float
        Number of labels as asked for -> accuracy.

    Raises
    ------
    UsageError
        If an array is not finite, the shapes do not fit, or k or a count is below 1.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    return _probe(
        lambda n: KNeighborsClassifier(min(k, n), algorithm="brute"), train_z, train_labels, z, labels, counts, seed
    )


def linear_probe(
    train_z: Any, train_labels: Any, z: Any, labels: Any, counts: Sequence[int] = LABELS, C: float = 0.1, seed: int = 0
) -> dict[int, float]:
    """
    Return the accuracy of a logistic regression on the standardised code, for several numbers of labels.

    Range [0, 1], higher is better; invariant to permuting, shifting and scaling latents. With a single class among the
    labels it is that class's share. Cost: up to a few seconds for 5000 labels and 200 latents. Source: ICLR
    fig. 3, with labels of 100, 1000 and 5000.

    Parameters
    ----------
    train_z : array_like, shape (L, J)
        Codes to learn from.
    train_labels : array_like, shape (L,)
        Their classes.
    z : array_like, shape (N, J)
        Codes to classify.
    labels : array_like, shape (N,)
        Their classes.
    counts : sequence of int
        Numbers of labels, drawn at random, the small ones among the large; one that exceeds L uses all L.
    C : float
        Inverse strength of the L2 penalty; 0.1 as in `vsc.measure.scores.probe`.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict of int to float
        Number of labels as asked for -> accuracy.

    Raises
    ------
    UsageError
        If an array is not finite, the shapes do not fit, C is not positive or a count is below 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not C > 0:
        raise UsageError(f"C must be positive, not {C}")
    return _probe(
        lambda n: make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000)),
        *(train_z, train_labels, z, labels, counts, seed),
    )


def _probe(
    make: Callable[[int], Any],
    train_z: Any,
    train_labels: Any,
    z: Any,
    labels: Any,
    counts: Sequence[int],
    seed: int,
) -> dict[int, float]:
    """Fit the classifier that `make` returns for n labels at each count, and return its accuracies."""
    from sklearn.exceptions import ConvergenceWarning

    train_z, z = matrix(train_z, "training codes"), matrix(z, "codes")
    if train_z.shape[1] != z.shape[1]:
        raise UsageError(f"training codes have {train_z.shape[1]} latents and the others {z.shape[1]}")
    known, y = classes(train_labels, len(train_z), "training labels")
    found, index = classes(labels, len(z))
    if min(counts, default=1) < 1:
        raise UsageError(f"a probe needs at least 1 label, not {min(counts)}")
    order, truth = np.random.default_rng(seed).permutation(len(train_z)), found[index]
    scores = {}
    for count in counts:
        rows = order[:count]
        if len(np.unique(y[rows])) == 1:
            predicted = np.zeros(len(z), int) + y[rows[0]]
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # close enough for a probe
                predicted = make(len(rows)).fit(train_z[rows], y[rows]).predict(z)
        scores[int(count)] = float((known[predicted] == truth).mean())
    return scores


def class_selectivity(z: Any, labels: Any) -> Array:
    """
    Return how much each latent prefers one class: (m_max - m_rest) / (m_max + m_rest).

    m_max is the largest of a latent's mean activities |z_j| per class, m_rest the mean of those of the other classes.
    Range [0, 1] per latent: 1 is non-zero in one class only. 0 for a latent that is always zero, and with a single
    class. Higher is more selective, which is not by itself better. Invariant to permuting, scaling and flipping
    latents. Cost: one pass. Source: Morcos et al., "On the importance of single directions for
    generalization" (2018), who take a ReLU's activities.

    Parameters
    ----------
    z : array_like, shape (N, J)
        Codes.
    labels : array_like, shape (N,)
        Classes.

    Returns
    -------
    numpy.ndarray, shape (J,)
        Selectivity.

    Raises
    ------
    UsageError
        If z is not a finite matrix, or there is not one label per code.
    """
    z = matrix(z, "codes")
    found, index = classes(labels, len(z))
    C = len(found)
    if C == 1:
        return np.zeros(z.shape[1])
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(C))
    activity = np.add.reduceat(np.abs(z)[order], starts) / np.bincount(index)[:, None]  # (C, J)
    best = activity.max(0)
    rest = np.maximum(activity.sum(0) - best, 0) / (C - 1)
    total = best + rest
    return np.maximum((best - rest) / np.where(total > 0, total, 1), 0)
