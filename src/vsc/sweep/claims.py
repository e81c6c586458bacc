"""Who does what, kept in optuna's journal file or database: for machines whose shared disk has no locks to rely on."""

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsc.errors import Busy, RunError, UsageError

BEAT = 20.0
"""Seconds between a worker's signs of life."""

LIMIT = 120.0
"""Seconds without one after which another worker takes its run up."""


@dataclass
class Turn:
    """
    A run that is ours to do, until the end of the block.

    Attributes
    ----------
    trial : optuna.trial.Trial
        What optuna knows of it.
    value : float or None
        To be set to what came out.
    """

    trial: Any
    value: float | None = None


class Queue:
    """
    Runs, each done by one worker at a time, wherever the workers are: one optuna study, with a trial for each run.

    Of several trials of one run, which arise when workers begin at once, only the first that has not ended counts. A
    worker that gives no sign of life for `limit` seconds, by the clock of the one that looks, has lost its run: its
    trial is marked as failed and a new one waits. A worker that was merely suspended for so long does not learn of it.

    Parameters
    ----------
    storage : str
        A journal file, or a URL of SQLAlchemy such as sqlite:///sweep.db.
    name : str
        Name of the optuna study; made if it is not there yet.
    better : str
        `higher` or `lower`.
    beat, limit : float
        Seconds between signs of life, and without any after which a run is given to another.

    Raises
    ------
    UsageError
        If optuna is not installed, or the storage cannot be opened.
    """

    def __init__(
        self, storage: str, name: str, better: str = "higher", beat: float = BEAT, limit: float = LIMIT
    ) -> None:
        self.asked = (storage, name, better, beat, limit)
        self.beat, self.limit = beat, limit
        self.optuna = optuna()
        self.storage, self.study = _open(storage, name, "maximize" if better == "higher" else "minimize")
        self._seen: dict[str, tuple[Any, float]] = {}

    def __reduce__(self):  # a process of our own opens the storage anew
        return Queue, self.asked

    def enrol(self, runs: Mapping[str, str]) -> None:
        """Let runs wait, unless they wait already or are being done; `runs` has a label for each name."""
        there = {trial.user_attrs.get("run") for trial in self._trials() if not trial.state.is_finished()}
        for run, label in runs.items():
            if run not in there:
                self._add({"run": run, "label": label})

    def ended(self) -> dict[str, Any]:
        """Return optuna's trial of each run that came to an end: complete, pruned, or failed with a `problem`."""
        return {trial.user_attrs["run"]: trial for trial in self._trials() if self._has_ended(trial)}

    def elsewhere(self) -> str:
        """Say what other workers have in hand, alive or not; empty if nothing."""
        running = [one for one in self._trials() if one.state == self.optuna.trial.TrialState.RUNNING]
        said = "; ".join(f"{one.user_attrs.get('label')}: {one.user_attrs.get('worker')}" for one in running[:4])
        more = " ..." if len(running) > 4 else ""
        rest = f"a worker that has died loses its run after {self.limit:.0f} s"
        return f"in other hands: {said}{more}; {rest}" if running else ""

    @contextmanager
    def turn(self, run: str) -> Iterator[Turn]:
        """
        Do a run inside the block. Its outcome is kept; if the block is interrupted, the run waits again.

        Parameters
        ----------
        run : str
            Its name.

        Yields
        ------
        Turn
            Where to put what came out.

        Raises
        ------
        Busy
            If another worker does it, or did so a moment ago.
        RunError
            If it failed elsewhere.
        """
        mine = self._claim(run)
        turn = Turn(self.optuna.trial.Trial(self.study, mine._trial_id))
        states = self.optuna.trial.TrialState
        with self._beating(mine._trial_id):
            try:
                yield turn
            except self.optuna.TrialPruned:
                self._tell(mine, state=states.PRUNED)
                raise
            except BaseException as error:
                if isinstance(error, RunError | UsageError) and not isinstance(error, Busy):
                    with suppress(RuntimeError):  # it has been taken from us and ended
                        self.storage.set_trial_user_attr(mine._trial_id, "problem", str(error))
                    self._tell(mine, state=states.FAIL)
                else:
                    self._set(mine, states.WAITING)
                raise
            self._tell(mine, turn.value)

    def _claim(self, run: str) -> Any:
        """Make a run ours, and return its trial."""
        states = self.optuna.trial.TrialState
        mine = [trial for trial in self._trials() if trial.user_attrs.get("run") == run]
        ended = [trial for trial in mine if self._has_ended(trial)]
        waiting = [trial for trial in mine if not trial.state.is_finished()]
        waiting.sort(key=lambda trial: trial.state != states.RUNNING)  # one that is being done counts before the rest
        if waiting and waiting[0].state == states.WAITING:
            if self._set(waiting[0], states.RUNNING):
                return waiting[0]
        elif waiting:
            if self._still(run, waiting[0]) and self._set(waiting[0], states.FAIL):
                self._again(waiting[0])
        elif ended and "problem" in ended[-1].user_attrs:
            raise RunError(ended[-1].user_attrs["problem"])
        elif not ended:
            self._again(mine[-1]) if mine else self._add({"run": run})
        elif self._still(run, ended[-1]):  # it ended, but its files never came to be seen here
            self._again(ended[-1])
        worker = waiting[0].user_attrs.get("worker", "another worker") if waiting else "another worker"
        raise Busy(f"{run} is the turn of {worker}")

    def _still(self, run: str, trial: Any) -> bool:
        """Whether a trial has not changed for longer than the limit, by our clock: clocks of machines differ."""
        sign, now = (trial.number, trial.state, trial.user_attrs.get("beat")), time.monotonic()
        if run not in self._seen or self._seen[run][0] != sign:
            self._seen[run] = sign, now
        return now - self._seen[run][1] > self.limit

    @contextmanager
    def _beating(self, trial_id: int) -> Iterator[None]:
        """Give signs of life inside the block."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self.beat):
                with suppress(Exception):  # a storage that is out of reach for a moment
                    self.storage.set_trial_user_attr(trial_id, "beat", time.time())
            self.storage.remove_session()

        self.storage.set_trial_user_attr(trial_id, "worker", f"{socket.gethostname()}, process {os.getpid()}")
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _trials(self) -> list[Any]:
        return self.study.get_trials(deepcopy=False)

    def _has_ended(self, trial: Any) -> bool:
        states = self.optuna.trial.TrialState
        return trial.state in (states.COMPLETE, states.PRUNED) or (
            trial.state == states.FAIL and "problem" in trial.user_attrs
        )

    def _add(self, attributes: dict[str, Any], **more: Any) -> None:
        waiting = self.optuna.trial.TrialState.WAITING
        self.study.add_trial(self.optuna.create_trial(state=waiting, user_attrs=attributes, **more))

    def _again(self, trial: Any) -> None:
        """Let a trial's run wait anew, with the settings that were chosen for it."""
        kept = {key: value for key, value in trial.user_attrs.items() if key in ("run", "label")}
        parts = ("params", "distributions", "system_attrs", "intermediate_values")
        self._add(kept, **{part: getattr(trial, part) for part in parts})

    def _set(self, trial: Any, state: Any) -> bool:
        """Change a trial's state; False if another was first."""
        try:
            return self.storage.set_trial_state_values(trial._trial_id, state)
        except RuntimeError:  # it has ended; optuna has a subclass for that since 4.2
            return False

    def _tell(self, mine: Any, value: float | None = None, state: Any = None) -> None:
        """End our trial, and before it others of the same run that wait in vain."""
        for other in self._trials():
            same = other.user_attrs.get("run") == mine.user_attrs["run"] and other.number != mine.number
            if same and other.state == self.optuna.trial.TrialState.WAITING:
                self._set(other, self.optuna.trial.TrialState.FAIL)
        with suppress(RuntimeError):  # who took it from us ended it between optuna's look and its word
            self.study.tell(mine.number, value, state=state, skip_if_finished=True)


