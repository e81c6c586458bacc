"""Pictures judged by the training images that are nearest to them, pixel by pixel: how far, and of which class."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vsc.model import Autoencoder
from vsc.studies.base import Ask

MOST = 10_000
"""Training images to look among."""


class Known(NamedTuple):
    """Training images to compare with, x (N, M) in model units, and their classes y (N,)."""

    x: Tensor
    y: Tensor | None


class Found(NamedTuple):
    """Of n pictures the nearest known image: root mean squared difference per output (n,), and its class (n,)."""

    distance: Tensor
    label: Tensor | None


def known(ask: Ask, model: Autoencoder, most: int = MOST) -> Known:
    """Choose training images at random, the same ones every time, in the units of a model."""
    train = ask.data.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:most]
    return Known(model.scaler(train.x[order]), None if train.y is None else train.y[order])


def nearest(pictures: Tensor, to: Known) -> Found:
    """Find the nearest known image of each picture (n, M), in the same units."""
    parts = [torch.cdist(chunk, to.x).min(1) for chunk in pictures.split(500)]
    distance = torch.cat([part.values for part in parts]) / pictures.shape[1] ** 0.5
    index = torch.cat([part.indices for part in parts])
    return Found(distance, None if to.y is None else to.y[index])


def class_name(ask: Ask, label: int) -> str:
    """Return a class's name, or its number where it has none."""
    return ask.data.classes[label] if 0 <= label < len(ask.data.classes) else str(label)


def rms(change: Any) -> Any:
    """Return the root mean square over the last axis, of a tensor or an array."""
    return (change**2).mean(-1) ** 0.5
