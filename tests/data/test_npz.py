"""A data set that is written to a file and read again is the same data set."""

import numpy as np
import pytest
import torch

from vsc.cli.running import main
from vsc.data import Dataset, Split, load, npz, smiley
from vsc.errors import UsageError


def parts(data):
    return data.train, data.valid, data.test


def same(one, other):
    assert one.dtype == other.dtype
    assert torch.equal(one, other)


def check_same(data, again):
    for field in ("shape", "classes", "high", "features", "factor_names", "groups", "notes"):
        assert getattr(again, field) == getattr(data, field), field
    for one, other in zip(parts(data), parts(again), strict=True):
        same(one.x, other.x)
        for field in ("y", "factors", "presence"):
            assert (getattr(one, field) is None) == (getattr(other, field) is None)
            if getattr(one, field) is not None:
                same(getattr(one, field), getattr(other, field))
        assert one.extras.keys() == other.extras.keys()
        for name, extra in one.extras.items():
            same(extra, other.extras[name])


def rich(shape=(2, 3, 5), dtype=torch.uint8, **changes):
    """Return a data set with everything that a data set can have, of a shape that could not be guessed."""
    generator = torch.Generator().manual_seed(0)

    def draw(n):
        M = int(np.prod(shape))
        x = torch.randint(0, 17, (n, M), generator=generator).to(dtype)
        y = torch.arange(n) % 2 * 2  # the middle class has no example
        presence = (torch.arange(n)[:, None] + torch.tensor([0, 0, 1])) % 3 > 0
        extras = {"subject": torch.arange(n), "angles": torch.randn(n, 2, generator=generator)}
        return Split(x, y, torch.randn(n, 3, generator=generator), presence, extras)

    known = {
        "classes": ("b", "none", "a"),
        "high": 16.0,
        "factor_names": ("hat x", "hat y", "eyes"),
        "groups": ("hat", "hat", "eyes"),
        "notes": ("a part",),
    }
    return Dataset("rich", shape, draw(20), draw(5), draw(7), **(known | changes))


@pytest.mark.parametrize(
    "data",
    [
        rich(),
        rich((9, 4), torch.float32, high=None),
        rich((6,), torch.float32, high=None, features=tuple("abcdef"), notes=()),
        rich((3, 4, 4), classes=("b", "none", "a"), groups=(), factor_names=()),
    ],
    ids=["odd channels", "signals", "table", "image"],
)
def test_everything_comes_back(tmp_path, data):
    npz.write(tmp_path / "rich.npz", data)
    again = load(tmp_path / "rich.npz", valid_fraction=0.3, seed=5)
    check_same(data, again)
    assert len(load(tmp_path / "rich.npz", valid_fraction=0).valid) == 0


def test_what_the_file_holds(tmp_path):
    data = rich()
    npz.write(tmp_path / "rich.npz", data)
    with np.load(tmp_path / "rich.npz", allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    known = ("x", "y", "factors", "presence", "extra_subject", "extra_angles")
    expected = {name + end for name in known for end in ("", "_valid", "_test")}
    assert set(held) == expected | {"shape", "high", "classes", "factor_names", "groups", "notes"}
    assert held["x_test"].shape == (7, 2, 3, 5)
    assert held["extra_angles_valid"].shape == (5, 2)
    assert held["groups"].tolist() == ["hat", "hat", "eyes"]


@pytest.fixture
def few_faces(monkeypatch):
    monkeypatch.setattr(smiley, "TRAIN", (300, (2019, 0)))
    monkeypatch.setattr(smiley, "TEST", (100, (2019, 1)))


@pytest.mark.usefixtures("few_faces")
@pytest.mark.parametrize("name", ["digits", "smiley"])
def test_data_sets_come_back(tmp_path, name):
    data = load(name)
    npz.write(tmp_path / "copy.npz", data)
    check_same(data, load(tmp_path / "copy.npz"))


def test_the_command_writes_it_and_says_what_is_in_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    npz.write("rich.npz", rich())
    assert main(["data", "rich.npz", "--out", "copy.npz"]) == 0
    out = capsys.readouterr().out
    for line in (
        "20 train, 5 valid, 7 test",
        "classes: b, none, a",
        "3 factors: hat x, hat y, eyes",
        "attributes, present or absent: hat, eyes",
        "also known of each example: subject, angles",
        "note: a part",
    ):
        assert line in out
    check_same(rich(), load("copy.npz"))


def test_a_file_of_ones_own_may_have_factors_of_every_part(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 4))
    mine = {"x": x[:20], "factors": x[:20, :2], "x_test": x[20:], "factors_test": x[20:, :2], "groups": [0, 1]}
    np.savez(tmp_path / "mine.npz", **mine)
    data = load(tmp_path / "mine.npz", valid_fraction=0.2)
    assert data.groups == ("0", "1")
    for part, n in zip(parts(data), (16, 4, 10), strict=True):
        same(part.factors, part.x[:, :2])
        assert len(part) == n


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ["a", "b"]}, "groups holds 2 names for 3 columns"),
        ({"factor_names": ["a"]}, "factor_names holds 1 names for 3 columns"),
        ({"groups": [[1, 2, 3]]}, r"groups has type int64 and shape \(1, 3\); it must be a list of names"),
        ({"classes": [0.5, 1, 2]}, "classes has type float64"),
        ({"classes": ["a", "b"]}, "indices of the 2 classes, not 0 to 2"),
        (
            {"y": list("abcdefghijklmnopqrst"), "y_test": list("abcdefg"), "y_valid": list("abcde")},
            "indices of the 3 classes, not a",
        ),
        ({"shape": [2, 3, 4]}, r"x has shape \(20, 2, 3, 5\), which does not fit examples of shape \(2, 3, 4\)"),
        ({"shape": 30}, "shape must be a list"),
        ({"shape": [2.0, 15.0]}, "shape must be a list"),
        ({"high": 0}, "high must be one positive number"),
        ({"high": [1, 2]}, "high must be one positive number"),
        ({"high": "white"}, "high must be one positive number"),
        ({"x_valid": np.ones((5, 4), np.uint8)}, "x_valid has shape"),
        ({"factors_test": None}, "factors and x_test are given without factors_test"),
        ({"presence_valid": None}, "presence and x_valid are given without presence_valid"),
        ({"extra_subject_valid": np.arange(4)}, "extra_subject_valid has shape .* 5 rows"),
        ({"x_test": None}, "given without x_test"),
        ({"factors_valid": np.ones((5, 2))}, "as many columns in every part"),
        ({"factors_test": np.full((7, 3), np.nan)}, "factors_test holds 21 values that are NaN"),
    ],
)
def test_unsuitable_files(tmp_path, change, message):
    npz.write(tmp_path / "rich.npz", rich())
    with np.load(tmp_path / "rich.npz") as file:
        arrays = {name: file[name] for name in file.files} | change
    np.savez(tmp_path / "rich.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path / "rich.npz")
    assert str(caught.value).startswith(str(tmp_path / "rich.npz"))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("few_faces")
def test_smileys_of_a_file_have_named_attributes(tmp_path):
    data = load(smiley.export(tmp_path / "faces.npz", n=50))
    assert (data.factor_names, data.groups) == (smiley.FACTORS, smiley.GROUPS)
    again = load("smiley")
    assert (again.factor_names, again.groups) == (smiley.FACTORS, smiley.GROUPS)
