# %% [markdown]
# # A first sparse code
#
# Handwritten digits of 8 x 8 pixels, which come with scikit-learn: train a model, look at the codes it gives, at what
# single latents do, and at numbers that say whether it is any good.
#
# `STEPS=50 python examples/digits.py` is quicker, and worse.

# %%
import os

import vsc
from vsc import plots
from vsc.measure.showcase import showcase

data = vsc.load_data("digits")
print(len(data.train), "digits to train on,", len(data.valid), "to validate,", len(data.test), "to test;", data.shape)

# %% [markdown]
# ## Train
#
# Everything is left at its default but the number of steps. The model has 32 latents, and is not told how many of
# them a digit may have: only that none is on for more than 40 % of the digits.

# %%
steps = int(os.environ.get("STEPS", "1000"))
model = vsc.train(data, vsc.Config(train=vsc.TrainConfig(steps=steps)))

# %% [markdown]
# ## Codes
#
# `hard` is exactly zero where a latent is off. `gamma` is the probability that it is on, `mu` where it lies if it is.

# %%
codes = model.encode(data.test.x)
print(codes.hard[0].numpy().round(2))
print(f"{codes.active.sum(1).double().mean():.1f} of {model.latent_dim} latents are on for a digit")

# %% [markdown]
# Left the digit, right what its code decodes to; a latent that is off is a grey dot on the line.

# %%
seen = vsc.Measured(model, data)  # the test digits, encoded once
plots.code_panels(showcase(seen), data.shape, data.classes, examples=5)

# %% [markdown]
# ## What single latents do
#
# How the picture moves when a latent is turned on and all else stays as it is: red pixels get darker strokes, blue
# ones lose them. (One whose values have both signs is raised from its low to its high values instead.) These are the
# eight that are on most often.

# %%
most = seen.effects.first(8)
labels = [(f"latent {j}", f"on for {rate:.0%}") for j, rate in zip(most.latent, most.rate, strict=True)]
plots.effects(most.change, labels, data.shape)

# %% [markdown]
# ## Is it any good?
#
# The ELBO is a lower bound on log p(x), in nats, higher is better; `no_latents` is what a constant picture scores.
# The probe is how well a linear classifier tells the digits apart by their codes.

# %%
scores = seen.scores()
print(f"ELBO {scores.elbo:.1f} nats, without latents {scores.no_latents:.1f}")
print(
    f"{scores.active:.1f} latents on for a digit, {scores.used} of {model.latent_dim} in use, {scores.always_on} always"
)
print(f"probe {scores.probe:.1%}")

# %% [markdown]
# ## New digits
#
# Draws from the prior, decoded: first which latents are on, then their values.

# %%
plots.sample_grid(vsc.sampling.ancestral(model, 32).x, data.shape)

# %% [markdown]
# In a terminal, `vsc train --data digits --out runs/digits` and `vsc report runs/digits` do all of this and write a
# page with a card for each latent.
