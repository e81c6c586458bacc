"""To a model hub and back: config.json, model.safetensors and a model card, where huggingface-hub's mixins put them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsc import saelens
from vsc.errors import RunError, UsageError, first_line, short
from vsc.files import read_json
from vsc.model import Autoencoder
from vsc.settings.build import CUSTOM
from vsc.training import runs

PREFIX = "hf://"


def load(path: str | Path, model: Autoencoder | None = None) -> Autoencoder:
    """
    Load a trained model, ready to encode.

    Parameters
    ----------
    path : str or Path
        A run folder, its `model` folder, one that SAELens has saved (`vsc.saelens.read`), or a model on the hub:
        hf://USER/NAME or hf://USER/NAME@REVISION. What comes
        from the hub is kept in huggingface-hub's cache, and checked as a run's files are: no pickle is read.
    model : Autoencoder, optional
        For a run of a model of your own: one built in the same way, which the saved weights are put into.

    Returns
    -------
    Autoencoder
        In eval mode, on the CPU: AE, VAE or VSC.

    Raises
    ------
    UsageError
        If there is no finished model at `path`, the hub cannot be reached, or the extra `hub` is not installed.
    RunError
        If its files are damaged, or were written by something else.
    """
    if not str(path).startswith(PREFIX):
        return saelens.read(path) if model is None and saelens.is_saelens(Path(path)) else runs.load(path, model)
    folder = _fetched(str(path))
    try:
        return runs.load(folder, model)
    except (UsageError, RunError) as error:
        raise type(error)(str(error).replace(str(folder), str(path))) from error


def push(run: str | Path, name: str, private: bool = False, license: str | None = None) -> str:
    """
    Put a trained run on the hub, in one commit: its model, and a card of what was measured and how.

    Names of columns and classes are part of the model. Examples, paths and the run's other files stay here.

    Parameters
    ----------
    run : str or Path
        Folder of a finished run.
    name : str
        USER/NAME; made if it is not there.
    private : bool
        Whether only its owner may see it.
    license : str, optional
        Its name on the hub, such as apache-2.0; without it the card says that none was chosen.

    Returns
    -------
    str
        What `load` takes.

    Raises
    ------
    UsageError
        If there is no finished run, a name, the token or the right to write is missing, what is to be private is there
        and public, the hub cannot be reached, or the extra `hub` is not installed.
    RunError
        If the model's files are damaged, or the hub fails.
    """
    from vsc.report import modelcard

    folder, (name, _) = Path(run), _parts(PREFIX + name.removeprefix(PREFIX))
    if runs.read_config(folder).model.name != CUSTOM or not runs.is_finished(folder):
        runs.load(folder)  # refuses what is damaged or not finished
    files: dict[str, Any] = {part: folder / "model" / part for part in ("config.json", "model.safetensors")}
    files["README.md"] = modelcard.write(folder, name, license).encode()
    hub = _library()
    if hub.get_token() is None:
        raise UsageError("the hub must know who you are: type `hf auth login`, or set HF_TOKEN to a token of yours")
    with _told(name):
        api = hub.HfApi()
        api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.repo_info(name).private:
            raise UsageError(f"{name} is there already, and public; make it private on the hub, or choose another name")
        operations = [hub.CommitOperationAdd(part, content) for part, content in files.items()]
        api.create_commit(name, operations, commit_message="A model, and what was measured of it")
    return PREFIX + name


def _parts(path: str) -> tuple[str, str | None]:
    """Return USER/NAME and the revision, if there is one, of hf://USER/NAME@REVISION."""
    found = re.fullmatch(PREFIX + r"([\w.-]+/[\w.-]+?)/?(?:@(.+))?", path)
    if not found:
        raise UsageError(f"{short(path)}: a model on the hub is called hf://USER/NAME or hf://USER/NAME@REVISION")
    return found[1], found[2]


def _fetched(path: str) -> Path:
    """Return the folder of the hub's cache that has a model's two files; the settings first, which say whose it is."""
    name, revision = _parts(path)
    hub = _library()
    with _told(path):
        api = hub.HfApi()
        away = not _answers(api, name, revision)
        config = Path(api.hf_hub_download(name, "config.json", revision=revision, local_files_only=away))
        try:
            ours = {"format", "model", "sha256"} <= read_json(config).keys()
        except (ValueError, AttributeError):
            ours = False
        if not ours:
            raise UsageError(f"{path} is no model of this library: its config.json is another's")
        return Path(
            api.hf_hub_download(name, "model.safetensors", revision=config.parent.name, local_files_only=away)
        ).parent


def _answers(api: Any, name: str, revision: str | None) -> bool:
    """Whether the hub can be reached, which a download would try for half a minute; what it answers is raised."""
    from huggingface_hub import errors

    try:
        api.model_info(name, revision=revision)
    except (errors.HfHubHTTPError, errors.HFValidationError):
        raise
    except Exception:  # that of whichever library the client reaches the net with
        return False
    return True


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError("this needs huggingface-hub: pip install 'variational-sparse-coding[hub]'") from error
    return huggingface_hub


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say in one line what the hub's client complains about; a full disk and the like stay what they are."""
    from huggingface_hub import errors

    try:
        yield
    except (UsageError, RunError):
        raise
    except Exception as error:  # also that of whichever library the client reaches the net with
        if said := next((said for kind, said in SAID.items() if isinstance(error, getattr(errors, kind))), ""):
            raise UsageError(what + said) from error
        if isinstance(error, errors.HfHubHTTPError):
            if (status := error.response.status_code) not in (401, 403):
                raise RunError(f"{what}: the hub failed ({status}: {first_line(error)}); try again later") from error
            said = "does not let you do that; look at the name, and at what your token allows"
        elif isinstance(error, ValueError):  # a name, or what is at the front of the card
            said = f"does not take that: {' '.join(str(error).split())[:200]}"
        elif isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
            raise
        else:
            said = f"cannot be reached ({first_line(error)})"
        raise UsageError(f"{what}: the hub {said}") from error


SAID = {
    "GatedRepoError": " is given out on request only; ask for it on its page on the hub",
    "RevisionNotFoundError": ": there is no such revision; leave it out, or name a branch, tag or commit",
    "RepositoryNotFoundError": " is not on the hub, or it is private and you may not see it: look at its spelling, or "
    "type `hf auth login`",
    "LocalEntryNotFoundError": " is not in the cache, and the hub cannot be reached; try again when it can",
    "EntryNotFoundError": " is no model of this library: it has no config.json or no model.safetensors",
}
"""Kinds of the client's errors, each before those that it is one of -> what they mean."""
