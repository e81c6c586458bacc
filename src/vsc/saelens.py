"""To and from SAELens: cfg.json and sae_weights.safetensors, as `SAE.load_from_disk` reads them."""

import copy
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vsc.errors import UsageError
from vsc.files import as_json, whole
from vsc.model import VSC, Autoencoder
from vsc.model.base import evaluating
from vsc.model.likelihoods import GaussianFixed, GaussianShared
from vsc.model.nets import Dictionary
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


class Linear(NamedTuple):
    """An affine map of stored examples: x weight + bias, (M, J) and (J,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.to(self.weight), self.weight)


def write(model: Autoencoder, folder: str | Path, x: Any) -> Written:
    """
    Write a VSC with a linear encoder and decoder as SAELens' architecture `gated`, both files or neither.

    A gate is open for the same examples: SAELens' is 1[x W + b > 0], with the spike logit as x W + b. Values are
    ReLU(e^r x W + c) there, in the gate's direction and of one sign. They are the same where the model's values have
    both (net lista without refinements shares the direction), else r and c are those of least squared error
    where the latent is on; the direction of a latent whose values are mostly negative is turned around.

    Parameters
    ----------
    model : Autoencoder
        A `VSC` whose encoder is linear and whose decoder is a `Dictionary`, with a Gaussian likelihood.
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
    gate, value = linear(model)
    folder, stored = Path(folder), model.stored(x)
    if folder.suffix == ".safetensors" or folder.is_file():
        raise UsageError(f"out is a folder, for {CONFIG} and {WEIGHTS}, and {str(folder)!r} is a file's name")
    slope, shift, sign = _fitted(gate, value, stored)
    assert isinstance(model.decoder, Dictionary)
    dictionary = (model.decoder.weight / model.scaler.factor).detach()  # in stored units
    norm = dictionary.norm(dim=1)
    weights = {
        "W_enc": gate.weight,
        "b_gate": gate.bias,
        "r_mag": (slope * norm).log(),
        "b_mag": (shift + slope * gate.bias) * norm,
        "W_dec": sign[:, None] * dictionary / norm[:, None],
        "b_dec": model.decoder.bias.detach() / model.scaler.factor + model.scaler.shift,
    }
    weights = {name: weight.float().contiguous() for name, weight in weights.items()}
    M, J = gate.weight.shape
    config = {"architecture": "gated", "d_in": M, "d_sae": J, "dtype": "float32", "device": "cpu"}
    config |= {"apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none"}
    by = f"variational-sparse-coding {version('variational-sparse-coding')}"
    _write(folder, config | {"metadata": {"sae_lens_version": FORMAT, "written_by": by}}, weights)
    with evaluating(model):
        return _compared(model, weights, (sign * norm).float(), stored)


def _write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with whole(folder / CONFIG) as first, whole(folder / WEIGHTS) as second:
        first.write_text(as_json(config), encoding="utf-8")  # neither has its name before both are on the disk
        save_file(weights, second)


def linear(model: Autoencoder) -> tuple[Linear, Linear]:
    """Return what the encoder makes of stored examples, found by trying: spike logits and values."""
    if not isinstance(model, VSC) or not isinstance(model.decoder, Dictionary):
        raise UsageError("SAELens has linear decoders: only a vsc with model.net linear can be written for it")
    if not isinstance(model.likelihood, GaussianFixed | GaussianShared):
        raise UsageError("SAELens has no likelihoods: train with model.likelihood gaussian-shared")
    if model.scaler.kind in ("unit-norm", "unit-interval"):
        raise UsageError(f"SAELens does not scale by data.scale {model.scaler.kind}; train with none, or standard")
    exact = copy.deepcopy(model).cpu().double()
    M = math.prod(model.shape)

    def outputs(x: Tensor) -> Tensor:
        qz = exact.posterior(x)
        return torch.stack([qz.spike_logits, qz.mu])  # (2, B, J)

    with evaluating(exact):
        zero = outputs(torch.zeros(1, M, dtype=torch.float64))
        weight = torch.cat([outputs(rows) - zero for rows in torch.eye(M, dtype=torch.float64).split(ROWS)], 1)
        x = torch.randn(16, M, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        there, found = x @ weight + zero, outputs(x)
    if not torch.allclose(there, found, rtol=1e-6, atol=1e-6 * float(found.abs().max())):
        raise UsageError("SAELens has linear encoders: train with model.net linear, or lista without refinements")
    factor, shift = model.scaler.factor.double().expand(M), model.scaler.shift.double().expand(M)
    gate, value = (
        Linear(factor[:, None] * part, (constant - (shift * factor) @ part)[0])
        for part, constant in zip(weight, zero, strict=True)
    )
    return gate, value


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


def _compared(model: Autoencoder, weights: dict[str, Tensor], unit: Tensor, x: Examples) -> Written:
    """Compare codes, in `unit` of ours, and reconstructions."""
    far, size, lost, ours = (torch.zeros((), dtype=torch.float64) for _ in range(4))
    mean = torch.cat([part.double().mean(0, keepdim=True) * len(part) for part in x.split(ROWS)]).sum(0) / len(x)
    variance = torch.zeros((), dtype=torch.float64)
    for part in x.split(ROWS):
        z, theirs, part = model.encode(part).hard * unit, gated(weights, part), part.double()
        output = model.scaler.inverse(model.decode(z / unit))
        far, size = far + (theirs - z).square().sum(), size + z.square().sum()
        lost = lost + (part - theirs @ weights["W_dec"] - weights["b_dec"]).square().sum()
        ours, variance = ours + (part - output).square().sum(), variance + (part - mean).square().sum()
    return Written("gated", float((far / size).sqrt().nan_to_num()), float(lost / variance), float(ours / variance))


def gated(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return the codes of stored examples x (B, M) by SAELens' architecture `gated`."""
    x = x.float() @ weights["W_enc"]
    return torch.where(x + weights["b_gate"] > 0, torch.relu(weights["r_mag"].exp() * x + weights["b_mag"]), 0.0)
