"""The transformer passes scikit-learn's checks, trains what `vsc.train` trains, and pickles no module."""

import copy
import pickle
import pickletools

import joblib
import numpy as np
import pandas
import polars
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import vsc
from vsc import SparseCoder, estimator

QUICK = {"latent_dim": 5, "hidden": (8,), "max_iter": 3, "random_state": 0}

ROWS = np.random.default_rng(0)
X = ROWS.standard_normal((60, 3)) @ ROWS.standard_normal((3, 6)) * [1, 2, 3, 4, 5, 6] + 10
FRAME = pandas.DataFrame(X, columns=list("abcdef"), index=[f"row{i}" for i in range(60)])

EXPECTED_TO_FAIL: dict[str, str] = {}
"""Checks of scikit-learn's that it need not pass -> why: none."""


@pytest.fixture(scope="module")
def fitted():
    return SparseCoder(**QUICK).fit(FRAME)


@parametrize_with_checks([SparseCoder(**QUICK)], expected_failed_checks=lambda _: EXPECTED_TO_FAIL)
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def test_it_trains_and_scores_what_the_library_does(fitted):
    config = vsc.Config(
        model=vsc.ModelConfig(latent_dim=5, hidden=(8,)), train=vsc.TrainConfig(steps=3, seed=0, patience=3)
    )
    data = vsc.from_arrays(FRAME, x_test=FRAME[40:])
    model = vsc.train(data, config)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, fitted.model_.state_dict()[name]), name
    with pytest.warns(vsc.errors.Caution):  # three steps teach nothing
        assert fitted.score(FRAME[40:]) == pytest.approx(vsc.evaluate(model, data).elbo)
    assert fitted.config_.train.steps == fitted.n_iter_ == 3


def test_codes_are_exactly_zero_where_off(fitted):
    codes, found = fitted.transform(FRAME), fitted.model_.encode(FRAME)
    on = found.gamma.numpy() > 0.5
    assert codes.dtype == np.float32
    assert 0 < on.sum() < on.size
    assert (codes[~on] == 0).all()
    np.testing.assert_array_equal(codes[on], found.mu.numpy()[on])
    rows = copy.copy(fitted).set_params(sparse_output=True).transform(FRAME)
    assert (type(rows), rows.dtype, rows.nnz) == (sparse.csr_matrix, np.float32, on.sum())
    np.testing.assert_array_equal(rows.toarray(), codes)


def test_codes_go_back_to_the_units_of_the_data(fitted):
    codes = fitted.transform(FRAME)
    data = vsc.from_arrays(FRAME, x_test=FRAME[:1])
    train = FRAME.to_numpy()[data.train.index.numpy()]
    expected = train.mean(0) + train.std(0) * fitted.model_.decode(codes).detach().numpy()
    np.testing.assert_allclose(fitted.inverse_transform(codes), expected, rtol=1e-5)
    np.testing.assert_allclose(fitted.inverse_transform(sparse.csr_matrix(codes)), expected, rtol=1e-5)


def test_data_frames_in_names_out(fitted):
    names = [f"sparsecoder{j}" for j in range(5)]
    assert list(fitted.feature_names_in_) == list(fitted.model_.columns) == list("abcdef")
    assert list(fitted.get_feature_names_out()) == names
    codes = fitted.transform(FRAME)
    found = copy.copy(fitted).set_output(transform="pandas").transform(FRAME)
    pandas.testing.assert_frame_equal(found, pandas.DataFrame(codes, FRAME.index, names))
    found = copy.copy(fitted).set_output(transform="polars").transform(polars.from_pandas(FRAME))
    assert isinstance(found, polars.DataFrame)
    np.testing.assert_array_equal(found.to_numpy(), codes)


def people():
    rows = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "target": rows.standard_normal(60),
            "colour": rows.choice(["red", "green", "blue"], 60),
            "smoker": rows.choice(["yes", "no"], 60),
            "visits": rows.poisson(2.0, 60),
        }
    ).mask(rows.random((60, 4)) < 0.1)


