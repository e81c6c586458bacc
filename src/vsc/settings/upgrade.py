"""Settings as earlier versions wrote them, read as those of today."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from vsc.errors import UsageError
from vsc.files import read_yaml
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.settings.schedule import Corner, Schedule

FORMAT = 3
"""Of config.yaml, comparison.yaml and model/config.json: the number that is written into them, and checked."""


GONE = {
    **dict.fromkeys(("lr_first", "lr_hold", "lr_final", "lr_drop", "lr_ramp"), ("lr",)),
    "kl_warmup": ("beta",),
    **dict.fromkeys(("spike_hold", "spike_ramp"), ("total_correlation",)),
    "price_start": (),
    **dict.fromkeys(("penalty_hold", "penalty_ramp"), ("penalty", "target_l0")),
    **dict.fromkeys(("lam_hold", "lam_ramp"), ("lam",)),
    **dict.fromkeys(("temperature", "temperature_final", "sharpness", "sharpness_final"), ("relaxation",)),
}
"""Settings of training that format 1 had -> what they are part of now."""

USUAL = {
    "lr": 1e-3,
    "lr_drop": 0.5,
    "beta": 1.0,
    "temperature": 0.7,
    "temperature_final": 0.3,
    "sharpness": 50.0,
    "sharpness_final": 200.0,
}
"""Their defaults in format 1; those of the others were 0 or None."""

PRIORS: dict[Any, dict[str, Any]] = {
    "normal": {"gates": "fixed", "slab": "unit", "alpha": 1.0},
    "spike-slab": {"gates": "fixed", "slab": "unit"},
    "learned": {"gates": "learned", "slab": "unit"},
    "pseudo-inputs": {"gates": "pseudo-inputs", "slab": "own"},
    "mixture": {"gates": "mixture", "slab": "own"},
}
"""The priors of formats 1 and 2 -> the settings that they are now."""

LEFT = {"prior_lr": 1.0, "slab_beta": 1.0, "spike_beta": 1.0, "price": 0.0}
"""Settings of training that formats 1 and 2 had, which no longer exist -> what did nothing."""

INSTEAD = {
    "model.prior": "model.gates, which is fixed, learned, mixture or pseudo-inputs",
    "model.unit_slab": "model.slab unit",
    "model.off_value": "model.slab learned with model.slab_mean 3 for an off value of -3",
    "train.price": "train.cap or train.target_l0, which find the price themselves",
    "train.price_start": "train.cap or train.target_l0, which find the price themselves",
    "train.prior_lr": "nothing: gates that are learned have a pace of their own",
    "train.slab_beta": "train.beta",
    "train.spike_beta": "train.beta",
    "train.spike_hold": "train.beta",
    "train.spike_ramp": "train.beta",
}
"""Settings of earlier versions -> what to take now."""

GATED = ("vsc", "thresholded-laplace")
MIXTURES = ("pseudo-inputs", "mixture")


def upgraded(plain: Mapping[str, Any], where: str = "the settings") -> dict[str, Any]:
    """
    Return plain settings of any format as those of this one, without their format number.

    Parts may be missing, and what else is there is left as it is. Without a `format`, settings that have names of
    format 1 are of format 1: what is given of a schedule stands for all of it, the rest being at the defaults of then,
    and what did nothing for a model is left out. UsageError, which says `where` they were read, if a newer version
    wrote them or a value is not what it should be.
    """
    new = {name: dict(part) if isinstance(part, Mapping) else part for name, part in plain.items() if name != "format"}
    model, train = new.get("model") or {}, new.get("train") or {}
    number = plain.get("format", 1)
    if type(number) is not int or number < 1:
        raise UsageError(f"{where}: format is a whole number, not {str(number)[:40]!r}")
    if number > FORMAT:
        raise UsageError(f"{where} was written by a newer version (format {number}, not {FORMAT}); update")
    if number == FORMAT or not isinstance(train, dict) or not isinstance(model, dict):
        return new
    if number == 1:
        new = _first(new, plain, where)
    return _second(new, number == 2 or "format" in plain, where)


def _first(new: dict[str, Any], plain: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Turn settings of format 1 into those of format 2."""
    model, train = new.get("model") or {}, new.get("train") or {}
    old, one = GONE.keys() & train.keys(), "models" not in new
    if old or (model.get("name") == "tcvae" and "penalty" in train and "total_correlation" not in train):
        try:
            new["train"] = _train(train, model, one)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}: {', '.join(sorted(old))} cannot be read: {error}") from error
    if one and ("format" in plain or {"lam_hold", "lr_first"} <= old):  # written whole, with what it did not heed
        new["model"] = _model(model)
    return new


