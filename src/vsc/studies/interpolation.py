"""From one code to another: single elements, the straight path and the path of gates (ICLR figure 5, UAI figure 7)."""

import numpy as np
import torch
from torch import Tensor

from vsc.model import Autoencoder
from vsc.model.sampling import Path, decode, interpolate, largest_changes
from vsc.plots.pictures import Case, Change, Strip, alteration, altered
from vsc.studies import models
from vsc.studies.base import Ask, Finding, Group, Study, Table
from vsc.studies.nearest import Known, class_name, known, nearest, rms

STEPS, ALONE, SHOWN = 11, 2, 13
PAIR = ("Shirt", "T-shirt/top")
"""Classes of the source's figure; of data without them, the two whose mean images are closest."""


def choose_pair(ask: Ask, model: Autoencoder) -> tuple[int, int]:
    """
    Choose two test images of similar classes, each the one whose reconstruction is nearest to its class's mean.

    The first and the second image, where there are no classes.
    """
    test, classes = ask.data.test, ask.data.classes
    if test.y is None or len(test.y.unique()) < 2:
        return 0, 1
    x = model.scaler(test.x)
    there = [int(label) for label in test.y.unique()]
    means = torch.stack([x[test.y == label].mean(0) for label in there])
    if set(PAIR) <= set(classes) and {classes.index(name) for name in PAIR} <= set(there):
        pair = [there.index(classes.index(name)) for name in PAIR]
    else:
        apart = torch.cdist(means, means) + torch.eye(len(means)) * 1e9
        pair = sorted(divmod(int(apart.argmin()), len(means)))
    first, second = (_typical(model, x, test.y, there[i], means[i]) for i in pair)
    return first, second


@torch.no_grad()
def _typical(model: Autoencoder, x: Tensor, y: Tensor, label: int, mean: Tensor) -> int:
    own = torch.nonzero(y == label).flatten()[:1000]
    pictures = model.decode(model.codes(x[own]).hard)
    return int(own[(rms(pictures - mean) + rms(pictures - x[own])).argmin()])


def draw(ask: Ask, groups: list[Group]) -> Finding:
    """Draw single elements of the way between two codes, and both ways."""
    group, test = groups[0], ask.data.test
    model = group.model()
    pair = choose_pair(ask, model)
    ends = test.x[list(pair)]
    straight, gates = (interpolate(model, ends[0], ends[1], STEPS, kind) for kind in ("continuous", "discrete"))
    codes = straight.z[[0, -1]]
    inputs, pictures = model.scaler(test.x[list(pair)]).numpy(), decode(model, codes)
    names = _names(ask, pair)
    training = known(ask, model)
    cases, rows, first = [], [], []
    length = float(np.square(codes[1] - codes[0]).sum()) or 1.0
    for a, b in ((0, 1), (1, 0)):
        found = largest_changes(codes[a], codes[b], ALONE)
        images = decode(model, found.z)
        changes = []
        for k, j in enumerate(found.latent):
            before, after = float(codes[a][j]), float(codes[b][j])
            changes.append(Change(alteration(int(j), before, after), found.z[k], images[k]))
            share = (after - before) ** 2 / length
            change = float(rms(images[k] - pictures[a]))
            rows.append((f"{names[a]} towards {names[b]}", int(j), before, after, share, change))
            rows[-1] += _near(ask, images[k], training)
            first += [share] if a == 0 else []
        both = Change(f"all that differ: the code of {names[b]}", codes[b], pictures[b])
        cases.append(Case(f"{names[a]}\ntowards\n{names[b]}", inputs[a], codes[a], pictures[a], [*changes, both]))
        rows.append((f"{names[a]} towards {names[b]}", "all", None, None, 1.0, float(rms(pictures[b] - pictures[a]))))
        rows[-1] += _near(ask, pictures[b], training)
    strips = {
        "straight\npath (slab)": Strip(straight.x, [f"{t:.1f}" for t in np.linspace(0, 1, STEPS)]),
        "one latent\nat a time\n(spike path)": _gates(gates),
    }
    columns = ("way", "latent", "before", "after", "share of the way", "change (RMS)", "nearest class")
    words = _words(group, names, codes, (straight, gates), sum(first))
    alt = "Codes with single elements altered towards another, and two rows of images between them."
    table = Table(columns, rows + _lengths(straight, gates))
    return Finding(altered(cases, ask.data.shape, strips), alt, table, words)


