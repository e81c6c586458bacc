"""Where optuna keeps a search's trials: a journal file, or a database by its URL."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from vsc.errors import UsageError


def optuna() -> Any:
    """Import optuna; where it is missing, say which extra brings it."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError("this needs optuna: pip install 'variational-sparse-coding[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_study(where: str, name: str, direction: str) -> Any:
    """
    Open or make a study of optuna, in a journal file or at a URL of SQLAlchemy such as sqlite:///trials.db.

    Every process opens its own. UsageError, without the URL's secrets, if optuna is not installed or the storage cannot
    be opened.
    """
    what = "database" if "://" in where else f"journal file {where}"
    if "://" not in where:
        if not Path(where).absolute().parent.is_dir():
            raise UsageError(f"the {what} cannot be made: its folder does not exist")
        with suppress(FileNotFoundError), Path(where).open("rb") as file:
            if (line := file.readline()) and not (line.startswith(b"{") and b'"op_code"' in line):
                raise UsageError(f"{where} is there already and is no journal of optuna; choose another file")
    for pause in (0.5, 0.5, None):
        try:
            how: dict[str, Any] = {"direction": direction, "load_if_exists": True}
            return optuna().create_study(storage=_storage(where), study_name=name, **how)
        except OSError:
            raise
        except Exception as error:  # of the database's driver, or from a damaged journal
            if pause is None or not _passes(error):
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UsageError(f"optuna cannot open the {what}: {without_secrets(reason)}") from None
            time.sleep(pause)
    raise AssertionError


def _storage(where: str) -> Any:
    storages = optuna().storages
    if "://" in where:
        return storages.RDBStorage(where)
    path = str(Path(where).absolute())
    return storages.JournalStorage(storages.journal.JournalFileBackend(path, _Lock(path)))


class _Lock:
    """A journal's lock that ends with its process, as optuna's own do not."""

    def __init__(self, path: str):
        self.path, self.file = path, FileLock(f"{path}.held")

    def acquire(self) -> bool:
        """Wait for the lock; a line that another could not write to its end is cut off."""
        self.file.acquire()
        with open(self.path, "rb+") as journal:
            written = journal.seek(0, os.SEEK_END)
            journal.seek(max(0, written - LINE))
            last = journal.read()
            if last and not last.endswith(b"\n"):
                journal.truncate(written - len(last) + last.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Let others write."""
        self.file.release()


LINE = 1 << 20
"""Bytes that hold a journal's longest line."""


def _passes(error: Exception) -> bool:
    """Whether it may be that two made a database's tables at the same moment, and stood in each other's way."""
    from sqlalchemy.exc import DBAPIError

    return isinstance(error, DBAPIError)


def trial_of(study: Any, number: int) -> Any:
    """Return the trial with a number of ours, begun if it is not there; its caller has claimed it."""
    found = [trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get("trial") == number]
    if not found:
        running = optuna().trial.TrialState.RUNNING
        study.add_trial(optuna().create_trial(state=running, user_attrs={"trial": number}))
        return trial_of(study, number)
    return found[0]


def without_secrets(text: str) -> str:
    """
    Leave out of a text what may be secret in the URLs of databases: the password, and the values of all parameters.

    Examples
    --------
    >>> without_secrets("postgresql://me:secret@host/db?password=secret&sslmode=require")
    'postgresql://me:...@host/db?password=...&sslmode=...'
    """
    text = re.sub(r"(://[^:/@\s]*):[^\s]*@", r"\1:...@", text)
    return re.sub(r"(?<=[?&])(\w+=)[^&\s'\"]*", r"\1...", text) if "://" in text else text
