import time

import numpy as np
import pytest
from scipy.io import loadmat

from vsc.data import load, smiley
from vsc.errors import UsageError

FILE = "Smiley/smily_sparse_dataset_test_Alpha05.mat"


@pytest.fixture(scope="module")
def released(find_data):
    _, path = find_data(FILE)
    file = loadmat(path)
    return file["X"].reshape(-1, 32, 32).transpose(0, 2, 1), file["S"].astype(bool), file["V"]


def face(present=(), **factors):
    """One image with the named attributes; factors are 0 but for those given as bowtie=(...)."""
    S, V = np.zeros((1, 18), bool), np.zeros((1, 18))
    for name in present:
        S[0, smiley.ATTRIBUTES[name]] = True
    for name, values in factors.items():
        V[0, smiley.ATTRIBUTES[name]] = values
    return smiley.render(S, V)[0]


def rows(image, first, last):
    return ["".join(".#"[v] for v in row) for row in image[first - 1 : last]]


@pytest.mark.parametrize("attributes", range(5))
def test_released_images_are_reproduced_bit_for_bit(released, attributes):
    X, S, V = released
    chosen = S[:, [0, 4, 10, 13]].sum(axis=1) == attributes
    assert chosen.sum() > 1000
    assert (smiley.render(S[chosen], V[chosen]) == X[chosen]).all()


def test_head_is_a_disc_of_radius_10():
    image = face()
    # By hand: d = 0.5, 1.5, ... 9.5 off the centre line, the half width is floor(sqrt(100 - d^2) + 0.5).
    half = [10, 10, 10, 9, 9, 8, 8, 7, 5, 3]
    for k, w in enumerate(half):
        line = "." * (16 - w) + "#" * (2 * w) + "." * (16 - w)
        assert rows(image, 17 + k, 17 + k) == rows(image, 16 - k, 16 - k) == [line]
    assert image.sum() == 4 * sum(half)


def test_mouth_by_hand():
    # Centre (16, 22), 4 x 2: columns 14-18, rows 21-23; smile 1: row 23 one column out, round(23.4) two out.
    holes = face() - face(["mouth"], mouth=(0, 0, 0, 0, 1))
    expected = np.zeros((32, 32))
    expected[20:23, 13:18] = 1
    expected[22, [12, 18]] = 1
    expected[22, [11, 19]] = 1
    assert (holes == expected).all()


def test_hat_by_hand():
    # Brim centre (16.5, 6), 15 x 2: columns 9-24, rows 5-7; crown 10 wide: columns 12-22 (11.5 rounds to 12),
    # from row 3.
    image = face(["hat"])
    assert rows(image, 3, 4) == ["." * 11 + "#" * 11 + "." * 10] * 2
    assert rows(image, 5, 6) == ["." * 8 + "#" * 16 + "." * 8] * 2
    assert rows(image, 1, 2) == ["." * 32] * 2


def test_eyes_are_two_mirrored_holes():
    holes = face() - face(["eyes"], eyes=(0.5, 0, -0.9))
    # Radius 1.1 at (12, 14) and (21, 14): a centre pixel and its four neighbours.
    assert sorted(zip(*np.nonzero(holes), strict=True)) == sorted(
        (13 + dy, x - 1 + dx) for x in (12, 21) for dy, dx in [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    )


def test_bowtie_at_the_drawn_size_is_the_drawing():
    # width 12 + 3 v = 17 and height 5 + 2 v = 11 need no resampling; moved up so that all of it is inside.
    image = face(["bowtie"], bowtie=(0, -7, 5 / 3, 3))
    drawing = smiley._BOWTIE.split()
    # centre (16.5, 22): from column round(8) = 8 and row round(16.5) = 17
    seen = rows(np.maximum(image - face(), 0), 17, 27)
    for line, drawn, head in zip(seen, drawing, rows(face(), 17, 27), strict=True):
        box = zip(line[7:24], drawn, head[7:24], strict=True)
        assert all((pixel == "#") == (ink == "#" and under == ".") for pixel, ink, under in box)


def test_absent_attributes_leave_no_trace():
    V = np.random.default_rng(0).normal(size=(5, 18))
    assert (smiley.render(np.zeros((5, 18)), V) == face()).all()


def test_a_smaller_kernel_still_sums_to_one():
    for n_out in (1, 3, 11, 20):
        np.testing.assert_allclose(smiley._cubic(11, n_out).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(smiley._cubic(11, 11), np.eye(11), atol=1e-12)


@pytest.mark.parametrize("v", [-30.0, 30.0])
def test_extreme_factors_are_clipped_to_the_image(v):
    images = smiley.render(np.ones((2, 18)), np.full((2, 18), v))
    assert images.shape == (2, 32, 32)
    assert images.max() <= 1


def test_draw_factors_statistics():
    S, V = smiley.draw_factors(20_000, presence=0.3, seed=5)
    gates = S[:, [0, 4, 10, 13]]
    for name, column in zip(smiley.ATTRIBUTES, gates.T, strict=True):
        assert (S[:, smiley.ATTRIBUTES[name]] == column[:, None]).all()
    np.testing.assert_allclose(gates.mean(axis=0), 0.3, atol=5 * np.sqrt(0.21 / 20_000))
    both = (gates[:, 0] & gates[:, 1]).mean()
    assert abs(both - 0.09) < 5 * np.sqrt(0.09 * 0.91 / 20_000)
    np.testing.assert_allclose(V.mean(axis=0), 0, atol=5 * 0.5 / np.sqrt(20_000))
    np.testing.assert_allclose(V.std(axis=0), 0.5, atol=5 * 0.5 / np.sqrt(40_000))
    assert abs(np.corrcoef(V[:, 0], S[:, 0])[0, 1]) < 5 / np.sqrt(20_000)


def test_draw_factors_depend_on_the_seed_alone():
    one, same, other = (smiley.draw_factors(50, seed=s) for s in (1, 1, 2))
    assert (one[1] == same[1]).all()
    assert (one[0] == same[0]).all()
    assert (one[1] != other[1]).all()


def test_presence_of_zero_and_one():
    assert not smiley.draw_factors(100, presence=0)[0].any()
    assert smiley.draw_factors(100, presence=1)[0].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "at least 1"),
        ({"n": 5, "presence": 1.5}, "presence"),
        ({"n": 5, "presence": float("nan")}, "presence"),
        ({"n": 5, "seed": -1}, "seed"),
    ],
)
def test_draw_factors_rejects(arguments, message):
    with pytest.raises(UsageError, match=message):
        smiley.draw_factors(**arguments)


