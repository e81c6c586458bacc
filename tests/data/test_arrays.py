import numpy as np
import pandas as pd
import pytest
import torch

from vsc.data import arrays, from_arrays, load
from vsc.errors import UsageError
from vsc.files import DATA_FILES
from vsc.settings.config import Config, ModelConfig, TrainConfig
from vsc.training.loop import train
from vsc.training.runs import load as load_model

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(30, 4))


def everything(data):
    """All examples of a data set, in sorted order of their bytes."""
    return sorted(row.tobytes() for part in (data.train, data.valid, data.test) for row in part.x.numpy())


def sorted_rows(array):
    return sorted(row.tobytes() for row in np.ascontiguousarray(array.reshape(len(array), -1)))


def test_table_of_floats():
    data = from_arrays(TABLE, name="mine", valid_fraction=0.25)
    assert (data.name, data.shape, data.high, data.classes) == ("mine", (4,), None, ())
    assert [len(part) for part in (data.train, data.valid, data.test)] == [18, 6, 6]
    assert data.train.x.dtype == torch.float32
    assert everything(data) == sorted_rows(TABLE.astype(np.float32))


def test_splits_are_seeded():
    one, same, other = (from_arrays(TABLE, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.valid.x, same.valid.x)
    assert not torch.equal(one.valid.x, other.valid.x)
    assert torch.equal(one.test.x, other.test.x)


@pytest.mark.parametrize(
    ("values", "dtype", "high"),
    [
        (RNG.integers(0, 256, (20, 6)).astype(np.uint8), torch.uint8, 255.0),
        (RNG.integers(0, 2, (20, 6)).astype(np.uint8), torch.uint8, 1.0),
        (RNG.integers(0, 256, (20, 6)), torch.float32, None),
        (RNG.integers(0, 2, (20, 6)), torch.float32, 1.0),
        (RNG.random((20, 6)) > 0.5, torch.float32, 1.0),
        (RNG.random((20, 6)), torch.float32, 1.0),
        (RNG.random((20, 6)).astype(np.float16), torch.float32, 1.0),
        (RNG.random((20, 6)).astype(">f8"), torch.float32, 1.0),
        (RNG.random((20, 6)) - 0.5, torch.float32, None),
        (torch.rand(20, 6, requires_grad=True), torch.float32, 1.0),
        (torch.rand(20, 6).bfloat16(), torch.float32, 1.0),
        (RNG.random((20, 6)).tolist(), torch.float32, 1.0),
    ],
)
def test_types(values, dtype, high):
    data = from_arrays(values)
    assert data.train.x.dtype == dtype
    assert data.high == high
    expected = values.detach().float().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    assert everything(data) == sorted_rows(expected.astype(str(dtype).removeprefix("torch.")))


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((7,), (7,)),
        ((5, 6), (1, 5, 6)),
        ((3, 5, 6), (3, 5, 6)),
        ((5, 6, 3), (3, 5, 6)),
        ((5, 6, 1), (1, 5, 6)),
        ((4, 6, 3), (4, 6, 3)),
        ((4, 4, 3), (3, 4, 4)),
        ((3, 3, 3), (3, 3, 3)),
        ((1, 28, 28), (1, 28, 28)),
    ],
)
def test_shapes(shape, stored):
    x = RNG.integers(0, 256, (12, *shape)).astype(np.uint8)
    data = from_arrays(x)
    assert data.shape == stored
    assert bool(data.notes) == (stored != shape and len(shape) == 3)  # it is said
    if data.notes:
        x = np.moveaxis(x, -1, 1)
    assert everything(data) == sorted_rows(x)


def test_the_data_set_is_a_copy():
    x = TABLE.astype(np.float32)
    data = from_arrays(x)
    before = data.train.x.clone()
    x[:] = 0
    assert torch.equal(data.train.x, before)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([3, 1] * 15, ("1", "3")),
        ([10, 9] * 15, ("9", "10")),
        (["b", "a"] * 15, ("a", "b")),
        (np.array(["b", "a"] * 15, dtype=object), ("a", "b")),
        (np.array([b"b", b"a"] * 15), ("a", "b")),
        ([True, False] * 15, ("False", "True")),
        (np.array([2.0, 1.0] * 15), ("1", "2")),
        (torch.tensor([[5], [-1]] * 15), ("-1", "5")),
    ],
)
def test_labels(y, classes):
    # The first feature is the true index into the sorted classes.
    data = from_arrays(np.column_stack([[1, 0] * 15, TABLE]), y)
    assert data.classes == classes
    for part in (data.train, data.valid, data.test):
        assert part.y.dtype == torch.int64
        assert (part.y == part.x[:, 0]).all()


