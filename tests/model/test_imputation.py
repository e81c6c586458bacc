"""Missing values: what a model makes of them, and what it fills in."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from vsc.data.split import Dataset, Split
from vsc.errors import UsageError
from vsc.fields import Field, describe, expand, names
from vsc.measure.measured import Measured
from vsc.measure.scores import add_noise, squared_error
from vsc.model import AE, VAE, VSC
from vsc.model.front import Front
from vsc.model.likelihoods import Columns, GaussianFixed
from vsc.model.priors import SELECTORS, MixtureGates, SpikeSlabPrior
from vsc.model.scaling import fit_scaler, identity
from vsc.settings.build import new_model
from vsc.settings.config import Config, ModelConfig, TrainConfig
from vsc.settings.resolve import resolve
from vsc.sweep.jobs import checked
from vsc.training.diagnosis import beforehand
from vsc.training.loop import train
from vsc.training.runs import load

NUMBERS = tuple(Field(name, "gaussian") for name in "abcd")


def people(n, lost=0.2):
    """A table of mixed columns, of which each tells something of the others."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "age": 40 + 10 * z + rng.normal(size=n),
            "colour": np.array(["red", "green", "blue"])[np.digitize(z + 0.2 * rng.normal(size=n), [-0.6, 0.6])],
            "visits": rng.poisson(np.exp(1 + z)).astype(float),
            "smoker": np.where(z + 0.2 * rng.normal(size=n) > 0, "yes", "no"),
            "height": 170 - 5 * z + rng.normal(size=n),
        }
    )
    if not lost:
        return frame
    gone = rng.random(frame.shape) < lost
    gone[np.arange(n), rng.integers(5, size=n)] = False
    return frame.mask(gone)


