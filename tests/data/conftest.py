import os
from pathlib import Path

import pytest


def _roots():
    if os.environ.get("VSC_DATA"):
        yield Path(os.environ["VSC_DATA"])
    yield Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def find_data():
    """Return a function from a relative path to where the real data have it, skipping the test if nowhere."""

    def find(relative):
        for root in _roots():
            if (root / relative).exists():
                return root, root / relative
        return pytest.skip(f"{relative} is not in $VSC_DATA nor in ../shared/data")

    return find
