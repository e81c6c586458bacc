"""How well single latents follow single factors: correlations, the UAI paper's row maximum, and MCC."""

from typing import Any

import numpy as np

from vsc.errors import choose
from vsc.metrics.arrays import Array, matrix, standardised


def _ranks(a: Array) -> Array:
    from scipy.stats import rankdata

    return rankdata(a, axis=0)


CORRELATIONS = {"pearson": lambda a: a, "spearman": _ranks}
"""What is done to values before they are correlated."""


def correlations(z: Any, factors: Any, kind: str = "pearson", magnitudes: bool = False) -> Array:
    """
    Return |corr(v_f, z_j)| of every factor with every latent, (F, J); with `magnitudes`, |corr(|v_f|, |z_j|)|.

    Range [0, 1]; 0 for a constant column. Shifting, scaling and flipping latents changes nothing (with `magnitudes`:
    scaling and flipping). Absolute values are what the UAI paper's matrix can see of an attribute that is absent or
    present: the sign of a factor is symmetric, so that E[v S | S] = 0 whatever S. Cost: one matrix product; `spearman`
    sorts each column.
    """
    prepare = choose(CORRELATIONS, kind, "correlation")
    z = matrix(z, "codes")
    factors = matrix(factors, "factors", len(z))
    if magnitudes:
        z, factors = np.abs(z), np.abs(factors)
    found = standardised(prepare(factors)).T @ standardised(prepare(z))
    return np.minimum(np.abs(found), 1)


def row_max_correlation(z: Any, factors: Any, magnitudes: bool = True) -> float:
    """
    Return the mean over factors of the largest |correlation| with a latent (UAI fig. 9): mean_f max_j |R_fj|.

    Range [0, 1], higher is better. It does not ask that different factors have different latents, and with
    magnitudes, the UAI paper's sense as we read it, presence alone scores: z_j = S_g against |v_f S_g|,
    v_f ~ N(0, s^2), P(S = 1) = p has correlation sqrt(1 - p) sqrt(2/pi) / sqrt(1 - 2p/pi), .683 at p = 1/2 and for
    any s. Without magnitudes the same code scores 0. So report it beside `within_mcc`. Cost: one matrix product.
    """
    return float(correlations(z, factors, magnitudes=magnitudes).max(1).mean())


def mcc(z: Any, factors: Any, kind: str = "pearson", magnitudes: bool = False) -> float:
    """
    Return the mean correlation coefficient: 1/F max over assignments a of sum_f |R_f,a(f)|.

    Each factor has a latent of its own (linear assignment); with J < F the factors left over count 0. Range [0, 1],
    higher is better; invariant to permuting, shifting, scaling and flipping latents. Source: Hyvarinen and Morioka,
    "Unsupervised Feature Extraction by Time-Contrastive Learning" (2016). Over J latents of pure noise it is about
    sqrt(2 ln J / N), not 0. Cost: one matrix product; `spearman` sorts each column.
    """
    from scipy.optimize import linear_sum_assignment

    found = correlations(z, factors, kind, magnitudes)
    return float(found[linear_sum_assignment(found, maximize=True)].sum() / len(found))
