"""Data sets: each by its name, or the user's own from a file or from arrays."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vsc.data import celeba, digits, dsprites, har, idx, smiley, synth
from vsc.data.arrays import from_arrays, from_file, read_rows
from vsc.data.asked import Asked, Size, check_asked
from vsc.data.download import data_folder, expanded
from vsc.data.pytorch import from_torch
from vsc.data.split import Dataset, Source, Split, hold_out
from vsc.errors import UsageError, choose, short
from vsc.files import is_path

__all__ = ["DATASETS", "Dataset", "Source", "Split", "from_arrays", "from_torch", "load", "located", "read_rows"]

# name -> loader, which is given the folder for downloaded data
DATASETS: dict[str, Callable[[Path], Source]] = {
    "digits": digits.load,
    "smiley": smiley.load,
    "synth": synth.load,
    "synth-16k": synth.load_published,
    "mnist": idx.mnist,
    "fashion-mnist": idx.fashion_mnist,
    "har": har.features,
    "har-signals": har.signals,
    "celeba": celeba.load,
    "celeba-paper": celeba.load_paper,
    "dsprites": dsprites.load,
}


def load(
    name: str | Path,
    root: str | Path | None = None,
    valid_fraction: float = 0.1,
    seed: int = 0,
    label: str | None = None,
    drop: str | Sequence[str] | None = None,
    columns: str | Mapping[str, str] | None = None,
    size: Size = None,
) -> Dataset:
    """
    Load a data set.

    Parameters
    ----------
    name : str or pathlib.Path
        A name in `DATASETS`, or the path of a file whose name ends in one of `vsc.files.DATA_FILES`, or of a folder of
        .npy files or of pictures (`vsc.data.arrays.from_file`).
    root : str or pathlib.Path, optional
        Where downloaded data are looked for and kept, and a file that is not there as named. By default the
        environment variable VSC_DATA, else the user's cache folder.
    valid_fraction : float
        Share of the training set that is held out for validation, in [0, 1); 0 leaves `valid` empty. CelebA has
        a validation part of its own, which is taken whatever the share, unless it is 0.
    seed : int
        Seed of the validation part. The test part never depends on it.
    label : str, optional
        Name of the column that holds the classes of a table; `none` if there is none. By default the column called
        label, class, target or y (`vsc.data.table.read_table`).
    drop : sequence of str, or str, optional
        Columns of a table to leave out; as text, separated by commas.
    columns : mapping of str to str, or str, optional
        Likelihoods of a table's columns, where others are wanted (`from_arrays`).
    size : int, str or (int, int), optional
        What the pictures of a folder are brought to, in pixels: a side, "WIDTHxHEIGHT", or both as numbers. By default
        their own size, if they have the same. Converted pictures are kept in the folder `pictures` of `root`.

    Returns
    -------
    Dataset
        Values as stored; in memory, but for CelebA, whose images stay in a memory-mapped file, and for the training
        part of files larger than 1 GiB, which stays where it is (`vsc.data.stored.Stored`).

    Raises
    ------
    UsageError
        If there is no such data set or file, a file is damaged or unsuitable, or `valid_fraction` or `seed`
        is out of range.
    RunError
        If data that are missing cannot be downloaded.

    Examples
    --------
    >>> data = load("digits")
    >>> data.shape, len(data.train), len(data.valid), len(data.test)
    ((1, 8, 8), 1293, 144, 360)
    """
    if not isinstance(name, str | Path):
        raise UsageError("load_data takes a name or a path; vsc.from_arrays(x, y) takes arrays and data frames")
    wanted = Asked.of(label, drop, columns)._replace(size=size, root=root)
    if str(name) in DATASETS:
        check_asked(wanted, f"{name} has columns and labels of its own")
        check_asked(wanted, f"{name} has a size of its own", ["size"])
        return hold_out(DATASETS[str(name)](data_folder(root)), str(name), valid_fraction, seed)
    path = located(name, root)
    if not path.exists() and not is_path(str(name)):
        choose(DATASETS, str(name), "data set, file (.npy, .npz, .csv ...) or folder")  # which it is not
    return from_file(path, valid_fraction, seed, wanted)


def located(name: str | Path, root: str | Path | None = None) -> Path:
    """Say where a file of the user's lies: as named (`~` is a home folder), or, if it is not there, in `root`."""
    path = expanded(name)
    try:
        if root and not path.exists() and not path.is_absolute() and (expanded(root) / path).exists():
            return expanded(root) / path
        path.exists()
    except (OSError, ValueError) as error:
        raise UsageError(f"{short(name)}: no file can have this name") from error
    return path
