"""A folder of pictures: what is in it, what it becomes, and what is refused."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import vsc
from vsc.cli.running import main
from vsc.data import converted, load, pictures, read_rows, reading
from vsc.data.asked import Asked
from vsc.errors import RunError, UsageError

KINDS = ("cats", "dogs")


def save(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))
    image.save(path, **how)
    return path


def drawn(i, height=6, width=8, channels=()):
    return np.random.default_rng(i).integers(0, 256, (height, width, *channels)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten grey PNG files each, 8 wide and 6 high."""
    for i in range(20):
        save(tmp_path / "photos" / KINDS[i % 2] / f"{i:02}.png", drawn(i))
    return tmp_path / "photos"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "kept"


def parts(data):
    return data.train, data.valid, data.test


def test_sub_folders_are_classes(folder, root):
    data = load(folder, root=root)
    assert (data.name, data.shape, data.high, data.classes) == ("photos", (1, 6, 8), 255.0, KINDS)
    seen = []
    for split in parts(data):
        for x, y in zip(split.x, split.y, strict=True):
            numbers = [i for i in range(20) if torch.equal(x, torch.from_numpy(drawn(i).flatten()))]
            assert [i % 2 for i in numbers] == [y]
            seen += numbers
    assert sorted(seen) == list(range(20))  # PNG keeps every pixel, and each is in one part
    assert [len(split) for split in parts(data)] == [14, 2, 4]


def test_one_folder_is_no_class(folder, root):
    shutil.rmtree(folder / "dogs")
    assert load(folder, root=root).classes == ()
    for path in (folder / "cats").iterdir():
        path.rename(folder / path.name)
    assert load(folder, root=root).train.y is None


def test_train_and_test_folders(folder, root):
    for name in ("Test", "val"):
        shutil.copytree(folder, folder.parent / "parted" / name)
    folder.rename(folder.parent / "parted" / "train")
    for path in (folder.parent / "parted" / "val" / "cats").iterdir():
        path.unlink()
    data = load(folder.parent / "parted", root=root)
    assert [len(split) for split in parts(data)] == [20, 10, 20]
    assert data.valid.y.tolist() == [1] * 10
    assert torch.equal(data.train.x, data.test.x)
    assert torch.equal(data.valid.x, data.train.x[10:])


def test_a_class_may_be_called_train(folder, root):
    (folder / "cats").rename(folder / "train")
    assert load(folder, root=root).classes == ("dogs", "train")


def test_rows_have_their_files(folder, root):
    rows = read_rows(folder, (), Asked(root=root))
    assert rows.rows[0] == "cats/00.png"
    assert rows.rows[-1] == "dogs/19.png"
    assert list(rows.y) == ["cats"] * 10 + ["dogs"] * 10
    assert torch.equal(rows.x[10], torch.from_numpy(drawn(1).flatten()))
    coloured = read_rows(folder, (), Asked(root=root, shape=(3, 3, 4)))  # as a model of such pictures takes them
    assert coloured.x.shape == (20, 36)
    assert torch.equal(coloured.x[:, :12], coloured.x[:, 12:24])


def one(tmp_path, pixels, name="x.png", size=None, **how):
    """Return what a folder of twelve copies of one picture becomes, an array (C, H, W), and the notes."""
    path = save(tmp_path / "one" / name, pixels, **how)
    for i in range(11):
        shutil.copy(path, path.with_stem(f"copy{i}"))
    data = load(tmp_path / "one", root=tmp_path / "kept", size=size)
    assert (data.train.x == data.train.x[0]).all()
    return data.train.x[0].reshape(data.shape).numpy(), data.notes


def test_colour_has_its_channels_first(tmp_path):
    pixels = drawn(0, channels=(3,))
    x, notes = one(tmp_path, pixels)
    assert np.array_equal(x, pixels.transpose(2, 0, 1))
    assert notes == ()


def test_all_are_colour_if_one_is(folder, root):
    save(folder / "cats" / "99.png", drawn(99, channels=(3,)))
    data = load(folder, root=root)
    assert data.shape == (3, 6, 8)
    assert data.notes == ("20 grey pictures among those of colour",)


