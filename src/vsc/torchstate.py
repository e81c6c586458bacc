"""What torch keeps for a whole process or thread: borrowed for a while, and put back as the caller had it."""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

SMALL_MODEL = 300_000
"""Parameters below which one CPU thread is used."""


class _Turns:
    """A lock that is handed over in the order of arrival; who has it may take it again."""

    def __init__(self):
        self._guard, self._waiting = threading.Lock(), deque[threading.Lock]()
        self._owner, self._depth = 0, 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._guard:
            if self._owner in (0, me):
                self._owner, self._depth = me, self._depth + 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            mine.acquire()  # until it is handed over
        except BaseException:  # Ctrl-C: what comes may not be lost
            with self._guard:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                else:
                    self._next()
            raise
        self._owner, self._depth = me, 1

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._depth = max(0, self._depth - 1)
            if not self._depth:
                self._next()

    def _next(self) -> None:
        """Hand over to who has waited longest; -1 stands for one that does not yet know."""
        self._owner = -1 if self._waiting else 0
        if self._waiting:
            self._waiting.popleft().release()


_turns = _Turns()
_forked = False


def _after_fork() -> None:
    global _turns, _forked
    _turns, _forked = _Turns(), True  # whoever had the turn is not in this process


os.register_at_fork(after_in_child=_after_fork)


class Noise:
    """
    The random state of one training or evaluation, on the CPU and on a device.

    All threads of a process draw from the same generators of torch, custom modules and dropout included. So whoever
    draws takes turns: a turn puts the state of its own into the generators, and the caller's back at its end. What is
    drawn depends on the seed alone then, not on who else draws, and the caller's next random number is what it would
    have been. torch's default dtype is as common to all, and is float32 within a turn.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        self._generators = _generators(torch.device(device))
        self.states = [torch.Generator(one.device).manual_seed(seed).get_state() for one in self._generators]
        self._mine = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Draw from this state inside the block; other threads wait for their turn, each no longer than for one."""
        with _turns:
            if self._mine:
                yield
                return
            theirs, dtype = [one.get_state() for one in self._generators], torch.get_default_dtype()
            self._mine = True
            try:
                _put(self._generators, self.states)
                if dtype != torch.float32:
                    torch.set_default_dtype(torch.float32)
                yield
            finally:
                self.states = [one.get_state() for one in self._generators]
                if dtype != torch.float32:
                    torch.set_default_dtype(dtype)
                _put(self._generators, theirs)
                self._mine = False


def _generators(device: torch.device) -> list[torch.Generator]:
    """Return the CPU's generator, and that of the device."""
    found = [torch.default_generator]
    if device.type in ("cuda", "xpu"):
        module = torch.get_device_module(device)
        module.init()
        found.append(module.default_generators[module.current_device() if device.index is None else device.index])
    elif device.type == "mps":
        found.append(torch.mps._get_default_mps_generator())
    return found


def _put(generators: list[torch.Generator], states: list[Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Draw from a seed of its own inside the block: one turn of a `Noise`."""
    with Noise(seed, device).turn():
        yield


def flush_denormals() -> None:
    """
    Let numbers below 1e-38 become zero, on this thread and on all that it starts from now on; for a whole command.

    The moments of a weight that gets no gradient, as those of a latent that is off, fade into such numbers within a
    thousand steps, and a step then takes up to 40 % longer. Call it before torch has started its threads.
    """
    torch.set_flush_denormal(True)


@contextmanager
def modes(gradients: bool) -> Iterator[None]:
    """
    Compute as nothing around it had been changed: whatever default device, autocast or inference mode the caller is in.

    Numbers below 1e-38 become zero inside, as with `flush_denormals`; gradients are recorded if they are asked for.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        before, threads = sys.float_info.min * 0.5 == 0.0, torch.get_num_threads()
        torch.set_flush_denormal(True)
        if _forked:  # what the parent's threads had begun would never end
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_flush_denormal(before)
            if _forked:
                torch.set_num_threads(threads)


_open = 0
_usual = 1


@contextmanager
def cpu_threads(module: nn.Module) -> Iterator[None]:
    """
    Use one CPU thread for a small model inside the block.

    Threads that share small matrices gain nothing on an idle machine, and wait for each other on a busy one: a run that
    takes 4 seconds with one thread can take a minute with two. A process that was forked has one thread in any case.
    """
    global _open, _usual
    before = torch.get_num_threads()
    with _turns._guard:
        if not _open:
            _usual = before
        elif before == 1:  # a new thread takes over what another has set for its own block
            before = _usual
        _open += 1
    small = sum(p.numel() for p in module.parameters()) < SMALL_MODEL
    torch.set_num_threads(1 if small or _forked else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        with _turns._guard:
            _open -= 1
