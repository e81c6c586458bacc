"""Two thousand damaged files: each is taken or ends in a short line, in bounded time and memory."""

import contextlib
import gzip
import io
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from vsc.cli.running import main
from vsc.data.batches import Batches

pytestmark = pytest.mark.slow
EACH = 200
"""Cases of each kind."""
SECONDS, BYTES, CHARACTERS = 15, 1.5 * 2**30, 300
SMALL = ["--latent-dim", "3", "--model.hidden", "[4]", "--train.batch_size", "16", "--device", "cpu"]

ODD: list = [None, True, -1, 0, 1e308, math.nan, math.inf, 10**9, 10**30, 0.5, "", "x", "é", [], {}, [[]], [1, "a"]]
ODD += [{"a": 1}, "1" * 5000, "y" * 100_000, [0] * 1000, [math.nan] * 3, -(2**63)]
NUMBERS = [b"0", b"-1", b"1e400", b"nan", b"99999999999", b"7" * 5000, b"2147483648", b"0.5", b"", b"x"]


# ---- what is done to a file


def flip(raw, rng):
    out = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(raw, rng):
    return raw[: rng.randrange(len(raw))]


def insert(raw, rng):
    at = rng.randrange(len(raw) + 1)
    what = rng.choice([rng.randbytes(rng.choice([1, 4, 100])), raw[at : at + 50], b"\0" * 9, b"\n\n", b"[" * 2000])
    return raw[:at] + what + raw[at:]


def remove(raw, rng):
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at + rng.choice([1, 3, 20, 200]) :]


def swap(raw, rng):
    a, b, c = sorted(rng.randrange(len(raw) + 1) for _ in range(3))
    return raw[:a] + raw[b:c] + raw[a:b] + raw[c:]


def number(raw, rng):
    found = list(re.finditer(rb"-?\d+(\.\d+)?", raw))
    if not found:
        return flip(raw, rng)
    one = rng.choice(found)
    return raw[: one.start()] + rng.choice(NUMBERS) + raw[one.end() :]


BLIND = [flip, cut, insert, remove, swap, number]