def test_sixteen_bits_become_eight(tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (6, 8)).astype(np.uint16)
    x, notes = one(tmp_path, Image.fromarray(deep))
    assert np.array_equal(x[0], deep // 256)
    assert notes == ("12 have 16 bits a channel, of which the upper 8 are kept",)


def test_a_palette_becomes_its_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 3)).astype(np.uint8)
    places = np.random.default_rng(1).integers(0, 4, (6, 8)).astype(np.uint8)
    image = Image.fromarray(places).convert("P")
    image.putpalette(colours.tobytes())
    assert np.array_equal(one(tmp_path, image)[0], colours[places].transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_is_white(tmp_path, channels):
    colour, alpha = drawn(0, channels=(channels,)), drawn(1, channels=(1,))
    x, notes = one(tmp_path, np.concatenate([colour, alpha], -1))
    share = alpha / 255
    expected = (share * colour + (1 - share) * 255).transpose(2, 0, 1)
    assert abs(x - expected).max() <= 1  # of rounding
    assert notes == ("12 may have transparent parts, which are laid on white",)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_exif_says_which_side_is_up(tmp_path, orientation, turns, name):
    """6 is a camera whose right side was down: the picture is to be turned clockwise, three quarters the other way."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    x, notes = one(tmp_path, drawn(0), name, exif=exif)
    assert x[0].shape == np.rot90(drawn(0), turns).shape
    assert np.array_equal(x[0], np.rot90(drawn(0), turns))
    assert any("EXIF" in note for note in notes) == (turns > 0)


def test_the_first_frame(tmp_path):
    frames = [Image.fromarray(drawn(i)) for i in range(3)]
    x, notes = one(tmp_path, frames[0], "x.tif", save_all=True, append_images=frames[1:])
    assert np.array_equal(x[0], drawn(0))
    assert notes == ("12 have several frames, of which the first is taken",)


@pytest.mark.parametrize("size", [16, "16", "16x16", (16, 16)])
def test_cut_and_shrunk(tmp_path, size):
    """The centre's square of 64 x 64 of a picture 96 x 64, shrunk four times: a slope has the mean of each cell."""
    down, across = np.mgrid[:64, :96]
    x, notes = one(tmp_path, 2 * across + down // 2, size=size)
    centre = np.arange(16) * 4 + 1.5
    expected = 2 * (16 + centre)[None, :] + centre[:, None] / 2
    assert abs(x[0] - expected)[1:-1, 1:-1].max() <= 1  # the outermost see the border
    assert notes == ("pictures are cut to the shape of 16 x 16 around their centre and brought to that size",)


def test_size_is_width_by_height(folder, root):
    assert load(folder, root=root, size="4x3").shape == (1, 3, 4)
    assert load(folder, root=root, size=(4, 3)).shape == (1, 3, 4)
    enlarged = load(folder, root=root, size=12)
    assert "20 of them enlarged" in enlarged.notes[0]


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path):
    down, across = np.mgrid[:512, :512]
    slope = np.stack([down / 2, across / 2, (down + across) / 4], -1)
    x, _ = one(tmp_path, slope, "x.jpg", size=16, quality=95)
    centre = np.arange(16) * 32 + 15.5
    y, z = np.meshgrid(centre, centre, indexing="ij")
    assert abs(x - np.stack([y / 2, z / 2, (y + z) / 4]))[:, 1:-1, 1:-1].max() < 3


@pytest.mark.parametrize("size", [0, -1, "64x", "a", "1x2x3", 2**15, (1, 2, 3), "64 x 48 x", 1.5])
def test_what_is_no_size(folder, root, size):
    with pytest.raises(UsageError, match=r"data.size is in pixels, as in 64 or 64x48"):
        load(folder, root=root, size=size)


def test_pictures_of_different_sizes(folder, root):
    save(folder / "dogs" / "big.png", drawn(1, 20, 30))
    with pytest.raises(UsageError, match=r"pictures of 2 sizes, from 8 x 6 to 30 x 20; .* --size 64 .*size=64"):
        load(folder, root=root)


def test_large_pictures_want_a_size(folder, root, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 47)
    with pytest.raises(UsageError, match="pictures of 8 x 6 have 48 values each, too many"):
        load(folder, root=root)
    assert load(folder, root=root, size="4x3").shape == (1, 3, 4)


def test_what_is_no_picture(folder, root):
    (folder / "cats" / "00.png").write_text("<html>")
    with pytest.raises(UsageError, match=r"cats/00.png: damaged .not an image.; get it again, or take it out$"):
        load(folder, root=root)
    (folder / "dogs" / "01.png").write_bytes(b"")
    save(folder / "dogs" / "f.tif", Image.fromarray(drawn(0).astype(np.float32)))
    with pytest.raises(UsageError, match=r"cats/00.png.*the first of 3 such among 21") as caught:
        load(folder, root=root)
    assert "\n" not in str(caught.value)


def test_pictures_that_end_too_soon_are_all_told(folder, root):
    for i, kind in ((4, "cats"), (7, "dogs")):
        whole = (folder / kind / f"{i:02}.png").read_bytes()
        (folder / kind / f"{i:02}.png").write_bytes(whole[: len(whole) - 30])
    with pytest.raises(UsageError, match=r"cats/04.png: damaged .*the first of 2 such among 20"):
        load(folder, root=root)
    assert not list(root.rglob("*.npy"))
    save(folder / "cats" / "04.png", drawn(4))
    save(folder / "dogs" / "07.png", drawn(7))
    assert len(load(folder, root=root).train) == 14


def test_a_range_that_is_not_known(tmp_path):
    with pytest.raises(UsageError, match="32 bits, whose range is not known; save it with 8 or 16 bits"):
        one(tmp_path, Image.fromarray(drawn(0).astype(np.int32)), "x.tif")


def test_converted_once_and_again_when_the_folder_changes(folder, root, monkeypatch):
    load(folder, root=root)
    seen, original = [], pictures._pixels
    monkeypatch.setattr(pictures, "_pixels", lambda path, shape: seen.append(path.name) or original(path, shape))
    monkeypatch.setattr(pictures, "_looked_at", None)  # nor are they opened
    load(folder, root=root)
    assert seen == []
    monkeypatch.undo()
    before = load(folder, root=root)
    save(folder / "cats" / "00.png", 255 - drawn(0))
    assert load(folder, root=root).content != before.content
    (folder / "cats" / "00.png").rename(folder / "dogs" / "00.png")
    assert load(folder, root=root).classes == KINDS
    assert len(list(root.rglob("*.npy"))) == 3


def test_interrupted(folder, root, monkeypatch):
    original, count = pictures._pixels, iter(range(20))

    def stop(path, shape):
        if next(count) == 7:
            raise KeyboardInterrupt
        return original(path, shape)

    monkeypatch.setattr(converted, "BLOCK", 2)
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "_pixels", stop)
        with pytest.raises(KeyboardInterrupt):
            load(folder, root=root)
    assert not list(root.rglob("*.npy"))
    again = load(folder, root=root)
    assert again.content == load(folder, root=root.parent / "other").content
    assert sorted(path.suffix for path in (root / "pictures").iterdir()) == [".json", ".npy"]