def test_own_test_part():
    data = from_arrays(TABLE[:20], [0, 2] * 10, x_test=TABLE[20:23], y_test=[1, 2, 0])
    assert data.classes == ("0", "1", "2")
    assert data.test.y.tolist() == [1, 2, 0]
    assert np.array_equal(data.test.x.numpy(), TABLE[20:23].astype(np.float32))
    assert len(data.train) + len(data.valid) == 20


def test_the_test_part_counts_for_the_range():
    inside = RNG.random((20, 3))
    assert from_arrays(inside, x_test=inside[:5]).high == 1
    assert from_arrays(inside, x_test=inside[:5] + 1).high is None


def bad_at(value, *where):
    x = TABLE.copy()
    for place in where:
        x[place] = value
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (TABLE[:9], "x holds 9 examples; at least 10"),
        (np.zeros((0, 4)), "x holds 0 examples"),
        (np.zeros((20, 0)), "no features"),
        (np.zeros(20), "one row per example"),
        (np.float64(1), "one row per example"),
        (np.ones((20, 2, 3, 4, 5)), "it must be"),
        (RNG.random((20, 5, 6, 7)), "C one of 1, 3, 4"),
        (bad_at(np.nan, (3, 1), (7, 2)), r"2 values that are NaN or infinite, the first at \[3, 1\]"),
        (bad_at(np.inf, (29, 0)), r"1 value that is NaN or infinite, the first at \[29, 0\]"),
        (bad_at(1e300, (2, 2)), r"as float32, holds 1 value that is NaN or infinite, the first at \[2, 2\]"),
        (np.full((20, 3), 7.0), r"all values of x are 7\.0"),
        (np.full((20, 3), 7, np.uint8), "all values of x are 7"),
        (TABLE + 1j, "complex"),
        (np.full((20, 3), "a"), "not numeric"),
        (np.full((20, 3), print), "Python objects"),
        (np.full((20, 3), None), "NaN"),
        (np.full((20, 3), "2020-01-01", "datetime64[D]"), "not numeric"),
        ([[1.0, 2.0], [3.0]] * 10, "same length"),
    ],
)
def test_unsuitable_examples(x, message):
    with pytest.raises(UsageError, match=message) as caught:
        from_arrays(x)
    assert "\n" not in str(caught.value)


def test_the_place_of_a_nan_is_the_users_own():
    x = RNG.random((20, 5, 6, 3))
    x[4, 3, 2, 1] = np.nan
    with pytest.raises(UsageError, match=r"\[4, 3, 2, 1\]"):
        from_arrays(x)


def test_one_constant_column_is_allowed():
    x = TABLE.copy()
    x[:, 2] = 5
    assert (from_arrays(x).train.x[:, 2] == 5).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"y": [0] * 29}, "y holds 29 labels for 30 examples"),
        ({"y": np.zeros((30, 2))}, r"must be \(N,\)"),
        ({"y": TABLE[:, 0]}, "integers, strings or booleans"),
        ({"y": [0.0] * 29 + [np.nan]}, "integers, strings or booleans"),
        ({"y": np.array([None] * 30)}, "integers, strings or booleans"),
        ({"y_test": [0] * 5}, "without y"),
        ({"y": [0] * 30, "y_test": [0] * 5}, "without x_test"),
        ({"y": [0] * 30, "x_test": TABLE}, "without y_test"),
        ({"x_test": TABLE[:, :3]}, r"shape \(3,\), those of x \(4,\)"),
        ({"x_test": TABLE[:0]}, "at least 1"),
        ({"x_test": np.ones((5, 4), np.uint8)}, "same type"),
        ({"features": ("a", "b")}, "2 feature names for 4"),
        ({"valid_fraction": 1}, "valid_fraction"),
    ],
)
def test_unsuitable_companions(more, message):
    with pytest.raises(UsageError, match=message):
        from_arrays(TABLE, **more)


