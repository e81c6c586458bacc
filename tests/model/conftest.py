"""
Every prior by its name, with q(z|x) of the family that it is for.

Names are "normal", "laplace" and "thresholded-laplace", or those of gates and slab, and of a selector after those of
several components: "pseudo-inputs own softmax". Options that are numbers may stand among them, as in
"pseudo-inputs own nu=10".
"""

import inspect
import math

import pytest
import torch
from torch.distributions import Laplace, Normal

from vsc.model.distributions import SpikeAndSlab
from vsc.model.priors import (
    GATES,
    SELECTORS,
    SLABS,
    LaplacePrior,
    NormalPrior,
    SpikeSlabPrior,
    ThresholdedLaplacePrior,
    ThresholdedNormalPrior,
    ThresholdedPrior,
)

OTHERS = {
    "normal": NormalPrior,
    "laplace": LaplacePrior,
    "thresholded-laplace": ThresholdedLaplacePrior,
    "thresholded-normal": ThresholdedNormalPrior,
}
ONE = [f"{gates} {slab}" for gates, kind in GATES.items() if not kind.mixture for slab in SLABS if slab != "own"]
MIXTURES = [f"{gates} {slab}" for gates, kind in GATES.items() if kind.mixture for slab in SLABS]
CHOOSING = [f"{mixture} {selector}" for mixture in MIXTURES for selector in SELECTORS]
WITH_OPTIONS = ["fixed unit alpha=1", "pseudo-inputs own nu=10"]
GIVEN = {"inputs": 4, "latent_dim": 2, "alpha": 0.3, "components": 5}


@pytest.fixture(params=ONE)
def one(request):
    """Return the name of each spike-and-slab of one component."""
    return request.param


@pytest.fixture(params=MIXTURES)
def mixture(request):
    """Return the name of each mixture."""
    return request.param


@pytest.fixture(params=ONE + MIXTURES)
def pair(request):
    """Return the name of each pair of gates and slab."""
    return request.param


@pytest.fixture(params=ONE + CHOOSING)
def case(request):
    """Return the name of each pair with each selector."""
    return request.param


@pytest.fixture(params=[*OTHERS, *ONE, *MIXTURES])
def every(request):
    """Return the name of each prior that there is."""
    return request.param


@pytest.fixture(params=[*OTHERS, *ONE, *MIXTURES, *WITH_OPTIONS])
def variant(request):
    """Return the name of each prior that there is, and of some with options that take another path."""
    return request.param


@pytest.fixture(params=["normal", *ONE, *MIXTURES, *WITH_OPTIONS])
def of_vsc(request):
    """Return the name of each of those that a VSC can have."""
    return request.param


@pytest.fixture(params=[*OTHERS, *ONE, *CHOOSING])
def every_case(request):
    """Return the name of each prior that there is with each selector."""
    return request.param


@pytest.fixture(scope="session")
def named():
    """Return what makes a prior by its name; options are those of its parts."""
    return make


@pytest.fixture(scope="session")
def build():
    """Return what makes, by a prior's name, the prior moved from where it starts, inputs x (3, M), and q(z|.)."""
    return make_with_posterior


def make(name, **options):
    words = [word.split("=") for word in name.split()]
    given = GIVEN | options | {word[0]: float(word[1]) for word in words if len(word) == 2}
    parts = [word[0] for word in words if len(word) == 1]

    def part(kind):
        wanted = inspect.signature(kind).parameters
        return kind(**{key: value for key, value in given.items() if key in wanted})

    if name in OTHERS:
        return part(OTHERS[name])
    gates, slab, selector = (*parts, "optimal")[:3]
    given["gates"] = part(GATES[gates])
    given |= {"slab": part(SLABS[slab]), "selector": SELECTORS[selector]}
    return part(SpikeSlabPrior)


def make_with_posterior(name, dtype=torch.float64, device="cpu", **options):
    prior, M, J = make(name, **options).to(dtype), *((GIVEN | options)[key] for key in ("inputs", "latent_dim"))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter += 0.4 * torch.randn_like(parameter)
    prior, weight = prior.to(device), torch.randn(M, 3 * J).div(math.sqrt(M)).to(dtype).to(device)
    weight.requires_grad_()

    def posterior(x):
        """Encode by one linear layer, with outputs in single precision at least."""
        out = x.to(weight.dtype) @ weight
        mu, logvar, logits = out.to(torch.promote_types(out.dtype, torch.float32)).chunk(3, -1)
        if isinstance(prior, NormalPrior):
            return Normal(mu, (0.5 * logvar).exp(), validate_args=False)
        if isinstance(prior, LaplacePrior):
            return Laplace(mu, logvar.exp(), validate_args=False)
        if isinstance(prior, ThresholdedPrior):
            return prior.kind(mu, logvar, prior.threshold.to(mu.dtype), validate_args=False)
        logits = torch.full_like(logits, math.inf) if prior.gates_open else 2 * logits
        return SpikeAndSlab(mu, logvar, spike_logits=logits, validate_args=False)

    posterior.weight = weight
    return prior, torch.randn(3, M).to(dtype).to(device), posterior
