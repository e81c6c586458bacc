"""CelebA: faces with 40 attributes, cut to 32 x 32 once and kept in a file that is mapped into memory."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsc.data.converted import converted, opened
from vsc.data.download import found
from vsc.data.split import Source, Split
from vsc.errors import UsageError
from vsc.files import undamaged

SIDE = 32
SIZE = (178, 218)  # width and height of the aligned images
CROP = (15, 35, 163, 183)  # left, top, right, bottom: the 148 x 148 pixels in the centre
LABEL = "Smiling"
PAPER = (100_000, 20_000)  # training and test images of the paper
ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)

_FOLDERS = ("celeba", "CelebA", ".")
_PARTITION = ("list_eval_partition.txt", "Eval/list_eval_partition.txt")
_MARKS = ("list_attr_celeba.txt", "Anno/list_attr_celeba.txt")
_IMAGES = ("img_align_celeba", "Img/img_align_celeba")
_HOME = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"

_M = 3 * SIDE * SIDE


def load(root: Path) -> Source:
    """
    Load CelebA in its official partition: 162 770 training, 19 867 validation and 19 962 test images (3, 32, 32).

    `root/celeba`, `root/CelebA` or `root` itself holds `list_eval_partition.txt`, `list_attr_celeba.txt` and the folder
    `img_align_celeba`, side by side or as published in `Eval`, `Anno` and `Img`. Nothing is downloaded: the files' home
    gives them to a browser alone.

    The first time, all images are converted: the 148 x 148 pixels in the centre of the aligned 178 x 218 are shrunk to
    32 x 32 (bilinear, with antialiasing). The result lies beside the lists as `celeba-32-*.npy` (622 MB), in the order
    of the partition, and is mapped into memory, so that a load takes seconds and next to no memory; writing to the
    images never reaches the file. A conversion that was interrupted goes on where it stopped. The name holds a checksum
    of the list of images: with another list there will be another file. Delete it if you change the images themselves.

    `y` is whether the face smiles, the attribute nearest to half (48 %) among those that are plain at this size;
    `factors` (N, 40) are all `ATTRIBUTES`, 0 or 1. Source: Z. Liu, P. Luo, X. Wang and X. Tang, "Deep Learning Face
    Attributes in the Wild", ICCV 2015.
    """
    whole, sizes = _load(root)
    train, valid, test = np.cumsum(sizes).tolist()  # neighbours in the file, so that each part is a view
    return _source(whole, slice(train), slice(train, valid), slice(valid, test))


def load_paper(root: Path) -> Source:
    """
    Load CelebA in the paper's sizes: the first 100 000 images to train on, the next 20 000 to test on; else as `load`.

    Which images to take is our choice. All of these are in the official training part; the official validation part is
    the validation part here too, whole. Source: F. Tonolini, B. S. Jensen and R. Murray-Smith, "Variational Sparse
    Coding", UAI 2020.
    """
    whole, (train, valid, _) = _load(root)
    end = sum(PAPER)
    if train < end:
        raise UsageError(f"celeba-paper takes the first {end} training images, and the list has {train}; take celeba")
    return _source(whole, slice(PAPER[0]), slice(train, train + valid), slice(PAPER[0], end))


def _load(root: Path) -> tuple[Split, list[int]]:
    """Return all images in the order of the official partition, and the sizes of its three parts."""
    folder, partition, marks, images = _find(root)
    names, sizes = _partition(partition)
    factors = torch.from_numpy(_marks(marks, names))
    y = factors[:, ATTRIBUTES.index(LABEL)].to(torch.int64)
    return Split(_images(names, images, folder), y, factors.to(torch.float32)), sizes


def _source(whole: Split, *parts: slice) -> Source:
    train, valid, test = map(whole.take, parts)
    about = (3, SIDE, SIDE), (f"not {LABEL.lower()}", LABEL.lower())
    return Source(train, test, *about, high=255.0, valid=valid if len(valid) else None, factor_names=ATTRIBUTES)


def _find(root: Path) -> tuple[Path, Path, Path, Path]:
    """Return the first folder that holds anything of CelebA, and where partition, attributes and images are in it."""
    for folder in (root / name for name in _FOLDERS):
        kinds = (_PARTITION, _MARKS, _IMAGES)
        places = [next((folder / name for name in names if (folder / name).exists()), None) for names in kinds]
        if any(places):
            partition, marks, images = places
            if partition is None or marks is None:
                lacking = _PARTITION[0] if partition is None else _MARKS[0]
                raise UsageError(f"{folder}: {lacking} is missing; get it from {_HOME} (folder Eval or Anno)")
            return folder, partition, marks, images or folder / _IMAGES[0]
    raise UsageError(
        f"no CelebA in {root}; get list_eval_partition.txt, list_attr_celeba.txt and img_align_celeba.zip from {_HOME} "
        f"and put them, the images unzipped, into {root / _FOLDERS[0]}"
    )


def _partition(path: Path) -> tuple[list[str], list[int]]:
    """Return the images' names, those of each part together, and the sizes of the three parts."""
    parts: tuple[list[str], ...] = [], [], []
    for number, line in enumerate(_lines(path), 1):
        match line.split():
            case [name, ("0" | "1" | "2") as part]:
                parts[int(part)].append(name)
            case _:
                raise UsageError(f"{path}: line {number} is not an image's name and 0, 1 or 2; get the file again")
    names = [name for part in parts for name in part]
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: it names an image twice; get the file again")
    for part, what in ((0, "training"), (2, "test")):
        if not parts[part]:
            raise UsageError(f"{path}: it puts no image into the {what} set (part {part})")
    return names, [len(part) for part in parts]


