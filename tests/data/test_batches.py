"""Batches of examples on disk: every epoch is a permutation of them all, as well mixed as memory allows."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from vsc.data import batches, from_arrays, load, reading
from vsc.data.batches import Batches, StoredBatches, at_once, batches_of
from vsc.data.stored import FileShard, Stored
from vsc.errors import RunError
from vsc.model.scaling import Scaler
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.resolve import resolve
from vsc.training.loop import Interrupted, train

N = 3000


def numbered(folder, n=N, cuts=(700, 701, 2000), excluded=0):
    """Rows that tell their own number, in shards, less some."""
    for i, part in enumerate(np.split(np.arange(n, dtype=np.float32)[:, None], cuts)):
        np.save(folder / f"{i}.npy", part)
    x = Stored([FileShard(np.load(path, mmap_mode="r"), path.name) for path in sorted(folder.glob("*.npy"))])
    return x.without(torch.randperm(n)[:excluded].sort().values)


def plain_scaler():
    return Scaler("none", torch.zeros(1), torch.ones(1))


def epoch_of(found, epoch=0):
    return torch.cat([found(epoch * found.per_epoch + i) for i in range(found.per_epoch)]).flatten()


@pytest.mark.parametrize(("size", "together"), [(16, 500), (100, 64), (37, 1), (333, 100), (5000, 256), (16, 10**6)])
def test_every_epoch_is_a_permutation_of_all_examples_but_an_incomplete_batch(tmp_path, size, together):
    x = numbered(tmp_path, n=1000, cuts=(230, 231, 700), excluded=100)
    found = StoredBatches(x, plain_scaler(), size, seed=3, together=together)
    assert found.per_epoch == max(1, 900 // size)
    orders = [epoch_of(found, epoch) for epoch in range(3)]
    for order in orders:
        assert len(order) == found.per_epoch * min(size, 900)
        assert len(order.unique()) == len(order)
        assert set(order.tolist()) <= set(x[:].flatten().tolist())
    assert orders[0].tolist() != orders[1].tolist() != orders[2].tolist()


def test_batches_are_a_pure_function_of_the_step(tmp_path):
    x = numbered(tmp_path)
    a, b = (StoredBatches(x, plain_scaler(), 128, seed=3, together=500) for _ in range(2))
    forwards = [a(step) for step in range(60)]
    torch.manual_seed(77)
    backwards = [b(step) for step in reversed(range(60))][::-1]
    assert all(torch.equal(x, y) for x, y in zip(forwards, backwards, strict=True))
    other = StoredBatches(x, plain_scaler(), 128, seed=4, together=500)
    assert not torch.equal(other(0), forwards[0])


@pytest.mark.parametrize("world", [2, 4])
def test_processes_part_the_joint_batch_among_them(tmp_path, world):
    x = numbered(tmp_path)
    joint = StoredBatches(x, plain_scaler(), 64, seed=3, together=500)
    parts = [StoredBatches(x, plain_scaler(), 64, 3, rank=rank, world=world, together=500) for rank in range(world)]
    for step in (0, 7, 8, 45, 46, 47, 50):
        shares = [part(step).flatten() for part in parts]
        assert {len(share) for share in shares} == {64 // world}
        assert sorted(torch.cat(shares).tolist()) == sorted(joint(step).flatten().tolist())
    epoch = torch.cat([epoch_of(part) for part in parts])
    assert len(epoch.unique()) == len(epoch) == 46 * 64


def test_the_order_is_mixed_over_shards_and_within_blocks(tmp_path):
    """A sixth of the data in memory at once: still no batch is of one shard, and no neighbours stay together."""
    found = StoredBatches(numbered(tmp_path, excluded=100), plain_scaler(), 100, seed=0, together=500)
    order = epoch_of(found).numpy()
    place = np.arange(len(order))
    # blocks of 31 rows in random order: about 97 of them, so that the correlation's deviation is near 1 / sqrt(97)
    assert abs(np.corrcoef(place, order)[0, 1]) < 4 / math.sqrt(97)
    for batch in order.reshape(-1, 100)[:-5]:  # the rest of the last group is small
        thirds = np.histogram(batch, bins=3, range=(0, N))[0]
        assert thirds.min() > 0
    # of two random rows one is a neighbour of the other in 2 of 500 places
    assert (np.abs(np.diff(order)) == 1).mean() < 0.02


def test_rows_of_one_block_part_from_epoch_to_epoch(tmp_path):
    """Which rows share a batch changes: two epochs' first batches overlap no more than by chance."""
    found = StoredBatches(numbered(tmp_path), plain_scaler(), 300, seed=0, together=1000)
    first, second = set(found(0).flatten().tolist()), set(found(found.per_epoch).flatten().tolist())
    # 300 of 3000: 30 rows by chance, deviation 5, and more since blocks move as one
    assert len(first & second) < 90


