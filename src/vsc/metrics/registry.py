"""All metrics by name, and one call that measures several of them on what is known of a set of codes."""

import math
from collections.abc import Callable, Iterable, Mapping
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
from vsc.metrics.sparsity import (
    active_units,
    activity_histogram,
    hoyer,
    l0,
    posterior_collapse,
    usage,
)

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
    One metric: the function that explains it, and how it is applied to what is given.

    Attributes
    ----------
    function : callable
        The public function of plain arrays; its docstring has formula, range, source and cost.
    measure : callable
        (code, `Given`) -> the number, or several as a mapping, whose keys are appended to the metric's name.
    code : str
        What it is measured on: `mean`, gamma mu; `hard`, 1[gamma > 1/2] mu, where exact zeros count; or `gamma`.
    needs : tuple of str
        Optional fields of `Given` that must be there.
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
    measure: Callable[[Array, Given], float | Mapping[str, float]]
    code: str = "mean"
    needs: tuple[str, ...] = ()
    better: str | None = "higher"
    range: tuple[float, float] = (0.0, 1.0)
    unit: str = ""
    slow: bool = False


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
        beyond `LARGEST`. Nothing is
        measured before all names and needs are checked.
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
    codes = {"mean": lambda: given.z, "gamma": lambda: given.gamma, "hard": lambda: given.hard}
    measured: dict[str, float] = {}
    for name, metric in wanted.items():
        value = metric.measure(codes[metric.code](), given)
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


def _presence(gamma: Array, given: Given) -> dict[str, float]:
    found = presence_auroc(gamma, given.presence)
    names = [str(g) for g in range(len(found))]
    if given.groups is not None:
        F = len(np.asarray(given.groups))
        columns_of(given.groups, F, len(found))
        names = group_index(given.groups, F)[1]
    return {"mean": found.mean(), "min": found.min()} | dict(zip(names, found, strict=True))


def _activity(gamma: Array, given: Given) -> dict[str, float]:
    found = activity_histogram(gamma)
    return {f"{edge / len(found):.1f}": count for edge, count in enumerate(found)}


def _within(score: Callable[..., float]) -> Callable[[Array, Given], float]:
    return lambda z, g: score(z, g.factors, g.presence, g.groups)


def _probe(score: Callable[..., dict[int, float]]) -> Callable[[Array, Given], dict[str, float]]:
    return lambda z, g: {str(n): a for n, a in score(g.train_z, g.train_labels, z, g.labels, seed=g.seed).items()}


def _selectivity(z: Array, given: Given) -> float:
    used = (matrix(z, "codes") != 0).mean(0) > 0.01
    found = class_selectivity(z, given.labels)
    return found[used].mean() if used.any() else 0.0


_FACTORS = ("factors",)
_ATTRIBUTES = ("factors", "presence", "groups")
_FEATURES = ("directions", "true_directions")
_RECONSTRUCTION = ("x", "output")
_PROBE = ("labels", "train_z", "train_labels")
_ANY = (0.0, math.inf)

