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
    Return the accuracy of a vote of the `k` nearest neighbours in the code for several numbers of labels, `counts`.

    Euclidean distance of the codes as they are. Range [0, 1], higher is better; invariant to permuting, rotating and
    shifting the code, not to scaling single latents. With a single class among the labels it is that class's share.
    Labels are drawn at random, the small numbers among the large; one that exceeds L uses all L.
    Cost: 1 s for 5000 labels and 20 000 x 200 codes.
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
    Return the accuracy of a logistic regression on the standardised code for several numbers of labels, `counts`.

    Range [0, 1], higher is better; invariant to permuting, shifting and scaling latents. With a single class among the
    labels it is that class's share. `C` is the inverse strength of the L2 penalty, as in `vsc.measure.scores.probe`;
    labels are drawn as for `knn_probe`. Cost: up to a few seconds for 5000 labels and 200 latents. Source: ICLR fig.
    3, with labels of 100, 1000 and 5000.
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
    Return how much each latent prefers one class: (m_max - m_rest) / (m_max + m_rest), (J,).

    m_max is the largest of a latent's mean activities |z_j| per class, m_rest the mean of those of the other classes.
    Range [0, 1] per latent: 1 is non-zero in one class only. 0 for a latent that is always zero, and with a single
    class. Higher is more selective, which is not by itself better. Invariant to permuting, scaling and flipping
    latents. Cost: one pass. Source: Morcos et al., "On the importance of single directions for
    generalization" (2018), who take a ReLU's activities.
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
