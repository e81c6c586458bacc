"""A trained model measured on a split; called, it measures metrics: `vsc.measure(model, data, ["mig"])`."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A package, which has the name of the function that it is known for, and imports its modules when asked."""

    def __call__(self, *args, **kwargs):
        from vsc.measure.measured import measure

        return measure(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f"{__name__}.{name}")


sys.modules[__name__].__class__ = _Room
