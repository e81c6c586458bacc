"""From names to objects: the only place that looks the members of the families up."""

import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from vsc.data.split import Dataset
from vsc.errors import UsageError, at_least, choose
from vsc.fields import Field
from vsc.model import HEADS, MODELS, Autoencoder
from vsc.model.front import Front
from vsc.model.likelihoods import LIKELIHOODS, Likelihood
from vsc.model.nets import NETS
from vsc.model.peers import TopK
from vsc.model.peers.topk import Counted
from vsc.model.priors import (
    GATES,
    SELECTORS,
    SLABS,
    FixedGates,
    Gates,
    MixtureGates,
    PseudoInputGates,
    SpikeSlabPrior,
)
from vsc.model.scaling import SCALES, fit_scaler, moments_there
from vsc.model.spikes import RELAXATION, SPIKES
from vsc.settings import values
from vsc.settings.config import SCHEDULES, Config, ModelConfig, TrainConfig
from vsc.settings.presets import changed
from vsc.settings.schedule import Schedule

CUSTOM = "custom"
"""Name in the settings of a model that was made in Python."""


def resolve(config: Config, data: Dataset, own: Autoencoder | None = None) -> Config:
    """
    Replace every `auto` by what suits the data, and refuse what does not: nothing is left open in what a run saves.

    `config` is as the user gave it; `own` is the user's model, where it is not built from settings. UsageError if a
    name in it is unknown, a setting does nothing, or the likelihood cannot take `data`.
    """
    config = _with_own(config, own)
    check_numbers(config.model)
    scale = values.scale(config, data, own.likelihood if own else LIKELIHOODS.get(config.model.likelihood))
    choose(SCALES, scale, "scale")
    likelihood, variance = values.likelihood(config, data, scale)
    config = replace(config, model=replace(config.model, likelihood=likelihood, variance=variance))
    kind = own.likelihood if own else choose(LIKELIHOODS, likelihood, "likelihood")
    values.check(kind, likelihood, data, scale, config.data.binarise)
    if idle := unused(config, own):
        raise UsageError(f"{idle[0]} does nothing with {_described(config.model)}; leave it out")
    config = replace(config, model=_prior(config.model, len(data.train)))
    heard = schedules(config.model, own)
    target, alpha = _target(config, heard)
    config = Config(
        data=replace(config.data, scale=scale),
        model=replace(config.model, alpha=alpha),
        train=replace(config.train, target_l0=target, cap=_cap(config, heard, own)),
    )
    return replace(config, train=_training(config, data, own))


