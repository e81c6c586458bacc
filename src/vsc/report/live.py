"""What a page carries so that it can decode by itself: the decoder and the prior in half precision, and some codes."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex
from torch import Tensor, nn
from torch.nn.utils import skip_init

from vsc.model import Autoencoder
from vsc.model.base import evaluating
from vsc.model.nets import Dictionary
from vsc.report import words
from vsc.report.latents import hint
from vsc.report.material import Material
from vsc.report.words import largest, measure

MOST = 6_000_000  # weights: a page of 16 MB
COLUMNS = 40  # of a table, and channels of signals, that are shown
LISTED = 16  # latents of an example that have a slider from the start

Part = list[float]
"""Where an array lies among the carried numbers: the first of them, how many, and what to multiply them by."""


class Live(NamedTuple):
    """What the page carries, for `decode.js` and `live.js`."""

    carried: Markup  # JSON, safe inside of a script element; empty where the page cannot decode
    weights: int  # numbers of the decoder
    # the columns or channels that are shown: `at`, its number, and its `name`, or from `low` to `high`
    places: list[dict[str, Any]]
    draws: bool = False  # whether it can draw codes from the prior
    why_not: str = ""  # what is in the way, to follow "the decoder"; empty where nothing is

    @property
    def size(self) -> str:
        """How large it makes the page."""
        return f"{len(self.carried) / 1e6:.1f} MB" if len(self.carried) > 1e6 else f"{len(self.carried) / 1e3:.0f} kB"


def live(m: Material, chosen: Sequence[int]) -> Live:
    """Collect what the page needs to decode the codes of the `chosen` examples of `m`, altered as its reader likes."""
    model, store = m.seen.model, Store()
    weights = sum(p.numel() for p in model.decoder.parameters())
    if why_not := unfit(model):
        return Live(Markup(""), weights, [], why_not=why_not)
    places, found = _places(m), prior(model, store)
    parts = _carried(m, chosen, store) | {"places": places, "prior": found}
    text = json.dumps(parts | {"numbers": store.text()}, separators=(",", ":"), allow_nan=False)
    return Live(Markup(text.replace("<", "\\u003c")), weights, places, found is not None)


def unfit(model: Autoencoder) -> str:
    """Say why a page cannot decode what `model` does, to follow "the decoder"; empty if it can."""
    for layer in layers(model.decoder):
        if type(layer) not in LAYERS or getattr(layer, "groups", 1) != 1 or not _plain_padding(layer):
            return f"has a layer that a page cannot compute, {type(layer).__name__}"
    weights = list(model.decoder.parameters())
    if (count := sum(p.numel() for p in weights)) > MOST:
        return f"has {words.count(count)} weights, which would make the page too large"
    if not all(p.isfinite().all() for p in weights):
        return "has weights that are no numbers"
    if not model.likelihood.responses(1):
        return f"has a likelihood whose mean a page cannot compute, {type(model.likelihood).__name__}"
    return ""


def layers(net: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested `Sequential`s in their order, a dictionary as linear; any other module is one."""
    if type(net) is nn.Sequential:
        for part in net:
            yield from layers(part)
    elif type(net) is Dictionary:
        plain = skip_init(nn.Linear, *net.directions.shape)
        plain.weight, plain.bias = nn.Parameter(net.weight.T), net.bias
        yield plain
    else:
        yield net


def _plain_padding(layer: nn.Module) -> bool:
    padding = getattr(layer, "padding", ())
    return getattr(layer, "padding_mode", "zeros") == "zeros" and not isinstance(padding, str)


class Store:
    """Numbers in half precision, each array divided by its largest: nothing is too large, and little is lost."""

    def __init__(self):
        self.parts: list[np.ndarray] = []
        self.length = 0

    def put(self, values: Any) -> Part:
        """Keep an array or a tensor, and say where."""
        flat = torch.as_tensor(values).detach().double().numpy().ravel()
        scale = float(np.nanmax(np.abs(flat))) if np.isfinite(flat).any() else 0.0
        self.parts.append((flat / (scale or 1.0)).astype("<f2"))
        self.length += len(flat)
        return [self.length - len(flat), len(flat), scale or 1.0]

    def text(self) -> str:
        """Return all of them as base64."""
        return b64encode(b"".join(part.tobytes() for part in self.parts)).decode()


def decoder(model: Autoencoder, store: Store) -> list[dict[str, Any]]:
    """Return the decoder's layers as `decode.js` takes them; those that only change a shape are left out."""
    out, like = [], next(model.decoder.parameters(), torch.zeros(()))
    x = like.new_zeros(1, model.latent_dim)
    with evaluating(model):
        for layer in layers(model.decoder):
            x, before = layer(x), x
            found = LAYERS[type(layer)](layer, before, x)
            if found:
                arrays = {name: store.put(p) for name, p in layer.named_parameters()}
                out.append(found | arrays)
    return out


