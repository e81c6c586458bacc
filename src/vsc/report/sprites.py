"""
Many small images in one picture: rows of examples and of differences, as compact PNG or JPEG data addresses.

`images` are (n, M), in model units, of `shape` (C, H, W) with C 1 or 3; `height` is that of one on the page, CSS
pixels; `limits` and `peak` are the values that get the ends of the colours. The gap between images is transparent, or
black in a JPEG.
"""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image

from vsc.plots.drawing import to_unit

LARGEST = 64  # pixels: larger images are averaged down, since they are shown no larger
LONGEST = 12_000  # bytes: a longer PNG may become a JPEG
_DIVERGING = (colormaps["RdBu_r"](np.linspace(0, 1, 255))[:, :3] * 255).round().astype(np.uint8)


class Sprite(NamedTuple):
    """A row of small images."""

    source: str  # the picture as a data address
    width: int  # size on the page, CSS pixels
    height: int
    coarse: bool  # whether its pixels are to be seen as such


def examples(images: np.ndarray, shape: Sequence[int], limits: tuple[float, float], height: int = 56) -> Sprite:
    """Put examples side by side; limits are what is black, and what is white."""
    cells = 1 + 254 * to_unit(_smaller(images, shape), limits)  # 0 is left for the gap
    row = _side_by_side(cells.round().astype(np.uint8), 0)
    if len(row) == 1:
        return _sprite(Image.fromarray(row[0]), height, 0)
    return _sprite(Image.fromarray(np.ascontiguousarray(row.transpose(1, 2, 0))), height, (0, 0, 0))


def differences(images: np.ndarray, shape: Sequence[int], peak: float, height: int = 56) -> Sprite:
    """Put differences side by side, the mean of their channels: red is more, blue less; from peak on the darkest."""
    cells = _smaller(images, shape).mean(1, keepdims=True)
    return _coloured(np.clip(np.nan_to_num(cells / peak), -1, 1), height)


def legend() -> Sprite:
    """Return the colours of `differences`, from the most negative to the most positive."""
    return _coloured(np.linspace(-1, 1, 127).reshape(1, 1, 1, -1), 14)._replace(width=220, coarse=False)


def _coloured(cells: np.ndarray, height: int) -> Sprite:
    index = (127 + 127 * cells).round().astype(np.uint8)  # 255 is left for the gap
    image = Image.fromarray(_side_by_side(index, 255)[0])
    image.putpalette([*_DIVERGING.ravel().tolist(), 128, 128, 128])
    return _sprite(image, height, 255)


def _smaller(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return flat images as (n, C, H, W), averaged over blocks until no side is longer than `LARGEST`."""
    C, H, W = shape
    images = images.reshape(-1, C, H, W)
    f = -(-max(H, W) // LARGEST)
    h, w = max(1, H // f), max(1, W // f)
    fh, fw = min(f, H), min(f, W)
    return images[:, :, : h * fh, : w * fw].reshape(-1, C, h, fh, w, fw).mean((3, 5)) if f > 1 else images


def _side_by_side(cells: np.ndarray, gap: int) -> np.ndarray:
    """Lay (n, C, H, W) out as (C, H, n W + gaps)."""
    n, C, H, _ = cells.shape
    if n > 1:
        cells = np.concatenate([cells, np.full((n, C, H, _gap(H)), gap, np.uint8)], 3)
    return cells.transpose(1, 2, 0, 3).reshape(C, H, -1)


def _gap(H: int) -> int:
    return max(1, round(H / 14))


def _sprite(image: Image.Image, height: int, gap: int | tuple[int, int, int]) -> Sprite:
    scale = height / image.height
    source = f"data:image/png;base64,{_encoded(image, 'PNG', optimize=True, transparency=gap)}"
    if len(source) > LONGEST and image.mode != "P":
        jpeg = f"data:image/jpeg;base64,{_encoded(image, 'JPEG', quality=85)}"
        source = min(source, jpeg, key=len)
    width = round(scale * image.width)
    return Sprite(source, width, height, scale >= 2)


def _encoded(image: Image.Image, kind: str, **options: object) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return b64encode(buffer.getvalue()).decode()
