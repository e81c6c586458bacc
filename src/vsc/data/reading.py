"""What is in a file, by its kind: arrays under the names of `vsc.data.npz`, nothing checked yet."""

import math
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc.data import npz, pictures, texts
from vsc.data.asked import Asked, check_asked
from vsc.data.checks import check_finite, check_shape, check_unpacked
from vsc.data.idx import read_idx
from vsc.data.stored import FileShard, Stored
from vsc.data.table import Table, matrix, read_table
from vsc.errors import UsageError
from vsc.fields import Field, mixed, names
from vsc.files import DATA_FILES, TABLES, undamaged

IN_MEMORY, AT_ONCE = 2**30, 2**26
"""Bytes up to which the arrays in .npy files are read into memory, and if once only; larger ones stay on disk."""


class Found(NamedTuple):
    """
    What a user gives, unchecked.

    `x` and whatever else is known, under the names that `vsc.data.npz.write` uses; names of columns, if they are known;
    notes on how it was read, where that is not plain; and what the columns of a table are, the names of its rows,
    and the line of the file that the first stands in, where it is text.
    """

    arrays: dict[str, Any]
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    rows: NDArray[Any] | None = None
    first: int = 0


def read(path: Path, asked: Asked, once: bool = False) -> Found:
    """
    Read a file, or leave it on disk if it is larger than `IN_MEMORY`; `asked` is how it is to be read.

    What is read `once`, in its order, gains nothing from memory: more than `AT_ONCE` stays on disk.
    """
    most = min(IN_MEMORY, AT_ONCE) if once else IN_MEMORY
    if path.is_dir() and not any(path.glob("*.npy")):
        return _pictures(path, asked)
    check_asked(asked, "this is none", ["size"])
    if path.is_dir():
        check_asked(asked, "this is a folder of arrays")
        return _folder(path, most)
    if not path.is_file():
        raise UsageError("no such file or folder")
    name = path.name.lower()
    if pictures.is_picture(path):
        raise UsageError("one picture; give the folder of all of them")
    if (kind := next((kind for kind in DATA_FILES if name.endswith(kind)), None)) is None:
        raise UsageError(f"unknown kind of file; known names end in {', '.join(DATA_FILES)}. Else numpy.save the array")
    if path.stat().st_size == 0:
        raise UsageError("the file is empty")
    if kind in TABLES:
        return tabled(read_table(path, asked))
    if kind == ".npz" and (table := _sparse(path, asked)) is not None:
        return tabled(table)
    check_asked(asked, "this file is none")
    if kind == ".npy" and path.stat().st_size > most:
        return Found({"x": together([_opened(path)], most)})
    return READERS[kind.removesuffix(".gz")](path)


def tabled(table: Table) -> Found:
    """Return what a table holds under the names that all arrays have."""
    arrays: dict[str, Any] = {"x": table.x} | ({} if table.y is None else {"y": table.y})
    arrays |= {npz.EXTRA + name: column for name, column in table.apart.items()}
    features = names(table.fields) if table.named or mixed(table.fields) else ()
    return Found(arrays, features, table.notes, table.fields, table.rows, table.first)


def _sparse(path: Path, asked: Asked) -> Table | None:
    """Read a matrix that SciPy's `save_npz` wrote; None if the file holds something else."""
    from scipy.sparse import load_npz

    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if not {"format.npy", "shape.npy", "data.npy"} <= set(archive.namelist()):
            return None
    load_numpy(path, b"PK")  # refuses what is damaged, or unpacks to too much
    with undamaged():  # indices that point outside, a format that SciPy does not know
        x = load_npz(path)
        return matrix(x, [str(i + 1) for i in range(x.shape[1])], asked)._replace(named=False)


def _npz(path: Path) -> Found:
    arrays, notes = npz.renamed(load_numpy(path, b"PK"))
    return Found(npz.flattened(arrays), npz.names(arrays, "features"), notes)


def _idx(path: Path) -> Found:
    """Read images, with the labels and the test part that lie beside them under MNIST's names."""
    arrays: dict[str, Any] = {"x": read_idx(path)}
    labels = {"y": re.sub("images(.)idx3", r"labels\1idx1", path.name)}
    test = {what + "_test": name.replace("train", "t10k") for what, name in ({"x": path.name} | labels).items()}
    for what, name in (labels | test).items():
        if name != path.name and (beside := path.with_name(name)).is_file():
            arrays[what] = read_idx(beside)
    return Found(arrays)


READERS: dict[str, Callable[[Path], Found]] = {
    ".npy": lambda path: Found({"x": load_numpy(path, b"\x93NUMPY")}),
    ".npz": _npz,
    "-ubyte": _idx,
}


