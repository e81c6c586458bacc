"""Encoders and decoders: x (B, M) to features (B, out) and codes (B, J) to outputs (B, out); no probability here."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vsc.errors import UsageError

Shape = tuple[int, ...]


def mlp(
    shape: Shape,
    features: int,
    latent_dim: int,
    outputs: int,
    hidden: Sequence[int] = (400,),
    inputs: int | None = None,
    width: int | None = None,
):
    """
    Build fully connected nets, mirrored; any shape of data (ICLR: one hidden layer of 400).

    `hidden` are the widths of the encoder's hidden layers, in order; UsageError if one is below 1.
    """
    if any(width < 1 for width in hidden):
        raise UsageError(f"hidden widths must be at least 1, not {tuple(hidden)}")
    M = math.prod(shape)
    inputs, width = inputs or M, width or outputs * M
    return _dense([inputs, *hidden, features]), _dense([latent_dim, *reversed(hidden), width])


def conv(shape: Shape, features: int, latent_dim: int, outputs: int):
    """
    Build the course report's convolutional nets: 16 and 32 channels (kernel 3, stride 2), then 64 over what is left.

    For images (channels, height, width), height and width at least 4; UsageError for other data.
    """
    if len(shape) != 3:
        raise UsageError(f"net 'conv' needs images (channels, height, width), not {shape}; use net 'mlp'")
    C, *size = shape
    if min(size) < 4:
        raise UsageError(f"net 'conv' needs images of at least 4 x 4, not {shape}; use net 'mlp'")
    half = [(n + 1) // 2 for n in size]
    quarter = [(n + 1) // 2 for n in half]
    encoder = nn.Sequential(
        nn.Unflatten(-1, shape),
        nn.Conv2d(C, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, (quarter[0], quarter[1])),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, features),
    )
    # stride 2 halves n and n - 1 alike: output_padding says which of the two to go back to
    up = [(0 if a == 2 * b - 1 else 1) for a, b in zip(half, quarter, strict=True)]
    top = [(0 if a == 2 * b - 1 else 1) for a, b in zip(size, half, strict=True)]
    decoder = nn.Sequential(
        nn.Linear(latent_dim, 64),
        nn.ReLU(),
        nn.Unflatten(-1, (64, 1, 1)),
        nn.ConvTranspose2d(64, 32, (quarter[0], quarter[1])),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=(up[0], up[1])),
        nn.ReLU(),
        nn.ConvTranspose2d(16, outputs * C, 3, stride=2, padding=1, output_padding=(top[0], top[1])),
        nn.Flatten(),
    )
    return encoder, decoder


def conv1d(shape: Shape, features: int, latent_dim: int, outputs: int):
    """
    Build convolutional nets for signals: 32, 64 and 64 channels along time (kernel 5, stride 2), mirrored.

    For signals of any length, (channels, length), (length,) for one channel, or (1, channels, length), as which a plain
    array of signals (N, channels, length) is read; UsageError for images of several channels.
    """
    if len(shape) > 3 or (len(shape) == 3 and shape[0] > 1):
        raise UsageError(f"net 'conv1d' needs signals (channels, length), not {shape}; use net 'conv'")
    C, length = (1, *shape)[-2:]
    channels, lengths = (C, 32, 64, 64), [length]
    for _ in channels[1:]:
        lengths.append((lengths[-1] + 1) // 2)
    down: list[nn.Module] = [nn.Unflatten(-1, (C, length))]
    up: list[nn.Module] = []
    for (a, b), (n, half) in zip(pairwise(channels), pairwise(lengths), strict=True):
        down += [nn.Conv1d(a, b, 5, stride=2, padding=2), nn.ReLU()]
        # stride 2 halves n and n - 1 alike: output_padding says which of the two to go back to
        a = a if up else outputs * C
        up = [nn.ReLU(), nn.ConvTranspose1d(b, a, 5, 2, padding=2, output_padding=n - (2 * half - 1)), *up]
    top = (channels[-1], lengths[-1])
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(top), features))
    decoder = nn.Sequential(nn.Linear(latent_dim, math.prod(top)), nn.Unflatten(-1, top), *up, nn.Flatten())
    return encoder, decoder


class Dictionary(nn.Module):
    """
    A linear decoder, z D + b: the rows of D have unit norm, so that a code says how much there is of each.

    Parameters
    ----------
    latent_dim : int
        J, rows.
    width : int
        M, outputs.
    """

    def __init__(self, latent_dim: int, width: int):
        super().__init__()
        self.directions = nn.Parameter(normalize(torch.randn(latent_dim, width)))
        self.bias = nn.Parameter(torch.zeros(width))

    @property
    def weight(self) -> Tensor:
        """D, the directions at unit norm, shape (J, M)."""
        return normalize(self.directions)

    def forward(self, z: Tensor) -> Tensor:
        """Return z D + b, shape (B, M), of codes z (B, J)."""
        return torch.addmm(self.bias, z, self.weight)


def linear(
    shape: Shape,
    features: int,
    latent_dim: int,
    outputs: int,
    slab_mean: float = 0.0,
    inputs: int | None = None,
    width: int | None = None,
):
    """
    Build an encoder of one linear layer and a `Dictionary`, as sparse autoencoders have them.

    Values and gates start tied to the dictionary: a latent's value is the projection on its direction, and its gate
    opens where that is large. With gates, mean, log-variance and gate go on sharing one direction (`Refining` without
    refinements), as in gated sparse autoencoders; it finds more features than a direction for each. Means are counted
    from `slab_mean` at the start (`priors.LearnedSlab`), so that they start as projections all the same.
    """
    M = math.prod(shape)
    inputs, width = inputs or M, width or outputs * M
    decoder = Dictionary(latent_dim, width)
    if features == 3 * latent_dim and inputs == width == M:
        return Refining(decoder, features, 0, slab_mean), decoder
    encoder, known = nn.Linear(inputs, features), min(M, inputs)
    with torch.no_grad():
        encoder.weight.zero_()
        for start, (scale, shift) in zip(range(0, features, latent_dim), _start(slab_mean), strict=False):
            part = slice(start, start + latent_dim)
            encoder.weight[part, :known] = scale * decoder.weight[:, :known]
            encoder.bias[part] = shift
    return encoder, decoder


def _start(slab_mean: float) -> tuple[tuple[float, float], ...]:
    """Return how a latent's mean, log-variance and gate start from a projection u: a and c of a u + c."""
    # in data of scale whole a direction that is not there has |u| near 1, and one that is about 4
    return (1.0, -slab_mean), (0.0, -1.0), (2.0, -4.0)


