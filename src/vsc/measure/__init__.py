"""A trained model measured on a split; called, it measures metrics: `vsc.measure(model, data, ["mig"])`."""

import sys
from types import ModuleType


class _Room(ModuleType):
    """A package, which has the name of the function that it is known for."""

    def __call__(self, *args, **kwargs):
        from vsc.measure.measured import measure

        return measure(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
