"""Examples on disk are the same examples: the same parts, ranges and scaling as in memory, read a few at a time."""

import numpy as np
import pytest
import torch

from vsc.data import from_arrays, load, read_rows, reading, stored
from vsc.data.batches import batches_of
from vsc.data.split import Split, divide
from vsc.data.stored import FileShard, Stored
from vsc.errors import RunError, UsageError
from vsc.model.scaling import Chunked, Scaler, fit_scaler

RNG = np.random.default_rng(0)
TABLE = RNG.normal(3.0, 2.0, size=(300, 5)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (60, 5, 6, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def on_disk(monkeypatch):
    """Let every array file count as larger than memory."""
    monkeypatch.setattr(reading, "IN_MEMORY", 0)


@pytest.fixture
def small_parts(monkeypatch):
    """Read 7 rows of five floats at a time."""
    monkeypatch.setattr(Chunked, "PART", 7 * 5 * 4)


def shards(folder, x, *cuts, y=None):
    """Write x as a folder of shards that end at `cuts`."""
    folder.mkdir()
    for i, part in enumerate(np.split(x, cuts)):
        np.save(folder / f"shard-{i}.npy", part)
    if y is not None:
        np.save(folder / "y.npy", y)
    return folder


def opened(tmp_path, x, *cuts):
    folder = shards(tmp_path / "shards", x, *cuts)
    return Stored([FileShard(np.load(path, mmap_mode="r"), path.name) for path in sorted(folder.glob("*.npy"))])


def same(data, expected):
    assert isinstance(data.train.x, Stored)
    assert (data.shape, data.high, data.classes) == (expected.shape, expected.high, expected.classes)
    for one, other in ((data.train, expected.train), (data.valid, expected.valid), (data.test, expected.test)):
        assert one.x.dtype == other.x.dtype
        assert torch.equal(one.x[:], other.x)
        assert (one.y is None) == (other.y is None)
        assert one.y is None or torch.equal(one.y, other.y)


@pytest.mark.parametrize("x", [TABLE, TABLE.astype(">f8"), TABLE > 3, IMAGES, IMAGES[:, :, :, 0], IMAGES // 255])
def test_a_file_has_the_same_parts_as_the_array_in_memory(tmp_path, x):
    expected = from_arrays(x, valid_fraction=0.2, seed=3)
    np.save(tmp_path / "mine.npy", x)
    same(load(tmp_path / "mine.npy", valid_fraction=0.2, seed=3), expected)
    np.save(tmp_path / "columns.npy", np.asfortranarray(x))
    same(load(tmp_path / "columns.npy", valid_fraction=0.2, seed=3), expected)


@pytest.mark.usefixtures("small_parts")
def test_a_folder_of_shards_has_the_same_parts_and_labels(tmp_path):
    y = np.array(["a", "b", "c"])[RNG.integers(0, 3, 300)]
    folder = shards(tmp_path / "mine", TABLE, 1, 40, 40, 41, 200, y=y)  # one of them without rows
    data = load(folder)
    same(data, from_arrays(TABLE, y))
    assert data.name == "mine"


@pytest.mark.parametrize("view", [slice(None), slice(20, 280), slice(None, None, 2)])
def test_a_memory_map_has_the_same_parts(tmp_path, view):
    np.save(tmp_path / "mine.npy", TABLE)
    mapped = np.load(tmp_path / "mine.npy", mmap_mode="r")[view]
    y = np.arange(len(mapped)) % 2
    same(from_arrays(mapped, y), from_arrays(TABLE[view], y))
    assert isinstance(from_arrays(mapped + 1).train.x, torch.Tensor)  # what is computed from it is in memory


def test_a_list_of_memory_maps_has_the_same_parts(tmp_path):
    folder = shards(tmp_path / "mine", TABLE, 1, 40, 40, 41, 200)
    mapped = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))]
    same(from_arrays(mapped, valid_fraction=0.3), from_arrays(TABLE, valid_fraction=0.3))


def test_a_column_that_float32_would_blur_stays_whole(tmp_path):
    seconds = TABLE.astype(np.float64)
    seconds[:, 1] = 1.7e9 + np.arange(300)
    np.save(tmp_path / "mine.npy", seconds)
    mapped, memory = load(tmp_path / "mine.npy"), from_arrays(seconds)
    same(mapped, memory)
    assert memory.test.x.dtype == torch.float64
    assert len(memory.train.x[:, 1].unique()) == len(memory.train)
    moved = mapped.aligned(mapped.features)
    assert moved.train.x.dtype == torch.float64


def test_an_own_test_part_is_in_memory(tmp_path):
    np.save(tmp_path / "mine.npy", TABLE)
    mapped = np.load(tmp_path / "mine.npy", mmap_mode="r")
    data = from_arrays(mapped, x_test=mapped[:50], valid_fraction=0)
    assert torch.equal(data.test.x, torch.from_numpy(TABLE[:50]))
    assert len(data.train) == 300


def test_small_files_are_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "IN_MEMORY", TABLE.nbytes + 1000)
    data = load(shards(tmp_path / "mine", TABLE, 100))
    assert torch.equal(data.train.x, from_arrays(TABLE).train.x)
    assert isinstance(data.train.x, torch.Tensor)


