"""Opening what lies on disk: what must be there, and what is said where it is not."""

import json

import numpy as np
import pytest

from vsc.data import load
from vsc.data.shards import RAW, FileShard, MappedShard, open_npy, open_raw
from vsc.errors import RunError, UsageError

X = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


def test_a_plain_file_is_not_mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    shard = open_npy(tmp_path / "x.npy", "x")
    assert isinstance(shard, FileShard)
    assert (shard.shape, shard.dtype) == (X.shape, X.dtype)
    assert np.array_equal(shard.read(1, 3), X[1:3])
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    shard = open_npy(tmp_path / "x.npy", "x")
    assert isinstance(shard, MappedShard)
    assert np.array_equal(shard.read(1, 3), X[1:3])


def test_what_was_read_is_a_copy(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    shard = open_npy(tmp_path / "x.npy", "x")
    shard.read(0, 4)[:] = 0
    assert np.array_equal(shard.read(0, 4), X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-3], "x is damaged"),
        (lambda raw: raw[:9], "x is damaged"),
        (lambda raw: b"hello" + raw, "not a .npy file inside"),
        (lambda raw: b"", "not a .npy file inside"),
    ],
)
def test_damaged_files(tmp_path, change, message):
    path = tmp_path / "x.npy"
    np.save(path, X)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UsageError, match=message) as caught:
        open_npy(path, "x")
    assert "\n" not in str(caught.value)


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([print, 1], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="never unpickled"):
        open_npy(tmp_path / "x.npy", "x")


def raw(tmp_path, about, x=X):
    x.tofile(tmp_path / "x.bin")
    if about is not None:
        (tmp_path / "x.json").write_text(about if isinstance(about, str) else json.dumps(about))
    return tmp_path / "x.bin"


def test_a_raw_file_is_what_the_file_beside_it_says(tmp_path):
    shard = open_raw(raw(tmp_path, {"dtype": "int16", "shape": [4, 3, 2]}), "x")
    assert np.array_equal(shard.read(2, 4), X[2:])


def test_the_example_of_the_file_beside_it_is_one(tmp_path):
    about = json.loads(RAW)
    x = np.zeros(about["shape"], about["dtype"])
    assert open_raw(raw(tmp_path, RAW, x), "x").shape == x.shape


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (None, r'a raw file needs x\.json beside it, such as \{"dtype": "uint8", "shape": \[60000, 28, 28\]\}'),
        ("hello", r"x\.json must be like"),
        ([1, 2], r"x\.json must be like"),
        ({"dtype": "int16"}, r"x\.json must be like"),
        ({"dtype": "number", "shape": [4, 6]}, r"x\.json must be like"),
        ({"dtype": "O", "shape": [4, 6]}, r"x\.json must be like"),
        ({"dtype": "int16", "shape": [4, -6]}, r"x\.json must be like"),
        ({"dtype": "int16", "shape": [4, 6.0]}, r"x\.json must be like"),
        ({"dtype": "int16", "shape": 24}, r"x\.json must be like"),
        ({"dtype": "int16", "shape": [24]}, "one row per example"),
        ({"dtype": "int16", "shape": [4, 7]}, r"has 48 bytes, but x\.json promises 56: int16 of shape \(4, 7\)"),
    ],
)
def test_a_raw_file_without_a_fitting_description(tmp_path, about, message):
    path = raw(tmp_path, about)
    with pytest.raises(UsageError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_shrinks_between_the_look_and_the_read(tmp_path, monkeypatch):
    shard = open_raw(raw(tmp_path, {"dtype": "int16", "shape": [4, 3, 2]}), "x")
    (tmp_path / "x.bin").write_bytes(b"1234")
    monkeypatch.setattr("vsc.data.shards.check_size", lambda *_: None)
    with pytest.raises(RunError, match=r"x\.bin: cannot be read"):
        shard.read(0, 4)


@pytest.mark.parametrize("labels", [b"", b"\x93NUMPY", b"hello"])
def test_damaged_labels(tmp_path, labels):
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "y.npy").write_bytes(labels)
    with pytest.raises(UsageError, match=r"y\.npy is damaged"):
        load(tmp_path)
