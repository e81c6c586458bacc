"""The command line: `vsc COMMAND`, every option derived from the dataclass that the command takes."""

import math
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from vsc.cli.options import comparison_folder, is_path, parse, run_folder, tuning_folder
from vsc.errors import RunError, UsageError
from vsc.settings.config import Compare, Config, Encode, Evaluate, Report, RunStudy, Sample, ShowData, TrainRun, Tune

if TYPE_CHECKING:
    from vsc.data import Dataset
    from vsc.measure.scores import Scores
    from vsc.model import Autoencoder


def train(config: TrainRun) -> None:  # noqa: D103 (the dataclass says what the command does)
    from torch import distributed

    from vsc import data
    from vsc.torchstate import flush_denormals
    from vsc.training import diagnosis, runs
    from vsc.training import loop as training

    flush_denormals()
    common = Config(config.data, config.model, config.train)
    folder = run_folder(config)
    loaded = data.load(**_data_arguments(common))
    model = training.train(
        loaded, common, folder, resume=config.resume, overwrite=config.overwrite, progress=sys.stderr.isatty()
    )
    if distributed.is_available() and distributed.is_initialized():
        rank = distributed.get_rank()
        distributed.barrier()
        distributed.destroy_process_group()  # one that is left to the interpreter's end can abort there
        if rank:
            return
    rows = [row for row in runs.read_history(folder) if row["split"] == "valid"]
    if runs.read_config(folder).train.patience:  # the best weights were kept
        rows.sort(key=lambda row: -math.inf if (score := row.get("elbo", row["log_px"])) is None else score)
    far = rows[-1].pop("not_finite", []) if rows else []
    for key, value in (rows[-1] if rows else {}).items():
        if isinstance(value, list):  # one number for each latent: for the report
            continue
        print(f"  {key:12} {value:.4g}" if isinstance(value, float) else f"  {key:12} {value}")
    J = model.latent_dim
    count = sum(p.numel() for p in model.parameters())
    print(f"trained {type(model).__name__} with {count} parameters; saved in {folder}")
    target = config.train.target_l0
    if rows and target and rows[-1]["active"] < 0.75 * target.last:
        print(
            f"of the l0 of {rows[-1]['l0']:.3g} only {rows[-1]['active']:.3g} latents are on with gamma above 1/2; the "
            "rest is unused latents that idle near alpha. Lower model.latent_dim, or take the prior pseudo-inputs"
        )
    if rows and model.spiked and (found := diagnosis.collapse(rows[-1]["used"], rows[-1]["always_on"], J, common)):
        print(f"CAUTION: the model {found}")
    if found := diagnosis.overfitting(rows, common):
        print(f"CAUTION: the model {found}")
    if far:
        print(
            f"CAUTION: validation examples {_some(map(str, far), 5)}, counted from 0, have no finite bound, and are "
            "left out of these numbers: look there for values of an extreme size"
        )
    run, own = shlex.quote(str(folder)), config.data.name
    print(f"next: vsc evaluate {run}    (the test set, hard spikes)")
    print(f"      vsc report {run}    (a page on every latent)")
    print(f"      vsc encode {run}" + (f" --data {shlex.quote(own)}" if is_path(own) else "") + "    (codes to a file)")


def compare(config: Compare) -> None:  # noqa: D103
    from vsc import data
    from vsc.studies import comparison
    from vsc.torchstate import flush_denormals

    flush_denormals()
    loaded = data.load(**_data_arguments(config))
    folder = comparison_folder(config)
    trained = comparison.compare(config, loaded, folder, _command(), progress=sys.stderr.isatty())
    print()
    print(_table([one.title for one in trained], [one.mean for one in trained], [one.spread for one in trained]))
    print(f"\n{len(loaded.test)} test examples, hard spikes, likelihood {trained[0].likelihood}.")
    for one in trained:
        for said in one.cautions:
            print(f"CAUTION: {one.title} {said}")
    print(f"The report: {folder / 'report.html'}")


def study(config: RunStudy) -> None:  # noqa: D103
    from vsc import studies
    from vsc.torchstate import flush_denormals

    if config.study == "list":
        print(studies.listing())
        return
    flush_denormals()
    studies.run(config, _command(), progress=sys.stderr.isatty())


def tune(config: Tune) -> None:  # noqa: D103
    from vsc.sweep import tune as tuning
    from vsc.torchstate import flush_denormals

    flush_denormals()
    found = tuning.tune(config, tuning_folder(config), _command(), progress=sys.stderr.isatty())
    print(tuning.summary(found))


