"""The commands: what each does with the dataclass that it takes."""

import math
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from vsc.cli import tables
from vsc.cli.options import comparison_folder, is_path, parse, run_folder, tuning_folder
from vsc.errors import UsageError, short
from vsc.settings import commands as asked
from vsc.settings.config import Config

if TYPE_CHECKING:
    from vsc.data import Dataset
    from vsc.model import Autoencoder


def train(config: asked.TrainRun) -> None:  # noqa: D103 (the dataclass says what the command does)
    from torch import distributed

    from vsc import data
    from vsc.cli import columns
    from vsc.torchstate import flush_denormals
    from vsc.training import loop

    flush_denormals()
    common = Config(config.data, config.model, config.train)
    folder = run_folder(config)
    loaded = data.load(**_data_arguments(common))
    if loaded.fields and os.environ.get("RANK", "0") == "0":
        print(f"{columns.summary(loaded)}. vsc data {shlex.quote(config.data.name)} lists them", flush=True)
    how = {"resume": config.resume, "overwrite": config.overwrite, "progress": sys.stderr.isatty()}
    model = loop.train(loaded, common, folder, **how, tell=_caution)
    if distributed.is_available() and distributed.is_initialized():
        rank = distributed.get_rank()
        distributed.barrier()
        distributed.destroy_process_group()  # one that is left to the interpreter's end can abort there
        if rank:
            return
    for line in tables.training(common, folder, model, loaded):
        print(line)


def _caution(said: str) -> None:
    print(f"CAUTION: {said}", file=sys.stderr, flush=True)


def compare(config: asked.Compare) -> None:  # noqa: D103
    _compare(config, _command())


def demo(config: asked.Demo) -> None:  # noqa: D103
    from vsc.settings.presets import DEMO

    for name, options in DEMO.items():
        words = [*shlex.split(options), "--out", str(Path(config.out) / name), "--overwrite"]
        typed = shlex.join(["vsc", "compare", *words])
        print(f"$ {typed}", flush=True)
        _compare(parse("compare", asked.Compare, words), typed)


def _compare(config: asked.Compare, command: str) -> None:
    from vsc import data
    from vsc.report import lead
    from vsc.studies import comparison, equal
    from vsc.torchstate import flush_denormals

    flush_denormals()
    loaded = data.load(**_data_arguments(config))
    folder = comparison_folder(config)
    trained = comparison.compare(config, loaded, folder, command, progress=sys.stderr.isatty(), caution=_caution)
    print()
    stability = [one.returning.effects if one.returning else None for one in trained]
    titles, means, spreads = zip(*((one.title, one.mean, one.spread) for one in trained), strict=True)
    print(tables.scores(titles, means, spreads, stability))
    print(f"\n{len(loaded.test)} test examples, hard spikes, likelihood {comparison.likelihoods(trained)}.")
    if who := equal.contest(trained):
        first = trained[who.lead]
        print(f"\nWhat the sparse code of {first.title} buys, and what it costs:")
        for found in lead.findings(trained, who):
            print(f"- {found.value} {found.unit}. {found.text}")
        print(f"\n{tables.equal(lead.rows(trained, who))}\n")
        if (found := first.returning) and len(found.first.latent):
            print(f"{found.come_back} of {len(found.first.latent)} latents in use come back in every seed.")
            print(
                "in this table non-zeros, error and probe are of the first seed, the ELBO is the mean over the seeds.\n"
            )
        if first.mean.probe is not None:
            print("probe: of the mean codes in the first table, and of codes cut to these non-zeros in the second.\n")
    for one in trained:
        for said in one.cautions:
            print(f"CAUTION: {one.title} {said}")
    print(f"The report: {folder / 'report.html'}")


def study(config: asked.RunStudy) -> None:  # noqa: D103
    from vsc import studies
    from vsc.torchstate import flush_denormals

    if config.study == "list":
        print(studies.listing())
        return
    flush_denormals()
    studies.run(config, _command(), progress=sys.stderr.isatty())


