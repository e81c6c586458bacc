"""
Variational sparse coding: sparse, interpretable codes from a deep generative model.

>>> import vsc
>>> digits = vsc.load_data("digits")
>>> config = vsc.Config(train=vsc.TrainConfig(steps=20))
>>> model = vsc.train(config, digits)
>>> model.encode(digits.test.x).hard.shape  # exactly zero where a latent is off
torch.Size([360, 32])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsc.config import Config as Config
    from vsc.config import DataConfig as DataConfig
    from vsc.config import ModelConfig as ModelConfig
    from vsc.config import TrainConfig as TrainConfig
    from vsc.data import from_arrays as from_arrays
    from vsc.data import from_torch as from_torch
    from vsc.data import load as load_data
    from vsc.distributions import SpikeAndSlab as SpikeAndSlab
    from vsc.errors import RunError as RunError
    from vsc.errors import UsageError as UsageError
    from vsc.evaluation import evaluate as evaluate
    from vsc.evaluation import measure as measure
    from vsc.models import AE as AE
    from vsc.models import TCVAE as TCVAE
    from vsc.models import VAE as VAE
    from vsc.models import VSC as VSC
    from vsc.models import LaplaceVAE as LaplaceVAE
    from vsc.models import ThresholdedLaplaceVSC as ThresholdedLaplaceVSC
    from vsc.runs import load as load
    from vsc.training import train as train

_HOME = {
    "Config": "config",
    "DataConfig": "config",
    "ModelConfig": "config",
    "TrainConfig": "config",
    "SpikeAndSlab": "distributions",
    "RunError": "errors",
    "UsageError": "errors",
    "AE": "models",
    "LaplaceVAE": "models",
    "TCVAE": "models",
    "ThresholdedLaplaceVSC": "models",
    "VAE": "models",
    "VSC": "models",
    "evaluate": "evaluation",
    "from_arrays": "data",
    "from_torch": "data",
    "load": "runs",
    "load_data": "data",
    "measure": "evaluation",
    "train": "training",
}
"""Where each public name lives; imported when it is first used, so that `import vsc` stays quick."""

__all__ = ["AE", "TCVAE", "VAE", "VSC", "Config", "DataConfig", "LaplaceVAE", "ModelConfig", "RunError", "SpikeAndSlab"]
__all__ += ["ThresholdedLaplaceVSC", "TrainConfig", "UsageError", "evaluate", "from_arrays", "from_torch", "load"]
__all__ += ["load_data"]
__all__ += ["measure", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vsc' has no attribute {name!r}")
    return getattr(import_module(f"vsc.{_HOME[name]}"), "load" if name == "load_data" else name)


def __dir__() -> list[str]:
    return sorted(__all__)
