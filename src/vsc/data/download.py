"""One file from the first of several mirrors that has it whole; the only place that uses the network."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from vsc.errors import RunError, UsageError, short


def data_folder(root: str | Path | None) -> Path:
    """Return the folder `root`, by default the environment's VSC_DATA, else the user's cache."""
    if chosen := root or os.environ.get("VSC_DATA"):
        return expanded(chosen)
    import pooch

    return Path(pooch.os_cache("vsc"))


def expanded(name: str | Path) -> Path:
    """Return a path whose `~` is written out."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{short(name)}: there is no such user; write the folder out") from error


def found(root: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """Return the first file of one of these `names` in one of the `folders` of `root`."""
    paths = (root / folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


def fetch(file: str, checksum: str, mirrors: Sequence[str], folder: Path, timeout: float = 30.0) -> Path:
    """
    Download a file from the first mirror (address of a folder) that has it, unless it is in `folder` already.

    It appears under its name only once its MD5 checksum, or SHA-256 after `sha256:`, is right, so a download that broke
    is never taken for whole. A mirror that does not answer for `timeout` seconds is given up; after the last, a
    RunError says where to put the file by hand.
    """
    import pooch
    from tqdm import tqdm

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise RunError(f"cannot make the folder {folder} ({problem}); set another root or VSC_DATA") from error
    known = checksum if ":" in checksum else f"md5:{checksum}"
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{quote(file, safe='+')}"
        # disable=None: no bar where standard error is not a terminal. total=1: pooch sets the true one, but
        # tests the bar with `if` before that, which tqdm refuses without a total.
        bar: Any = tqdm(desc=file, total=1, unit="B", unit_scale=True, disable=None)
        with bar:
            get: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=timeout)
            try:
                return Path(pooch.retrieve(url, known, fname=file, path=folder, downloader=get))
            except (OSError, ValueError) as error:  # requests raises OSErrors, pooch a ValueError
                failures.append(f"{urlsplit(url).netloc}: {_reason(error)}")
    raise RunError(f"could not download {file} ({'; '.join(failures)}); put it into {folder} by hand")


def _reason(error: Exception) -> str:
    """Say in a few words why a mirror failed; the exceptions' own texts are long and nested."""
    from requests import exceptions

    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    words = {
        exceptions.Timeout: "no answer in time",
        exceptions.ChunkedEncodingError: "connection cut",
        exceptions.ConnectionError: "no connection",
        OSError: getattr(error, "strerror", None) or type(error).__name__,  # a RequestException is one, too
    }
    return next((said for kind, said in words.items() if isinstance(error, kind)), "wrong checksum")