def edited(value, rng):
    """Change one thing somewhere in nested lists and dictionaries."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key, out = rng.choice(list(value)), dict(value)
        match rng.randrange(8):
            case 0:
                del out[key]
            case 1:
                out[rng.choice(["x", "", 0, "é" * 400])] = out.pop(key)
            case _:
                out[key] = edited(value[key], rng)
        return out
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], *rng.choice([[], [edited(value[at], rng)], value[at : at + 1] * 3]), *value[at + 1 :]]
    return rng.choice(ODD)


def as_json(raw, rng):
    return json.dumps(edited(json.loads(raw), rng)).encode()


def as_lines(raw, rng):
    lines = raw.splitlines()
    at = rng.randrange(len(lines))
    return b"\n".join([*lines[:at], as_json(lines[at], rng), *lines[at + 1 :]])


ALIASES = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefgh"))


TRAPS = [ALIASES, "data: &a {name: *a}", "[" * 3000, "{a: " * 3000, "- " * 3000, "a: !!python/name:os.system"]


def as_yaml(raw, rng):
    if rng.random() < 0.1:
        return rng.choice(TRAPS).encode() + rng.choice([b"", raw])
    return yaml.safe_dump(edited(yaml.safe_load(raw), rng)).encode()


def array_of(array, rng):
    """Return an array like another one, or not quite."""
    n = len(array) if array.ndim else 1
    return rng.choice([
        lambda: array[:0],
        lambda: array[:3],
        lambda: np.concatenate([array] * 3) if array.ndim else array,
        lambda: array[..., None],
        array.ravel,
        lambda: array.astype(rng.choice(["f2", "f4", ">f8", "i1", "?", "S3", "U9", "c8", "V4"]), copy=True),
        lambda: np.where(np.arange(array.size).reshape(array.shape) == array.size // 2, np.nan, 1.0) * 1e30,
        lambda: np.zeros(array.shape),
        lambda: np.float64(3),
        lambda: np.array(["y" * 5000] * n),
        lambda: np.zeros((n, 0)),
        lambda: np.zeros((1, 0, 7)),
        lambda: np.zeros((0,)),
        lambda: np.zeros((n, 2), [("a", "f8"), ("b", "O")])[["a"]],
        lambda: np.datetime64("2020-01-01") + np.arange(n),
    ])()  # fmt: skip


def as_npz(raw, rng):
    with np.load(io.BytesIO(raw)) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(list(arrays))
    match rng.randrange(6):
        case 0:
            del arrays[name]
        case 1:
            arrays[rng.choice(["x", "y", "X", "shape", "extra_", "z" * 500, "x_test", "high"])] = arrays.pop(name)
        case 2:
            arrays["x"] = np.zeros((2 ** rng.choice([10, 17]), 2**13), np.uint8)
        case _:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.suppress(ValueError, TypeError):
                    arrays[name] = array_of(arrays[name], rng)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def as_header(raw, rng):
    """Change the text at the head of a .npy file, its length kept right."""
    size = struct.unpack("<H", raw[8:10])[0]
    head = raw[10 : 10 + size].rstrip()
    shapes = [b"(3000000000, 4)", b"(30L, 4L)", b"(4, 30)", b"()", b"(0, 12)", b"(30, -4)", b"(1" + b", 1" * 70 + b")"]
    types = [b"'|O'", b"'|V8'", b"'>f8'", b"'<U2'", b"[('a', '<f4'), ('b', '<f4')]", b"'<M8[s]'"]
    edits = [(b"(30, 4)", shape) for shape in shapes] + [(b"'<f8'", one) for one in types]
    edits += [(b"False", b"True"), (b"{", b"{" * 900)]
    head = head.replace(*rng.choice(edits)) if rng.random() < 0.7 else number(head, rng)
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return raw[:8] + struct.pack("<H", len(head) % 2**16) + head + raw[10 + size :]


def as_table(raw, rng):
    rows = [line.split(b",") for line in raw.split(b"\n")]
    cells = [b"", b"red", b"nan", b"-inf", b'"', b"1_0", b"9" * 5000, b"y" * 100_000, b"0x10", b"\xc3", b"\0", b"1;2"]
    row = rng.choice(rows)
    match rng.randrange(6):
        case 0:
            row.append(rng.choice(cells))
        case 1:
            del row[rng.randrange(len(row))]
        case 2:
            rows[0] = [rng.choice([b"a", b"0", b"label", b"y", b"", b"z" * 2000]) for _ in rows[0]]
        case 3:
            rows = [line * rng.choice([2, 2000]) for line in rows]
        case 4:
            at = rng.randrange(len(rows[0]))
            for line in rows[1:]:
                line[at % len(line)] = rng.choice(cells)
        case _:
            row[rng.randrange(len(row))] = rng.choice(cells)
    return b"\n".join(b",".join(line) for line in rows)


def as_idx(raw, rng):
    shape = [rng.choice([0, 1, 20, 28, 2**31, 2**32 - 1]) for _ in range(rng.choice([0, 1, 2, 3, 3, 3, 4, 200]))]
    out = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + raw[16:]
    return rng.choice([out, gzip.compress(out), gzip.compress(raw + b"\0" * 10**7), gzip.compress(raw)[:-9]])


def as_tensors(raw, rng):
    tensors = tensors_of(raw)
    name = rng.choice(list(tensors))
    match rng.randrange(6):
        case 0:
            del tensors[name]
        case 1:
            tensors["more." * rng.choice([1, 500])] = tensors.pop(name)
        case 2:
            tensors[name] = tensors[name] * rng.choice([math.nan, math.inf, 1e30, 0])
        case 3:
            tensors[name] = tensors[name].to(rng.choice([torch.float64, torch.float16, torch.int8, torch.bool]))
        case 4:
            tensors[name] = torch.zeros(rng.choice([(), (0,), (3, 3), (1000,)]))
        case _:
            tensors[name] = torch.cat([torch.atleast_1d(tensors[name])] * 2)
    return bytes_of(tensors)


def as_checkpoint(raw, rng):
    def changed(value):
        if isinstance(value, torch.Tensor) and rng.random() < 0.7:
            return rng.choice([value * math.nan, value.double(), value[None][:0], torch.zeros(3, 3), value[None]])
        if isinstance(value, dict) and value and rng.random() < 0.95:
            key, out = rng.choice(list(value)), dict(value)
            if rng.random() < 0.15:
                del out[key]
            else:
                out[key] = changed(value[key])
            return out
        if isinstance(value, list | tuple) and value and rng.random() < 0.8:
            at = rng.randrange(len(value))
            return type(value)([*value[:at], changed(value[at]), *value[at + 1 :]])
        return rng.choice(ODD)

    out = io.BytesIO()
    torch.save(changed(torch.load(io.BytesIO(raw), weights_only=True)), out)
    return out.getvalue()


# ---- what is damaged, how it is read


KINDS = {
    "settings": ("mine.yaml", [*BLIND, as_yaml, as_yaml, as_yaml, as_yaml], [
        ["train", "--config", "mine.yaml", "--steps", "2", "--data", "mine.csv", "--out", "new", "--device", "cpu"]]),
    "npy": ("mine.npy", [*BLIND, as_header, as_header, as_header], [["data", "mine.npy"]]),
    "npz": ("mine.npz", [*BLIND, as_npz, as_npz, as_npz, as_npz], [
        ["data", "mine.npz"], ["encode", "run", "--data", "mine.npz"]]),
    "table": ("mine.csv", [*BLIND, as_table, as_table, as_table], [
        ["data", "mine.csv"], ["encode", "run", "--data", "mine.csv"], ["evaluate", "run"]]),
    "idx": ("train-images-idx3-ubyte", [*BLIND, as_idx, as_idx], [["data", "train-images-idx3-ubyte"]]),
    "model": ("run/model/config.json", [*BLIND, as_json, as_json, as_json, as_json], [
        ["evaluate", "run"], ["sample", "run"], ["encode", "run"]]),
    "weights": ("run/model/model.safetensors", [*BLIND, as_tensors, as_tensors, as_tensors, as_tensors], [
        ["evaluate", "run"], ["sample", "run"], ["encode", "run"]]),
    "run's settings": ("run/config.yaml", [*BLIND, as_yaml, as_yaml, as_yaml], [
        ["evaluate", "run"], ["train", "--resume", "--out", "run"]]),
    "checkpoint": ("half/checkpoints/last.pt", [*BLIND, *[as_checkpoint] * 12], [
        ["train", "--resume", "--out", "half"]]),
    "written beside": ("run/*", [*BLIND, as_lines, as_lines], [["report", "run"], ["evaluate", "run"],
                                                             ["train", "--resume", "--out", "run"]]),
}  # fmt: skip
"""kind -> (file, what is done to it, commands that read it)"""
BESIDE = ["run/metrics.jsonl", "run/environment.json", "run/results.json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder that holds one good file of each kind, a run and one that was ended half-way."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        rows = [",".join([*(f"{value:.3f}" for value in row), "uv"[i % 2]]) for i, row in enumerate(x)]
        Path("mine.csv").write_text("\n".join(["a,b,c,d,label", *rows]) + "\n")
        np.save("mine.npy", x)
        np.savez("mine.npz", x=x, y=np.arange(30) % 3, factors=x[:, :2], features=list("abcd"), shape=[4])
        images = rng.integers(0, 256, (20, 28, 28)).astype(np.uint8)
        Path("train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 20, 28, 28) + images.tobytes())
        words = ["train", "--data", "mine.csv", *SMALL, "--train.checkpoint_every", "3", "--train.valid_every", "2"]
        assert main([*words, "--steps", "4", "--out", "run"]) == 0
        assert main(["evaluate", "run"]) == 0
        draw = Batches.__call__

        def die(self, step):
            if step == 4:
                raise MemoryError
            return draw(self, step)

        patch.setattr(Batches, "__call__", die)
        assert main([*words, "--steps", "6", "--out", "half"]) == 1
        assert Path("half/checkpoints/last.pt").is_file()
        Path("mine.yaml").write_text(Path("run/config.yaml").read_text())
    return folder


def damaged(whole, kind, i, folder):
    """Copy the whole folder, damage one file of it and return the command that is to read it."""
    rng = random.Random(f"{kind} {i}")
    name, ways, commands = KINDS[kind]
    name = rng.choice(BESIDE) if "*" in name else name
    shutil.copytree(whole, folder)
    raw = (folder / name).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        way = rng.choice(ways)
        if way is as_lines and not name.endswith("jsonl"):
            way = as_json
        new = way(raw, rng)
    (folder / name).write_bytes(new)
    if way is as_tensors:  # which are then not those that the checksum speaks of
        about = json.loads((folder / "run/model/config.json").read_text())
        (folder / "run/model/config.json").write_text(json.dumps(about | {"sha256": sha256(new).hexdigest()}))
    return way.__name__, rng.choice(commands)


def started(whole, kind, i, folder):
    """Run one case in a child of this process; return the child's number."""
    if child := os.fork():
        return child
    try:
        told, words = damaged(whole, kind, i, folder)
        os.chdir(folder)
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, encoding="utf-8", closefd=False) for n in (1, 2))
        Path(f"{folder}.way").write_text(f"{told}: vsc {' '.join(words)}")
        warnings.resetwarnings()
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        signal.alarm(20 * SECONDS)
        code = main(words)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    os._exit(code)


