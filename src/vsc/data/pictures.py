"""A folder of pictures: sub-folders are classes; all are brought to one size, once, and kept as CelebA is."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsc.data.asked import Asked, Size
from vsc.data.converted import converted, mapped, opened, refuse
from vsc.data.download import data_folder
from vsc.data.npz import PARTS
from vsc.errors import UsageError, listed, short
from vsc.files import read_json, write_json

if TYPE_CHECKING:
    from PIL import Image

LARGEST = 2**18
"""Values of a picture beyond which a size must be asked for."""
GREY = ("1", "L", "LA", "La", "I")
"""Pillow's modes without colour, but for those of 16 bits, I;16 and its kin."""
TAG, TURNED = 0x0112, (5, 6, 7, 8)
"""EXIF's tag of which side is up, and its values that exchange width and height."""


def parse_size(size: Size) -> tuple[int, int] | None:
    """Return the width and height that are asked for."""
    if size is None:
        return None
    try:
        sides = [int(side) for side in (str(size).lower().split("x") if isinstance(size, int | str) else size)]
        width, height = sides if len(sides) > 1 else sides * 2
        if min(width, height) >= 1 and max(width, height) < 2**15:
            return width, height
    except (TypeError, ValueError):
        pass
    raise UsageError(f"data.size is in pixels, as in 64 or 64x48 (width x height), not {short(size)}")


def is_picture(path: Path) -> bool:
    """Whether Pillow opens files with such a name; hidden ones are other programs'."""
    from PIL import Image

    Image.init()
    return not path.name.startswith(".") and Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN


