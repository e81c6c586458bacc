"""`train.compile`: the same numbers on a GPU, and nothing at all elsewhere."""

import pytest
import torch

import vsc
from vsc.errors import Caution
from vsc.settings.config import Config, ModelConfig, TrainConfig

DATA = vsc.from_arrays(torch.randn(60, 6, generator=torch.Generator().manual_seed(3)).numpy(), name="noise")


def trained(device, compiled):
    train = TrainConfig(steps=5, batch_size=20, device=device, compile=compiled)
    return vsc.train(DATA, Config(model=ModelConfig(latent_dim=4, hidden=(8,)), train=train)).state_dict()


def test_without_a_gpu_it_says_so_and_changes_no_number():
    with pytest.warns(Caution, match="does nothing on cpu"):
        asked = trained("cpu", True)
    torch.testing.assert_close(asked, trained("cpu", False), rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_the_numbers_are_the_same():
    torch.testing.assert_close(trained("cuda", True), trained("cuda", False), rtol=1e-3, atol=1e-4)
