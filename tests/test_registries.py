"""The contract of every registry: members explain themselves, and a wrong name is answered with the right ones."""

import inspect
from typing import get_args, get_type_hints

import pytest

from vsc import data
from vsc.errors import UsageError, choose
from vsc.metrics import METRICS
from vsc.model import HEADS, MODELS, Autoencoder
from vsc.model.likelihoods import LIKELIHOODS, Likelihood
from vsc.model.nets import NETS
from vsc.model.priors import (
    GATES,
    SELECTORS,
    SLABS,
    Gates,
    LaplacePrior,
    NormalPrior,
    Prior,
    Slab,
    SpikeSlabPrior,
    ThresholdedLaplacePrior,
    ThresholdedNormalPrior,
)
from vsc.model.scaling import SCALES, fit_scaler
from vsc.model.spikes import SPIKES
from vsc.settings.commands import Tune
from vsc.settings.config import DataConfig, ModelConfig
from vsc.sweep.tune import PRUNERS

REGISTRIES = {
    "spike estimator": SPIKES,
    "likelihood": LIKELIHOODS,
    "net": NETS,
    "model": MODELS,
    "head": HEADS,
    "gates": GATES,
    "slab": SLABS,
    "selector": SELECTORS,
    "scale": SCALES,
    "data set": data.DATASETS,
    "metric": {name: metric.function for name, metric in METRICS.items()},
}
PRIORS = [SpikeSlabPrior, NormalPrior, LaplacePrior, ThresholdedLaplacePrior, ThresholdedNormalPrior]
MEMBERS = [(family, name) for family, registry in REGISTRIES.items() for name in registry]


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_every_member_is_explained(family, name):
    member = REGISTRIES[family][name]
    # a scale is explained with the others, in the function that uses it
    text = inspect.getdoc(fit_scaler) if family == "scale" else member.__doc__
    assert text
    if family == "scale":
        assert f"`{name}`" in text


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_names_are_lower_case_words_joined_by_hyphens(family, name):
    assert all(word.isalnum() and word == word.lower() for word in name.split("-"))


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_a_slip_of_the_pen_is_answered_with_the_name(family, name):
    registry = REGISTRIES[family]
    with pytest.raises(UsageError) as caught:
        choose(registry, name + "x", family)
    message = str(caught.value)
    assert f"unknown {family} {name + 'x'!r}" in message
    assert f"did you mean {name!r}?" in message
    for known in registry:
        assert known in message


def test_the_choices_of_settings_are_the_members_of_their_families():
    chosen = {
        "data.scale": ["auto", *SCALES],
        "model.name": MODELS,
        "model.net": NETS,
        "model.likelihood": ["auto", *LIKELIHOODS],
        "model.gates": ["auto", *GATES],
        "model.slab": ["auto", *SLABS],
        "model.selector": SELECTORS,
        "model.spikes": SPIKES,
        "model.head": HEADS,
    }
    hints = {"data": get_type_hints(DataConfig), "model": get_type_hints(ModelConfig)}
    for dotted, members in chosen.items():
        part, name = dotted.split(".")
        assert set(get_args(hints[part][name])) == set(members), dotted
    assert set(get_args(get_type_hints(Tune)["pruner"])) == set(PRUNERS)


@pytest.mark.parametrize("name", data.DATASETS)
def test_loading_a_data_set_by_a_wrong_name(name):
    with pytest.raises(UsageError) as caught:
        data.load(name + "x")
    assert f"did you mean {name!r}?" in str(caught.value)
    for known in data.DATASETS:
        assert known in str(caught.value)


@pytest.mark.parametrize("registry", [SPIKES, SELECTORS], ids=["spikes", "selectors"])
def test_members_of_a_family_share_one_signature(registry):
    counts = {len(inspect.signature(member).parameters) for member in registry.values()}
    assert len(counts) == 1


@pytest.mark.parametrize("method", ["kl", "sample", "log_prob"])
def test_priors_share_the_signatures_of_their_base(method):
    expected = list(inspect.signature(getattr(Prior, method)).parameters)
    for member in PRIORS:
        assert list(inspect.signature(getattr(member, method)).parameters) == expected


@pytest.mark.parametrize(
    ("registry", "base"), [(LIKELIHOODS, Likelihood), (MODELS, Autoencoder), (GATES, Gates), (SLABS, Slab)]
)
def test_members_of_a_family_are_final(registry, base):
    """A class is abstract or final: members derive from abstract classes of ours alone."""
    assert inspect.isabstract(base)
    for member in registry.values():
        assert issubclass(member, base)
        assert not inspect.isabstract(member)
        assert not [kind for kind in member.__subclasses__() if kind.__module__.startswith("vsc.")]
        for parent in member.__mro__[1:]:
            assert inspect.isabstract(parent) or not parent.__module__.startswith("vsc.")
