"""From names to objects: the only place that looks the members of the families up."""

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsc.data.split import Dataset
from vsc.errors import UsageError, choose
from vsc.fields import Field
from vsc.model import HEADS, MODELS, Autoencoder
from vsc.model.front import Front
from vsc.model.likelihoods import LIKELIHOODS
from vsc.model.nets import NETS
from vsc.model.priors import GATES, SELECTORS, SLABS, Gates, MixtureGates, PseudoInputGates, SpikeSlabPrior
from vsc.model.scaling import fit_scaler, moments_there
from vsc.model.spikes import SPIKES
from vsc.settings import values
from vsc.settings.config import Config, ModelConfig

CUSTOM = "custom"
"""Name in the settings of a model that was made in Python."""
FUNCTIONS = {"spikes": (SPIKES, "spike estimator"), "head": (HEADS, "head"), "selector": (SELECTORS, "selector")}
"""Settings that name a function, which is passed on as it is -> its family, and what that is called."""
PARTS = ("likelihood", "prior", "encoder", "decoder")
"""What of a model has weights."""
SOME = 1024
"""Training examples that a model starts at."""
MOST = 100_000
"""Training examples that counts are standardised by, in what the encoder sees, and that variances start at."""


class Form(NamedTuple):
    """What is known of examples before a model is built for them."""

    shape: tuple[int, ...]  # one example's
    fields: tuple[Field, ...] = ()  # what a table's columns are
    missing: bool = False  # whether values may be

    @property
    def size(self) -> int:
        """M, the values of an example."""
        return math.prod(self.shape)


def form_of(data: Dataset) -> Form:
    """Return the form of the examples of a data set."""
    return Form(data.shape, data.fields, values.lacks(data))


def build_model(model: ModelConfig, form: Form, device: str = "cpu", **known: Any) -> Autoencoder:
    """
    Build an untrained `model` for examples of a `form`, in float32, with weights from torch's current random state.

    Its likelihood is named. The `device` is the CPU, or `meta` for a model without numbers, which shows whether one can
    be built; `known` is what the model's class takes besides, and its settings do not say.
    UsageError if a name is unknown, a value out of its range, or the model too large for this machine's memory.
    """
    size, memory = _bytes_to_train(model, form), _memory()
    if size > memory:
        raise UsageError(
            f"to train this model takes {size / 2**30:.3g} GiB, and this machine has {memory / 2**30:.3g}; lower "
            "model.latent_dim, model.hidden or model.components"
        )
    with on(device):
        return _made(choose(MODELS, model.name, "model"), _given(model, form) | known)


def outline(model: ModelConfig, form: Form) -> dict[str, Tensor]:
    """Return the weights of the parts of a `model` for examples of a `form`, without values: it takes no memory."""
    with on("meta"):
        given = _given(model, form)
        return nn.ModuleDict({name: given[name] for name in PARTS if name in given}).state_dict()


def _given(model: ModelConfig, form: Form) -> dict[str, Any]:
    """Build the parts of a model, and return all that its class may take, by name; None leaves it its own default."""
    given = {name: value for name, value in vars(model).items() if value is not None}
    given |= {name: choose(family, given[name], what) for name, (family, what) in FUNCTIONS.items()}
    given |= {"shape": form.shape, "fields": form.fields, "missing": form.missing, "inputs": form.size}
    given["features"] = choose(MODELS, model.name, "model").features * model.latent_dim
    given["likelihood"] = likelihood = _made(choose(LIKELIHOODS, model.likelihood, "likelihood"), given)
    if (gates := gates_of(model)) is not None:
        given["gates"] = _made(gates, given)
        given["slab"] = _made(choose(SLABS, slab_of(model), "slab"), given)
        given["prior"] = _made(SpikeSlabPrior, given)
    front = Front(likelihood.counted(form.size), form.missing)
    given |= {"outputs": likelihood.outputs, "inputs": front.width, "width": likelihood.width(form.size)}
    given["encoder"], given["decoder"] = _made(choose(NETS, model.net, "net"), given)
    if front.counted.any() or form.missing:
        given["encoder"] = nn.Sequential(front, given["encoder"])
    return given


