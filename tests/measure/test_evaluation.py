"""Evaluation on models made by hand, for which every score is known."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from vsc.data.split import Dataset, Split
from vsc.errors import Caution, UsageError
from vsc.measure.cautions import cautions, far_out
from vsc.measure.measured import Measured, measure
from vsc.measure.measured import evaluate as cautioning
from vsc.measure.scores import NOISE, Scores, add_noise, importance_weighted_bound
from vsc.measure.showcase import showcase
from vsc.model import AE, VAE, VSC
from vsc.model.bounds import importance_weighted
from vsc.model.likelihoods import Gaussian, GaussianFixed, GaussianShared, Laplace
from vsc.model.nets import mlp
from vsc.model.priors import FixedGates, SpikeSlabPrior
from vsc.model.scaling import fit_scaler
from vsc.model.spikes import SPIKES
from vsc.settings.config import Config, TrainConfig
from vsc.torchstate import seeded


def evaluate(model, data, split="test", seed=0, **how):
    """Measure without a caution: these models are not sound ones."""
    return Measured(model, data, split, seed).scores(**how)


def network(kind, shape, latent_dim, hidden=(), **options):
    """Build a model with fully connected nets."""
    outputs = options["likelihood"].outputs if options.get("likelihood") else 1
    nets = mlp(shape, kind.features * latent_dim, latent_dim, outputs, hidden)
    return kind(*nets, shape=shape, latent_dim=latent_dim, **options)


def linear(kind, data, J, likelihood=None, scale="unit-interval", **options):
    """Build a model of one linear layer each way, all weights and biases zero."""
    scaler = fit_scaler(scale, data.train.x, data.high)
    model = network(kind, data.shape, J, likelihood=likelihood, scaler=scaler, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def identity(data):
    model = linear(AE, data, 64, GaussianFixed(0.5))
    with torch.no_grad():
        model.encoder[0].weight.copy_(torch.eye(64))
        model.decoder[0].weight.copy_(torch.eye(64))
    return model


@pytest.mark.parametrize("rows", [7, 40, 4000])
def test_the_importance_weighted_bound_does_not_depend_on_how_it_is_cut_up(tiny, rows):
    model = random_vsc(tiny)
    x = model.scaler(tiny.test.x)[:20]
    found = []
    for seed in range(8):
        with seeded(seed):
            found.append(importance_weighted_bound(model, x, 40, rows=rows).mean())
    with seeded(100):
        whole = importance_weighted(model.log_weights(x, 40 * 200).unflatten(0, (40, 200))).mean(-1)
    found = torch.stack(found)
    error = math.hypot(found.std() / math.sqrt(8), whole.std(0).item() / math.sqrt(200))
    assert abs(found.mean() - whole.mean()) <= 4 * error


def test_memory_of_the_importance_weighted_bound_is_bounded(tiny, monkeypatch):
    model, seen = random_vsc(tiny), []
    weigh = VSC.log_weights
    monkeypatch.setattr(VSC, "log_weights", lambda self, x, k: (seen.append(len(x) * k), weigh(self, x, k))[1])
    importance_weighted_bound(model, model.scaler(tiny.test.x), 1000, rows=300)
    assert max(seen) <= 300
    assert sum(seen) == len(tiny.test) * 1000


def test_an_ae_has_no_importance_weighted_bound(tiny):
    with pytest.raises(UsageError, match="no bound"):
        evaluate(identity(tiny), tiny, iwae=5)


def without_labels(data):
    return Dataset(data.name, data.shape, *(Split(s.x) for s in (data.train, data.valid, data.test)), high=data.high)


def random_vsc(data, **options):
    scaler = fit_scaler("unit-interval", data.train.x, data.high)
    model = network(
        VSC, data.shape, 6, hidden=(16,), prior=SpikeSlabPrior(FixedGates(6, 0.2)), scaler=scaler, **options
    ).eval()
    with torch.no_grad():
        model.encoder[-1].weight.mul_(10)  # codes and gates that differ between examples
        model.decoder[0].weight.mul_(3)
    return model


def test_identity_autoencoder(tiny):
    scores = evaluate(identity(tiny), tiny)
    assert scores.mse == 0
    assert scores.log_px == pytest.approx(-32 * math.log(2 * math.pi * 0.5), rel=1e-6)
    # what goes in comes out: the noise stays
    assert scores.denoise_psnr == scores.noisy_psnr
    assert scores.elbo is None
    assert scores.kl_slab is None
    assert scores.kl_spike is None
    assert scores.relaxed_elbo is None
    assert scores.l0 == 64
    assert (scores.used, scores.always_on, scores.dead) == (64, 64, 0)


def test_noise_is_a_tenth_of_the_range_clipped_to_it(tiny):
    """On black-and-white data half of the noise is clipped away, so the squared error is sigma^2 / 2."""
    sigma = 0.1
    assert sigma == NOISE
    scores = evaluate(identity(tiny), tiny)
    n = 20 * 64
    # the half-normal's square: mean 1/2, variance 3/2 - 1/4
    assert scores.denoise_mse == pytest.approx(sigma**2 / 2, abs=4 * sigma**2 * math.sqrt(1.25 / n))
    x = 7 * torch.rand(100, 50) - 3
    noisy = add_noise(x, seed=1)
    assert noisy.min() >= x.min()
    assert noisy.max() <= x.max()
    inside = (x > -1) & (x < 2)  # clipping is out of reach here
    spread = (noisy - x)[inside].std().item()
    assert spread == pytest.approx(sigma * (x.max() - x.min()).item(), rel=4 / math.sqrt(2 * int(inside.sum())))


def test_noise_is_the_same_for_every_model(tiny):
    """What doing nothing scores depends on the data and the seed alone, not on how much a model draws before."""
    relaxed = evaluate(random_vsc(tiny, spikes=SPIKES["concrete"]), tiny, samples=3)
    assert relaxed.noisy_psnr == evaluate(identity(tiny), tiny).noisy_psnr
    assert relaxed.noisy_psnr != evaluate(identity(tiny), tiny, seed=1).noisy_psnr


def test_psnr_of_a_constant_reconstruction(tiny):
    """Black and white against 1/2: squared error 1/4 everywhere, so 10 log10 4 dB."""
    model = linear(AE, tiny, 2)  # Bernoulli logits of 0 are means of 1/2
    scores = evaluate(model, tiny)
    assert scores.mse == pytest.approx(0.25)
    assert scores.denoise_mse == pytest.approx(0.25)
    assert scores.denoise_psnr == pytest.approx(10 * math.log10(4), abs=1e-5)
    assert scores.log_px == pytest.approx(-64 * math.log(2), rel=1e-6)


def test_psnr_is_relative_to_the_range():
    x = torch.tensor([[0.0, 10.0], [10.0, 0.0]])
    data = Dataset("two", (2,), Split(x), Split(x), Split(x), high=10.0)  # model units are 0 and 10
    scores = evaluate(linear(AE, data, 1, GaussianFixed(1.0), scale="none"), data)
    assert scores.mse == pytest.approx(50)
    assert scores.denoise_psnr == pytest.approx(10 * math.log10(100 / 50), abs=1e-5)


def test_posterior_at_the_prior_costs_nothing(tiny):
    scores = evaluate(linear(VAE, tiny, 3), tiny)
    assert scores.kl_slab == 0
    assert scores.elbo == pytest.approx(-64 * math.log(2), rel=1e-6)
    assert scores.l0 == 3


def test_shut_gates_cost_what_the_prior_gave_to_open_ones(tiny):
    model = linear(VSC, tiny, 3, prior=SpikeSlabPrior(FixedGates(3, 0.2)))
    with torch.no_grad():
        model.encoder[0].bias[6:] = -200
    scores = evaluate(model, tiny)
    assert scores.kl_slab == 0
    assert scores.kl_spike == pytest.approx(-3 * math.log(0.8), rel=1e-5)
    assert scores.elbo == pytest.approx(-64 * math.log(2) + 3 * math.log(0.8), rel=1e-5)
    assert scores.l0 == 0
    assert (scores.used, scores.always_on, scores.dead) == (0, 0, 3)


def test_counts_of_latents():
    """Active on n of 200 examples; 1 % and 99 % themselves are neither used nor always on."""
    active_on = torch.tensor([0, 1, 2, 3, 100, 198, 199, 200])
    x = (torch.arange(200)[:, None] < active_on).to(torch.uint8)
    data = Dataset("counts", (8,), Split(x), Split(x), Split(x), high=1.0)
    model = linear(VSC, data, 8, prior=SpikeSlabPrior(FixedGates(8, 0.2)))
    with torch.no_grad():
        model.encoder[0].weight[16:] = 20 * torch.eye(8)
        model.encoder[0].bias[16:] = -10
    scores = evaluate(model, data)
    assert scores.used == 5
    assert scores.always_on == 2
    assert scores.dead == 1
    gamma = 1 / (1 + math.exp(-10))
    share = active_on.sum().item() / 200
    assert scores.l0 == pytest.approx(share * gamma + (8 - share) * (1 - gamma), rel=1e-5)


def test_terms_add_up_and_match_the_models_own(tiny):
    model = random_vsc(tiny)
    scores = evaluate(model, tiny, samples=50)
    assert scores.elbo == pytest.approx(scores.log_px - scores.kl_slab - scores.kl_spike)
    with torch.no_grad():
        draws = torch.stack([model(model.scaler(tiny.test.x)).log_px.mean() for _ in range(50)])
    error = draws.std() / math.sqrt(50) * math.sqrt(2)
    assert abs(scores.log_px - draws.mean()) <= 4 * error


def test_reconstruction_is_from_the_hard_code(tiny):
    model = random_vsc(tiny)
    x = tiny.test.x / 255
    mu, _, logits = model.encoder(x).chunk(3, -1)
    assert (logits > 0).any()
    assert (logits < 0).any()
    expected = (model.decode(mu * (logits > 0)) - x).square().mean().item()
    assert evaluate(model, tiny).mse == pytest.approx(expected, rel=1e-5)


class TestProbe:
    def test_none_without_labels(self, tiny):
        assert evaluate(identity(tiny), without_labels(tiny)).probe is None

    def test_none_with_a_single_class(self, tiny):
        one = [Split(s.x, torch.zeros_like(s.y)) for s in (tiny.train, tiny.valid, tiny.test)]
        assert evaluate(identity(tiny), Dataset("one", tiny.shape, *one, ("only",), high=255.0)).probe is None

    def test_of_the_identity_is_a_regression_on_standardised_pixels(self, tiny):
        brightness = torch.linspace(3, 255, 64)  # columns of unequal scale

        def flipped(split):
            flips = torch.rand(10 * len(split), 64) < 0.35  # hard enough that not every probe scores alike
            bits = (split.x > 0).repeat(10, 1) ^ flips
            return Split((bits * brightness).to(torch.uint8), split.y.repeat(10))

        parts = [flipped(split) for split in (tiny.train, tiny.valid, tiny.test)]
        data = Dataset("flipped", tiny.shape, *parts, tiny.classes, high=255.0)
        a, b = data.train.x.numpy() / 255, data.test.x.numpy() / 255
        regression = LogisticRegression(C=0.1, max_iter=1000).fit((a - a.mean(0)) / a.std(0), data.train.y)
        expected = regression.score((b - a.mean(0)) / a.std(0), data.test.y)
        assert 0.5 < expected < 1
        assert evaluate(identity(data), data).probe == pytest.approx(expected)

    def test_of_codes_without_information_is_one_classs_share(self, tiny):
        shares = torch.bincount(tiny.test.y) / len(tiny.test)
        probe = evaluate(linear(AE, tiny, 2), tiny).probe
        assert min(abs(probe - share) for share in shares) < 1e-6

    def test_learns_from_train_and_not_from_the_held_out_labels(self, tiny):
        wrong = Split(tiny.test.x, (tiny.test.y + 1) % 3)
        data = Dataset("wrong", tiny.shape, tiny.train, tiny.valid, wrong, tiny.classes, high=255.0)
        assert evaluate(identity(tiny), data).probe < 0.1


class TestRelaxedBound:
    def test_only_where_the_training_draw_was_relaxed(self, tiny):
        assert evaluate(random_vsc(tiny), tiny).relaxed_elbo is None
        for spikes in ("sigmoid", "concrete"):
            model = random_vsc(tiny, spikes=SPIKES[spikes])
            assert evaluate(model, tiny).relaxed_elbo is not None
            assert not model.training

    @pytest.mark.parametrize(("spikes", "relaxation"), [("concrete", 1e-6), ("sigmoid", 1e7)])
    def test_equals_the_hard_one_in_the_limit(self, tiny, spikes, relaxation):
        model = random_vsc(without_labels(tiny), spikes=SPIKES[spikes])
        model.relaxation = relaxation
        runs = [evaluate(model, without_labels(tiny), seed=s) for s in range(20)]
        gap = np.array([run.relaxed_elbo - run.elbo for run in runs])
        assert gap.std() > 0  # apart draws
        assert abs(gap.mean()) <= 4 * gap.std(ddof=1) / math.sqrt(len(gap))

    def test_flatters_a_decoder_that_reads_leaks(self):
        """
        Gates that are shut under a decoder that amplifies what leaks through: the hard bound falls behind.

        One pixel x = 1, slab 1 and decoder weight c / ln 2: the relaxed mask's leak, ln 2 / c on average, becomes x.
        """
        x = torch.ones(20_000, 1)
        data = Dataset("leak", (1,), Split(x), Split(x), Split(x), high=1.0)
        model = linear(VSC, data, 1, GaussianFixed(1.0), spikes=SPIKES["sigmoid"])
        with torch.no_grad():
            model.encoder[0].bias.copy_(torch.tensor([1.0, -50.0, -50.0]))
            model.decoder[0].weight.fill_(50 / math.log(2))
        model.relaxation = 50.0
        scores = evaluate(model, data, samples=1)
        # hard: 1/2 (1 - 0)^2; relaxed: half the mask's relative variance, E w^2 / (E w)^2 - 1, by quadrature
        mask = 1 / (1 + np.exp(-50 * ((np.arange(100_000) + 0.5) / 100_000 - 1)))
        expected = 0.5 - 0.5 * np.mean((1 - 50 / math.log(2) * mask) ** 2)
        spread = np.std(0.5 * (1 - 50 / math.log(2) * mask) ** 2) / math.sqrt(20_000)
        assert scores.relaxed_elbo - scores.elbo == pytest.approx(expected, abs=4 * spread)


def test_parts_of_presence_are_called_after_the_attributes(tiny):
    def known(split):
        presence = torch.stack([split.y == 0, split.y == 0, split.y == 1], 1)
        return Split(split.x, split.y, presence.float(), presence)

    parts = [known(split) for split in (tiny.train, tiny.valid, tiny.test)]
    data = Dataset("named", tiny.shape, *parts, tiny.classes, high=255.0, groups=("hat", "hat", "eyes"))
    found = measure(identity(tiny), data, ["presence", "within-mcc"])
    assert set(found) == {"presence-mean", "presence-min", "presence-hat", "presence-eyes", "within-mcc"}
    unnamed = measure(identity(tiny), replace(data, groups=()), ["presence", "within-mcc"])
    assert list(unnamed.values()) == list(found.values())
    assert {"presence-0", "presence-1"} < set(unnamed)
    with pytest.raises(UsageError, match="present together"):
        measure(identity(tiny), replace(data, groups=("hat", "eyes", "eyes")), ["presence"])


def test_random_state_is_left_alone_and_seeds_decide(tiny):
    model = random_vsc(tiny)
    before = torch.get_rng_state()
    a = evaluate(model, tiny, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert evaluate(model, tiny, seed=3) == a
    b = evaluate(model, tiny, seed=4)
    assert b.elbo != a.elbo
    assert b.mse == a.mse


def test_a_model_left_in_training_mode_is_measured_with_hard_spikes(tiny):
    model = random_vsc(tiny, spikes=SPIKES["sigmoid"])
    expected = evaluate(model, tiny)
    assert evaluate(model.train(), tiny) == expected
    assert model.training


def test_more_samples_change_the_noise_and_not_the_value(tiny):
    model = random_vsc(without_labels(tiny))
    few, many = (
        np.array([evaluate(model, without_labels(tiny), samples=k, seed=s).elbo for s in range(16)]) for k in (1, 16)
    )
    assert many.std() < few.std() / 2
    assert abs(few.mean() - many.mean()) <= 4 * math.hypot(few.std(ddof=1), many.std(ddof=1)) / math.sqrt(16)


def test_everything_of_a_binarised_model_is_measured_on_the_same_bits(tiny):
    """One pixel of grey 1/5, code = its gate: with bits, the gate is open for a fifth of the examples."""
    grey = torch.full((4000, 1), 51, dtype=torch.uint8)
    data = Dataset("grey", (1,), Split(grey), Split(grey), Split(grey), high=255.0)
    model = linear(VSC, data, 1, prior=SpikeSlabPrior(FixedGates(1, 0.2)))
    with torch.no_grad():
        model.encoder[0].weight[2], model.encoder[0].bias[2] = 20.0, -10.0
    model.binarise = True
    seen = Measured(model, data)
    assert set(seen.x.unique().tolist()) == {0, 1}
    scores, share = seen.scores(), seen.x.mean().item()
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 4000))
    assert scores.active == pytest.approx(share)
    assert scores.mse == pytest.approx(0.25)  # logits of 0 against bits, and not (1/2 - 1/5)^2
    p = (share * 4000 + 0.5) / 4001
    assert scores.no_latents == pytest.approx(share * math.log(p) + (1 - share) * math.log(1 - p), rel=1e-4)
    model.binarise = False
    assert Measured(model, data).scores().active == 0


@pytest.mark.parametrize(("options", "words"), [({"split": "tset"}, "tset"), ({"samples": 0}, "samples")])
def test_refused(tiny, options, words):
    with pytest.raises(UsageError, match=words):
        evaluate(identity(tiny), tiny, **options)


def test_an_empty_split_is_refused(tiny):
    data = Dataset("empty", tiny.shape, tiny.train, tiny.valid.take(slice(0, 0)), tiny.test, high=255.0)
    with pytest.raises(UsageError, match="valid split of empty is empty"):
        evaluate(identity(tiny), data, split="valid")


def test_the_split_that_was_asked_for_is_measured(tiny):
    model = random_vsc(tiny)
    swapped = Dataset("swapped", tiny.shape, tiny.train, tiny.test, tiny.valid, tiny.classes, high=255.0)
    assert evaluate(model, tiny, split="valid") == evaluate(model, swapped, split="test")
    assert evaluate(model, tiny, split="valid") != evaluate(model, tiny, split="test")


class TestShowcase:
    def test_shapes(self, tiny):
        shown = showcase(Measured(random_vsc(tiny), tiny), shown=5)
        for images in (shown.x, shown.reconstruction, shown.noisy, shown.denoised):
            assert images.shape == (5, 64)
            assert images.dtype == np.float32
        assert shown.code.shape == (5, 6)
        assert shown.label.shape == (5,)
        assert shown.class_code.shape == shown.class_gamma.shape == (3, 6)
        assert shown.grid is None

    def test_every_class_is_shown_in_order(self, tiny):
        assert showcase(Measured(random_vsc(tiny), tiny), shown=3).label.tolist() == [0, 1, 2]
        assert showcase(Measured(random_vsc(tiny), tiny), shown=7).label.tolist() in (
            sorted([0, 1, 2, 0, 1, 2, extra]) for extra in range(3)
        )

    def test_without_labels(self, tiny):
        model = random_vsc(tiny)
        shown = showcase(Measured(model, without_labels(tiny)))
        assert shown.label is None
        codes = model.encode(tiny.test.x)
        np.testing.assert_allclose(shown.class_code, codes.z.mean(0, keepdim=True), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(shown.class_gamma, codes.gamma.mean(0, keepdim=True), rtol=1e-5)

    def test_class_means(self, tiny):
        model = random_vsc(tiny)
        shown = showcase(Measured(model, tiny))
        z = model.encode(tiny.test.x).z.numpy()
        expected = [z[tiny.test.y.numpy() == label].mean(0) for label in range(3)]
        np.testing.assert_allclose(shown.class_code, expected, rtol=1e-4, atol=1e-6)

    def test_a_class_that_the_split_lacks_keeps_its_row(self, tiny):
        test = tiny.test.take(tiny.test.y < 2)
        data = Dataset("two", tiny.shape, tiny.train, tiny.valid, test, tiny.classes, 255.0)
        shown = showcase(Measured(random_vsc(tiny), data))
        assert shown.class_code.shape == (3, 6)
        assert (shown.class_code[2] == 0).all()

    def test_pictures_belong_together(self, tiny):
        model = random_vsc(tiny)
        shown = showcase(Measured(model, tiny))
        with torch.no_grad():
            np.testing.assert_allclose(model.codes(torch.from_numpy(shown.x)).hard, shown.code, atol=1e-6)
            np.testing.assert_allclose(model.decode(torch.from_numpy(shown.code)), shown.reconstruction, atol=1e-5)
            denoised = model.decode(model.codes(torch.from_numpy(shown.noisy)).hard)
        np.testing.assert_allclose(denoised, shown.denoised, atol=1e-5)
        assert (shown.code == 0).any()

    def test_models_without_spikes_have_no_class_gamma(self, tiny):
        assert showcase(Measured(identity(tiny), tiny)).class_gamma is None

    def test_grid_of_two_latents(self, tiny):
        model = linear(AE, tiny, 2, GaussianFixed(1.0))
        with torch.no_grad():
            model.decoder[0].weight[0, 0] = 1  # pixel 0 shows the first latent, pixel 1 the second
            model.decoder[0].weight[1, 1] = 1
        grid = showcase(Measured(model, tiny)).grid.reshape(10, 10, 64)
        line = np.linspace(-2, 2, 10)
        np.testing.assert_allclose(grid[..., 0], np.tile(line, (10, 1)), atol=1e-6)
        np.testing.assert_allclose(grid[..., 1], np.tile(line, (10, 1)).T, atol=1e-6)

    def test_random_state_is_left_alone(self, tiny):
        before = torch.get_rng_state()
        first = showcase(Measured(random := random_vsc(tiny), tiny))
        torch.set_rng_state(before)
        torch.rand(3)
        assert np.array_equal(showcase(Measured(random, tiny)).noisy, first.noisy)


# ---- what is easily misread


def columns(*held_out, N=400):
    """Return a table of three standard normal columns, and held-out rows of the same with some put in their place."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * N, 3, generator=generator)
    test = x[N:].clone()
    for i, value in enumerate(held_out):
        test[10 * i + 3, 1] = value
    part = Split(test, index=torch.arange(N) + 1000)
    return Dataset("columns", (3,), Split(x[:N]), Split(x[:N]), part, features=("a", "b", "c"))


