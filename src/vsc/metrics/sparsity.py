"""How sparse a code is, and which latents are in use."""

from typing import Any, NamedTuple

import numpy as np

from vsc.errors import UsageError
from vsc.metrics.arrays import Array, matrix, probabilities
from vsc.metrics.information import spike_information

SMALL = 0.01
"""Variance (of the code) or information (bits) up to which a latent counts as not used by the posterior."""


USED, ALWAYS_ON, DEAD = 0.01, 0.99, 1e-4
"""A latent is used, or always on, if it is active on more than this share of the examples; dead, if on less."""


class Usage(NamedTuple):
    """
    Numbers of latents by the share of examples on which they are active, gamma > 1/2.

    Attributes
    ----------
    used : int
        Active on more than 1 %.
    always_on : int
        On more than 99 %.
    dead : int
        On less than 0.01 %.
    """

    used: int
    always_on: int
    dead: int


def hoyer(z: Any, normalise: bool = True) -> float:
    """
    Return Hoyer's sparsity: mean over examples of (sqrt(J) - |z|_1 / |z|_2) / (sqrt(J) - 1).

    Range [0, 1], higher is sparser: 1 for one non-zero latent, 0 for latents of equal size. Examples whose code is all
    zeros have no direction and are left out; 0.0 where there are no others, and for J = 1. Sources: Hoyer,
    "Non-negative Matrix Factorization with Sparseness Constraints" (2004); Mathieu et al., "Disentangling
    Disentanglement in Variational Autoencoders" (2019), who divide each latent by its standard deviation over the data
    first, as `normalise` does, so that scaling latents changes nothing; a constant latent, which has none, becomes 1
    if it is not 0. Cost: one pass.
    """
    z = matrix(z, "codes")
    J = z.shape[1]
    if normalise:
        moving = z.max(0) > z.min(0)  # a constant's computed deviation may be rounding, not 0
        scale = np.where(moving, z.std(0), np.abs(z[0]))
        z = z / np.where(scale > 0, scale, 1)
    size = np.abs(z)
    size = size[size.any(1)]
    if J == 1 or not len(size):
        return 0.0
    size = size / size.max(1, keepdims=True)
    ratio = size.sum(1) / np.sqrt(np.square(size).sum(1))
    return float(np.clip((np.sqrt(J) - ratio) / (np.sqrt(J) - 1), 0, 1).mean())


def l0(gamma: Any) -> float:
    """
    Return the expected number of active latents per example, mean_x sum_j gamma_j.

    Range [0, J], lower is sparser; J for a model without spikes. Cost: one pass. Source: spec section 10.
    """
    return float(probabilities(gamma).sum(1).mean())


def activity_histogram(gamma: Any, bins: int = 10) -> Array:
    """
    Count latents by their activity, the share of examples with gamma > 1/2: (bins,), int, J in sum.

    Bins of equal width from 0 to 1, each without its upper edge but the last. Cost: one pass.
    """
    if bins < 1:
        raise UsageError(f"bins must be at least 1, not {bins}")
    on = (probabilities(gamma) > 0.5).sum(0)
    # whole numbers: 0.3 * 10 would fall short of 3
    return np.bincount(np.minimum(on * bins // len(gamma), bins - 1), minlength=bins)


def usage(gamma: Any) -> Usage:
    """
    Count the latents that are used, always on and dead.

    Range 0 to J each; a latent that is always on is also used. Cost: one pass. Source: spec section 10.
    """
    return counted((probabilities(gamma) > 0.5).mean(0))


def counted(rate: Array) -> Usage:
    """Count the latents that are used, always on and dead by the share of examples that each is active on, (J,)."""
    return Usage(int((rate > USED).sum()), int((rate > ALWAYS_ON).sum()), int((rate < DEAD).sum()))


def active_units(z: Any, threshold: float = SMALL) -> int:
    """
    Count the latents whose mean code depends on the input: Var_x E[z_j | x] > `threshold`.

    Range 0 to J. Cost: one pass. Source: Burda et al., "Importance Weighted Autoencoders" (2016); not invariant to
    rescaling, since the prior's unit variance sets the scale.
    """
    return int((matrix(z, "codes").var(0) > threshold).sum())


def posterior_collapse(gamma: Any, mu: Any, threshold: float = SMALL) -> float:
    """
    Return the share of latents whose posterior is the same for every input, in its spike and in its slab's mean.

    Collapsed: I(w_j; x) <= `threshold` bits *and* mean_x gamma_j (mu_j - m_j)^2 <= threshold, where m_j is the mean of
    mu_j weighted by gamma_j. So a latent of values 0 and 1 is not collapsed, though its mu is constant, and one that
    is off is, whatever its mu. For gamma = 1 it is 1 - active units / J. Range [0, 1], lower is better. Cost: one
    pass. Source: ours, since the usual one, KL per latent below a threshold (Lucas et al., "Don't Blame the ELBO!",
    2019), asks for the prior.
    """
    gamma = probabilities(gamma)
    mu = matrix(mu, "mu", len(gamma))
    if mu.shape != gamma.shape:
        raise UsageError(f"gamma and mu must have the same shape, not {gamma.shape} and {mu.shape}")
    weight = gamma.sum(0)
    m = (gamma * mu).sum(0) / np.where(weight > 0, weight, 1)
    spread = (gamma * np.square(mu - m)).mean(0)
    return float(((spike_information(gamma) <= threshold) & (spread <= threshold)).mean())
