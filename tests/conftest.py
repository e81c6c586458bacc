"""What all tests share: a fixed seed, one thread, and a data set small enough to train on in a second."""

import os
from functools import cache
from importlib import metadata

import pytest
import torch

from vsc.data.split import Dataset, Split

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
# each training looks through all that is installed, a quarter of its time when it is short
metadata.entry_points, metadata.version = cache(metadata.entry_points), cache(metadata.version)


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, on one thread: models are small, other tests run beside."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return 0


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures of a page empty where its words are tested: drawing takes seconds, and has its own tests."""
    from matplotlib.figure import Figure

    from vsc.report import figures, stability

    class Empty:
        def __getattr__(self, name):
            return lambda *given, **more: Figure((1, 1))

    for module in (figures, stability):
        monkeypatch.setattr(module, "plots", Empty())


@pytest.fixture(scope="session")
def tiny():
    """Return 60/20/20 black-and-white images (1, 8, 8) of three classes: a bar per class, with 3 % of flips."""
    generator = torch.Generator().manual_seed(0)
    bars = torch.zeros(3, 8, 8, dtype=torch.bool)
    bars[0, 1:3, :], bars[1, :, 3:5], bars[2, 5:8, 5:8] = True, True, True

    def draw(n):
        y = torch.arange(n) % 3
        flips = torch.rand(n, 64, generator=generator) < 0.03
        return Split((bars.reshape(3, 64)[y] ^ flips).to(torch.uint8) * 255, y)

    return Dataset("tiny", (1, 8, 8), draw(60), draw(20), draw(20), ("row", "column", "corner"), high=255.0)