def test_held_out_parts_are_bounded_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "HELD_OUT", 20)
    np.save(tmp_path / "mine.npy", np.arange(300.0).reshape(-1, 1))
    data = load(tmp_path / "mine.npy", valid_fraction=0.5)
    parts = [data.train.x[:], data.valid.x, data.test.x]
    assert [len(part) for part in parts] == [260, 20, 20]
    assert sorted(torch.cat(parts).flatten().tolist()) == list(range(300))
    monkeypatch.setattr(stored, "HELD_OUT_BYTES", 4 * 7)
    assert len(load(tmp_path / "mine.npy").test) == 7


def test_what_is_drawn_of_very_many_rows_is_seeded_and_distinct(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "PERMUTED", 10)
    x = opened(tmp_path, TABLE)
    one, same, other = (x.draw(100, seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(one.unique()) == 100
    assert (one.diff() > 0).all()


@pytest.mark.usefixtures("small_parts")
def test_rows_are_read_as_from_a_tensor(tmp_path):
    x = opened(tmp_path, TABLE, 50, 51, 120).without(torch.tensor([0, 3, 49, 50, 51, 52, 299]))
    expected = torch.from_numpy(np.delete(TABLE, [0, 3, 49, 50, 51, 52, 299], axis=0))
    assert (len(x), x.shape, x.dtype) == (293, expected.shape, expected.dtype)
    for index in (slice(None), slice(40, 60), slice(5, 2), slice(-9, None), slice(0, 200, 3)):
        assert torch.equal(x[index], expected[index])
    shuffled = torch.randperm(293)[:90]
    for index in (
        shuffled,
        torch.cat([shuffled, shuffled]),
        torch.tensor([-1, 0]),
        torch.rand(293) < 0.5,
        shuffled[:0],
    ):
        assert torch.equal(x[index], expected[index])
    assert torch.equal(x[7], expected[7])
    assert all(torch.equal(a, b) for a, b in zip(x.split(64), expected.split(64), strict=True))
    again = x.without(torch.tensor([0, 292]))
    assert torch.equal(again[:], expected[1:-1])
    with pytest.raises(IndexError):
        x[torch.tensor([293])]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", ["unit-interval", "standard", "unit-norm", "none"])
@pytest.mark.parametrize("values", [TABLE, (40 * TABLE).clip(0, 255).astype(np.uint8)], ids=["float", "uint8"])
def test_the_scaler_is_that_of_the_tensor(tmp_path, kind, values):
    x, whole = opened(tmp_path, values, 100), torch.from_numpy(values)
    assert (x.min(), x.max()) == (whole.min(), whole.max())
    assert x.mean(torch.float64).item() == pytest.approx(values.mean(dtype=np.float64))
    one, other = fit_scaler(kind, x, None), fit_scaler(kind, whole, None)
    torch.testing.assert_close(one.shift, other.shift, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.factor, other.factor, rtol=1e-6, atol=1e-6)


def test_all_rows_are_read_in_order_to_be_encoded(tmp_path):
    x, y, *_ = read_rows(shards(tmp_path / "mine", TABLE, 100, y=np.arange(300)))
    assert isinstance(x, Stored)
    assert np.array_equal(x[:], TABLE)
    assert np.array_equal(y, np.arange(300))


def test_dividing_keeps_what_is_known_of_each_example(tmp_path):
    x = opened(tmp_path, np.arange(300.0).reshape(-1, 1))
    y = torch.arange(300)
    rest, taken = divide(Split(x, y, extras={"twice": 2 * y}), 60, seed=1)
    expected = divide(Split(y.float()[:, None], y), 60, seed=1)
    for part, other in zip((rest, taken), expected, strict=True):
        assert torch.equal(part.y, other.y)
        assert torch.equal(part.x[:][:, 0], other.y.float())
        assert torch.equal(part.extras["twice"], 2 * other.y)


def bad_at(value, row):
    x = TABLE.copy()
    x[row, 2] = value
    return x


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (bad_at(np.nan, 211), r"shard-1\.npy holds NaN or infinite values, the first at \[111, 2\]"),
        (bad_at(0, 0).astype(np.float64) * 1e300, r"shard-0\.npy, as float32, holds NaN .* at \[0, 0\]"),
        (np.full((300, 5), 7.0), r"all values of x are 7\.0"),
        (np.arange(300.0), "one row per example"),
        (np.ones((300, 2, 3, 4, 5)), "it must be"),
        (np.ones((300, 2)) * 1j, "complex"),
        (TABLE[:0], "holds 0 examples"),
        (np.full((300, 2), "a"), "not numeric"),
    ],
)
def test_unsuitable_examples_are_refused_on_opening(tmp_path, x, message):
    folder = shards(tmp_path / "mine", x, 100)
    with pytest.raises(UsageError, match=message) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_too_few_examples_are_refused(tmp_path):
    np.save(tmp_path / "few.npy", TABLE[:9])
    with pytest.raises(UsageError, match="x holds 9 examples; at least 10"):
        load(tmp_path / "few.npy")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (TABLE[:, :4], r"examples of shard-b\.npy have shape \(4,\), those of shard-a\.npy \(5,\)"),
        (TABLE.astype(np.int32), r"shard-b\.npy holds int32 and shard-a\.npy float32"),
    ],
)
def test_shards_that_do_not_fit_together_are_both_named(tmp_path, second, message):
    np.save(tmp_path / "shard-a.npy", TABLE)
    np.save(tmp_path / "shard-b.npy", second)
    with pytest.raises(UsageError, match=message):
        load(tmp_path)


