"""Files that appear whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vsc.errors import Busy

LOCK = ".lock"
"""The file in a folder that says who works there."""


_held: set[Path] = set()


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """
    Give a temporary name beside `path`; rename it to `path` if the block succeeds, remove it if not.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder is made if it is missing; what was there before is replaced.

    Yields
    ------
    Path
        Where to write, with the same suffix.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`, not the temporary name.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink()
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """
    Keep a folder for this process inside the block; the claim ends with the process, however that ends.

    Inside a claim, the same process may claim the folder again.

    Parameters
    ----------
    folder : Path or None
        Made if it is missing. None claims nothing.

    Raises
    ------
    Busy
        If another process has it.
    OSError
        If nothing can be written there.
    """
    if folder is None or folder.absolute() in _held or folder.is_file():  # a file is what the writer will stumble over
        yield
        return
    from filelock import FileLock, Timeout

    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(f"another process is at work in {folder}; wait for it, or choose another folder") from None
    _held.add(folder.absolute())
    try:
        yield
    finally:
        _held.discard(folder.absolute())
        with contextlib.suppress(OSError):  # before the release: whoever waits for the removed file sees that it is
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # what was made for the claim alone goes again
            for path in made:
                path.rmdir()


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_npz(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays (NumPy or torch) as a compressed .npz file, whole or not at all."""
    plain: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **plain)
