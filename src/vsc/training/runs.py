"""A run folder: what a run was asked, what it learned, and how to go on from there. No pickle is ever read."""

import contextlib
import hashlib
import io
import math
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors

from vsc.data.split import Dataset
from vsc.errors import RunError, UsageError, first_line, listed
from vsc.files import LOCK, clear_temporaries, parse_json, read_json, whole, write_json
from vsc.model import Autoencoder
from vsc.settings import build, saved
from vsc.settings.config import Config, ModelConfig
from vsc.settings.upgrade import FORMAT, from_plain, read_settings, upgraded, write_settings
from vsc.torchstate import modes, seeded

FILES = (
    "report.html",
    "onnx/encoder.onnx",
    "onnx/decoder.onnx",
    "codes-valid.npz",
    "codes-test.npz",
    "results.json",
    "latents.npz",
    "model/config.json",
    "model/model.safetensors",
    "checkpoints/last.pt",
    "metrics.jsonl",
    "config.yaml",
    "environment.json",
)
"""All that a run writes; nothing else in its folder is ever removed."""

OWN = ("config", "model", "last", "metrics", "environment")
"""Those that training writes, and so who has claimed the folder."""


def prepare(folder: Path, may_be_there: bool) -> None:
    """Refuse a folder that may not be written to; what killed processes had begun to write there is removed."""
    for path in (folder, folder / "model", folder / "checkpoints"):
        clear_temporaries(path, OWN)
    if not folder.exists() or (folder.is_dir() and _is_bare(folder)):
        return
    if not is_run(folder):
        raise UsageError(f"{folder} exists and is not a run folder; choose another with --out")
    if not may_be_there:
        raise UsageError(f"{folder} holds a run; go on with --resume, replace it with --overwrite, or choose --out")


def _is_bare(folder: Path) -> bool:
    """Whether nothing is in a folder but what `create` writes first, where it was killed before the rest."""
    there = {path.name for path in folder.iterdir()} - {LOCK}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return not there or (
            there == {"environment.json"} and environment().keys() <= read_json(folder / "environment.json").keys()
        )
    return False


def create(folder: Path, config: Config, data: Dataset | None = None, overwrite: bool = False) -> None:
    """
    Make a run `folder` with the resolved `config`, the environment, and a note of what is in `data`.

    A run that is there is replaced if `overwrite`, and else refused. Only the files of a run are ever removed.
    """
    prepare(folder, overwrite)
    remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "environment.json", environment() | ({} if data is None else {"data": described(data)}))
    describe(folder, config)


def describe(folder: Path, config: Config) -> None:
    """Write the resolved settings of a run that has been begun; its model, if there is one, is not that run's end."""
    (folder / "model" / "config.json").unlink(missing_ok=True)
    write_settings(folder / "config.yaml", asdict(config))


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run of ours, finished or not; a config.yaml alone may be anyone's."""
    return (folder / "config.yaml").is_file() and (folder / "environment.json").is_file()


def _instead(folder: Path) -> str:
    """Say why a folder is no run, and name one that is in it, if there is one."""
    if not folder.exists():
        return "it does not exist"
    inside = next((one for one in sorted(folder.glob("*")) if is_run(one)), None)
    return f"it has no config.yaml; give a run in it: {inside}" if inside else "it has no config.yaml"


def is_finished(folder: Path) -> bool:
    """Whether the run was trained to its end: the model's config.json is the last file that training writes."""
    return is_run(folder) and (folder / "model" / "config.json").is_file()


def remove(folder: Path) -> None:
    """Remove a run's files, and the folders that are then empty; a user's own files in it stay."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for path in (folder / "model", folder / "checkpoints", folder / "onnx", folder):
        clear_temporaries(path, OWN)
        with contextlib.suppress(OSError):
            path.rmdir()


def described(data: Dataset) -> dict[str, Any]:
    """Return what a run notes of its data, so that other data are noticed."""
    sizes = {name: len(getattr(data, name)) for name in ("train", "valid", "test")}
    return {"name": data.name, "content": data.content, **sizes, "features": list(data.features)}


def name_of_data(folder: Path) -> str:
    """Return the name of the data that a run was made with; empty where it was not noted."""
    try:
        return str(read_json(folder / "environment.json")["data"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def changed_data(folder: Path, data: Dataset) -> str:
    """
    Say what has changed in the data since a run was made, "" if nothing or in runs that noted nothing.

    Half a sentence, such as "the data have changed since: 24 training examples, not 23".
    """
    try:
        environment = read_json(folder / "environment.json")
        before = environment.get("data")
        if before is None or before["content"] == data.content:
            return ""
        now = described(data)
        what = [f"{now[n]} {name} examples, not {before[n]}" for n, name in PARTS.items() if now[n] != before[n]]
        mine, theirs = now["features"], list(before["features"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"what its data were cannot be read from {folder / 'environment.json'} ({first_line(error)})"
    if mine != theirs:
        lost, new = ([name for name in a if name not in b] for a, b in ((theirs, mine), (mine, theirs)))
        what += [f"without the column {listed(lost)}"] if lost else []
        what += [f"with the new column {listed(new)}"] if new else []
        what += [] if lost or new else ["the columns are in another order"]
    return f"the data have changed since: {', '.join(what) or 'other values, labels or factors'}"


PARTS = {"train": "training", "valid": "validation", "test": "test"}


def environment() -> dict[str, str]:
    """Return the versions and the hardware that a result depends on."""
    packages = ("variational-sparse-coding", "torch", "numpy", "scikit-learn", "lightning-fabric")
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in packages:
        with contextlib.suppress(ModuleNotFoundError):
            found[package] = version(package)
    found["threads"] = str(torch.get_num_threads())
    found["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found


def read_config(folder: Path) -> Config:
    """Read the settings of a run, as saved; UsageError if there is no run, or its config.yaml is damaged."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} is not a run folder: {_instead(folder)}")
    try:
        plain = read_settings(path)
        if missing := [part for part in ("data", "model", "train") if not plain.get(part)]:
            raise UsageError(f"{path} is damaged: it has no settings of {missing[0]}")
        return from_plain(plain, str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}") from error


