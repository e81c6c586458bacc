from pathlib import Path

import numpy as np
import pytest
import torch

from vsc.data import DATASETS, Source, Split, load
from vsc.data.download import data_folder as data_root
from vsc.data.split import divide, hold_out
from vsc.errors import UsageError


def counted(n):
    """A split whose examples tell their own number."""
    return Split(torch.arange(n).float()[:, None], torch.arange(n) % 3)


def numbers(split):
    return split.x[:, 0].int().tolist()


def source(n=50):
    return Source(counted(n), Split(torch.full((5, 1), -1.0)), shape=(1,))


def test_registry():
    assert list(DATASETS) == [
        *("digits", "smiley", "synth", "synth-16k", "mnist", "fashion-mnist"),
        *("har", "har-signals", "celeba", "celeba-paper", "dsprites"),
    ]


def test_hold_out_parts_share_nothing_and_lose_nothing():
    data = hold_out(source(), "x", valid_fraction=0.2, seed=3)
    assert len(data.valid) == 10
    assert sorted(numbers(data.train) + numbers(data.valid)) == list(range(50))
    assert numbers(data.train) == sorted(numbers(data.train))
    assert (data.valid.y == torch.tensor(numbers(data.valid)) % 3).all()


def test_hold_out_depends_on_the_seed_alone():
    one, same, other = (numbers(hold_out(source(), "x", 0.2, seed).valid) for seed in (0, 0, 1))
    assert one == same
    assert one != other


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (1e-9, 1), (0.5, 25), (0.999, 49)])
def test_size_of_the_validation_part(fraction, count):
    data = hold_out(source(), "x", fraction)
    assert len(data.valid) == count
    assert len(data.train) == 50 - count
    assert data.valid.x.shape == (count, 1)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(UsageError, match="valid_fraction"):
        load("digits", valid_fraction=fraction)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_out_of_range(seed):
    with pytest.raises(UsageError, match="seed"):
        load("digits", seed=seed)


def test_one_example_cannot_be_divided():
    with pytest.raises(UsageError, match="valid_fraction=0"):
        hold_out(source(1), "x")
    assert len(hold_out(source(1), "x", valid_fraction=0).train) == 1


def test_divide_takes_what_is_known_along():
    x = torch.arange(6)[:, None]
    split = Split(x, None, x.float(), x > 2, {"subject": 10 * x[:, 0]})
    rest, taken = divide(split, 2, seed=0)
    assert (len(rest), len(taken)) == (4, 2)
    assert taken.y is None
    assert (taken.factors == taken.x).all()
    assert (rest.presence == (rest.x > 2)).all()
    assert list(rest.extras) == ["subject"]
    assert (taken.extras["subject"] == 10 * taken.x[:, 0]).all()
    assert len(rest.extras["subject"]) == 4


def test_a_validation_part_of_the_source_is_taken_as_it_is():
    own = Split(torch.full((3, 1), -2.0))
    data = hold_out(source()._replace(valid=own), "x", valid_fraction=0.2, seed=3)
    assert torch.equal(data.valid.x, own.x)
    assert numbers(data.train) == list(range(50))
    without = hold_out(source()._replace(valid=own), "x", valid_fraction=0)
    assert (len(without.train), len(without.valid)) == (50, 0)


def test_names_of_factors_must_fit_them():
    x = torch.arange(20.0)[:, None]
    split = Split(x, factors=torch.cat([x, x], 1), presence=torch.cat([x, x], 1) > 3)
    whole = Source(split, split, (1,), factor_names=("a", "b"), groups=("hat", "hat"))
    data = hold_out(whole, "x", 0.2)
    assert (data.factor_names, data.groups) == (("a", "b"), ("hat", "hat"))
    for wrong, message in (
        (whole._replace(groups=("hat",)), "groups holds 1 names for 2 columns"),
        (whole._replace(factor_names=("a", "b", "c")), "factor_names holds 3 names for 2 columns"),
        (whole._replace(train=Split(x), test=Split(x)), "factor_names holds 2 names for no columns"),
        (whole._replace(test=Split(x, factors=x)), r"as many columns in every part, not \[1, 2\]"),
        (whole._replace(train=Split(x, factors=x, presence=torch.cat([x, x], 1) > 3)), "as many columns"),
    ):
        with pytest.raises(UsageError, match=message):
            hold_out(wrong, "x", 0.2)


def test_digits():
    from sklearn.datasets import load_digits

    data = load("digits")
    assert data.name == "digits"
    assert (data.shape, data.high, data.classes) == ((1, 8, 8), 16.0, tuple("0123456789"))
    assert data.train.x.dtype == torch.uint8
    assert data.train.y.dtype == torch.int64
    parts = (data.train, data.valid, data.test)
    assert sum(len(part) for part in parts) == 1797
    pixels, labels = load_digits(return_X_y=True)
    known = {(row.astype(np.uint8).tobytes(), label) for row, label in zip(pixels, labels, strict=True)}
    found = {(row.tobytes(), int(y)) for part in parts for row, y in zip(part.x.numpy(), part.y, strict=True)}
    assert found == known
    share = torch.bincount(data.test.y) / torch.from_numpy(np.bincount(labels))
    assert (share - 0.2).abs().max() < 0.01


def test_the_test_part_ignores_the_seed():
    one, other = load("digits", seed=0), load("digits", seed=1)
    assert (one.test.x == other.test.x).all()
    assert not torch.equal(one.valid.x, other.valid.x)


def test_unknown_name_lists_the_names_and_files():
    with pytest.raises(UsageError, match=r"\.csv.*did you mean 'mnist'.*digits, smiley, .*celeba-paper, dsprites"):
        load("mnits")


def test_a_data_frame_is_not_loaded_by_name():
    with pytest.raises(UsageError, match=r"vsc.from_arrays\(x, y\) takes arrays and data frames"):
        load(np.zeros((20, 3)))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["absent.npy", "absent.NPZ", "folder/absent", "./absent", "~/absent/absent.csv"])
def test_path_that_is_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        load(name)


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(UsageError, match="a folder"):
        load(tmp_path)


def test_root_is_the_argument_then_the_environment_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VSC_DATA", str(tmp_path))
    assert data_root("elsewhere") == Path("elsewhere")
    assert data_root(None) == tmp_path
    monkeypatch.setenv("VSC_DATA", "")
    assert data_root(None).name == "vsc"