def tune(config: asked.Tune) -> None:  # noqa: D103
    from vsc.sweep import tune as tuning
    from vsc.torchstate import flush_denormals

    flush_denormals()
    if config.choose is not None:
        from vsc.errors import choose
        from vsc.report import path as page
        from vsc.sweep.path import CHOICES

        chosen = choose(CHOICES, config.choose, "choice")(
            config, tuning_folder(config), _command(), progress=sys.stderr.isatty()
        )
        print("\n".join(tables.path(chosen)))
        print(f"the page:        {page.write(chosen)}")
        return
    found = tuning.tune(config, tuning_folder(config), _command(), progress=sys.stderr.isatty())
    print("\n".join(tables.trials(found)))


def evaluate(config: asked.Evaluate) -> None:  # noqa: D103
    from vsc.measure import results
    from vsc.measure.measured import Measured

    folder = Path(config.run)
    saved, model = _opened(folder)
    loaded = _of_run(folder, saved, model, config.data_root)
    names = [name.strip() for name in (config.metrics or "").split(",") if name.strip()]
    model.sweeps = config.refine
    seen = Measured(model, loaded, config.split, config.seed)
    found = results.measured(
        *(folder, loaded, config.split, names, config.samples, config.seed, config.iwae),
        progress=sys.stderr.isatty(),
        seen=seen,
    )
    print(tables.scores([type(model).__name__], [found.scores], [None]))
    for name, value in found.metrics.items():
        print(tables.metric(name, value))
    print(f"\n{found.examples} {config.split} examples, hard spikes, likelihood {found.likelihood}.")
    for said in found.cautions:
        print(f"CAUTION: the model {said}")
    print(f"Written to {results.place(folder, seen)}")


def report(config: asked.Report) -> None:  # noqa: D103
    from vsc.measure.measured import Measured
    from vsc.report import run
    from vsc.torchstate import cpu_threads

    folder = Path(config.run)
    out = folder / "report.html" if config.out is None else _with_suffix(config.out, ".html")
    saved, model = _opened(folder)
    seen = Measured(model, _of_run(folder, saved, model, config.data_root), config.split)
    with cpu_threads(model):
        print(f"The report: {run.write(folder, seen, out, config.live)}")