LIKELIHOODS = [Gaussian(), GaussianShared(), GaussianFixed(1.0), Laplace()]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("value", [100.0, 1e6, 1e15, 1e30, -1e38])
def test_rows_that_lie_far_out_are_named_and_no_score_is_nan(likelihood, value):
    data = columns(value, value)
    for kind in (VSC, VAE, AE):
        torch.manual_seed(0)
        scaler = fit_scaler("standard", data.train.x, data.high)
        model = network(kind, (3,), 4, hidden=(8,), likelihood=likelihood, scaler=scaler).eval()
        seen = Measured(model, data)
        scores = seen.scores(iwae=None if kind is AE else 3)
        assert not any(math.isnan(score) for score in scores if score is not None)
        said = seen.cautions()[0]
        assert "1003, 1013 (by their row of the data, from 0)" in said
        kept = torch.ones(400, dtype=torch.bool)
        kept[[3, 13]] = False
        values = seen.bounds()[0].log_px if kind is AE else seen.bounds()[0].elbo
        assert f"without them {values[kept].mean():.2f} nats" in said
        assert seen.codes.z.isfinite().all()


def test_rows_like_the_others_are_not_named():
    data = columns()
    assert Measured(network(VAE, (3,), 2, hidden=(8,), likelihood=GaussianFixed(1.0)), data).far() == ""
    values = torch.randn(1000)
    assert len(far_out(values)) == 0
    assert far_out(torch.cat([values, torch.tensor([1e4, -math.inf])])).tolist() == [1000, 1001]
    assert len(far_out(torch.cat([values, 1e4 * torch.randn(900)]))) == 0  # many of them are no exceptions
    assert far_out(torch.tensor([0.0, math.inf])).tolist() == [1]


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:3], ids=lambda one: type(one).__name__)
def test_the_model_without_latents_is_the_best_normal_density(likelihood):
    """Held-out log-density of a normal with the training columns' moments, by SciPy; of GaussianFixed, with sd 1."""
    data = columns()
    x, test = data.train.x.double().numpy(), data.test.x.double().numpy()
    sd = {Gaussian: x.std(0), GaussianShared: np.sqrt(x.var(0).mean()), GaussianFixed: 1.0}[type(likelihood)]
    expected = norm.logpdf(test, x.mean(0), sd).sum(1).mean()
    scores = evaluate(network(VAE, (3,), 2, hidden=(8,), likelihood=likelihood), data)
    assert scores.no_latents == pytest.approx(expected, rel=1e-4)


