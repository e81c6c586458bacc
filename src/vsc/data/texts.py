"""Examples that are pieces of texts, such as tokens: which piece of which text each is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsc.errors import UsageError

TEXTS, SPANS = "texts.txt", "spans.npy"
"""Files of a folder of .npy files: a text a line, and its number, first and last-plus-one character for each row."""
SPAN = "span"
"""The name of the extra that holds the latter."""
BESIDE = 60
"""Characters of a text that are shown on each side."""


class Context(NamedTuple):
    """A piece of a text, and what stands before and after it."""

    before: str
    piece: str
    after: str


def pack(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return texts as one array, a line each."""
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def unpack(array: Any) -> tuple[str, ...]:
    """Return the texts of such an array."""
    array = np.asarray(array)
    try:
        if array.ndim != 1 or array.dtype != np.uint8:
            raise ValueError(f"type {array.dtype} and shape {array.shape}")
        return tuple(array.tobytes().decode().removesuffix("\n").split("\n"))
    except ValueError as error:
        raise UsageError(f"texts must be UTF-8, a text a line ({error})") from error


def beside(folder: Path) -> Mapping[str, Path]:
    """Return the two files of a folder that say which texts its rows come from; both are there, or neither."""
    found = {name: folder / name for name in (TEXTS, SPANS) if (folder / name).is_file()}
    if len(found) == 1:
        one, other = (TEXTS, SPANS) if TEXTS in found else (SPANS, TEXTS)
        raise UsageError(f"{one} is there without {other}; reports need both to show texts, or remove it")
    return found


def check(texts: Sequence[str], spans: NDArray[Any], what: str = SPAN) -> None:
    """Refuse spans (N, 3) that are no pieces of the texts."""
    if spans.ndim != 2 or spans.shape[1] != 3 or spans.dtype.kind not in "iu":
        raise UsageError(f"{what} has type {spans.dtype} and shape {spans.shape}; each row is text, start and stop")
    text, start, stop = spans.T
    inside = (text >= 0) & (text < len(texts))
    lengths = np.array([len(one) for one in texts])
    inside &= (start >= 0) & (start <= stop) & (stop <= lengths[np.where(inside, text, 0)])
    if not inside.all():
        i = int(np.argmin(inside))
        raise UsageError(f"{what} {i} is {spans[i].tolist()}, which is no piece of one of the {len(texts)} texts")


def context(texts: Sequence[str], span: Sequence[int], width: int = BESIDE) -> Context:
    """Return a piece of a text with up to `width` characters on each side."""
    number, start, stop = (int(value) for value in span)
    text = texts[number]
    before = ("…" if start > width else "") + text[max(0, start - width) : start]
    return Context(before, text[start:stop], text[stop : stop + width] + ("…" if len(text) > stop + width else ""))
