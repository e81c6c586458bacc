"""What commands print: scores, trials, latents and what a training or a data set is, as tables and lines."""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vsc.files import is_path
from vsc.settings.config import Config
from vsc.settings.presets import changed, training_command

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from vsc.data import Dataset
    from vsc.measure.effects import Effects
    from vsc.measure.scores import Scores
    from vsc.model import Autoencoder
    from vsc.report.lead import Row
    from vsc.sweep.path import Chosen
    from vsc.sweep.tune import Found

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
    "fvu": ("FVU", ".3f"),
    "denoise_psnr": ("denoised dB", ".2f"),
    "probe": ("probe", ".3f"),
}
"""Score -> its column's head, nats per example, and how it is written."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay cells out as the lines of a Markdown table."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def scores(
    titles: Sequence[str],
    means: Sequence["Scores"],
    spreads: Sequence["Scores | None"],
    stability: Sequence[float | None] = (),
) -> str:
    """
    Lay scores out, mean and standard deviation over the seeds; the last row is what no latents at all score.

    `stability` is how far the latents come back in other seeds, where there are several.
    """
    from vsc.measure.scores import without_latents

    shown = {
        name: column
        for name, column in COLUMNS.items()
        if name not in ("relaxed_elbo", "iwae", "kl_selection", "fvu") or any(getattr(mean, name) for mean in means)
    }
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
    head = ["model", *(label for label, _ in shown.values())]
    if any(stability):
        head.append("stability")
        for row, value in zip(rows, [*stability, None], strict=False):
            row.append("–" if value is None else f"{value:.2f}")
    return "\n".join(markdown(head, rows))


def equal(rows: Sequence["Row"]) -> str:
    """Lay out codes at equal non-zeros."""
    known = {
        "nonzeros": ("non-zeros", ".1f"),
        "mse": ("MSE", ".4f"),
        "probe": ("probe", ".3f"),
        "elbo": ("ELBO", ".2f"),
    }
    shown = {name: one for name, one in known.items() if any(getattr(row, name) is not None for row in rows)}
    cells = [
        [row.label, *("–" if (v := getattr(row, name)) is None else f"{v:{spec}}" for name, (_, spec) in shown.items())]
        for row in rows
    ]
    return "\n".join(markdown(["code", *(head for head, _ in shown.values())], cells))


def metric(name: str, value: float) -> str:
    """Return a metric's value, its unit, and which end is better."""
    from vsc.metrics import METRICS, metric_of

    known = METRICS[metric_of(name)]
    better = {"higher": "higher is better", "lower": "lower is better", None: ""}[known.better]
    note = ", ".join(part for part in (known.unit, better) if part)
    return f"  {name:28} {value:<10.4g} {note}".rstrip()


def training(config: Config, folder: "Path", model: "Autoencoder", data: "Dataset") -> Iterator[str]:
    """Yield what a training ends with: the validation of the weights that were kept, cautions, and what to type."""
    from vsc.measure.measured import Measured
    from vsc.training import diagnosis, runs

    rows = [row for row in runs.read_history(folder) if row["split"] == "valid"]
    resolved = runs.read_config(folder)
    asked = resolved.train
    if asked.patience:  # the best weights were kept
        rows.sort(key=lambda row: -math.inf if (score := row.get("elbo", row["log_px"])) is None else score)
    last = rows[-1] if rows else {}
    far = last.pop("not_finite", [])
    for key, value in last.items():
        if not isinstance(value, list):  # one number for each latent: for the report
            yield f"  {key:12} {value:.4g}" if isinstance(value, float) else f"  {key:12} {value}"
    count = sum(p.numel() for p in model.parameters())
    yield f"trained {type(model).__name__} with {count} parameters; saved in {folder}"
    if last and asked.steps and last["step"] < asked.steps:
        yield f"kept: the weights of step {last['step']} of {asked.steps}, the best on the validation part"
    cautions = [overfits := diagnosis.overfitting(rows, resolved)]
    if last and model.bounded:
        without = Measured(model, data, "valid").no_latents[0]
        cautions += [diagnosis.worthless(last["elbo"], without, bool(overfits or asked.patience), resolved)]
    if last and model.spiked:
        closed = diagnosis.collapse(last["used"], last["always_on"], model.latent_dim, resolved)
        cautions += [closed or diagnosis.missed(last["active"], last["l0"], resolved)]
    yield from (f"CAUTION: the model {said}" for said in cautions if said)
    if far:
        yield (
            f"CAUTION: validation examples {some(map(str, far), 5)}, counted from 0, have no finite bound, and are "
            "left out of these numbers: look there for values of an extreme size"
        )
    run, own = shlex.quote(str(folder)), config.data.name
    yield f"next: vsc evaluate {run}    (the test set, hard spikes)"
    yield f"      vsc report {run}    (a page on every latent)"
    yield f"      vsc encode {run}" + (f" --data {shlex.quote(own)}" if is_path(own) else "") + "    (codes to a file)"