def table(frame, name="people"):
    fields = describe(frame)
    x = torch.from_numpy(expand(frame, fields))
    n = len(x)
    train, valid, test = Split(x[: n * 6 // 10]), Split(x[n * 6 // 10 : n * 8 // 10]), Split(x[n * 8 // 10 :])
    return Dataset(name, (x.shape[1],), train, valid, test, features=names(fields), fields=fields)


@pytest.fixture(scope="module")
def mixed():
    return table(people(400))


def configured(steps=20, **model):
    settings = {"latent_dim": 4, "hidden": (16,)} | model
    return Config(model=ModelConfig(**settings), train=TrainConfig(steps=steps))


@pytest.fixture(scope="module")
def trained(mixed, tmp_path_factory):
    """The folder of a run on a table of mixed columns with missing values, and its model."""
    folder = tmp_path_factory.mktemp("runs") / "people"
    return folder, train(mixed, configured(300), folder)


class TestFront:
    def test_shows_the_net_logarithms_zeros_and_what_is_missing(self):
        front = Front(torch.tensor([False, True, False]), missing=True)
        x = torch.tensor([[1.5, 0.0, 3.0], [math.nan, math.e - 1, -2.0], [0.5, math.nan, math.nan]])
        expected = [[1.5, 0, 3, 0, 0, 0], [0, 1, -2, 1, 0, 0], [0.5, 0, 0, 0, 1, 1]]
        torch.testing.assert_close(front(x), torch.tensor(expected))
        front.fit(x)  # ln(1 + x) is 0 and 1 there: mean 1/2, deviation 1/2
        torch.testing.assert_close(front(x)[:, 1], torch.tensor([-1.0, 1.0, 0.0]))
        torch.testing.assert_close(front(x)[:, [0, 2]], torch.tensor([[1.5, 3], [0, -2], [0.5, 0]]))

    def test_has_gradients_that_are_numbers(self):
        x = torch.tensor([[-3.0, -3.0, math.nan]], requires_grad=True)
        front = Front(torch.tensor([False, True, True]), missing=True)
        assert torch.autograd.grad(front(x).sum(), x)[0].tolist() == [[1, 0, 0]]

    def test_stands_where_it_is_needed_alone(self, mixed):
        def encoder(data, **model):
            config = configured(**model)
            return new_model(resolve(config, data), data).encoder

        numbers = table(people(100, 0)[["age", "height"]])
        assert isinstance(encoder(numbers)[0], nn.Linear)
        lacking = table(people(100)[["age", "height"]].dropna(how="all"))
        assert encoder(lacking)[0].width == encoder(lacking)[1][0].in_features == 4
        counts = encoder(table(people(100, 0)))
        assert counts[0].width == counts[1][0].in_features == 7
        assert encoder(mixed)[0].width == 14


def test_columns_are_standardised_by_what_is_there(mixed):
    model = new_model(resolve(configured(), mixed), mixed)
    x, stored = model.scaler(mixed.train.x).double(), mixed.train.x
    assert torch.equal(x.isnan(), stored.isnan())
    for place in (0, 6):
        there = x[:, place][~x[:, place].isnan()]
        assert there.mean().item() == pytest.approx(0, abs=1e-6)
        assert there.var(correction=0).item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(x[:, 1:6], stored[:, 1:6], equal_nan=True)
    torch.testing.assert_close(model.scaler.inverse(x), stored, equal_nan=True)
    counted = model.encoder[0](x.float())[:, 4]
    assert counted[~x[:, 4].isnan()].var(correction=0).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", ["unit-interval", "none", "standard"])
def test_scales_pass_over_what_is_missing(kind):
    x = torch.tensor([[1.0, math.nan], [3.0, 4.0], [math.nan, math.nan], [5.0, 8.0]])
    full = torch.tensor([[1.0, 4.0], [3.0, 4.0], [5.0, 8.0]])
    found = fit_scaler(kind, x, None)
    if kind != "standard":
        expected = fit_scaler(kind, full, None)
        assert torch.equal(found.shift, expected.shift)
        assert torch.equal(found.factor, expected.factor)
    else:
        torch.testing.assert_close(found.shift, torch.tensor([3.0, 6.0]))
        torch.testing.assert_close(found.factor, torch.tensor([math.sqrt(3 / 8), 0.5]))
    assert torch.equal(found(x).isnan(), x.isnan())


class TestDefaults:
    def test_mixed_columns_have_their_own_likelihoods(self, mixed):
        settled = resolve(configured(), mixed)
        assert (settled.model.likelihood, settled.data.scale) == ("columns", "standard")

    def test_tables_of_numbers_go_the_way_they_went(self):
        frame = people(100, 0)[["age", "height"]]
        told = table(frame)
        plain = Dataset("people", told.shape, told.train, told.valid, told.test, features=told.features)
        assert resolve(configured(), told) == resolve(configured(), plain)

    def test_counts_stay_as_they_are(self):
        x = torch.poisson(torch.full((60, 3), 4.0))
        data = Dataset("cells", (3,), Split(x), Split(x[:10]), Split(x[:10]))
        settled = resolve(configured(likelihood="negative-binomial"), data)
        assert settled.data.scale == "none"
        model = new_model(settled, data)
        assert model.encoder[0].counted.all()
        assert torch.isfinite(model(model.scaler(x)).elbo).all()
        for bad in (x + 0.5, x - 10):
            data = Dataset("cells", (3,), Split(bad), Split(bad), Split(bad))
            with pytest.raises(UsageError, match="takes counts"):
                resolve(configured(likelihood="poisson"), data)

    @pytest.mark.parametrize(
        ("data", "model", "said"),
        [
            ({"scale": "unit-interval"}, {}, "leave data.scale out"),
            ({"scale": "unit-norm"}, {"likelihood": "gaussian"}, "values are missing"),
        ],
    )
    def test_what_does_not_suit_is_one_line(self, mixed, data, model, said):
        config = Config(data=type(Config().data)(**data), model=ModelConfig(**model))
        with pytest.raises(UsageError, match=said):
            resolve(config, mixed)

    def test_columns_without_fields_are_one_line(self, tiny):
        with pytest.raises(UsageError, match="give a data frame"):
            train(tiny, configured(likelihood="columns"))


GATES = [("mixture", "optimal"), *(("pseudo-inputs", name) for name in SELECTORS), ("fixed", "optimal")]


@pytest.mark.parametrize(("gates", "selector"), GATES)
def test_every_prior_takes_what_is_missing(mixed, gates, selector):
    """The bound and all gradients are numbers; pseudo-inputs start at examples with nothing missing."""
    options = {} if gates == "fixed" else {"components": 5, "selector": selector}
    model = new_model(resolve(configured(gates=gates, **options), mixed), mixed)
    if gates == "pseudo-inputs":
        start = model.prior.gates.pseudo_inputs
        assert start.isfinite().all()
        means = model.scaler(mixed.train.x).nanmean(0)
        own = (start[:, :, None] == model.scaler(mixed.train.x).T[None]).any(-1)
        assert (own | torch.isclose(start, means)).all()
    bound = model.train()(model.scaler(mixed.train.x))
    assert bound.elbo.isfinite().all()
    bound.elbo.mean().backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in model.parameters())


def test_a_run_keeps_what_its_columns_are(trained, mixed):
    folder, model = trained
    again = load(folder)
    assert again.fields == model.fields == mixed.fields
    assert again.missing
    assert again.likelihood.label == model.likelihood.label
    x = mixed.test.x
    torch.testing.assert_close(again.encode(x), model.encode(x))


def test_data_frames_are_read_by_the_columns(trained):
    _, model = trained
    frame = people(400)
    codes = model.encode(frame)
    assert torch.equal(codes.z, model.encode(expand(frame, model.fields)).z)
    assert torch.equal(codes.z, model.encode(frame[frame.columns[::-1]]).z)
    with pytest.raises(UsageError, match=r"no 'age'|no age"):
        model.encode(frame.drop(columns="age"))


def test_what_is_measured_counts_what_is_there(trained, mixed):
    _, model = trained
    seen = Measured(model, mixed)
    scores = seen.scores(2)
    assert all(math.isfinite(value) for value in scores if value is not None)
    assert scores.no_latents < scores.elbo
    # in standard deviations of each column, over the values that are there: a constant has about 1
    assert 0 < scores.mse < seen.no_latents[1]
    assert seen.no_latents[1] == pytest.approx(1, abs=0.25)
    effects = seen.effects
    assert np.isfinite(effects.change).all()
    assert np.isfinite(effects.drop).all()


def test_differences_are_told_in_standard_deviations_of_what_is_there(trained, mixed):
    _, model = trained
    unit = Measured(model, mixed).unit
    x = mixed.train.x
    expected = [np.nanstd(x[:, m]) for m in range(7)]
    np.testing.assert_allclose(unit[1:6], expected[1:6], rtol=1e-5)
    np.testing.assert_allclose(unit[[0, 6]], 1, rtol=1e-5)  # these are standardised


def test_errors_and_noise_pass_over_what_is_missing():
    clean, unit = torch.tensor([[1.0, math.nan], [3.0, 10.0]]), torch.tensor([1.0, 10.0])
    found = torch.tensor([[2.0, 5.0], [3.0, 30.0]])
    assert squared_error(found, clean, unit) == pytest.approx(5 / 3)
    assert squared_error(torch.tensor([[math.nan, 5.0], [3.0, 30.0]]), clean) == math.inf
    noisy = add_noise(clean, 0, unit)
    assert torch.equal(noisy.isnan(), clean.isnan())
    assert noisy[:, 0].max() <= 3  # the range is 1 to 3, in units


def test_what_is_said_before_training_passes_over_what_is_missing(mixed):
    x = mixed.train.x.clone()
    x[:, 4], x[::2, 4], x[0, 5] = 3.0, math.nan, math.nan
    data = replace(mixed, train=Split(x))
    assert "visits has one value throughout" in beforehand(data, 4)
    assert "smoker" not in beforehand(data, 4)


def test_a_sweep_knows_the_columns(mixed):
    assert checked(configured(), mixed).model.likelihood == "columns"


class Linear(VAE):
    """A linear Gaussian model whose posterior is exact or not: p(x|z) = N(W z, v), q(z|x) as it is told."""

    def __init__(self, W, variance, exact):
        M, J = W.shape
        decoder = nn.Linear(J, M, bias=False)
        decoder.weight.data = W
        encoder = nn.Sequential(Front(torch.zeros(M, dtype=torch.bool), True), nn.Linear(2 * M, 2 * J))
        super().__init__(
            encoder,
            decoder,
            shape=(M,),
            latent_dim=J,
            likelihood=GaussianFixed(variance),
        )
        self.adopt(identity(), fields=NUMBERS[:M], missing=True)
        self.exact, self.v = exact, variance

    def posterior(self, x):
        if not self.exact:
            zeros = x.new_zeros(len(x), self.latent_dim)
            return torch.distributions.Normal(zeros, zeros + 1)
        there = (~x.isnan()).to(x)[:, :, None]
        W = self.decoder.weight * there
        variance = 1 / (1 + (W * W).sum((1, 2)) / self.v)
        mean = variance * (W[:, :, 0] * torch.nan_to_num(x)).sum(1) / self.v
        return torch.distributions.Normal(mean[:, None], variance.sqrt()[:, None])


@pytest.mark.parametrize("exact", [True, False])
def test_expectations_are_those_of_the_model_whatever_the_encoder_says(exact):
    """Of a Gaussian: E[x_m | x_o] = S_mo S_oo^-1 x_o with S = W W^T + v I; from the prior's draws too."""
    W, v = torch.tensor([[1.0], [-0.5], [2.0], [0.3]]), 0.5
    x = torch.randn(6, 4)
    lost = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]).bool()
    given = torch.where(lost, math.nan, x)
    filled = Linear(W, v, exact).eval().impute(given, draws=20_000)
    S = W @ W.T + v * torch.eye(4)
    for row, gone, found in zip(x, lost, filled, strict=True):
        assert torch.equal(found[~gone], row[~gone])
        if not gone.any():
            continue
        expected = S[gone][:, ~gone] @ torch.linalg.solve(S[~gone][:, ~gone], row[~gone])
        torch.testing.assert_close(found[gone], expected, atol=0.06, rtol=0)