def _made(make: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a class or function with what its signature names: so a member says itself which settings it takes."""
    return make(**{name: given[name] for name in takes(make) if name in given})


def takes(make: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of what a class or function takes."""
    return tuple(inspect.signature(make).parameters)


def gates_of(model: ModelConfig) -> type[Gates] | None:
    """
    Return the class of the prior's gates; None for a model without, or one made in Python.

    Of `auto`, while the data are not known, it is one that stands for both, or that which takes nu.
    """
    if model.name == CUSTOM or "prior" not in takes(choose(MODELS, model.name, "model")):
        return None
    if model.gates == "auto":
        return MixtureGates if model.nu is None else PseudoInputGates
    return choose(GATES, model.gates, "gates")


def slab_of(model: ModelConfig) -> str:
    """Name the slab that `auto` stands for, in a model with gates."""
    gates = gates_of(model)
    return model.slab if model.slab != "auto" else "own" if gates is not None and gates.mixture else "unit"


@contextmanager
def on(device: str) -> Iterator[None]:
    """Make tensors on a device, in float32, that can be trained, whatever the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device(device), torch.inference_mode(False):
            yield
    finally:
        torch.set_default_dtype(before)


def _bytes_to_train(model: ModelConfig, form: Form) -> float:
    """Estimate what weights, gradients and Adam's two moments take."""
    try:
        return 16.0 * sum(weight.numel() for weight in outline(model, form).values())
    except (RuntimeError, TypeError, OverflowError):  # more than 2^63 numbers
        return math.inf


def _memory() -> float:
    """Return this machine's memory in bytes, where it can be known."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def new_model(config: Config, data: Dataset, model: Autoencoder | None = None) -> Autoencoder:
    """
    Return what is to be trained, on the CPU, its scaler fitted to `data`.

    That is the model of a resolved `config`, or a `model` of the user's own, whose weights are left as they are.
    """
    assert config.data.scale != "auto"
    form, train = form_of(data), config.train
    if model is None:
        given = {"relaxation": train.relaxation, "k": train.target_l0}
        known: dict[str, Any] = {name: schedule.last for name, schedule in given.items() if schedule is not None}
        built = build_model(config.model, form, correlated=bool(train.total_correlation), **known)
    else:
        built = model.to("cpu")
    with on("cpu"):
        scaler = fit_scaler(config.data.scale, data.train.x, data.high, built.likelihood.unscaled(form.size))
    built.adopt(scaler, data.features, data.classes, config.data.binarise, form.fields, form.missing)
    if model is None:
        _start(built, data.train.x)
    elif form.missing:
        _check_told(model)
    return built


def _start(model: Autoencoder, x: Any) -> None:
    """Set what of an untrained model starts at training examples, as they are stored."""
    if isinstance(model.encoder, nn.Sequential) and isinstance(front := model.encoder[0], Front):
        front.fit(model.scaler(x[:MOST]))
    if model.likelihood.learns_variances and model.scaler.kind not in ("standard", "whole"):  # in which it is 1
        model.likelihood.start_at(model.scaler(x[:MOST]))
    model.start_at(model.scaler(x[:SOME]))
    prior = getattr(model, "prior", None)
    if prior is not None and prior.wants:
        chosen = model.scaler(x[torch.randperm(len(x), device="cpu")[: prior.wants]])
        if model.missing:  # what is missing of a pseudo-input starts at the column's mean
            chosen = torch.where(chosen.isnan(), moments_there(model.scaler(x))[0].to(chosen), chosen)
        prior.start_at(chosen)


@torch.no_grad()
def _check_told(model: Autoencoder) -> None:
    """Refuse missing values to an encoder of the user's that makes nothing of them."""
    if not model.from_encoder(torch.full((2, math.prod(model.shape)), math.nan)).isfinite().all():
        raise UsageError(
            "values are missing, of which the model's encoder makes NaN; fill them first, or put before it a "
            "vsc.model.front.Front(counted, missing=True)"
        )