def evaluate(config: Evaluate) -> None:  # noqa: D103
    from vsc.measure import results
    from vsc.training import runs

    folder = Path(config.run)
    saved, model = runs.read_config(folder), runs.load(folder)
    loaded = _of_run(saved, model, config.data_root)
    names = [name.strip() for name in (config.metrics or "").split(",") if name.strip()]
    found = results.measured(
        *(folder, loaded, config.split, names, config.samples, config.seed, config.iwae),
        progress=sys.stderr.isatty(),
    )
    print(_table([type(model).__name__], [found.scores], [None]))
    for name, value in found.metrics.items():
        print(f"  {name:28} {value:<10.4g} {_metric_note(name)}".rstrip())
    print(f"\n{found.examples} {config.split} examples, hard spikes, likelihood {found.likelihood}.")
    for said in found.cautions:
        print(f"CAUTION: the model {said}")
    print(f"Written to {folder / 'results.json'}")


def _metric_note(name: str) -> str:
    """Say which end of a metric is better, and its unit."""
    from vsc.metrics import METRICS, metric_of

    metric = METRICS[metric_of(name)]
    better = {"higher": "higher is better", "lower": "lower is better", None: ""}[metric.better]
    return ", ".join(part for part in (metric.unit, better) if part)


def report(config: Report) -> None:  # noqa: D103
    from vsc.measure.measured import Measured
    from vsc.report import run
    from vsc.torchstate import cpu_threads
    from vsc.training import runs

    folder = Path(config.run)
    out = folder / "report.html" if config.out is None else _with_suffix(config.out, ".html")
    saved, model = runs.read_config(folder), runs.load(folder)
    seen = Measured(model, _of_run(saved, model, config.data_root), config.split)
    with cpu_threads(model):
        print(f"The report: {run.write(folder, seen, out)}")


def encode(config: Encode) -> None:  # noqa: D103
    from torch import Tensor

    from vsc import data, files
    from vsc.data.split import Dataset, Split
    from vsc.measure.measured import Measured, pick
    from vsc.training import runs

    folder = Path(config.run)
    saved, model = runs.read_config(folder), runs.load(folder)
    if config.data is None:
        chosen = pick(_of_run(saved, model, config.data_root), config.split, on_disk=True)
        x, y = chosen.x, chosen.y
    else:
        file = data.located(config.data, config.data_root)
        x, y, _ = data.read_rows(file, model.columns, saved.data.label)
        if (expected := math.prod(model.shape)) != x.shape[1]:
            raise UsageError(f"{file}: its examples have {x.shape[1]} values each, and those of the run had {expected}")
    codes = model.encode(x)
    arrays = {"z": codes.z, "hard": codes.hard, "gamma": codes.gamma, "mu": codes.mu}
    arrays |= {} if y is None else {"y": y}
    out = _with_suffix(config.out, ".npz")
    files.write_npz(out, arrays)
    on, rate = codes.active.sum(1).float().mean(), codes.active.float().mean(0)
    print(f"{len(x)} codes of {model.latent_dim} latents, {on:.1f} of them on per example: {out}")
    order = [int(j) for j in rate.argsort(descending=True, stable=True) if rate[j] > 0.01]
    listed = ", ".join(f"{j} ({rate[j]:.0%})" for j in order[:20]) + (", ..." if len(order) > 20 else "")
    print(f"used latents, counted from 0, and the share of examples they are on for: {listed or 'none'}")
    if model.columns and order:
        some = Split(x if isinstance(x, Tensor) else x[:MANY])
        shown = Dataset(saved.data.name, model.shape, some, some, some, features=model.columns)
        effects = Measured(model, shown).effects.first(20)
        print(
            "what turning each on does to the columns, all else as it is; raised from its low to its high values where"
        )
        print("it is never off or has both signs (the three it changes most, in model units, as in the report):")
        for j, turned_on, change in zip(effects.latent, effects.turned_on, effects.change, strict=True):
            most = sorted(range(len(change)), key=lambda m: -abs(change[m]))[:3]
            told = ", ".join(f"{model.columns[m]} {change[m]:+.2f}" for m in most)
            print(f"  latent {j:3} {'on' if turned_on else 'raised'}: {told}")


MANY = 5000
"""Rows of examples on disk over which the effect of a latent is averaged."""


