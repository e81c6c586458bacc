"""
Draw training, codes, reconstructions and comparisons: arrays in, matplotlib ``Figure`` out; no pyplot, no global.

Here are the figures of one trained model. `charts` and `pictures` are those of several, `drawing` the parts they
share. Everywhere `shape` is (C, H, W) for images with one or three channels and (M,) for tables; `classes` are the
classes' names and `features` those of a table's columns, used where they fit; both may be empty.
"""

from vsc.plots.codes import class_heatmap, code_panels, effects, effects_in_runs
from vsc.plots.curves import front, nonzeros, path, training_curves
from vsc.plots.grids import denoising, latent_grid, sample_grid

__all__ = [
    "class_heatmap",
    "code_panels",
    "denoising",
    "effects",
    "effects_in_runs",
    "front",
    "latent_grid",
    "nonzeros",
    "path",
    "sample_grid",
    "training_curves",
]
