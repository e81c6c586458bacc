"""A run folder: what a run was asked, what it learned, and how to go on from there. No pickle is ever read."""

import contextlib
import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from vsc.errors import RunError, UsageError
from vsc.files import LOCK, whole, write_json, write_npz
from vsc.model import Autoencoder, Codes
from vsc.model.scaling import Scaler
from vsc.settings import build
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig, as_plain

FORMAT = 1

FILES = (
    "report.html",
    "codes-valid.npz",
    "codes-test.npz",
    "results.json",
    "model/config.json",
    "model/model.safetensors",
    "checkpoints/last.pt",
    "metrics.jsonl",
    "config.yaml",
    "environment.json",
)
"""All that a run writes; nothing else in its folder is ever removed."""


def create(folder: Path, config: Config, overwrite: bool = False) -> None:
    """
    Make a run folder with its settings and environment.

    Parameters
    ----------
    folder : Path
        Must not exist, or be empty, unless `overwrite`.
    config : Config
        The resolved settings.
    overwrite : bool
        Replace a run that is there. Only the files of a run are ever removed.

    Raises
    ------
    UsageError
        If something is there that may not be replaced.
    """
    if folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())):
        if not is_run(folder):
            raise UsageError(f"{folder} exists and is not a run folder; choose another with --out")
        if not overwrite:
            raise UsageError(f"{folder} holds a run; go on with --resume, replace it with --overwrite, or choose --out")
        remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "environment.json", environment())
    with whole(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(as_plain(asdict(config)), sort_keys=False), encoding="utf-8")


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run of ours, finished or not; a config.yaml alone may be anyone's."""
    return (folder / "config.yaml").is_file() and (folder / "environment.json").is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run was trained to its end: the model's config.json is the last file that training writes."""
    return is_run(folder) and (folder / "model" / "config.json").is_file()


def remove(folder: Path) -> None:
    """Remove a run's files, and the folders that are then empty; a user's own files in it stay."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for path in (folder / "model", folder / "checkpoints", folder):
        for left in path.glob(".*.tmp.*"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.rmdir()


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
    """
    Read the settings of a run.

    Parameters
    ----------
    folder : Path
        A run folder.

    Returns
    -------
    Config
        As saved.

    Raises
    ------
    UsageError
        If there is no run, or its config.yaml is damaged.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} is not a run folder: it has no config.yaml")
    try:
        saved = yaml.safe_load(path.read_text(encoding="utf-8"))
        model = saved["model"] | {"hidden": tuple(saved["model"]["hidden"])}
        return Config(DataConfig(**saved["data"]), ModelConfig(**model), TrainConfig(**saved["train"]))
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged or from another version: {_first_line(error)}") from error


def save_model(folder: Path, model: Autoencoder, config: Config) -> None:
    """
    Write model/model.safetensors, then model/config.json, which has its checksum: all that `load` needs.

    Parameters
    ----------
    folder : Path
        The run folder.
    model : Autoencoder
        The trained model.
    config : Config
        Its resolved settings.
    """
    weights = write_tensors({name: value.contiguous().cpu() for name, value in model.state_dict().items()})
    described = {
        "format": FORMAT,
        "model": as_plain(asdict(config.model)),
        "shape": list(model.shape),
        "scale": model.scaler.kind,
        "columns": list(model.columns),
        "classes": list(model.classes),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    with whole(folder / "model" / "model.safetensors") as temporary:
        temporary.write_bytes(weights)
    write_json(folder / "model" / "config.json", described)


def load(path: str | Path) -> Autoencoder:
    """
    Load a trained model, ready to encode.

    Parameters
    ----------
    path : str or Path
        A run folder, or its `model` folder.

    Returns
    -------
    Autoencoder
        In eval mode, on the CPU: AE, VAE or VSC.

    Raises
    ------
    UsageError
        If there is no finished model at `path`.
    RunError
        If its files are damaged, or were written by something else.
    """
    path = Path(path)
    folder = path / "model" if (path / "model").is_dir() else path
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise UsageError(f"{path} has no trained model; finish its run with `vsc train --resume --out {path}`")
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = ModelConfig(**(described["model"] | {"hidden": tuple(described["model"]["hidden"])}))
        raw = (folder / "model.safetensors").read_bytes()
        if hashlib.sha256(raw).hexdigest() != described["sha256"]:
            raise ValueError("the checksum of model.safetensors is not the one in config.json")
        weights = read_tensors(raw)
        scaler = Scaler(described["scale"], weights["scaler.shift"].float(), weights["scaler.factor"].float())
        model = build.build_model(settings, tuple(described["shape"]), scaler)
        model.load_state_dict(weights)
        model.columns, model.classes = tuple(described["columns"]), tuple(described["classes"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunError(f"the model in {folder} is damaged or not ours: {_first_line(error)}") from error
    return model.eval()


def encoded(folder: Path, model: Autoencoder, x: Tensor, split: str) -> Codes:
    """
    Encode a split once: its codes are kept in the run folder, and taken from there while model and data are the same.

    Parameters
    ----------
    folder : Path
        The run folder.
    model : Autoencoder
        Its model.
    x : torch.Tensor, shape (N, M)
        The split's examples as stored.
    split : str
        Its name.

    Returns
    -------
    Codes
        Shape (N, J) each.
    """
    path = folder / f"codes-{split}.npz"
    weights = hashlib.sha256((folder / "model" / "model.safetensors").read_bytes())
    weights.update(np.ascontiguousarray(x.numpy()).data)
    key = weights.hexdigest()
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path) as kept:
        if str(kept["key"]) == key:
            return Codes(*(torch.from_numpy(kept[name]) for name in Codes._fields))
    codes = model.encode(x)
    with contextlib.suppress(OSError):  # a folder that cannot be written to can still be measured
        write_npz(path, {**{name: part.numpy() for name, part in codes._asdict().items()}, "key": np.array(key)})
    return codes


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state, whole or not at all."""
    buffer = io.BytesIO()  # writing to a disk itself, torch reports a full one as an error of its own kind
    torch.save(dict(state), buffer)
    with whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """
    Read a training state; only tensors and plain values are accepted.

    Parameters
    ----------
    path : Path
        A file that `save_checkpoint` wrote.

    Returns
    -------
    dict
        The state.

    Raises
    ------
    UsageError
        If there is none.
    RunError
        If the file is damaged or not ours.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}; start the run anew with --overwrite")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself looks at no checksum
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can fail in any way
        raise RunError(f"the checkpoint {path} is damaged or not ours: {_first_line(error)}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"the checkpoint {path} is not one of ours, or from another version")
    return state


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl; a line that was cut off or damaged is left out."""
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            rows += [row] if isinstance(row, dict) and {"step", "split", "seconds"} <= row.keys() else []
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
