"""What a trained model draws: new examples, and paths through the codes of given ones. Arrays out, no pictures."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vsc.errors import UsageError, at_least, choose
from vsc.model.base import Autoencoder, evaluating
from vsc.torchstate import seeded

Array = np.ndarray


class Samples(NamedTuple):
    """
    Codes that were drawn, or lie on a path, and what they decode to.

    Attributes
    ----------
    z : numpy.ndarray, shape (n, J) or (N, n, J)
        Codes; exactly zero where a latent is off. Those of a path are in order, both ends included.
    x : numpy.ndarray, shape (n, M) or (N, n, M)
        E[x|z], in model units.
    """

    z: Array
    x: Array


class Traversal(NamedTuple):
    """
    Codes with one latent altered at a time, and what they decode to.

    Attributes
    ----------
    latent : numpy.ndarray, shape (N, L), int
        The latent that each row alters; -1 where an input has fewer active latents than were asked for. Those rows
        hold the unaltered code.
    values : numpy.ndarray, shape (V,)
        What it is set to.
    before : numpy.ndarray, shape (N, J)
        Hard codes of the inputs.
    reconstruction : numpy.ndarray, shape (N, M)
        E[x|z] of `before`, in model units.
    z : numpy.ndarray, shape (N, L, V, J)
        The altered codes.
    x : numpy.ndarray, shape (N, L, V, M)
        E[x|z] of `z`, in model units.
    """

    latent: Array
    values: Array
    before: Array
    reconstruction: Array
    z: Array
    x: Array


Path = Samples


class Changes(NamedTuple):
    """
    A code with one element altered at a time.

    Attributes
    ----------
    latent : numpy.ndarray, shape (k,), int
        The element that each row alters.
    z : numpy.ndarray, shape (k, J)
        The altered codes.
    """

    latent: Array
    z: Array


def decode(model: Autoencoder, z: Any) -> Array:
    """
    Decode codes, in batches.

    Parameters
    ----------
    model : Autoencoder
        A trained model.
    z : array_like, shape (..., J)
        Codes.

    Returns
    -------
    numpy.ndarray, shape (..., M)
        E[x|z], in model units; `model.scaler.inverse` takes them back to stored values.

    Raises
    ------
    UsageError
        If a code has not J values, or one of them is not finite.
    """
    z, (shape, J) = np.asarray(z, np.float32), (model.shape, model.latent_dim)
    if z.ndim == 0 or z.shape[-1] != J:
        raise UsageError(f"expected codes of {J} latents, (..., {J}), but got an array of shape {z.shape}")
    if not np.isfinite(z).all():
        raise UsageError("the codes have NaN or infinite values")
    parameter = next(model.parameters())
    with evaluating(model):
        parts = torch.tensor(z).reshape(-1, J).split(1024)
        x = torch.cat([model.decode(part.to(parameter)).float().cpu() for part in parts])
    return x.reshape(*z.shape[:-1], math.prod(shape)).numpy()


def ancestral(model: Autoencoder, n: int, seed: int = 0) -> Samples:
    """
    Draw z ~ p(z) from the model's own prior and decode it (ICLR fig. 12).

    Parameters
    ----------
    model : Autoencoder
        A trained model with a prior.
    n : int
        Number of draws.
    seed : int
        Seed of the draws; torch's global random state is left as it was.

    Returns
    -------
    Samples
        z (n, J) and x (n, M).

    Raises
    ------
    UsageError
        If n < 1, or the model has no prior (AE).
    """
    at_least(1, n, "the number of draws, n,")
    with evaluating(model), seeded(seed, model.device):
        z = model.sample_code(n).cpu().numpy()
    return Samples(z, decode(model, z))


def conditional(model: Autoencoder, x: Any, n: int, seed: int = 0) -> Samples:
    """
    Draw codes that share the active latents of given inputs (ICLR sec. E.5 and fig. 13, UAI fig. 6).

    The latents that are on in an input's hard code, gamma > 1/2, get values from the slab of the prior; all others are
    exactly zero. Of a `SpikeSlabPrior` that is N(0, 1) or what is learned instead, and with several components the slab
    of one, u ~ C(x), the choice that the input itself makes, drawn anew for every draw; of the thresholded Laplace it
    is Lap(0, 1).

    Parameters
    ----------
    model : Autoencoder
        A trained model whose latents have gates.
    x : array_like, shape (N, ...)
        Examples of M values each, as they are stored.
    n : int
        Number of draws per input.
    seed : int
        Seed of the draws; torch's global random state is left as it was.

    Returns
    -------
    Samples
        z (N, n, J) and x (N, n, M).

    Raises
    ------
    UsageError
        If n < 1, the shape does not fit, a value is not finite, all latents of the model are always on, or the prior
        does not say what its slab is.
    """
    at_least(1, n, "the number of draws, n,")
    if not model.gated:
        raise UsageError(
            "conditional sampling keeps an input's active latents, and in this model all latents are on; use ancestral"
        )
    if not model.bounded:
        raise UsageError("this model has no prior to draw values from; train a VSC")
    with evaluating(model), seeded(seed, model.device):
        inputs = model.scaled(x)
        qz = model.posterior(inputs)
        values = model.prior.slab(qz, inputs, n, model.posterior)  # (N, n, J)
        z = torch.where(qz.active.unsqueeze(1), values, 0.0).cpu().numpy()
    return Samples(z, decode(model, z))


def traversal(
    model: Autoencoder,
    x: Any,
    latents: Sequence[int] | None = None,
    values: Sequence[float] | None = None,
    most: int = 5,
) -> Traversal:
    """
    Alter one latent of each input's hard code at a time (ICLR fig. 4).

    By default only active latents are altered. One that is off for an input is switched on only if `latents` names it.
    A value of 0 switches a latent off.

    Parameters
    ----------
    model : Autoencoder
        A trained model.
    x : array_like, shape (N, ...)
        Examples of M values each, as they are stored.
    latents : sequence of int, shape (L,), optional
        Latents to alter, the same for all inputs whether on or off; by default each input's own `most`.
    values : sequence of float, shape (V,), optional
        What an altered latent is set to, in units of the code; by default seven from -3 to 3.
    most : int
        Without `latents`: L = min(most, J), the non-zero latents of largest absolute value, largest first.

    Returns
    -------
    Traversal
        The codes before and after, and what they decode to; memory grows as N L V (J + M).

    Raises
    ------
    UsageError
        If the shape does not fit, a value is not finite, a latent is outside 0 .. J - 1, or nothing is to be altered.
    """
    J = model.latent_dim
    settings = torch.tensor(np.asarray(np.linspace(-3, 3, 7) if values is None else values, np.float32))
    if settings.ndim != 1 or not len(settings) or not settings.isfinite().all():
        raise UsageError(f"values must be a list of finite numbers, not {values}")
    at_least(1, most, "most")
    with evaluating(model):
        before = model.encode(x).hard  # (N, J)
    if latents is None:
        size, latent = before.abs().topk(min(most, J))
        latent = torch.where(size > 0, latent, -1)  # (N, L)
    else:
        latent = torch.tensor(_checked(latents, J)).expand(len(before), -1)
    index = latent.clamp(min=0)
    altered = torch.where(latent.unsqueeze(-1) >= 0, settings, before.gather(1, index).unsqueeze(-1))  # (N, L, V)
    z = before[:, None, None].repeat(1, latent.shape[1], len(settings), 1)  # (N, L, V, J)
    z.scatter_(-1, index[:, :, None, None].expand(*altered.shape, 1), altered.unsqueeze(-1))
    x_before, x_after = decode(model, before.numpy()), decode(model, z.numpy())
    return Traversal(latent.numpy(), settings.numpy(), before.numpy(), x_before, z.numpy(), x_after)


def continuous(z_a: Array, z_b: Array, steps: int) -> Array:
    """Return the straight line between two codes, of so many `steps` (UAI fig. 7, slab path)."""
    t = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    return (1 - t) * z_a + t * z_b


def discrete(z_a: Array, z_b: Array, steps: int) -> Array:
    """
    Go from one code to another one latent at a time (UAI fig. 7, spike path), in 1 + as many codes as latents differ.

    Each step gives one latent its value at the end: switched on, switched off, or, where it is on at both ends, moved.
    Those that differ most come first; equal differences in the order of the latents. `steps` is not used.
    """
    order = _by_change(z_a, z_b)
    z = np.repeat(z_a[None], len(order) + 1, 0)
    for step, j in enumerate(order, start=1):
        z[step:, j] = z_b[j]
    return z


PATHS: dict[str, Callable[[Array, Array, int], Array]] = {"continuous": continuous, "discrete": discrete}
"""(z_a (J,), z_b (J,), steps) -> codes (steps, J), ends included; what is off at both ends stays exactly zero."""


def interpolate(model: Autoencoder, a: Any, b: Any, steps: int = 11, kind: str = "continuous") -> Path:
    """
    Go from the hard code of one example to that of another, and decode the codes on the way (UAI fig. 7).

    Parameters
    ----------
    model : Autoencoder
        A trained model.
    a, b : array_like, M values each, of any shape
        Two examples, as they are stored.
    steps : int
        Number of codes of a continuous path, both ends included. A discrete path has one code per latent that differs,
        and one more.
    kind : str
        Name in `PATHS`. `continuous`: a straight line. `discrete`: one latent after another takes its value at the end,
        those that differ most first. On either, a latent that is off in both codes is exactly zero throughout.

    Returns
    -------
    Path
        z (steps, J) and x (steps, M), from a to b.

    Raises
    ------
    UsageError
        If the kind is unknown, steps < 2, an example has not M values, or a value is not finite.
    """
    path = choose(PATHS, kind, "kind of path")
    at_least(2, steps, "steps")
    with evaluating(model):
        pair = torch.cat([model.scaled(end[None] if isinstance(end, Tensor) else [end]) for end in (a, b)])
        z_a, z_b = model.codes(pair).hard.cpu().numpy()
    z = path(z_a, z_b, steps)
    return Path(z, decode(model, z))


def largest_changes(z_a: Any, z_b: Any, k: int = 2) -> Changes:
    """
    Alter, each alone, the k largest elements of the interpolation vector z_b - z_a (ICLR fig. 5).

    Row i is z_a with one element set to its value in z_b. `decode` makes images of them; the paper shows both
    directions, the other one by exchanging z_a and z_b.

    Parameters
    ----------
    z_a, z_b : array_like, shape (J,)
        The code that is altered, and the one that it is altered towards.
    k : int
        Number of elements, the largest first; fewer if the codes differ in fewer.

    Returns
    -------
    Changes
        latent (k,) and z (k, J).

    Raises
    ------
    UsageError
        If k < 1, or the codes are not two of one length.
    """
    at_least(1, k, "the number of elements, k,")
    z_a, z_b = np.asarray(z_a, np.float32), np.asarray(z_b, np.float32)
    if z_a.ndim != 1 or z_a.shape != z_b.shape:
        raise UsageError(f"expected two codes of one length, (J,), but got shapes {z_a.shape} and {z_b.shape}")
    latent = _by_change(z_a, z_b)[:k]
    z = np.repeat(z_a[None], len(latent), 0)
    z[np.arange(len(latent)), latent] = z_b[latent]
    return Changes(latent, z)


def _by_change(z_a: Array, z_b: Array) -> Array:
    """Return the latents in which two codes differ, the largest change first."""
    change = np.abs(z_b - z_a)
    return np.argsort(-change, kind="stable")[: np.count_nonzero(change)]


def _checked(latents: Sequence[int], J: int) -> Array:
    chosen = np.asarray(latents)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise UsageError(f"latents must be a list of whole numbers, not {latents}")
    wrong = chosen[(chosen < 0) | (chosen >= J)]
    if len(wrong):
        raise UsageError(f"there is no latent {wrong[0]}: the model's {J} latents are numbered from 0 to {J - 1}")
    return chosen.astype(np.int64)