def trials(found: "Found", most: int = 5) -> Iterator[str]:
    """Yield what a search ends with: the `most` best trials as a table, and what to type next."""
    from vsc.sweep.tune import WHILE_TRAINING, ranked, text

    search, complete = found.search, ranked(found.tried, found.search.better)
    rows = [
        [one.trial.split()[1], *(text(value) for value in one.settings.values()), f"{one.value:.5g}"]
        for one in complete[:most]
    ]
    yield from ["", *markdown(["trial", *(setting.name for setting in search.space), search.metric], rows), ""]
    states = [one.state for one in found.tried]
    counts = f"{len(complete)} complete, {states.count('pruned')} stopped early, {states.count('failed')} failed"
    yield f"{len(states)} trials on the validation part: {counts}"
    if narrow := ", ".join(_at_an_end(found)):
        yield f"the best lies at an end of the range of {narrow}: widen it"
    if search.metric in WHILE_TRAINING:
        yield "these are the best bounds, which do not ask for sparsity; for codes to read, fix --target-l0"
    run = shlex.quote(str(found.job.folder))
    yield f"train with them: {training_command(changed(search.common, found.best.settings))}"
    yield f"             or: vsc train --config {shlex.quote(str(search.folder / 'best.yaml'))}"
    yield f"the best run:    vsc evaluate {run}    (the test set, hard spikes)"


def path(chosen: "Chosen") -> Iterator[str]:
    """Yield what the choice of l0 ends with: the path as a table, the recommendation and what to type next."""
    from vsc.sweep.path import COLUMNS, rows

    yield from ["", *markdown(list(COLUMNS), rows(chosen)), ""]
    seeds = len(chosen.best.jobs)
    yield f"means over {seeds} seeds on the validation part; no label was looked at"
    yield f"recommended: {chosen.reason}"
    yield f"train with it:   {training_command(changed(chosen.common, {'train.target_l0': chosen.best.target}))}"
    yield f"             or: vsc train --config {shlex.quote(str(chosen.folder / 'best.yaml'))}"


def _at_an_end(found: "Found") -> Iterator[str]:
    """Name the ranges whose best value lies within a twentieth of an end."""
    for one in found.search.space:
        if not one.choices:
            scale = math.log if one.log else float
            low, high, value = (scale(v) for v in (one.low, one.high, found.best.settings[one.name]))
            if not 0.05 < (value - low) / (high - low) < 0.95:
                yield one.name


def used(rate: "Tensor") -> tuple[list[int], str]:
    """Return the used latents, those that are on most first, and say of each how often it is on, (J,)."""
    order = [int(j) for j in rate.argsort(descending=True, stable=True) if rate[j] > 0.01]
    listed = ", ".join(f"{j} ({rate[j]:.0%})" for j in order[:20]) + (", ..." if len(order) > 20 else "")
    return order, f"used latents, counted from 0, and the share of examples they are on for: {listed or 'none'}"


