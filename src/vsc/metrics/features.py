"""
Whether a dictionary and its codes are those that the data were made of, where that is known.

The definitions are those of SynthSAEBench (Chanin and Garriga-Alonso 2026) and of SAELens' `sae_lens.synthetic.evals`.
A latent's nearest feature is the one whose true direction has the largest absolute cosine with its own. A latent is on
where its code is not zero: the original asks for codes above zero, which theirs are where they are on.
"""

from typing import Any, NamedTuple

import numpy as np

from vsc.errors import UsageError
from vsc.metrics.arrays import Array, matrix
from vsc.metrics.matching import cosines, matched
from vsc.metrics.presence import flags

SHORTEST = 1e-6
"""Norm below which an example has no direction, and its reconstruction no relative length."""


class Detection(NamedTuple):
    """
    Each latent as a detector of its nearest feature.

    Attributes
    ----------
    feature : numpy.ndarray, shape (J,), int
        That feature.
    cosine : numpy.ndarray, shape (J,)
        How near it is, in [0, 1].
    precision, recall, f1 : numpy.ndarray, shape (J,)
        Share of the latent's examples that are the feature's, share of the feature's that are the latent's, and their
        harmonic mean; 0 where there are none.
    """

    feature: Array
    cosine: Array
    precision: Array
    recall: Array
    f1: Array


def detection(z: Any, fires: Any, directions: Any, truth: Any) -> Detection:
    """
    Say of each latent what its nearest feature is, and how well it tells where that one fires.

    The codes `z`, (N, J), are exactly zero where a latent is off; UsageError if the shapes do not fit.
    """
    z = matrix(z, "codes")
    on, alike = z != 0, _alike(directions, truth)
    fires = np.asarray(fires)
    if fires.dtype != bool or fires.ndim != 2 or len(fires) != len(z):  # bits are not copied: there can be many
        fires = flags(fires, len(z))
    if alike.shape != (on.shape[1], fires.shape[1]):
        raise UsageError(
            f"directions of {alike.shape[0]} latents and {alike.shape[1]} features do not fit codes of {on.shape[1]} "
            f"latents and {fires.shape[1]} features that fire"
        )
    feature = alike.argmax(1)
    there = fires[:, feature]
    hits, told, all_there = ((a.sum(0, dtype=float)) for a in (on & there, on, there))
    precision, recall = (hits / np.where(n > 0, n, 1) for n in (told, all_there))
    both = precision + recall
    f1 = 2 * precision * recall / np.where(both > 0, both, 1)
    return Detection(feature, alike.max(1), precision, recall, f1)


def feature_f1(z: Any, fires: Any, directions: Any, truth: Any) -> float:
    """
    Return how well latents detect their nearest features: the mean over the latents of `detection`'s F1.

    Range [0, 1], higher is better; a latent that is never on counts 0. Several latents may have the same nearest
    feature (`feature_uniqueness`). Cost: one pass, and J x F cosines.
    """
    return float(detection(z, fires, directions, truth).f1.mean())


def feature_mcc(directions: Any, truth: Any) -> float:
    """
    Return the mean absolute cosine of latents and features that are assigned to each other, one to one.

    The assignment is that of the largest sum, of min(J, F) pairs. Range [0, 1], higher is better; what codes do is not
    looked at. Source: besides the benchmark, Song et al., "Position: Mechanistic Interpretability Should Prioritize
    Feature Consistency in SAEs" (2025). Cost: one linear assignment of J x F.
    """
    alike = _alike(directions, truth)
    return float(matched(alike).similarity.sum() / min(alike.shape))


def feature_uniqueness(directions: Any, truth: Any) -> float:
    """
    Return the number of different nearest features that the latents have, divided by J.

    Range [0, 1], higher is better; 1 where no two latents are nearest to the same feature. Cost: J x F cosines.
    """
    alike = _alike(directions, truth)
    return len(np.unique(alike.argmax(1))) / len(alike)


def fvu(x: Any, output: Any) -> float:
    """
    Return the fraction of variance unexplained, sum |x - output|^2 / sum |x - mean x|^2.

    Range [0, inf), lower is better: 0 for a perfect reconstruction, 1 for the mean; 1 less this is the benchmark's
    explained variance. Of examples that are all the same, 0 where they are reconstructed, else 1. Cost: one pass.
    """
    x, output = _pair(x, output)
    error, spread = np.square(x - output).sum(), np.square(x - x.mean(0)).sum()
    return float(error / spread) if spread > 1e-12 * max(np.square(x).sum(), 1e-300) else float(error > 0)


def shrinkage(x: Any, output: Any) -> float:
    """
    Return the mean over examples of |output| / |x|: below 1, reconstructions are too short.

    Range [0, inf); 1 is best. Examples shorter than 1e-6 are left out; 0 where there are no others. Cost: one pass.
    """
    x, output = _pair(x, output)
    size = np.linalg.norm(x, axis=1)
    some = size > SHORTEST
    return float((np.linalg.norm(output[some], axis=1) / size[some]).mean()) if some.any() else 0.0


def _alike(directions: Any, truth: Any) -> Array:
    """Return the absolute cosine of each latent with each feature, (J, F)."""
    return cosines(matrix(directions, "directions"), matrix(truth, "true directions"), directed_a=False)


def _pair(x: Any, output: Any) -> tuple[Array, Array]:
    x = matrix(x, "x")
    output = matrix(output, "output", len(x))
    if x.shape != output.shape:
        raise UsageError(f"x and output must have the same shape, not {x.shape} and {output.shape}")
    return x, output
