"""Stability over seeds: hand-made runs whose matches are known, and what chance alone gives."""

import math

import numpy as np
import pytest

from vsc.errors import UsageError
from vsc.metrics import code_correlations, cosines, matched, matched_cosine, stability


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_permuted_and_scaled_copy_comes_back_whole(rng):
    a = rng.normal(size=(7, 30))
    order = rng.permutation(7)
    b = rng.uniform(0.1, 9, (7, 1)) * a[order]
    assert matched_cosine(a, b) == pytest.approx(np.ones(7))
    assert (order[matched(cosines(a, b)).other] == np.arange(7)).all()
    assert stability(cosines(a, b)) == pytest.approx(1)


def test_half_shared_is_half():
    eye = np.eye(12)
    a, b = eye[:8], eye[4:]  # the last four of the one are the first four of the other
    assert matched_cosine(a, b).tolist() == [0] * 4 + [1] * 4
    assert stability(cosines(a, b)) == pytest.approx(0.5)


@pytest.mark.parametrize(("directed", "times"), [(True, 1), (False, 2)])
def test_unrelated_effects_have_the_cosine_of_chance(rng, directed, times):
    """In M dimensions a cosine is about N(0, 1 / M): its positive part has mean 1 / sqrt(2 pi M), its size twice."""
    M = 200
    found = cosines(rng.normal(size=(150, M)), rng.normal(size=(150, M)), directed, directed)
    assert found.mean() == pytest.approx(times / math.sqrt(2 * math.pi * M), rel=0.03)


def test_the_best_match_of_many_is_more_than_chance_of_one_and_far_from_one(rng):
    """With K random matches to choose from, no latent gets more than about sqrt(2 ln K / M)."""
    K, M = 50, 400
    found = matched_cosine(rng.normal(size=(K, M)), rng.normal(size=(K, M)))
    assert 1 / math.sqrt(2 * math.pi * M) < found.mean() < math.sqrt(2 * math.log(K) / M)


def test_permuting_either_run_changes_nothing(rng):
    a, b = rng.normal(size=(6, 9)), rng.normal(size=(8, 9))
    p, q = rng.permutation(6), rng.permutation(8)
    assert matched_cosine(a[p], b[q]) == pytest.approx(matched_cosine(a, b)[p])
    assert stability(cosines(a[p], b[q])) == pytest.approx(stability(cosines(b, a)))


def test_other_numbers_of_latents_leave_some_without_a_match(rng):
    a = rng.normal(size=(6, 20))
    found = matched(cosines(a, a[:4]))
    assert found.other.tolist() == [0, 1, 2, 3, -1, -1]
    assert found.similarity.tolist() == pytest.approx([1, 1, 1, 1, 0, 0])
    for similarity in (cosines(a, a[:4]), cosines(a[:4], a)):
        assert stability(similarity) == pytest.approx(2 * 4 / (6 + 4))  # of ten latents, eight have a match


def test_matches_are_one_to_one_and_best_in_sum():
    """Both rows are nearest to the first column; the one that loses less by going elsewhere does."""
    assert matched([[0.9, 0.8], [0.7, 0.1]]).other.tolist() == [1, 0]
    assert stability([[0.9, 0.8], [0.7, 0.1]]) == pytest.approx(0.75)


@pytest.mark.parametrize(("K", "L"), [(0, 0), (0, 3), (3, 0)])
def test_where_no_latent_is_used_nothing_comes_back(K, L):
    a, b = np.ones((K, 5)), np.ones((L, 5))
    assert matched_cosine(a, b).tolist() == [0] * K
    assert matched(cosines(a, b)).other.tolist() == [-1] * K
    assert stability(cosines(a, b)) == 0
    assert stability(code_correlations(np.ones((9, K)), np.ones((9, L)))) == 0


def test_opposite_effects_are_alike_only_where_a_sign_means_nothing():
    a = np.array([[1.0, 2.0]])
    assert matched_cosine(a, -a).tolist() == [0]
    assert matched(cosines(a, -a)).other.tolist() == [-1]
    for one, two in ((False, False), (True, False), (False, True)):
        assert matched_cosine(a, -a, one, two) == pytest.approx([1])


def test_directions_are_taken_latent_by_latent():
    a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-1.0, 0.0], [0.0, -1.0]])
    assert matched_cosine(a, b, [True, False]).tolist() == [0, 1]


def test_an_effect_of_zeros_or_of_any_size_is_no_trouble():
    a = np.array([[0.0, 0.0], [1e-200, 0.0], [0.0, 1e200]])
    assert matched_cosine(a, a).tolist() == [0, 1, 1]


def test_codes_match_whatever_their_sign_scale_and_order(rng):
    z = rng.normal(size=(400, 5))
    other = np.concatenate([-3 * z[:, ::-1] + 1, np.full((400, 1), 7.0)], 1)  # and one that never changes
    found = matched(code_correlations(z, other))
    assert found.other.tolist() == [4, 3, 2, 1, 0]
    assert found.similarity == pytest.approx(np.ones(5))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cosines(np.ones((2, 3)), np.ones((2, 4))), "of 3 outputs in one run, and of 4"),
        (lambda: cosines(np.full((2, 3), np.nan), np.ones((2, 3))), "NaN"),
        (lambda: cosines(np.ones(3), np.ones((2, 3))), r"expected an array \(examples, columns\)"),
        (lambda: code_correlations(np.ones((5, 2)), np.ones((6, 2))), "of 5 examples in one run, and of 6"),
        (lambda: matched([[2.0]]), r"similarity: must lie in \[0, 1\]"),
    ],
)
def test_wrong_arrays_are_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()
