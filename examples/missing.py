# %% [markdown]
# # Missing values and mixed columns
#
# 442 people with diabetes (scikit-learn's `load_diabetes`): sex, age, body mass index, blood pressure and six
# measurements of the blood. A fifth of all cells is made missing here, so that what is filled in can be compared with
# what was there.

# %%
import os

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

import vsc

whole = load_diabetes(as_frame=True, scaled=False).data
gone = np.random.default_rng(0).random(whole.shape) < 0.2
frame = whole.mask(gone)
frame["sex"] = frame["sex"].map({1: "one", 2: "other"})  # the data do not say which is which
frame.head()

# %% [markdown]
# ## What each column is taken for
#
# Two texts become a yes or no, more of them levels, whole numbers from 0 on counts, all else measurements; each
# column has its own likelihood. `columns={"age": "poisson"}` would say otherwise.

# %%
data = vsc.from_arrays(frame)
pd.DataFrame(data.fields)[["name", "likelihood", "levels"]]

# %% [markdown]
# ## Train
#
# The bound sums over the cells that are there, and the encoder is told which are not.

# %%
steps = int(os.environ.get("STEPS", "1000"))
model = vsc.train(data, vsc.Config(model=vsc.ModelConfig(latent_dim=8), train=vsc.TrainConfig(steps=steps)))
print(f"{vsc.evaluate(model, data).active:.1f} of 8 latents are on for a person")

# %% [markdown]
# ## Fill in
#
# `impute` puts the expected value where a cell is missing, given all that is there; of a column of levels the most
# probable one. Nothing else is touched.

# %%
filled = model.impute(frame)
filled.head()

# %% [markdown]
# ## How well?
#
# Root mean square error over the missing cells, in standard deviations, of the columns of numbers: beside their mean,
# and beside scikit-learn's IterativeImputer, a ridge regression of each column on all others.

# %%
numbers = [name for name in whole if name != "sex"]


def error(found):
    """Return the error over the missing cells of numbers."""
    off = (np.asarray(found) - whole[numbers]) / whole[numbers].std()
    return float(np.sqrt((off.to_numpy()[gone[:, whole.columns != "sex"]] ** 2).mean()))


print(f"mean of the column  {error(SimpleImputer().fit_transform(frame[numbers])):.3f}")
print(f"IterativeImputer    {error(IterativeImputer(max_iter=50, random_state=0).fit_transform(frame[numbers])):.3f}")
print(f"sparse code         {error(filled[numbers]):.3f}")

# %% [markdown]
# A linear regression is hard to beat on columns that are nearly linear in each other. What the model adds is that
# text and counts are filled in as what they are, and that the codes of incomplete rows can be used as any other:

# %%
codes = model.encode(frame.head())
pd.DataFrame(codes.hard.numpy().round(2))
