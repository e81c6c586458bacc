"""The files that codes are written to, by what their names end in."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc import files
from vsc.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

    from vsc.model import Codes

MOST = 2**31
"""Bytes that hard codes may take where a file is written from a whole table."""


class Part(NamedTuple):
    """Codes of some examples, (n, J), and where their gates are open, counted over all n J."""

    codes: "Codes"
    on: NDArray[np.int64]


Writer = Callable[[Path, Iterable[Part], Mapping[str, Any]], None]


def write(out: Path, parts: Iterable["Codes"], known: Mapping[str, Any]) -> NDArray[np.int64]:
    """
    Write codes, as `encode_parts` yields them, and what is known of the N examples.

    That is `row`, their numbers or names (N,), and maybe `label`. Returns for how many each latent is on, (J,).
    """
    count = np.zeros(1, np.int64)

    def counted() -> Iterator[Part]:
        nonlocal count
        for codes in parts:
            on, J = np.flatnonzero(codes.gamma.numpy() > 0.5), codes.gamma.shape[1]
            count = count + np.bincount(on % J, minlength=J)
            yield Part(codes, on)

    WRITERS[suffix(out)](out, counted(), known)
    return count


def suffix(out: Path) -> str:
    """Return which key of `WRITERS` the name of a file ends in, or refuse it."""
    found = [kind for kind in WRITERS if out.name.endswith(kind)]
    if not found:
        raise UsageError(f"out must end in {', '.join(WRITERS)}, not {str(out)!r}")
    return max(found, key=len)


def _npz(out: Path, parts: Iterable[Part], known: Mapping[str, Any]) -> None:
    rows = known["row"] if known["row"].dtype.kind in "iu" else known["row"].astype(str)
    arrays = (one._asdict() | {"hard": one.hard} for one, _ in parts)
    files.write_npz(out, {"rows": rows} | ({"y": known["label"]} if "label" in known else {}), arrays)


def _sparse(out: Path, parts: Iterable[Part], known: Mapping[str, Any]) -> None:
    # to pack it takes a tenth of the time of encoding, and a third off the file
    files.write_npz(out, {"format": np.array(b"csr")}, _csr(parts), packed=False)


def _csr(parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    """Yield what a matrix of SciPy's consists of: of each row the columns that are not zero, and their values."""
    yield {"indptr": np.zeros(1, np.int64)}
    rows, J, stored = 0, 0, 0
    for codes, on in parts:
        n, J = codes.mu.shape
        values = codes.mu.numpy().reshape(-1)[on]
        on, values = on[values != 0], values[values != 0]
        yield {"data": values, "indices": (on % J).astype(np.int32)}
        yield {"indptr": stored + np.cumsum(np.bincount(on // J, minlength=n))}
        rows, stored = rows + n, stored + len(on)
    yield {"shape": np.array([rows, J])}


def _csv(out: Path, parts: Iterable[Part], known: Mapping[str, Any]) -> None:
    with files.whole(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for frame in _frames(parts, known):
            frame.to_csv(file, index=False, header=not file.tell())


def _parquet(out: Path, parts: Iterable[Part], known: Mapping[str, Any]) -> None:
    from pandas import concat

    try:
        with files.whole(out) as temporary:
            concat(_frames(parts, known, MOST), ignore_index=True).to_parquet(temporary, index=False)
    except ImportError as error:
        raise UsageError('to write .parquet files: pip install "variational-sparse-coding[tables]"') from error


def _frames(parts: Iterable[Part], known: Mapping[str, Any], most: int | None = None) -> Iterator["DataFrame"]:
    """Yield hard codes as tables, a column for each latent; refuse more than `most` bytes of them."""
    from pandas import DataFrame

    start = 0
    for codes, _ in parts:
        hard = codes.hard.numpy()
        if most and (size := len(known["row"]) * hard[0].nbytes) > most:
            raise UsageError(f"{size / 2**30:.1f} GiB of codes are too many for one table: let --out end in .csr.npz")
        about = {name: value[start : start + len(hard)] for name, value in known.items()}
        yield DataFrame(about | {f"latent_{j}": hard[:, j] for j in range(hard.shape[1])})
        start += len(hard)


WRITERS: dict[str, Writer] = {".npz": _npz, ".csr.npz": _sparse, ".csv": _csv, ".parquet": _parquet}
