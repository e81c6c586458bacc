"""From names to objects: the only place that looks the members of the families up."""

import math
from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch

from vsc.data.split import Dataset
from vsc.errors import UsageError, choose
from vsc.model import MODELS, VSC, Autoencoder
from vsc.model.likelihoods import LIKELIHOODS, Likelihood
from vsc.model.priors import PRIORS, FreeMixturePrior, MixturePrior, NormalPrior, Prior, PseudoInputPrior
from vsc.model.scaling import SCALES, Scaler, fit_scaler
from vsc.model.spikes import RELAXATION, SPIKES
from vsc.settings.config import SCHEDULES, Config, ModelConfig, TrainConfig
from vsc.settings.presets import changed
from vsc.settings.schedule import Schedule


def resolve(config: Config, data: Dataset) -> Config:
    """
    Replace every `auto` by what suits the data, and refuse what does not.

    Parameters
    ----------
    config : Config
        As the user gave it.
    data : Dataset
        The loaded data.

    Returns
    -------
    Config
        With nothing left open; this is what a run saves.

    Raises
    ------
    UsageError
        If a name is unknown or the likelihood cannot take the data.
    """
    scale, likelihood, steps = config.data.scale, config.model.likelihood, config.train.steps
    if scale == "auto":
        scale = "standard" if data.high is None else "unit-interval"
    choose(SCALES, scale, "scale")
    if likelihood == "auto":
        likelihood = "gaussian" if scale == "standard" else "bernoulli"
    if choose(LIKELIHOODS, likelihood, "likelihood").unit_interval and not _in_unit_interval(data, scale):
        raise UsageError(
            f"likelihood {likelihood!r} takes values in [0, 1], and scale {scale!r} leaves that range; "
            "choose scale unit-interval or likelihood gaussian"
        )
    if idle := unused(config):
        raise UsageError(f"{idle[0]} does nothing with {_described(config.model)}; leave it out")
    if config.data.binarise and scale != "unit-interval":
        raise UsageError(f"binarise needs values in [0, 1]: choose scale unit-interval, not {scale!r}")
    if steps is None:
        steps = 10_000 if len(data.train) > 10_000 else 2000
    heard, beta, relaxation = schedules(config.model), config.train.beta, config.train.relaxation
    if beta is None and "beta" in heard:
        gates = choose(MODELS, config.model.name, "model").spiked
        rises = gates or likelihood in ("gaussian", "gaussian-shared", "laplace")
        beta = Schedule.parse("0 -> 1 at 0 over 0.1" if rises else 1.0)
    if relaxation is None and "relaxation" in heard:
        relaxation = Schedule.parse(RELAXATION[config.model.spikes])
    valid_every = config.train.valid_every or max(1, steps // 20)
    components = min(100, len(data.train)) if config.model.components is None else config.model.components
    target, alpha = _target(config)
    return Config(
        data=replace(config.data, scale=scale),
        model=replace(config.model, likelihood=likelihood, alpha=alpha, components=components),
        train=replace(
            config.train, steps=steps, beta=beta, relaxation=relaxation, valid_every=valid_every, target_l0=target
        ),
    )


def schedules(model: ModelConfig) -> frozenset[str]:
    """Return the names of the settings of training, but for the optimiser's, that bear on a model."""
    kind, prior = choose(MODELS, model.name, "model"), choose(PRIORS, model.prior, "prior")
    choose(SPIKES, model.spikes, "spike estimator")
    heard = kind.schedules | prior.schedules if kind is VSC else kind.schedules
    if kind is VSC and prior.gates_open:
        heard -= {"spike_beta", "price", "target_l0", "relaxation"}
    return heard if model.spikes in RELAXATION else heard - {"relaxation"}


def unused(config: Config) -> list[str]:
    """Return the settings of training that are given, and do nothing for this model; dotted."""
    usual, heard = TrainConfig(), schedules(config.model) | {"lr"}
    names = [name for name in (*SCHEDULES, "prior_lr") if name not in heard]
    return [f"train.{name}" for name in names if getattr(config.train, name) != getattr(usual, name)]


def without(config: Config, settings: Iterable[str]) -> Config:
    """Return `config` with dotted settings at their defaults."""
    usual = Config()
    return changed(config, {name: attrgetter(name)(usual) for name in settings})


def _described(model: ModelConfig) -> str:
    """Name the choices that decide what bears on a model."""
    kind = MODELS[model.name]
    prior = f", prior {model.prior}" if kind is VSC else ""
    return f"model {model.name}{prior}" + (f", spikes {model.spikes}" if kind.spiked else "")


def _target(config: Config) -> tuple[Schedule | None, float]:
    """Return the l0 to go to, None or 0 for none, and the alpha that goes with it."""
    model, target = config.model, config.train.target_l0
    if target is None and "penalty" in schedules(model) and not (config.train.penalty or config.train.price):
        return Schedule(model.alpha * model.latent_dim), model.alpha
    if not target:
        return target, model.alpha
    if target.last >= model.latent_dim:
        raise UsageError(
            f"train.target_l0 must end below the number of latents, {model.latent_dim}, not at {target.last:g}"
        )
    alpha = target.last / model.latent_dim
    return target, model.alpha if math.isclose(alpha, model.alpha) else alpha  # resolving twice changes nothing


def _in_unit_interval(data: Dataset, scale: str) -> bool:
    x = data.train.x
    if scale in ("unit-norm", "none"):
        return bool(x.min() >= 0 and (scale == "unit-norm" or x.max() <= 1))
    return scale == "unit-interval"


def build_model(model: ModelConfig, shape: tuple[int, ...], scaler: Scaler) -> Autoencoder:
    """
    Build an untrained model.

    Parameters
    ----------
    model : ModelConfig
        With a likelihood named (`resolve`).
    shape : tuple of int
        One example's shape.
    scaler : Scaler
        From stored values to model inputs.

    Returns
    -------
    Autoencoder
        With weights from torch's current random state.

    Raises
    ------
    UsageError
        If a name is unknown or a value out of its range.
    """
    kind = choose(MODELS, model.name, "model")
    choose(SPIKES, model.spikes, "spike estimator")
    settings: dict[str, Any] = {
        "shape": shape,
        "latent_dim": model.latent_dim,
        "net": model.net,
        "hidden": tuple(model.hidden),
        "likelihood": build_likelihood(model),
        "scaler": scaler,
    }
    choose(PRIORS, model.prior, "prior")
    if kind.spiked:
        settings |= {"alpha": model.alpha, "spike_estimator": model.spikes}
    if kind is VSC:
        prior = build_prior(model, math.prod(shape))
        settings |= {"prior": prior, "head": model.head, "gate_init": model.gate_init, "off_value": model.off_value}
    return kind(**settings)


def build_prior(model: ModelConfig, inputs: int) -> Prior:
    """Build the prior that a VSC's settings name, with its own settings, for examples of M = `inputs` values."""
    kind = choose(PRIORS, model.prior, "prior")
    settings: dict[str, Any] = {"latent_dim": model.latent_dim}
    if kind is not NormalPrior:
        settings["alpha"] = model.alpha
    if issubclass(kind, MixturePrior):
        settings |= {"inputs": inputs, "components": model.components, "selector": model.selector}
        settings["unit_slab"] = model.unit_slab
    if kind is PseudoInputPrior:
        settings["nu"] = model.nu
    if kind is FreeMixturePrior:
        settings["gate_init"] = model.gate_init
    return kind(**settings)


def build_likelihood(model: ModelConfig) -> Likelihood:
    """Build the likelihood that a model's settings name, with its own settings."""
    kind = choose(LIKELIHOODS, model.likelihood, "likelihood")
    floor = {"variance_floor": model.variance_floor}
    settings = {
        "gaussian": floor,
        "gaussian-shared": floor,
        "laplace": floor,
        "gaussian-fixed": {"variance": model.variance},
    }
    return kind(**settings.get(model.likelihood, {}))


def new_model(config: Config, data: Dataset) -> Autoencoder:
    """Build the untrained model of a resolved config, its scaler fitted to the training set."""
    assert config.data.scale != "auto"
    model = build_model(config.model, data.shape, fit_scaler(config.data.scale, data.train.x, data.high))
    model.columns, model.classes = data.features, data.classes
    if isinstance(model, VSC):
        model.correlated = bool(config.train.total_correlation)
    if isinstance(model, VSC) and isinstance(model.prior, PseudoInputPrior):
        chosen = torch.randperm(len(data.train))[: model.prior.components]
        model.prior.start_at(model.scaler(data.train.x[chosen]))
    return model
