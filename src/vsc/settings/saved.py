"""What a saved model says of itself beside its weights, and the way back from there to a model."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vsc.errors import UsageError, short
from vsc.fields import field_of
from vsc.model import Autoencoder
from vsc.model.scaling import Scaler
from vsc.settings.build import Form, build_model, on, outline
from vsc.settings.config import ModelConfig, as_plain


def described(model: Autoencoder, settings: ModelConfig) -> dict[str, Any]:
    """Return, as JSON has it, what `restored` needs besides the weights."""
    return {
        "model": as_plain(asdict(settings)),
        "shape": list(model.shape),
        "scale": model.scaler.kind,
        "high": model.scaler.high,
        "binarise": model.binarise,
        "relaxation": getattr(model, "relaxation", None),
        "columns": list(model.columns),
        "fields": [[field.name, field.likelihood, list(field.levels)] for field in model.fields],
        "missing": model.missing,
        "classes": list(model.classes),
    }


def restored(
    saved: Mapping[str, Any], settings: ModelConfig, weights: dict[str, Tensor], model: Autoencoder | None = None
) -> Autoencoder:
    """
    Return a saved model in eval mode, on the CPU, of the `settings` that it has and its `weights`.

    `saved` is what `described` returned, with its format. A `model` of the user's, untrained, is given where settings
    do not say what it is. UsageError if the weights are those of another model.
    """
    if saved["format"] == 1:
        weights = _renamed(weights)
    if saved["format"] < 3:
        weights = _regrouped(weights, settings, {} if model is None else model.state_dict())
    fields = tuple(map(field_of, saved.get("fields", [])))
    form = Form(tuple(saved["shape"]), fields, saved.get("missing", False))
    _check_kept(saved, weights, form.size)
    with on("cpu"):
        scaler = Scaler(saved["scale"], weights["scaler.shift"], weights["scaler.factor"], saved.get("high"))
        if model is None:
            _check_same(outline(settings, form), weights)
            own = {} if saved.get("relaxation") is None else {"relaxation": saved["relaxation"]}
            model = build_model(settings, form, **own)
        names = tuple(saved["columns"]), tuple(saved["classes"])
        model.adopt(scaler, *names, saved.get("binarise", False), form.fields, form.missing)
        state = model.state_dict()
        if saved["format"] == 1:  # there, what is added at the start was added to the encoder's last bias
            weights |= {name: torch.zeros(()) for name in ("gate_init", "scale_init") if name in state}
        _check_same(state, weights, whole=True)
        model.load_state_dict(weights)
    return model.eval()


def _check_kept(saved: Mapping[str, Any], weights: Mapping[str, Tensor], M: int) -> None:
    """Refuse what is no setting and no weight, and of no use."""
    for name, kind in {"high": (int, float), "relaxation": (int, float), "binarise": bool, "missing": bool}.items():
        value = saved.get(name)
        if value is not None and not (isinstance(value, kind) and math.isfinite(value) and value >= 0):
            raise UsageError(f"{name} is {short(value)}")
    for name in ("scaler.shift", "scaler.factor"):
        kept = weights[name]
        if tuple(kept.shape) not in ((1,), (M,)) or not kept.is_floating_point():
            raise UsageError(f"{name} is {kept.dtype} of shape {tuple(kept.shape)}; the examples have {M} values")


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights of format 1 their names of today: values for what is off stood before the decoder's own layers."""
    if "decoder.0.value" not in weights:
        return dict(weights)
    names = {name: re.sub(r"^decoder\.1\.", "decoder.", name) for name in weights} | {"decoder.0.value": "off_value"}
    return {names[name]: value for name, value in weights.items()}


def _regrouped(weights: Mapping[str, Tensor], settings: ModelConfig, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """
    Give weights of formats 1 and 2 their names of today: the prior's gates and slab are parts of it.

    A model of the user's has `own` weights, whose names are those that they were: its prior may be the user's too.

    A value o_j for what is off becomes a slab about -o_j beside a spike at zero, with what the decoder makes of them
    unchanged: W (z - o) + (b + W o) = W z + b.
    """
    parts = {"spike_logits": "gates.spike_logits", "pseudo_inputs": "gates.pseudo_inputs"}
    if settings.slab == "own":
        parts |= {"mu": "own_slab.mu", "logvar": "own_slab.logvar"}
    found, unit = {}, () if settings.slab == "own" else ("prior.mu", "prior.logvar")
    for name, value in weights.items():
        part = name.removeprefix("prior.")
        if name in own or part == name:
            found[name] = value
        elif name not in unit:
            found["prior." + parts.get(part, part)] = value
    if (off := found.pop("off_value", None)) is not None:
        layers = [name for name in found if name.startswith("decoder.") and name.endswith("weight")]
        first = min(layers, key=lambda name: (len(name), name))  # decoder.2 before decoder.10, however they are kept
        bias = first.removesuffix("weight") + "bias"
        if bias not in found or found[first].shape[1:] != off.shape:
            raise UsageError("a value for what is off needs a decoder that begins with a linear layer and its bias")
        found[bias] = found[bias] + found[first] @ off
        found |= {"prior.own_slab.mean": -off, "prior.own_slab.logvar": torch.zeros_like(off)}
    return found


def _check_same(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], whole: bool = False) -> None:
    """Refuse weights that are those of another model, before they take memory or torch says so in many lines."""
    for name in [*expected, *(weights if whole else ())]:
        if name not in weights or name not in expected:
            raise UsageError(f"the weights are those of another model: {name} is in one of the two alone")
        if (there := tuple(weights[name].shape)) != (here := tuple(expected[name].shape)):
            raise UsageError(f"the weights are those of another model: {name} has shape {here}, and {there} was saved")
