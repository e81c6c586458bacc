"""Torch's own data sets and loaders: the same examples, and clear words about what cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import vsc
from vsc.data import batches, from_arrays, from_torch, pytorch
from vsc.data.batches import StoredBatches, StreamedBatches, batches_of
from vsc.data.stored import Stored
from vsc.errors import RunError, UsageError
from vsc.measure.measured import evaluate, pick
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.training.loop import train

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 120)
IMAGES = RNG.integers(0, 256, (50, 5, 6, 3)).astype(np.uint8)

SHORT = TrainConfig(steps=12, batch_size=16, log_every=3, valid_every=4, checkpoint_every=5, device="cpu")


def config(train=SHORT, **model):
    model = {"name": "vsc", "latent_dim": 4, "hidden": (16,)} | model
    return Config(DataConfig("mine"), ModelConfig(**model), train)


class Items(TorchDataset):
    """A data set as users write them: arrays of NumPy, labels of Python."""

    def __init__(self, x, y=None):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] if self.y is None else (self.x[i], self.y[i])


class Stream(IterableDataset):
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x)


def tensors():
    return TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


@pytest.mark.parametrize(
    ("dataset", "x", "y"),
    [
        (tensors(), X, Y),
        (Items(X, Y.tolist()), X, Y),
        (Items(X, np.array(["c", "a", "b"])[Y].tolist()), X, np.array(["c", "a", "b"])[Y]),
        (Items(X.astype(np.float64)), X, None),
        (Items(IMAGES), IMAGES, None),
        (Items(torch.from_numpy(IMAGES[..., 0] // 255)), IMAGES[..., 0] // 255, None),
        (TensorDataset(torch.from_numpy(X)), X, None),
    ],
)
def test_a_dataset_has_the_same_parts_as_its_arrays(dataset, x, y):
    data, expected = from_torch(dataset, valid_fraction=0.2, seed=3), from_arrays(x, y, valid_fraction=0.2, seed=3)
    assert isinstance(data.train.x, Stored)
    assert (data.shape, data.high, data.classes) == (expected.shape, expected.high, expected.classes)
    for part in ("train", "valid", "test"):
        one, other = getattr(data, part), getattr(expected, part)
        assert torch.equal(one.x[:], other.x)
        assert (one.y is None) == (other.y is None)
        assert one.y is None or torch.equal(one.y, other.y)


def test_a_dataset_trains_as_its_arrays_do():
    one, other = train(from_torch(tensors()), config()), train(from_arrays(X, Y), config())
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::vsc.errors.Caution")
def test_a_large_dataset_is_fetched_a_group_at_a_time(monkeypatch):
    data = from_torch(tensors())
    monkeypatch.setattr(batches, "GROUP", 30 * (4 * 6 + 32))
    assert isinstance(batches_of(data.train, torch.nn.Identity(), 16, 0), StoredBatches)
    model = train(data, config())
    scores = evaluate(model, data)
    assert 0 <= scores.probe <= 1
    assert model.encode(data.train.x).z.shape == (len(data.train), 4)
    with pytest.raises(UsageError, match="train split of dataset stays on disk; take valid or test"):
        pick(data, "train")


@pytest.mark.parametrize("given", [Items(X[:20], Y[:20]), (X[:20], Y[:20]), DataLoader(Items(X[:20], Y[:20]), 7)])
def test_parts_of_ones_own(given):
    data = from_torch(Items(X[20:], Y[20:]), test=given, valid=X[:5], classes=("x", "y", "z"))
    assert np.array_equal(data.test.x, X[:20])
    assert np.array_equal(data.test.y, Y[:20])
    assert data.valid.y is None
    assert data.classes == ("x", "y", "z")
    assert len(data.train) == 100
    assert len(data.valid) == 5


def test_where_float32_blurs_one_part_all_are_float64():
    seconds = 1.7e9 + np.arange(20.0)[:, None] * np.ones(6)
    data = from_torch(Items(X), test=seconds)
    assert {part.x[:].dtype for part in (data.train, data.valid, data.test)} == {torch.float64}
    assert np.array_equal(data.test.x, seconds)


# ---- streams


def loader(x=X, y=Y, size=10, **more):
    return DataLoader(Items(x, None if y is None else y), size, **more)


def test_a_loader_gives_its_batches_in_its_order_again_and_again():
    data = from_torch(loader(size=50))
    found = batches_of(data.train, torch.nn.Identity(), batch_size=16, seed=0)
    assert isinstance(found, StreamedBatches)
    seen = [found(step) for step in range(7)]
    assert [len(batch) for batch in seen] == [50, 50, 20, 50, 50, 20, 50]
    assert np.array_equal(torch.cat(seen[3:6]), X)
    assert (len(data.valid), len(data.test)) == (0, 0)
    assert np.array_equal(data.train.x, X)
    assert np.array_equal(data.train.y, Y)


def test_an_iterable_dataset_is_streamed_in_batches_of_the_size_asked_for():
    data = from_torch(Stream(IMAGES))
    assert (data.shape, data.high) == ((3, 5, 6), 255.0)
    found = batches_of(data.train, torch.nn.Identity(), batch_size=16, seed=0)
    first = found(0)
    assert np.array_equal(first.reshape(16, 3, 5, 6), IMAGES[:16].transpose(0, 3, 1, 2))


def test_what_is_looked_at_of_a_stream_is_bounded(monkeypatch):
    monkeypatch.setattr(pytorch, "FIRST", 35)
    assert len(from_torch(loader(size=10)).train) == 40
    monkeypatch.setattr(pytorch, "FIRST_BYTES", 20 * 6 * 4)
    assert len(from_torch(loader(size=10)).train) == 30


@pytest.mark.filterwarnings("ignore::vsc.errors.Caution")
def test_a_stream_trains_is_measured_and_resumes(tmp_path, monkeypatch):
    data = from_torch(loader(shuffle=True), valid=(X[:20], Y[:20]), test=loader(X[20:50], Y[20:50]))
    assert vsc.from_torch is from_torch
    one = train(data, config(gates="pseudo-inputs", components=5), tmp_path / "one")
    two = train(data, config(gates="pseudo-inputs", components=5), tmp_path / "two")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert evaluate(one, data).probe is not None
    fetch = StreamedBatches.__call__

    def die(self, step):
        if step == 9:
            raise MemoryError
        return fetch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(StreamedBatches, "__call__", die)
        with pytest.raises(MemoryError):
            train(data, config(), tmp_path / "run")
    train(data, config(), tmp_path / "run", resume=True)
    assert vsc.load(tmp_path / "run").latent_dim == 4


def test_a_stream_is_binarised():
    data = from_torch(loader(IMAGES, None), valid=IMAGES[:5])
    settings = replace(config(), data=DataConfig("mine", binarise=True))
    seen = []
    fetch = StreamedBatches.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StreamedBatches, "__call__", lambda self, step: seen.append(fetch(self, step)) or seen[-1])
        train(data, settings)
    assert set(torch.cat(seen).unique().tolist()) == {0.0, 1.0}


class Once:
    """An iterator in a loader's clothes: it can be gone through once."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __iter__(self):
        return self.batches


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (torch.full((5, 6), float("nan")), r"batch 1 of train holds 30 values that are NaN or infinite"),
        (torch.zeros(5, 7), r"batch 1 of train holds torch.float32 examples of shape \(7,\), but .* \(6,\)"),
        (torch.zeros(5, 6, dtype=torch.uint8), r"batch 1 of train holds torch.uint8"),
        (torch.zeros(5), "one row per example"),
        ({"x": torch.zeros(5, 6)}, r"x or \(x, y\), not as a dict"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(monkeypatch, later, message):
    class Changing:
        def __iter__(self):
            return iter([torch.from_numpy(X[:20]), later])

    monkeypatch.setattr(pytorch, "FIRST", 15)
    data = from_torch(Changing(), valid=X[:10])
    with pytest.raises(RunError, match=message) as caught:
        train(data, config())
    assert "\n" not in str(caught.value)


def test_a_stream_that_ends_for_good_is_named():
    data = from_torch(Once(torch.from_numpy(X).split(10)))
    with pytest.raises(RunError, match="again and again"):
        train(data, config())


NO_LENGTH = Items(X)
NO_LENGTH.x = iter(X)
UNEVEN = [*X[:11], X[11, :5]]


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        (3, {}, "expected a torch Dataset or DataLoader, not int"),
        (Items(X[:9]), {}, "train holds 9 examples; at least 10"),
        (Items([]), {}, "holds 0 examples"),
        (NO_LENGTH, {}, "no length; give a DataLoader"),
        (Items(UNEVEN), {}, r"train\[11\] is float32 of shape \(5,\), but train\[0\] float32 of shape \(6,\)"),
        (Items(X[:, 0]), {}, "one row per example"),
        (Items(np.where(X > 2, np.nan, X)), {}, "train holds NaN or infinite values"),
        (Items([{"x": row} for row in X]), {}, r"x or \(x, y\), not as a dict"),
        (Items(X, X[:, 0].tolist()), {}, "integers, strings or booleans"),
        (Items(X, Y), {"classes": ("a", "b")}, "indices of the 2 classes, not 0 to 2"),
        (Items(X), {"test": X[:, :5]}, r"examples of test have shape \(5,\), those of train \(6,\)"),
        (Items(X), {"valid": (X * 9).astype(np.uint8)}, "one of train and valid is uint8"),
        (Items(X), {"valid": (X, Y[:5])}, "labels of valid holds 5 labels for 120"),
        (Items(X), {"valid_fraction": 1.0}, "valid_fraction"),
        (loader(X[:9], None), {}, "train holds 9 examples; at least 10"),
        (DataLoader(Stream([])), {}, "train gives no batches"),
        (Once([X[:20], X[20:, :4]]), {}, "the batches of train differ"),
        (loader(np.full((20, 3), np.inf), None), {}, "NaN or infinite"),
    ],
)
def test_what_cannot_be_used(given, more, message):
    with pytest.raises(UsageError, match=message) as caught:
        from_torch(given, **more)
    assert "\n" not in str(caught.value)