def test_a_table_of_text_counts_and_holes():
    frame = people().dropna(how="all")
    coder = SparseCoder(**QUICK).fit(frame)
    assert coder.n_features_in_ == 4
    assert coder.model_.classes == ()
    kinds = {field.name: field.likelihood for field in coder.model_.fields}
    assert kinds == {
        "target": "gaussian", "colour": "categorical", "smoker": "bernoulli", "visits": "negative-binomial"
    }  # fmt: skip
    for other in (coder, copy.deepcopy(coder).partial_fit(frame)):
        back = other.inverse_transform(other.transform(frame))
        assert list(back) == list(frame)
        assert not back.isna().any(axis=None)
        assert set(back.colour) <= {"red", "green", "blue"}
        assert set(back.smoker) <= {"yes", "no"}
        assert np.isfinite(other.score(frame))
    chosen = SparseCoder(**QUICK, settings={"data.columns": "visits=gaussian"}).fit(polars.from_pandas(frame))
    assert chosen.model_.fields[3].likelihood == "gaussian"
    np.testing.assert_array_equal(chosen.transform(frame), chosen.transform(polars.from_pandas(frame)))
    with pytest.raises(ValueError, match="'mauve' in row 3, unseen in training"):
        coder.transform(frame.assign(colour=frame.colour.where(frame.index != 3, "mauve")))
    with pytest.raises(ValueError, match="values are missing, and the model was trained on data where none were"):
        SparseCoder(**QUICK).fit(frame.dropna()).transform(frame)


def test_bytes_are_grey_values_in_a_frame_too():
    grey = np.arange(240, dtype=np.uint8).reshape(40, 6)
    one, other = (SparseCoder(**QUICK).fit(x) for x in (grey, pandas.DataFrame(grey, columns=list("abcdef"))))
    assert one.model_.scaler.high == other.model_.scaler.high == 255
    np.testing.assert_array_equal(one.transform(grey), other.transform(pandas.DataFrame(grey, columns=list("abcdef"))))


def test_a_sparse_matrix_is_what_it_is_once_dense():
    thin = np.where(X > 10, X, 0)
    one, other = (SparseCoder(**QUICK).fit(x).transform(x) for x in (thin, sparse.csr_matrix(thin)))
    np.testing.assert_array_equal(one, other)


def test_parameters_are_settings():
    alpha = SparseCoder(**QUICK, prior_sparsity=0.2).fit(X)
    assert (alpha.config_.model.gates, alpha.model_.prior.alpha) == ("fixed", 0.2)
    target = SparseCoder(**QUICK, target_l0=2, settings={"train.lr": 1e-4, "model.gates": "mixture"}).fit(X)
    assert (target.config_.train.target_l0, target.config_.train.lr) == (2, 1e-4)
    assert target.config_.model.gates == "mixture"
    a, b = (SparseCoder(**QUICK | {"random_state": np.random.RandomState(seed)}).fit(X).score(X) for seed in (1, 2))
    assert a != b


def test_steps_suit_the_rows_unless_a_sparsity_is_asked_for(monkeypatch):
    taken = []
    monkeypatch.setattr(estimator, "train", lambda data, config, **_: taken.append(config.train.steps))
    for rows in (60, 1500, 5000):
        x = np.resize(X, (rows, 6))
        for given in ({}, {"target_l0": 2}, {"prior_sparsity": 0.1}):
            SparseCoder(**given).fit(x)
    assert taken == [500, 2000, 2000, 1350, 2000, 2000, 2000, 2000, 2000]  # a tenth of the rows is held out


def test_a_pickle_holds_no_module(fitted, tmp_path):
    kept = pickle.dumps(copy.deepcopy(fitted).partial_fit(FRAME))
    modules = {str(arg).split(".")[0] for op, arg, _ in pickletools.genops(kept) if "UNICODE" in op.name}
    assert "vsc" in modules
    assert "torch" not in modules
    assert b"vsc.model" not in kept
    joblib.dump(fitted, tmp_path / "coder.joblib")
    for other in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "coder.joblib"), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.transform(FRAME), fitted.transform(FRAME))
        assert (other.config_, other.score(FRAME)) == (fitted.config_, fitted.score(FRAME))
        assert joblib.hash(other) == joblib.hash(fitted)
    with pytest.raises(NotFittedError):
        clone(fitted).transform(FRAME)


def test_partial_fit_learns_and_a_pickle_in_between_changes_nothing():
    whole = SparseCoder(latent_dim=5, hidden=(8,), random_state=0, settings={"train.batch_size": 20, "train.cap": 0.4})
    broken = clone(whole)
    first = None
    for i in range(15):
        whole.partial_fit(X)
        if i < 4:
            broken = pickle.loads(pickle.dumps(broken.partial_fit(X)))
            first = first or broken.score(X)
        if i == 3:
            np.testing.assert_array_equal(whole.transform(X), broken.transform(X))
            assert whole.score(X) == broken.score(X)
    assert first is not None
    assert whole.score(X) > first + 1
    assert whole.n_iter_ == 15 * 3  # three batches of 20
    assert whole.partial_fit(X[:1]).n_iter_ == 46  # later calls may be small
    assert whole.config_.train.lr.last < whole.config_.train.lr.start


