import io
import itertools
import math
import zipfile

import numpy as np
import pytest
import torch

from vsc.data import dsprites, load
from vsc.errors import RunError, UsageError

# The whole grid of a smaller data set of the same kind: colour, shape, scale, orientation, x, y.
SIZES = (1, 3, 2, 4, 2, 2)
CLASSES = np.array(list(itertools.product(*map(range, SIZES))))
VALUES = np.stack([CLASSES[:, 0] + 1.0, CLASSES[:, 1] + 1.0, *(CLASSES[:, i] / SIZES[i] for i in range(2, 6))], axis=1)
N = math.prod(SIZES)


def images():
    """Each image tells its own number in its first row."""
    imgs = np.zeros((N, 64, 64), np.uint8)
    imgs[:, 0, :7] = (np.arange(N)[:, None] >> np.arange(7)) & 1
    return imgs


def arrays(**changed):
    metadata = np.array({"title": "dSprites"}, dtype=object)  # the published file holds such a pickle
    whole = {"metadata": metadata, "imgs": images(), "latents_classes": CLASSES, "latents_values": VALUES}
    return {name: array for name, array in (whole | changed).items() if array is not None}


def write(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    np.savez_compressed(path, **arrays(**changed))
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a test tried to download")

    monkeypatch.setattr(dsprites, "fetch", refuse)


def numbers(split):
    return (split.x[:, :7].long() * 2 ** torch.arange(7)).sum(1)


@pytest.mark.parametrize("folder", ["dsprites", "dsprites-dataset", "."])
def test_every_image_keeps_its_factors(tmp_path, folder):
    write(tmp_path / folder)
    data = load("dsprites", root=tmp_path, valid_fraction=0.25)
    assert (data.name, data.shape, data.high) == ("dsprites", (1, 64, 64), 1.0)
    assert data.classes == ("square", "ellipse", "heart")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [58, 19, 19]
    seen = []
    for part in (data.train, data.valid, data.test):
        index = numbers(part)
        seen += index.tolist()
        assert part.x.dtype == torch.uint8
        assert part.x[:, 7:].max() == 0
        assert part.y.tolist() == CLASSES[index, 1].tolist()
        assert part.factors.dtype == torch.float32
        assert np.array_equal(part.factors.numpy(), VALUES[index, 1:].astype(np.float32))
        assert part.extras["factor_classes"].tolist() == CLASSES[index, 1:].tolist()
    assert sorted(seen) == list(range(N))


def test_the_test_part_is_always_the_same_random_one(tmp_path):
    write(tmp_path)
    one, other = (load("dsprites", root=tmp_path, seed=seed) for seed in (0, 1))
    assert numbers(one.test).tolist() == numbers(other.test).tolist()
    assert numbers(one.valid).tolist() != numbers(other.valid).tolist()
    assert len(set(one.test.y.tolist())) == 3  # the last fifth would be hearts alone


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"imgs": None}, "holds no array 'imgs', only latents_classes, latents_values"),
        ({"latents_values": None}, "holds no array 'latents_values'"),
        ({"latents_classes": None}, "holds no array 'latents_classes'"),
        ({"imgs": images().astype(np.float32)}, "imgs has type float32, not uint8"),
        ({"imgs": images().astype(np.uint16)}, "imgs has type uint16, not uint8"),
        ({"imgs": images() * 255}, "imgs holds the value 255; values are 0 and 1"),
        ({"imgs": images()[:, :32, :32]}, r"imgs has shape \(96, 32, 32\) where \(96, 64, 64\)"),
        ({"imgs": np.array(1, np.uint8)}, r"imgs has shape \(\)"),
        ({"latents_values": VALUES[:-1]}, r"latents_values has shape \(95, 6\) where \(96, 6\)"),
        ({"latents_values": VALUES[:, 1:]}, r"latents_values has shape \(96, 5\) where \(96, 6\)"),
        ({"latents_values": CLASSES}, "latents_values has type int64, not floating point"),
        ({"latents_values": VALUES * np.nan}, "NaN"),
        ({"latents_classes": VALUES}, "latents_classes has type float64, not integers"),
        ({"latents_classes": CLASSES + 1}, "holds the shape 3; shapes are 0 to 2"),
        ({"latents_classes": CLASSES - 1}, "holds the shape -1; shapes are 0 to 2"),
        ({"imgs": np.array([None] * N)}, "holds Python objects"),
        ({"imgs": images()[:5], "latents_values": VALUES[:5], "latents_classes": CLASSES[:5]}, "5 images; at least 10"),
    ],
)
def test_unsuitable_arrays(tmp_path, changed, message):
    path = write(tmp_path, **changed)
    with pytest.raises(UsageError, match=message) as caught:
        load("dsprites", root=tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("delete the file to have it downloaded again")
    assert "\n" not in str(caught.value)


def flipped(content):
    """Return the archive with one byte of the images' compressed data changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        where = archive.getinfo("imgs.npy").header_offset + 200
    return content[:where] + bytes([content[where] ^ 0xFF]) + content[where + 1 :]


def page(content):
    return b"<html>404 not found</html>"


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[: len(content) // 2], page, flipped])
def test_damaged_file(tmp_path, damage):
    path = write(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match="damaged") as caught:
        load("dsprites", root=tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_array_under_the_name(tmp_path):
    path = write(tmp_path)
    with path.open("wb") as file:
        np.save(file, images())
    with pytest.raises(UsageError, match=r"not a \.npz file inside"):
        load("dsprites", root=tmp_path)


def test_what_is_missing_is_downloaded(tmp_path, monkeypatch):
    calls = []

    def fetch(file, checksum, mirrors, folder):
        calls.append((file, checksum, folder))
        return write(folder)

    monkeypatch.setattr(dsprites, "fetch", fetch)
    assert len(load("dsprites", root=tmp_path).test) == 19
    load("dsprites", root=tmp_path)
    file = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    assert calls == [(file, "7da33b31b13a06f4b04a70402ce90c2e", tmp_path / "dsprites")]


def test_download_that_fails(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RunError("could not download it")

    monkeypatch.setattr(dsprites, "fetch", fail)
    with pytest.raises(RunError, match="could not download"):
        load("dsprites", root=tmp_path)