def _convolution(layer: Any, before: Tensor, after: Tensor) -> dict[str, Any]:
    """Describe a convolution, or a transposed one, of one or two dimensions: one is an image of one row."""
    line = len(layer.kernel_size) == 1

    def pair(sizes: Sequence[int], first: int) -> list[int]:
        return [first, *sizes] if line else list(sizes)

    size = {name: [t.shape[1], *pair(t.shape[2:], 1)] for name, t in (("from", before), ("to", after))}
    return size | {
        "kind": "convolution",
        "up": bool(layer.transposed),
        "kernel": pair(layer.kernel_size, 1),
        "stride": pair(layer.stride, 1),
        "padding": pair(layer.padding, 0),
        "dilation": pair(layer.dilation, 1),
    }


def _activation(kind: str, by: str = "") -> Callable[[Any, Tensor, Tensor], dict[str, Any]]:
    """Describe a function of single numbers, with the one setting that it may have."""
    return lambda layer, before, after: {"kind": kind, "by": getattr(layer, by) if by else 0}


def _nothing(layer: Any, before: Tensor, after: Tensor) -> dict[str, Any]:
    return {}


LAYERS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], dict[str, Any]]] = {
    nn.Linear: lambda layer, before, after: {"kind": "linear"},
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.ConvTranspose1d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.ReLU: _activation("relu"),
    nn.LeakyReLU: _activation("leaky", "negative_slope"),
    nn.ELU: _activation("elu", "alpha"),
    nn.GELU: _activation("gelu"),
    nn.SiLU: _activation("silu"),
    nn.Softplus: _activation("softplus", "beta"),
    nn.Tanh: _activation("tanh"),
    nn.Sigmoid: _activation("sigmoid"),
    nn.Flatten: _nothing,
    nn.Unflatten: _nothing,
    nn.Identity: _nothing,
    nn.Dropout: _nothing,
}
"""Layer -> what `decode.js` must know of it, given what went in and came out: how a decoder is carried."""


def prior(model: Autoencoder, store: Store) -> dict[str, Any] | None:
    """Return what a code is drawn from; None where that is not known."""
    if (own := getattr(model, "prior", None)) is None:
        return None
    with evaluating(model):
        found = own.mixture(model.posterior)
    if found is None:
        return None
    parts = {name: store.put(_brief(getattr(found, name))) for name in ("gamma", "mean", "scale")}
    return parts | {"components": len(found.gamma), "laplace": found.noise == "laplace"}


def _brief(rows: Tensor) -> Tensor:
    """Return one row of rows that are all the same, and one number of numbers that are: `decode.js` repeats them."""
    while rows.ndim and len(rows) and (rows == rows[0]).all():
        rows = rows[0]
    return rows


def _carried(m: Material, chosen: Sequence[int], store: Store) -> dict[str, Any]:
    model, f, M = m.seen.model, m.found, m.x.shape[1]
    shown = {int(j): k for k, j in enumerate(f.shown)}
    return {
        "latents": model.latent_dim,
        "layers": decoder(model, store),
        "responses": model.likelihood.responses(M),
        "shift": _short(m.shift),
        "factor": _short(m.factor),
        "each": _short(m.each),
        "unit": m.unit,
        "kind": m.layout,
        "shape": list(m.shape),
        "gated": f.gated,
        "rest": store.put(f.rest),
        "low": store.put(f.low),
        "high": store.put(f.high),
        "used": [[j, hint(m, k)] for j, k in shown.items()],
        "listed": LISTED,
        "limits": list(m.limits),
        "peak": m.peak,
        "colours": [to_hex(c) for c in colormaps["RdBu_r"](np.linspace(0, 1, 11))],
        "examples": [_example(m, i, store) for i in chosen],
    }


def _example(m: Material, i: int, store: Store) -> dict[str, Any]:
    order, there = m.seen.parts(i).latent, m.stored(m.x[i])
    return {
        "row": m.seen.row(i),
        "z": store.put(m.found.value[i]),
        "order": [int(j) for j in order],
        # what a table holds is shown as it is, and not as half precision has it
        "input": ["–" if np.isnan(v) else measure(float(v)) for v in there]
        if m.layout == "table"
        else store.put(m.x[i]),
    }


def _places(m: Material) -> list[dict[str, Any]]:
    """Say which columns or channels are shown: those that latents move most."""
    if m.kind == "images":
        return []
    size = np.abs(m.moved.change).max(0, initial=0)
    if m.layout == "table":
        return [{"at": c, "name": m.names[c]} for c in sorted(largest(size, COLUMNS))]
    channels = sorted(largest(size.reshape(tuple(m.shape)).max(-1), COLUMNS))
    return [{"at": c, "low": m.channel_limits[c][0], "high": m.channel_limits[c][1]} for c in channels]


def _short(values: np.ndarray) -> list[float]:
    """Return numbers in eight digits, and one of numbers that are all the same."""
    values = np.unique(values) if len(np.unique(values)) == 1 else values
    return [float(f"{v:.8g}") for v in np.atleast_1d(values)]
