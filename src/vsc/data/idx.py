"""MNIST and Fashion-MNIST: our own reader of the IDX format, and where the files are found or fetched."""

import gzip
import hashlib
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vsc.data.checks import check_unpacked
from vsc.data.download import fetch, found
from vsc.data.split import Source, Split
from vsc.errors import UsageError
from vsc.files import undamaged

_UNSIGNED_BYTE = 0x08  # the type code of uint8, the only one that these data sets use
_AGAIN = "delete the file to have it downloaded again"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """
    Read one IDX file of unsigned bytes, plain or gzip-compressed (told by its content, not its name).

    Format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian uint32, then the
    values in C order (Y. LeCun, "The MNIST database of handwritten digits").
    """
    size = path.stat().st_size
    with undamaged(), path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        file: Any = gzip.GzipFile(fileobj=plain) if zipped else plain
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or not head[3]:
            raise UsageError("it does not begin with the header of an IDX file")
        if head[2] != _UNSIGNED_BYTE:
            raise UsageError(f"its values have type code 0x{head[2]:02x}, not 0x08 (unsigned bytes)")
        dimensions = file.read(4 * head[3])
        if len(dimensions) < 4 * head[3]:
            raise UsageError("it ends within the header")
        shape = struct.unpack(f">{head[3]}I", dimensions)
        promised = math.prod(shape)
        if not promised:
            raise UsageError(f"its header gives the empty shape {shape}")
        if zipped:
            check_unpacked(promised, size)
        # a bytearray because torch shares memory only with writable arrays
        values = bytearray(file.read((promised if zipped else min(promised, size)) + 1))
    if len(values) != promised:
        held = len(values) if len(values) < promised else "more"
        raise UsageError(f"it holds {held} values where its header {shape} promises {promised}")
    return np.frombuffer(values, np.uint8).reshape(shape)


class _Files(NamedTuple):
    """One data set in MNIST's layout: what it is called, where it may lie, where it may come from."""

    title: str
    folders: tuple[str, ...]  # under the root, searched in this order; downloads go to the first
    mirrors: tuple[str, ...]
    md5: dict[str, str]  # of the .gz files as published
    test_labels_md5: str  # of the 10 000 test labels as bytes, to tell the two data sets apart
    classes: tuple[str, ...]


_MNIST = _Files(
    title="MNIST",
    folders=("MNIST/raw", "mnist", "."),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "http://yann.lecun.com/exdb/mnist",
    ),
    md5={
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    test_labels_md5="073c3904dfbd3e141ff8aa01cfde6b15",
    classes=tuple(str(digit) for digit in range(10)),
)

_FASHION = _Files(
    title="Fashion-MNIST",
    folders=("FashionMNIST/raw", "fashion-mnist", "."),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    md5={
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    test_labels_md5="8dea97a4e78c1bd1b5a6e8efbb870b6e",
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)


def mnist(root: Path) -> Source:
    """
    Load MNIST, 60 000 training and 10 000 test images (1, 28, 28) of handwritten digits, 0 to 255, with labels.

    Files are looked for in `root/MNIST/raw`, `root/mnist` and `root` itself, plain or .gz, `-idx3` or `.idx3`; what is
    missing is downloaded to the first. Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning
    applied to document recognition", 1998.
    """
    return _load(_MNIST, root, other=_FASHION)


def fashion_mnist(root: Path) -> Source:
    """
    Load Fashion-MNIST, images of clothes, as `mnist` does, from `root/FashionMNIST/raw` or `root/fashion-mnist`.

    Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST", arXiv:1708.07747, 2017.
    """
    return _load(_FASHION, root, other=_MNIST)


def _load(files: _Files, root: Path, other: _Files) -> Source:
    train, test = (_part(files, root, part, other) for part in ("train", "t10k"))
    return Source(train, test, shape=(1, 28, 28), classes=files.classes, high=255.0)


def _part(files: _Files, root: Path, part: str, other: _Files) -> Split:
    (x, x_path), (y, y_path) = (_read(files, root, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    if x.shape[1:] != (28, 28):
        raise UsageError(f"{x_path}: its images have shape {x.shape[1:]}, not (28, 28); {_AGAIN}")
    if y.shape != (len(x),):
        raise UsageError(f"{y_path}: labels of shape {y.shape} for {len(x)} images in {x_path}; delete the wrong one")
    if y.max() > 9:
        raise UsageError(f"{y_path}: it holds the label {y.max()}; labels are 0 to 9; {_AGAIN}")
    # The two data sets use the same file names, so a wrong root would pass one off as the other.
    if hashlib.md5(y.tobytes(), usedforsecurity=False).hexdigest() == other.test_labels_md5:
        raise UsageError(f"{y_path}: these are the labels of {other.title}, not of {files.title}; set another root")
    return Split(torch.from_numpy(x).flatten(1), torch.from_numpy(y).long())


def _read(files: _Files, root: Path, stem: str) -> tuple[NDArray[np.uint8], Path]:
    """Find or download a file, and read it."""
    names = [one + end for one in (stem, stem.replace("-idx", ".idx")) for end in ("", ".gz")]
    path = found(root, files.folders, names)
    path = path or fetch(f"{stem}.gz", files.md5[stem], files.mirrors, root / files.folders[0])
    try:
        return read_idx(path), path
    except UsageError as error:
        raise UsageError(f"{path}: {error}; {_AGAIN}") from error