def test_every_order_of_a_single_group_is_as_likely(tmp_path):
    """Where all is in memory at once, the place of a row is uniform: chi-square over 400 seeds."""
    x = numbered(tmp_path, n=12, cuts=(5,))
    counts = np.zeros((12, 12))
    for seed in range(400):
        order = epoch_of(StoredBatches(x, plain_scaler(), 4, seed, together=100)).long().numpy()
        counts[np.arange(12), order] += 1
    chi2 = ((counts - 400 / 12) ** 2 / (400 / 12)).sum()
    assert chi2 < 121 + 5 * math.sqrt(2 * 121)


def test_large_examples_are_shuffled_in_smaller_blocks(tmp_path):
    found = StoredBatches(numbered(tmp_path), plain_scaler(), 10, seed=0, together=32)
    assert (found._block, found._blocks) == (2, 16)


def test_at_most_one_group_is_read_at_a_time(tmp_path, monkeypatch):
    x, read = numbered(tmp_path), []
    rows = FileShard.read
    monkeypatch.setattr(FileShard, "read", lambda self, a, b: read.append(b - a) or rows(self, a, b))
    found = StoredBatches(x, plain_scaler(), 100, seed=0, together=500)
    found(0)
    assert sum(read) <= 500
    epoch_of(found)
    assert sum(read) == N  # each example once in an epoch


def test_binarise_draws_bits(tmp_path):
    x = numbered(tmp_path, n=1000)
    found = StoredBatches(x, Scaler("none", torch.zeros(1), torch.full((1,), 0.001)), 1000, 0, True, together=300)
    first, second = found(0), found(0)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(0.5, abs=0.1)


def test_the_memory_of_a_group_counts_the_order_too(tmp_path):
    assert at_once(numbered(tmp_path)) == batches.GROUP // (4 + 32)


# ---- training

SHORT = TrainConfig(steps=14, batch_size=32, log_every=3, valid_every=4, checkpoint_every=5, device="cpu")


