"""A trained model as two ONNX graphs, which need no PyTorch, and are checked against it before they are written."""

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vsc.errors import RunError, UsageError, first_line
from vsc.files import whole
from vsc.model import Autoencoder
from vsc.model.base import evaluating

OPSET = 18
"""Version of ONNX's operators that the graphs are made of."""

TOLERANCE = 1e-3
"""Largest difference between graph and model, as a share of the largest value, that is rounding."""


class Encoder(nn.Module):
    """
    Stored examples (B, *shape) -> gamma, mu, hard, (B, J) each.

    Parameters
    ----------
    model : Autoencoder
        Its scaler, encoder and posterior are used.
    """

    outputs = ("gamma", "mu", "hard")

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return gamma, mu and hard of x (B, *shape)."""
        codes = self.model.codes(self.model.scaler(x.flatten(1)))
        return codes.gamma, codes.mu, codes.hard


class Decoder(nn.Module):
    """
    Codes (B, J) -> E[x|z] in stored units, (B, *shape).

    Parameters
    ----------
    model : Autoencoder
        Its decoder, likelihood and scaler are used.
    """

    outputs = ("x",)

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        """Return E[x|z] of z (B, J)."""
        mean = self.model.likelihood.mean(self.model.from_decoder(z))
        return self.model.scaler.inverse(mean).unflatten(1, self.model.shape)


def onnx(model: Autoencoder, folder: str | Path) -> dict[str, float]:
    """
    Write encoder.onnx and decoder.onnx into a folder, both or neither.

    The encoder takes `x` (batch, *shape), examples as they are stored, in float32 (float64 where the model's shift has
    it; a missing value is NaN), and gives `gamma`, `mu` and `hard` (batch, J); the decoder takes `z` (batch, J) and
    gives `x` in stored units. Names of columns and classes are in the files' metadata.

    Parameters
    ----------
    model : Autoencoder
        As it is trained; a module of your own must be one that `torch.export` takes.
    folder : str or Path
        Where to; it is made if it is missing.

    Returns
    -------
    dict of str to float
        `encoder` and `decoder` -> largest difference from PyTorch's output at batches of 1 and 7, as a share of the
        largest value.

    Raises
    ------
    UsageError
        If onnx, onnxscript or onnxruntime is missing, or a net of the user's cannot be exported.
    RunError
        If a graph does not compute what the model does.
    """
    folder = Path(folder)
    if folder.suffix == ".onnx" or folder.is_file():
        raise UsageError(f"out is a folder, for encoder.onnx and decoder.onnx, and {str(folder)!r} is a file's name")
    with evaluating(model), torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(0)
        z = torch.randn(8, model.latent_dim)
        x = Decoder(model)(z).to(model.scaler.shift.dtype)
        if model.missing:
            x[torch.rand_like(x) < 0.2] = math.nan
        (encoder, far), (decoder, off) = _graph(Encoder(model), "x", x), _graph(Decoder(model), "z", z)
    with whole(folder / "encoder.onnx") as first, whole(folder / "decoder.onnx") as second:
        first.write_bytes(encoder)  # neither has its name before both are on the disk
        second.write_bytes(decoder)
    return {"encoder": far, "decoder": off}


def _graph(module: Encoder | Decoder, name: str, example: Tensor) -> tuple[bytes, float]:
    """Return the graph of a module with one input, as a file has it, and how far off it is at most."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch needs it)
    except ImportError as error:
        raise UsageError(f"this needs {error.name}: pip install 'variational-sparse-coding[onnx]'") from error
    batch = {name: {0: torch.export.Dim("batch")}}
    names: dict[str, Any] = {"input_names": [name], "output_names": list(module.outputs), "dynamic_shapes": batch}
    try:
        with _quiet():
            program = torch.onnx.export(module, (example,), **names, dynamo=True, opset_version=OPSET, verbose=False)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        what = type(module).__name__.lower()
        raise UsageError(f"torch.export does not take the {what} of this model: {first_line(error)}") from error
    assert program is not None
    known = {"columns": json.dumps(module.model.columns), "classes": json.dumps(module.model.classes)}
    program.model.metadata_props.update(known)
    raw = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    return raw, max(_difference(session, module, name, example[rows]) for rows in (slice(1), slice(1, 8)))


def _difference(session: Any, module: Encoder | Decoder, name: str, example: Tensor) -> float:
    """Return the largest difference between a graph's outputs and its module's; RunError where it is no rounding."""
    expected = module(example)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = session.run(list(module.outputs), {name: example.numpy()})
    # a gate at 1/2 may be open there and shut here
    sure = (expected[0] - 0.5).abs() > TOLERANCE if len(expected) == 3 else None
    far = []
    for what, ours, theirs in zip(module.outputs, expected, found, strict=True):
        difference = (ours - torch.from_numpy(np.array(theirs))).abs()
        difference = difference if what != "hard" else difference * sure
        far.append(float(difference.max() / ours.abs().max().clamp_min(1.0)))
    if wrong := [one for one in far if not one <= TOLERANCE]:  # not a number is wrong too
        raise RunError(
            f"the {type(module).__name__.lower()}'s graph is off by {wrong[0]:.1g} of the largest value; a net whose "
            "way depends on its input cannot be exported"
        )
    return max(far)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what torch says of its own insides and of libraries that are not there."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