def judged(status, usage, folder):
    """Say what is wrong with how a case ended, or nothing."""
    said = Path(f"{folder}.err").read_text(errors="replace") if Path(f"{folder}.err").exists() else ""
    longest = max(map(len, said.splitlines()), default=0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1, 2):
        return f"ended with {code} after {usage.ru_utime:.0f} s: {said[-600:]}"
    if "vsc: unexpected" in said or "Traceback" in said:
        return said[:400]
    if said.count("\n") > 1 or longest > CHARACTERS or (code and not said.strip()):
        return f"{said.count(chr(10))} lines of up to {longest} characters: {said[:400]}"
    if usage.ru_maxrss * 1024 > BYTES:
        return f"took {usage.ru_maxrss / 2**20:.1f} GiB"
    return None


def next_of(children):
    """Wait for the first of these to end; this process may have other children, of tests that ran before."""
    while True:
        for child in children:
            ended, status, usage = os.wait4(child, os.WNOHANG)
            if ended:
                return ended, status, usage
        time.sleep(0.002)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_in_a_line(whole, tmp_path, kind):
    bad, running = [], {}
    for i in [*range(EACH), *[None] * (os.cpu_count() or 1)]:
        if i is None or len(running) >= (os.cpu_count() or 1):
            if not running:
                break
            child, status, usage = next_of(running)
            number, folder = running.pop(child)
            if problem := judged(status, usage, folder):
                bad.append(f"{number} {Path(f'{folder}.way').read_text()}\n    {problem}")
            shutil.rmtree(folder, ignore_errors=True)
        if i is not None:
            folder = tmp_path / str(i)
            running[started(whole, kind, i, folder)] = (i, folder)
    assert not bad, f"{len(bad)} of {EACH}:\n" + "\n".join(sorted(bad)[:40])