def effects(found: "Effects", columns: Sequence[str], unit: str) -> Iterator[str]:
    """Yield what each latent is worth, which columns of a table it changes, and by how much, in `unit`."""
    yield "what each is worth to examples that have it on (nats lost without it), and what turning it on does to the"
    yield "columns, all else as it is; raised from its low to its high values where it is never off or has both signs"
    yield f"(the three it changes most, in {unit}, over these rows):"
    for k in (-found.drop).argsort(kind="stable"):
        change, how = found.change[k], "on"
        if not found.turned_on[k]:
            how = f"raised from {found.low[k]:.2g} to {found.high[k]:.2g}"
        most = sorted(range(len(change)), key=lambda m: -abs(change[m]))[:3]
        told = ", ".join(f"{columns[m]} {change[m]:+.2f}" for m in most)
        yield f"  latent {found.latent[k]:3}, {found.drop[k]:.1f} nats, {how}: {told}"
    if idle := [f"{latent}" for latent, worth in zip(found.latent, found.drop, strict=True) if worth < LITTLE]:
        yield f"worth under {LITTLE:g} nats where they are on, so make nothing of them: latent {some(idle)}"


LITTLE = 0.5
"""Nats below which a latent that is on says next to nothing."""


def hidden(errors: Mapping[str, float]) -> Iterator[str]:
    """Yield how well values of each column were filled in that had been hidden."""
    told = sorted(errors, key=lambda name: -errors[name])
    worse = [name for name in told if errors[name] > 1.05]
    if told:
        yield "a fifth of the values that are there, hidden and filled in: error, where 1 is that of the column's mean"
        yield "(or commonest level): " + some(f"{name} {errors[name]:.2f}" for name in told)
    if worse:
        yield f"caution: of these the mean is the better guess: {some(worse)}"


def contents(loaded: "Dataset") -> Iterator[str]:
    """Yield what a data set holds, and how a training takes it."""
    import torch

    from vsc.cli import columns
    from vsc.fields import mixed

    sizes = ", ".join(f"{len(getattr(loaded, part))} {part}" for part in ("train", "valid", "test"))
    x = loaded.train.x
    yield f"{loaded.name}: examples of shape {loaded.shape}, stored as {str(x.dtype).removeprefix('torch.')}; {sizes}"
    if loaded.fields:
        yield columns.summary(loaded)
        yield from columns.listing(loaded)
    else:
        yield f"values from {x.min():g} to {x.max():g}, mean {x.mean(dtype=torch.float64):.4g}"
        yield from [f"columns: {some(loaded.features)}"] if loaded.features else []
    yield f"classes: {some(loaded.classes)}" if loaded.classes else "no labels"
    if (factors := loaded.train.factors) is not None:
        yield f"{factors.shape[1]} factors" + (f": {some(loaded.factor_names)}" if loaded.factor_names else "")
    if loaded.groups:
        yield f"attributes, present or absent: {some(dict.fromkeys(loaded.groups))}"
    if loaded.train.extras:
        yield f"also known of each example: {some(loaded.train.extras)}"
    yield from (f"note: {note}" for note in loaded.notes)
    if not mixed(loaded.fields):  # else each column has its own
        yield _reading(loaded)
    if len(loaded.shape) == 1 and loaded.shape[0] >= WIDE and not loaded.features and loaded.high is None:
        yield "if these are activations of a network, or other vectors with one scale: vsc train --model vsc-linear, or"
        yield "vsc compare --models vsc-linear,batch-topk,jumprelu, which learn a dictionary of directions"


WIDE = 64
"""Values without names from which on an example may well be what a layer of a network computes."""


def some(names: Iterable[Any], most: int = 50) -> str:
    """Return names, each short enough to read; of very many, the first."""
    known = [name if len(name) <= 40 else name[:37] + "..." for name in names]
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def _reading(loaded: "Dataset") -> str:
    """Say how a training takes the values by default, and what to type for the other reading."""
    from vsc.settings.resolve import resolve

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
