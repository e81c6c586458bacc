"""From names to objects: the only place that looks the members of the families up."""

import math
from dataclasses import replace
from typing import Any

import torch

from vsc.data.split import Dataset
from vsc.errors import UsageError, choose
from vsc.model import MODELS, VSC, Autoencoder
from vsc.model.likelihoods import LIKELIHOODS, Likelihood
from vsc.model.priors import PRIORS, FreeMixturePrior, MixturePrior, NormalPrior, Prior, PseudoInputPrior
from vsc.model.scaling import SCALES, Scaler, fit_scaler
from vsc.model.spikes import SPIKES
from vsc.settings.config import Config, ModelConfig


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
    if config.train.total_correlation and choose(MODELS, config.model.name, "model") is not VSC:
        raise UsageError("train.total_correlation is that of a VSC's slabs; with model tcvae it is train.penalty")
    if config.data.binarise and scale != "unit-interval":
        raise UsageError(f"binarise needs values in [0, 1]: choose scale unit-interval, not {scale!r}")
    if steps is None:
        steps = 10_000 if len(data.train) > 10_000 else 2000
    kl_warmup = config.train.kl_warmup
    if kl_warmup is None:
        gates = choose(MODELS, config.model.name, "model").spiked
        kl_warmup = 0.1 if gates or likelihood in ("gaussian", "gaussian-shared", "laplace") else 0.0
    valid_every = config.train.valid_every or max(1, steps // 20)
    components = min(100, len(data.train)) if config.model.components is None else config.model.components
    target, alpha = _target(config)
    return Config(
        data=replace(config.data, scale=scale),
        model=replace(config.model, likelihood=likelihood, alpha=alpha, components=components),
        train=replace(config.train, steps=steps, kl_warmup=kl_warmup, valid_every=valid_every, target_l0=target),
    )


def _target(config: Config) -> tuple[float | None, float]:
    """Return the l0 to end with, None or 0 for none, and the alpha that goes with it."""
    model, target = config.model, config.train.target_l0
    mixture = model.name == "vsc" and model.prior in ("pseudo-inputs", "mixture")
    asked = config.train.penalty or config.train.price or config.train.price_start
    if target is None and mixture and not asked:
        return model.alpha * model.latent_dim, model.alpha
    if not target:
        return target, model.alpha
    if not choose(MODELS, model.name, "model").spiked or model.prior == "normal":
        raise UsageError("train.target_l0 needs latents that can be off: model vsc or thresholded-laplace")
    if target >= model.latent_dim:
        raise UsageError(f"train.target_l0 must be below the number of latents, {model.latent_dim}, not {target:g}")
    alpha = target / model.latent_dim
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
        model.correlated = config.train.total_correlation > 0
    if isinstance(model, VSC) and isinstance(model.prior, PseudoInputPrior):
        chosen = torch.randperm(len(data.train))[: model.prior.components]
        model.prior.start_at(model.scaler(data.train.x[chosen]))
    return model