def _words(group: Group, names: list[str], codes: np.ndarray, paths: tuple[Path, Path], share: float) -> list[str]:
    straight, gates = paths
    on = codes != 0
    off = float((~on.any(0)).mean())
    moved = int(np.count_nonzero(codes[0] != codes[1]))
    direct = float(rms(straight.x[-1] - straight.x[0]))
    shared, first, second = int(on.all(0).sum()), int(on[0].sum()), int(on[1].sum())
    jump = _steps(gates).max() / (direct or 1.0) if moved else 0.0
    largest = f"latent {_last(gates, int(_steps(gates).argmax()))}" if moved else "none"
    return [
        f"From {names[0]} to {names[1]}: {first} and {second} latents are on, {shared} of them in both; the "
        f"interpolation vector has {moved} non-zero elements of {codes.shape[1]}, and {off:.0%} of the latents are "
        "zero throughout.",
        f"Its {ALONE} largest elements are {share:.0%} of its squared length.",
        f"In pictures, the straight path is {_steps(straight).sum() / (direct or 1.0):.2f} times as long as the "
        f"direct distance of its ends ({direct:.3f} RMS per pixel), the path of one latent at a time "
        f"{_steps(gates).sum() / (direct or 1.0):.2f} times; its largest single step, {largest}, is {jump:.0%} of "
        "that distance.",
        "Whether a single element has a name is for the eye to judge.",
    ]


def _steps(path: Path) -> np.ndarray:
    """Return the RMS change of each step."""
    return rms(np.diff(path.x, axis=0))


def _gates(path: Path) -> Strip:
    """Label each picture of a discrete path by what was done last; leave pictures out where there are too many."""
    labels = ["start", *(_last(path, k) for k in range(len(path.z) - 1))]
    kept = np.unique(np.linspace(0, len(labels) - 1, min(SHOWN, len(labels))).round().astype(int))
    return Strip(path.x[kept], [labels[k] for k in kept])


def _last(path: Path, k: int) -> str:
    """Say what the k-th step of a discrete path does."""
    before, after = path.z[k], path.z[k + 1]
    j = int(np.flatnonzero(before != after)[0])
    return f"{j} on" if before[j] == 0 else f"{j} off" if after[j] == 0 else f"{j} moved"


def _lengths(straight: Path, gates: Path) -> list[tuple]:
    return [
        (f"length of the {name} path", None, None, None, None, float(_steps(path).sum()), None)
        for name, path in (("straight", straight), ("discrete", gates))
    ]


def _near(ask: Ask, picture: np.ndarray, training: Known) -> tuple[str | None]:
    label = nearest(torch.from_numpy(picture[None]), training).label
    return (None if label is None else class_name(ask, int(label[0])),)


def _names(ask: Ask, pair: tuple[int, int]) -> list[str]:
    y = ask.data.test.y
    found = [f"image {i}" if y is None else class_name(ask, int(y[i])) for i in pair]
    return found if found[0] != found[1] else [f"{name} {i}" for name, i in zip(found, pair, strict=True)]


STUDY = Study(
    title="From one code to another",
    source="ICLR figure 5, UAI figure 7",
    claim=(
        "Interpolation vectors between sparse codes are sparse too: altering their largest elements alone adds or "
        "takes away single features, such as the sleeves and the collar between a shirt and a T-shirt."
    ),
    minutes=2,
    rows=models.many,
    draw=draw,
    needs=("images",),
    data="fashion-mnist",
)
