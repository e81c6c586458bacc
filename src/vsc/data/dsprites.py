"""dSprites: binary 64 x 64 images of one sprite, at every combination of five factors, which are known."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vsc.data.checks import FEWEST
from vsc.data.download import fetch, found
from vsc.data.reading import load_numpy
from vsc.data.split import Source, Split, tested
from vsc.errors import UsageError

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
MD5 = "7da33b31b13a06f4b04a70402ce90c2e"
MIRRORS = (
    "https://github.com/google-deepmind/dsprites-dataset/raw/master",
    "https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master",
)
FACTORS = ("shape", "scale", "orientation", "x", "y")
SHAPES = ("square", "ellipse", "heart")

_FOLDERS = ("dsprites", "dsprites-dataset", ".")  # searched in this order; a download goes to the first
_ARRAYS = ("imgs", "latents_values", "latents_classes")
_SIDE = 64


def load(root: Path) -> Source:
    """
    Load dSprites, 737 280 images (1, 64, 64) of zeros and ones.

    The .npz file as published is looked for in `root/dsprites`, `root/dsprites-dataset` and `root` itself, and
    downloaded (26 MB) to the first. The test set, which the source has not, is a random fifth, always the same,
    whatever the user's seed. The images fill 3 GB; loading needs twice that for a moment.

    `y` is the sprite, one of `SHAPES`; `factors` (N, 5) are the values of `FACTORS` (shape 1 to 3, scale, orientation
    in radians, position), and `extras["factor_classes"]` (N, 5) int64 their indices among the 3, 6, 40, 32 and 32
    values. The sixth factor of the file, colour, is white in every image and left out.

    Source: L. Matthey, I. Higgins, D. Hassabis and A. Lerchner, "dSprites: Disentanglement testing Sprites dataset",
    2017.
    """
    path = found(root, _FOLDERS, [FILE]) or fetch(FILE, MD5, MIRRORS, root / _FOLDERS[0])
    try:
        # The file also holds its description as a pickle, which is never opened: arrays are read by name.
        arrays = load_numpy(path, b"PK", only=_ARRAYS)
        if missing := [name for name in _ARRAYS if name not in arrays]:
            raise UsageError(f"it holds no array {missing[0]!r}, only {', '.join(arrays) or 'nothing'}")
        train, test = tested(_split(**arrays))
    except UsageError as error:
        raise UsageError(f"{path}: {error}; delete the file to have it downloaded again") from error
    return Source(train, test, shape=(1, _SIDE, _SIDE), classes=SHAPES, high=1.0, factor_names=FACTORS)


def _split(imgs: NDArray, latents_values: NDArray, latents_classes: NDArray) -> Split:
    """Check the three arrays against the description of the data set and against one another."""
    N = len(imgs) if imgs.ndim else 0
    for name, array, kinds, shape in (
        ("imgs", imgs, "u", (N, _SIDE, _SIDE)),
        ("latents_values", latents_values, "f", (N, 6)),
        ("latents_classes", latents_classes, "iu", (N, 6)),
    ):
        # imgs must be bytes: a wider unsigned type would be cut silently
        if array.dtype.kind not in kinds or (name == "imgs" and array.dtype != np.uint8):
            wanted = {"u": "uint8", "f": "floating point", "iu": "integers"}[kinds]
            raise UsageError(f"{name} has type {array.dtype}, not {wanted}")
        if array.shape != shape:
            raise UsageError(f"{name} has shape {array.shape} where {shape} is expected")
    if N < FEWEST:
        raise UsageError(f"it holds {N} images; at least {FEWEST} are needed")
    if imgs.max() > 1:
        raise UsageError(f"imgs holds the value {imgs.max()}; values are 0 and 1")
    if not np.isfinite(latents_values).all():
        raise UsageError("latents_values holds NaN or infinite values")
    sprite = latents_classes[:, 1]
    if sprite.min() < 0 or sprite.max() >= len(SHAPES):
        wrong = sprite.max() if sprite.max() >= len(SHAPES) else sprite.min()
        raise UsageError(f"latents_classes holds the shape {wrong}; shapes are 0 to 2")
    return Split(
        torch.from_numpy(imgs).flatten(1),
        y=torch.from_numpy(sprite.astype(np.int64)),
        factors=torch.from_numpy(latents_values[:, 1:].astype(np.float32)),
        extras={"factor_classes": torch.from_numpy(latents_classes[:, 1:].astype(np.int64))},
    )
