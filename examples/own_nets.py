"""Train a sparse code with nets of your own, save it, load it: `python examples/own_nets.py [steps]`."""

import sys
import tempfile

from torch import nn

import vsc
from vsc.model.likelihoods import GaussianFixed


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, width: int):
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        """Return x + f(x), (B, width)."""
        return x + self.f(x)


def model(M: int, J: int) -> vsc.VSC:
    """Build a VSC: its encoder gives mean, log-variance and gate of each latent, its decoder a mean per pixel."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(M, 64), Residual(64), nn.Linear(64, vsc.VSC.features * J))
    decoder = nn.Sequential(nn.Linear(J, 64), Residual(64), nn.Linear(64, M))
    return vsc.VSC(encoder, decoder, shape=(1, 8, 8), latent_dim=J, likelihood=GaussianFixed(0.02))


data = vsc.load_data("digits")
config = vsc.Config(train=vsc.TrainConfig(steps=int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
with tempfile.TemporaryDirectory() as folder:
    trained = vsc.train(data, config, f"{folder}/run", model=model(64, 16))
    loaded = vsc.load(f"{folder}/run", model=model(64, 16))
codes = loaded.encode(data.test.x)
assert (codes.hard == trained.encode(data.test.x).hard).all()
print(f"{codes.active.sum(1).double().mean():.1f} of {loaded.latent_dim} latents are on for a digit")
