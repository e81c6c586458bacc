"""Rows that are pieces of texts: which piece, from a folder of shards to each part and to an .npz file."""

import numpy as np
import pytest

from vsc.data import load, npz, texts
from vsc.errors import UsageError

TEXTS = ["the dog barks", "zwölf Katzen", "a"]


@pytest.fixture
def folder(tmp_path):
    """Sixty words, a row each, that knows its text and its place there: 0 is `the`, 1 `dog`, ..., 5 `a`."""
    pieces = [
        (i, text.index(word), text.index(word) + len(word)) for i, text in enumerate(TEXTS) for word in text.split()
    ]
    x = np.arange(60)[:, None] % 6 + np.zeros(2, np.float16)
    np.save(tmp_path / "part-0.npy", x[:40].astype(np.float16))
    np.save(tmp_path / "part-1.npy", x[40:].astype(np.float16))
    np.save(tmp_path / "spans.npy", np.array(pieces * 10, np.int32))
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("in_memory", [2**30, 0])
def test_each_row_keeps_its_piece_wherever_it_goes(folder, in_memory, monkeypatch):
    monkeypatch.setattr("vsc.data.reading.IN_MEMORY", in_memory)
    words = [word for text in TEXTS for word in text.split()]
    data = load(folder)
    if in_memory:
        npz.write(folder.parent / "all.npz", data)
    for one in (data, load(folder.parent / "all.npz")) if in_memory else (data,):
        assert one.texts == tuple(TEXTS)
        for part in (one.train, one.valid, one.test):
            found = [texts.context(one.texts, span).piece for span in part.extras["span"]]
            assert found == [words[int(value)] for value in part.x[: len(part)][:, 0]]


def test_a_context_is_cut_where_it_is_long():
    assert texts.context(["one two three four"], (0, 4, 7), 3) == ("…ne ", "two", " th…")
    assert texts.context(["one two"], (0, 4, 7), 4) == ("one ", "two", "")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("spans.npy", None, "texts.txt is there without spans.npy"),
        ("texts.txt", None, "spans.npy is there without texts.txt"),
        ("spans.npy", np.zeros((60, 2), int), "each row is text, start and stop"),
        ("spans.npy", np.zeros((59, 3), int), "one per example"),
        ("spans.npy", np.array([[2, 0, 1]] * 59 + [[2, 0, 2]]), r"is \[2, 0, 2\], which is no piece of one of the 3"),
        ("spans.npy", np.array([[3, 0, 0]] * 60), r"is \[3, 0, 0\], which is no piece"),
        ("spans.npy", np.array([[0, 2, 1]] * 60), r"is \[0, 2, 1\], which is no piece"),
        ("texts.txt", b"\xff", "texts must be UTF-8"),
    ],
)
def test_pieces_that_are_none_are_refused(folder, file, content, said):
    (folder / file).unlink()
    if isinstance(content, bytes):
        (folder / file).write_bytes(content)
    elif content is not None:
        np.save(folder / file, content)
    with pytest.raises(UsageError, match=said):
        load(folder)


def test_shards_of_another_scale_are_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 200, 4)).astype(np.float32)
    for i, (part, scale) in enumerate(zip(x, (1, 2, 5), strict=True)):
        np.save(tmp_path / f"part-{i}.npy", scale * part)
    with pytest.raises(UsageError, match=r"root mean square \S+ in part-2\.npy and \S+ in part-0\.npy; collect all"):
        load(tmp_path)
    np.save(tmp_path / "part-2.npy", 2 * x[2])
    assert len(load(tmp_path).train) == 432