def config(train=SHORT, binarise=False, **model):
    model = {"name": "vsc", "latent_dim": 4, "hidden": (16,)} | model
    return Config(DataConfig("mine", binarise=binarise), ModelConfig(**model), train)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Write a table of 2000 rows in two shards, which count as larger than memory: 300 rows at most are in it."""
    monkeypatch.setattr(reading, "IN_MEMORY", 0)
    rng = np.random.default_rng(0)
    x = (rng.random((2000, 3)) < 0.4) * rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 8))
    x += 0.3 * rng.normal(size=x.shape)
    folder = tmp_path / "table"
    folder.mkdir()
    for i, part in enumerate(np.split(x.astype(np.float32), [700])):
        np.save(folder / f"{i}.npy", part)
    monkeypatch.setattr(batches, "GROUP", 300 * (4 * 8 + 32))
    return folder


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def in_memory(folder):
    return from_arrays(np.concatenate([np.load(path) for path in sorted(folder.glob("*.npy"))]), name=folder.name)


def test_training_from_disk_comes_out_as_from_memory(table):
    longer = replace(SHORT, steps=300, valid_every=300, lr="6e-3 -> 2e-5 at 0.5")
    settings = config(longer, name="vae", likelihood="gaussian-fixed", variance=0.2)
    data = load(table)
    assert isinstance(batches_of(data.train, plain_scaler(), 32, 0), StoredBatches)
    elbo = []
    for one in (data, in_memory(table)):
        model = train(one, settings)
        with torch.no_grad():
            torch.manual_seed(0)
            elbo.append(model(model.scaler(one.valid.x)).elbo.mean().item())
    with torch.no_grad():
        untrained = build.new_model(resolve(settings, data), data).eval()
        before = untrained(untrained.scaler(data.valid.x)).elbo.mean().item()
    assert abs(elbo[0] - elbo[1]) < 0.1 * (elbo[1] - before)  # the same but for the order


def test_training_is_the_same_where_the_order_is(table, monkeypatch):
    monkeypatch.setattr(batches, "GROUP", 2**20)  # all at once
    data = load(table)
    assert type(batches_of(data.train, plain_scaler(), 32, 0)) is Batches
    one, other = train(data, config()), train(in_memory(table), config())
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("step", [3, 12])
def test_a_run_from_disk_resumes_bit_for_bit(table, tmp_path, monkeypatch, step):
    whole = train(load(table), config(gates="pseudo-inputs", components=5), tmp_path / "whole")
    fetch, sent = StoredBatches.__call__, []

    def fetch_and_kill(self, number):
        if number == step and not sent:
            sent.append(number)
            os.kill(os.getpid(), signal.SIGINT)
        return fetch(self, number)

    monkeypatch.setattr(StoredBatches, "__call__", fetch_and_kill)
    with pytest.raises(Interrupted):
        train(load(table), config(gates="pseudo-inputs", components=5), tmp_path / "parts")
    parts = train(load(table), config(gates="pseudo-inputs", components=5), tmp_path / "parts", resume=True)
    assert equal(whole, parts)


def test_a_file_that_shrinks_while_it_trains_loses_nothing(table, tmp_path, monkeypatch):
    whole = train(load(table), config(), tmp_path / "whole")
    path, fetch = table / "1.npy", StoredBatches.__call__
    content = path.read_bytes()

    def fetch_and_cut(self, number):
        if number == 9:
            path.write_bytes(content[:-32])
        return fetch(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(StoredBatches, "__call__", fetch_and_cut)
        with pytest.raises(RunError, match=r"1\.npy: the file has .*--resume"):
            train(load(table), config(), tmp_path / "run")
    path.write_bytes(content)
    assert equal(whole, train(load(table), config(), tmp_path / "run", resume=True))


LIMITED = """
import resource, sys
import numpy as np
import torch
import vsc
from vsc.data import batches

torch.set_num_threads(1)
path, mapped = sys.argv[1], sys.argv[2] == "mapped"
settings = vsc.TrainConfig(steps=2, batch_size=16, device="cpu", valid_every=100)
vsc.train(vsc.from_arrays(np.random.default_rng(0).random((20, 64))), vsc.Config(train=settings))  # loads all libraries
status = dict(line.split(":") for line in open("/proc/self/status"))
taken = int(status["VmData"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (taken + 200 * 2**20, -1))
try:
    np.ones(300 * 2**20, np.uint8)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
data = vsc.from_arrays(np.load(path, mmap_mode="r")) if mapped else vsc.load_data(path)
assert data.train.x.shape[0] * data.train.x.row_bytes > 2**30
assert len(data.train) > 10 * batches.at_once(data.train.x)
settings = vsc.TrainConfig(steps=30, batch_size=1000, device="cpu", valid_every=100)
vsc.train(data, vsc.Config(train=settings, model=vsc.ModelConfig(hidden=(8,), latent_dim=4)))
print("trained")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's memory is Linux's")
@pytest.mark.parametrize("kind", ["file", "mapped"])
def test_training_on_more_than_memory_holds(tmp_path, kind):
    """1.1 GiB of examples, most of them a hole in the file, in 200 MiB beyond what the libraries take."""
    path = tmp_path / "large.npy"
    x = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(1_200_000, 1000))
    x[::100_000, 7] = 255
    x.flush()
    del x
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path), kind], capture_output=True, text=True, check=False)
    path.unlink()
    assert done.stdout.endswith("trained\n"), done.stderr
