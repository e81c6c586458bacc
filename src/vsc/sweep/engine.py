"""Who does many pieces of work: this process, loky's (joblib's) on this machine, or the workers of a dask cluster."""

import contextlib
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, wait
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

from vsc.errors import Busy, Interrupted, RunError, UsageError, at_least, choose, first_line

LOSSES = 10
"""Rounds in a row in which workers may die before anything ends."""

PAUSE = 1.0
"""Seconds before what is busy elsewhere is tried again."""


class Ended(NamedTuple):
    """What became of one piece of work."""

    place: int  # among the tasks, from 0
    value: Any = None  # what it returned
    problem: str = ""  # why it failed


Pool = tuple[Executor, tuple[type[BaseException], ...]]
"""What gives work to workers, and what it raises where one died."""


def run(
    work: Callable[[Any], Any],
    tasks: Sequence[Any],
    ended: Callable[[Ended], None],
    workers: int = 1,
    engine: str = "loky",
) -> None:
    """
    Do `work` with every task, several at a time, begun in their order; here `ended` is given what became of each.

    Work and tasks can be pickled. Its Busy means later; RunError, UsageError and OSError, that it failed. What a worker
    was at when it died, or when it was sent SIGTERM and saved it, is given out again: work must find what was done of
    it. `engine` is `loky`, with processes on this machine that share its CPU cores (one of them: this process itself),
    or `dask:ADDRESS` of a cluster's scheduler, all of whose workers are used. RunError if workers keep dying;
    Interrupted at SIGINT or SIGTERM, after what this machine was at is saved, unless a second SIGINT arrives.
    """
    at_least(1, workers, "workers")
    workers, waiting = min(workers, len(tasks)), dict(enumerate(tasks))
    name, _, address = engine.partition(":")
    start = partial(choose(ENGINES, name, "engine"), workers=workers, address=address)
    if name == "loky" and workers < 2:
        with stoppable():
            while waiting:
                for index, task in list(waiting.items()):
                    _settle(_attempt(work, index, task), waiting, ended)
                time.sleep(PAUSE if waiting else 0)
        return
    losses, flag = 0, None
    if name == "loky":  # those of a cluster go on with what they are at
        flag = Path(tempfile.gettempdir()) / f"vsc-stop-{os.getpid()}-{uuid.uuid4().hex}"
    while waiting:
        before = len(waiting)
        lost = _round(start, work, waiting, ended, flag)
        losses = losses + 1 if lost and len(waiting) == before else 0
        if losses > LOSSES:
            raise RunError(f"workers keep dying; of the last was said: {lost}")
        time.sleep(PAUSE if waiting and not lost else 0)


def _round(
    start: Callable[[], AbstractContextManager[Pool]],
    work: Callable[[Any], Any],
    waiting: dict[int, Any],
    ended: Callable[[Ended], None],
    flag: Path | None,
) -> str:
    """Give out all that waits, once; return what was said of workers that died."""
    lost, futures = "", {}
    do = partial(_served, work, os.getcwd(), flag)
    with contextlib.ExitStack() as stack:
        received = stack.enter_context(_told_to_stop(flag))
        with _without_interrupts():  # workers inherit that: Ctrl-C reaches every process, and this one passes it on
            executor, losses = stack.enter_context(start())
            with contextlib.suppress(*losses):
                for index, task in waiting.items():
                    futures[executor.submit(do, index, task)] = index
        while futures and not (received and lost):
            for future in wait(futures, timeout=0.2, return_when=FIRST_COMPLETED).done:
                del futures[future]
                try:
                    outcome = future.result()
                except losses as error:
                    lost = first_line(error)
                    continue
                _settle(outcome, waiting, ended)
        if received:
            raise Interrupted("", None, received[0])
    return lost


def _settle(outcome: Ended | None, waiting: dict[int, Any], ended: Callable[[Ended], None]) -> None:
    if outcome is not None:
        del waiting[outcome.place]
        ended(outcome)


