"""The processes and signals of a training run."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vsc.errors import UsageError, first_line
from vsc.settings.config import TrainConfig


def launch(settings: TrainConfig):
    """Start lightning-fabric on the asked devices; under torchrun, on the processes that it started."""
    from lightning_fabric import Fabric

    devices, nodes = settings.devices, settings.nodes
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)  # it tells of itself on stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a CPU it takes bf16-mixed for 16-mixed
            fabric = Fabric(
                accelerator=settings.device,
                devices=devices,
                num_nodes=nodes,
                strategy="ddp" if devices * nodes > 1 else "auto",
                precision=settings.precision,  # pyright: ignore[reportArgumentType]
            )
        if settings.batch_size % (devices * nodes):
            raise UsageError(
                f"train.batch_size {settings.batch_size} must be a multiple of the {devices * nodes} processes"
            )
        fabric.launch()
    except UsageError:
        raise
    except Exception as error:  # fabric reports a missing device or an unknown name in several classes
        raise UsageError(f"train.device, devices or precision: {first_line(error)}") from error
    finally:
        logger.setLevel(level)
    return fabric


def by_lead(fabric, act: Callable[[], None]) -> None:
    """Let the first process act; if it fails, all fail with its error, so that none waits for another."""
    error = None
    if fabric.is_global_zero:
        try:
            act()
        except Exception as failure:
            error = failure
    error = fabric.broadcast(error)
    if error is not None:
        raise error


def gather(fabric, mine: Tensor) -> Tensor:
    """Stack every process's tensor, shape (processes, ...), on the CPU."""
    if fabric.world_size == 1:
        return mine[None].cpu()
    mine = mine.to(fabric.device)
    everyone = [torch.empty_like(mine) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(everyone, mine)
    return torch.stack(everyone).cpu()


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of stopping at once; a second SIGINT does what it would have done before."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(signum, frame):
        if received and signum == signal.SIGINT:
            if callable(before[signum]):
                before[signum](signum, frame)
            raise KeyboardInterrupt
        received.append(signum)

    mine = [number for number, handler in before.items() if handler is not None]  # None is not Python's own
    for number in mine:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number in mine:
            signal.signal(number, before[number])


def agreed(fabric, received: list[int]) -> int:
    """Return the signal that any process received, 0 for none, so that all stop at the same step."""
    return int(gather(fabric, torch.tensor(received[0] if received else 0)).max())
