import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vsc.data import celeba, converted, load
from vsc.errors import RunError, UsageError

PARTS = [0, 0, 1, 0, 2, 0, 1, 2, 0, 0, 0, 0]  # the official list is sorted by part; this one is not
N = len(PARTS)
# in the file's order, which is not the alphabet's here
NAMES = [*sorted(celeba.ATTRIBUTES)[1:], sorted(celeba.ATTRIBUTES)[0]]


def name(i):
    return f"{i + 1:06}.jpg"


def mark(i, column):
    return (i * 7 + column * 3) % 5 < 2


def smooth(i):
    """An aligned image, (218, 178, 3), that JPEG keeps almost as it is, its channels unlike one another."""
    down, across = np.mgrid[:218, :178]
    return np.stack([down + i, across + 2 * i, (down + across) / 2], axis=-1).clip(0, 255).astype(np.uint8)


def jpeg(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=95)
    return content.getvalue()


def partition(parts=PARTS):
    return "".join(f"{name(i)} {part}\n" for i, part in enumerate(parts))


def attributes(n=N):
    rows = [f"{name(i)} " + " ".join(" 1" if mark(i, c) else "-1" for c in range(40)) for i in range(n)]
    return "\n".join([str(n), " ".join(NAMES) + " ", *rows]) + "\n"


def write_tree(folder, lists=("", ""), images="img_align_celeba"):
    for place in (*lists, images):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / lists[0] / "list_eval_partition.txt").write_text(partition())
    (folder / lists[1] / "list_attr_celeba.txt").write_text(attributes())
    for i in range(N):
        (folder / images / name(i)).write_bytes(jpeg(smooth(i)))
    return folder


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "celeba")


def caches(tree):
    return sorted(path.name for path in tree.iterdir() if path.name.startswith("celeba-"))


def expected(i):
    """The mean over each cell of 4.625 x 4.625 pixels, which is all that shrinking a slope can give."""
    edges = np.linspace(0, 148, 33)
    centre = (edges[:-1] + edges[1:]) / 2 - 0.5
    down, across = np.meshgrid(35 + centre, 15 + centre, indexing="ij")
    return np.stack([down + i, across + 2 * i, (down + across) / 2])


def index_of(part):
    return [i for i in range(N) if PARTS[i] == part]


@pytest.mark.parametrize(
    ("folder", "lists", "images"),
    [
        ("celeba", ("", ""), "img_align_celeba"),
        ("CelebA", ("Eval", "Anno"), "Img/img_align_celeba"),
        (".", ("", ""), "img_align_celeba"),
    ],
)
def test_official_partition(tmp_path, folder, lists, images):
    write_tree(tmp_path / folder, lists, images)
    data = load("celeba", root=tmp_path)
    assert (data.name, data.shape, data.high) == ("celeba", (3, 32, 32), 255.0)
    assert data.classes == ("not smiling", "smiling")
    assert data.factor_names == celeba.ATTRIBUTES
    smiling = NAMES.index("Smiling")
    for part, split in enumerate((data.train, data.valid, data.test)):
        index = index_of(part)
        assert split.x.dtype == torch.uint8
        assert split.y.dtype == torch.int64
        assert split.y.tolist() == [mark(i, smiling) for i in index]
        marks = [[mark(i, NAMES.index(attribute)) for attribute in celeba.ATTRIBUTES] for i in index]
        assert split.factors.tolist() == marks
        for row, i in enumerate(index):
            inner = slice(1, -1)  # the outermost pixels see the border
            error = split.x[row].reshape(3, 32, 32).numpy() - expected(i)
            assert np.abs(error[:, inner, inner]).max() < 4, i
            assert np.abs(error.mean((1, 2))).max() < 1
    assert len(caches(tmp_path / folder)) == 1
    assert caches(tmp_path / folder)[0].endswith(".npy")


