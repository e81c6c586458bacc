"""To and from SAELens: cfg.json and sae_weights.safetensors, as `SAE.load_from_disk` reads them."""

import copy
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsc.errors import RunError, UsageError, first_line, short
from vsc.files import as_json, read_json, whole
from vsc.model import VSC, Autoencoder
from vsc.model.applied import evaluating
from vsc.model.likelihoods import GaussianFixed, GaussianShared
from vsc.model.nets import Dictionary
from vsc.model.peers import Gated, JumpReLU, TopK
from vsc.model.peers.topk import Batched
from vsc.model.scaling import Examples

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
FORMAT = "6.0.0"
"""The version of SAELens whose files these are; those of a later major version may mean something else."""
ROWS = 1024
"""Examples that are looked at together."""
FLAT = 1e-6
"""Least slope of a value over its gate: SAELens' is e^r."""


class Written(NamedTuple):
    """
    How far a SAELens model does what ours does.

    Attributes
    ----------
    architecture : str
        SAELens' name of it.
    values : float
        Root mean square of the difference of codes, as a share of the codes'; where a latent is on is the same.
    fvu, ours : float
        Unexplained variance of the examples by the SAELens model, and by ours.
    """

    architecture: str
    values: float
    fvu: float
    ours: float


Weights = dict[str, Tensor]
"""SAELens' names -> numbers."""


class Linear(NamedTuple):
    """An affine map of stored examples: x weight + bias, (M, J) and (J,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.to(self.weight), self.weight)


def write(model: Autoencoder, folder: str | Path, x: Any) -> Written:
    """
    Write a model with a linear encoder and decoder as SAELens has them, both files or neither.

    Sparse autoencoders (`vsc.model.peers`) are written as they are; of BatchTopK and Matryoshka, what they do after
    training: `jumprelu` with one threshold. A VSC is written as `gated`, whose gates are ours: 1[x W + b > 0], with the
    spike logit as x W + b. Values are ReLU(e^r x W + c) there, in the gate's direction and of one sign. They are ours
    where the model's have both (net lista without refinements shares the direction), else r and c are those of least
    squared error where the latent is on; the direction of a latent that is mostly negative is turned around.

    Parameters
    ----------
    model : Autoencoder
        A `VSC`, `TopK`, `BatchTopK`, `Matryoshka`, `JumpReLU` or `Gated` whose encoder is linear and whose decoder is a
        `Dictionary`, with a Gaussian likelihood.
    folder : str or Path
        Where to; it is made if it is missing.
    x : array_like, shape (N, M)
        Examples as stored, to fit the values to.

    Returns
    -------
    Written
        What is lost.

    Raises
    ------
    UsageError
        If it is another model, its examples are scaled one by one, or its encoder is not linear.
    """
    from safetensors.torch import save

    maps = linear(model)
    folder, stored = Path(folder), model.stored(x)
    if folder.suffix == ".safetensors" or folder.is_file():
        raise UsageError(f"out is a folder, for {CONFIG} and {WEIGHTS}, and {str(folder)!r} is a file's name")
    about, weights, unit = _gates(model, maps, stored) if isinstance(model, VSC) else _as_it_is(model, maps[0])
    weights = {name: weight.detach().float().contiguous() for name, weight in weights.items()}
    M, J = weights["W_enc"].shape
    config = about | {"d_in": M, "d_sae": J, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": False}
    config |= {"normalize_activations": "none", "reshape_activations": "none"}
    by = f"variational-sparse-coding {version('variational-sparse-coding')}"
    config |= {"metadata": {"sae_lens_version": FORMAT, "written_by": by}}
    with whole(folder / CONFIG) as first, whole(folder / WEIGHTS) as second:
        first.write_text(as_json(config), encoding="utf-8")  # neither has its name before both are on the disk
        second.write_bytes(save(weights))
    with evaluating(model):
        return _compared(model, about, weights, unit.float(), stored)


def _decoder(model: Autoencoder) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the dictionary and the weights of SAELens' decoder, both in stored units."""
    assert isinstance(model.decoder, Dictionary)
    dictionary = (model.decoder.weight / model.scaler.factor).detach()
    return dictionary, {"W_dec": dictionary, "b_dec": model.scaler.inverse(model.decoder.bias.detach())}


def _gates(model: Autoencoder, maps: list[Linear], x: Examples) -> tuple[dict[str, Any], Weights, Tensor]:
    """Return the settings and weights of a VSC, and what its codes are multiplied with, (J,)."""
    gate, (slope, shift, sign) = maps[0], _fitted(maps[0], maps[1], x)
    dictionary, weights = _decoder(model)
    norm = dictionary.norm(dim=1)
    weights |= {"W_dec": sign[:, None] * dictionary / norm[:, None], "W_enc": gate.weight, "b_gate": gate.bias}
    weights |= {"r_mag": (slope * norm).log(), "b_mag": (shift + slope * gate.bias) * norm}
    return {"architecture": "gated"}, weights, sign * norm