def _second(new: dict[str, Any], saved: bool, where: str) -> dict[str, Any]:
    """
    Turn settings of format 2 into those of format 3.

    Of those that we `saved`, what no longer exists is left out, since their training is over; else it is refused.
    """
    model, train = dict(new.get("model") or {}), dict(new.get("train") or {})
    for name, idle in LEFT.items():
        value = train.pop(name, idle)
        if not saved and value not in (idle, None):
            raise UsageError(f"{where}: train.{name} no longer exists; take {INSTEAD[f'train.{name}']}")
    prior, off = model.pop("prior", None), model.pop("off_value", 0.0)
    if saved and model and model.get("name", "vsc") in (*GATED, "custom"):
        prior = prior or "spike-slab"
        if prior in MIXTURES and train.get("target_l0") is None and not (train.get("penalty") or train.get("price")):
            train["target_l0"] = model.get("alpha", 0.1) * model.get("latent_dim", 32)
        train["cap"] = 1.0
    if train.get("target_l0") == 0:
        train["target_l0"] = None
    if prior is not None:
        if prior not in PRIORS:
            raise UsageError(f"{where}: instead of model.prior, take {INSTEAD['model.prior']}")
        model |= PRIORS[prior]
    if model.pop("unit_slab", False):
        model["slab"] = "unit"
    if off and model.get("slab") == "own":
        raise UsageError(
            f"{where}: model.off_value goes with slabs that components share; take slab learned, slab_mean"
        )
    if off:
        model |= {"slab": "learned", "slab_mean": -off}
    return new | ({"model": model} if "model" in new else {}) | ({"train": train} if "train" in new else {})


def read_settings(path: str | Path) -> dict[str, Any]:
    """
    Read settings of any format from a YAML file, a user's own or a run's, as `upgraded` returns them.

    UsageError, one short line, if it is damaged or not a file of settings; OSError if it cannot be read.
    """
    try:
        if Path(path).stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST // 1000} kB")
        plain = read_yaml(path)
        if not isinstance(plain, dict):
            raise ValueError("it holds no settings, which are written as `train: {steps: 100}`")
        for part in ("data", "model", "train"):
            if not isinstance(plain.get(part, {}), dict):
                raise ValueError(f"{part} is a group of settings, as in `{part}: {{NAME: VALUE}}`")
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {str(error)[:200]}") from error
    return upgraded(plain, str(path))


LARGEST = 100_000
"""Bytes of a file of settings that are read."""


def from_plain(plain: Mapping[str, Any], where: str) -> Config:
    """
    Return settings from `upgraded` as what they are; those that are not there are at their defaults.

    UsageError, which says `where` they were read, if they are damaged or hold an unknown setting.
    """
    parts: dict[str, Any] = {}
    for part, kind in (("data", DataConfig), ("model", ModelConfig), ("train", TrainConfig)):
        given = plain.get(part, {})
        if not isinstance(given, Mapping):
            raise UsageError(f"{where} is damaged: {part} is no group of settings")
        known = {one.name for one in fields(kind)}
        if unknown := [str(name)[:40] for name in given if name not in known]:
            raise UsageError(f"{where} has the unknown setting {part}.{unknown[0]}; another version wrote it")
        try:
            parts[part] = kind(**given)
        except (TypeError, OverflowError) as error:
            raise UsageError(f"{where} is damaged: {part}: {error}") from error
        except UsageError as error:
            raise UsageError(f"{where} is damaged: {error}") from error
    return Config(**parts)


