"""Settings as they were given become settings with nothing left open, by what suits the data and the model."""

import math
from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any

from vsc.data.split import Dataset
from vsc.errors import UsageError, at_least, choose
from vsc.model import MODELS, Autoencoder
from vsc.model.likelihoods import LIKELIHOODS
from vsc.model.nets import NETS
from vsc.model.peers import TopK
from vsc.model.peers.topk import Counted
from vsc.model.priors import GATES, SLABS, FixedGates
from vsc.model.scaling import SCALES
from vsc.model.spikes import RELAXATION, SPIKES
from vsc.settings import values
from vsc.settings.build import CUSTOM, gates_of, slab_of, takes
from vsc.settings.config import SCHEDULES, Config, ModelConfig, TrainConfig
from vsc.settings.presets import changed
from vsc.settings.schedule import Schedule

ABOVE = 4.0
"""From how many times a target l0 one comes: where few may be on from the start, the same few soon always are."""
CLIP = 10.0
"""Largest norm of the gradient where variances are learned."""
MANY = 1000
"""Training examples from which on pseudo-inputs are the default: an encoder learns fewer by heart."""
CAP, FEWEST = 0.4, 2.0
"""Share of the data that a latent may be on for where nothing is asked, and that of few latents, times sqrt(J)."""


def resolve(config: Config, data: Dataset, own: Autoencoder | None = None) -> Config:
    """
    Replace every `auto` by what suits the data, and refuse what does not: nothing is left open in what a run saves.

    `config` is as the user gave it; `own` is the user's model, where it is not built from settings. UsageError if a
    name in it is unknown, a setting does nothing, or the likelihood cannot take `data`.
    """
    config = _with_own(config, own)
    check_numbers(config.model)
    likelihood = own.likelihood if own else LIKELIHOODS.get(config.model.likelihood)
    scale = values.scale(config, data, likelihood)
    choose(SCALES, scale, "scale")
    name, variance = values.likelihood(config, data, scale)
    likelihood = own.likelihood if own else choose(LIKELIHOODS, name, "likelihood")
    values.check(likelihood, name, data, scale, config.data.binarise)
    config = replace(config, model=replace(config.model, likelihood=name, variance=variance))
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
    return replace(config, train=_training(config, data, heard, likelihood.learns_variances, own))


def check_numbers(model: ModelConfig) -> None:
    """Refuse settings that are no numbers, or too large or small for 32 bits, by name."""
    for name, value in vars(model).items():
        if isinstance(value, float) and not (value == 0 or 1e-30 <= abs(value) <= 1e30):
            raise UsageError(f"model.{name} must be a number that 32 bits hold, between 1e-30 and 1e30, not {value}")
    at_least(1, model.latent_dim, "model.latent_dim")


def _training(
    config: Config, data: Dataset, heard: frozenset[str], learned: bool, own: Autoencoder | None
) -> TrainConfig:
    """Fill in what is open of the training, where all else is settled, and variances are `learned` or not."""
    train, target = config.train, config.train.target_l0
    steps = train.steps or (10_000 if len(data.train) > 10_000 else 2000)
    found: dict[str, Any] = {"steps": steps, "valid_every": train.valid_every or max(1, steps // 20)}
    if train.beta is None and "beta" in heard:
        warmed = learned or (own or MODELS[config.model.name]).spiked
        found["beta"] = Schedule.parse("0 -> 1 at 0 over 0.1" if warmed else 1.0)
    if train.relaxation is None and "relaxation" in heard:
        found["relaxation"] = Schedule.parse(RELAXATION.get(config.model.spikes) or getattr(own, "relaxation", 1.0))
    if train.clip is None and learned:
        found["clip"] = CLIP
    patience = train.patience
    if patience is None:
        pressed = train.penalty or (target and target.corners)
        small = config.data.scale == "standard" and len(data.train) <= values.FEW
        patience = 0 if pressed or not len(data.valid) else 3 if small else 10 if learned and not target else 0
    # weights that are kept on the way would have another l0, and a prior that asks for few latents shuts them on it
    if target and not target.corners and not patience and not _asks(config, own):
        found["target_l0"] = Schedule.parse(f"{ABOVE * target.last:g} -> {target.last:g} at 0.1 over 0.3")
    return replace(train, patience=patience, **found)


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
    heard, prior = kind.schedules, getattr(own, "prior", None) if own else gates_of(model)
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
    if (gates := gates_of(model)) is not None:
        parts += [gates, choose(SLABS, slab_of(model), "slab")]
        named |= {"gates", "slab", *(["selector"] if gates.mixture else [])}
    return named | {name for part in parts for name in takes(part)}


def _prior(model: ModelConfig, examples: int) -> ModelConfig:
    """Fill in what is open of a model's prior, for so many training examples."""
    if gates_of(model) is None:
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
    return replace(model, gates=gates, slab=slab_of(model), components=components)


def unused(config: Config, own: Autoencoder | None = None) -> list[str]:
    """Return the settings of the model and of training that are given, and do nothing for this model; dotted."""
    if config.model.name == CUSTOM and own is None:
        return []  # it cannot be known
    usual, heard = TrainConfig(), schedules(config.model, own) | {"lr"}
    names = [name for name in (*SCHEDULES, "cap") if name not in heard]
    found = [f"train.{name}" for name in names if getattr(config.train, name) != getattr(usual, name)]
    model, gates = config.model, gates_of(config.model)
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
    gates = gates_of(model)
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
    gates = getattr(getattr(own, "prior", None), "gates", None) or gates_of(config.model)
    return bool(gates is None or gates.sparse or config.train.penalty)