SOUND = Scores(
    **dict.fromkeys(Scores._fields, 0.0) | {"used": 5, "always_on": 1, "at_floor": None, "relaxed_elbo": None}
)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"used": 0, "always_on": 0}, "collapsed"),
        ({"used": 4, "always_on": 4}, "has collapsed: 4 of the 4 latents"),
        ({"used": 10, "always_on": 10}, "has not become sparse: 10 of the 10"),
        ({"relaxed_elbo": 12.0}, "12.00 nats"),
        ({"no_latents": 1.0}, "below 1.0, that of the best constant output. Keep the best weights"),
        ({"at_floor": 0.2}, "leans on model.variance_floor, where 20%"),
        ({"mse": math.inf}, "not finite"),
        ({"elbo": -math.inf}, "not finite"),
    ],
)
def test_numbers_that_mislead_are_pointed_out(change, word):
    (caution,) = cautions(SOUND._replace(**change), True, 10)
    assert word in caution


def test_a_sound_model_needs_no_caution():
    assert cautions(SOUND, True, 10) == []
    assert cautions(SOUND._replace(used=3, dead=7), True, 10) == []
    assert cautions(SOUND._replace(used=10, always_on=10), False, 10) == []


def test_who_kept_the_best_weights_is_not_told_to():
    kept = Config(train=TrainConfig(patience=3, steps=4000))
    (caution,) = cautions(SOUND._replace(no_latents=1.0), True, 10, kept)
    assert "patience" not in caution
    assert "Take fewer latents" in caution


