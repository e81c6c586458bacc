"""Processes of our own that share work, and what becomes of them when they are killed or asked to stop."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from vsc.errors import RunError
from vsc.torchstate import flush_denormals
from vsc.training.loop import Interrupted
from vsc.training.processes import signals

RESTARTS = 3
"""How often a worker that was killed is replaced, for each worker."""


def in_processes(work: Callable[[], Iterable[Any]], workers: int, ended: Callable[[Any], None]) -> None:
    """
    Let processes do the same work, which they divide among themselves; replace those that are killed.

    Parameters
    ----------
    work : callable
        What each process calls, in a new interpreter; it yields what is to be reported.
    workers : int
        Processes.
    ended : callable
        Is given here, in this process, what they yield.

    Raises
    ------
    RunError
        If workers keep dying.
    Interrupted
        If SIGINT or SIGTERM arrives; runs that were going on are saved first.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    crew: dict[Connection, Any] = {}
    replaced = 0

    def hire() -> None:
        ours, theirs = context.Pipe(duplex=False)
        crew[ours] = context.Process(target=_serve, args=(work, theirs, threads), daemon=True)
        crew[ours].start()
        theirs.close()

    try:
        with signals() as received:
            for _ in range(workers):
                hire()
            while crew and not received:
                for ours in wait(list(crew), timeout=0.5):
                    assert isinstance(ours, Connection)
                    try:
                        said = ours.recv()
                    except EOFError:
                        worker = crew.pop(ours)
                        worker.join()
                        if worker.exitcode and not received:  # killed: its run is as free as one never begun
                            replaced += 1
                            if replaced > RESTARTS * workers:
                                code = worker.exitcode
                                raise RunError(f"workers keep dying, the last with exit code {code}") from None
                            hire()
                        continue
                    ended(said)
    finally:
        for worker in crew.values():
            worker.terminate()  # SIGTERM: a run that trains saves its state first
        for worker in crew.values():
            worker.join()
    if received:
        raise Interrupted("", None, received[0])


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Interrupted at once on SIGINT and SIGTERM inside the block; training, inside it, saves first."""

    def stop(signum, frame):
        raise Interrupted("stopped", None, signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _serve(work: Callable[[], Iterable[Any]], tell: Connection, threads: int) -> None:
    """Work in a process of its own, until the work is done or its parent is gone."""
    import torch

    torch.set_num_threads(threads)
    flush_denormals()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(Interrupted, BrokenPipeError), stoppable():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent passes it on once
        for said in work():
            tell.send(said)


def _watch(parent: int) -> None:
    """Stop this process as a signal would once its parent has died."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