METRICS: dict[str, Metric] = {
    # codes and true factors
    "mig": Metric(mig, lambda z, g: mig(z, _seen(g)), needs=_FACTORS),
    "sap": Metric(sap, lambda z, g: sap(z, _seen(g)), needs=_FACTORS),
    "modularity": Metric(modularity, lambda z, g: modularity(z, _seen(g)), needs=_FACTORS),
    "explicitness": Metric(explicitness, lambda z, g: explicitness(z, _seen(g), seed=g.seed), needs=_FACTORS),
    "dci": Metric(dci, lambda z, g: dci(z, _seen(g), seed=g.seed)._asdict(), needs=_FACTORS, slow=True),
    "factor-vae": Metric(
        factor_vae, lambda z, g: factor_vae(z, _seen(g), _shown(g), seed=g.seed), needs=_FACTORS, code="hard"
    ),
    "mcc": Metric(mcc, lambda z, g: mcc(z, _seen(g)), needs=_FACTORS),
    "mcc-spearman": Metric(mcc, lambda z, g: mcc(z, _seen(g), "spearman"), needs=_FACTORS),
    "mcc-magnitudes": Metric(mcc, lambda z, g: mcc(z, _seen(g), magnitudes=True), needs=_FACTORS),
    "row-max-correlation": Metric(row_max_correlation, lambda z, g: row_max_correlation(z, _seen(g)), needs=_FACTORS),
    "row-max-correlation-signed": Metric(
        row_max_correlation, lambda z, g: row_max_correlation(z, _seen(g), magnitudes=False), needs=_FACTORS
    ),
    # attributes that are present or absent
    "presence": Metric(presence_auroc, _presence, needs=("presence",), code="gamma"),
    "within-mcc": Metric(within_mcc, _within(within_mcc), needs=_ATTRIBUTES),
    "within-mig": Metric(within_mig, _within(within_mig), needs=_ATTRIBUTES),
    # the code alone
    "hoyer": Metric(hoyer, lambda z, g: hoyer(z), better=None, code="hard"),
    "l0": Metric(l0, lambda z, g: l0(z), better=None, range=_ANY, unit="latents", code="gamma"),
    "used": Metric(usage, lambda z, g: usage(z).used, better=None, range=_ANY, unit="latents", code="gamma"),
    "always-on": Metric(usage, lambda z, g: usage(z).always_on, better=None, range=_ANY, unit="latents", code="gamma"),
    "dead": Metric(usage, lambda z, g: usage(z).dead, better="lower", range=_ANY, unit="latents", code="gamma"),
    "activity": Metric(activity_histogram, _activity, better=None, range=_ANY, unit="latents", code="gamma"),
    "active-units": Metric(active_units, lambda z, g: active_units(z), better=None, range=_ANY, unit="latents"),
    "posterior-collapse": Metric(
        posterior_collapse, lambda z, g: posterior_collapse(z, g.mu), better="lower", code="gamma"
    ),
    "spike-information": Metric(
        spike_information, lambda z, g: spike_information(z).sum(), range=_ANY, unit="bits", code="gamma"
    ),
    "multi-information": Metric(
        *(multi_information, lambda z, g: multi_information(z, seed=g.seed)._asdict()),
        better="lower",
        range=_ANY,
        unit="bits",
    ),
    # dictionary and codes against the features that the data were made of, and the reconstruction
    "feature-f1": Metric(
        *(feature_f1, lambda z, g: feature_f1(z, g.fires, g.directions, g.true_directions)),
        needs=(*_FEATURES, "fires"),
        code="hard",
    ),
    "feature-mcc": Metric(
        feature_mcc, lambda z, g: feature_mcc(g.directions, g.true_directions), needs=_FEATURES, code="hard"
    ),
    "feature-uniqueness": Metric(
        feature_uniqueness,
        lambda z, g: feature_uniqueness(g.directions, g.true_directions),
        needs=_FEATURES,
        code="hard",
    ),
    "fvu": Metric(fvu, lambda z, g: fvu(g.x, g.output), needs=_RECONSTRUCTION, code="hard", better="lower", range=_ANY),
    "shrinkage": Metric(
        *(shrinkage, lambda z, g: shrinkage(g.x, g.output)),
        needs=_RECONSTRUCTION,
        code="hard",
        better=None,
        range=_ANY,
    ),
    # codes and classes
    "knn": Metric(knn_probe, _probe(knn_probe), needs=_PROBE),
    "linear": Metric(linear_probe, _probe(linear_probe), needs=_PROBE),
    "class-selectivity": Metric(class_selectivity, _selectivity, needs=("labels",), better=None, code="hard"),
}
"""Name -> metric. `spike-information` is a sum over latents, `class-selectivity` the mean over those that are used."""
