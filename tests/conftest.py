"""What all tests share: a fixed seed, and a data set small enough to train on in a second."""

import pytest
import torch

from vsc.data.split import Dataset, Split


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state."""
    torch.manual_seed(0)
    return 0


@pytest.fixture(autouse=True)
def _one_thread():
    """Models this small are faster so, and other tests may be running beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