def encode(config: asked.Encode) -> None:  # noqa: D103
    import numpy as np
    import torch

    from vsc import data
    from vsc.cli import codes as written
    from vsc.data.asked import Asked
    from vsc.data.split import Dataset, Split
    from vsc.measure.measured import Measured, pick

    folder, out = Path(config.run), Path(config.out)
    written.suffix(out)
    saved, model = _opened(folder, config.data)
    model.sweeps = config.refine
    if config.data is None:
        chosen = pick(_of_run(folder, saved, model, config.data_root), config.split, on_disk=True)
        x, y, rows = chosen.x, chosen.y, chosen.index
    else:
        file = data.located(config.data, config.data_root)
        taken = Asked.of(saved.data.label, saved.data.drop, saved.data.columns)
        taken = taken._replace(fields=model.fields, shape=model.shape, root=config.data_root)
        x, y, _, rows = data.read_rows(file, model.columns, taken)
        if (expected := math.prod(model.shape)) != x.shape[1]:
            raise UsageError(
                f"{file}: its examples have {x.shape[1]} values each (text counts once for each level), the run "
                f"had {expected}; give rows of the columns that it was trained on"
            )
    known = {"row": np.arange(len(x)) if rows is None else np.asarray(rows)}
    known |= {} if y is None else {"label": np.asarray(y)}
    rate = torch.from_numpy(written.write(out, model.encode_parts(x), known) / len(x))
    order, listed = tables.used(rate)
    print(f"{len(x)} codes of {model.latent_dim} latents, {rate.sum():.1f} of them on per example: {out}")
    print(listed)
    if config.refine:
        print(_gain(model, x[:MANY]))
    if y is not None and config.data is None:
        print(f"which of them tell the classes: vsc report {shlex.quote(config.run)}")
    if model.columns and order:
        some = Split(x[: max(MANY, 2**26 // max(x.shape[1], model.latent_dim))])
        named = {"features": model.columns, "fields": model.fields}
        shown = Dataset(saved.data.name, model.shape, some, some, some, **named)
        own = model.scaler.kind == "standard" or model.likelihood.own_units
        unit = "standard deviations of each column" if own else "model units"
        for line in tables.effects(Measured(model, shown).effects.first(20), model.columns, unit):
            print(line)


def _gain(model: "Autoencoder", x: Any) -> str:
    """Say what refining does for examples x (N, M)."""
    import torch

    from vsc.metrics import fvu

    inputs, sweeps, found = model.scaler(model.stored(x)), model.sweeps, []
    with torch.no_grad():
        for model.sweeps in (0, sweeps):
            outputs = model.decode(model.codes(inputs).hard)
            found.append((model(inputs).elbo.mean(), fvu(inputs.numpy(), outputs.numpy())))
    (elbo, left), (refined, still) = found
    return (
        f"refined, the ELBO is {refined:.1f} nats in place of the encoder's {elbo:.1f}, and the share of the variance "
        f"that is not explained (FVU) {still:.3f} in place of {left:.3f} (the first {len(inputs)} rows, model units)"
    )


MANY = 5000
"""Rows over which the effect of a latent is averaged in any case; where codes are short, there are more."""


def impute(config: asked.Impute) -> None:  # noqa: D103
    from vsc import data, files
    from vsc.data.asked import Asked
    from vsc.data.table import read_table
    from vsc.measure.gaps import hidden_errors
    from vsc.training import runs

    out = _with_suffix(config.out, ".csv", ".parquet")
    folder, file = Path(config.run), data.located(config.data, config.data_root)
    saved, model = runs.read_config(folder), runs.load(folder)
    if not file.name.lower().endswith(files.TABLES):
        raise UsageError(f"{file}: only tables have missing values; give one of {', '.join(files.TABLES)}")
    if not model.missing:
        raise UsageError(
            f"{folder} was trained on data without missing values, so that its encoder cannot be told of any; train on "
            "a table that has some"
        )
    taken = Asked.of(saved.data.label, saved.data.drop, saved.data.columns)._replace(fields=model.fields)
    try:
        table = read_table(file, taken).frame
        own = table[[field.name for field in model.fields]]
    except (UsageError, OSError) as error:
        told = f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else error
        raise UsageError(f"{file}: {told}") from error
    gaps = int(own.isna().sum().sum())
    filled = table.assign(**model.impute(own, config.draws, config.seed))
    named = not hasattr(table.index, "step")  # an index that only counts names nothing
    try:
        with files.whole(out) as temporary:
            (filled.to_csv if out.suffix == ".csv" else filled.to_parquet)(temporary, index=named)
    except ImportError as error:
        raise UsageError('to write .parquet files: pip install "variational-sparse-coding[tables]"') from error
    print(f"{gaps} values of {len(table)} rows were missing, and are filled in: {out}")
    for line in tables.hidden(hidden_errors(model, own, config.draws, config.seed)):
        print(line)


def sample(config: asked.Sample) -> None:  # noqa: D103
    import torch

    from vsc import files, hub
    from vsc.torchstate import seeded

    if config.n < 1:
        raise UsageError(f"n must be at least 1, not {config.n}")
    model = hub.load(config.run)
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


def data(config: asked.ShowData) -> None:  # noqa: D103
    from vsc import data
    from vsc.data import npz

    how: dict[str, Any] = {name: getattr(config, name) for name in ("label", "drop", "columns", "size")}
    loaded = data.load(config.name, config.data_root, **how)
    for line in tables.contents(loaded):
        print(line)
    if config.out:
        out = _with_suffix(config.out, ".npz")
        npz.write(out, loaded)
        print(f"written to {out}")


def push(config: asked.Push) -> None:  # noqa: D103
    from vsc import hub

    address = hub.push(config.run, config.name, config.private, config.license)
    print(f"pushed {config.run}; read it with vsc.load({address!r})")


def export(config: asked.Export) -> None:  # noqa: D103
    from vsc import export, hub

    if config.onnx == config.saelens:
        raise UsageError("say in which format: --onnx or --saelens")
    if config.saelens:
        _saelens(Path(config.run), config)
        return
    near = Path() if config.run.startswith(hub.PREFIX) else Path(config.run)
    folder = Path(config.out) if config.out else near / "onnx"
    for name, far in export.onnx(hub.load(config.run), folder).items():
        print(f"{folder / name}.onnx: opset {export.OPSET}, at most {far:.1g} off PyTorch's output")


def _saelens(run: Path, config: asked.Export) -> None:
    from vsc import saelens

    folder = Path(config.out) if config.out else run / "saelens"
    saved, model = _opened(run)
    loaded = _of_run(run, saved, model, config.data_root)
    part = "validation" if len(loaded.valid) else "test"
    found = saelens.write(model, folder, (loaded.valid if len(loaded.valid) else loaded.test).x)
    off = f"codes, in stored units, differ by {found.values:.1%} of their size"
    print(f"{folder}: SAELens' {found.architecture}, on where our gates are open; {off}")
    print(f"unexplained variance of the {part} examples {found.fvu:.4f}, by the run itself {found.ours:.4f}")
    if model.bounded:
        print("lost, since it has no place there: how probable each gate is, variances, the prior and the bound")


COMMANDS: dict[str, Callable[[Any], None]] = {
    "compare": compare,
    "train": train,
    "study": study,
    "tune": tune,
    "evaluate": evaluate,
    "report": report,
    "encode": encode,
    "impute": impute,
    "sample": sample,
    "data": data,
    "push": push,
    "export": export,
    "demo": demo,
}


def takes(command: Callable[[Any], None]) -> type:
    """Return the dataclass of what a command takes."""
    return get_type_hints(command)["config"]


def _data_arguments(config: Config, root: str | None = None) -> dict[str, Any]:
    names = ("name", "root", "valid_fraction", "seed", "label", "drop", "columns", "size")
    found = {name: getattr(config.data, name) for name in names}
    return found | ({"root": root} if root else {})


def _opened(folder: Path, data: str | None = None) -> tuple[Config, "Autoencoder"]:
    """Read the settings and the model of a run; one that SAELens saved has no settings, and must be given `data`."""
    from vsc import saelens
    from vsc.training import runs

    if not saelens.is_saelens(folder):
        return runs.read_config(folder), runs.load(folder)
    if data is None:
        raise UsageError(
            f"{folder} is a model that SAELens reads, without data: vsc encode {folder} --data FILE takes it, and in "
            f"Python vsc.evaluate(vsc.load({str(folder)!r}), data)"
        )
    return Config(), saelens.read(folder)


def _of_run(folder: Path, config: Config, model: "Autoencoder", root: str | None) -> "Dataset":
    """Load the data of a saved run, its file maybe named as seen from another folder; say where they have changed."""
    from vsc import data
    from vsc.training import runs

    name = config.data.name
    if is_path(name) and not data.located(name, root).exists():
        raise UsageError(
            f"the run was trained on {name}, which is not there as seen from this folder; "
            "say with --data-root in which folder it lies"
        )
    try:
        loaded = data.load(**_data_arguments(config, root))
        if (given := runs.name_of_data(folder)) not in ("", loaded.name):
            raise UsageError(
                f"{folder} was trained in Python, on data called {short(given)}, and its settings name {short(name)}; "
                f"measure it there: vsc.evaluate({str(folder)!r}, data)"
            )
        loaded = loaded.aligned(model.columns)
    except UsageError as error:
        raise UsageError(str(error) if name in str(error) else f"{name}: {error}") from error
    if changed := runs.changed_data(folder, loaded):
        print(f"CAUTION: {changed}; rows that the model was trained on may be among these")
    return loaded


def _with_suffix(path: str, *allowed: str) -> Path:
    if Path(path).suffix not in allowed:
        raise UsageError(f"out must end in {' or '.join(allowed)}, not {path!r}")
    return Path(path)


def _command() -> str:
    """Return what was typed; it is written into files, so what is secret in a database's URL is left out."""
    from vsc.sweep.trials import without_secrets

    return shlex.join(["vsc", *map(without_secrets, sys.argv[1:])])
