"""All metrics by name, and one call that measures several of them on what is known of a set of codes."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import signature
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from vsc.errors import RunError, UsageError, choose
from vsc.metrics.arrays import Array, group_index, matrix, probabilities
from vsc.metrics.correlation import mcc, row_max_correlation
from vsc.metrics.disentanglement import dci, explicitness, mig, modularity, sap
from vsc.metrics.factorvae import factor_vae
from vsc.metrics.features import feature_f1, feature_mcc, feature_uniqueness, fvu, shrinkage
from vsc.metrics.information import multi_information, spike_information
from vsc.metrics.presence import columns_of, flags, presence_auroc, within_mcc, within_mig
from vsc.metrics.probes import class_selectivity, knn_probe, linear_probe
from vsc.metrics.sparsity import USED, active_units, activity_histogram, hoyer, l0, posterior_collapse, usage

LARGEST = 1e38
"""Size of the largest code or factor that is measured: a little below the largest float32, which trees work in."""


class Given(NamedTuple):
    """
    What is known of N examples and their codes; None where something is not known.

    Attributes
    ----------
    z : numpy.ndarray, shape (N, J)
        Mean codes, gamma mu. They are seldom exactly zero: metrics that look at exact zeros take `hard`.
    gamma : numpy.ndarray, shape (N, J)
        Spike probabilities; 1 for models without spikes.
    mu : numpy.ndarray, shape (N, J)
        Slab means.
    factors : numpy.ndarray, shape (N, F)
        True factors, drawn even where their attribute is absent, or 0 there.
    presence : numpy.ndarray, shape (N, G), bool
        Whether each attribute is present. Metrics that do not know of presence are given factor times presence.
    groups : numpy.ndarray, shape (F,)
        The attribute of each factor, its column in `presence` or its name; `attributes` makes these two of a
        presence per factor.
    labels : numpy.ndarray, shape (N,)
        Classes.
    train_z : numpy.ndarray, shape (L, J)
        Mean codes that the probes learn from.
    train_labels : numpy.ndarray, shape (L,)
        Their classes.
    seed : int
        Seed of everything that is drawn.
    directions : numpy.ndarray, shape (J, M)
        What each latent adds to an example: the rows of a linear decoder.
    true_directions : numpy.ndarray, shape (F, M)
        What each of F true features adds.
    fires : numpy.ndarray, shape (N, F), bool
        Which of these an example has.
    x, output : numpy.ndarray, shape (N, M)
        The examples, and what is decoded of their hard codes.
    """

    z: Array
    gamma: Array
    mu: Array
    factors: Array | None = None
    presence: Array | None = None
    groups: Any = None
    labels: Array | None = None
    train_z: Array | None = None
    train_labels: Array | None = None
    seed: int = 0
    directions: Array | None = None
    true_directions: Array | None = None
    fires: Array | None = None
    x: Array | None = None
    output: Array | None = None

    @property
    def hard(self) -> Array:
        """Hard codes 1[gamma > 1/2] mu, shape (N, J): exactly zero where a latent is off."""
        return np.where(probabilities(self.gamma) > 0.5, matrix(self.mu, "mu", len(self.gamma)), 0.0)


class Metric(NamedTuple):
    """
    One metric, and how it is applied to what is known of codes: each parameter of its function is given by its name.

    `z` are the mean codes or the hard ones; `factors` are factor times presence, unless it takes presence too;
    `present` is where each factor has an effect, and `truth` are the true directions.

    Attributes
    ----------
    function : callable
        Of numpy arrays.
    settings : mapping
        Of its parameters, those that are not left at their defaults.
    then : callable or None
        (what it returns, given) -> the number, or one for each part; None where it returns that itself.
    hard : bool
        Whether it is given hard codes.
    better : str or None
        `higher`, `lower`, or None where neither is.
    range : tuple of float
        Least and greatest possible value; infinite where it depends on the data.
    unit : str
        Of the number; empty for pure numbers.
    slow : bool
        Takes more than a few seconds on 20 000 x 200 codes.
    """

    function: Callable[..., Any]
    settings: Mapping[str, Any] = MappingProxyType({})
    then: Callable[[Any, Given], float | Mapping[str, float]] | None = None
    hard: bool = False
    better: str | None = "higher"
    range: tuple[float, float] = (0.0, 1.0)
    unit: str = ""
    slow: bool = False

    @property
    def code(self) -> str:
        """What it is given of the codes: `gamma`, and mu if it asks, or, as z, the `mean` codes or the `hard` ones."""
        return "hard" if self.hard else "gamma" if "gamma" in signature(self.function).parameters else "mean"

    @property
    def needs(self) -> tuple[str, ...]:
        """The optional fields of `Given` that must be there."""
        asked = signature(self.function).parameters.values()
        names = {_FIELDS.get(one.name, one.name) for one in asked if one.default is one.empty}
        return tuple(field for field in Given._field_defaults if field in names)

    def of(self, given: Given) -> float | Mapping[str, float]:
        """Return the number, or one for each part."""
        asked = signature(self.function).parameters
        values: dict[str, Callable[[], Any]] = {name: partial(getattr, given, name) for name in Given._fields}
        values |= {"truth": lambda: given.true_directions, "present": lambda: _shown(given)}
        if self.hard:
            values["z"] = lambda: given.hard
        if "presence" not in asked:
            values["factors"] = lambda: _seen(given)
        known = {name: values[name]() for name in asked if name in values}
        found = self.function(**known, **self.settings)
        return self.then(found, given) if self.then else found._asdict() if hasattr(found, "_asdict") else found


_FIELDS = {"truth": "true_directions"}
"""Parameter -> field of `Given`, where their names differ."""


def measure(given: Given, names: Iterable[str]) -> dict[str, float]:
    """
    Measure several metrics.

    Parameters
    ----------
    given : Given
        The codes and what is known of their examples.
    names : iterable of str
        Names in `METRICS`, or of a part of one, such as `knn-1000`.

    Returns
    -------
    dict of str to float
        One number per name, finite; a metric of several parts gives `name-part` for each.

    Raises
    ------
    UsageError
        If a name is unknown, something that a metric needs is not given, or an array is unsuitable or holds values
        beyond `LARGEST`. Nothing is measured before all names and needs are checked.
    RunError
        If a metric gives a value that is not finite.
    """
    names = list(names)
    wanted = {family: METRICS[family] for family in map(metric_of, names)}
    for name, metric in wanted.items():
        missing = _missing(given, metric)
        if missing:
            hint = "; a decoder has directions if it is linear and gives means alone" if "directions" in missing else ""
            raise UsageError(f"metric {name!r} needs {' and '.join(missing)}, not known of these data{hint}")
    _check_size(given)
    measured: dict[str, float] = {}
    for name, metric in wanted.items():
        value = metric.of(given)
        parts = {f"{name}-{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
        measured |= {key: float(v) for key, v in parts.items()}
    found: dict[str, float] = {}
    for name in names:
        of_family = {key: v for key, v in measured.items() if metric_of(key) == name}
        found |= of_family or {name: choose(measured, name, "metric")}
    for name, value in found.items():
        if not math.isfinite(value):
            raise RunError(f"metric {name!r} came out as {value}; please report the codes that it was given")
    return found


def _check_size(given: Given) -> None:
    """Refuse values whose squares and sums could overflow; NaN and infinity are left to the metrics that look."""
    for what in ("z", "mu", "train_z", "factors"):
        array = np.asarray([] if getattr(given, what) is None else getattr(given, what))
        if array.dtype.kind == "f" and float(np.abs(array[np.isfinite(array)]).max(initial=0)) > LARGEST:
            raise UsageError(f"{what.replace('_', ' ')}: there are values beyond {LARGEST:g}; scale them")


def measurable(given: Given, slow: bool = False) -> list[str]:
    """List the metrics whose needs are given, with or without the slow ones, in the order of `METRICS`."""
    return [name for name, metric in METRICS.items() if not _missing(given, metric) and (slow or not metric.slow)]


def metric_of(part: str) -> str:
    """Return the metric that a result's name belongs to, a part's name being `metric-part`; UsageError if none."""
    own = [name for name in METRICS if part == name or part.startswith(f"{name}-")]
    return max(own, key=len) if own else choose(dict.fromkeys(METRICS, part), part, "metric")


def _missing(given: Given, metric: Metric) -> list[str]:
    needs = [*metric.needs]
    if "factors" in needs and given.presence is not None and "groups" not in needs:
        needs.append("groups")  # without them it is not known which factors an attribute's absence hides
    return [need.replace("_", " ") for need in needs if getattr(given, need) is None]


def _shown(given: Given) -> Array:
    """Where each factor has an effect, (N, F)."""
    shape = matrix(given.factors, "factors", len(given.z)).shape
    if given.presence is None:
        return np.ones(shape)
    presence = flags(given.presence, len(given.z))
    return presence[:, columns_of(given.groups, shape[1], presence.shape[1])]


def _seen(given: Given) -> Array:
    """Return factor times presence, (N, F)."""
    return matrix(given.factors, "factors", len(given.z)) * _shown(given)


def _by_attribute(found: Array, given: Given) -> dict[str, float]:
    names = [str(g) for g in range(len(found))]
    if given.groups is not None:
        F = len(np.asarray(given.groups))
        columns_of(given.groups, F, len(found))
        names = group_index(given.groups, F)[1]
    return {"mean": found.mean(), "min": found.min()} | dict(zip(names, found, strict=True))


def _by_edge(found: Array, given: Given) -> dict[str, float]:
    return {f"{edge / len(found):.1f}": count for edge, count in enumerate(found)}


def _of_used(found: Array, given: Given) -> float:
    used = (given.hard != 0).mean(0) > USED
    return found[used].mean() if used.any() else 0.0


_latents = partial(Metric, better=None, range=(0.0, math.inf), unit="latents")
_bits = partial(Metric, range=(0.0, math.inf), unit="bits")
_reconstruction = partial(Metric, range=(0.0, math.inf), hard=True)

METRICS: dict[str, Metric] = {
    # codes and true factors
    "mig": Metric(mig),
    "sap": Metric(sap),
    "modularity": Metric(modularity),
    "explicitness": Metric(explicitness),
    "dci": Metric(dci, slow=True),
    "factor-vae": Metric(factor_vae, hard=True),
    "mcc": Metric(mcc),
    "mcc-spearman": Metric(mcc, {"kind": "spearman"}),
    "mcc-magnitudes": Metric(mcc, {"magnitudes": True}),
    "row-max-correlation": Metric(row_max_correlation),
    "row-max-correlation-signed": Metric(row_max_correlation, {"magnitudes": False}),
    # attributes that are present or absent
    "presence": Metric(presence_auroc, then=_by_attribute),
    "within-mcc": Metric(within_mcc),
    "within-mig": Metric(within_mig),
    # the code alone
    "hoyer": Metric(hoyer, hard=True, better=None),
    "l0": _latents(l0),
    "used": _latents(usage, then=lambda found, _: found.used),
    "always-on": _latents(usage, then=lambda found, _: found.always_on),
    "dead": _latents(usage, then=lambda found, _: found.dead, better="lower"),
    "activity": _latents(activity_histogram, then=_by_edge),
    "active-units": _latents(active_units),
    "posterior-collapse": Metric(posterior_collapse, better="lower"),
    "spike-information": _bits(spike_information, then=lambda found, _: found.sum()),
    "multi-information": _bits(multi_information, better="lower"),
    # dictionary and codes against the features that the data were made of, and the reconstruction
    "feature-f1": Metric(feature_f1, hard=True),
    "feature-mcc": Metric(feature_mcc, hard=True),
    "feature-uniqueness": Metric(feature_uniqueness, hard=True),
    "fvu": _reconstruction(fvu, better="lower"),
    "shrinkage": _reconstruction(shrinkage, better=None),
    # codes and classes
    "knn": Metric(knn_probe),
    "linear": Metric(linear_probe),
    "class-selectivity": Metric(class_selectivity, then=_of_used, hard=True, better=None),
}
"""Name -> metric. `spike-information` is a sum over latents, `class-selectivity` the mean over those that are used."""
