"""Training without an end: a step for each batch, as data come."""

import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from vsc.data.batches import mixed
from vsc.model import Autoencoder
from vsc.model.bounds import TERMS
from vsc.settings.config import TrainConfig
from vsc.torchstate import Noise, modes
from vsc.training.checkpoint import Progress, Session
from vsc.training.loop import paces, step
from vsc.training.pressure import Pressure
from vsc.training.processes import launch


class Online:
    """
    A model in training, in place, whose data come bit by bit: it takes the steps that `vsc.train` takes.

    Of the resolved `settings`, schedules stay at their ends once `steps` are taken. The model has `taken` steps behind
    it; with the `state` that an earlier one returned it goes on as if there had been no break.
    """

    def __init__(self, model: Autoencoder, settings: TrainConfig, taken: int = 0, state: bytes | None = None):
        self.model, self.settings = model, settings
        with modes(gradients=True):
            fabric = launch(settings)
            wrapped, optimizer = fabric.setup(model, torch.optim.Adam(paces(model), lr=1e-3))
            noise = Noise(settings.seed, fabric.device)
            self._session = Session(fabric, settings, model, wrapped, optimizer, noise)
            self._done = Progress(torch.zeros(len(TERMS), device=self._session.fabric.device), taken)
            if state is not None:
                self._restore(read_tensors(state))

    @property
    def taken(self) -> int:
        """Steps that the model has behind it."""
        return self._done.step

    def learn(self, x: Tensor) -> None:
        """Take a step for each batch of stored examples x (N, M), in a random order that seed and steps decide."""
        seed = self.settings.seed
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mixed(3, seed, self.taken)))
        self.model.train()
        with modes(gradients=True):
            for rows in order.chunk(-(-len(x) // self.settings.batch_size)):
                with Noise(mixed(4, seed, self.taken), self._session.fabric.device).turn():
                    batch = self.model.scaler(x[rows])
                    batch = torch.bernoulli(batch) if self.model.binarise else batch
                    _, done = step(self._session, batch, self._done, look=True)
                self._done = done._replace(step=done.step + 1)
        self.model.eval()

    def state(self) -> bytes:
        """Return Adam's moments and the controller as a safetensors file."""
        moments = self._session.optimizer.state_dict()["state"]
        tensors = {f"{i}.{name}": value for i, own in moments.items() for name, value in own.items()}
        if self._done.pressure is not None:
            tensors |= {f"pressure.{name}": value for name, value in self._done.pressure._asdict().items()}
        return write_tensors({name: value.detach().cpu().contiguous() for name, value in tensors.items()})

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, kind = name.partition(".")
            if part != "pressure":
                moments.setdefault(int(part), {})[kind] = value
        self._session.optimizer.load_state_dict(self._session.optimizer.state_dict() | {"state": moments})
        if "pressure.rates" in tensors:
            kept = {name: tensors[f"pressure.{name}"].to(self._session.fabric.device) for name in Pressure._fields}
            self._done = self._done._replace(pressure=Pressure(**kept))
