"""
MIG, SAP, modularity and DCI once more, word by word from their papers, in loops over dictionaries of counts.

On codes without exact zeros, which have a bin of their own here, these formulas are also those of disentanglement_lib.
"""

import math
from collections import Counter
from statistics import correlation, mean

import numpy as np
import pytest

from vsc.metrics import dci, mig, modularity, sap
from vsc.metrics import disentanglement as module

CASES = range(12)


def draw(seed):
    """Draw whole numbers from 1: codes that follow some factors part of the time, latents that are noise, a copy."""
    rng = np.random.default_rng(seed)
    N, J, F = rng.integers(40, 150), rng.integers(2, 7), rng.integers(2, 5)
    v = rng.integers(1, rng.integers(3, 8), (N, F))
    z = rng.integers(1, 7, (N, J))
    k = min(J, F)
    z[:, :k] = np.where(rng.random((N, k)) < 0.6, v[:, :k], z[:, :k])
    if seed % 3 == 0:
        z[:, -1] = 2  # a latent that never changes
    if seed % 4 == 0:
        v[:, -1] = 3  # a factor that never changes
    return z.tolist(), v.tolist()


def column(rows, i):
    return [row[i] for row in rows]


def entropy(values):
    return -sum(n / len(values) * math.log(n / len(values)) for n in Counter(values).values())


def information(a, b):
    """Sum of p(a, b) ln p(a, b) / (p(a) p(b)) over the pairs that occur."""
    N, of_a, of_b = len(a), Counter(a), Counter(b)
    pairs = Counter(zip(a, b, strict=True))
    return sum(n / N * math.log(n * N / (of_a[one] * of_b[other])) for (one, other), n in pairs.items())


def naive_mig(z, v):
    """Chen et al. (2018), eq. 6."""
    gaps = []
    for f in range(len(v[0])):
        first, second = sorted((information(column(z, j), column(v, f)) for j in range(len(z[0]))), reverse=True)[:2]
        H = entropy(column(v, f))
        gaps.append((first - second) / H if H > 0 else 0)
    return mean(gaps)


def naive_sap(z, v):
    """Kumar et al. (2018), section 3: the R^2 of a linear regression of one factor on one latent."""
    gaps = []
    for f in range(len(v[0])):
        fits = []
        for j in range(len(z[0])):
            a, b = column(z, j), column(v, f)
            fits.append(correlation(a, b) ** 2 if len(set(a)) > 1 and len(set(b)) > 1 else 0)
        first, second = sorted(fits, reverse=True)[:2]
        gaps.append(first - second)
    return mean(gaps)


def naive_modularity(z, v):
    """Ridgeway and Mozer (2018), section 3: the deviation from a template with one factor only."""
    scores = []
    for j in range(len(z[0])):
        m = [information(column(z, j), column(v, f)) for f in range(len(v[0]))]
        theta = max(m)
        template = [theta if f == m.index(theta) else 0 for f in range(len(m))]
        if theta < 1e-12:
            scores.append(0)
            continue
        deviation = sum((one - other) ** 2 for one, other in zip(m, template, strict=True))
        scores.append(1 - deviation / (theta**2 * (len(m) - 1)))
    return mean(scores)


def naive_dci(R):
    """Eastwood and Williams (2018), section 2, from the importance R[f][j] of latent j for factor f."""
    F, J = len(R), len(R[0])

    def concentration(weights):
        total = sum(weights)
        return 1 + sum(w / total * math.log(w / total, len(weights)) for w in weights if w > 0) if total else 0

    total = sum(map(sum, R))
    D = sum(sum(R[f][j] for f in range(F)) / total * concentration([R[f][j] for f in range(F)]) for j in range(J))
    return D, mean(concentration(R[f]) for f in range(F))


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize(("metric", "naive"), [(mig, naive_mig), (sap, naive_sap), (modularity, naive_modularity)])
def test_they_are_those_of_the_papers(metric, naive, seed):
    z, v = draw(seed)
    assert metric(z, v) == pytest.approx(naive(z, v), abs=1e-12)


@pytest.mark.parametrize("seed", CASES)
def test_dci_puts_importances_together_as_the_paper_does(monkeypatch, seed):
    """The forests are scikit-learn's; what is made of their importances is ours."""
    import sklearn.ensemble

    seen = []

    class Forest(sklearn.ensemble.RandomForestRegressor):
        def fit(self, X, y):
            super().fit(X, y)
            seen.append((X.shape[1], self.feature_importances_.tolist()))
            return self

    monkeypatch.setattr(sklearn.ensemble, "RandomForestRegressor", Forest)
    z, v = draw(seed)
    found = dci(z, v)
    moving, changing = ([i for i in range(len(a[0])) if len(set(column(a, i))) > 1] for a in (z, v))
    R = [[0.0] * len(z[0]) for _ in v[0]]
    for f, (width, importances) in zip(changing, seen, strict=True):
        assert width == len(moving)
        for j, importance in zip(moving, importances, strict=True):
            R[f][j] = importance
    assert found[:2] == pytest.approx(naive_dci(R), abs=1e-12)


def test_concentration_of_one_and_of_all():
    assert module._concentration(np.array([[0, 1.0, 0], [1, 1, 1], [0, 0, 0]])) == pytest.approx([1, 0, 0])


def test_the_references_by_hand():
    """The naive versions themselves, on codes whose scores are known."""
    v = [[1, 1], [1, 2], [2, 1], [2, 2]] * 5
    both = [[a, b, a] for a, b in v]  # the first factor has two latents, the second one
    assert naive_mig(v, v) == naive_sap(v, v) == naive_modularity(v, v) == pytest.approx(1)
    assert naive_mig(both, v) == naive_sap(both, v) == pytest.approx(0.5)
    assert naive_dci([[0.5, 0, 0.5], [0, 1, 0]]) == pytest.approx((1, (1 - math.log(2, 3) + 1) / 2))