def test_npy(tmp_path):
    np.save(tmp_path / "my table.npy", TABLE)
    data = load(tmp_path / "my table.npy", valid_fraction=0.2, seed=4)
    expected = from_arrays(TABLE, valid_fraction=0.2, seed=4)
    assert data.name == "my table"
    assert torch.equal(data.valid.x, expected.valid.x)
    assert torch.equal(data.test.x, expected.test.x)


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", x=TABLE, y=["u", "v"] * 15, x_test=TABLE[:5], y_test=["v"] * 5)
    data = load(str(tmp_path / "a.npz"))
    assert data.classes == ("u", "v")
    assert data.test.y.tolist() == [1] * 5


def test_npz_keeps_the_true_factors(tmp_path):
    np.savez(tmp_path / "a.npz", x=TABLE, factors=TABLE[:, :2], presence=TABLE[:, :2] > 0)
    data = load(tmp_path / "a.npz")
    for part in (data.train, data.valid, data.test):
        assert torch.equal(part.factors, part.x[:, :2])
        assert torch.equal(part.presence, part.x[:, :2] > 0)
    np.savez(tmp_path / "a.npz", x=TABLE, factors=TABLE[:5])
    with pytest.raises(UsageError, match="factors has shape"):
        load(tmp_path / "a.npz")


def saved(tmp_path, name, **more):
    path = tmp_path / name
    np.save(path, TABLE) if name.endswith("npy") else np.savez_compressed(path, x=TABLE, **more)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: b"", "empty"),
        (lambda raw: raw[:-300], "damaged"),
        (lambda raw: raw[:9], "damaged"),
        (lambda raw: b"hello" + raw, "not a .np. file inside"),
        (lambda raw: raw[:60] + b"\xff" * 20 + raw[80:], "damaged"),
    ],
)
def test_damaged_files(tmp_path, name, change, message):
    path = saved(tmp_path, name)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UsageError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_npy_header_that_promises_too_much(tmp_path):
    path = saved(tmp_path, "a.npy")
    path.write_bytes(path.read_bytes().replace(b"(30, 4)", b"(3000000000000000, 4)").replace(b" " * 14, b"", 1))
    with pytest.raises(UsageError, match="damaged"):
        load(path)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pickles_are_never_read(tmp_path, name):
    path, x = tmp_path / name, np.array([print, 1], dtype=object)
    np.save(path, x, allow_pickle=True) if name.endswith("npy") else np.savez(path, x=x)
    with pytest.raises(UsageError, match="never unpickled"):
        load(path)


def test_npz_without_x_names_what_is_there(tmp_path):
    np.savez(tmp_path / "a.npz", table=TABLE, labels=[1] * 30)
    with pytest.raises(UsageError, match=r"no array named 'x' \(it holds 'table', 'labels'\)"):
        load(tmp_path / "a.npz")


def test_other_kinds_of_file(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"unknown kind of file; known names end in \.npy, \.npz, \.csv"):
        load(tmp_path / "a.mat")


def test_every_reader_rejects_an_empty_file(tmp_path):
    for suffix in DATA_FILES:
        (tmp_path / f"a{suffix}").touch()
        with pytest.raises(UsageError, match="empty"):
            load(tmp_path / f"a{suffix}")


