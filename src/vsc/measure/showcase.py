"""The arrays behind the pictures of a comparison: a few examples, their codes and what single latents do."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vsc.data.split import Split
from vsc.measure.effects import Effects
from vsc.measure.measured import Measured
from vsc.measure.scores import add_noise, encode


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
        What the used latents do.
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
def showcase(seen: Measured, shown: int = 8) -> Showcase:
    """Collect the arrays behind a model's pictures: `shown` examples, one per class where there are labels."""
    model, codes, y = seen.model, seen.codes, seen.part.y
    chosen = choose_examples(seen.part, shown, seen.seed)
    x, noisy = seen.x[chosen], add_noise(seen.x, seen.seed, seen.unit)[chosen]
    labels = torch.zeros(len(seen), dtype=torch.int64) if y is None else y
    C = 1 if y is None else max(len(seen.data.classes), int(labels.max()) + 1)
    rows = [labels == label for label in range(C)]
    grid = None
    if model.latent_dim == 2:
        line = torch.linspace(-2, 2, 10)
        z2, z1 = torch.meshgrid(line, line, indexing="ij")  # first latent along the columns
        grid = model.decode(torch.stack([z1.flatten(), z2.flatten()], 1)).numpy()
    return Showcase(
        x=x.numpy(),
        reconstruction=model.decode(codes.hard[chosen]).numpy(),
        noisy=noisy.numpy(),
        denoised=model.decode(encode(model, noisy).hard).numpy(),
        code=codes.hard[chosen].numpy(),
        label=None if y is None else y[chosen].numpy(),
        class_code=torch.stack([_mean(codes.z[row]) for row in rows]).numpy(),
        class_gamma=torch.stack([_mean(codes.gamma[row]) for row in rows]).numpy() if model.spiked else None,
        grid=grid,
        effects=seen.effects,
    )


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
