"""Generated features: every rate is what it says, trees hold, rows are the same ones in any order."""

import math

import numpy as np
import pytest
import torch

from vsc.data import load, npz, synth
from vsc.data.split import hold_out
from vsc.data.synth import BLOCK, TEST, TRAIN, Plan, World
from vsc.errors import UsageError

SMALL = Plan(200, 24, 0.3, 0.02, roots=10, children=3, depth=2, correlation=0.15)


@pytest.fixture(scope="module")
def world():
    return World(SMALL)


@pytest.fixture(scope="module")
def drawn(world):
    """Return x (N, M) and activations (N, F) of 60 blocks."""
    x, activations = zip(*world.rows(60 * BLOCK), strict=True)
    return torch.cat(x), torch.cat(activations)


def test_rates_are_what_they_say(world, drawn):
    """Of 200 features: every one within 4.5 standard errors, and their deviations as standard normal ones."""
    fires = (drawn[1] != 0).double()
    se = (world.rates * (1 - world.rates) / len(fires)).sqrt()
    deviation = (fires.mean(0) - world.rates) / se
    assert deviation.abs().max() < 4.5
    assert deviation.square().mean() == pytest.approx(1, abs=5 * math.sqrt(2 / 200))
    assert world.l0 == pytest.approx(
        fires.sum(1).mean().item(), abs=5 * fires.sum(1).std().item() / math.sqrt(len(fires))
    )


def test_rates_fall_as_they_say():
    """.2 rank^-1/2 in the small world; children take at most 3/4 of their parent."""
    one = synth.world()
    zipf = 0.2 / (torch.arange(1024, dtype=torch.float64) + 1).sqrt()
    parents = one.parents
    assert torch.allclose(one.rates[parents < 0], zipf[parents < 0])
    together = torch.zeros(128, dtype=torch.float64).index_add(0, parents[parents >= 0], one.rates[parents >= 0])
    wanted = torch.zeros(128, dtype=torch.float64).index_add(0, parents[parents >= 0], zipf[parents >= 0])
    assert torch.allclose(together, torch.minimum(wanted, 0.75 * zipf[:128]))
    assert torch.bincount(parents[parents >= 0]).tolist() == [4] * 128
    assert one.l0 == pytest.approx(9.96, abs=0.01)  # the sum of the above


def test_the_published_plan_is_the_published_one():
    plan = synth.WORLDS["synth-16k"]
    one = World(Plan(**vars(plan) | {"width": 2}))
    depth = torch.zeros(plan.features, dtype=torch.int64)
    for feature in range(plan.features):  # parents come first
        parent = int(one.parents[feature])
        depth[feature] = 0 if parent < 0 else depth[parent] + 1
    assert depth.bincount().tolist() == [128 + 16_384 - 128 * 85, 128 * 4, 128 * 16, 128 * 64]
    assert one.rates[0] == pytest.approx(0.4)
    assert one.rates[-1] == pytest.approx(5e-4)


def test_children_fire_with_their_parents_and_one_at_a_time(world, drawn):
    fires = drawn[1] != 0
    child = (world.parents >= 0).nonzero().flatten()
    assert len(child) == 10 * 3 + 30 * 3
    assert not (fires[:, child] & ~fires[:, world.parents[child]]).any()
    assert fires[:, child].unflatten(1, (-1, 3)).sum(2).max() == 1


def test_features_fire_together_as_the_copula_says(world, drawn):
    """P(both) of a bivariate normal whose correlation is the product of the loadings, for the most and least alike."""
    from scipy.stats import multivariate_normal

    free, fires = world._free, (drawn[1] != 0).numpy()
    own = 1 / (1 + world._loadings.square().sum(1))
    correlation = (world._loadings @ world._loadings.T * (own[:, None] * own).sqrt()).fill_diagonal_(0).numpy()
    thresholds = (world._thresholds * own.sqrt()).numpy()
    for place in (correlation.argmax(), correlation.argmin()):
        i, j = np.unravel_index(place, correlation.shape)
        r = correlation[i, j]
        assert abs(r) > 0.3
        both = multivariate_normal([0, 0], [[1, r], [r, 1]]).cdf([-thresholds[i], -thresholds[j]])
        seen = (fires[:, free[i]] & fires[:, free[j]]).mean()
        assert seen == pytest.approx(both, abs=4.5 * math.sqrt(both / len(fires)))


def test_rows_are_sums_of_directions(world, drawn):
    x, activations = drawn
    assert torch.allclose(world.directions.norm(dim=1), torch.ones(200))
    assert world.bias.norm() == pytest.approx(0.5)
    assert torch.allclose(x[:500], activations[:500] @ world.directions + world.bias, atol=1e-4)


def test_magnitudes_are_folded_normal(world, drawn):
    feature = 0
    values = drawn[1][:, feature][drawn[1][:, feature] != 0].double()
    mean, sd = world.magnitudes[feature].item(), world.spreads[feature].item()
    assert mean == 5
    assert values.mean().item() == pytest.approx(mean, abs=5 * sd / math.sqrt(len(values)))
    assert values.std().item() == pytest.approx(sd, rel=5 / math.sqrt(2 * len(values)))
    assert (drawn[1] >= 0).all()


def test_magnitudes_of_children_can_follow_their_parents(world):
    scaled = World(Plan(**vars(SMALL) | {"scaled": True}))
    plain, other = world.block(TRAIN, 0).activations, scaled.block(TRAIN, 0).activations
    child, grandchild = 10, 40  # the first of each
    times = plain[:, 0] / world.magnitudes[0]
    assert torch.allclose(other[:, child], plain[:, child] * times)
    assert torch.allclose(
        other[:, grandchild], plain[:, grandchild] * plain[:, child] * times / world.magnitudes[child]
    )


def test_rows_are_a_function_of_their_place(world):
    again = World(SMALL)
    assert torch.equal(again.block(TRAIN, 3).x, world.block(TRAIN, 3).x)
    assert not torch.equal(world.block(TRAIN, 3).x, world.block(TEST, 3).x)
    assert not torch.equal(world.block(TRAIN, 3).x, world.block(TRAIN, 4).x)
    assert not torch.equal(World(SMALL, seed=1).directions, world.directions)
    stream = world.stream(700)
    streamed = torch.cat([next(stream) for _ in range(4)])
    whole = torch.cat([rows.x for rows in world.rows(2800)])
    assert torch.equal(streamed, whole)


def test_the_data_set_knows_its_truth(monkeypatch, tmp_path):
    monkeypatch.setitem(synth.ROWS, "synth", (3000, 1500))
    found = synth.load(tmp_path)
    assert (len(found.train), len(found.valid), len(found.test)) == (3000, 1500, 1500)
    assert found.shape == (192,)
    assert found.test.extras["fires"].shape == (1500, 1024)
    assert torch.equal(found.directions, synth.world().directions)


def test_a_file_of_it_keeps_what_is_known_of_held_out_rows(monkeypatch, tmp_path):
    monkeypatch.setitem(synth.ROWS, "synth", (300, 100))
    data = hold_out(synth.load(tmp_path), "synth")
    npz.write(tmp_path / "rows.npz", data)
    again = load(tmp_path / "rows.npz")
    assert torch.equal(again.test.extras["fires"], data.test.extras["fires"])
    assert not again.train.extras


def test_more_trees_than_features():
    with pytest.raises(UsageError, match="ask for fewer"):
        World(Plan(100, 10, 0.2, 0.01))
