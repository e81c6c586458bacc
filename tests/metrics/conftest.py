"""Codes whose scores are known."""

from typing import NamedTuple

import numpy as np
import pytest

from vsc.data.smiley import ATTRIBUTES, draw_factors
from vsc.metrics import attributes


class Faces(NamedTuple):
    """Smiley's truth: V as drawn, present per factor, presence per attribute, and each factor's attribute."""

    V: np.ndarray
    present: np.ndarray
    presence: np.ndarray
    groups: np.ndarray

    @property
    def seen(self):
        """Factor times presence."""
        return self.V * self.present


@pytest.fixture(scope="session")
def faces():
    S, V = draw_factors(20_000, seed=7)
    names = [name for name, columns in ATTRIBUTES.items() for _ in range(18)[columns]]
    grouped = attributes(S, names)
    assert grouped.names == ("bowtie", "hat", "eyes", "mouth")
    return Faces(V, S, grouped.presence, grouped.groups)


@pytest.fixture(scope="session")
def plane():
    """Return two independent uniform factors on a grid of 40 x 40, so that sample moments are exact."""
    line = (np.arange(40) - 19.5) / 10
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)


@pytest.fixture(scope="session")
def turned(plane):
    """Return the plane's two factors turned by 45 degrees."""
    return plane @ np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