def test_rows_of_a_file_keep_their_order_and_labels(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("a,b,label\n3,1,dog\n2,5,cat\n")  # fewer than training needs
    x, y, features, _ = arrays.read_rows(path)
    assert x.tolist() == [[3, 1], [2, 5]]
    assert y.tolist() == ["dog", "cat"]
    assert features == ("a", "b")


def test_rows_of_images_are_as_stored(tmp_path):
    images = RNG.integers(0, 256, (4, 3, 2), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=images, x_test=images[:1])
    x, y, features, _ = arrays.read_rows(tmp_path / "images.npz")
    assert x.dtype == torch.uint8
    assert np.array_equal(x.reshape(4, 3, 2), images)
    assert (y, features) == (None, ())


def test_rows_want_a_label_each(tmp_path):
    for y in (np.arange(29), 3):
        np.savez(tmp_path / "short.npz", x=TABLE, y=y)
        with pytest.raises(UsageError, match=r"short\.npz: y has shape .* a label for each of the 30 examples"):
            arrays.read_rows(tmp_path / "short.npz")


def test_grey_values_stay_so_beside_labels_and_columns_that_are_not_wanted():
    pixels = RNG.integers(0, 256, (30, 4), dtype=np.uint8)
    frame = pd.DataFrame(pixels, columns=list("abcd")).assign(kind=["even", "odd"] * 15, id=range(30))
    data = from_arrays(frame, "kind", valid_fraction=0.0, drop="id", x_test=frame[:5])
    assert data.high == 255
    assert data.features == ("a", "b", "c", "d")
    assert data.fields == ()
    assert (data.test.x.numpy() == pixels[:5]).all()
    assert [data.classes[i] for i in data.test.y] == ["even", "odd", "even", "odd", "even"]


def test_a_frame_keeps_its_names():
    frame = pd.DataFrame(TABLE, columns=list("abcd"))
    data = from_arrays(frame, x_test=frame[list("dbca")])
    assert data.features == tuple("abcd")
    assert torch.equal(data.test.x, torch.from_numpy(TABLE.astype(np.float32)))
    assert from_arrays(frame, features=tuple("efgh")).features == tuple("efgh")
    frame["kind"] = ["u", "v", "w"] * 10
    frame["day"] = pd.Timestamp(0)
    with pytest.raises(UsageError, match="column 'day' holds dates"):
        from_arrays(frame)
    assert from_arrays(frame, drop="day").features == (*"abcd", "kind=u", "kind=v", "kind=w")


@pytest.mark.parametrize("y", [pd.Series(["b", "a"] * 15, dtype=kind) for kind in ("str", "category", object)])
def test_labels_of_a_frame(y):
    assert from_arrays(TABLE, y).classes == ("a", "b")


def test_labels_that_pandas_may_miss():
    y = pd.Series([2, 1] * 15, dtype="Int64")
    assert from_arrays(TABLE, y).classes == ("1", "2")
    y[3] = pd.NA
    with pytest.raises(UsageError, match="not whole, or missing"):
        from_arrays(TABLE, y)


@pytest.mark.parametrize(
    ("names", "notes"),
    [
        (("x_train", "y_train", "x_test", "y_test"), "'x_train' as x, 'y_train' as y, 'x_test' as x_test"),
        (("X", "Y", "X_test", "Y_test"), "'X' as x, 'Y' as y"),
        (("train_images", "train_labels", "test_images", "test_labels"), "'train_images' as x"),
        (("data", "target", "data_test", "target_test"), "'data' as x"),
    ],
)
def test_common_names_of_arrays_are_taken_and_said(tmp_path, names, notes):
    arrays = (TABLE[:20], [0, 1] * 10, TABLE[20:], [1, 0] * 5)
    np.savez(tmp_path / "a.npz", **dict(zip(names, arrays, strict=True)))
    data = load(tmp_path / "a.npz")
    expected = from_arrays(*arrays[:2], x_test=arrays[2], y_test=arrays[3])
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(data, part).x, getattr(expected, part).x)
        assert torch.equal(getattr(data, part).y, getattr(expected, part).y)
    assert notes in data.notes[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": TABLE, "images": TABLE}, "'X', 'images' could both be x"),
        ({"a": TABLE, "b": TABLE}, r"it holds 'a', 'b'\)"),
        ({"x": TABLE[:0]}, "x holds 0 examples"),
        ({"x": TABLE[:0], "shape": [4]}, "x holds 0 examples"),
        ({"x": TABLE, "shape": [2, 3]}, "does not fit"),
        ({f"array{i}": TABLE for i in range(300)}, "and 295 more"),
    ],
)
def test_archives_without_suitable_examples(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "a.npz")


def test_the_only_array_of_an_archive_is_the_examples(tmp_path):
    np.savez(tmp_path / "a.npz", TABLE)
    assert everything(load(tmp_path / "a.npz")) == sorted_rows(TABLE.astype(np.float32))


