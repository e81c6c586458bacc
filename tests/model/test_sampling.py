"""Sampling: exact zeros, the prior's moments, paths that end where they should, and nothing else disturbed."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import kl_divergence

from vsc.errors import UsageError
from vsc.model import AE, MODELS, VAE, VSC, LaplaceVAE, ThresholdedLaplaceVSC
from vsc.model.distributions import SpikeAndSlab
from vsc.model.nets import mlp
from vsc.model.priors import FixedGates, NormalPrior, Prior, SpikeSlabPrior
from vsc.model.sampling import PATHS, ancestral, conditional, decode, interpolate, largest_changes, traversal
from vsc.model.scaling import Scaler
from vsc.model.spikes import SPIKES

J, M = 6, 16
SCALER = Scaler("unit-interval", torch.zeros(1), torch.tensor([1 / 255]))
SIZES = {"inputs": M, "latent_dim": J, "components": 4}


def made(kind, shape=(1, 4, 4), latent_dim=J, hidden=(12,), **options):
    """Build a model with fully connected nets."""
    outputs = options["likelihood"].outputs if options.get("likelihood") else 1
    nets = mlp(shape, kind.features * latent_dim, latent_dim, outputs, hidden)
    return kind(*nets, shape=shape, latent_dim=latent_dim, **options)


def spread(model):
    """Make codes differ between inputs, on in some latents and off in others."""
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(3)
    return model


def fixed(alpha):
    return SpikeSlabPrior(FixedGates(J, alpha))


def vsc(prior=None, **settings):
    """Return a VSC whose learned slabs, if it has them, differ between latents."""
    model = spread(made(VSC, scaler=SCALER, prior=fixed(0.3) if prior is None else prior, **settings))
    if model.prior.origin is not None:
        with torch.no_grad():
            model.prior.own_slab.mean.copy_(torch.linspace(-3, 3, J))
            model.prior.own_slab.logvar.copy_(torch.linspace(1, -1, J))
    return model


def thresholded():
    return spread(made(ThresholdedLaplaceVSC, scaler=SCALER, alpha=0.3))


def images(n=5):
    return torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8).numpy()


def hard(model, x):
    return model.encode(x).hard.numpy()


def reconstruct(model, x):
    """Return what the decoder makes of the hard codes, one example after another."""
    codes = torch.from_numpy(hard(model, x))
    with torch.no_grad():
        return torch.stack([model.likelihood.mean(model.from_decoder(z[None]))[0] for z in codes]).numpy()


@pytest.fixture
def model():
    model, x = vsc(), images()
    on = (hard(model, x) != 0).sum(1)
    assert on.min() >= 1  # what the tests below rest on
    assert on.max() < J
    return model


def test_decode_is_the_models_own_whatever_the_shape(model):
    z = np.random.default_rng(0).normal(size=(2, 3, J))
    x = decode(model, z)
    assert x.shape == (2, 3, M)
    np.testing.assert_allclose(
        x[1, 2], model.decode(torch.tensor(z[1, 2], dtype=torch.float32)[None])[0].detach(), rtol=1e-5
    )
    many = np.repeat(z[:1, 0], 2500, 0)
    np.testing.assert_allclose(decode(model, many), np.repeat(x[:1, 0], 2500, 0), rtol=1e-5)


def test_ancestral_draws_from_the_prior(named, pair):
    model = vsc(named(pair, **SIZES))
    z, x = ancestral(model, 20_000)
    assert z.shape == (20_000, J)
    assert x.shape == (20_000, M)
    parts = model.prior.mixed(model.posterior)
    gamma, mu, s2 = (part.detach().expand(-1, J).numpy() for part in (parts.gamma, parts.mu, parts.logvar.exp()))
    share, mean, square = gamma.mean(0), (gamma * mu).mean(0), (gamma * (mu**2 + s2)).mean(0)
    assert (abs((z != 0).mean(0) - share) <= 4 * np.sqrt(share * (1 - share) / 20_000)).all()
    for moment, expected in ((z, mean), (z**2, square)):
        assert (abs(moment.mean(0) - expected) <= 4 * moment.std(0) / math.sqrt(20_000)).all()
    np.testing.assert_allclose(x[:50], decode(model, z[:50]), rtol=1e-5)


@pytest.mark.parametrize("kind", [VAE, LaplaceVAE])
def test_ancestral_of_dense_models_has_no_zeros(kind):
    z, _ = ancestral(made(kind), 2000)
    variance, kurtosis = (1, 3) if kind is VAE else (2, 6)
    assert (z != 0).all()
    assert abs(z.mean()) <= 4 * math.sqrt(variance / z.size)
    assert abs(z.var() - variance) <= 4 * variance * math.sqrt((kurtosis - 1) / z.size)


def test_conditional_keeps_the_active_latents_of_the_input(named, pair):
    model, x = vsc(named(pair, **SIZES)), images()
    z, decoded = conditional(model, x, 7)
    assert z.shape == (5, 7, J)
    assert decoded.shape == (5, 7, M)
    assert ((z != 0) == (hard(model, x) != 0)[:, None]).all()
    np.testing.assert_allclose(decoded, decode(model, z), rtol=1e-5)


def test_conditional_values_are_the_slab_of_the_prior(named, one):
    model = vsc(named(one, **SIZES))
    z, active = conditional(model, images(), 5000).z, hard(model, images()) != 0
    parts = model.prior.mixed(None)
    mu, s = (part.detach().expand(1, J).numpy() for part in (parts.mu, (parts.logvar / 2).exp()))
    scaled = ((z - mu) / s)[z != 0]
    assert active.any()
    assert abs(scaled.mean()) <= 4 / math.sqrt(scaled.size)
    assert abs(scaled.var() - 1) <= 4 * math.sqrt(2 / scaled.size)


def test_conditional_values_are_laplacian_of_the_thresholded_laplace():
    z = conditional(thresholded(), images(), 5000).z
    on = z != 0
    assert 0 < on.mean() < 1
    assert abs(z[on].mean()) <= 4 * math.sqrt(2 / on.sum())
    assert abs(np.abs(z[on]).mean() - 1) <= 4 / math.sqrt(on.sum())  # |Lap(0, 1)| is exponential: mean and deviation 1
    assert abs(z[on].var() - 2) <= 4 * 2 * math.sqrt(5 / on.sum())


def row(many, i):
    return SpikeAndSlab(many.mu[i], many.logvar[i], spike_logits=many.spike_logits[i])


@pytest.mark.parametrize("name", ["pseudo-inputs own", "mixture own", "mixture own softmax"])
def test_conditional_of_a_mixture_draws_from_the_components_that_the_input_chooses(named, name):
    model, x, n = vsc(named(name, **SIZES)), images(), 20_000
    inputs = model.scaler(torch.from_numpy(x).reshape(5, M))
    qz, parts = model.posterior(inputs), model.prior.mixed(model.posterior)
    if name.endswith("softmax"):
        C = model.prior.scores(inputs).softmax(-1)
    else:  # q(u|x) proportional to exp(-KL), one pair after another
        pairs = [[kl_divergence(row(qz, i), row(parts, u)).sum().item() for u in range(4)] for i in range(5)]
        C = torch.softmax(-torch.tensor(pairs), -1)
    assert C.max(-1).values.min() < 0.99  # more than one component is drawn
    mean = (C @ parts.mu).detach().numpy()
    square = (C @ (parts.mu.square() + parts.logvar.exp())).detach().numpy()
    z = conditional(model, x, n).z
    active = hard(model, x) != 0
    assert active.any()
    assert (abs(z.mean(1) - mean)[active] <= 4 * z.std(1)[active] / math.sqrt(n)).all()
    assert (abs((z**2).mean(1) - square)[active] <= 4 * (z**2).std(1)[active] / math.sqrt(n)).all()


def test_conditional_of_a_mixture_chooses_anew_for_every_draw(named):
    """Two components far apart and equally far from every input: their values come together, half of the time each."""
    prior = named("mixture own", **SIZES | {"components": 2})
    model = vsc(prior)
    prior.select = lambda scores, kl: torch.full_like(kl, math.log(0.5))
    with torch.no_grad():
        prior.own_slab.mu.copy_(torch.tensor([[-50.0], [50.0]]).expand(2, J))
    z = conditional(model, images(), 2000).z
    high, low = (z > 25).any(-1), (z < -25).any(-1)
    some = (z != 0).any(-1)
    assert ((high ^ low) == some).all()  # one component per draw
    assert abs(high[some].mean() - 0.5) <= 4 * 0.5 / math.sqrt(some.sum())


def test_an_input_without_active_latents_stays_without():
    model = vsc(gate_init=-1000.0)
    assert not conditional(model, images(), 3).z.any()
    step = traversal(model, images(), most=2)
    assert (step.latent == -1).all()
    assert not step.z.any()


@pytest.mark.parametrize("name", ["ae", "vae", "tcvae", "laplace"])
def test_dense_models_have_no_conditional_samples(name):
    with pytest.raises(UsageError, match="all latents are on; use ancestral"):
        conditional(made(MODELS[name]), images(), 2)


@pytest.mark.parametrize("settings", [{"prior": fixed(1.0)}, {"prior": NormalPrior(J)}])
def test_open_gates_have_no_conditional_samples(settings):
    with pytest.raises(UsageError, match="all latents are on"):
        conditional(made(VSC, **settings), images(), 2)


def test_a_prior_that_does_not_know_its_slab_has_no_conditional_samples():
    class Unknown(Prior):
        kl = sample = log_prob = None

    model = vsc()
    Unknown.__abstractmethods__ = frozenset()
    model.prior = Unknown()
    with pytest.raises(UsageError, match="slab of the prior Unknown"):
        conditional(model, images(), 2)


def test_traversal_alters_one_active_latent_at_a_time(model):
    x = images()
    out = traversal(model, x, most=3)
    before = hard(model, x)
    np.testing.assert_array_equal(out.before, before)
    np.testing.assert_allclose(out.reconstruction, reconstruct(model, x), rtol=1e-5)
    np.testing.assert_array_equal(out.values, [-3, -2, -1, 0, 1, 2, 3])
    assert out.latent.shape == (5, 3)
    assert out.z.shape == (5, 3, 7, J)
    assert out.x.shape == (5, 3, 7, M)
    for i in range(5):
        active = np.flatnonzero(before[i])
        expected = active[np.argsort(-abs(before[i, active]))][:3]
        assert out.latent[i].tolist() == [*expected, *[-1] * (3 - len(expected))]
        for row, j in enumerate(out.latent[i]):
            for v, value in enumerate(out.values):
                z = before[i].copy()
                if j >= 0:
                    z[j] = value
                np.testing.assert_array_equal(out.z[i, row, v], z)
    np.testing.assert_allclose(out.x, decode(model, out.z), rtol=1e-5)


def test_traversal_never_switches_a_latent_on_unasked(model):
    x = images()
    out = traversal(model, x, most=100)
    assert out.latent.shape == (5, J)
    off = hard(model, x) == 0
    assert (out.z[np.broadcast_to(off[:, None, None], out.z.shape)] == 0).all()
    assert ((out.latent >= 0).sum(1) == (~off).sum(1)).all()


def test_traversal_of_latents_that_were_asked_for(model):
    x = images()
    off = int(np.flatnonzero(hard(model, x)[0] == 0)[0])
    out = traversal(model, x, latents=[off, 0], values=[-0.5, 4])
    assert out.latent.tolist() == [[off, 0]] * 5
    assert (out.z[:, 0, :, off] == np.float32([-0.5, 4])).all()
    assert (out.z[:, 1, :, 0] == np.float32([-0.5, 4])).all()
    # setting a latent to what it is gives the reconstruction
    value = hard(model, x)[0, 0]
    same = traversal(model, x[:1], latents=[0], values=[value])
    np.testing.assert_allclose(same.x[0, 0, 0], same.reconstruction[0], rtol=1e-5)


@pytest.mark.parametrize("kind", PATHS)
def test_paths_run_from_one_reconstruction_to_the_other(model, kind):
    a, b = images(2)
    path = interpolate(model, a, b, kind=kind)
    ends = hard(model, np.stack([a, b]))
    np.testing.assert_array_equal(path.z[[0, -1]], ends)
    np.testing.assert_allclose(path.x[[0, -1]], reconstruct(model, np.stack([a, b])), rtol=1e-5)
    assert (path.z[:, (ends == 0).all(0)] == 0).all()
    assert path.x.shape == (len(path.z), M)


def test_the_continuous_path_is_a_line(model):
    a, b = images(2)
    z = interpolate(model, a, b, steps=7).z
    assert z.shape == (7, J)
    np.testing.assert_allclose(np.diff(z, axis=0), np.broadcast_to((z[-1] - z[0]) / 6, (6, J)), atol=1e-6)
    assert interpolate(model, a, b, steps=2).z.shape == (2, J)


def test_the_discrete_path_switches_one_latent_per_step(model):
    a, b = images(2)
    z = interpolate(model, a, b, kind="discrete").z
    start, end = z[0], z[-1]
    assert len(z) == 1 + (start != end).sum() > 2
    changed = z[1:] != z[:-1]
    assert (changed.sum(1) == 1).all()
    latent = changed.argmax(1)
    assert len(set(latent)) == len(latent)
    assert (z[np.arange(1, len(z)), latent] == end[latent]).all()
    assert (np.diff(abs(end - start)[latent]) <= 0).all()
    assert np.isin(z, np.concatenate([start, end, [0]])).all()  # no value between the two


def test_a_discrete_path_by_hand():
    z = PATHS["discrete"](np.float32([1, 0, 0, 2, 3]), np.float32([0, 0, -2, 2, 2.5]), 11)
    assert z.tolist() == [
        [1, 0, 0, 2, 3],
        [1, 0, -2, 2, 3],  # switched on
        [0, 0, -2, 2, 3],  # switched off
        [0, 0, -2, 2, 2.5],  # moved
    ]


def test_a_path_from_a_code_to_itself(model):
    a = images(1)[0]
    assert len(interpolate(model, a, a, kind="discrete").z) == 1
    np.testing.assert_allclose(interpolate(model, a, a).z, np.repeat(hard(model, a[None]), 11, 0), rtol=1e-6)


def test_paths_of_dense_models_run_between_their_codes():
    model = made(AE, scaler=SCALER)
    a, b = images(2)
    z = interpolate(model, a, b).z
    np.testing.assert_array_equal(z[[0, -1]], model.encode(np.stack([a, b])).z.numpy())


def test_one_example_may_come_in_any_shape(model):
    a, b = images(2)
    expected = interpolate(model, a, b).x
    for form in (np.ravel, lambda x: x.reshape(4, 4), torch.from_numpy, lambda x: x.reshape(1, M)):
        np.testing.assert_array_equal(interpolate(model, form(a), form(b)).x, expected)
    np.testing.assert_allclose(interpolate(model, a.tolist(), b.tolist()).x, expected, rtol=1e-5)


def test_the_largest_changes_alone():
    a, b = np.float32([1, 0, 0, 2, 3]), np.float32([0, 0, -2, 2, 2.5])
    out = largest_changes(a, b)
    assert out.latent.tolist() == [2, 0]
    assert out.z.tolist() == [[1, 0, -2, 2, 3], [0, 0, 0, 2, 3]]
    back = largest_changes(b, a, k=1)
    assert back.z.tolist() == [[0, 0, 0, 2, 2.5]]
    assert largest_changes(a, b, k=100).latent.tolist() == [2, 0, 4]
    assert largest_changes(a, a).z.shape == (0, 5)
    assert a.tolist() == [1, 0, 0, 2, 3]


DRAWS = {
    "ancestral": lambda model, seed: ancestral(model, 4, seed),
    "conditional": lambda model, seed: conditional(model, IMAGES, 4, seed),
}
IMAGES = np.arange(5 * M, dtype=np.uint8).reshape(5, 1, 4, 4)
CALLS = {
    "ancestral": lambda model: ancestral(model, 4),
    "conditional": lambda model: conditional(model, IMAGES, 4),
    "traversal": lambda model: traversal(model, IMAGES),
    "interpolate": lambda model: interpolate(model, IMAGES[0], IMAGES[1]),
    "decode": lambda model: decode(model, np.zeros((2, J))),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_seeds_reproduce(named, draw, pair):
    model = vsc(named(pair, **SIZES), gate_init=5.0)
    first, again, other = (DRAWS[draw](model, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.z, again.z)
    np.testing.assert_array_equal(first.x, again.x)
    assert (first.z != other.z).any()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_is_disturbed(named, call, training):
    model = vsc(named("pseudo-inputs own", **SIZES)).train(training)
    model.decoder.train(not training)  # modules of their own mode keep it
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    out = CALLS[call](model)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    for array in out if isinstance(out, tuple) else (out,):
        assert isinstance(array, np.ndarray)
        assert np.isfinite(array).all()


def test_the_mode_is_restored_after_a_failure():
    model = made(AE).train()
    with pytest.raises(UsageError, match="an AE has no prior"):
        ancestral(model, 3)
    assert model.training


@pytest.mark.parametrize("estimator", SPIKES)
def test_draws_do_not_depend_on_the_spike_estimator(estimator, model):
    """Spikes are hard, whatever the estimator relaxes in training."""
    twin = vsc(spikes=SPIKES[estimator]).train()
    twin.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(conditional(twin, IMAGES, 3).z, conditional(model, IMAGES, 3).z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: ancestral(m, 0), "the number of draws, n, must be at least 1, not 0"),
        (lambda m: conditional(m, IMAGES, -1), "the number of draws, n, must be at least 1, not -1"),
        (lambda m: conditional(m, IMAGES[:, :, :3], 2), "expected examples of 16 values each"),
        (lambda m: conditional(m, IMAGES * np.nan, 2), "NaN or infinite"),
        (lambda m: traversal(m, IMAGES[0, 0]), "expected examples of 16 values each"),
        (lambda m: traversal(m, IMAGES, latents=[0, 6]), "there is no latent 6: the model's 6 latents are numbered"),
        (lambda m: traversal(m, IMAGES, latents=[-1]), "there is no latent -1"),
        (lambda m: traversal(m, IMAGES, latents=[]), "latents must be a list of whole numbers"),
        (lambda m: traversal(m, IMAGES, latents=[0.5]), "latents must be a list of whole numbers"),
        (lambda m: traversal(m, IMAGES, values=[]), "values must be a list of finite numbers"),
        (lambda m: traversal(m, IMAGES, values=[math.inf]), "values must be a list of finite numbers"),
        (lambda m: traversal(m, IMAGES, most=0), "most must be at least 1, not 0"),
        (lambda m: interpolate(m, IMAGES[0], IMAGES[1], steps=1), "steps must be at least 2, not 1"),
        (lambda m: interpolate(m, IMAGES[0], IMAGES[1], kind="discreet"), "did you mean 'discrete'"),
        (lambda m: interpolate(m, IMAGES[:2], IMAGES[1]), "expected examples of 16 values each"),
        (lambda m: interpolate(m, IMAGES[0], [[1, 2], [3]]), "all its rows must have the same length"),
        (lambda m: decode(m, np.zeros((3, 5))), "expected codes of 6 latents"),
        (lambda m: decode(m, 0.0), "expected codes of 6 latents"),
        (lambda m: decode(m, np.full((3, J), np.nan)), "the codes have NaN"),
        (lambda m: largest_changes(np.zeros(3), np.zeros(4)), "two codes of one length"),
        (lambda m: largest_changes(np.zeros(3), np.ones(3), k=0), "the number of elements, k, must be at least 1"),
    ],
)
def test_a_wrong_request_is_answered_in_one_line(model, call, message):
    with pytest.raises(UsageError) as caught:
        call(model)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
