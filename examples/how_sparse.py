# %% [markdown]
# # How sparse should a code be?
#
# By itself the model finds how many latents each input has on, below the cap. Here it is told: `target_l0` is the
# number of latents per example to end with. What do more of them buy?

# %%
import os

import pandas as pd

import vsc
from vsc import plots
from vsc.plots.charts import Curve

data = vsc.load_data("digits")
steps = int(os.environ.get("STEPS", "1000"))

# %% [markdown]
# ## A path over l0
#
# Three trainings, measured on the validation part: the test part is for the model that is chosen.

# %%
rows = []
for target in (6, 10, 20):
    model = vsc.train(data, vsc.Config(train=vsc.TrainConfig(steps=steps, target_l0=target)))
    found = vsc.evaluate(model, data, split="valid")
    rows.append(
        {
            "asked": target,
            "l0": found.l0,
            "active": found.active,
            "used": found.used,
            "always on": found.always_on,
            "ELBO": found.elbo,
            "ELBO - l0": found.elbo - found.l0,
            "MSE": found.mse,
            "probe": found.probe,
        }
    )
path = pd.DataFrame(rows).set_index("asked")
path.round({"l0": 1, "active": 1, "ELBO": 1, "ELBO - l0": 1, "MSE": 4, "probe": 3})

# %%
plots.charts.lines(
    {"bound": {"ELBO": Curve(path["l0"], path["ELBO"])}, "classifier": {"probe": Curve(path["l0"], path["probe"])}},
    "l0 (latents per example, log scale)",
    ("ELBO (nats per example)", "accuracy"),
    log=True,
)

# %% [markdown]
# ## Which one to take
#
# `l0` is the sum of the gates' probabilities, so idle latents count; `active` counts those that are on (more likely
# on than off). Each step along the path buys fewer nats. One rule: another latent per example should bring at least
# one nat, which is to say that the ELBO less l0 is highest. If labels matter, look at the probe; if pictures do, at
# the error.

# %%
print(f"l0 with the highest ELBO less l0: {path['ELBO - l0'].idxmax()}")

# %% [markdown]
# Three values, one seed and 1000 steps are a sketch. `vsc tune --choose l0 --data digits` trains the path with two
# seeds each, takes into account which latents come back with another seed, and writes the recommended settings to a
# file.
