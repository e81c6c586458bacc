"""
Variational sparse coding: sparse, interpretable codes from a deep generative model.

>>> import vsc
>>> digits = vsc.load_data("digits")
>>> config = vsc.Config(train=vsc.TrainConfig(steps=20))
>>> model = vsc.train(digits, config)
>>> model.encode(digits.test.x).hard.shape  # exactly zero where a latent is off
torch.Size([360, 32])
"""

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsc import data as data
    from vsc import metrics as metrics
    from vsc import plots as plots
    from vsc.data import from_arrays as from_arrays
    from vsc.data import from_torch as from_torch
    from vsc.data import load as load_data  # noqa: F401 (ruff reads no name that is computed)
    from vsc.errors import RunError as RunError
    from vsc.errors import UsageError as UsageError
    from vsc.estimator import SparseCoder as SparseCoder
    from vsc.hub import load as load
    from vsc.measure.measured import Measured as Measured
    from vsc.measure.measured import evaluate as evaluate
    from vsc.measure.measured import measure as measure
    from vsc.model import AE as AE
    from vsc.model import TCVAE as TCVAE
    from vsc.model import VAE as VAE
    from vsc.model import VSC as VSC
    from vsc.model import LaplaceVAE as LaplaceVAE
    from vsc.model import ThresholdedLaplaceVSC as ThresholdedLaplaceVSC
    from vsc.model import sampling as sampling
    from vsc.model.distributions import SpikeAndSlab as SpikeAndSlab
    from vsc.settings.config import Config as Config
    from vsc.settings.config import DataConfig as DataConfig
    from vsc.settings.config import ModelConfig as ModelConfig
    from vsc.settings.config import TrainConfig as TrainConfig
    from vsc.settings.presets import preset as preset
    from vsc.training.loop import train as train

_OF = {
    "data": ("from_arrays", "from_torch"),
    "errors": ("RunError", "UsageError"),
    "estimator": ("SparseCoder",),
    "hub": ("load",),
    "measure.measured": ("Measured", "evaluate"),
    "model": ("AE", "TCVAE", "VAE", "VSC", "LaplaceVAE", "ThresholdedLaplaceVSC"),
    "model.distributions": ("SpikeAndSlab",),
    "settings.config": ("Config", "DataConfig", "ModelConfig", "TrainConfig"),
    "settings.presets": ("preset",),
    "training.loop": ("train",),
}
_HOME = {name: home for home, names in _OF.items() for name in names} | {"load_data": "data"}
"""Where each public name lives; imported when it is first used, so that `import vsc` stays quick."""

_MODULES = {"data": "data", "measure": "measure", "metrics": "metrics", "plots": "plots", "sampling": "model.sampling"}
"""Modules that are offered too, and where they are."""

__all__ = list(_HOME | _MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("variational-sparse-coding")
    if name in _HOME:
        return getattr(import_module(f"vsc.{_HOME[name]}"), "load" if name == "load_data" else name)
    where = f"vsc.{_MODULES.get(name, name)}"  # any other too, by the name that the pages give
    if name.startswith("_") or not name.isidentifier() or find_spec(where) is None:
        raise AttributeError(f"module 'vsc' has no attribute {name!r}")
    return import_module(where)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
