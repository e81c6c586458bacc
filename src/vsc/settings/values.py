"""What the values of a data set are, and which scale and likelihood suit them."""

import math

from vsc.data.split import Dataset
from vsc.errors import UsageError
from vsc.fields import mixed
from vsc.model.likelihoods import Likelihood
from vsc.settings.config import Config
from vsc.settings.presets import SUITS

FEW = 2000
"""Training examples up to which a table is small, and of which a larger one is looked at."""


def scale(config: Config, data: Dataset, kind: Likelihood | type[Likelihood] | None) -> str:
    """Return the scale that `config` names, or that suits `data` and the `kind` of likelihood, where that is named."""
    if config.data.scale != "auto":
        return config.data.scale
    if kind is not None and kind.counts:
        return "none"
    return "standard" if data.high is None or mixed(data.fields) else "unit-interval"


def lacks(data: Dataset) -> bool:
    """Whether values are missing, which they may be in tables whose columns are known."""
    return bool(data.fields) and any(part.x.isnan().any() for part in (data.train, data.valid, data.test))


def check(kind: Likelihood | type[Likelihood], name: str, data: Dataset, scale: str, binarise: bool) -> None:
    """
    Refuse a `scale` that leaves `data` outside of what a likelihood takes, or cannot take what is missing.

    The likelihood is of a `kind`, and has a `name`; `binarise` says whether values are drawn as bits.
    """
    if kind.unit_interval and not _in_unit_interval(data, scale):
        raise UsageError(
            f"likelihood {name!r} takes values in [0, 1], and scale {scale!r} leaves that range; "
            "choose scale unit-interval or likelihood gaussian"
        )
    if binarise and scale != "unit-interval":
        raise UsageError(f"binarise needs values in [0, 1]: choose scale unit-interval, not {scale!r}")
    if (kind.counts or (kind.own_units and data.fields)) and scale not in ("none", "standard"):
        raise UsageError(f"likelihood {name!r} takes counts as they are; leave data.scale out, which is {scale!r}")
    x = data.train.x[:FEW]
    if kind.counts and not bool(((x >= 0) & (x == x.round()) if x.is_floating_point() else x >= 0)[~x.isnan()].all()):
        raise UsageError(f"likelihood {name!r} takes counts, whole and not negative; choose another, or give counts")
    if lacks(data) and (binarise or scale == "unit-norm"):
        raise UsageError(f"values are missing, which {'binarise' if binarise else 'scale unit-norm'} cannot take")


def likelihood(config: Config, data: Dataset, scale: str) -> tuple[str, float | None]:
    """Return the likelihood that `config` names, or suits `data` of this `scale`, and its variance, if it has one."""
    named, variance = config.model.likelihood, config.model.variance
    if named == "auto" and mixed(data.fields):
        return "columns", variance
    grey = scale == "unit-interval" and not config.data.binarise
    suits, own = SUITS.get(data.name, ("", None)) if grey else ("", None)
    if named == "auto" and suits:
        named = suits
    elif named == "auto" and _in_unit_interval(data, scale):
        named = "gaussian-shared" if grey and _shaded(data) else "bernoulli"
    elif named == "auto":  # a variance for each output is soon that of one example, or of a value that never changes
        shared = scale == "whole" or len(data.train) < 300 or _is_binary(data)
        named = "gaussian-shared" if shared else "gaussian"
    if named == "gaussian-fixed" and variance is None:
        variance = own or 1.0
    return named, variance


SHADED = 2 / 3
"""Share of the variance of bits of the same means below which values in [0, 1] are shades of grey."""


def _shaded(data: Dataset) -> bool:
    """Whether a bernoulli, which takes each value for noisy bits, would leave latents little to tell."""
    x = data.train.x[:FEW].double() / (data.high or 1.0)
    mean = x.nanmean(0)
    return bool((x - mean).square().nanmean(0).nansum() < SHADED * (mean * (1 - mean)).nansum())


def _is_binary(data: Dataset) -> bool:
    """Whether a quarter of the columns have two values each, as one-hot ones do."""
    x = data.train.x[:FEW]
    low, top = x.nan_to_num(math.inf).amin(0), x.nan_to_num(-math.inf).amax(0)
    two = ((x == low) | (x == top) | x.isnan()).all(0) & (low < top)
    return bool(two.float().mean() >= 0.25)


def _in_unit_interval(data: Dataset, scale: str) -> bool:
    x = data.train.x
    if data.fields:
        x = x[~x.isnan()]
    if scale in ("unit-norm", "none"):
        return bool(x.min() >= 0 and (scale == "unit-norm" or x.max() <= 1))
    return scale == "unit-interval"
