"""Variational sparse coding as a transformer of scikit-learn's: pipelines, grids and clones as with any other."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from vsc.arrays import is_frame, numeric
from vsc.data import from_arrays
from vsc.data.checks import FEWEST, check_finite
from vsc.data.split import Dataset
from vsc.errors import Caution, UsageError
from vsc.fields import collapse
from vsc.measure.scores import bounds
from vsc.model import Autoencoder
from vsc.settings import build, values
from vsc.settings.config import Config, DataConfig, as_plain
from vsc.settings.presets import changed, no_setting
from vsc.settings.resolve import resolve
from vsc.settings.schedule import Schedule
from vsc.settings.upgrade import from_plain
from vsc.torchstate import modes, seeded
from vsc.training import runs
from vsc.training.loop import train
from vsc.training.online import Online

if TYPE_CHECKING:
    from pandas import DataFrame

SETTINGS = {
    "latent_dim": "model.latent_dim",
    "prior_sparsity": "model.alpha",
    "target_l0": "train.target_l0",
    "hidden": "model.hidden",
    "likelihood": "model.likelihood",
    "max_iter": "train.steps",
    "random_state": "train.seed",
}
"""Parameters -> the settings that they are."""

ELSEWHERE = {f"data.{name}" for name in ("name", "root", "label", "drop")}
"""Settings that say which data and which columns: `fit` is given them."""

LEAST = 500
"""Steps of the smallest tables; larger ones of up to `values.FEW` training examples take as many as these are."""

DRAWS = 5
"""Draws of the code per example that `score` averages over, as `vsc.evaluate` does."""


class SparseCoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """
    Variational sparse coding: each row becomes a code most of whose values are exactly zero.

    An encoder gives each of J latents of a row the probability gamma_j that it is on and its value mu_j; the code is
    mu_j where gamma_j > 1/2 and zero elsewhere, and a decoder takes it back. Both are trained together to maximise the
    evidence lower bound of a spike-and-slab model (Tonolini, Jensen, Murray-Smith, UAI 2019).

    Parameters
    ----------
    latent_dim : int
        Number of latents J, the width of the code.
    prior_sparsity : float, optional
        Prior probability in (0, 1] that a latent is on, one for all latents: smaller is sparser, while the alpha of
        scikit-learn's dictionaries runs the other way. None is a learned prior, which finds the sparsity by itself.
    target_l0 : float, optional
        How many latents to end with per row, on average (the sum of their gammas). None leaves it to the data.
    hidden : tuple of int
        Widths of the encoder's hidden layers, mirrored in the decoder.
    likelihood : str
        p(x|z); auto is what suits the data (`vsc.ModelConfig`).
    max_iter : int, optional
        Steps of the optimiser. None is 2000, or 10 000 above 10 000 rows; up to 2000 rows, if no sparsity is asked for,
        as many steps as rows, at least 500. On small tables training stops by itself where a tenth of the rows,
        which is held out, is described no better.
    settings : mapping, optional
        Any other setting of `vsc.ModelConfig`, `vsc.TrainConfig` or `vsc.DataConfig` by its dotted name, such as
        {"train.lr": 1e-3, "data.columns": "age=gaussian"}.
    sparse_output : bool
        Whether codes are a CSR matrix; else they are an array.
    verbose : bool
        Whether to show a progress bar.
    random_state : int, RandomState or None
        Seed of weights, batches and noise; with an int, two fits are the same.

    Attributes
    ----------
    model_ : Autoencoder
        The trained model, for all else that can be asked of it: `model_.encode(X).gamma`, `vsc.evaluate(model_, data)`.
    config_ : Config
        All settings that it was trained with.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, where `fit` was given a data frame.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data
    >>> coder = SparseCoder(latent_dim=16, max_iter=20, random_state=0).fit(X)
    >>> codes = coder.transform(X)
    >>> codes.shape, bool((codes == 0).any()), coder.inverse_transform(codes).shape
    ((1797, 16), True, (1797, 64))
    """

    model_: Autoencoder
    config_: Config
    n_iter_: int
    _online: Online | None

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        prior_sparsity: float | None = None,
        target_l0: float | None = None,
        hidden: tuple[int, ...] = (400,),
        likelihood: str = "auto",
        max_iter: int | None = None,
        settings: Mapping[str, Any] | None = None,
        sparse_output: bool = False,
        verbose: bool = False,
        random_state: Any = None,
    ):
        self.latent_dim = latent_dim
        self.prior_sparsity = prior_sparsity
        self.target_l0 = target_l0
        self.hidden = hidden
        self.likelihood = likelihood
        self.max_iter = max_iter
        self.settings = settings
        self.sparse_output = sparse_output
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """
        Train on rows.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame, shape (N, M)
            At least 10 rows. Columns of a data frame may hold text, counts and missing values; an array may not. A
            sparse matrix is made dense.
        y : None
            Not used.

        Returns
        -------
        SparseCoder
            Itself.

        Raises
        ------
        ValueError
            If X or a parameter cannot be taken; `vsc.UsageError` is one.
        vsc.RunError
            If the loss stops being finite.
        """
        with _own_names():
            config = self._config()
            data = self._dataset(X, config.data, config.data.valid_fraction)
            config = resolve(_with_steps(config, len(data.train)), data)
            rows: list[dict[str, Any]] = []
            self.model_ = train(data, config, progress=bool(self.verbose), watch=rows.append, tell=_warn)
        self.config_, self._online = config, None
        self.n_iter_ = rows[-1]["step"] if rows else config.train.steps or 0
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """
        Take a step for each batch of rows, of `train.batch_size` 128 at most.

        The first call, unless `fit` came before it, decides how columns are scaled, the likelihood and the prior: give
        it many rows. The learning rate does not fall, since no end is known; other schedules run over `max_iter` steps.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame, shape (N, M)
            At least 10 rows the first time.
        y : None
            Not used.

        Returns
        -------
        SparseCoder
            Itself.

        Raises
        ------
        ValueError, vsc.RunError
            As `fit`.
        """
        with _own_names():
            if not hasattr(self, "model_"):
                self._begin(X)
            elif self._online is None:
                self._online = Online(self.model_, _endless(self.config_), self.n_iter_)
            assert self._online is not None
            self._online.learn(cast(torch.Tensor, self.model_.stored(self._checked(X))))
        self.n_iter_ = self._online.taken
        return self

    def transform(self, X: Any) -> NDArray[np.float32] | sparse.csr_matrix:
        """
        Return the codes of rows.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame, shape (N, M)
            With the columns that `fit` was given.

        Returns
        -------
        ndarray or csr_matrix of float32, shape (N, J)
            Exactly zero where a latent is off.

        Raises
        ------
        ValueError
            If X cannot be taken, or nothing was fitted (`sklearn.exceptions.NotFittedError`).
        """
        check_is_fitted(self)
        with _own_names(), modes(gradients=False):
            codes = self.model_.encode(self._checked(X)).hard.numpy()
        return sparse.csr_matrix(codes) if self.sparse_output else codes

    def inverse_transform(self, X: Any) -> "NDArray[np.float32] | DataFrame":
        """
        Return the rows that codes stand for: the mean of p(x|z), in the units of the data.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame, shape (N, J)
            Codes.

        Returns
        -------
        ndarray of float32 or pandas.DataFrame, shape (N, M)
            Reconstructions; a data frame where columns of the training data hold text, with the most probable one.

        Raises
        ------
        ValueError
            If these are no codes of J latents, or nothing was fitted.
        """
        check_is_fitted(self)
        codes = numeric(X, "the codes").values
        check_finite(codes, "the codes")
        with modes(gradients=False):
            x = self.model_.scaler.inverse(self.model_.decode(torch.from_numpy(codes.astype(np.float32)))).cpu()
        if not any(field.levels for field in self.model_.fields):
            return x.float().numpy()
        from pandas import DataFrame

        return DataFrame(collapse(x.double().numpy(), self.model_.fields))

    def score(self, X: Any, y: Any = None) -> float:
        """
        Return the mean evidence lower bound of rows with hard spikes, as `vsc.evaluate` does: higher is better.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame, shape (N, M)
            Rows that were not trained on.
        y : None
            Not used.

        Returns
        -------
        float
            Nats per row, of the columns as they are scaled for the model.

        Raises
        ------
        ValueError
            As `transform`.
        """
        check_is_fitted(self)
        with _own_names(), modes(gradients=False), seeded(self.config_.train.seed, self.model_.device):
            inputs = self.model_.inputs(self._checked(X))
            return bounds(self.model_, inputs, DRAWS).elbo.mean().item()

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent_dim

    def _config(self) -> Config:
        """Return the settings that the parameters are; what is open in them is decided by the data."""
        given = {setting: getattr(self, name) for name, setting in SETTINGS.items()}
        state = self.random_state
        seed = state if isinstance(state, Integral) else check_random_state(state).randint(2**31 - 1)
        given = {setting: value for setting, value in given.items() if value is not None} | {"train.seed": int(seed)}
        if self.prior_sparsity is not None:
            if self.target_l0 is not None:
                raise UsageError("prior_sparsity and target_l0 both say how sparse codes are; give one of them")
            given["model.gates"] = "fixed"
        if elsewhere := [name for name in self.settings or {} if name in ELSEWHERE]:
            raise no_setting(elsewhere[0])
        return changed(Config(), given | dict(self.settings or {}))

    def _checked(self, X: Any, reset: bool = False) -> Any:
        """Return rows, data frames as they are; columns must be those that there were, unless they `reset` that."""
        if is_frame(X):
            if not len(X):
                raise UsageError("X has no rows")
            return validate_data(self, X, reset=reset, skip_check_array=True)
        try:
            # what is not finite is refused, in one line, by what the rows are for
            options: dict[str, Any] = {"accept_sparse": "csr", "ensure_all_finite": False}
            return validate_data(self, X, reset=reset, ensure_min_samples=FEWEST if reset else 1, **options)
        except ValueError as error:
            if "could not convert" not in str(error) and "bytes/strings" not in str(error):
                raise
            raise UsageError("X holds text; encode it as numbers, or give a data frame with it") from None

    def _dataset(self, X: Any, config: DataConfig, valid_fraction: float) -> Dataset:
        """Make a data set of all columns; without a test part a fifth of the rows would become one."""
        X = self._checked(X, reset=True)
        given: dict[str, Any] = {"x_test": X[:1], "columns": config.columns or ""}
        if is_frame(X):  # where a column named target would be taken for labels
            given |= {"y": np.zeros(len(X), int), "y_test": np.zeros(1, int)}
        return replace(from_arrays(X, valid_fraction=valid_fraction, seed=config.seed, **given), classes=())

    def _begin(self, X: Any) -> None:
        """Build the model of the first rows that come."""
        config = self._config()
        data = self._dataset(X, config.data, 0.0)
        config = resolve(config, data)
        with modes(gradients=True), seeded(config.train.seed):
            self.model_ = build.new_model(config, data)
        self.config_, self.n_iter_ = config, 0
        self._online = Online(self.model_, _endless(config))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Keep plain values and safetensors instead of modules, so that a later version can read them."""
        state = cast(dict[str, Any], super().__getstate__()).copy()
        if "model_" in state:
            state["model_"] = runs.packed(self.model_, self.config_.model)
            state["config_"] = as_plain(asdict(self.config_))
            state["_online"] = self._online and self._online.state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            self.config_ = from_plain(state["config_"], "the pickled SparseCoder")
            model = runs.unpacked(*state["model_"])
            assert model is not None
            self.model_ = model
            if state["_online"]:
                self._online = Online(self.model_, _endless(self.config_), self.n_iter_, state["_online"])


def _with_steps(config: Config, examples: int) -> Config:
    """Return settings with fewer steps than usual for few training examples, unless steps or a sparsity are given."""
    asked = config.train.steps or config.train.target_l0 or config.model.gates != "auto"  # gates take time to obey
    steps = config.train.steps if asked or examples > values.FEW else max(LEAST, examples)
    return replace(config, train=replace(config.train, steps=steps))


def _endless(config: Config):
    """Return the settings of a training that has no end at which the learning rate could have fallen."""
    return replace(config.train, lr=Schedule(config.train.lr.start))


def _warn(said: str) -> None:
    """Warn of data that will go wrong."""
    warnings.warn(_worded(said), Caution, stacklevel=5)


def _worded(said: str) -> str:
    """Name parameters instead of the settings that they are."""
    for name, setting in SETTINGS.items():
        said = said.replace(setting, name)
    return said


@contextmanager
def _own_names() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise UsageError(_worded(str(error))) from error