def test_pixels_are_those_of_pillow(tree):
    """The crop and the filter, word for word as torchvision's CenterCrop(148), Resize(32) do it on Pillow images."""
    noise = np.random.default_rng(0).integers(0, 256, (218, 178, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tree / "img_align_celeba" / name(0), "JPEG", quality=100)
    with Image.open(tree / "img_align_celeba" / name(0)) as image:
        top, left = round((218 - 148) / 2), round((178 - 148) / 2)
        small = image.crop((left, top, left + 148, top + 148)).resize((32, 32), Image.Resampling.BILINEAR)
    x = load("celeba", root=tree.parent).train.x[0].reshape(3, 32, 32)
    assert np.array_equal(x.numpy().transpose(1, 2, 0), np.asarray(small))


def test_sizes_of_the_paper(tree, monkeypatch):
    monkeypatch.setattr(celeba, "PAPER", (5, 2))
    official = load("celeba", root=tree.parent)
    paper = load("celeba-paper", root=tree.parent)
    assert [len(part) for part in (paper.train, paper.valid, paper.test)] == [5, 2, 2]
    for field in ("x", "y", "factors"):
        first = getattr(official.train, field)
        assert torch.equal(getattr(paper.train, field), first[:5])
        assert torch.equal(getattr(paper.test, field), first[5:7])
        assert torch.equal(getattr(paper.valid, field), getattr(official.valid, field))
    assert len(caches(tree)) == 1  # one conversion for both
    assert paper.train.x.untyped_storage().nbytes() == N * 3072  # the mapped file itself
    assert len(load("celeba-paper", root=tree.parent, valid_fraction=0).valid) == 0


def test_the_paper_needs_its_number_of_images(tree):
    assert celeba.PAPER == (100_000, 20_000)
    with pytest.raises(UsageError, match=r"takes the first 120000 training images, and the list has 8; take celeba"):
        load("celeba-paper", root=tree.parent)


def test_attributes_are_the_forty_official_ones():
    assert len(set(celeba.ATTRIBUTES)) == 40
    assert list(celeba.ATTRIBUTES) == sorted(celeba.ATTRIBUTES)
    assert {"Male", "Smiling", "Young", "5_o_Clock_Shadow"} <= set(celeba.ATTRIBUTES)


def test_images_stay_in_the_file(tree):
    data = load("celeba", root=tree.parent)
    file = tree / caches(tree)[0]
    before = file.read_bytes()
    addresses = [split.x.data_ptr() for split in (data.train, data.valid, data.test)]
    assert addresses == [addresses[0], addresses[0] + 8 * 3072, addresses[0] + 10 * 3072]  # one block, not copies
    if sys.platform == "linux":
        lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line]
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
        assert any(low <= addresses[0] < high for low, high in ranges)
    data.train.x[:] = 0  # reaches neither the file nor the next load
    assert file.read_bytes() == before
    assert load("celeba", root=tree.parent).train.x.max() > 0


def test_images_are_read_once(tree):
    first = load("celeba", root=tree.parent)
    for path in (tree / "img_align_celeba").iterdir():
        path.unlink()
    again = load("celeba", root=tree.parent)
    assert torch.equal(again.train.x, first.train.x)


def test_another_list_makes_another_file(tree):
    load("celeba", root=tree.parent)
    (tree / "list_eval_partition.txt").write_text(partition([0] * 6 + [2] * 6))
    data = load("celeba", root=tree.parent, valid_fraction=0.5)
    assert len(caches(tree)) == 2
    assert [len(part) for part in (data.train, data.valid, data.test)] == [3, 3, 6]  # no part of its own: held out
    (tree / "list_eval_partition.txt").write_text(partition())
    assert len(load("celeba", root=tree.parent).test) == 2
    assert len(caches(tree)) == 2


def read(monkeypatch):
    """Count which images are decoded from here on."""
    seen, original = [], celeba._picture

    def picture(path):
        seen.append(path.name)
        return original(path)

    monkeypatch.setattr(celeba, "_picture", picture)
    return seen


def test_goes_on_after_a_truncated_image(tree, monkeypatch):
    monkeypatch.setattr(converted, "BLOCK", 3)
    order = [name(i) for part in (0, 1, 2) for i in index_of(part)]
    path = tree / "img_align_celeba" / order[9]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"damaged .*truncated") as caught:
        load("celeba", root=tree.parent)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not [file for file in caches(tree) if file.endswith(".npy")]

    path.write_bytes(whole)
    seen = read(monkeypatch)
    data = load("celeba", root=tree.parent)
    assert seen == order[6:]  # nine were there; the last three may not have reached the disk
    assert len(caches(tree)) == 1
    assert [data.train.x.shape[0], data.valid.x.shape[0]] == [8, 2]
    file = tree / caches(tree)[0]
    resumed = file.read_bytes()
    file.unlink()
    load("celeba", root=tree.parent)
    assert file.read_bytes() == resumed
    assert np.load(file).shape == (12, 3072)


