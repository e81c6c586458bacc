"""Whether each factor has a latent and each latent a factor: MIG, SAP, modularity, explicitness and DCI."""

from typing import Any, NamedTuple

import numpy as np

from vsc.metrics.arrays import BINS, LEVELS, Array, auroc, discretise, matrix, standardised
from vsc.metrics.correlation import correlations
from vsc.metrics.information import mutual_information


class DCI(NamedTuple):
    """
    How latents and factors depend on each other in trees that predict factors from codes.

    Attributes
    ----------
    disentanglement : float
        Each latent helps to predict one factor only; latents weighted by their importance.
    completeness : float
        Each factor is predicted from one latent only.
    informativeness : float
        R^2 of the predictions on examples that the trees have not seen, mean over factors, each at least 0.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def mig(z: Any, factors: Any, bins: int = BINS) -> float:
    """
    Return the mutual information gap: mean_f (I(z_j*; v_f) - max_{j != j*} I(z_j; v_f)) / H(v_f), j* the best latent.

    Information and entropy are of histograms (`mutual_information`), exact zero in a bin of its own. Range [0, 1],
    higher is better; invariant to permuting and scaling latents. A factor that never changes scores 0. The maximum, 1,
    asks for codes whose bins determine the factor's: of a continuous factor with a monotone but not linear code, it is
    less. Factors that are zero together, their attribute being absent, tell of one another: the true factors of Smiley
    themselves score .63, presence alone .37; `within_mig` gives these two 1 and 0. Cost: as `mutual_information`.
    Source: Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018); 20 bins as in `disentanglement_lib`.
    """
    information, entropy = mutual_information(z, factors, bins)
    return float(np.divide(_gap(information), entropy, out=np.zeros_like(entropy), where=entropy > 0).mean())


def sap(z: Any, factors: Any) -> float:
    """
    Return the separated attribute predictability: mean_f of the gap between the two largest R^2_fj over latents j.

    R^2_fj = corr(v_f, z_j)^2, of the best linear prediction of factor f from latent j alone. Range [0, 1], higher is
    better; invariant to permuting, shifting, scaling and flipping latents. Cost: one matrix product. Source: Kumar et
    al., "Variational Inference of Disentangled Latent Concepts" (2018), its version for continuous factors, here for
    all; for categorical ones they use a classifier's accuracy instead.
    """
    return float(_gap(np.square(correlations(z, factors))).mean())


def modularity(z: Any, factors: Any, bins: int = BINS) -> float:
    """
    Return the modularity: mean_j of 1 - sum_{f != f*} I_fj^2 / ((F - 1) I_f*j^2), f* the factor that j knows best.

    Range [0, 1], higher is better: each latent knows one factor at most. A latent without information on any counts 0
    (as in `disentanglement_lib`), so that dead latents pull it down; for F = 1 every other latent counts 1. Invariant
    to permuting and scaling latents. A latent of noise has the histogram's bias towards every factor and counts about
    0. Cost: as `mutual_information`. Source: Ridgeway and Mozer, "Learning Deep Disentangled Embeddings With the
    F-Statistic Loss" (2018).
    """
    information = mutual_information(z, factors, bins).information
    best = information.max(0)
    # relative to the best before squaring: information of rounding size, 1e-16, is none
    known = best > 1e-12
    share = np.square(information / np.where(known, best, 1))
    rest = (share.sum(0) - 1) / max(len(share) - 1, 1)
    return float(np.where(known, 1 - rest, 0).mean())


def explicitness(z: Any, factors: Any, bins: int = 2, seed: int = 0) -> float:
    """
    Return the explicitness: mean over factors and their classes of the AUROC of a linear classifier of the whole code.

    Classes are a factor's values if they number 64 or fewer, else `bins` bins of equal width, and exact zero. Half of
    the examples train, the other half test. Range [0, 1], higher is better, chance 0.5; it does not ask for
    disentanglement, and rotating the code changes little but rounding and the ridge. The class zero of a factor that
    can be absent lies between the other two, so that presence is explicit in a spike but not in z = v: Smiley's own
    factors score .81, presence alone .89. Two differences from the source (Ridgeway and Mozer 2018): the
    one-against-rest classifier is ridge regression on +-1 with penalty 1 of the standardised codes (scikit-learn's
    `RidgeClassifier`) rather than logistic regression, one solution for all classes; and two bins per continuous
    factor, since a bin in the middle of an axis is not linearly separable. 0.5 for constant codes, and for classes
    that either half lacks. Cost: 1 s at 20 000 x 200.
    """
    z = matrix(z, "codes")
    binned = discretise(matrix(factors, "factors", len(z)), bins, distinct=LEVELS)
    factor, label = np.array([(f, c) for f, column in enumerate(binned.T) for c in np.unique(column)]).T
    Y = binned[:, factor] == label  # (N, C)
    order = np.random.default_rng(seed).permutation(len(z))
    train, test = order[: len(z) // 2], order[len(z) // 2 :]
    if not len(train):
        return 0.5
    scaled = standardised(z) * np.sqrt(len(z))
    X, target = scaled[train], 2.0 * Y[train] - 1
    centre = X.mean(0)
    gram = (X - centre).T @ (X - centre) + np.eye(X.shape[1])
    W = np.linalg.solve(gram, (X - centre).T @ (target - target.mean(0)))
    W[:, Y[train].all(0) | ~Y[train].any(0)] = 0
    scores = scaled[test] @ W
    own = np.array([auroc(scores[:, [c]], Y[test][:, [c]]).item() for c in range(Y.shape[1])])
    return float(np.mean([own[factor == f].mean() for f in range(binned.shape[1])]))


def dci(z: Any, factors: Any, examples: int = 5000, trees: int = 10, seed: int = 0) -> DCI:
    """
    Return disentanglement, completeness and informativeness of random forests that predict each factor from the code.

    With R_fj the importance of latent j for factor f (mean decrease of impurity, sum 1 per factor):
    D = sum_j rho_j (1 - H_F(R_fj / sum_f R_fj)), rho_j = sum_f R_fj / sum_fj R_fj; C = mean_f (1 - H_J(R_f)), the
    entropies to base F and J. A factor that never changes counts 0. Range [0, 1], higher is better; D = 1 for F = 1 and
    C = 1 for J = 1 if anything is predicted. Invariant to scaling latents, and to permuting them but for the trees'
    random choice between equals. At most `examples` examples train forests of `trees` trees, and as many others test.
    Cost: slow, 20 s and more on one core for 5000 x 200 and 18 factors. Source: Eastwood and Williams, "A Framework for
    the Quantitative Evaluation of Disentangled Representations" (2018), whose random forest regression this is; they
    report a normalised error where we report R^2, and `disentanglement_lib` boosts classification trees.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.metrics import r2_score

    z = matrix(z, "codes")
    factors = matrix(factors, "factors", len(z))
    n = min(examples, len(z) // 2)
    order = np.random.default_rng(seed).permutation(len(z))
    train, test = order[:n], order[n : 2 * n]
    moving = np.flatnonzero(z.max(0) > z.min(0))
    R, explained = np.zeros((factors.shape[1], z.shape[1])), np.zeros(factors.shape[1])
    for f, v in enumerate(factors.T) if n > 1 and len(moving) else ():
        if v[train].min() == v[train].max():  # which r2_score would call perfectly predicted
            continue
        forest = RandomForestRegressor(trees, min_samples_leaf=5, random_state=seed)
        forest.fit(z[np.ix_(train, moving)], v[train])
        R[f, moving] = forest.feature_importances_
        explained[f] = max(r2_score(v[test], forest.predict(z[np.ix_(test, moving)])), 0)
    if not R.any():
        return DCI(0.0, 0.0, 0.0)
    rho = R.sum(0) / R.sum()
    return DCI(float(rho @ _concentration(R.T)), float(_concentration(R).mean()), float(explained.mean()))


def _gap(scores: Array) -> Array:
    """Largest less second largest of each row, (F, J) -> (F,); the second of a single latent is 0."""
    ordered = np.sort(np.pad(scores, ((0, 0), (1, 0))), axis=1)
    return ordered[:, -1] - ordered[:, -2]


def _concentration(R: Array) -> Array:
    """1 - entropy of each row scaled to sum 1, base its length; 0 for a row of zeros, 1 for a single entry."""
    from scipy.special import xlogy

    total = R.sum(1, keepdims=True)
    p = R / np.where(total > 0, total, 1)
    entropy = -xlogy(p, p).sum(1) / np.log(max(R.shape[1], 2))
    return np.where(total[:, 0] > 0, 1 - entropy, 0)
