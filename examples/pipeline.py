# %% [markdown]
# # In a scikit-learn pipeline
#
# `SparseCoder` is a transformer like any other of scikit-learn's: rows in, sparse codes out. Here it comes before a
# classifier, on 569 tumours with 30 measurements each.

# %%
import os

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vsc

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
steps = int(os.environ.get("STEPS", "0")) or None  # None: what suits the number of rows

# %% [markdown]
# ## Codes
#
# The coder scales the columns itself. A value is exactly zero where a latent is off. `sparse_output=True` gives a
# SciPy matrix instead, and `set_output` a data frame with a name for each latent.

# %%
coder = vsc.SparseCoder(latent_dim=16, max_iter=steps, random_state=0).set_output(transform="pandas")
codes = coder.fit_transform(X_train)
print(f"{(codes != 0).sum(axis=1).mean():.1f} of {codes.shape[1]} latents are on for a row")
codes.head().round(2)

# %% [markdown]
# ## Back to measurements
#
# `inverse_transform` decodes codes, in the units of the columns; `score` is the mean bound, in nats.

# %%
again = coder.inverse_transform(coder.transform(X_test))
error = ((again - X_test.to_numpy()) ** 2).mean(axis=0) / X_test.to_numpy().var(axis=0)
print(f"variance explained: {1 - error.mean():.0%} in the mean over the columns; score {coder.score(X_test):.1f} nats")

# %% [markdown]
# ## A pipeline

# %%
pipeline = make_pipeline(
    vsc.SparseCoder(latent_dim=16, max_iter=steps, random_state=0), LogisticRegression(max_iter=1000)
)
pipeline.fit(X_train, y_train)
plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X_train, y_train)
print(f"accuracy on held-out rows, with the codes: {pipeline.score(X_test, y_test):.1%}")
print(f"with the 30 columns themselves: {plain.score(X_test, y_test):.1%}")

# %% [markdown]
# A sparse code costs some accuracy where the columns themselves are enough for a linear classifier, as here. It is
# worth it where few numbers per row, which can be looked at one by one, are what you want.

# %% [markdown]
# ## How many latents per row?
#
# Parameters are searched like those of any other step; the classifier decides, by cross-validation. `prior_sparsity`
# is another: the share of latents that the prior expects on, so that smaller is sparser (scikit-learn's alpha runs
# the other way).

# %%
search = GridSearchCV(pipeline, {"sparsecoder__target_l0": [3, 8]}, cv=2)
search.fit(X_train, y_train)
for asked, accuracy in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    print(f"{asked['sparsecoder__target_l0']} latents per row: {accuracy:.1%}")
print(f"the best of them on held-out rows: {search.score(X_test, y_test):.1%}")

# %% [markdown]
# `coder.model_` is the trained model, for all else: `vsc.evaluate`, `vsc.Measured` and the figures take it. joblib
# and pickle keep a fitted coder; its weights are stored as safetensors.