def test_evaluate_cautions_in_the_words_of_the_commands(tiny):
    model = linear(VSC, tiny, 3, prior=SpikeSlabPrior(FixedGates(3, 0.2)))
    with torch.no_grad():
        model.encoder[0].bias[6:] = -200
    with pytest.warns(Caution) as told:
        cautioning(model, tiny)
    said = [str(one.message) for one in told]
    assert said == [f"the model {words}" for words in Measured(model, tiny).cautions()]
    assert [words.split(":")[0] for words in said] == [
        "the model is worse than a model without latents",
        "the model has collapsed",
    ]


def test_a_run_folder_or_a_word_on_what_is_wanted(tiny, tmp_path):
    with pytest.raises(UsageError, match="no trained model: there is no such folder"):
        cautioning(str(tmp_path / "nothing"), tiny)
    with pytest.raises(UsageError, match="first a model, or the folder of its run"):
        cautioning(tiny, identity(tiny))
    with pytest.raises(UsageError, match=r"shape \(3,\), and those of the run had \(1, 8, 8\)"):
        cautioning(identity(tiny), columns())


def test_columns_are_found_by_their_names():
    data = columns()
    model = random_table_model(data)
    turned = replace(
        data,
        features=("c", "b", "a"),
        **{part: replace(getattr(data, part), x=getattr(data, part).x.flip(1)) for part in ("train", "valid", "test")},
    )
    assert evaluate(model, turned) == evaluate(model, data)
    with pytest.raises(UsageError, match="columns"):
        evaluate(model, replace(data, features=("a", "b", "d")))


