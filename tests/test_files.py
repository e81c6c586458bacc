"""Files are there whole or not at all, and an error names the file that was asked for."""

import errno
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from vsc.errors import Busy, UsageError
from vsc.files import (
    as_json,
    claimed,
    clear_temporaries,
    parse_json,
    read_json,
    read_yaml,
    undamaged,
    whole,
    write_json,
    write_npz,
)


def test_whole_makes_missing_folders_and_keeps_the_suffix(tmp_path):
    path = tmp_path / "a" / "b" / "c.npz"
    with whole(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".npz"
        temporary.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_failing_block_leaves_what_was_there(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write():
        with whole(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_rename_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, [1])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(path, [2])
    assert caught.value.filename == str(path)
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_that_was_asked_for(tmp_path):
    if not Path("/dev/full").is_char_device():
        pytest.skip("needs /dev/full")
    path = tmp_path / "codes.npz"

    def write():
        with whole(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("anything")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_an_error_and_the_file_stays(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        write_json(tmp_path / "file" / "deeper" / "x.json", {})
    assert (tmp_path / "file").read_text() == "mine"


def test_write_json_keeps_letters_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "x.json", {"β": [1, None, 0.5]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "β" in text
    assert text.endswith("\n")
    assert json.loads(text) == {"β": [1, None, 0.5]}


def test_write_npz_takes_numpy_and_torch_and_needs_no_pickle(tmp_path):
    write_npz(tmp_path / "x.npz", {"a": np.arange(3), "b": torch.ones(2, 2)})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert found["a"].tolist() == [0, 1, 2]
        assert found["b"].dtype == np.float32
        assert found["b"].shape == (2, 2)


@pytest.mark.parametrize("packed", [True, False])
def test_arrays_that_grow_are_joined_along_their_first_axis(tmp_path, packed):
    rng = np.random.default_rng(0)
    parts = [{"a": rng.normal(size=(n, 3)).astype(np.float32), "b": np.arange(n).T} for n in (4, 0, 1)]
    write_npz(tmp_path / "x.npz", {"c": 1.5}, iter([{"d": np.array([True])}, *parts]), packed)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert sorted(found) == ["a", "b", "c", "d"]
        for name in "ab":
            np.testing.assert_array_equal(found[name], np.concatenate([part[name] for part in parts]))
            assert found[name].dtype == parts[0][name].dtype
        assert (found["c"], found["d"].tolist()) == (1.5, [True])
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
@pytest.mark.parametrize("places", [1, 30])
def test_a_disk_that_fills_up_while_arrays_grow_leaves_nothing(tmp_path, places):
    import resource

    def parts():
        for i in range(places):
            yield {f"x{i}": np.zeros(2000, np.uint8)}  # one is too large itself, thirty are together

    path, limits = tmp_path / "x.npz", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_npz(path, {"before": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if places == 1 else 10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_npz(path, {}, parts(), packed=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(path)
    with np.load(path) as found:
        assert list(found) == ["before"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_claim_can_be_repeated_by_its_thread_and_leaves_nothing(tmp_path):
    folder = tmp_path / "new"
    with claimed(folder), claimed(folder):
        assert (folder / ".lock").is_file()
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    with claimed(folder):
        (folder / "mine").write_text("kept")
    assert [path.name for path in folder.iterdir()] == ["mine"]
    with claimed(None):
        pass


def test_a_folder_that_another_thread_has_claimed_is_busy(tmp_path):
    with claimed(tmp_path), ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: claimed(tmp_path / "." / "").__enter__()).exception()
    assert isinstance(found, Busy)
    assert "another thread is at work in" in str(found)


def test_a_folder_that_another_process_has_claimed_is_busy(tmp_path):
    code = (
        "import sys; from pathlib import Path; from vsc.files import claimed\n"
        "with claimed(Path(sys.argv[1])): print('here', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "here\n"
        with pytest.raises(Busy, match=f"another process is at work in {tmp_path}"), claimed(tmp_path):
            pass
        other.kill()
    with claimed(tmp_path):  # free again, though its holder had no time to say so
        pass


def test_what_is_no_number_becomes_null_in_json(tmp_path):
    value = {"a": [math.inf, -math.inf, math.nan, 1.5, np.float32(2), np.int64(3)], "b": (None, True, "x")}
    expected = {"a": [None, None, None, 1.5, 2.0, 3], "b": [None, True, "x"]}
    assert parse_json(as_json(value)) == expected
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == expected


DEEP = {"json": "[" * 100_000 + "]" * 100_000, "yaml": "[" * 5000 + "]" * 5000}


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": NaN}', "[Infinity]", DEEP["json"], "1" * 5000, "\x00"], ids=lambda text: text[:12]
)
def test_json_that_is_none_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"^.{1,300}$"):
        read_json(tmp_path / "x.json")


LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]\n" for before, name in pairwise("abcdefgh")
)


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: &a [*a]", LAUGHS, DEEP["yaml"], "1" * 5000, "a: !!python/object:os.system x"],
    ids=lambda text: text[:12],
)
def test_yaml_that_is_none_or_refers_to_itself_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"^.{1,300}$"):
        read_yaml(tmp_path / "x.yaml")


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(2**32)
    with pytest.raises(ValueError, match="more than 64 MiB"):
        read_json(tmp_path / "x.json")


def test_what_dead_processes_had_begun_to_write_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = [f".results.{os.getpid()}-3.tmp.json", "mine.tmp.json", ".hidden"]
    gone = [f".results.{dead.pid}-3.tmp.json", f".last.{os.getpid()}-3.tmp.pt", f".last.{dead.pid}.tmp.pt"]
    for name in (*kept, *gone):
        (tmp_path / name).write_text("half")
    clear_temporaries(tmp_path, ("last",))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("no header"), r"a\.npy: damaged \(no header\); save it again"),
        (PermissionError(13, "Permission denied"), r"a\.npy: cannot be read \(Permission denied\)"),
        (MemoryError(), r"a\.npy: damaged, or too large for memory; save it again, or rows as \.npy"),
    ],
)
def test_what_readers_raise_is_one_line(raised, said):
    with pytest.raises(UsageError, match=said), undamaged("a.npy: "):
        raise raised
