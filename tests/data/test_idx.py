import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from vsc.data import idx, load
from vsc.errors import UsageError

NAMES = {"x": "train-images-idx3-ubyte", "y": "train-labels-idx1-ubyte"}
TEST_NAMES = {"x": "t10k-images-idx3-ubyte", "y": "t10k-labels-idx1-ubyte"}


def encode(array, shape=None, code=8, zeros=b"\0\0"):
    shape = array.shape if shape is None else shape
    header = zeros + bytes([code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(np.uint8).tobytes()


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28)).astype(np.uint8)


def labels(n):
    return np.arange(n) % 10


def write_tree(folder, suffix="", n=20):
    """A whole small data set in MNIST's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (names, count) in enumerate([(NAMES, n), (TEST_NAMES, n // 2)]):
        for key, array in (("x", images(count, seed)), ("y", labels(count))):
            raw = encode(array)
            (folder / (names[key] + suffix)).write_bytes(gzip.compress(raw) if suffix else raw)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a test tried to download")

    monkeypatch.setattr(idx, "fetch", refuse)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_idx(tmp_path, pack):
    path = tmp_path / "file"
    path.write_bytes(
        pack(b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x01" + b"\0\0\0\x03" + bytes([1, 2, 3, 4, 5, 255]))
    )
    assert idx.read_idx(path).tolist() == [[[1, 2, 3]], [[4, 5, 255]]]


WHOLE = encode(images(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header"),
        (WHOLE[:10], "header"),
        (b"PK" + WHOLE[2:], "header"),
        (WHOLE[:-1], "holds 2351 values where its header .* promises 2352"),
        (WHOLE + b"\0", "holds more values"),
        (encode(images(3), shape=(2**32 - 1, 28, 28)), "promises"),
        (encode(images(3), shape=(0, 28, 28)), "empty shape"),
        (encode(images(3), code=0x0D), "type code 0x0d"),
        (encode(images(3), shape=(2, 7, 168))[:9], "within the header"),
        (gzip.compress(encode(images(3), shape=(2**31, 1, 1)), 9), "over 200 times its size"),
        (gzip.compress(WHOLE + b"\0"), "holds more values"),
        (gzip.compress(WHOLE)[:-20], "damaged"),
        (gzip.compress(WHOLE)[:30] + b"\xff\xff" + gzip.compress(WHOLE)[32:], "damaged"),
        (gzip.compress(WHOLE) + b"junk", "damaged"),
        (b"\x1f\x8b", "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        idx.read_idx(path)
    assert "\n" not in str(caught.value)


def test_unreadable_file(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        idx.read_idx(tmp_path)


def test_what_to_do_about_a_damaged_file_is_said(tmp_path):
    write_tree(tmp_path / "mnist")
    path = tmp_path / "mnist" / NAMES["x"]
    for content, message in ((WHOLE[:-1], "holds 2351"), (encode(labels(30)), "shape \\(\\), not")):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=message) as caught:
            load("mnist", tmp_path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "delete the file to have it downloaded again" in str(caught.value)


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_of_the_format_are_data_themselves(tmp_path, dotted, suffix):
    write_tree(tmp_path, suffix)
    if dotted:  # as some mirrors name them
        for path in tmp_path.iterdir():
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    name = NAMES["x"].replace("-idx", ".idx") if dotted else NAMES["x"]
    data, expected = load(tmp_path / (name + suffix)), load("mnist", tmp_path)
    assert (data.shape, data.high, data.classes) == ((1, 28, 28), 255, expected.classes)
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(data, part).x, getattr(expected, part).x)
        assert torch.equal(getattr(data, part).y, getattr(expected, part).y)
    for path in tmp_path.iterdir():
        if path.name != name + suffix:
            path.unlink()
    alone = load(tmp_path / (name + suffix))
    assert (alone.classes, len(alone.test)) == ((), 4)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "MNIST/raw"),
        ("mnist", "mnist"),
        ("mnist", "."),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "."),
    ],
)
def test_files_are_found(tmp_path, name, folder, suffix):
    write_tree(tmp_path / folder, suffix)
    data = load(name, root=tmp_path)
    assert (data.name, data.shape, data.high) == (name, (1, 28, 28), 255.0)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [18, 2, 10]
    assert (data.test.x.numpy().reshape(-1, 28, 28) == images(10, seed=1)).all()
    assert (data.test.y.numpy() == labels(10)).all()
    assert data.train.x.dtype == torch.uint8
    assert data.train.y.dtype == torch.int64


def test_root_from_the_environment(tmp_path, monkeypatch):
    write_tree(tmp_path / "MNIST" / "raw")
    monkeypatch.setenv("VSC_DATA", str(tmp_path))
    assert len(load("mnist").test) == 10


def test_only_missing_files_are_fetched(tmp_path, monkeypatch):
    write_tree(tmp_path / "mnist")
    missing = tmp_path / "mnist" / TEST_NAMES["y"]
    content = missing.read_bytes()
    missing.unlink()
    calls = []

    def fetch(file, md5, mirrors, folder):
        calls.append((file, md5, folder))
        folder.mkdir(parents=True)
        (folder / file).write_bytes(gzip.compress(content))
        return folder / file

    monkeypatch.setattr(idx, "fetch", fetch)
    assert len(load("mnist", root=tmp_path).test) == 10
    expected = "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", tmp_path / "MNIST" / "raw"
    assert calls == [expected]


def test_files_that_do_not_fit_together(tmp_path):
    write_tree(tmp_path)
    (tmp_path / NAMES["y"]).write_bytes(encode(labels(19)))
    with pytest.raises(UsageError, match=r"labels of shape \(19,\) for 20 images"):
        load("mnist", root=tmp_path)


def test_label_out_of_range(tmp_path):
    write_tree(tmp_path)
    (tmp_path / NAMES["y"]).write_bytes(encode(labels(20) + 1))
    with pytest.raises(UsageError, match="label 10"):
        load("mnist", root=tmp_path)


def test_images_of_another_size(tmp_path):
    write_tree(tmp_path)
    (tmp_path / NAMES["x"]).write_bytes(encode(np.zeros((20, 32, 32))))
    with pytest.raises(UsageError, match=r"shape \(32, 32\), not"):
        load("mnist", root=tmp_path)


# Published: class counts of the test sets, and checksums of the decompressed images.
REAL = [
    ("mnist", "MNIST/raw", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ("fashion-mnist", "FashionMNIST/raw", [1000] * 10),
]
IMAGES_MD5 = {
    "mnist": "2646ac647ad5339dbf082846283269ea",
    "fashion-mnist": "8181f5470baa50b63fa0f6fddb340f0a",
}


@pytest.mark.parametrize(("name", "folder", "counts"), REAL)
def test_real_files(find_data, name, folder, counts):
    root, _ = find_data(folder)
    data = load(name, root=root, valid_fraction=0.1)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [54_000, 6_000, 10_000]
    assert torch.bincount(data.test.y).tolist() == counts
    raw = encode(data.test.x.numpy().reshape(-1, 28, 28))
    assert hashlib.md5(raw, usedforsecurity=False).hexdigest() == IMAGES_MD5[name]
    assert len(data.classes) == 10


def test_classes_of_fashion_mnist():
    assert idx._FASHION.classes[:2] == ("T-shirt/top", "Trouser")
    assert idx._FASHION.classes[9] == "Ankle boot"


@pytest.mark.parametrize(("asked", "held"), [("mnist", "FashionMNIST/raw"), ("fashion-mnist", "MNIST/raw")])
def test_one_data_set_is_not_taken_for_the_other(find_data, asked, held):
    _, folder = find_data(held)
    with pytest.raises(UsageError, match="set another root"):
        load(asked, root=folder)