@pytest.mark.parametrize("x", [np.zeros((2**11, 2**10), np.uint8), np.zeros(2**12, "U300")])
def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch, x):
    monkeypatch.setattr("vsc.data.checks.UNPACKED", 2**20)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    with pytest.raises(UsageError, match=r"unpacks to .* over 200 times its size"):
        load(tmp_path / "a.npz")


def test_labels_of_great_length_are_refused():
    y = np.array(["a", "b" * 2000] * 15)
    for labels in (y, y.astype(object), y.astype(bytes)):
        with pytest.raises(UsageError, match="2000 characters long"):
            from_arrays(TABLE, labels)


def test_a_file_of_python_2_is_read_in_silence(tmp_path):
    np.save(tmp_path / "a.npy", TABLE)
    raw = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(raw.replace(b"(30, 4), }  ", b"(30L, 4L), }"))
    assert everything(load(tmp_path / "a.npy")) == sorted_rows(TABLE.astype(np.float32))


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x.csv", "a\0.csv", "a" * 5000 + ".csv", "x/" * 3000])
def test_names_that_no_file_can_have(name):
    with pytest.raises(UsageError, match=r"no such (user|file)|no file can have this name") as caught:
        load(name)
    assert len(str(caught.value)) < 300


def test_rows_are_put_into_the_order_of_the_columns(tmp_path):
    (tmp_path / "a.csv").write_text("c,label,a,b\n3,u,1,2\n")
    rows = arrays.read_rows(tmp_path / "a.csv", ("a", "b", "c"))
    assert rows.x.tolist() == [[1, 2, 3]]
    assert rows.features == ("a", "b", "c")
    with pytest.raises(UsageError, match=r"a\.csv: the columns are not those of the model \(no 'd'; unknown 'c'\)"):
        arrays.read_rows(tmp_path / "a.csv", ("a", "b", "d"))


@pytest.mark.parametrize("disk", [False, True])
def test_seconds_since_1970_reach_the_model_and_its_saved_copy(tmp_path, disk):
    x = TABLE.copy()
    x[:, 1] = 1.7e9 + 100 * RNG.random(30)
    if disk:
        np.save(tmp_path / "x.npy", x)
    data = from_arrays(np.load(tmp_path / "x.npy", mmap_mode="r") if disk else x, valid_fraction=0.2)
    settings = Config(model=ModelConfig(latent_dim=2, hidden=(4,)), train=TrainConfig(steps=3, device="cpu"))
    model = train(data, settings, tmp_path / "run")
    inputs = model.scaler(data.train.x[:])
    assert inputs.dtype == torch.float32
    np.testing.assert_allclose(inputs.std(0, correction=0), 1, atol=1e-3)
    again = load_model(tmp_path / "run")
    np.testing.assert_array_equal(again.encode(x).mu, model.encode(x).mu)
    np.testing.assert_array_equal(again.scaler(data.train.x[:]), inputs)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_a_column_that_is_the_labels_is_no_feature(kind):
    """As in from_arrays(frame, frame.target): a model that reads the classes would tell them."""
    frame = pd.DataFrame({name: (np.arange(40) * k % 7).astype(kind) for k, name in enumerate("abc", 1)})
    frame["target"] = (np.arange(40) % 2).astype(kind)
    for y in (frame["target"], frame["target"].to_numpy(), list(frame["target"])):
        data = from_arrays(frame, y)
        assert (data.features, data.classes) == (("a", "b", "c"), ("0", "1"))
    assert from_arrays(frame, 1 - frame["target"]).features == ("a", "b", "c", "target")


def test_labels_that_are_a_column_too_are_told():
    y = np.arange(30) % 3
    told = "column 4, from 0, of x holds the labels: take it out if it is no feature"
    assert from_arrays(np.column_stack([TABLE, y]), y).notes == (told,)
    named = from_arrays(np.column_stack([y, TABLE]), y, features=("kind", *"abcd"))
    assert named.notes == ("column 'kind' of x holds the labels: take it out if it is no feature",)
    assert from_arrays(TABLE, y).notes == from_arrays(np.column_stack([y, TABLE])).notes == ()