def _training(config: Config, data: Dataset, own: Autoencoder | None) -> TrainConfig:
    """Fill in what is open of the training, where all else is settled."""
    train, heard = config.train, schedules(config.model, own)
    steps = train.steps or (10_000 if len(data.train) > 10_000 else 2000)
    beta, relaxation, patience, clip = train.beta, train.relaxation, train.patience, train.clip
    learned = (own.likelihood if own else choose(LIKELIHOODS, config.model.likelihood, "likelihood")).learns_variances
    if beta is None and "beta" in heard:
        gates = (own or choose(MODELS, config.model.name, "model")).spiked
        beta = Schedule.parse("0 -> 1 at 0 over 0.1" if gates or learned else 1.0)
    if relaxation is None and "relaxation" in heard:
        relaxation = Schedule.parse(RELAXATION.get(config.model.spikes) or getattr(own, "relaxation", 1.0))
    if patience is None:
        pressed = train.penalty or (train.target_l0 and train.target_l0.corners)
        small = config.data.scale == "standard" and len(data.train) <= values.FEW
        patience = 0 if pressed or not len(data.valid) else 3 if small else 10 if learned and not train.target_l0 else 0
    known = {"steps": steps, "valid_every": train.valid_every or max(1, steps // 20), "patience": patience}
    clip = CLIP if clip is None and learned else clip
    target = train.target_l0
    # weights that are kept on the way would have another l0, and a prior that asks for few latents shuts them on it
    if target and not target.corners and not patience and not _asks(config, own):
        target = Schedule.parse(f"{ABOVE * target.last:g} -> {target.last:g} at 0.1 over 0.3")
    return replace(train, beta=beta, relaxation=relaxation, clip=clip, target_l0=target, **known)


ABOVE = 4.0
"""From how many times a target l0 one comes: where few may be on from the start, the same few soon always are."""


CLIP = 10.0
"""Largest norm of the gradient where variances are learned."""


def _with_own(config: Config, own: Autoencoder | None) -> Config:
    """Say in the settings what is known of a model that was made in Python; it has no others."""
    usual = ModelConfig()
    if own is None:
        if config.model.name == CUSTOM:
            raise UsageError("the model of this run was made in Python; give one like it: vsc.train(..., model=...)")
        return config
    changes = [name for name, value in vars(usual).items() if getattr(config.model, name) != value]
    if changes and config.model.name != CUSTOM:
        raise UsageError(f"model.{changes[0]} is for models built from settings, and this one is given; leave it out")
    names: dict[Any, str] = {member: name for family in (LIKELIHOODS, SPIKES) for name, member in family.items()}
    known = {
        "latent_dim": own.latent_dim,
        "likelihood": names.get(type(own.likelihood), CUSTOM),
        "spikes": names.get(getattr(own, "spikes", None), CUSTOM),
        "alpha": getattr(getattr(own, "prior", None), "alpha", usual.alpha),
    }
    return replace(config, model=replace(usual, name=CUSTOM, **known))


def schedules(model: ModelConfig, own: Autoencoder | None = None) -> frozenset[str]:
    """Return the names of the settings of training, but for the optimiser's, that bear on a model."""
    kind = own or choose(MODELS, model.name, "model")
    heard, prior = kind.schedules, getattr(own, "prior", None) if own else _gates(model)
    heard |= getattr(prior, "schedules", frozenset())
    if getattr(prior, "gates_open", False) or (not own and prior is FixedGates and model.alpha == 1):
        heard -= {"cap", "target_l0", "relaxation"}
    if own:
        return heard if getattr(own, "correlated", True) else heard - {"total_correlation"}
    choose(SPIKES, model.spikes, "spike estimator")
    return heard if model.spikes in RELAXATION else heard - {"relaxation"}


def taken(model: ModelConfig) -> set[str]:
    """Return the names of the settings of a model that a part of it takes."""
    if model.name == CUSTOM:
        return set(vars(model))
    kind = choose(MODELS, model.name, "model")
    parts = [kind, choose(NETS, model.net, "net"), choose(LIKELIHOODS, model.likelihood, "likelihood")]
    named = {"name", "net"}
    if (gates := _gates(model)) is not None:
        parts += [gates, choose(SLABS, _slab(model), "slab")]
        named |= {"gates", "slab", *(["selector"] if gates.mixture else [])}
    return named | {name for part in parts for name in _takes(part)}


def _slab(model: ModelConfig) -> str:
    """Name the slab that `auto` stands for, in a model with gates."""
    gates = _gates(model)
    return model.slab if model.slab != "auto" else "own" if gates is not None and gates.mixture else "unit"


def _gates(model: ModelConfig) -> type[Gates] | None:
    """
    Return the class of the prior's gates; None for a model without, or one made in Python.

    Of `auto`, while the data are not known, it is one that stands for both, or that which takes nu.
    """
    if model.name == CUSTOM or "prior" not in _takes(choose(MODELS, model.name, "model")):
        return None
    if model.gates == "auto":
        return MixtureGates if model.nu is None else PseudoInputGates
    return choose(GATES, model.gates, "gates")


MANY = 1000
"""Training examples from which on pseudo-inputs are the default: an encoder learns fewer by heart."""


def _prior(model: ModelConfig, examples: int) -> ModelConfig:
    """Fill in what is open of a model's prior, for so many training examples."""
    if _gates(model) is None:
        return model
    gates, components = model.gates, model.components
    if gates == "auto":
        gates = "pseudo-inputs" if examples >= MANY or model.nu is not None else "mixture"
    if GATES[gates].mixture:
        components = max(1, min(100, examples // 10)) if components is None else components
        if components > examples:
            raise UsageError(
                f"model.components is {components}, more than there are training examples, {examples}; leave it out"
            )
    return replace(model, gates=gates, slab=_slab(model), components=components)


def unused(config: Config, own: Autoencoder | None = None) -> list[str]:
    """Return the settings of the model and of training that are given, and do nothing for this model; dotted."""
    if config.model.name == CUSTOM and own is None:
        return []  # it cannot be known
    usual, heard = TrainConfig(), schedules(config.model, own) | {"lr"}
    names = [name for name in (*SCHEDULES, "cap") if name not in heard]
    found = [f"train.{name}" for name in names if getattr(config.train, name) != getattr(usual, name)]
    model, gates = config.model, _gates(config.model)
    if gates is not None and gates.mixture and not config.train.penalty and model.alpha != ModelConfig().alpha:
        found.append("model.alpha")
    return unused_by_model(model) + found


def unused_by_model(model: ModelConfig) -> list[str]:
    """Return the settings of a model that no part of it takes, and that are not at their defaults; dotted."""
    usual = vars(ModelConfig())
    named = model if model.likelihood != "auto" else replace(model, likelihood=next(iter(LIKELIHOODS)))
    idle = usual.keys() - taken(named)
    if model.likelihood == "auto":
        idle -= {"variance", "variance_floor"}  # auto may be any gaussian
    return [f"model.{name}" for name, value in usual.items() if name in idle and getattr(model, name) != value]


def without(config: Config, settings: Iterable[str]) -> Config:
    """Return `config` with dotted settings at their defaults."""
    usual = Config()
    return changed(config, {name: attrgetter(name)(usual) for name in settings})


def _described(model: ModelConfig) -> str:
    """Name the choices that decide what bears on a model."""
    choices = [name for name in ("gates", "slab", "likelihood", "spikes") if name in taken(model)]
    return ", ".join([f"model {model.name}", *(f"{name} {getattr(model, name)}" for name in choices)])


def _target(config: Config, heard: frozenset[str]) -> tuple[Schedule | None, float]:
    """Return the l0 to go to, None for none, and the alpha that goes with it."""
    model, target = config.model, config.train.target_l0
    if target is None and model.name != CUSTOM and MODELS[model.name].asks_l0 and not config.train.penalty:
        target = Schedule(float(max(1, round(model.latent_dim / 10))))
    if not target or "target_l0" not in heard:
        return target, model.alpha
    kind = MODELS.get(model.name, Autoencoder)
    counted = issubclass(kind, Counted)
    if target.last > model.latent_dim or (target.last == model.latent_dim and not counted):
        most = "at or below" if counted else "below"
        raise UsageError(
            f"train.target_l0 must be {most} the number of latents, {model.latent_dim}, in the end, not {target.last:g}"
        )
    if issubclass(kind, TopK) and target.last % 1:
        raise UsageError(
            f"train.target_l0 must be a whole number in the end with model topk, which keeps so many of each example, "
            f"not {target.last:g}; batch-topk keeps so many in the mean, and takes any number"
        )
    gates = _gates(model)
    if "alpha" not in taken(model) or (gates is not None and gates.mixture):
        return target, model.alpha
    alpha = target.last / model.latent_dim
    return target, model.alpha if math.isclose(alpha, model.alpha) else alpha  # resolving twice changes nothing


def _cap(config: Config, heard: frozenset[str], own: Autoencoder | None) -> float | None:
    """Return the largest share of the data that a latent may be on for; refuse one under which no target is met."""
    cap, J = config.train.cap, config.model.latent_dim
    if "cap" not in heard:
        return cap
    target = config.train.target_l0.last if config.train.target_l0 else 0.0
    if cap is None:
        return 1.0 if _asks(config, own) else min(1.0, max(CAP, FEWEST / math.sqrt(J), 1.25 * target / J))
    if cap * J < target:
        raise UsageError(
            f"train.target_l0 {target:g} cannot be met: with train.cap {cap:g}, at most {cap * J:g} of {J} latents are "
            f"on at once; raise train.cap above {target / J:.2g}, or model.latent_dim"
        )
    return cap


def _asks(config: Config, own: Autoencoder | None) -> bool:
    """Whether the prior, or the penalty, asks for few latents by itself."""
    gates = getattr(getattr(own, "prior", None), "gates", None) or _gates(config.model)
    return bool(gates is None or gates.sparse or config.train.penalty)


CAP, FEWEST = 0.4, 2.0
"""Share of the data that a latent may be on for where nothing is asked, and that of few latents, times sqrt(J)."""


FUNCTIONS = {"spikes": (SPIKES, "spike estimator"), "head": (HEADS, "head"), "selector": (SELECTORS, "selector")}
"""Settings that name a function, which is passed on as it is -> its family, and what that is called."""


def build_model(
    model: ModelConfig,
    shape: tuple[int, ...],
    device: str = "cpu",
    fields: tuple[Field, ...] = (),
    missing: bool = False,
    **known: Any,
) -> Autoencoder:
    """
    Build an untrained `model`, its likelihood named, in float32, with weights from torch's current random state.

    `shape` is one example's. The `device` is the CPU, or `meta` for a model without numbers, which shows whether one
    can be built. `fields` are what a table's columns are, `missing` says whether values of it may be, and `known` is
    what else the model's class takes and settings do not say.
    UsageError if a name is unknown, a value out of its range, or the model too large for this machine's memory.
    """
    size, memory = _bytes_to_train(model, shape, fields, missing), _memory()
    if size > memory:
        raise UsageError(
            f"to train this model takes {size / 2**30:.3g} GiB, and this machine has {memory / 2**30:.3g}; lower "
            "model.latent_dim, model.hidden or model.components"
        )
    with on(device):
        given = _given(model, shape) | _parts(model, shape, fields, missing) | {"missing": missing} | known
        return _made(choose(MODELS, model.name, "model"), given)


def build_likelihood(model: ModelConfig, fields: tuple[Field, ...] = ()) -> Likelihood:
    """Build the likelihood that a model's settings name, with its own settings; `fields` are a table's columns."""
    return _made(choose(LIKELIHOODS, model.likelihood, "likelihood"), _given(model, ()) | {"fields": fields})


def check_numbers(model: ModelConfig) -> None:
    """Refuse settings that are no numbers, or too large or small for 32 bits, by name."""
    for name, value in vars(model).items():
        if isinstance(value, float) and not (value == 0 or 1e-30 <= abs(value) <= 1e30):
            raise UsageError(f"model.{name} must be a number that 32 bits hold, between 1e-30 and 1e30, not {value}")
    at_least(1, model.latent_dim, "model.latent_dim")


def _given(model: ModelConfig, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return all that a part of the model may take, by name; None leaves it to the part's own default."""
    given = {name: value for name, value in vars(model).items() if value is not None}
    given |= {name: choose(family, given[name], what) for name, (family, what) in FUNCTIONS.items()}
    features = choose(MODELS, model.name, "model").features * model.latent_dim
    return given | {"shape": shape, "features": features, "inputs": math.prod(shape)}


def _parts(
    model: ModelConfig, shape: tuple[int, ...], fields: tuple[Field, ...] = (), missing: bool = False
) -> dict[str, nn.Module]:
    """Build what a model is made of."""
    M, given, likelihood = math.prod(shape), _given(model, shape), build_likelihood(model, fields)
    parts: dict[str, nn.Module] = {"likelihood": likelihood}
    if (gates := _gates(model)) is not None:
        given["gates"] = _made(gates, given)
        given["slab"] = _made(choose(SLABS, _slab(model), "slab"), given)
        parts["prior"] = _made(SpikeSlabPrior, given)
    front = Front(likelihood.counted(M), missing)
    given |= {"outputs": likelihood.outputs, "inputs": front.width, "width": likelihood.width(M)}
    parts["encoder"], parts["decoder"] = _made(choose(NETS, model.net, "net"), given)
    if front.counted.any() or missing:
        parts["encoder"] = nn.Sequential(front, parts["encoder"])
    return parts


def _made(make: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a class or function with what its signature names: so a member says itself which settings it takes."""
    return make(**{name: given[name] for name in _takes(make) if name in given})


def _takes(make: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(make).parameters)


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


def outline(
    model: ModelConfig, shape: tuple[int, ...], fields: tuple[Field, ...] = (), missing: bool = False
) -> dict[str, Tensor]:
    """
    Return the weights of the parts of a `model`, whose examples have a `shape`, without values: it takes no memory.

    `fields` and `missing` are as for `build_model`.
    """
    with on("meta"):
        return nn.ModuleDict(_parts(model, shape, fields, missing)).state_dict()


def _bytes_to_train(model: ModelConfig, shape: tuple[int, ...], fields: tuple[Field, ...], missing: bool) -> float:
    """Estimate what weights, gradients and Adam's two moments take."""
    try:
        return 16.0 * sum(weight.numel() for weight in outline(model, shape, fields, missing).values())
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
    M, likelihood = math.prod(data.shape), model.likelihood if model else build_likelihood(config.model, data.fields)
    with on("cpu"):
        scaler = fit_scaler(config.data.scale, data.train.x, data.high, likelihood.unscaled(M))
    known: dict[str, Any] = {"columns": data.features, "classes": data.classes, "binarise": config.data.binarise}
    known |= {"fields": data.fields, "missing": values.lacks(data)}
    if model is not None:
        model = model.to("cpu")
        model.adopt(scaler, **known)
        _check_told(model, data)
        return model
    own: dict[str, Any] = {"correlated": bool(config.train.total_correlation)}
    if config.train.relaxation is not None:
        own["relaxation"] = config.train.relaxation.last
    if config.train.target_l0 is not None:
        own["k"] = config.train.target_l0.last
    built = build_model(config.model, data.shape, "cpu", data.fields, known["missing"], **own)
    built.adopt(scaler, **known)
    if isinstance(built.encoder, nn.Sequential) and isinstance(front := built.encoder[0], Front):
        front.fit(built.scaler(data.train.x[:MOST]))
    if built.likelihood.learns_variances and config.data.scale not in ("standard", "whole"):  # in which it is 1
        built.likelihood.start_at(built.scaler(data.train.x[:MOST]))
    built.start_at(built.scaler(data.train.x[:SOME]))
    prior = getattr(built, "prior", None)
    if prior is not None and prior.wants:
        chosen = torch.randperm(len(data.train), device="cpu")[: prior.wants]
        x = built.scaler(data.train.x[chosen])
        if built.missing:  # what is missing of a pseudo-input starts at the column's mean
            x = torch.where(x.isnan(), moments_there(built.scaler(data.train.x))[0].to(x), x)
        prior.start_at(x)
    return built


SOME = 1024
"""Training examples that a model starts at."""
MOST = 100_000
"""Training examples that counts are standardised by, in what the encoder sees, and that variances start at."""


@torch.no_grad()
def _check_told(model: Autoencoder, data: Dataset) -> None:
    """Refuse missing values to an encoder of the user's that makes nothing of them."""
    if not model.missing:
        return
    lacking = torch.full((2, math.prod(data.shape)), math.nan)
    if not model.from_encoder(lacking).isfinite().all():
        raise UsageError(
            "values are missing, of which the model's encoder makes NaN; fill them first, or put before it a "
            "vsc.model.front.Front(counted, missing=True)"
        )