def random_table_model(data):
    model = network(VSC, (3,), 4, hidden=(8,), likelihood=GaussianFixed(1.0)).eval()
    model.adopt(fit_scaler("standard", data.train.x, None), columns=data.features)
    return model


def test_nothing_of_the_model_is_changed(tiny):
    model = random_vsc(tiny, spikes=SPIKES["concrete"]).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = Measured(model, tiny)
    for found in (seen.scores(), seen.effects, seen.strips):
        assert found
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_split_is_encoded_once(tiny, monkeypatch):
    model, rows, codes = random_vsc(without_labels(tiny)), [], VSC.codes
    monkeypatch.setattr(VSC, "codes", lambda self, x: (rows.append(len(x)), codes(self, x))[1])
    seen = Measured(model, without_labels(tiny))
    assert seen.codes is seen.codes
    for found in (seen.scores(), seen.metrics(["hoyer", "l0"]), seen.effects, seen.extremes, seen.parts(0)):
        assert found
    assert sum(rows) == 2 * len(tiny.test)  # the examples, and those with noise


def test_two_threads_measure_as_one(tiny):
    models = [random_vsc(tiny), random_vsc(tiny)]
    alone = [evaluate(model, tiny, seed=i, samples=20) for i, model in enumerate(models)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda i: evaluate(models[i], tiny, seed=i, samples=20), range(2)))
    assert together == alone


def test_neither_default_dtype_nor_inference_mode_matters(tiny):
    model = random_vsc(tiny)
    expected = evaluate(model, tiny)
    torch.set_default_dtype(torch.float64)
    try:
        assert evaluate(model, tiny) == expected
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        assert evaluate(model, tiny) == expected
