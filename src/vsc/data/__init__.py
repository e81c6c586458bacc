"""Data sets: each by its name, or the user's own from a file or from arrays."""

import os
from collections.abc import Callable
from pathlib import Path

from vsc.data import celeba, digits, dsprites, har, idx, smiley
from vsc.data.arrays import READERS, from_arrays, from_file, read_rows
from vsc.data.download import cache_folder
from vsc.data.pytorch import from_torch
from vsc.data.split import Dataset, Source, Split, hold_out
from vsc.errors import UsageError, choose

__all__ = ["DATASETS", "Dataset", "Source", "Split", "from_arrays", "from_torch", "load", "read_rows"]

# name -> loader, which is given the folder for downloaded data
DATASETS: dict[str, Callable[[Path], Source]] = {
    "digits": digits.load,
    "smiley": smiley.load,
    "mnist": idx.mnist,
    "fashion-mnist": idx.fashion_mnist,
    "har": har.features,
    "har-signals": har.signals,
    "celeba": celeba.load,
    "celeba-paper": celeba.load_paper,
    "dsprites": dsprites.load,
}


def load(name: str | Path, root: str | Path | None = None, valid_fraction: float = 0.1, seed: int = 0) -> Dataset:
    """
    Load a data set.

    Parameters
    ----------
    name : str or pathlib.Path
        A name in `DATASETS`, or the path of a .npy, .npz, .csv, .bin or .raw file or of a folder of .npy files (see
        `vsc.data.arrays.from_file`).
    root : str or pathlib.Path, optional
        Where downloaded data are looked for and kept, and a file that is not there as named. By default the
        environment variable VSC_DATA, else the user's cache folder.
    valid_fraction : float
        Share of the training set that is held out for validation, in [0, 1); 0 leaves `valid` empty. CelebA has
        a validation part of its own, which is taken whatever the share, unless it is 0.
    seed : int
        Seed of the validation part. The test part never depends on it.

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
    if str(name) in DATASETS:
        return hold_out(DATASETS[str(name)](_root(root)), str(name), valid_fraction, seed)
    path = Path(name).expanduser()
    if root and not path.exists() and not path.is_absolute() and (Path(root).expanduser() / path).exists():
        path = Path(root).expanduser() / path
    looks_like_path = path.suffix.lower() in READERS or path.name != str(name)
    if path.exists() or looks_like_path:
        return from_file(path, valid_fraction, seed)
    try:
        choose(DATASETS, str(name), "data set")
    except UsageError as error:
        raise UsageError(f"{error} (the path of a .npy, .npz or .csv file will do as well)") from None
    raise AssertionError("a registered name was handled above")


def _root(root: str | Path | None) -> Path:
    chosen = root or os.environ.get("VSC_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()
