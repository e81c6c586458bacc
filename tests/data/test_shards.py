"""Opening what lies on disk: what must be there, and what is said where it is not."""

import numpy as np
import pytest

from vsc.data import load
from vsc.data.stored import FileShard
from vsc.errors import RunError, UsageError

X = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
VIEWS = {
    "whole": lambda x: x,
    "rows": lambda x: x[1:3],
    "rows of rows": lambda x: x[1:][1:],
    "every other row": lambda x: x[::2],
    "columns": lambda x: x[:, :, :1],
    "transposed": lambda x: x.T,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("order", [np.ascontiguousarray, np.asfortranarray])
def test_a_shard_reads_what_the_view_holds(tmp_path, view, order):
    np.save(tmp_path / "x.npy", order(X))
    given, expected = VIEWS[view](np.load(tmp_path / "x.npy", mmap_mode="r")), VIEWS[view](X)
    shard = FileShard(given, "x")
    assert (shard.shape, shard.dtype) == (expected.shape, X.dtype)
    read = shard.read(0, len(expected))
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(shard.read(1, 2), expected[1:2])
    read[:] = 0  # a copy
    np.testing.assert_array_equal(shard.read(0, len(expected)), expected)


def test_a_file_that_shrinks_between_the_look_and_the_read(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    shard = FileShard(np.load(tmp_path / "x.npy", mmap_mode="r"), "x")
    (tmp_path / "x.npy").write_bytes(b"1234")
    monkeypatch.setattr("vsc.data.stored.check_size", lambda *_: None)
    with pytest.raises(RunError, match=r"x\.npy: cannot be read"):
        shard.read(0, 4)


@pytest.mark.parametrize("count", [3, 12])
def test_the_files_of_a_folder_follow_each_other_in_natural_order(tmp_path, count):
    x = np.random.default_rng(0).normal(size=(count * 10, 3)).astype(np.float32)
    for i, part in enumerate(np.split(x, count)):
        np.save(tmp_path / f"part-{i}.npy", part)
    np.save(tmp_path / "y.npy", np.arange(len(x)) // 10)
    data = load(tmp_path)
    assert (data.train.y == data.train.index // 10).all()
    np.testing.assert_array_equal(data.train.x, x[data.train.index])
    assert f"{count} files follow each other: part-0.npy, ..., part-{count - 1}.npy" in data.notes[0]


@pytest.mark.parametrize("limit", [2**30, 0], ids=["in memory", "on disk"])
def test_a_value_that_is_none_is_named_by_its_file_and_row(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("vsc.data.reading.IN_MEMORY", limit)
    parts = np.random.default_rng(0).normal(size=(3, 20, 4))
    parts[1, 7, 2] = np.nan
    for i, part in enumerate(parts):
        np.save(tmp_path / f"part-{i}.npy", part)
    with pytest.raises(UsageError, match=r"part-1\.npy holds .* the first at \[7, 2\]"):
        load(tmp_path)