def _marks(path: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """Return the attributes of each image, shape (N, 40), zeros and ones."""
    lines = _lines(path)
    columns = lines[1].split() if len(lines) > 1 else []
    if sorted(columns) != sorted(ATTRIBUTES):
        raise UsageError(f"{path}: its second line does not name the 40 attributes; get the file again")
    if lines[0].strip() != str(len(lines) - 2):
        raise UsageError(
            f"{path}: {len(lines) - 2} images where its first line promises {lines[0].strip()}; get the file again"
        )
    known: dict[str, bytes] = {}
    for number, line in enumerate(lines[2:], 3):
        name, *marks = line.split()
        if len(marks) != len(columns) or not {"1", "-1"}.issuperset(marks):
            raise UsageError(f"{path}: line {number} is not a name and 40 times 1 or -1; get the file again")
        known[name] = bytes(mark == "1" for mark in marks)
    without = [name for name in names if name not in known]
    if without:
        raise UsageError(f"{path}: {len(without)} of the images have no attributes, the first {without[0]}")
    table = np.frombuffer(b"".join(known[name] for name in names), np.uint8).reshape(len(names), -1)
    return table[:, [columns.index(name) for name in ATTRIBUTES]]


def _lines(path: Path) -> list[str]:
    with undamaged(f"{path}: ", "get the file again"):
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _images(names: Sequence[str], images: Path, folder: Path) -> Tensor:
    """Return the converted images, (N, 3072) uint8, mapped into memory; convert them if that was not done."""
    about = "\n".join([*names, f"{SIZE} {CROP} {SIDE} bilinear"])
    cache = folder / f"celeba-{SIDE}-{hashlib.sha256(about.encode()).hexdigest()[:12]}.npy"
    if not cache.is_file() and not images.is_dir():
        zipped = found(folder, ["."], [f"{name}.zip" for name in _IMAGES])
        todo = f"unzip {zipped}" if zipped else f"get {_IMAGES[0]}.zip from {_HOME} and unzip it there"
        raise UsageError(f"{images}: this folder of {len(names)} images is missing; {todo}")
    if not cache.is_file() and (missing := sorted(set(names) - set(os.listdir(images)))):
        raise UsageError(f"{images}: {len(missing)} of {len(names)} images are missing, the first {missing[0]}")
    return torch.from_numpy(converted(cache, [images / name for name in names], (_M,), _picture, "CelebA"))


def _picture(path: Path) -> bytes:
    """Return one image, 3 x 32 x 32 bytes."""
    from PIL import Image

    with opened(path) as image:
        if image.size != SIZE:
            width, height = image.size
            raise UsageError(f"{path}: {width} x {height} pixels, not 178 x 218; use the aligned images")
        small = image.convert("RGB").crop(CROP).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1).tobytes()
