import hashlib
import io
import shutil
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from vsc.cli.running import main
from vsc.data import har, load
from vsc.errors import RunError, UsageError

COUNT = {"train": 12, "test": 6}
SIGNALS = [
    *("body_acc_x", "body_acc_y", "body_acc_z"),
    *("body_gyro_x", "body_gyro_y", "body_gyro_z"),
    *("total_acc_x", "total_acc_y", "total_acc_z"),
]


def feature(part, row, column):
    return ((row + 1) * (column + 1) % 199 - 99) / (100 if part == "train" else 128)


def signal(part, row, which, time):
    return (1000 * which + time + row) / (-4096 if part == "train" else 4096)


def activity(row):
    return row % 6 + 1


def subject(part, row):
    return (1, 3, 30)[row % 3] if part == "train" else 2


def line(values):
    """A row as it is published: sixteen characters a number."""
    return "".join(f"{value:16.7e}" for value in values)


def official(features=True, signals=True):
    """All files of a small data set in the official layout: name -> text."""
    files = {"README.txt": "read me", "activity_labels.txt": "1 WALKING\n2 WALKING_UPSTAIRS\n"}
    # as published, some names stand for three columns each
    names = [f"fBodyAcc-bandsEnergy()-{i % 7}" if 302 <= i < 323 else f"f{i}()" for i in range(561)]
    files["features.txt"] = "".join(f"{i} {name}\n" for i, name in enumerate(names, 1))
    for part, n in COUNT.items():
        tables = {
            f"y_{part}.txt": [str(activity(row)) for row in range(n)],
            f"subject_{part}.txt": [str(subject(part, row)) for row in range(n)],
        }
        if features:
            tables[f"X_{part}.txt"] = [line(feature(part, row, i) for i in range(561)) for row in range(n)]
        for which, name in enumerate(SIGNALS if signals else []):
            rows = [line(signal(part, row, which, time) for time in range(128)) for row in range(n)]
            tables[f"Inertial Signals/{name}_{part}.txt"] = rows
        files |= {f"{part}/{name}": "\n".join(rows) + "\n" for name, rows in tables.items()}
    return files


def write_tree(folder, **which):
    for name, text in official(**which).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def zipped(files, prefix="UCI HAR Dataset/"):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(prefix + name, text)
    return content.getvalue()


def nested(files):
    """The archive as UCI gives it today: the original one inside another."""
    return zipped({"UCI HAR Dataset.names": "names", "UCI HAR Dataset.zip": zipped(files)}, prefix="")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a test tried to download")

    monkeypatch.setattr(har, "fetch", refuse)


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "UCI HAR Dataset")


def check_features(source):
    assert source.shape == (561,)
    assert source.high is None
    assert source.classes[:2] == ("WALKING", "WALKING_UPSTAIRS")
    assert source.classes[5] == "LAYING"
    for part, split in (("train", source.train), ("test", source.test)):
        rows = range(COUNT[part])
        expected = [[feature(part, row, i) for i in range(561)] for row in rows]
        assert split.x.dtype == torch.float32
        assert np.allclose(split.x.numpy(), expected, rtol=1e-6, atol=1e-7)
        assert split.y.tolist() == [activity(row) - 1 for row in rows]
        assert split.extras["subject"].tolist() == [subject(part, row) for row in rows]
        assert split.extras["subject"].dtype == torch.int64


def put_tree(root):
    write_tree(root / "UCI HAR Dataset")
    return root


def put_zip(root):
    (root / "UCI HAR Dataset.zip").write_bytes(zipped(official()))
    return root


def put_nested_zip(root):
    (root / "human+activity+recognition+using+smartphones.zip").write_bytes(nested(official()))
    return root


def put_zip_of_another_name(root):
    (root / "mine.ZIP").write_bytes(zipped(official(), prefix=""))
    return root / "mine.ZIP"


@pytest.mark.parametrize("put", [put_tree, write_tree, put_zip, put_nested_zip, put_zip_of_another_name])
def test_features_from_every_layout(tmp_path, put):
    check_features(har.features(put(tmp_path)))


