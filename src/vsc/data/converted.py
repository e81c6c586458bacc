"""Pictures, decoded and shrunk once into a .npy file that is mapped into memory from then on."""

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsc.errors import RunError, UsageError
from vsc.files import undamaged

if TYPE_CHECKING:
    from PIL import Image

BLOCK = 1000
"""Pictures between two moments at which all that was written is known to be on the disk."""


@contextmanager
def opened(path: Path) -> "Iterator[Image.Image]":
    """Open a picture; whatever decoders raise inside the block is a UsageError that names it."""
    from PIL import Image, UnidentifiedImageError

    with undamaged(f"{path}: ", "get it again, or take it out"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes, and about metadata that are not read
        # by its name, Pillow would map it into memory, and turn TIFF files wrongly
        with path.open("rb") as file:
            try:
                image = Image.open(file)
            except UnidentifiedImageError:
                raise UsageError(f"{path}: damaged (not an image); get it again, or take it out") from None
            with image:
                yield image


def converted(
    cache: Path, paths: Sequence[Path], shape: tuple[int, ...], read: Callable[[Path], bytes], what: str
) -> np.memmap:
    """
    Return the file `cache`, (N, *shape) uint8, mapped into memory; writing to the array never reaches the file.

    Where it is not there yet, `read` gives each picture's bytes, in the order of `paths`, and `what` names them beside
    the bar. A conversion that was interrupted goes on where it stopped, one process at a time; pictures that cannot be
    read are all told, by the first and their number.
    """
    from filelock import FileLock

    if not cache.is_file():
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            lock = cache.with_suffix(".lock")
            with FileLock(lock):
                if not cache.is_file():  # another process may have done it while this one waited
                    _convert(cache, paths, shape, read, what)
            # only after success: whoever waited for this file, or makes a new one, finds the converted images there
            lock.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(
                f"{cache}: cannot be written ({error.strerror or error}); what is done is kept; make room there, or "
                "name another folder (--data-root, or the environment's VSC_DATA)"
            ) from error
    array = mapped(cache)
    if array.shape != (len(paths), *shape) or array.dtype != np.uint8:
        raise UsageError(f"{cache}: it holds {array.dtype} of shape {array.shape}, not the converted images; delete it")
    return array


def mapped(cache: Path) -> np.memmap:
    """Map a converted file into memory."""
    with undamaged(f"{cache}: ", "delete it"):
        # copy on write: torch shares memory with writable arrays only, and the file stays as it is
        return np.load(cache, mmap_mode="c", allow_pickle=False)


def refuse(bad: Sequence[UsageError], of: int) -> None:
    """Tell the first of the pictures that cannot be taken, and how many there are."""
    if bad:
        raise UsageError(f"{bad[0]}" + (f" (the first of {len(bad)} such among {of})" if len(bad) > 1 else ""))


def _convert(cache: Path, paths: Sequence[Path], shape: tuple[int, ...], read: Callable[[Path], bytes], what: str):
    """
    Write the .npy file, picture by picture, under another name; give it its own name when it is whole and on the disk.

    The file only ever grows, so what it holds says how far an earlier attempt came.
    """
    from tqdm import tqdm

    start: Any = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *shape)}
    np.lib.format.write_array_header_1_0(start, about)
    header, size = start.getvalue(), int(np.prod(shape))
    unfinished = cache.with_suffix(".part")
    bad: list[UsageError] = []
    with unfinished.open("a+b") as file:
        file.seek(0)
        done = 0
        if file.read(len(header)) == header:
            rows = (unfinished.stat().st_size - len(header)) // size
            # after a power cut the last block may be there in size but not in content
            done = max(min(rows, len(paths)) - 1, 0) // BLOCK * BLOCK
            file.truncate(len(header) + done * size)
        else:
            file.truncate(0)
            file.write(header)
        # disable=None: no bar where standard error is not a terminal
        bar = tqdm(paths[done:], f"{what}, once", initial=done, total=len(paths), unit=" images", disable=None)
        for i, path in enumerate(bar, done + 1):
            try:
                pixels = read(path)
            except UsageError as error:  # the others are looked at all the same: all bad ones are told at once
                bad.append(error)
                continue
            if bad:
                continue
            file.write(pixels)
            if i % BLOCK == 0 or i == len(paths):
                file.flush()
                os.fsync(file.fileno())
    refuse(bad, len(paths))
    unfinished.replace(cache)
