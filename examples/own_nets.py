# %% [markdown]
# # Nets and a training loop of your own
#
# A model is made of modules: any encoder that maps an example to `VSC.features` numbers for each latent (mean,
# log-variance, gate), and any decoder from J numbers to what the likelihood needs. No name has to be registered.

# %%
import os
import tempfile

import torch
from torch import nn

import vsc
from vsc.model.likelihoods import GaussianFixed

data = vsc.load_data("digits")
steps = int(os.environ.get("STEPS", "600"))


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, width: int):
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        """Return x + f(x), (B, width)."""
        return x + self.f(x)


def own(M: int, J: int) -> vsc.VSC:
    """Build a VSC of J latents for M pixels, with a likelihood of fixed variance: one output per pixel."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(M, 64), Residual(64), nn.Linear(64, vsc.VSC.features * J))
    decoder = nn.Sequential(nn.Linear(J, 64), Residual(64), nn.Linear(64, M))
    return vsc.VSC(encoder, decoder, shape=(1, 8, 8), latent_dim=J, likelihood=GaussianFixed(0.02))


# %% [markdown]
# ## Your nets, our loop
#
# `vsc.train` brings schedules, checkpoints and the scaling of the data; the folder can be loaded again with the same
# nets.

# %%
config = vsc.Config(train=vsc.TrainConfig(steps=steps))
with tempfile.TemporaryDirectory() as folder:
    trained = vsc.train(data, config, f"{folder}/run", model=own(64, 16))
    loaded = vsc.load(f"{folder}/run", model=own(64, 16))
codes = loaded.encode(data.test.x)
assert (codes.hard == trained.encode(data.test.x).hard).all()
print(f"{codes.active.sum(1).double().mean():.1f} of {loaded.latent_dim} latents are on for a digit")

# %% [markdown]
# ## Your loop
#
# Called on a batch, a model returns its bound: `elbo` has one value per example, in nats. That is all a loop needs.
# The model then takes numbers as the loop gives them, here pixels in [0, 1].

# %%
x = data.train.x / 16  # (N, 64), pixels are 0 to 16
model = own(64, 16)
adam = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(steps):
    loss = -model(x[torch.randint(len(x), (128,))]).elbo.mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
print(f"ELBO {model.eval()(x).elbo.mean():.1f} nats, {model.codes(x).active.sum(1).double().mean():.1f} latents are on")

# %% [markdown]
# Left to itself the bound prefers latents that are always on; the cap, or a target l0, is the library's loop's. In a
# loop of your own, `Bound.weighted` takes a price for each latent. Priors, likelihoods and spike estimators of your
# own work the same way: subclass `vsc.model.priors.Prior` or `vsc.model.likelihoods.Likelihood`, or write a function,
# and give it to the model.
