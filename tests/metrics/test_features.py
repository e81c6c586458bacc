"""Dictionaries against the truth: hand-made cases, limits, and what must not matter."""

import numpy as np
import pytest

from vsc.errors import UsageError
from vsc.metrics import detection, feature_f1, feature_mcc, feature_uniqueness, fvu, shrinkage


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def world(rng):
    """Return where 12 features fire in 400 rows, their directions in 9 dimensions, and their activations."""
    fires = rng.random((400, 12)) < 0.2
    fires[0] = True
    truth = rng.normal(size=(12, 9))
    return fires, truth, fires * rng.uniform(1, 2, fires.shape)


def test_the_true_dictionary_is_perfect(world):
    fires, truth, z = world
    x = z @ truth + 3
    found = {feature_f1(z, fires, truth, truth), feature_mcc(truth, truth), feature_uniqueness(truth, truth)}
    assert list(found | {shrinkage(x, x)}) == pytest.approx([1] * len(found | {shrinkage(x, x)}))
    assert fvu(x, x) == 0


def test_order_sign_and_size_of_latents_do_not_matter(world, rng):
    fires, truth, z = world
    order, size = rng.permutation(12), rng.uniform(0.1, 5, 12) * rng.choice([-1, 1], 12)
    own, codes = (truth * size[:, None])[order], (z / size)[:, order]
    assert feature_f1(codes, fires, own, truth) == pytest.approx(1)
    assert feature_mcc(own, truth) == pytest.approx(1)
    assert feature_uniqueness(own, truth) == 1
    assert (detection(codes, fires, own, truth).feature == order).all()


def test_a_hand_made_detector():
    """Latent 0 is nearest to feature 1 (cosine .8) and on in three rows, in two of four in which that fires."""
    truth = np.array([[1.0, 0, 0], [0, 1, 0]])
    directions = np.array([[0.6, 0.8, 0], [-2, 0, 0]])
    fires = np.array([[0, 1], [0, 1], [0, 1], [1, 1], [0, 0]], dtype=bool)
    z = np.array([[1.0, 0], [2, 0], [0, 0], [0, 0], [-1, 0]])
    found = detection(z, fires, directions, truth)
    assert found.feature.tolist() == [1, 0]
    assert found.cosine == pytest.approx([0.8, 1])
    assert found.precision == pytest.approx([2 / 3, 0])
    assert found.recall == pytest.approx([2 / 4, 0])
    assert found.f1 == pytest.approx([2 * 2 / (3 + 4), 0])  # 2 TP / (2 TP + FP + FN); a dead latent counts 0
    assert feature_f1(z, fires, directions, truth) == pytest.approx(2 / 7)


def test_an_assignment_is_not_the_nearest():
    """Both latents are nearest to feature 0; only one can have it: .6 + .8 is more than 1 + 0."""
    truth = np.eye(3)
    directions = np.array([[1.0, 0, 0], [0.8, 0.6, 0]])
    assert feature_uniqueness(directions, truth) == 0.5
    assert feature_mcc(directions, truth) == pytest.approx((1 + 0.6) / 2)
    swapped = np.array([[0.8, 0.6, 0], [0.9, 0, np.sqrt(0.19)]])
    assert feature_mcc(swapped, truth[:2]) == pytest.approx((0.6 + 0.9) / 2)


def test_of_more_latents_than_features_the_best_count():
    """The benchmark takes the mean over min(J, F) pairs."""
    assert feature_mcc(np.vstack([np.eye(3), [[1, 1, 1.0]]]), np.eye(3)) == pytest.approx(1)
    assert feature_uniqueness(np.vstack([np.eye(3), np.eye(3)]), np.eye(3)) == 0.5


def test_a_latent_that_is_always_on_has_the_f1_of_the_rate():
    """Precision is the rate p, recall 1: F1 = 2 p / (1 + p)."""
    fires = np.arange(100)[:, None] % 4 == 0
    assert feature_f1(np.ones((100, 1)), fires, [[1.0, 0]], [[1.0, 0]]) == pytest.approx(2 * 0.25 / 1.25)


def test_unexplained_variance_and_length(rng):
    x = rng.normal(size=(200, 5)) + 7
    mean = np.broadcast_to(x.mean(0), x.shape)
    assert fvu(x, mean) == pytest.approx(1)
    assert fvu(x, mean + 0.5 * (x - mean)) == pytest.approx(0.25)
    assert shrinkage(x, 0.9 * x) == pytest.approx(0.9)
    assert shrinkage(np.vstack([x, np.zeros((3, 5))]), np.vstack([0.9 * x, np.ones((3, 5))])) == pytest.approx(0.9)
    assert (fvu(np.ones((3, 2)), np.ones((3, 2))), fvu(np.ones((3, 2)), np.zeros((3, 2)))) == (0, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"directions": np.ones((3, 9))}, "directions of 3 latents"),
        ({"directions": np.ones((12, 4))}, "outputs"),
        ({"fires": np.ones((9, 12), bool)}, "rows"),
        ({"fires": np.full((400, 12), 0.3)}, "0 or 1"),
    ],
)
def test_what_does_not_fit_is_refused(world, change, said):
    fires, truth, z = world
    with pytest.raises(UsageError, match=said):
        detection(**{"z": z, "fires": fires, "directions": truth, "truth": truth} | change)
