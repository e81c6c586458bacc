"""Linear decoders against the truth of a data set, whatever the scaling."""

import pytest
import torch
from torch import nn

import vsc
from vsc.data.split import Dataset, Split
from vsc.errors import UsageError
from vsc.model import AE
from vsc.model.likelihoods import LIKELIHOODS
from vsc.model.nets import Dictionary
from vsc.model.scaling import fit_scaler


@pytest.fixture
def data():
    """Return 60 examples of 5 features in 8 dimensions, each row of which has one."""
    directions, index = torch.randn(5, 8), torch.arange(60) % 5
    fires = torch.zeros(60, 5, dtype=torch.bool)
    fires[torch.arange(60), index] = True
    part = Split(directions[index] * torch.linspace(1, 2, 60)[:, None], extras={"fires": fires})
    return Dataset("few", (8,), part, part, part, directions=directions)


def model(data, decoder, scale):
    scaler = fit_scaler(scale, data.train.x, None)
    with torch.no_grad():
        if isinstance(decoder, Dictionary):
            decoder.directions.copy_(data.directions * scaler.factor)
        else:
            decoder.weight.copy_((data.directions * scaler.factor).T)
    return AE(
        *(nn.Linear(8, 5), decoder), shape=(8,), latent_dim=5, likelihood=LIKELIHOODS["gaussian-fixed"](), scaler=scaler
    )


@pytest.mark.parametrize("decoder", [Dictionary(5, 8), nn.Linear(5, 8)], ids=["Dictionary", "Linear"])
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_the_true_directions_are_found_in_stored_units(data, decoder, scale):
    found = vsc.measure(model(data, decoder, scale), data, ["feature-mcc", "feature-uniqueness", "feature-f1"])
    assert found["feature-mcc"] == pytest.approx(1, abs=1e-5)
    assert found["feature-uniqueness"] == 1
    assert found["feature-f1"] == pytest.approx(
        2 * 0.2 / 1.2
    )  # all are on always, and a fifth of the examples has each


def test_unexplained_variance_is_of_stored_values(data):
    """Of a decoder that gives zero in model units: the mean of the training part, which is all of the data."""
    one = model(data, nn.Linear(5, 8), "standard")
    nn.init.zeros_(one.decoder.weight)
    nn.init.zeros_(one.decoder.bias)
    assert vsc.measure(one, data, ["fvu"])["fvu"] == pytest.approx(1, abs=1e-5)


def test_nets_that_are_not_linear_have_no_directions(data):
    one = AE(
        *(nn.Linear(8, 5), nn.Sequential(nn.Linear(5, 8), nn.ReLU())),
        shape=(8,),
        latent_dim=5,
        likelihood=LIKELIHOODS["gaussian-fixed"](),
    )
    with pytest.raises(UsageError, match="linear"):
        vsc.measure(one, data, ["feature-mcc"])