def save_model(folder: Path, model: Autoencoder, config: Config) -> None:
    """
    Write model/model.safetensors, then model/config.json, which has its checksum: all that `load` needs.

    `folder` is the run's, and `config`, resolved, what the `model` was trained with.
    """
    described, weights = packed(model, config.model)
    with whole(folder / "model" / "model.safetensors") as temporary:
        temporary.write_bytes(weights)
    write_json(folder / "model" / "config.json", described)


def packed(model: Autoencoder, settings: ModelConfig) -> tuple[dict[str, Any], bytes]:
    """
    Return what model/config.json and model/model.safetensors hold of a model: plain values, and the file's bytes.

    `settings` are what the model was built from; `unpacked` makes it a model again.
    """
    weights = write_tensors({name: value.contiguous().cpu() for name, value in model.state_dict().items()})
    described = {"format": FORMAT, **saved.described(model, settings)}
    return described | {"sha256": hashlib.sha256(weights).hexdigest()}, weights


def load(path: str | Path, model: Autoencoder | None = None) -> Autoencoder:
    """
    Load a trained model, in eval mode, on the CPU, from a run folder or its `model` folder, as `vsc.load` does.

    The weights of a `model` of the user's own are put into one that was built in the same way. UsageError if there is
    no finished model, RunError if its files are damaged, or were written by something else.
    """
    path = Path(path)
    folder = path / "model" if (path / "model").is_dir() else path
    if not path.exists():
        raise UsageError(f"{path} has no trained model: there is no such folder")
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        if is_run(path):
            raise UsageError(f"{path} has no trained model; finish its run with `vsc train --resume --out {path}`")
        raise UsageError(f"{path} has no trained model, and is not a run folder: {_instead(path)}")
    try:
        found = unpacked(read_json(folder / "config.json"), (folder / "model.safetensors").read_bytes(), model)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        kind, trouble = (UsageError, "is not that which was given") if model else (RunError, "is damaged or not ours")
        raise kind(f"the model in {folder} {trouble}: {first_line(error)}") from error
    if found is None:
        raise UsageError(f"{folder} holds a model that was made in Python; load it there: vsc.load(path, model=...)")
    return found


def unpacked(described: dict[str, Any], raw: bytes, model: Autoencoder | None = None) -> Autoencoder | None:
    """
    Return a saved model, ready to encode; None where it was made in Python and no `model` like it is given.

    `described` and `raw` are what `packed` returned, now or in an earlier version; where they are damaged, an error of
    any kind says so.
    """
    with modes(gradients=True), seeded(0):  # no weight is an inference tensor, and the caller's noise stays
        return _unpacked(described, raw, model)


def _unpacked(described: dict[str, Any], raw: bytes, model: Autoencoder | None) -> Autoencoder | None:
    settings = from_plain(upgraded({"model": described["model"], "format": described["format"]}), "config.json").model
    if hashlib.sha256(raw).hexdigest() != described["sha256"]:
        raise ValueError("the checksum of model.safetensors is not the one in config.json")
    weights = read_tensors(raw)
    wrong = [name for name, value in weights.items() if not value.isfinite().all()]
    if wrong:
        raise ValueError(f"model.safetensors: {listed(wrong)} is not finite")
    _check_names(described, "columns", math.prod(described["shape"]))
    _check_names(described, "classes")
    if settings.name == build.CUSTOM and model is None:
        return None
    return saved.restored(described, settings, weights, model)


def _check_names(described: dict[str, Any], what: str, size: int | None = None) -> None:
    names = described[what]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"config.json: {what} are not names")
    if names and size is not None and len(names) != size:
        raise ValueError(f"config.json: {len(names)} {what} where an example has {size} values")


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state, whole or not at all."""
    buffer = io.BytesIO()  # writing to a disk itself, torch reports a full one as an error of its own kind
    torch.save(dict(state), buffer)
    with whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """
    Read a training state that `save_checkpoint` wrote; only tensors and plain values are accepted.

    UsageError if there is none, RunError if the file is damaged or not ours.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}; start the run anew with --overwrite")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself looks at no checksum
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise zipfile.BadZipFile("it is packed, which ours are not")
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can fail in any way
        raise RunError(f"the checkpoint {path} is damaged or not ours: {first_line(error)}") from error
    if isinstance(state, dict) and state.get("format") in (1, 2):
        raise UsageError(
            f"the checkpoint {path} was written by an earlier version; start the run anew with --overwrite"
        )
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"the checkpoint {path} is not one of ours, or from another version")
    return state


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl; a line that was cut off or damaged is left out."""
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            row = parse_json(line.decode("utf-8"))
            rows += [row] if isinstance(row, dict) and _is_row(row) else []
    return rows


def _is_row(row: dict[str, Any]) -> bool:
    numbers = isinstance(row.get("step"), int) and isinstance(row.get("seconds"), int | float)
    return numbers and row.get("split") in ("train", "valid")