def _attempt(work: Callable[[Any], Any], place: int, task: Any) -> Ended | None:
    """Do a piece of work; None if it is busy elsewhere."""
    try:
        return Ended(place, work(task))
    except Busy:
        return None
    except (RunError, UsageError, OSError) as error:
        return Ended(place, problem=str(error))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Interrupted at once on SIGINT and SIGTERM inside the block; training, inside it, saves first."""

    def stop(signum, frame):
        raise Interrupted("stopped", None, signum)

    with _handling({signal.SIGINT: stop, signal.SIGTERM: stop}):
        yield


@contextlib.contextmanager
def _told_to_stop(flag: Path | None) -> Iterator[list[int]]:
    """Note signals, and tell the workers by a file of that name; without one, or at a second SIGINT, stop at once."""
    received: list[int] = []

    def note(signum, frame):
        if received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signum)
        if flag is None:
            raise Interrupted("", None, signum)
        flag.touch()

    try:
        with _handling({signal.SIGINT: note, signal.SIGTERM: note}):
            yield received
    finally:
        if flag is not None:
            flag.unlink(missing_ok=True)


@contextlib.contextmanager
def _handling(handlers: Mapping[int, Callable]) -> Iterator[None]:
    """Handle signals inside the block, where that can be done: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let SIGINT wait until the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started inside, it would let SIGINT in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- engines: (workers, address) -> a block with a Pool, after which nothing of an interrupted one goes on here


@contextlib.contextmanager
def _loky(workers: int, address: str) -> Iterator[Pool]:
    """Start processes of our own: those that joblib keeps for the caller stay the caller's."""
    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor

    if address:
        raise UsageError(f"the engine loky works on this machine and takes no address, but was given {address!r}")
    threads = max(1, cpu_count() // workers)
    executor = ProcessPoolExecutor(
        workers,
        initializer=_begin,
        initargs=(os.getpid(), threads),
        env={f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")},
    )
    try:
        yield executor, (BrokenExecutor, CancelledError)
        executor.shutdown()
    except Interrupted:
        executor.shutdown()  # they have saved what they were at
        raise
    except BaseException:
        told, threading.excepthook = threading.excepthook, lambda said: None  # loky's own may stumble over what is gone
        try:
            executor.shutdown(kill_workers=True)
        finally:
            threading.excepthook = told
        raise


@contextlib.contextmanager
def _dask(workers: int, address: str) -> Iterator[Pool]:
    """Connect to a cluster's scheduler, which itself gives the work of a worker that died to another."""
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise UsageError("this needs dask: pip install 'variational-sparse-coding[cluster]'") from error
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"no dask scheduler answers at {address!r}; give --engine dask:tcp://HOST:8786") from error
    with client, client.get_executor(pure=False) as executor:
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError:
            raise RunError(f"the cluster has no workers; start some: dask worker {address} --nthreads 1") from None
        try:
            yield executor, (KilledWorker, CancelledError)
        except BaseException:
            executor.shutdown(wait=False)
            raise


ENGINES: dict[str, Callable[..., AbstractContextManager[Pool]]] = {"loky": _loky, "dask": _dask}
"""Name -> what starts it."""

# ---- in a worker of this machine

_at: Path | None = None
"""Where the parent says that the work that this worker is at is to be saved and left; None while it is at none."""

_orphan = False
"""Whether the parent is gone: what it had given out already is left."""


def _begin(parent: int, threads: int) -> None:
    """Make a new process a worker."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # of use only while there is something to save
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    import torch
    from tqdm import tqdm

    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # by default a semaphore, which outlives a process that is killed, and is told of


def _watch(parent: int) -> None:
    """Stop the work when the parent says so, and this process when the parent is gone."""
    global _orphan
    told = None
    while os.getppid() == parent:
        if _at is not None and _at != told and _at.exists():
            told = _at
            _interrupt()
        time.sleep(0.1)
    _orphan = True
    _interrupt()
    end = time.monotonic() + 60
    while _at is not None and time.monotonic() < end:
        time.sleep(0.1)
    os._exit(143)


def _interrupt() -> None:
    """Send SIGTERM to the thread that works: sent to the process, it may reach another and leave that one asleep."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)


def _served(work: Callable[[Any], Any], folder: str, flag: Path | None, place: int, task: Any) -> Ended | None:
    """Do a piece of work in a worker; None if it is busy, or was stopped and saved by a signal or by the flag."""
    global _at
    os.chdir(folder)
    if flag is None:
        return _attempt(work, place, task)
    if flag.exists():
        return None
    try:
        with stoppable():
            _at = flag
            if _orphan:
                return None
            outcome = _attempt(work, place, task)
    except Interrupted:
        return None
    finally:
        _at = None
    return None if flag.exists() and outcome is not None and outcome.problem else outcome  # "stopped" is no failure
