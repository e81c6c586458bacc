"""Pictures judged by the training images that are nearest to them, pixel by pixel: how far, and of which class."""

from typing import NamedTuple

import torch
from torch import Tensor

from vsc.model import Autoencoder
from vsc.studies.base import Ask

MOST = 10_000
"""Training images to look among."""


class Known(NamedTuple):
    """
    Training images to compare with.

    Attributes
    ----------
    x : torch.Tensor, shape (N, M)
        In model units.
    y : torch.Tensor or None, shape (N,)
        Their classes.
    """

    x: Tensor
    y: Tensor | None


class Found(NamedTuple):
    """
    The nearest of them.

    Attributes
    ----------
    distance : torch.Tensor, shape (n,)
        Root mean squared difference per output, in model units.
    label : torch.Tensor or None, shape (n,)
        Its class.
    """

    distance: Tensor
    label: Tensor | None


def known(ask: Ask, model: Autoencoder, most: int = MOST) -> Known:
    """
    Choose training images at random, the same ones every time.

    Parameters
    ----------
    ask : Ask
        With the data.
    model : Autoencoder
        Whose units they are wanted in.
    most : int
        How many; all where there are fewer.

    Returns
    -------
    Known
        Images and classes.
    """
    train = ask.data.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:most]
    return Known(model.scaler(train.x[order]), None if train.y is None else train.y[order])


def nearest(pictures: Tensor, to: Known) -> Found:
    """
    Find the nearest known image of each picture.

    Parameters
    ----------
    pictures : torch.Tensor, shape (n, M)
        In the same units.
    to : Known
        What to look among.

    Returns
    -------
    Found
        Distance and class.
    """
    parts = [torch.cdist(chunk, to.x).min(1) for chunk in pictures.split(500)]
    distance = torch.cat([part.values for part in parts]) / pictures.shape[1] ** 0.5
    index = torch.cat([part.indices for part in parts])
    return Found(distance, None if to.y is None else to.y[index])


def class_name(ask: Ask, label: int) -> str:
    """Return a class's name, or its number where it has none."""
    return ask.data.classes[label] if 0 <= label < len(ask.data.classes) else str(label)


def rms(change: Tensor) -> Tensor:
    """Return the root mean square over the last axis."""
    return change.square().mean(-1).sqrt()
