"""A sparse code in a PyTorch loop of your own: `python examples/plain_loop.py [steps]`."""

import sys

import torch
from torch import nn

import vsc
from vsc.model.likelihoods import GaussianFixed

x = vsc.load_data("digits").train.x / 16  # (N, 64) in [0, 1]
J = 16
encoder = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, vsc.VSC.features * J))
decoder = nn.Sequential(nn.Linear(J, 200), nn.ReLU(), nn.Linear(200, 64))
model = vsc.VSC(encoder, decoder, shape=(64,), latent_dim=J, likelihood=GaussianFixed(0.02))
adam = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
    loss = -model(x[torch.randint(len(x), (128,))]).elbo.mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
print(f"ELBO {model.eval()(x).elbo.mean():.2f} nats, {model.codes(x).active.sum(1).double().mean():.1f} latents on")