def _folder(folder: Path, most: int) -> Found:
    """Read the .npy files of a folder one after another: part-2 before part-10."""
    paths = [path for path in folder.glob("*.npy") if path.name not in ("y.npy", texts.SPANS)]
    if not paths:
        raise UsageError("a folder without .npy files; give a .npy, .npz or .csv file, or a folder of .npy files")
    paths.sort(
        key=lambda path: [
            (len(d := part.lstrip("0")), d) if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)
        ]
    )
    shards = [_opened(path) for path in paths]
    found = {"x": together(shards, most)}
    if (labels := folder / "y.npy").is_file():
        found["y"] = load_numpy(labels, b"\x93NUMPY", "y.npy: ")
    if known := texts.beside(folder):
        found["texts"] = np.fromfile(known[texts.TEXTS], np.uint8)
        found[npz.EXTRA + texts.SPAN] = load_numpy(known[texts.SPANS], b"\x93NUMPY", f"{texts.SPANS}: ")
    order = f"the rows of {len(paths)} files follow each other: {paths[0].name}" + ", ..." * (len(paths) > 2)
    return Found(found, notes=(f"{order}, {paths[-1].name}",))


def _pictures(folder: Path, asked: Asked) -> Found:
    """Read a folder of pictures, as far as they fit into memory."""
    check_asked(asked, "the classes of pictures are the folders they are in")
    x, ends, classes, files, notes = pictures.load(folder, asked)
    arrays: dict[str, Any] = {"shape": np.array(x.shape[1:]), "high": 255}
    for end in dict.fromkeys(ends):
        rows = slice(ends.index(end), ends.index(end) + ends.count(end))
        flat: Any = x[rows].reshape(ends.count(end), -1)
        arrays["x" + end] = flat if end else together([flat], IN_MEMORY)
        if len(set(classes)) > 1 and asked.label is None:
            arrays["y" + end] = np.array(classes[rows])
    return Found(arrays, notes=notes, rows=np.array(files))


def _opened(path: Path) -> np.memmap:
    if not path.stat().st_size:
        raise UsageError(f"{path.name} is empty")
    return load_numpy(path, b"\x93NUMPY", f"{path.name}: ", mmap_mode="r")


DRIFT, LOOKED_AT = 3.0, 100
"""How many times as large as another's the values of a shard may be, and the rows of each that are looked at."""


def _check_drift(shards: list[FileShard]) -> None:
    """Refuse shards of real numbers that are plainly in other units than the others, as those of another layer are."""
    sizes = []
    for shard in shards:
        if shard.dtype.kind == "f" and (n := shard.shape[0]) >= LOOKED_AT:
            rows = [shard.read(i, i + 1) for i in np.linspace(0, n - 1, LOOKED_AT).astype(int)]
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused elsewhere
                size = np.sqrt(np.mean(np.square(np.concatenate(rows), dtype=np.float64)))
            sizes.append((float(size), shard.name))
    (low, small), (top, large) = (min(sizes), max(sizes)) if sizes else ((0.0, ""), (0.0, ""))
    if 0 < DRIFT * low < top < math.inf:
        raise UsageError(
            f"the scale drifts: root mean square {top:.3g} in {large} and {low:.3g} in {small}; collect all "
            "from one layer, or divide each by its own"
        )


def together(arrays: list[np.memmap], most: int) -> NDArray[Any] | Stored:
    """Return memory-mapped arrays as one, which is left on disk if it has more than `most` bytes."""
    shards = [FileShard(array, Path(str(array.filename)).name if len(arrays) > 1 else "x") for array in arrays]
    for shard in shards:
        check_shape(shard.shape, shard.name, fewest=0)
    stored = Stored(shards)
    _check_drift(shards)
    if sum(math.prod(shard.shape) * shard.dtype.itemsize for shard in shards) > most:
        return stored
    parts = [shard.read(0, shard.shape[0]) for shard in shards]
    if len(shards) > 1:
        for part, shard in zip(parts, shards, strict=True):
            check_finite(part, shard.name)  # here, while it is known which file a row is of
    return np.concatenate(parts)


def load_numpy(path: Path, magic: bytes, about: str = "", only: Sequence[str] = (), **how: Any) -> Any:
    """
    Load a .npy or .npz file that begins with `magic`; never unpickle. An array, or a dict of those of a .npz file.

    Of a .npz file, `only` some arrays may be wanted. Complaints begin with `about`; all else goes to `numpy.load`.
    """
    with path.open("rb") as file:
        # Without this check np.load takes any other content for a pickle, and says so in its message.
        if file.read(len(magic)) != magic:
            raise UsageError(f"{about}not a {path.suffix} file inside; save it again with NumPy")
    with undamaged(about), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that Python 2 wrote, which are read all the same
        if magic == b"PK":
            with zipfile.ZipFile(path) as archive:
                check_unpacked(sum(one.file_size for one in archive.infolist()), path.stat().st_size)
        try:
            loaded = np.load(path, allow_pickle=False, **how)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                arrays = {key: loaded[key] for key in loaded.files if key in only or not only}
                return {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}
        except ValueError as error:
            if "Object arrays" not in str(error) and not ("object" in str(error).lower() and how):
                raise
            raise UsageError(
                f"{about or 'the file '}holds Python objects, which are never unpickled; save a plain numeric array"
            ) from error