@pytest.mark.parametrize("size", [0, 5, 128, 128 + 3072 * 4 + 1000, 128 + 3072 * 12, 128 + 3072 * 40])
def test_goes_on_from_any_size(tree, monkeypatch, size):
    """A process that is killed leaves a file of any size, and a power cut one whose end is empty."""
    monkeypatch.setattr(converted, "BLOCK", 2)
    load("celeba", root=tree.parent)
    file = tree / caches(tree)[0]
    whole = file.read_bytes()
    rows = max((min(size, len(whole)) - 128) // 3072, 0)
    reached = 128 + max(rows - 2, 0) * 3072
    file.unlink()
    file.with_suffix(".part").write_bytes((whole[: min(reached, size)] + b"\0" * size)[:size])
    load("celeba", root=tree.parent)
    assert file.read_bytes() == whole
    assert caches(tree) == [file.name]


def test_a_beginning_of_something_else_is_not_continued(tree):
    load("celeba", root=tree.parent)
    file = tree / caches(tree)[0]
    whole = file.read_bytes()
    file.unlink()
    file.with_suffix(".part").write_bytes(b"x" * 20_000)
    load("celeba", root=tree.parent)
    assert file.read_bytes() == whole


def test_killed_process(tree):
    """A process that dies without a word leaves no file that is taken for whole."""
    die = f"""
import os
from pathlib import Path
from vsc.data import celeba, converted
converted.BLOCK = 2
original, count = celeba._picture, iter(range(7))
celeba._picture = lambda path: original(path) if next(count) < 6 else os._exit(9)
celeba.load(Path({str(tree.parent)!r}))
"""
    assert subprocess.run([sys.executable, "-c", die], check=False).returncode == 9
    assert [file for file in caches(tree) if file.endswith(".npy")] == []
    x = load("celeba", root=tree.parent).train.x
    for file in caches(tree):
        (tree / file).unlink()
    assert torch.equal(load("celeba", root=tree.parent).train.x, x)


def test_two_at_once(tree, monkeypatch):
    """Several processes of one training load at the same moment: one converts, the others wait."""
    seen = read(monkeypatch)
    loaded = []
    threads = [threading.Thread(target=lambda: loaded.append(load("celeba", root=tree.parent))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == N
    assert len(loaded) == 4
    assert all(torch.equal(data.train.x, loaded[0].train.x) for data in loaded)
    assert len(caches(tree)) == 1


def test_progress_bar(tree, monkeypatch, capsys):
    import tqdm

    original = tqdm.tqdm
    monkeypatch.setattr(tqdm, "tqdm", lambda *a, **more: original(*a, **(more | {"disable": False})))
    load("celeba", root=tree.parent)
    assert "12/12" in capsys.readouterr().err
    load("celeba", root=tree.parent)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged .not an image."),
        (b"<html>", "damaged .not an image."),
        (jpeg(smooth(0))[:300], "damaged"),
        (jpeg(smooth(0))[:-40], "damaged .*truncated"),
        (jpeg(smooth(0)[:, :-1]), "177 x 218 pixels, not 178 x 218"),
        (jpeg(np.zeros((250, 250, 3), np.uint8)), "250 x 250 pixels"),
    ],
    ids=["empty", "html", "header", "cut", "narrow", "not aligned"],
)
def test_unsuitable_image(tree, content, message):
    path = tree / "img_align_celeba" / name(3)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load("celeba", root=tree.parent)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_grey_image(tree):
    Image.fromarray(smooth(0)[..., 0]).save(tree / "img_align_celeba" / name(0))
    x = load("celeba", root=tree.parent).train.x[0].reshape(3, 32, 32)
    assert torch.equal(x[0], x[1])
    assert torch.equal(x[0], x[2])


@pytest.mark.parametrize("count", [1, N])
def test_missing_images(tree, count):
    for i in range(count):
        (tree / "img_align_celeba" / name(i)).unlink()
    with pytest.raises(UsageError, match=f"{count} of 12 images are missing, the first 000001.jpg") as caught:
        load("celeba", root=tree.parent)
    assert str(tree / "img_align_celeba") in str(caught.value)
    assert [file for file in caches(tree) if not file.endswith(".lock")] == []


@pytest.mark.parametrize("zipped", [False, True])
def test_images_that_are_still_zipped_or_not_there(tree, zipped):
    shutil.rmtree(tree / "img_align_celeba")
    archive = tree / "img_align_celeba.zip"
    if zipped:
        archive.write_bytes(b"PK")
    message = f"unzip {archive}" if zipped else "get img_align_celeba.zip from https"
    with pytest.raises(UsageError, match=message) as caught:
        load("celeba", root=tree.parent)
    assert str(caught.value).startswith(f"{tree / 'img_align_celeba'}: this folder of 12 images is missing")
    assert "\n" not in str(caught.value)


def test_root_that_is_a_zip_file(tmp_path):
    (tmp_path / "img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"no CelebA in .*img_align_celeba.zip; get .*the images unzipped") as caught:
        load("celeba", root=tmp_path / "img_align_celeba.zip")
    assert "\n" not in str(caught.value)


def test_interrupted_by_the_user(tree, monkeypatch):
    monkeypatch.setattr(converted, "BLOCK", 2)
    original, count = celeba._picture, iter(range(7))

    def stop(path):
        if next(count) == 6:
            raise KeyboardInterrupt
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(celeba, "_picture", stop)
        with pytest.raises(KeyboardInterrupt):
            load("celeba", root=tree.parent)
    assert not [file for file in caches(tree) if file.endswith(".npy")]
    seen = read(monkeypatch)
    assert len(load("celeba", root=tree.parent).train) == 8
    assert 0 < len(seen) < N


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("list_eval_partition.txt", "list_eval_partition.txt is missing; get it from https"),
        ("list_attr_celeba.txt", "list_attr_celeba.txt is missing; get it from https"),
    ],
)
def test_missing_list(tree, file, message):
    (tree / file).unlink()
    with pytest.raises(UsageError, match=message) as caught:
        load("celeba", root=tree.parent)
    assert str(caught.value).startswith(f"{tree}: ")


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match=r"no CelebA in .*; get list_eval_partition.txt, .* from https") as caught:
        load("celeba", root=tmp_path)
    assert str(tmp_path / "celeba") in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("list_eval_partition.txt", partition() + "000001.jpg\n", "line 13 is not an image's name and 0, 1 or 2"),
        ("list_eval_partition.txt", partition() + "000099.jpg 3\n", "line 13 is not"),
        ("list_eval_partition.txt", partition() + "000001.jpg 2\n", "names an image twice"),
        ("list_eval_partition.txt", "", "no image into the training set"),
        ("list_eval_partition.txt", partition([0] * N), "no image into the test set"),
        ("list_eval_partition.txt", partition([*PARTS, 0]), "1 of the images have no attributes, the first 000013.jpg"),
        ("list_attr_celeba.txt", "", "does not name the 40 attributes"),
        ("list_attr_celeba.txt", attributes().replace("Smiling", "Crying"), "does not name the 40 attributes"),
        ("list_attr_celeba.txt", attributes().rpartition("000012")[0], "11 images where its first line promises 12"),
        ("list_attr_celeba.txt", attributes()[:-4], "line 14 is not a name and 40 times 1 or -1"),
        ("list_attr_celeba.txt", attributes().replace(" -1", " 0", 1), "line 3 is not a name and 40 times"),
        ("list_attr_celeba.txt", attributes(N - 2), "2 of the images have no attributes, the first 000011.jpg"),
    ],
)
def test_damaged_list(tree, file, text, message):
    (tree / file).write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load("celeba", root=tree.parent)
    assert "list_" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_list_that_is_no_text(tree):
    (tree / "list_eval_partition.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"damaged .*get the file again"):
        load("celeba", root=tree.parent)


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-1], lambda c: b"x" + c, lambda c: c[:60]])
def test_damaged_cache(tree, damage):
    load("celeba", root=tree.parent)
    file = tree / caches(tree)[0]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UsageError, match="delete it") as caught:
        load("celeba", root=tree.parent)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cache_of_another_type(tree):
    load("celeba", root=tree.parent)
    file = tree / caches(tree)[0]
    np.save(file, np.zeros((12, 3072), np.float32))
    with pytest.raises(UsageError, match=r"holds float32 of shape .*; delete it"):
        load("celeba", root=tree.parent)


def test_full_disk(tree, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot be written .No space left on device.; what is done is kept"):
            load("celeba", root=tree.parent)
    assert not [file for file in caches(tree) if file.endswith(".npy")]
    assert len(load("celeba", root=tree.parent).train) == 8


def test_folder_that_cannot_be_written(tree, monkeypatch):
    original = Path.open

    def refuse(path, mode="r", *arguments, **more):  # whoever runs the tests as root may write anywhere
        if mode != "r":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, mode, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match="Permission denied"):
        load("celeba", root=tree.parent)


def test_trains_from_the_mapped_file(tree):
    """The loop's own batches read the file as they read memory."""
    from vsc.data.batches import Batches
    from vsc.model.scaling import fit_scaler

    data = load("celeba", root=tree.parent)
    scaler = fit_scaler("unit-interval", data.train.x, data.high)
    batches = Batches(data.train.x, scaler, batch_size=4, seed=0)
    seen = torch.cat([batches(0), batches(1)])
    assert sorted(seen.sum(1).tolist()) == pytest.approx(sorted((data.train.x / 255).sum(1).tolist()))