def test_render_rejects():
    with pytest.raises(UsageError, match=r"\(n, 18\)"):
        smiley.render(np.zeros((3, 4)), np.zeros((3, 4)))
    with pytest.raises(UsageError, match="NaN"):
        smiley.render(np.zeros((1, 18)), np.full((1, 18), np.nan))


def test_render_is_quick():
    S, V = smiley.draw_factors(5000)
    start = time.perf_counter()
    images = smiley.render(S, V)
    assert time.perf_counter() - start < 5
    assert len(np.unique(images.reshape(5000, -1), axis=0)) > 4000


def test_load():
    data = load("smiley", valid_fraction=0.25)
    assert data.shape == (1, 32, 32)
    assert data.high == 1
    assert [len(part) for part in (data.train, data.valid, data.test)] == [45_000, 15_000, 5_000]
    assert data.train.y is None
    for part in (data.train, data.valid, data.test):
        assert part.x.shape == (len(part), 1024)
        some = slice(100, 200)
        images = smiley.render(part.presence[some].numpy(), part.factors[some].double().numpy())
        # float32 factors may round differently next to a pixel's edge, hence not all
        assert (images.reshape(100, -1) == part.x[some].numpy()).all(axis=1).sum() >= 99
    train = {row.tobytes() for row in data.train.factors.numpy()}
    assert not train & {row.tobytes() for row in data.test.factors.numpy()}


def test_export_can_be_loaded_again(tmp_path):
    path = smiley.export(tmp_path / "faces.npz", n=200, presence=0.7, seed=3)
    S, V = smiley.draw_factors(200, 0.7, 3)
    with np.load(path, allow_pickle=False) as file:
        assert (file["x"] == smiley.render(S, V)).all()
        assert (file["presence"] == S).all()
        np.testing.assert_allclose(file["factors"], V, rtol=1e-6)
        assert list(file["factor_names"]) == list(smiley.FACTORS)
        assert list(file["groups"]) == ["bowtie"] * 4 + ["hat"] * 6 + ["eyes"] * 3 + ["mouth"] * 5
    assert [p.name for p in tmp_path.iterdir()] == ["faces.npz"]
    data = load(path)
    assert data.name == "faces"
    assert data.shape == (1, 32, 32)
    assert data.high == 1
    assert data.test.factors.shape == data.test.presence.shape == (40, 18)
    assert (data.factor_names, data.groups) == (smiley.FACTORS, smiley.GROUPS)


def test_export_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    (tmp_path / "faces.npz").write_bytes(b"old")

    def fail(file, array, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(RuntimeError, match="No space left"):
        smiley.export(tmp_path / "faces.npz", n=10)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("faces.npz", b"old")]


def test_export_needs_the_suffix_and_makes_the_folder(tmp_path):
    with pytest.raises(UsageError, match=r"\.npz"):
        smiley.export(tmp_path / "faces.npy")
    assert smiley.export(tmp_path / "absent" / "faces.npz", n=1).is_file()