@pytest.mark.parametrize("put", [put_tree, put_nested_zip])
def test_signals(tmp_path, put):
    source = har.signals(put(tmp_path))
    assert (source.shape, source.high, len(source.classes)) == ((9, 128), None, 6)
    for part, split in (("train", source.train), ("test", source.test)):
        assert split.x.shape == (COUNT[part], 9 * 128)
        for row, which, time in [(0, 0, 0), (0, 0, 127), (0, 1, 0), (3, 8, 64), (5, 4, 1)]:
            assert split.x[row, 128 * which + time].item() == pytest.approx(signal(part, row, which, time), rel=1e-6)
        assert split.y.tolist() == [activity(row) - 1 for row in range(COUNT[part])]
        assert split.extras["subject"].tolist() == [subject(part, row) for row in range(COUNT[part])]


def test_what_is_missing_is_noted(tmp_path, capsys):
    write_tree(tmp_path / "UCI HAR Dataset")
    part = "a part of the data set: 12 of 7352 training and 6 of 2947 test windows"
    assert har.features(tmp_path).notes == har.signals(tmp_path).notes == (part,)

    tree = write_tree(tmp_path / "part" / "UCI HAR Dataset", features=False)
    for path in (tree / "train", tree / "test"):
        (path / f"subject_{path.name}.txt").unlink()
    signal = tree / "train" / "Inertial Signals" / "body_acc_x_train.txt"
    numbers = [[f"{float(number):.4g}" for number in row.split()] for row in signal.read_text().splitlines()]
    signal.write_text("\n".join(map(" ".join, numbers)) + "\n")
    assert main(["data", "har-signals", "--data-root", str(tmp_path / "part")]) == 0
    told = [line.removeprefix("note: ") for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert told[0] == part
    assert "subject_train.txt" in told[1]
    assert "561 features" in told[2]
    assert told[3:] == ["values have 4 significant digits; the published ones have 8"]


def test_a_whole_data_set_has_no_notes(tmp_path, monkeypatch):
    monkeypatch.setattr(har, "WINDOWS", COUNT)
    assert har.features(write_tree(tmp_path)).notes == har.signals(tmp_path).notes == ()


@pytest.mark.parametrize("put", [put_tree, write_tree, put_zip, put_nested_zip, put_zip_of_another_name])
@pytest.mark.parametrize(("name", "shape"), [("har", (561,)), ("har-signals", (9, 128))])
def test_the_command_takes_every_layout(tmp_path, capsys, put, name, shape):
    assert main(["data", name, "--data-root", str(put(tmp_path))]) == 0
    assert f"examples of shape {shape}" in capsys.readouterr().out


def test_load_takes_subjects_to_every_part(tree):
    data = load("har", root=tree.parent, valid_fraction=0.25)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [9, 3, 6]
    first = torch.tensor([feature("train", row, 0) for row in range(12)])
    for part in (data.train, data.valid):
        rows = [int((first - x).abs().argmin()) for x in part.x[:, 0]]
        assert part.extras["subject"].tolist() == [subject("train", row) for row in rows]
    assert rows == [9, 10, 11]  # the last windows, of other people as far as can be, whatever the seed
    assert torch.equal(load("har", root=tree.parent, valid_fraction=0.25, seed=1).valid.x, data.valid.x)


def test_names_are_unique(tree):
    names = har.features(tree.parent).features
    assert len(set(names)) == 561
    assert names[0] == "f0()"
    assert names[302] == "303 fBodyAcc-bandsEnergy()-1"
    assert names[309] == "310 fBodyAcc-bandsEnergy()-1"
    (tree / "features.txt").unlink()
    assert har.features(tree.parent).features == ()


def test_wrong_number_of_names(tree):
    (tree / "features.txt").write_text("1 a\n2 b\n")
    with pytest.raises(UsageError, match=r"features.txt: 2 names for 561 features"):
        har.features(tree.parent)


def test_a_whole_archive_is_preferred_to_a_part(tmp_path):
    write_tree(tmp_path / "UCI HAR Dataset", features=False)
    put_zip(tmp_path)
    check_features(har.features(tmp_path))


def test_a_part_without_features_says_so(tmp_path):
    tree = write_tree(tmp_path / "UCI HAR Dataset", features=False)
    with pytest.raises(UsageError, match=r"lacks train/X_train.txt, test/X_test.txt .*har-signals reads") as caught:
        load("har", root=tmp_path)
    for way in ("--data-root", "smartphones.zip from https://archive.ics.uci.edu", "'UCI HAR Dataset'"):
        assert way in str(caught.value)
    assert str(caught.value).startswith(f"{tree}: ")
    assert len(load("har-signals", root=tmp_path).test) == 6


def test_a_part_without_signals_says_so(tmp_path):
    write_tree(tmp_path / "UCI HAR Dataset", signals=False)
    with pytest.raises(UsageError, match=r"body_acc_x_train.txt, .*body_acc_y_train.txt and 16 more; to have all"):
        load("har-signals", root=tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("train/X_train.txt", lambda text: text[:-40], "not a table of numbers .*columns changed"),
        ("train/X_train.txt", lambda text: text.replace("e", "?", 1), "not a table of numbers .*could not convert"),
        ("train/X_train.txt", lambda text: "\n".join(row[16:] for row in text.split("\n")), "560 columns where 561"),
        ("train/X_train.txt", lambda text: text.replace(text[:16], "             NaN", 1), "row 1, column 1 is NaN"),
        ("test/X_test.txt", lambda text: "", "the file is empty"),
        ("test/X_test.txt", lambda text: text[: text.index("\n") + 1], "6 rows for 1 windows"),
        ("test/y_test.txt", lambda text: text[2:], "5 rows for 6 windows"),
        ("test/y_test.txt", lambda text: "7" + text[1:], "holds 7; whole numbers from 1 to 6"),
        ("test/y_test.txt", lambda text: "0" + text[1:], "holds 0; whole numbers from 1 to 6"),
        ("test/y_test.txt", lambda text: "1.5" + text[1:], "holds 1.5; whole numbers"),
        ("train/subject_train.txt", lambda text: "31" + text[1:], "holds 31; whole numbers from 1 to 30"),
        ("train/subject_train.txt", lambda text: text[2:], "11 rows for 12 windows"),
    ],
)
@pytest.mark.parametrize("pack", [False, True])
def test_damaged_tables_are_named(tmp_path, file, change, message, pack):
    files = official(signals=False)
    files[file] = change(files[file])
    if pack:
        (tmp_path / "UCI HAR Dataset.zip").write_bytes(zipped(files))
    else:
        tree = write_tree(tmp_path / "UCI HAR Dataset", signals=False)
        (tree / file).write_text(files[file])
    with pytest.raises(UsageError, match=message) as caught:
        har.features(tmp_path)
    name = file.replace("X_", "y_") if "rows for 1" in message else file
    assert f"{name}: " in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"total_acc_y_test.txt: 5 windows where body_acc_x_test.txt has 6"),
        (lambda rows: [row[16:] for row in rows], "total_acc_y_test.txt: 127 columns where 128"),
        (lambda rows: [rows[0][16:], *rows[1:]], "total_acc_y_test.txt: not a table of numbers"),
        (lambda rows: [b"\xff\xfe".decode("latin-1") + rows[0]], "total_acc_y_test.txt: not a table of numbers"),
    ],
)
def test_signals_that_do_not_fit_together(tree, change, message):
    path = tree / "test" / "Inertial Signals" / "total_acc_y_test.txt"
    path.write_bytes("\n".join(change(path.read_text().splitlines())).encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        har.signals(tree.parent)


def corrupt(content):
    """Return the archive with one byte of a table's compressed data changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        where = archive.getinfo("UCI HAR Dataset/train/X_train.txt").header_offset + 100
    return content[:where] + bytes([content[where] ^ 0xFF]) + content[where + 1 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged .*not a zip file"),
        (b"<html>", "damaged .*not a zip file"),
        (zipped(official())[:-500], "damaged"),
        (corrupt(zipped(official())), "X_train.txt: damaged"),
        (zipped({"a.txt": "1"}, prefix=""), "without the folder 'UCI HAR Dataset'; this is not UCI-HAR"),
        (zipped({"UCI HAR Dataset.zip": b"PK"}, prefix=""), "damaged"),
        (zipped(official(features=False)), "lacks train/X_train.txt, test/X_test.txt"),
    ],
    ids=["empty", "html", "cut", "corrupt", "other", "cut inside", "part"],
)
def test_wrong_zip(tmp_path, content, message):
    path = tmp_path / "UCI HAR Dataset.zip"
    path.write_bytes(content)
    for root in (tmp_path, path):
        with pytest.raises(UsageError, match=message) as caught:
            har.features(root)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_root_that_is_some_other_file(tmp_path):
    (tmp_path / "file.tar").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"file.tar: damaged .*not a zip file"):
        har.features(tmp_path / "file.tar")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A local archive: `publish` puts a file there, with its true checksum or another."""
    from vsc.data.download import fetch

    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(har, "fetch", fetch)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def publish(*contents):
            """Serve each of the two archives whose content is not None."""
            archives = []
            for (file, *_), content in zip(har._ARCHIVES, contents, strict=True):
                if content is not None:
                    (folder / file).write_bytes(content)
                checksum = "sha256:" + hashlib.sha256(content or b"").hexdigest()
                archives.append((file, checksum, (f"http://127.0.0.1:{server.server_port}",)))
            monkeypatch.setattr(har, "_ARCHIVES", tuple(archives))
            return folder

        yield publish
        server.shutdown()
        thread.join()


def test_download(site, tmp_path):
    folder = site(nested(official()), None)
    check_features(har.features(tmp_path / "root"))
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["human+activity+recognition+using+smartphones.zip"]
    shutil.rmtree(folder)
    assert len(har.signals(tmp_path / "root").train) == 12  # not downloaded again


def test_download_of_the_original_archive(site, tmp_path):
    site(None, zipped(official()))
    check_features(har.features(tmp_path / "root"))
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["UCI HAR Dataset.zip"]


def test_download_that_is_not_the_archive(site, tmp_path):
    folder = site(nested(official()), zipped(official()))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(RunError, match=r"wrong checksum.*; or: .*wrong checksum") as caught:
        har.features(tmp_path / "root")
    assert "by hand" in str(caught.value)
    assert list((tmp_path / "root").iterdir()) == []


def test_archives_have_checksums():
    assert len(har._ARCHIVES) == 2
    for file, checksum, mirrors in har._ARCHIVES:
        assert file.endswith(".zip")
        assert checksum.startswith("sha256:")
        assert len(checksum) == 7 + 64
        assert all(mirror.startswith("https://archive.ics.uci.edu/") for mirror in mirrors)


def test_real_signals(find_data):
    root, tree = find_data("UCI HAR Dataset/train/Inertial Signals")
    data = load("har-signals", root=root, valid_fraction=0)
    for part, split in (("train", data.train), ("test", data.test)):
        labels = (tree.parent.parent / part / f"y_{part}.txt").read_text().split()
        assert len(split) == len(labels)
        assert split.y.tolist() == [int(label) - 1 for label in labels]
        for which in (0, 5, 7):
            name = f"{SIGNALS[which]}_{part}.txt"
            rows = (tree.parent.parent / part / "Inertial Signals" / name).read_text().splitlines()
            for row in (0, len(rows) // 2, len(rows) - 1):
                values = np.array([float(number) for number in rows[row].split()], np.float32)
                assert np.array_equal(split.x[row].reshape(9, 128)[which].numpy(), values)
    assert data.train.x.isfinite().all()
    # an independent fact: the total acceleration of a body at rest is gravity, 1 g
    still = data.train.x[data.train.y >= 3].reshape(-1, 9, 128)
    assert still[:, 6:].square().sum(1).sqrt().mean() == pytest.approx(1, abs=0.05)


def test_real_part_says_that_the_features_are_missing(find_data):
    root, tree = find_data("UCI HAR Dataset/train/Inertial Signals")
    if (tree.parent / "X_train.txt").exists():
        pytest.skip("the whole of UCI-HAR is here")
    with pytest.raises(UsageError, match=r"lacks train/X_train.txt, test/X_test.txt .*; it has signals"):
        load("har", root=root)


def test_real_features(find_data):
    root, _ = find_data("UCI HAR Dataset/train/X_train.txt")
    data = load("har", root=root, valid_fraction=0)
    assert (len(data.train), len(data.test), data.shape) == (7352, 2947, (561,))
    assert len(set(data.train.extras["subject"].tolist())) == 21
    assert len(set(data.test.extras["subject"].tolist())) == 9
    assert torch.bincount(data.test.y).tolist() == [496, 471, 420, 491, 532, 537]
    assert data.train.x.abs().max() <= 1