def test_partial_fit_goes_on_from_fit(fitted):
    further = copy.deepcopy(fitted).partial_fit(FRAME)
    assert further.n_iter_ == 4
    before, after = (dict(coder.model_.named_parameters()) for coder in (fitted, further))
    # Adam's first step is the learning rate, 0.002, wherever there is a gradient
    encoder = [name for name in before if name.startswith("encoder")]
    largest = max((after[name] - before[name]).abs().max().item() for name in encoder)
    assert largest == pytest.approx(2e-3, rel=1e-2)


def test_composes():
    y = X[:, 0] > 10
    pipeline = make_pipeline(StandardScaler(), SparseCoder(**QUICK), LogisticRegression())
    assert cross_val_score(pipeline, X, y, cv=2, error_score="raise").shape == (2,)
    columns = ColumnTransformer([("codes", SparseCoder(**QUICK), ["a", "b", "c"])], remainder="passthrough")
    found = columns.set_output(transform="pandas").fit_transform(FRAME)
    assert list(found) == [*(f"codes__sparsecoder{j}" for j in range(5)), *(f"remainder__{c}" for c in "def")]
    assert list(columns.named_transformers_["codes"].model_.columns) == list("abc")


@pytest.mark.slow
def test_grids_in_two_processes():
    grid = GridSearchCV(SparseCoder(**QUICK), {"prior_sparsity": [0.1, 0.5]}, cv=2, n_jobs=2).fit(X)
    alone = GridSearchCV(SparseCoder(**QUICK), {"prior_sparsity": [0.1, 0.5]}, cv=2).fit(X)
    np.testing.assert_allclose(grid.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-5)
    assert grid.best_estimator_.transform(X).shape == (60, 5)


HOLE = np.where(np.arange(360).reshape(60, 6) == 7, np.nan, X)
WRONG = [
    (dict(QUICK, max_iter=0), X, "max_iter must be at least 1, not 0"),
    (dict(QUICK, latent_dim=0), X, "latent_dim must be at least 1"),
    (dict(QUICK, prior_sparsity=1.5), X, "alpha|prior_sparsity"),
    (dict(QUICK, prior_sparsity=0.1, target_l0=2), X, "give one of them"),
    (dict(QUICK, target_l0=7), X, "target_l0 must be below the number of latents, 5"),
    (dict(QUICK, settings={"lr": 1}), X, "settings cannot have 'lr'; names are dotted"),
    (dict(QUICK, settings={"data.label": "a"}), X, "settings cannot have 'data.label'"),
    (dict(QUICK, settings={"data.columns": "a=poisson"}), X, "no data frame"),
    (dict(QUICK, likelihood="normal"), X, "unknown likelihood 'normal'"),
    (QUICK, X[:9], "9 sample.* a minimum of 10"),
    (QUICK, HOLE, "NaN"),
    (QUICK, np.full((20, 2), "red"), "X holds text; .* data frame"),
    (QUICK, np.full((20, 2), "red", dtype=object), "X holds text; .* data frame"),
    (QUICK, np.ones((20, 2)), "nothing to learn"),
    (QUICK, FRAME[:0], "X has no rows"),
]


@pytest.mark.parametrize(("given", "x", "said"), WRONG)
def test_what_cannot_be_is_said_in_one_line(given, x, said):
    for learn in (SparseCoder.fit, SparseCoder.partial_fit):
        with pytest.raises(ValueError, match=said) as caught:
            learn(SparseCoder(**given), x)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_later_rows_must_fit(fitted):
    array = SparseCoder(**QUICK).fit(X)
    for x, said in ((X[:, :4], "4 features, but SparseCoder is expecting 6"), (HOLE, "NaN"), (FRAME[:0], "no rows")):
        for act in (array.transform, array.score, array.partial_fit):
            with pytest.raises(ValueError, match=said) as caught:
                act(x)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="in the same order"):
        fitted.transform(FRAME[list("fedcba")])
    with pytest.raises(ValueError, match=r"codes of 5 latents, \(N, 5\), but got an array of shape \(60, 6\)"):
        fitted.inverse_transform(X)
    with pytest.raises(ValueError, match="codes holds 1 value that is NaN"):
        fitted.inverse_transform(HOLE)
    for act in ("transform", "inverse_transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(SparseCoder(), act)(X)


def test_few_rows_are_said_in_the_names_of_parameters():
    with pytest.warns(vsc.errors.Caution, match="more latents, 150, than training examples, 118; lower latent_dim"):
        SparseCoder(**QUICK | {"latent_dim": 150}).fit(np.repeat(X, 3, 0)[:131])