def test_where_nothing_can_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .Not a directory.; .*--data-root") as caught:
        load(folder, root=tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_full_disk(folder, root):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(RunError, match=r"cannot be written .File too large.; what is done is kept"):
            load(folder, root=root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(root.rglob("*.npy"))
    assert len(load(folder, root=root).train) == 14


def test_other_files_are_left_out(folder, root):
    (folder / "cats" / "notes.txt").write_text("")
    (folder / "cats" / ".hidden.png").write_text("")
    (folder / "Thumbs.db").write_text("")
    data = load(folder, root=root)
    assert data.notes == ("2 files that are no pictures by their names are left out",)


def test_loose_pictures_beside_classes(folder, root):
    save(folder / "loose.png", drawn(0))
    with pytest.raises(UsageError, match=r"1 pictures, as loose.png, are in no class, .* 'cats', 'dogs'"):
        load(folder, root=root)


def test_odd_folders_beside_train_and_test(folder, root):
    (folder / "cats").rename(folder / "train")
    (folder / "dogs").rename(folder / "test")
    save(folder / "more" / "x.png", drawn(0))
    with pytest.raises(UsageError, match="beside its train and test folders lie 'more'"):
        load(folder, root=root)


def test_no_pictures_and_few(tmp_path, root):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: a folder without .npy files and without pictures"):
        load(tmp_path / "empty", root=root)
    save(tmp_path / "empty" / "x.png", drawn(0))
    with pytest.raises(UsageError, match="1 examples; at least 10"):
        load(tmp_path / "empty", root=root)


def test_one_picture_is_no_data_set(folder):
    with pytest.raises(UsageError, match=r"00.png: one picture; give the folder of all of them"):
        load(folder / "cats" / "00.png")


def test_sizes_and_labels_are_for_what_has_some(folder, root, tmp_path):
    np.save(tmp_path / "x.npy", drawn(0, 30, 4))
    for name in (tmp_path / "x.npy", "digits"):
        with pytest.raises(UsageError, match=r"data.size is for folders of pictures"):
            load(name, root=root, size=4)
    with pytest.raises(UsageError, match=r"data.label is for tables .*, and the classes of pictures are the folders"):
        load(folder, root=root, label="kind")
    assert load(folder, root=root, label="none").classes == ()


def test_many_pictures_stay_on_disk(folder, root, monkeypatch):
    small = load(folder, root=root)
    monkeypatch.setattr(reading, "IN_MEMORY", 100)
    large = load(folder, root=root)
    assert type(large.train.x).__name__ == "Stored"
    assert torch.equal(large.train.x[:], small.train.x)
    assert torch.equal(large.test.x, small.test.x)


def test_a_damaged_cache(folder, root):
    load(folder, root=root)
    next(root.rglob("*.npy")).write_bytes(b"")
    with pytest.raises(UsageError, match=r"damaged .*delete it"):
        load(folder, root=root)


def test_from_the_command_line(folder, root, tmp_path, capsys, monkeypatch):
    """Describe, train, and encode pictures of another size by their files' names."""
    monkeypatch.setenv("VSC_DATA", str(root))
    assert main(["data", str(folder), "--size", "4x3"]) == 0
    assert "examples of shape (1, 3, 4), stored as uint8" in capsys.readouterr().out
    out = tmp_path / "run"
    few = ["--size", "4x3", "--steps", "2", "--latent-dim", "2", "--out", str(out)]
    assert main(["train", "--data", str(folder), *few]) == 0
    assert vsc.load(out).shape == (1, 3, 4)
    shutil.copytree(folder / "dogs", tmp_path / "more")
    save(tmp_path / "more" / "wide.png", drawn(0, 10, 30))
    assert main(["encode", str(out), "--data", str(tmp_path / "more"), "--out", str(tmp_path / "codes.npz")]) == 0
    with np.load(tmp_path / "codes.npz") as codes:
        assert list(codes["rows"]) == sorted(os.listdir(tmp_path / "more"))
        assert codes["z"].shape == (11, 2)