def _train(old: dict[str, Any], model: Mapping[str, Any], one: bool) -> dict[str, Any]:
    """Turn the training settings of format 1, of one model or of several, into schedules."""
    name, given = model.get("name", "vsc"), set(old)

    def of(setting: str) -> Any:
        return old.get(setting, USUAL.get(setting))

    held, ramped = of("penalty_hold") or 0.0, of("penalty_ramp") or 0.0
    formed = of("spike_hold") or 0.0
    new = {key: value for key, value in old.items() if key not in GONE}
    if given & {"lr", "lr_first", "lr_hold", "lr_final", "lr_drop", "lr_ramp"}:
        new["lr"] = _lr(of)
    if given & {"beta", "kl_warmup"}:
        new["beta"] = _beta(of, model)
    if "patience" in old and old["patience"] is None:  # which was off
        new["patience"] = 0
    if given & {"total_correlation", "spike_hold"}:
        new["total_correlation"] = _ramp(0.0, of("total_correlation") or 0.0, 0.0, formed)
    if given & {"lam_hold", "lam_ramp"}:
        new["lam"] = _ramp(0.0, 1.0, of("lam_hold") or 0.0, of("lam_ramp") or 0.0)
    if given & {"penalty", "price", "price_start", "penalty_hold", "penalty_ramp"}:
        new["penalty"] = _ramp(0.0, of("penalty") or 0.0, held, ramped)
    if given & {"target_l0", "penalty_hold", "penalty_ramp"}:
        new["target_l0"] = _target(of, model, held, ramped)
    if given & {"temperature", "temperature_final", "sharpness", "sharpness_final"}:
        usual = all(of(setting) == USUAL[setting] for setting in GONE if setting.startswith(("temp", "sharp")))
        new["relaxation"] = None if usual and not one else _relaxation(of, model, given)
    if name == "tcvae" and "penalty" in new:
        new["total_correlation"] = new.pop("penalty")
    return {key: value for key, value in new.items() if not one or key not in _deaf(model)}


def _deaf(model: Mapping[str, Any]) -> set[str]:
    """Return the settings that format 1 took for a model, and that did nothing."""
    name, prior = model.get("name", "vsc"), model.get("prior", "spike-slab")
    gates = {"target_l0", "relaxation"}
    if name != "vsc":
        deaf = {"lam", "penalty"} | (set() if name == "thresholded-laplace" else gates)
        return deaf | (set() if name == "tcvae" else {"total_correlation"}) | ({"beta"} if name == "ae" else set())
    return (set() if prior in MIXTURES else {"penalty"}) | (gates if prior == "normal" else set())


def _model(old: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a model's settings what format 1 wrote and the model did not heed."""
    name, prior = old.get("name", "vsc"), old.get("prior", "spike-slab")
    deaf: set[str] = set()
    if name != "vsc":
        deaf |= {"prior", "head", "gate_init", "off_value"}
    if name not in GATED:
        deaf |= {"alpha", "spikes"}
    if name != "vsc" or prior not in MIXTURES:
        deaf |= {"components", "selector", "unit_slab", "nu"}
    if prior == "mixture":
        deaf |= {"nu"}
    if old.get("likelihood") != "gaussian-fixed":
        deaf |= {"variance"}
    return {key: value for key, value in old.items() if key not in deaf}


def _ramp(start: float, end: float, at: float, over: float) -> float | str:
    """Return `start` up to `at`, then a line to `end` over `over`."""
    if start == end or (at == 0 and over == 0):
        return Schedule(end).plain
    return Schedule(start, (Corner(end, at, over),)).plain


def _lr(of) -> float | str:
    lr, first, hold = of("lr"), of("lr_first"), of("lr_hold") or 0.0
    last, drop, ramp = of("lr_final") or of("lr"), of("lr_drop"), of("lr_ramp") or 0.0
    falls = (Corner(last, drop, ramp),) if last != lr else ()
    if not first or not hold:
        return Schedule(lr, falls).plain
    if hold > drop and falls:  # it takes up the fall where that has come to
        falls = (Corner(last, hold, max(drop + ramp - hold, 0.0)),)
        lr = lr + (last - lr) * min((hold - drop) / ramp, 1.0) if ramp else last
    return Schedule(first, (Corner(lr, hold, 0.0), *falls)).plain


def _beta(of, model) -> float | str | None:
    beta, warmup = of("beta"), of("kl_warmup")
    if warmup is None:
        if beta == 1:
            return None
        learned = model.get("likelihood") in ("gaussian", "gaussian-shared", "laplace")
        warmup = 0.1 if model.get("name", "vsc") in GATED or learned else 0.0
    return _ramp(0.0, beta, 0.0, warmup)


def _target(of, model, held: float, ramped: float) -> float | str | None:
    J, target = model.get("latent_dim", 32), of("target_l0")
    asked = of("penalty") or of("price") or of("price_start")
    if target is None and model.get("prior") in MIXTURES and not asked and (held or ramped):
        target = model.get("alpha", 0.1) * J
    return _ramp(J, target, held, ramped) if target else target


def _relaxation(of, model, given: set[str]) -> float | str | None:
    spikes = model.get("spikes")
    if spikes in ("mean", "disarm", "rloo", "exact"):
        return None
    sharp = spikes == "sigmoid" or (spikes is None and not given & {"temperature", "temperature_final"})
    first, last = (of("sharpness"), of("sharpness_final")) if sharp else (of("temperature"), of("temperature_final"))
    return _ramp(first, first if last is None else last, 0.0, 1.0)
