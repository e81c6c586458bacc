"""
Smiley: binary 32 x 32 faces whose 18 continuous factors and four on/off attributes are known.

Source: Tonolini, Jensen and Murray-Smith, "Variational Sparse Coding" (UAI 2020), supplement E, and the
generator released with it, whose published test images `render` reproduces. Coordinates are 1-based (x, y)
pixels, and halves round away from zero, as in the original MATLAB.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vsc.data.split import Source, Split
from vsc.errors import RunError, UsageError
from vsc.files import write_npz

SIDE = 32
FACTOR_STD = 0.5
ATTRIBUTES = {"bowtie": slice(0, 4), "hat": slice(4, 10), "eyes": slice(10, 13), "mouth": slice(13, 18)}
FACTORS = (
    *("bowtie x", "bowtie y", "bowtie width", "bowtie height"),
    *("hat x", "hat y", "brim width", "brim height", "crown width", "crown height"),
    *("eyes distance", "eyes y", "eyes radius"),
    *("mouth width", "mouth height", "mouth x", "mouth y", "smile"),
)
GROUPS = tuple(name for name, columns in ATTRIBUTES.items() for _ in range(columns.stop - columns.start))

# (faces, seed); seeds of two numbers, so that no exported file, which has one number, repeats these faces
TRAIN, TEST = (60_000, (2019, 0)), (5_000, (2019, 1))

_CHUNK = 4096  # images drawn at a time, so that float64 temporaries (n, 32, 32) stay near 32 MB each

_BOWTIE = """
.................
###...........###
#####.......#####
#######...#######
#################
#################
#################
#######...#######
#####.......#####
###...........###
.................
"""

_X = np.arange(1, SIDE + 1)[None, None, :]  # (1, 1, W)
_Y = np.arange(1, SIDE + 1)[None, :, None]  # (1, H, 1)


def load(root: Path) -> Source:
    """
    Generate 60 000 faces (1, 32, 32) of zeros and ones to train on and 5 000 others to test on, always the same ones.

    Each attribute is present with probability 0.5. `factors` (N, 18) are drawn even where `presence` says that their
    attribute is absent. Nothing is downloaded to `root`.
    """
    parts = _generate(*TRAIN), _generate(*TEST)
    return Source(*parts, shape=(1, SIDE, SIDE), high=1.0, factor_names=FACTORS, groups=GROUPS)


def _generate(n: int, seed: tuple[int, ...]) -> Split:
    S, V = draw_factors(n, seed=seed)
    x = torch.from_numpy(render(S, V)).flatten(1)
    return Split(x, factors=torch.from_numpy(V).float(), presence=torch.from_numpy(S))


def export(path: str | Path, n: int = 60_000, presence: float = 0.5, seed: int = 0) -> Path:
    """
    Write `n` faces to a .npz file, whole or not at all, for use outside this library or by `vsc.data.load(path)`.

    Its folder is made if it is missing. Its arrays are x (n, 32, 32) uint8, factors (n, 18) float32, presence (n, 18)
    bool, factor_names (18,) and groups (18,), the attribute that each factor belongs to.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UsageError(f"{path}: the file's name must end in .npz")
    S, V = draw_factors(n, presence, seed)
    x = render(S, V)
    arrays = {"x": x, "factors": V.astype(np.float32), "presence": S, "factor_names": FACTORS, "groups": GROUPS}
    try:
        write_npz(path, arrays)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def draw_factors(
    n: int, presence: float = 0.5, seed: int | tuple[int, ...] = 0
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """
    Draw what is in each of `n` faces and where.

    S (n, 18) bool says whether each factor's attribute is present: each of the four with this probability,
    independently. V (n, 18) are the factors, N(0, 0.5^2), in `FACTORS` order; drawn even where the attribute is absent.
    """
    if n < 1:
        raise UsageError(f"the number of faces must be at least 1, got {n}")
    if not 0 <= presence <= 1:
        raise UsageError(f"presence is a probability and must lie in [0, 1], got {presence}")
    if np.min(seed) < 0:
        raise UsageError(f"the seed must not be negative, got {seed}")
    rng = np.random.default_rng(seed)
    V = rng.normal(0, FACTOR_STD, (n, len(FACTORS)))
    gates = rng.random((n, len(ATTRIBUTES))) < presence
    widths = [columns.stop - columns.start for columns in ATTRIBUTES.values()]
    return np.repeat(gates, widths, axis=1), V


def render(S: NDArray, V: NDArray) -> NDArray[np.uint8]:
    """Draw images (n, 32, 32) of zeros and ones from factors V (n, 18) and presence S (n, 18) of their attributes."""
    S, V = np.asarray(S, dtype=bool), np.asarray(V, dtype=np.float64)
    if S.shape != V.shape or S.ndim != 2 or S.shape[1] != len(FACTORS):
        raise UsageError(f"S and V must both have shape (n, {len(FACTORS)}), got {S.shape} and {V.shape}")
    if not np.isfinite(V).all():
        raise UsageError("V holds a factor that is NaN or infinite")
    images = np.empty((len(V), SIDE, SIDE), dtype=np.uint8)
    for start in range(0, len(V), _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = _render_chunk(S[part], V[part])
    return images


def _render_chunk(S: NDArray[np.bool_], V: NDArray[np.float64]) -> NDArray[np.bool_]:
    head = (_X - 16.5) ** 2 + (_Y - 16.5) ** 2 <= 10**2
    images = np.repeat(head, len(V), axis=0)
    # Later attributes draw over earlier ones: eyes and mouth cut holes in a bowtie, a hat covers the eyes.
    for name, mark, value in (
        ("bowtie", _bowtie, True),
        ("eyes", _eyes, False),
        ("mouth", _mouth, False),
        ("hat", _hat, True),
    ):
        columns = ATTRIBUTES[name]
        here = np.flatnonzero(S[:, columns.start])
        v = V[here, columns].T[:, :, None, None]  # (factors, n_here, 1, 1), so that factors unpack
        images[here] = images[here] | mark(v) if value else images[here] & ~mark(v)
    return images


def _round(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round half away from zero; `np.round` rounds halves to even."""
    return np.copysign(np.floor(np.abs(a) + 0.5), a)


def _within(a: NDArray, low: NDArray | int, high: NDArray | int) -> NDArray[np.bool_]:
    return (low <= a) & (a <= high)


def _eyes(v: NDArray[np.float64]) -> NDArray[np.bool_]:
    spread, dy, dr = v
    radius = np.maximum(2 + dr, 0)
    down = (_Y - (14 + dy)) ** 2
    left, right = ((_X - (16.5 + side * (4 + spread))) ** 2 for side in (-1, 1))
    return np.minimum(left, right) + down <= radius**2


def _mouth(v: NDArray[np.float64]) -> NDArray[np.bool_]:
    dw, dh, dx, dy, smile = v
    width, height, cx, cy = 4 + dw, 2 + dh, 16 + dx / 2, 22 + dy / 2
    left, right = _round(cx - width / 2), _round(cx + width / 2)
    hole = _within(_X, left, right) & _within(_Y, _round(cy - height / 2), _round(cy + height / 2))
    for out, bend in ((1, 1.0), (2, 1.4)):
        hole |= ((left - out == _X) | (right + out == _X)) & (_round(cy + bend * smile) == _Y)
    return hole


def _hat(v: NDArray[np.float64]) -> NDArray[np.bool_]:
    dx, dy, d_brim_w, d_brim_h, d_crown_w, d_crown_h = v
    cx, cy = 16.5 + dx, 6 + dy
    brim_w, brim_h, crown_w = 15 + 3 * d_brim_w, 2 + 2 * d_brim_h, 10 + 2 * d_crown_w
    brim_top, brim_bottom = _round(cy - brim_h / 2), _round(cy + brim_h / 2)
    # The original clips the crown's top at the image's edge; rows above it are never seen, so no need.
    crown_top = _round(brim_top - (2 + d_crown_h))
    brim = _within(_X, _round(cx - brim_w / 2), _round(cx + brim_w / 2)) & _within(_Y, brim_top, brim_bottom)
    crown = _within(_X, _round(cx - crown_w / 2), _round(cx + crown_w / 2)) & _within(_Y, crown_top, brim_top)
    return brim | crown


def _bowtie(v: NDArray[np.float64]) -> NDArray[np.bool_]:
    dx, dy, dw, dh = v[..., 0, 0]
    width, height = 12 + 3 * dw, 5 + 2 * dh
    left, top = _round(16.5 + dx / 2 - width / 2), _round(29 + dy - height / 2)
    marks = np.zeros((len(dx), SIDE, SIDE), dtype=bool)
    sizes = np.ceil(np.maximum([height, width], 0)).astype(int).T
    for i, (rows, columns) in enumerate(sizes):
        mask = _bowtie_mask(rows, columns)
        y, x = int(top[i]) - 1 + np.arange(len(mask)), int(left[i]) - 1 + np.arange(mask.shape[1])
        y_in, x_in = _within(y, 0, SIDE - 1), _within(x, 0, SIDE - 1)
        marks[i][np.ix_(y[y_in], x[x_in])] = mask[np.ix_(y_in, x_in)]
    return marks


@cache
def _bowtie_mask(rows: int, columns: int) -> NDArray[np.bool_]:
    """Resize the bowtie as MATLAB's imresize(..., 'bicubic') does, stretch it to [0, 1] and round."""
    drawing = np.array([[pixel == "#" for pixel in line] for line in _BOWTIE.split()], dtype=float)
    resized = _cubic(drawing.shape[0], rows) @ drawing @ _cubic(drawing.shape[1], columns).T
    if resized.size == 0 or np.ptp(resized) == 0:
        return np.zeros((rows, columns), dtype=bool)
    return (resized - resized.min()) / np.ptp(resized) >= 0.5


def _cubic(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Return the (n_out, n_in) matrix of bicubic resampling: a = -0.5, antialiased, symmetric edges."""
    scale = max(n_out, 1) / n_in
    squeeze = min(scale, 1.0)  # when shrinking, the kernel widens so that it averages
    centre = np.arange(1, n_out + 1) / scale + 0.5 * (1 - 1 / scale)  # in 1-based input pixels
    reach = 4 / squeeze
    source = np.floor(centre - reach / 2)[:, None] + np.arange(int(np.ceil(reach)) + 2)
    t = squeeze * np.abs(centre[:, None] - source)
    inner, outer = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weight = np.where(t <= 1, inner, np.where(t <= 2, outer, 0))
    weight /= weight.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(n_in), np.arange(n_in)[::-1]])
    column = mirrored[(source.astype(int) - 1) % (2 * n_in)]
    matrix = np.zeros((n_out, n_in))
    np.add.at(matrix, (np.arange(n_out)[:, None], column), weight)
    return matrix