def test_shards_of_wider_and_narrower_floats_fit_together(tmp_path):
    np.save(tmp_path / "a.npy", TABLE)
    np.save(tmp_path / "b.npy", TABLE.astype(np.float64))
    assert len(load(tmp_path).train) == len(from_arrays(np.concatenate([TABLE, TABLE])).train)


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 400)


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("change", [cut, grow, lambda path: path.unlink()], ids=["cut", "grown", "gone"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_that_changes_its_size_is_noticed_before_it_is_read(tmp_path, change, mapped):
    path = tmp_path / "mine.npy"
    np.save(path, TABLE)
    data = from_arrays(np.load(path, mmap_mode="r")) if mapped else load(path)
    change(path)
    with pytest.raises(RunError, match=r"mine\.npy: .*--resume") as caught:
        data.train.x[:10]
    assert "\n" not in str(caught.value)


def test_labels_must_be_one_for_each_row(tmp_path):
    folder = shards(tmp_path / "mine", TABLE, 100, y=np.arange(100))
    with pytest.raises(UsageError, match="y holds 100 labels for 300 examples"):
        load(folder)


def test_what_fits_into_memory_trains_in_the_order_of_memory(tmp_path):
    np.save(tmp_path / "mine.npy", TABLE)
    plain = Scaler("none", torch.zeros(1), torch.ones(1))
    one, other = (batches_of(data.train, plain, 16, 3) for data in (load(tmp_path / "mine.npy"), from_arrays(TABLE)))
    assert all(torch.equal(one(step), other(step)) for step in range(40))