class Refining(nn.Module):
    """
    An encoder that explains away: of each latent it sees what the others have left of x (LISTA; Gregor & LeCun 2010).

    From z = 0 on, u = (x - b - z D) E + z is what x would project on each direction without the others, and the next
    z = S(a u + c) (p u + q). The features are scale u + shift of the last u. D and b are the decoder's. E starts as D',
    and p and q at 0: with directions that are not yet found, explaining away makes several latents of one feature.

    Parameters
    ----------
    dictionary : Dictionary
        The decoder, which is shared and no part of the encoder.
    features : int
        Encoder outputs, a multiple of J.
    refinements : int
        How often z is corrected; 0 is a linear layer whose features share one direction for each latent.
    slab_mean : float
        As for `linear`.
    """

    def __init__(self, dictionary: Dictionary, features: int, refinements: int, slab_mean: float = 0.0):
        super().__init__()
        J, n = len(dictionary.directions), features // len(dictionary.directions)
        self.shared = (dictionary,)  # in a tuple torch does not see it: its weights are saved once, as the decoder's
        self.projections = nn.Parameter(dictionary.weight.detach().clone())
        _, _, gate = _start(0.0)
        step = torch.tensor([(0.0, 0.0), gate]).T.unsqueeze(-1)  # (2, 2, 1)
        read = torch.tensor(_start(slab_mean)).T.unsqueeze(-1)  # (2, 3, 1)
        self.steps = nn.Parameter(step.repeat(refinements, 1, 1, J))  # (refinements, 2, 2, J)
        self.read = nn.Parameter(read[:, :n].repeat(1, 1, J))  # (2, n, J)

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return the features of x (B, M), (B, J) each: side by side they would be copied, and taken apart again."""
        (dictionary,) = self.shared
        x, weight = x - dictionary.bias, dictionary.weight
        u = x @ self.projections.T
        for scale, shift in self.steps:
            value, gate = (torch.addcmul(c, a, u) for a, c in zip(scale, shift, strict=True))
            z = torch.sigmoid(gate) * value
            u = torch.addmm(z, torch.addmm(x, z, weight, alpha=-1), self.projections.T)
        return [torch.addcmul(c, a, u) for a, c in zip(*self.read, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of x (B, M), side by side."""
        return torch.cat(self.parts(x), -1)


def lista(
    shape: Shape,
    features: int,
    latent_dim: int,
    outputs: int,
    refinements: int = 2,
    slab_mean: float = 0.0,
    inputs: int | None = None,
    width: int | None = None,
):
    """
    Build an encoder that refines its code by what the dictionary leaves of x (`Refining`), and a `Dictionary`.

    It takes from 0 to `MOST_REFINEMENTS` steps, `refinements`, and `slab_mean` as `linear` does. UsageError of another
    number, or if the decoder's outputs are not the M values of x.
    """
    M = math.prod(shape)
    if (inputs or M) != M or (width or outputs * M) != M:
        raise UsageError(
            "net 'lista' subtracts what it decodes from x: it needs complete data and a likelihood with one output for "
            "each value, such as gaussian-shared; else choose net linear"
        )
    if not 0 <= refinements <= MOST_REFINEMENTS:
        raise UsageError(f"refinements must be from 0 to {MOST_REFINEMENTS}, not {refinements}")
    decoder = Dictionary(latent_dim, M)
    return Refining(decoder, features, refinements, slab_mean), decoder


MOST_REFINEMENTS = 10
"""Refinements that net lista may have; each costs as much as encoding and decoding once."""


def _dense(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


NetBuilder = Callable[..., tuple[nn.Module, nn.Module]]
"""
(shape, features, latent_dim, outputs, and settings of the model by their names) -> encoder, decoder.

`shape` is one example's, and M its product; `features` is how many outputs the encoder has, `latent_dim` J, and
`outputs` how many the decoder has for each of the M values. The encoder maps (B, inputs) to (B, features) and the
decoder (B, J) to (B, width): M and outputs * M, unless a builder takes `inputs` and `width` and is given others.
"""
NETS: dict[str, NetBuilder] = {"mlp": mlp, "conv": conv, "conv1d": conv1d, "linear": linear, "lista": lista}
