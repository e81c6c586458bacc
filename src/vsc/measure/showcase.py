"""The arrays behind a model's pictures: examples, their codes and reconstructions, and what single latents do."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vsc.data.split import Dataset, Split
from vsc.measure.scores import add_noise, pick, reconstruct
from vsc.model import Autoencoder, Codes


class Effects(NamedTuple):
    """
    What single latents do to the reconstruction, for the K used latents that are on most often.

    Attributes
    ----------
    latent : numpy.ndarray, shape (K,), int
        Which latents, in falling order of `rate`.
    rate : numpy.ndarray, shape (K,), float32
        Share of the examples on which each is on.
    value : numpy.ndarray, shape (K,), float32
        What the latent is set to: the root mean square of its hard code where it is on, with the sign of its mean.
    change : numpy.ndarray, shape (K, M), float32
        Decoded code with that latent alone, less the decoded code of all zeros, in model units.
    """

    latent: np.ndarray
    rate: np.ndarray
    value: np.ndarray
    change: np.ndarray


class Showcase(NamedTuple):
    """
    The arrays behind a model's pictures (n shown examples, C classes, J latents, M outputs), in model units.

    Attributes
    ----------
    x, reconstruction, noisy, denoised : numpy.ndarray, shape (n, M), float32
        Held-out inputs, their reconstructions, the inputs with noise added, and the reconstructions of those.
    code : numpy.ndarray, shape (n, J), float32
        Their hard codes 1[gamma > 1/2] * mu: exactly zero where a latent is off.
    label : numpy.ndarray or None, shape (n,), int
        Their class labels.
    class_code, class_gamma : numpy.ndarray or None, shape (C, J), float32
        Mean code and mean spike probability per class; one row for all the data where there are no labels.
        class_gamma is None for models without spikes.
    grid : numpy.ndarray or None, shape (100, M), float32
        Decoded 10 x 10 grid over (-2, 2)^2, first latent along the columns; only when J = 2.
    effects : Effects
        What the latents that are on most often do.
    """

    x: np.ndarray
    reconstruction: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray
    code: np.ndarray
    label: np.ndarray | None
    class_code: np.ndarray
    class_gamma: np.ndarray | None
    grid: np.ndarray | None
    effects: Effects


@torch.no_grad()
def showcase(model: Autoencoder, data: Dataset, split: str = "test", shown: int = 8, seed: int = 0) -> Showcase:
    """
    Collect the arrays behind a model's pictures.

    Parameters
    ----------
    model : Autoencoder
        In eval mode, on the CPU.
    data : Dataset
        Where the examples come from.
    split : str
        Name of the split.
    shown : int
        Examples to show, one per class where there are labels.
    seed : int
        Seed of the noise and of the choice of examples.

    Returns
    -------
    Showcase
        NumPy arrays in model units.
    """
    held_out = pick(data, split)
    chosen = choose_examples(held_out, shown, seed)
    x = model.scaler(held_out.x)
    noisy = add_noise(x, seed)[chosen]
    x = x[chosen]
    codes = model.encode(held_out.x)
    y = torch.zeros(len(held_out), dtype=torch.int64) if held_out.y is None else held_out.y
    C = 1 if held_out.y is None else max(len(data.classes), int(y.max()) + 1)
    rows = [y == label for label in range(C)]
    grid = None
    if model.latent_dim == 2:
        line = torch.linspace(-2, 2, 10)
        z2, z1 = torch.meshgrid(line, line, indexing="ij")  # first latent along the columns
        grid = model.decode(torch.stack([z1.flatten(), z2.flatten()], 1)).numpy()
    return Showcase(
        x=x.numpy(),
        reconstruction=reconstruct(model, x).numpy(),
        noisy=noisy.numpy(),
        denoised=reconstruct(model, noisy).numpy(),
        code=codes.hard[chosen].numpy(),
        label=None if held_out.y is None else held_out.y[chosen].numpy(),
        class_code=torch.stack([_mean(codes.z[row]) for row in rows]).numpy(),
        class_gamma=torch.stack([_mean(codes.gamma[row]) for row in rows]).numpy() if model.spiked else None,
        grid=grid,
        effects=effects(model, codes),
    )


@torch.no_grad()
def effects(model: Autoencoder, codes: Codes, most: int = 24) -> Effects:
    """
    Set one latent at a time and see what changes.

    Parameters
    ----------
    model : Autoencoder
        In eval mode, on the CPU.
    codes : Codes
        Of the data on which rates and typical values are measured.
    most : int
        At most so many latents.

    Returns
    -------
    Effects
        For the used latents (on for more than 1 % of the examples).
    """
    on = codes.active.float()
    rate = on.mean(0)
    latent = rate.argsort(descending=True, stable=True)[:most]
    latent = latent[rate[latent] > 0.01]
    count = on.sum(0).clamp_min(1)
    size = (codes.hard.square().sum(0) / count).sqrt()
    value = torch.where(codes.hard.sum(0) < 0, -size, size)[latent]
    one = torch.zeros(len(latent), model.latent_dim)
    one[torch.arange(len(latent)), latent] = value
    change = model.decode(one) - model.decode(torch.zeros(1, model.latent_dim))
    return Effects(latent.numpy(), rate[latent].numpy(), value.numpy(), change.numpy())


def _mean(codes: Tensor) -> Tensor:
    """Mean over examples; zero for a class that the split does not have."""
    return codes.mean(0) if len(codes) else codes.new_zeros(codes.shape[1])


def choose_examples(split: Split, shown: int, seed: int = 0) -> Tensor:
    """
    Choose examples at random, of as many classes as there are, ordered by class.

    Parameters
    ----------
    split : Split
        N examples.
    shown : int
        How many to choose; all of them where there are fewer.
    seed : int
        Seed of the choice.

    Returns
    -------
    torch.Tensor, shape (min(shown, N),), int64
        Which ones.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    if split.y is None:
        return order[:shown]
    labels = split.y[order]
    # the first of every class, then the second of every class, and so on
    turn = torch.zeros_like(labels)
    for label in labels.unique():
        turn[labels == label] = torch.arange(int((labels == label).sum()))
    picked = torch.argsort(turn, stable=True)[:shown]
    return order[picked[torch.argsort(labels[picked], stable=True)]]