def sample(config: Sample) -> None:  # noqa: D103
    import torch

    from vsc import files
    from vsc.torchstate import seeded
    from vsc.training import runs

    if config.n < 1:
        raise UsageError(f"n must be at least 1, not {config.n}")
    model = runs.load(config.run)
    out = _with_suffix(config.out, ".npz", ".png")
    if out.suffix == ".png" and len(model.shape) != 3:
        raise UsageError(f"samples of shape {model.shape} are no images; write them to an .npz file")
    with torch.no_grad(), seeded(config.seed):
        z = model.sample_code(config.n)
        x = model.scaler.inverse(model.decode(z))
    if out.suffix == ".png":
        from vsc import plots

        with files.whole(out) as temporary:
            plots.sample_grid(x.numpy(), model.shape).savefig(temporary, dpi=150)
    else:
        files.write_npz(out, {"x": x.reshape(-1, *model.shape), "z": z})
    print(f"{config.n} samples of shape {model.shape}: {out}")


def data(config: ShowData) -> None:  # noqa: D103
    import torch

    from vsc import data
    from vsc.data import npz

    loaded = data.load(config.name, config.data_root, label=config.label)
    sizes = ", ".join(f"{len(getattr(loaded, part))} {part}" for part in ("train", "valid", "test"))
    x = loaded.train.x
    print(f"{loaded.name}: examples of shape {loaded.shape}, stored as {str(x.dtype).removeprefix('torch.')}; {sizes}")
    print(f"values from {x.min():g} to {x.max():g}, mean {x.mean(dtype=torch.float64):.4g}")
    if loaded.features:
        print(f"columns: {_some(loaded.features)}")
    print(f"classes: {_some(loaded.classes)}" if loaded.classes else "no labels")
    if (factors := loaded.train.factors) is not None:
        print(f"{factors.shape[1]} factors" + (f": {_some(loaded.factor_names)}" if loaded.factor_names else ""))
    if loaded.groups:
        print(f"attributes, present or absent: {_some(dict.fromkeys(loaded.groups))}")
    if loaded.train.extras:
        print(f"also known of each example: {_some(loaded.train.extras)}")
    for note in loaded.notes:
        print(f"note: {note}")
    print(_reading(loaded))
    if config.out:
        out = _with_suffix(config.out, ".npz")
        npz.write(out, loaded)
        print(f"written to {out}")


def _some(names: Iterable[str], most: int = 50) -> str:
    """Return names, each short enough to read; of very many, the first."""
    known = [name if len(name) <= 40 else name[:37] + "..." for name in names]
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def _reading(loaded: "Dataset") -> str:
    """Say how a training takes the values by default, and what to type for the other reading."""
    from vsc.settings.build import resolve

    taken = resolve(Config(), loaded)
    told = f"by default: scale {taken.data.scale}, likelihood {taken.model.likelihood}"
    if taken.data.scale == "unit-interval":
        return f"{told}; for measurements: --data.scale standard --model.likelihood gaussian"
    other = "--data.scale unit-interval --model.likelihood bernoulli"
    if len(loaded.shape) == 3:
        return (
            f"{told}, as for measurements; if these are grey values, save them as uint8 or in [0, 1], or type {other}"
        )
    return f"{told}; for shares or grey values: {other}"


COMMANDS: dict[str, Callable[[Any], None]] = {
    "compare": compare,
    "train": train,
    "study": study,
    "tune": tune,
    "evaluate": evaluate,
    "report": report,
    "encode": encode,
    "sample": sample,
    "data": data,
}