def load(
    folder: Path, asked: Asked
) -> tuple[np.memmap, tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """
    Convert the pictures of a `folder` as `asked`, or find them converted.

    Returned are they (N, C, H, W), uint8, mapped into memory; the part of each (N,), as in `vsc.data.npz.ENDS`,
    neighbours in the file; its class, "" where there are none; its file; and notes on what was done.

    Pictures of another shape are cut to that of the size around their centre, then shrunk or enlarged (bilinear, with
    antialiasing). They stand as EXIF says; transparent ones are laid on white, of 16 bits the upper 8 are kept, of
    several frames the first; all are colour if one is. The name of the converted file stands for the pictures' names,
    sizes and times, and for what is asked.
    """
    size, channels = parse_size(asked.size), None
    if len(asked.shape) == 3:
        channels, height, width = asked.shape
        size = width, height
    there = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    found = _sorted_out(folder, [path for path in there if is_picture(path)])
    if not found:
        raise UsageError("a folder without .npy files and without pictures; give a file, or a folder of either")
    ends, classes, paths = zip(*found, strict=True)
    files = tuple(path.relative_to(folder).as_posix() for path in paths)
    file = data_folder(asked.root) / "pictures" / _named(folder, files, size, channels)
    beside = file.with_suffix(".json")
    if not (file.is_file() and beside.is_file()):
        shape, notes = _looked_at(paths, size, channels)
        converted(file, paths, shape, partial(_pixels, shape=shape), folder.name)
        write_json(beside, notes)
    left = (f"{len(there) - len(paths)} files that are no pictures by their names are left out",)
    return mapped(file), ends, classes, files, (*read_json(beside), *left[: len(there) > len(paths)])


def _named(folder: Path, files: Sequence[str], size: tuple[int, int] | None, channels: int | None) -> str:
    """Name what the files of a folder become after all that it depends on."""
    stats = [(folder / name).stat() for name in files]
    about = [f"{one.st_size} {one.st_mtime_ns} {name}" for one, name in zip(stats, files, strict=True)]
    key = hashlib.sha256("\n".join([f"1 {size} {channels}", *about]).encode(errors="surrogateescape"))
    form = "x".join(map(str, size)) if size else "own"
    return f"{folder.resolve().name}-{form}-{key.hexdigest()[:12]}.npy"


def _sorted_out(folder: Path, paths: Sequence[Path]) -> list[tuple[str, str, Path]]:
    """Return part, class and path of each picture, neighbours those of a part: train first."""
    within = [path.relative_to(folder).parts[:-1] for path in paths]
    tops = {top[0]: PARTS.get(top[0].lower()) for top in within if top}
    known = set(tops.values()) - {None}
    parted = "" in known and (len(known) > 1 or None not in tops.values())  # else a class may be called train
    if parted and (None in tops.values() or () in within):
        odd = [name for name, end in tops.items() if end is None] or ["pictures"]
        raise UsageError(f"beside its train and test folders lie {listed(odd)}; move them into one of these, or away")
    found = []
    for path, inside in zip(paths, within, strict=True):
        end, inside = (tops[inside[0]] or "", inside[1:]) if parted else ("", inside)
        found.append((end, inside[0] if inside else "", path))
    classes = {name for _, name, _ in found}
    if "" in classes and len(classes) > 1:
        loose = [path for _, name, path in found if not name]
        raise UsageError(
            f"{len(loose)} pictures, as {loose[0].relative_to(folder)}, are in no class, and others are in the "
            f"sub-folders of classes {listed(sorted(classes - {''}), 3)}; move them into one"
        )
    return sorted(found)


def _looked_at(
    paths: Sequence[Path], size: tuple[int, int] | None, channels: int | None
) -> tuple[tuple[int, int, int], list[str]]:
    """Read the pictures' headers: return the shape (C, H, W) of all, and notes on what will be done to them."""
    sizes, kinds, bad = Counter(), Counter(), []
    for path in paths:
        try:
            with opened(path) as image:
                turn = _orientation(image)
                across = turn in TURNED and image.format != "TIFF"  # whose size is told as it will be
                sizes[image.size[::-1] if across else image.size] += 1
                if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
                    raise UsageError(f"{path}: 32 bits, whose range is not known; save it with 8 or 16 bits a channel")
                kinds["grey"] += not (colour := not _is_grey(image))
                kinds.update(colour=colour, turned=turn > 1, deep=_is_deep(image), clear=_is_clear(image))
                kinds["frames"] += bool(getattr(image, "is_animated", False))
        except UsageError as error:
            bad.append(error)
    refuse(bad, len(paths))
    W, H = size or next(iter(sizes))
    if not size and len(sizes) > 1:
        low, top = min(sizes, key=lambda one: one[0] * one[1]), max(sizes, key=lambda one: one[0] * one[1])
        raise UsageError(
            f"pictures of {len(sizes)} sizes, from {low[0]} x {low[1]} to {top[0]} x {top[1]}; say what to bring them "
            "to, as in --size 64 or --size 64x48 (width x height; in Python size=64)"
        )
    C = channels or (3 if kinds["colour"] else 1)
    if not size and C * W * H > LARGEST:
        raise UsageError(
            f"pictures of {W} x {H} have {C * W * H} values each, too many to train on; say what to shrink them to, as "
            "in --size 64 (in Python size=64)"
        )
    small = sum(count for (w, h), count in sizes.items() if w < W or h < H)
    fitted = f"pictures are cut to the shape of {W} x {H} around their centre and brought to that size"
    told = {
        fitted + (f", {small} of them enlarged" if small else ""): any(one != (W, H) for one in sizes),
        f"{kinds['grey']} grey pictures among those of colour": C == 3 and kinds["grey"],
        f"{kinds['turned']} are turned upright, as EXIF says": kinds["turned"],
        f"{kinds['deep']} have 16 bits a channel, of which the upper 8 are kept": kinds["deep"],
        f"{kinds['clear']} may have transparent parts, which are laid on white": kinds["clear"],
        f"{kinds['frames']} have several frames, of which the first is taken": kinds["frames"],
    }
    return (C, H, W), [line for line, holds in told.items() if holds]


def _orientation(image: "Image.Image") -> int:
    """Return EXIF's number for which side is up, 1 where nothing is said; of a PNG file, what stands in its header."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # to look further is to decode the whole picture
    return image.getexif().get(TAG, 1)


def _is_grey(image: "Image.Image") -> bool:
    return image.mode in GREY or _is_deep(image)


def _is_deep(image: "Image.Image") -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _is_clear(image: "Image.Image") -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _pixels(path: Path, shape: tuple[int, int, int]) -> bytes:
    """Return one picture as C x H x W bytes."""
    from PIL import Image, ImageOps

    C, H, W = shape
    with opened(path) as image:
        image.draft(None, (2 * max(W, H), 2 * max(W, H)))  # large JPEGs are decoded at a half, a quarter or an eighth
        image.load()  # which turns TIFF files already
        upright: Any = ImageOps.exif_transpose(image)
        if _is_deep(upright):
            upright = Image.fromarray((np.asarray(upright).astype(np.uint32) >> 8).astype(np.uint8))
        if _is_clear(upright):
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        flat = upright.convert("RGB" if C == 3 else "L")
        fitted = flat if flat.size == (W, H) else ImageOps.fit(flat, (W, H), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(H, W, C).transpose(2, 0, 1).tobytes()
