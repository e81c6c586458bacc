"""Scaling: stored values to model inputs, and what is refused."""

import math

import numpy as np
import pytest
import torch

from vsc.errors import UsageError
from vsc.model.scaling import SCALES, Scaler, as_examples, fit_scaler

BYTES = torch.randint(0, 256, (50, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FLOATS = 3 * torch.randn(50, 6, generator=torch.Generator().manual_seed(1)) + 5


def test_unit_interval_by_a_known_range():
    scaled = fit_scaler("unit-interval", BYTES, 255.0)(BYTES)
    np.testing.assert_allclose(scaled.numpy(), BYTES.numpy() / 255, rtol=1e-6)


def test_unit_interval_by_the_training_range():
    scaler = fit_scaler("unit-interval", FLOATS, None)
    low, high = FLOATS.min().item(), FLOATS.max().item()
    np.testing.assert_allclose(scaler(FLOATS).numpy(), (FLOATS.numpy() - low) / (high - low), atol=1e-6)
    assert scaler(FLOATS).min() == 0
    assert scaler(FLOATS).max() == pytest.approx(1)


@pytest.mark.parametrize("x", [BYTES, FLOATS], ids=["uint8", "float"])
@pytest.mark.parametrize("high", [255.0, None])
def test_unit_norm(x, high):
    scaled = fit_scaler("unit-norm", x, high)(x)
    expected = x.numpy().astype(float)
    np.testing.assert_allclose(scaled.numpy(), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_unit_norm_of_a_zero_example_is_zero():
    x = torch.tensor([[0, 0], [3, 4]], dtype=torch.uint8)
    assert fit_scaler("unit-norm", x, 255.0)(x).flatten().tolist() == pytest.approx([0, 0, 0.6, 0.8])


@pytest.mark.parametrize("x", [BYTES, FLOATS], ids=["uint8", "float"])
def test_standard(x):
    scaler = fit_scaler("standard", x, None)
    a = x.numpy().astype(float)
    np.testing.assert_allclose(scaler(x).numpy(), (a - a.mean(0)) / a.std(0), atol=1e-5)
    # of the training set, not of what is mapped
    b = x[:1].numpy().astype(float)
    np.testing.assert_allclose(scaler(x[:1]).numpy(), (b - a.mean(0)) / a.std(0), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e-5, 1234.567, 1e6 + 0.3, 3e7])
def test_standard_takes_a_constant_column_to_zero(value):
    x = torch.stack([torch.full((1000,), value), torch.arange(1000.0)], 1)
    scaled = fit_scaler("standard", x, None)(x)
    assert scaled[:, 0].abs().max() < 1e-6
    assert scaled[:, 1].std() == pytest.approx(1, abs=1e-3)


def test_unit_interval_of_constant_data_is_finite():
    x = torch.full((5, 2), 3.0)
    assert (fit_scaler("unit-interval", x, None)(x) == 0).all()


def test_unit_interval_holds_for_examples_beyond_the_training_range():
    scaler = fit_scaler("unit-interval", torch.tensor([[2.0, 4.0], [3.0, 6.0]]), None)
    assert scaler(torch.tensor([[0.0, 5.0], [8.0, 6.0]])).tolist() == [[0.0, 0.75], [1.0, 1.0]]


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("x", [BYTES, FLOATS], ids=["uint8", "float"])
class TestEveryScale:
    def test_gives_float32_and_leaves_its_input(self, kind, x):
        before = x.clone()
        scaled = fit_scaler(kind, x, None)(x)
        assert scaled.shape == x.shape
        assert scaled.dtype == torch.float32
        assert torch.isfinite(scaled).all()
        assert torch.equal(x, before)

    def test_unit_interval_is_what_it_says(self, kind, x):
        scaler, x = fit_scaler(kind, x.abs(), None), x.abs()
        inside = bool(((scaler(x) >= 0) & (scaler(x) <= 1)).all())
        assert inside == (kind in ("unit-interval", "unit-norm"))

    def test_state_is_all_there_is(self, kind, x):
        scaler = fit_scaler(kind, x, None)
        state = scaler.state_dict()
        again = Scaler(kind, state["shift"], state["factor"])
        assert torch.equal(again(x), scaler(x))


@pytest.mark.parametrize("x", [BYTES, FLOATS], ids=["uint8", "float"])
def test_whole_is_one_factor_for_all(x):
    scaler = fit_scaler("whole", x, None)
    torch.testing.assert_close(scaler(x).square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(scaler(x), x.float() * scaler.factor)
    assert scaler.factor.shape == (1,)
    holes = torch.tensor([[3.0, math.nan], [math.nan, 4.0]])
    assert fit_scaler("whole", holes, None).factor.item() == pytest.approx(12.5**-0.5)
    assert fit_scaler("whole", torch.zeros(2, 3), None).factor.item() == 1


def test_unknown_kind():
    with pytest.raises(UsageError, match="did you mean 'unit-norm'"):
        fit_scaler("unit-nrm", BYTES, 255.0)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, np.ndarray.tolist], ids=["numpy", "torch", "list"])
def test_examples_are_flattened(make):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    examples = as_examples(make(x), 12)
    assert examples.shape == (2, 12)
    assert examples.dtype in (torch.float32, torch.float64)
    assert examples[1, 0] == 12


def test_bytes_stay_bytes():
    assert as_examples(BYTES.numpy(), 6).dtype == torch.uint8
    assert as_examples(BYTES.to(torch.int64), 6).dtype == torch.float32


def test_read_only_and_reversed_arrays_are_taken():
    x = np.arange(6.0).reshape(2, 3)
    x.flags.writeable = False
    assert as_examples(x, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert as_examples(x[::-1], 3).tolist() == [[3, 4, 5], [0, 1, 2]]


def test_the_columns_of_a_frame_are_put_in_order():
    x = np.array([(1.0, 2, True)], dtype=[("a", "f8"), ("b", "i4"), ("c", "?")])
    assert as_examples(x, 3, ("c", "a", "b")).tolist() == [[1, 1, 2]]
    assert as_examples(x, 3).tolist() == [[1, 2, 1]]
    with pytest.raises(UsageError, match="no 'd'; unknown 'c'"):
        as_examples(x, 3, ("a", "b", "d"))


def test_no_examples():
    assert as_examples(np.zeros((0, 2, 3)), 6).shape == (0, 6)


@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 2, 2), (0, 5), ()])
def test_wrong_shapes_are_refused_with_both_shapes(shape):
    with pytest.raises(UsageError, match=r"\(N, 6\)"):
        as_examples(np.zeros(shape), 6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(UsageError, match="NaN or infinite"), np.errstate(over="ignore"):
        as_examples(np.array([[0.0, bad]]), 2)


@pytest.mark.parametrize(("bad", "why"), [([["a", "b"]], "numeric"), ([[1, 2], [3]], "length"), ([[None, 1]], "NaN")])
def test_what_is_not_numbers_is_refused(bad, why):
    with pytest.raises(UsageError, match=why):
        as_examples(bad, 2)


@pytest.mark.parametrize("kind", ["unit-interval", "standard", "none"])
@pytest.mark.parametrize("x", [BYTES, FLOATS], ids=["uint8", "float"])
def test_inverse_gives_the_stored_values_back(kind, x):
    scaler = fit_scaler(kind, x, None)
    assert torch.allclose(scaler.inverse(scaler(x)), x.float(), rtol=1e-4, atol=1e-4)


def test_the_inverse_takes_arrays_as_the_sampling_functions_return_them():
    x = torch.rand(6, 3) * 5
    scaler = fit_scaler("standard", x, None)
    torch.testing.assert_close(scaler.inverse(scaler(x).numpy()), x)


SECONDS = torch.from_numpy(1.7e9 + 100 * np.random.default_rng(0).random(216))


@pytest.mark.parametrize("kind", ["standard", "unit-interval"])
def test_seconds_since_1970_keep_what_tells_them_apart(kind):
    x = torch.stack([SECONDS, SECONDS], 1)
    scaler = fit_scaler(kind, x, None)
    scaled = scaler(x)
    a = SECONDS.numpy()
    expected = (a - a.mean()) / a.std() if kind == "standard" else (a - a.min()) / (a.max() - a.min())
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled[:, 0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(scaler.inverse(scaled)[:, 0].numpy(), a, atol=1e-4)


@pytest.mark.parametrize("size", [3e-10, 1e-30, 1e30])
def test_a_column_in_other_units_has_standard_deviation_1(size):
    x = torch.stack([size * FLOATS[:, 0], FLOATS[:, 1], torch.full((50,), size)], 1)
    scaled = fit_scaler("standard", x, None)(x)
    np.testing.assert_allclose(scaled.std(0, correction=0).numpy(), [1, 1, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("high", "x", "words"),
    [
        (255.0, torch.rand(3, 4), "from 0 to 255, and these lie in .0, 1.; multiply them by 255"),
        (16.0, torch.ones(3, 4), "multiply them by 16"),
        (1.0, torch.full((3, 4), 255, dtype=torch.uint8), "from 0 to 1, and these go up to 255"),
        (1.0, 255 * torch.ones(3, 4), "these go up to 255"),
    ],
)
def test_values_in_other_units_than_the_training_data_are_refused(high, x, words):
    scaler = Scaler("unit-interval", torch.zeros(1), torch.tensor([1 / high]), high)
    with pytest.raises(UsageError, match=words):
        scaler.checked(x)


@pytest.mark.parametrize(
    ("high", "x"),
    [
        (255.0, BYTES),
        (255.0, BYTES.float()),
        (255.0, torch.zeros(2, 6)),
        (255.0, torch.ones(2, 6, dtype=torch.uint8)),
        (1.0, torch.rand(2, 6)),
        (1.0, 1.5 * torch.ones(2, 6)),
        (None, 1e6 * torch.ones(2, 6)),
    ],
)
def test_values_that_may_be_in_the_same_units_are_taken_as_they_are(high, x):
    assert Scaler("none", torch.zeros(1), torch.ones(1), high).checked(x) is x


def test_half_precision_rounds_no_scaler():
    scaler = fit_scaler("standard", torch.randn(50, 3) + 1000, None)
    before = scaler.shift.clone()
    assert torch.equal(torch.nn.Sequential(scaler).bfloat16()[0].shift, before)
    assert torch.equal(scaler.double().factor, scaler.factor.float())