class TestImpute:
    def test_fills_in_better_than_the_mean_and_the_commonest(self, trained):
        _, model = trained
        truth, given = people(400, 0)[320:], people(400)[320:]
        filled = model.impute(given, draws=100)
        lost = given.isna()
        assert not filled.isna().any().any()
        assert list(filled.columns) == list(given.columns)
        assert filled.index.equals(given.index)
        assert filled[~lost].equals(given[~lost])
        for name in ("age", "height"):
            error = (filled[name] - truth[name])[lost[name]]
            assert error.std() < 0.6 * truth[name].std()
        for name in ("colour", "smoker"):
            wrong = (filled[name] != truth[name])[lost[name]].mean()
            assert wrong < 0.7 * (truth[name] != given[name].mode()[0])[lost[name]].mean()

    def test_gives_back_what_it_was_given(self, trained):
        _, model = trained
        frame = people(400)[:20]
        x = expand(frame, model.fields)
        filled = model.impute(x, draws=10)
        assert isinstance(filled, np.ndarray)
        assert filled.dtype == x.dtype
        there = ~np.isnan(x)
        np.testing.assert_array_equal(filled[there], x[there])
        assert np.isfinite(filled).all()
        tensor = model.impute(torch.from_numpy(x), draws=10)
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(tensor.numpy(), filled)
        # the probabilities of the levels of a column that is missing sum to one
        np.testing.assert_allclose(filled[:, 1:4].sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(model.impute(frame, draws=10)["age"], filled[:, 0])

    @pytest.mark.parametrize("library", ["polars", "pyarrow"])
    def test_frames_of_other_libraries(self, trained, library):
        other = pytest.importorskip(library)
        _, model = trained
        frame = people(400)[:20]
        given = other.from_pandas(frame) if library == "polars" else other.Table.from_pandas(frame)
        filled = model.impute(given, draws=10)
        assert type(filled) is type(given)
        pd.testing.assert_frame_equal(filled.to_pandas(), model.impute(frame, draws=10))

    def test_levels_are_spelt_as_the_column_spells_them(self, mixed):
        frame = people(400)
        frame["colour"] = frame["colour"].astype("category")
        frame["smoker"] = frame["smoker"].map({"yes": True, "no": False})
        frame["visits"] = frame["visits"].astype("Int64")
        model = train(table(frame), configured())
        filled = model.impute(frame[:30], draws=5)
        assert filled["colour"].dtype == frame["colour"].dtype
        assert set(map(type, filled["smoker"])) == {bool}
        assert filled["visits"].dtype.kind == "f"  # an expected count is not whole
        assert not filled.isna().any().any()

    def test_a_model_of_complete_data_says_that_it_was_told_of_nothing_missing(self):
        model = train(table(people(100, 0)), configured())
        with pytest.raises(UsageError, match="trained on data where none were"):
            model.impute(people(20))
        assert model.impute(people(20, 0)).equals(people(20, 0))

    def test_an_ae_fills_in_its_reconstruction(self, mixed):
        model = train(mixed, configured(name="ae"))
        x = mixed.test.x
        expected = model.scaler.inverse(model.decode(model.encode(x).z)).to(x)
        torch.testing.assert_close(model.impute(x), torch.where(x.isnan(), expected, x))


class TestOwnModels:
    def own(self, *front):
        net = nn.Linear(14 if front else 7, 3 * 2)
        likelihood = Columns(table(people(40)).fields)
        return VSC(
            nn.Sequential(*front, net), nn.Linear(2, likelihood.width(7)), shape=(7,), latent_dim=2,
            likelihood=likelihood, prior=SpikeSlabPrior(MixtureGates(2, components=3)),
        )  # fmt: skip

    def test_a_front_before_the_encoder_tells_it(self, mixed):
        model = train(mixed, Config(train=TrainConfig(steps=3)), model=self.own(Front(torch.arange(7) == 4, True)))
        assert model.missing
        assert not model.impute(people(20), draws=5).isna().any().any()

    def test_without_one_it_is_one_line(self, mixed):
        with pytest.raises(UsageError, match="model's encoder makes NaN"):
            train(mixed, Config(train=TrainConfig(steps=3)), model=self.own())


def test_images_pay_nothing(tiny):
    """Where nothing may be missing, no mask is made: a NaN is no number then, and is seen as such."""
    model = new_model(resolve(configured(), tiny), tiny)
    assert not model.missing
    assert not any(isinstance(part, Front) for part in model.modules())
    assert model.log_px(torch.full((1, 64), math.nan), torch.zeros(1, 4)).isnan().all()


def test_an_ae_has_no_bound_but_a_code(mixed):
    model = new_model(resolve(configured(name="ae"), mixed), mixed)
    z, log_w = model.weighted(model.scaler(mixed.test.x), 3)
    assert isinstance(model, AE)
    assert z.shape == (1, 80, 4)
    assert log_w.eq(0).all()
