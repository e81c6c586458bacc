"""Altering single latents, against decoding the altered codes by hand."""

import numpy as np
import pytest
import torch

from vsc.measure.effects import _observed, contributions, effects, strips
from vsc.measure.latents import survey
from vsc.model import AE, VSC
from vsc.model.nets import mlp

N, M, J = 30, 6, 4


def network(kind, shape, latent_dim, hidden=(), **options):
    """Build a model with fully connected nets."""
    nets = mlp(shape, kind.features * latent_dim, latent_dim, 1, hidden)
    return kind(*nets, shape=shape, latent_dim=latent_dim, **options)


@pytest.fixture(params=["vsc", "ae"])
def case(request):
    """Return a model, its inputs and their survey."""
    model = network({"vsc": VSC, "ae": AE}[request.param], (M,), J, hidden=(8,)).eval()
    x = torch.rand(N, M)
    return model, x, survey(model, x, model.encode(x))


@torch.no_grad()
def decoded(model, x, z):
    """Return E[x|z] and log p(x|z) of one example and one code."""
    z = torch.as_tensor(np.asarray(z, np.float32))[None]
    out = model.from_decoder(z)
    x, p = x.double(), torch.sigmoid(out[0].double())
    log_px = (x * p.log() + (1 - x) * (1 - p).log()).sum()
    return p.numpy(), log_px.item()


def test_leaving_one_latent_out(case):
    model, x, found = case
    example = int(found.on.sum(1).argmax())
    parts = contributions(model, x, found, example)
    own = found.value[example].copy()
    expected = set(np.flatnonzero(own)) if found.gated else set(found.shown)
    assert set(parts.latent) == expected
    mean, log_px = decoded(model, x[example], own)
    assert parts.log_px == pytest.approx(log_px, rel=1e-5)
    np.testing.assert_allclose(parts.reconstruction, mean, rtol=1e-5)
    assert parts.empty == pytest.approx(decoded(model, x[example], found.rest)[1], rel=1e-5)
    assert (np.diff(parts.drop) <= 0).all()
    for j, value, drop, change in zip(parts.latent, parts.value, parts.drop, parts.change, strict=True):
        without = own.copy()
        without[j] = found.rest[j]
        mean_without, log_px_without = decoded(model, x[example], without)
        assert value == own[j]
        assert drop == pytest.approx(log_px - log_px_without, abs=1e-5)
        np.testing.assert_allclose(change, mean - mean_without, atol=1e-6)


def test_an_example_with_nothing_on_has_no_parts():
    model, x = network(VSC, (M,), J, hidden=(8,), gate_init=-30.0).eval(), torch.rand(N, M)
    parts = contributions(model, x, survey(model, x, model.encode(x)), 0)
    assert len(parts.latent) == len(parts.drop) == 0
    assert parts.change.shape == (0, M)
    assert parts.log_px == parts.empty


def test_effects_are_a_mean_over_the_examples_that_have_it_on(case):
    model, x, found = case
    moved = effects(model, x, found, contexts=N)
    assert (moved.presence is None) == (not found.gated)
    for k, j in enumerate(found.shown):
        drops, sizes, presence, raising, signs = [], [], [], [], []
        for i in np.flatnonzero(found.on[:, j]):
            codes = np.repeat(found.value[i][None], 4, 0)
            codes[1:, j] = found.rest[j], found.low[j], found.high[j]
            (as_is, log_px), (without, log_px_without), (low, _), (high, _) = (decoded(model, x[i], z) for z in codes)
            drops.append(log_px - log_px_without)
            sizes.append(np.sqrt(np.mean((as_is - without) ** 2)))
            presence.append(as_is - without)
            raising.append(high - low)
            signs.append(found.value[i, j] > 0)
        assert moved.drop[k] == pytest.approx(np.median(drops), abs=1e-5)
        assert moved.effect[k] == pytest.approx(np.mean(sizes), rel=1e-4)
        np.testing.assert_allclose(moved.raising[k], np.mean(raising, 0), atol=1e-6)
        if found.gated:
            common = np.array(signs) == (np.mean(signs) >= 0.5)
            np.testing.assert_allclose(moved.presence[k], np.array(presence)[common].mean(0), atol=1e-6)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_what_is_observed_is_a_difference_of_means_or_a_fitted_line(case, missing):
    _, x, found = case
    x = np.where(np.random.default_rng(0).random(x.shape) < missing, np.nan, x.numpy()).astype(np.float32)
    x[:, 0] = np.nan if missing else 0.5
    turned_on = np.arange(len(found.shown)) % 2 == 0
    seen = _observed(x, found, turned_on)
    for k, j in enumerate(found.shown):
        on, v = found.on[:, j], found.value[:, j]
        for m in range(1, M):
            there = ~np.isnan(x[:, m])
            if turned_on[k]:
                apart = not (on & there).any() or not (~on & there).any()
                expected = np.nan if apart else x[on & there, m].mean() - x[~on & there, m].mean()
            else:
                line = np.polyfit(v[on & there], x[on & there, m].astype(float), 1)
                expected = line[0] * (found.high[j] - found.low[j])
            assert seen[k, m] == pytest.approx(expected, abs=2e-4, nan_ok=True)
        alone = missing or (turned_on[k] and on.all())
        assert np.isnan(seen[k, 0]) if alone else seen[k, 0] == pytest.approx(0, abs=1e-5)


def test_few_contexts_are_spread_over_the_split(case):
    model, x, found = case
    all_of_them, one = effects(model, x, found, contexts=N), effects(model, x, found, contexts=1)
    assert one.raising.shape == all_of_them.raising.shape
    j = found.shown[0]
    first = np.flatnonzero(found.on[:, j])[0]
    codes = np.repeat(found.value[first][None], 2, 0)
    codes[:, j] = found.low[j], found.high[j]
    low, high = (decoded(model, x[first], z)[0] for z in codes)
    np.testing.assert_allclose(one.raising[0], high - low, atol=1e-6)


def test_strips_set_one_latent_of_a_typical_example(case):
    model, x, found = case
    swept = strips(model, found, values=4)
    for k, j in enumerate(found.shown):
        own = found.value[found.on[:, j], j]
        i = swept.example[k]
        assert found.on[i, j]
        assert abs(found.value[i, j] - np.median(own)) == np.abs(own - np.median(own)).min()
        ends = [found.low[j], found.high[j]]
        np.testing.assert_allclose(swept.values[k][[1 if found.gated else 0, -1]], ends, rtol=1e-6)
        assert not found.gated or swept.values[k, 0] == 0
        for value, there in zip(swept.values[k], swept.x[k], strict=True):
            z = found.value[i].copy()
            z[j] = value
            np.testing.assert_allclose(there, decoded(model, x[i], z)[0], rtol=1e-5)