def main(arguments: Sequence[str] | None = None, ready: Callable[[], Any] = lambda: None) -> int:
    """
    Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after `vsc`; by default the process's own.
    ready : callable
        Is called when a command, with all that it needs imported, begins with work that Ctrl-C may not end without
        tidying up; `train` sees to that itself.

    Returns
    -------
    int
        0 for success, 1 for a failure, 2 for wrong use, 130 or 143 where a signal stopped a run.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _run(words, ready)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the reader has gone; nothing is left to close)
        return 0
    except KeyboardInterrupt:
        print("vsc: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        return _explain(error)


def _run(words: list[str], ready: Callable[[], Any]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"vsc {version('variational-sparse-coding')}")
        return 0
    from vsc.errors import choose

    command = choose(COMMANDS, words[0], "command")
    config = parse(words[0], _takes(command), words[1:])
    if config is None:
        return 0
    if command is not train:
        import vsc.measure.scores
        import vsc.training.loop  # noqa: F401 (while Ctrl-C still ends the process)

        _alone(words[0], config)
        ready()
    command(config)
    return 0


MOST = 290
"""Characters of a message."""


def _alone(name: str, config: Any) -> None:
    """Refuse a command of one process to several."""
    settings = getattr(config, "train", None)
    asked = settings is not None and settings.devices * settings.nodes > 1
    if asked or os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise UsageError(f"vsc {name} is the work of one process; vsc train alone is shared by several (torchrun)")


def _explain(error: Exception) -> int:
    """Print one line that says what went wrong and what to do; return the exit code."""
    code = 1
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UsageError):
        code = 2
    elif signum := getattr(error, "signum", 0):
        code = 128 + signum
    elif isinstance(error, OSError):
        text = f"{error.strerror or text}: {error.filename or ''}".rstrip(": ")
        text += "; nothing that was complete before is lost"
    elif not isinstance(error, RunError):
        text = f"unexpected {type(error).__name__}: {text}; run again with --debug for the whole story"
    print(f"vsc: {text if len(text) <= MOST else text[: MOST - 4] + ' ...'}", file=sys.stderr)
    return code


def _takes(command: Callable[[Any], None]) -> type:
    return get_type_hints(command)["config"]


def _overview() -> str:
    lines = ["usage: vsc COMMAND [options]", "", "Sparse, interpretable codes from a deep generative model.", ""]
    lines += [f"  {name:10} {(_takes(command).__doc__ or '').strip()}" for name, command in COMMANDS.items()]
    lines += ["", "vsc COMMAND --help shows a command's options; vsc --version the version.", "Start with: vsc compare"]
    return "\n".join(lines)


def _data_arguments(config: Config, root: str | None = None) -> dict[str, Any]:
    chosen = config.data
    return {
        "name": chosen.name,
        "root": root or chosen.root,
        "valid_fraction": chosen.valid_fraction,
        "seed": chosen.seed,
        "label": chosen.label,
    }


def _of_run(config: Config, model: "Autoencoder", root: str | None) -> "Dataset":
    """Load the data of a saved run, whose file may be named as seen from another folder, with the model's columns."""
    from vsc import data

    name = config.data.name
    if is_path(name) and not data.located(name, root).exists():
        raise UsageError(
            f"the run was trained on {name}, which is not there as seen from this folder; "
            "say with --data-root in which folder it lies"
        )
    try:
        return data.load(**_data_arguments(config, root)).aligned(model.columns)
    except UsageError as error:
        raise UsageError(str(error) if name in str(error) else f"{name}: {error}") from error


def _with_suffix(path: str, *allowed: str) -> Path:
    if Path(path).suffix not in allowed:
        raise UsageError(f"out must end in {' or '.join(allowed)}, not {path!r}")
    return Path(path)


def _command() -> str:
    """Return what was typed; it is written into files, so what is secret in a database's URL is left out."""
    from vsc.sweep.trials import without_secrets

    return shlex.join(["vsc", *map(without_secrets, sys.argv[1:])])


COLUMNS = {
    "elbo": ("ELBO", ".2f"),
    "relaxed_elbo": ("relaxed", ".2f"),
    "iwae": ("IWAE", ".2f"),
    "log_px": ("log p(x|z)", ".2f"),
    "kl_slab": ("KL slab", ".2f"),
    "kl_spike": ("KL spike", ".2f"),
    "kl_selection": ("KL choice", ".2f"),
    "l0": ("l0", ".1f"),
    "active": ("active", ".1f"),
    "used": ("used", ".1f"),
    "always_on": ("always on", ".1f"),
    "dead": ("dead", ".1f"),
    "mse": ("MSE", ".4f"),
    "denoise_psnr": ("denoised dB", ".2f"),
    "probe": ("probe", ".3f"),
}


def _table(titles: Sequence[str], means: Sequence["Scores"], spreads: Sequence["Scores | None"]) -> str:
    """Lay scores out as a Markdown table, mean and standard deviation over the seeds; nats per example."""
    shown = {
        name: column
        for name, column in COLUMNS.items()
        if name not in ("relaxed_elbo", "iwae", "kl_selection") or any(getattr(mean, name) for mean in means)
    }
    head = ["model", *(label for label, _ in shown.values())]
    from vsc.measure.scores import without_latents

    rows, baseline = [], without_latents(means[0])
    if baseline is not None:
        titles, means, spreads = [*titles, "no latents"], [*means, baseline], [*spreads, None]
    for title, mean, spread in zip(titles, means, spreads, strict=True):
        row = [title]
        for name, (_, style) in shown.items():
            value, sd = getattr(mean, name), getattr(spread, name, None)
            style = ".0f" if isinstance(value, int) else style
            row.append("–" if value is None else f"{value:{style}}" + ("" if sd is None else f" ± {sd:{style}}"))
        rows.append(row)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in [head, *rows]
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
