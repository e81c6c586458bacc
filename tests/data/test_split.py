"""What a data set tells of itself: its content, its rows' places and its columns' order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vsc.data import Dataset, Split, from_arrays
from vsc.errors import UsageError

N, M = 60, 4
X = np.random.default_rng(0).normal(size=(N, M)).astype(np.float32)
Y = np.arange(N) % 3
NAMES = ("a", "b", "c", "d")


def made(x=X, y=Y, **changed):
    return from_arrays(x, y, **{"features": NAMES} | changed)


def test_content_is_that_of_the_values():
    assert made().content == made(X.copy(), Y.tolist(), name="other").content
    assert len(made().content) == 16
    assert int(made().content, 16) >= 0


def _edited(array, place):
    array = array.copy()
    array[place] += 1
    return array


CHANGES = {
    "one value": lambda: made(_edited(X, (7, 2))),
    "one label": lambda: made(y=_edited(Y, 7)),
    "no labels": lambda: made(y=None),
    "a row more": lambda: made(np.vstack([X, X[:1]]), np.append(Y, 0)),
    "columns swapped": lambda: made(X[:, [1, 0, 2, 3]]),
    "columns renamed": lambda: made(features=("a", "b", "c", "e")),
    "another split": lambda: made(seed=1),
    "factors": lambda: replace(made(), train=replace(made().train, factors=torch.zeros(43, 2))),
    "presence": lambda: replace(made(), train=replace(made().train, presence=torch.zeros(43, 2).bool())),
    "shape": lambda: replace(made(), shape=(2, 2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_content_changes_with_what_is_in_it(change):
    assert CHANGES[change]().content != made().content


@pytest.fixture
def on_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def test_content_of_examples_on_disk(on_disk, tmp_path):
    known = made(on_disk).content
    assert made(on_disk).content == known
    np.save(tmp_path / "x2.npy", _edited(X, (7, 2)))
    assert made(np.load(tmp_path / "x2.npy", mmap_mode="r")).content != known


def test_content_of_what_is_large_looks_at_few_blocks(monkeypatch):
    known = made().content
    monkeypatch.setattr("vsc.data.split.HASHED", 10)
    assert made().content != known  # another recipe, but still one that sees the values of so small an array
    assert made().content != made(_edited(X, (7, 2))).content


@pytest.mark.parametrize("disk", [False, True])
def test_index_is_the_row_in_what_was_given(disk, request):
    data = made(request.getfixturevalue("on_disk") if disk else X)
    parts = (data.train, data.valid, data.test)
    for part in parts:
        np.testing.assert_array_equal(part.x[:], X[part.index])
        np.testing.assert_array_equal(part.y, Y[part.index])
    assert sorted(torch.cat([part.index for part in parts]).tolist()) == list(range(N))
    chosen = data.test.take(torch.tensor([3, 1]))
    assert chosen.index.tolist() == data.test.index[[3, 1]].tolist()


def test_index_of_a_test_part_of_its_own_counts_its_own_rows():
    data = from_arrays(X[:40], x_test=X[40:])
    assert data.test.index.tolist() == list(range(20))
    assert sorted(torch.cat([data.train.index, data.valid.index]).tolist()) == list(range(40))


@pytest.mark.parametrize("disk", [False, True])
def test_aligned_moves_columns_by_name(disk, request):
    data = made(request.getfixturevalue("on_disk") if disk else X)
    moved = data.aligned(("d", "b", "a", "c"))
    assert moved.features == ("d", "b", "a", "c")
    for name in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(moved, name).x[:], getattr(data, name).x[:][:, [3, 1, 0, 2]])
    again = moved.aligned(NAMES)
    np.testing.assert_array_equal(again.train.x[:], data.train.x[:])
    assert again.content == data.content


def test_aligned_leaves_what_it_cannot_name():
    data = made()
    assert data.aligned(NAMES) is data
    assert data.aligned(()) is data
    plain = made(features=())
    assert plain.aligned(NAMES) is plain


@pytest.mark.parametrize("columns", [("a", "b", "c", "e"), ("a", "b", "c"), (*NAMES, "e")])
def test_aligned_refuses_other_columns(columns):
    with pytest.raises(UsageError, match=r"'d'|'e'"):
        made().aligned(columns)


def test_a_data_set_and_its_parts_say_what_they_are_in_a_line():
    x, y = torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64)
    part = Split(x, y, extras={"age": y})
    data = Dataset("mine", (4,), part, part.take(slice(0, 0)), part, classes=tuple("abcd"))
    text = "<Dataset 'mine': 5 train, 0 valid, 5 test; examples of shape (4,); 4 classes: 'a', 'b', 'c' and 1 more>"
    assert repr(data) == text
    assert repr(part) == "<Split: x (5, 4) torch.float32, y, age>"
    assert repr(Split(x)) == "<Split: x (5, 4) torch.float32>"