def optuna() -> Any:
    """Import optuna; where it is missing, say which extra brings it."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError("this needs optuna: pip install 'variational-sparse-coding[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _open(where: str, name: str, direction: str) -> tuple[Any, Any]:
    """Open a journal file, or a database by its URL; no message repeats the URL, which may hold a password."""
    what = "database" if "://" in where else f"journal file {where}"
    if "://" not in where:
        if not Path(where).absolute().parent.is_dir():
            raise UsageError(f"the {what} cannot be made: its folder does not exist")
        with suppress(FileNotFoundError), Path(where).open("rb") as file:
            if (line := file.readline()) and not (line.startswith(b"{") and b'"op_code"' in line):
                raise UsageError(f"{where} is there already and is no journal of optuna; choose another file")
    for pause in (0.5, 0.5, None):
        try:
            storage = _storage(where)
            how: dict[str, Any] = {"direction": direction, "load_if_exists": True}
            return storage, optuna().create_study(storage=storage, study_name=name, **how)
        except OSError:
            raise
        except Exception as error:  # of the database's driver, or from a damaged journal
            if pause is None or not _passes(error):
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UsageError(f"optuna cannot open the {what}: {reason}") from error
            time.sleep(pause)
    raise AssertionError


def _storage(where: str) -> Any:
    storages = optuna().storages
    if "://" in where:
        return storages.RDBStorage(where)
    return storages.JournalStorage(storages.journal.JournalFileBackend(where))


def _passes(error: Exception) -> bool:
    """Whether it may be that two made a database's tables at the same moment, and stood in each other's way."""
    from sqlalchemy.exc import DBAPIError

    return isinstance(error, DBAPIError)
