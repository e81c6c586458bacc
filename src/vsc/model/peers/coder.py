"""What sparse autoencoders share: one code of an example, exactly zero where a latent is off."""

from abc import ABC, abstractmethod

from torch import Tensor

from vsc.model.base import Codes
from vsc.model.dense import Unbounded


class Coder(Unbounded, ABC):
    """An autoencoder whose one code is exactly zero where a latent is off: gamma is 1 where it is not."""

    features = 1
    spiked = True
    asks_l0 = True
    schedules = frozenset({"target_l0"})

    @abstractmethod
    def code(self, pre: Tensor) -> Tensor:
        """Return z (B, J) of the encoder's output (B, J), of each example by itself."""

    def codes(self, x):
        """Return z = mu, exactly zero where a latent is off, and gamma = 1[z != 0]."""
        return exact(self.code(self.from_encoder(x)))


def also(value: Tensor, more: Tensor | None) -> Tensor:
    """Return `value`, with the gradient of the sum of the two: what is trained beside what is reported."""
    return value if more is None else value + (more - more.detach())


def on_where(z: Tensor) -> Tensor:
    """Return 1[z != 0]."""
    return (z.detach() != 0).to(z.dtype)


def exact(z: Tensor) -> Codes:
    """Return the codes z (B, J), which are zero where a latent is off."""
    return Codes(z, on_where(z), z)