def _as_it_is(model: Autoencoder, pre: Linear) -> tuple[dict[str, Any], Weights, Tensor]:
    """Return the same of a sparse autoencoder, whose codes stay as they are."""
    weights = _decoder(model)[1] | {"W_enc": pre.weight}
    about: dict[str, Any] = {"architecture": "jumprelu"}
    if isinstance(model, Gated):
        about = {"architecture": "gated"}
        weights |= {
            "b_gate": pre.bias - model.opens,
            "r_mag": model.log_scale,
            "b_mag": model.shift + model.log_scale.exp() * pre.bias,
        }
    elif isinstance(model, TopK):
        about = {"architecture": "topk", "k": int(model.k), "rescale_acts_by_decoder_norm": False}
        weights |= {"b_enc": pre.bias}
    else:
        assert isinstance(model, Batched | JumpReLU)
        reach = model.threshold
        if isinstance(model, Batched):  # ours keep what reaches the threshold of a batch, and SAELens what exceeds it
            reach = torch.nextafter(reach, torch.zeros(()))
        weights |= {"b_enc": pre.bias, "threshold": reach.detach().expand(model.latent_dim)}
    return about, weights, torch.ones(model.latent_dim)


def linear(model: Autoencoder) -> list[Linear]:
    """Return what the encoder makes of stored examples, found by trying: spike logits and values, or the one output."""
    if not isinstance(model, VSC | TopK | Batched | JumpReLU | Gated) or not isinstance(model.decoder, Dictionary):
        raise UsageError("SAELens has linear decoders: only a vsc or sae with model.net linear can be written for it")
    if not isinstance(model.likelihood, GaussianFixed | GaussianShared):
        raise UsageError("SAELens has no likelihoods: train with model.likelihood gaussian-shared")
    if model.scaler.kind in ("unit-norm", "unit-interval"):
        raise UsageError(f"SAELens does not scale by data.scale {model.scaler.kind}; train with none, or standard")
    exact = copy.deepcopy(model).cpu().double()
    M = math.prod(model.shape)

    def outputs(x: Tensor) -> Tensor:
        if isinstance(exact, VSC):
            return torch.stack([(qz := exact.posterior(x)).spike_logits, qz.mu])  # (2, B, J)
        return exact.from_encoder(x)[None]

    with evaluating(exact):
        zero = outputs(torch.zeros(1, M, dtype=torch.float64))
        weight = torch.cat([outputs(rows) - zero for rows in torch.eye(M, dtype=torch.float64).split(ROWS)], 1)
        x = torch.randn(16, M, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        there, found = x @ weight + zero, outputs(x)
    if not torch.allclose(there, found, rtol=1e-6, atol=1e-6 * float(found.abs().max())):
        raise UsageError("SAELens has linear encoders: train with model.net linear, or lista without refinements")
    factor, shift = model.scaler.factor.double().expand(M), model.scaler.shift.double().expand(M)
    return [
        Linear(factor[:, None] * part, (constant - (shift * factor) @ part)[0])
        for part, constant in zip(weight, zero, strict=True)
    ]


def _fitted(gate: Linear, value: Linear, x: Examples) -> tuple[Tensor, Tensor, Tensor]:
    """Return slope, shift and sign, (J,), with which each latent's value follows its gate best where that is open."""
    n, g, m, gg, gm = torch.zeros(5, gate.weight.shape[1], dtype=torch.float64)
    for part in x.split(ROWS):
        logit, size = gate(part), value(part)
        on = (logit > 0).double()
        for total, term in ((n, on), (g, on * logit), (m, on * size), (gg, on * logit**2), (gm, on * logit * size)):
            total += term.sum(0)
    sign = torch.where(m < 0, -1.0, 1.0).double()
    g, m, gg, gm = g / n.clamp_min(1), sign * m / n.clamp_min(1), gg / n.clamp_min(1), sign * gm / n.clamp_min(1)
    slope = (gm - g * m) / (gg - g**2).clamp_min(1e-12)
    slope = torch.where(n > 1, slope, 0.0).clamp_min(FLAT)
    return slope, m - slope * g, sign


def _compared(model: Autoencoder, about: dict[str, Any], weights: Weights, unit: Tensor, x: Examples) -> Written:
    """Compare codes, in `unit` of ours, and reconstructions."""
    mean = torch.cat([part.double().mean(0, keepdim=True) * len(part) for part in x.split(ROWS)]).sum(0) / len(x)
    squares = torch.zeros(5, dtype=torch.float64)
    for part in x.split(ROWS):
        z, theirs, part = model.encode(part).hard * unit, _codes(about, weights, part), part.double()
        lost = part - theirs @ weights["W_dec"] - weights["b_dec"]
        ours = part - model.scaler.inverse(model.decode(z / unit))
        squares += torch.stack([one.square().sum().double() for one in (theirs - z, z, lost, ours, part - mean)])
    far, size, lost, ours, variance = squares
    return Written(
        about["architecture"], float((far / size).sqrt().nan_to_num()), float(lost / variance), float(ours / variance)
    )


def _codes(about: Mapping[str, Any], weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return the codes of stored examples x (B, M) as SAELens' architecture has them, without b_dec in the input."""
    pre = x.float() @ weights["W_enc"]
    if about["architecture"] == "gated":
        size = torch.relu(weights["r_mag"].exp() * pre + weights["b_mag"])
        return torch.where(pre + weights["b_gate"] > 0, size, 0.0)
    pre = pre + weights["b_enc"]
    if about["architecture"] == "topk":
        best = pre.topk(about["k"])
        return torch.zeros_like(pre).scatter(1, best.indices, torch.relu(best.values))
    return torch.where(pre > weights["threshold"], torch.relu(pre), 0.0)


def read(folder: str | Path) -> Autoencoder:
    """
    Read a model that SAELens has saved, as one of ours: its codes are in units of directions of unit norm.

    Parameters
    ----------
    folder : str or Path
        With cfg.json and sae_weights.safetensors of version 6.

    Returns
    -------
    Autoencoder
        In eval mode: `JumpReLU` (architectures standard and jumprelu), `Gated` or `TopK`.

    Raises
    ------
    UsageError
        If there are no such files, or they are of another version or architecture, or examples are normalised.
    RunError
        If they are damaged.
    """
    folder = Path(folder)
    about, weights = _contents(folder)
    kind, need = ARCHITECTURES[about["architecture"]]
    shapes = {name: tuple(weights[name].shape) if name in weights else None for name in ("W_enc", "b_dec", *need)}
    J, M = weights["W_dec"].shape if "W_dec" in weights and weights["W_dec"].ndim == 2 else (0, 0)
    if shapes != {"W_enc": (M, J), "b_dec": (M,)} | dict.fromkeys(need, (J,)):
        raise RunError(f"{folder / WEIGHTS}: damaged, or not what {CONFIG} says: its arrays do not fit each other")
    norm = weights["W_dec"].norm(dim=1).clamp_min(1e-12)
    encoder, decoder, known = nn.Linear(M, J), Dictionary(J, M), {}
    if kind is TopK:
        if not about.get("rescale_acts_by_decoder_norm") and not torch.allclose(norm, norm[0]):
            raise UsageError(f"{folder}: its directions have several lengths, which TopK here has not; fold them first")
        known = {"k": about.get("k", 0)}
    model = kind(encoder, decoder, shape=(M,), latent_dim=J, likelihood=GaussianFixed(), **known)
    first = weights["b_gate"] + model.opens if isinstance(model, Gated) else weights["b_enc"]
    inside = weights["b_dec"] @ weights["W_enc"] if about.get("apply_b_dec_to_input", True) else torch.zeros(J)
    with torch.no_grad():
        scale = torch.ones(J) if kind is Gated else norm
        encoder.weight.copy_((weights["W_enc"] * scale).T)
        encoder.bias.copy_((first - inside) * scale)
        decoder.directions.copy_(weights["W_dec"] / norm[:, None])
        decoder.bias.copy_(weights["b_dec"])
        if isinstance(model, Gated):
            model.log_scale.copy_(weights["r_mag"] + norm.log())
            model.shift.copy_(norm * (weights["b_mag"] - weights["r_mag"].exp() * first))
        elif isinstance(model, JumpReLU):
            model.unit.fill_(1.0)
            model.log_threshold.copy_((weights.get("threshold", torch.zeros(J)).clamp_min(0) * norm).log())
    return model.eval()


ARCHITECTURES: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "standard": (JumpReLU, ("b_enc",)),
    "jumprelu": (JumpReLU, ("b_enc", "threshold")),
    "gated": (Gated, ("b_gate", "r_mag", "b_mag")),
    "topk": (TopK, ("b_enc",)),
}
"""SAELens' name -> ours, and the weights that have a number for each latent."""


def _contents(folder: Path) -> tuple[dict[str, Any], Weights]:
    """Return the settings and weights of a folder, as far as they can be used."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_saelens(folder):
        raise UsageError(f"{folder} holds no model of SAELens: it has {CONFIG} and {WEIGHTS}")
    try:
        about = read_json(folder / CONFIG)
        known = (about["architecture"], (about.get("metadata") or {}).get("sae_lens_version"))
        weights = {name: weight.float() for name, weight in load_file(folder / WEIGHTS).items()}
    except (ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise RunError(f"{folder}: damaged, or not of SAELens 6 ({first_line(error)})") from error
    ours = FORMAT.partition(".")[0]
    if str(known[1]).partition(".")[0] != ours:
        raise UsageError(
            f"{folder} is of SAELens {short(known[1])}, and {ours} can be read; load and save it with that"
        )
    if known[0] not in ARCHITECTURES:
        raise UsageError(f"{folder} has architecture {short(known[0])}; read are {', '.join(ARCHITECTURES)}")
    for what in ("normalize_activations", "reshape_activations"):
        if about.get(what, "none") != "none":
            raise UsageError(f"{folder} has {what} {short(about[what])}, which no model here does; only none is read")
    return about, weights


def is_saelens(folder: Path) -> bool:
    """Say whether a folder holds what SAELens saves."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()
