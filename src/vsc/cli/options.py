"""From the words of a command line, a YAML file and defaults to the dataclass that a command takes."""

import json
import re
from argparse import SUPPRESS
from collections.abc import Collection, Iterator
from dataclasses import asdict, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from vsc.errors import UsageError, choose, short
from vsc.files import is_path
from vsc.settings.commands import Compare, ShowData, TrainRun, Tune
from vsc.settings.config import KINDS, Config, Kind
from vsc.settings.schedule import SYNTAX, Schedule
from vsc.settings.upgrade import GONE, INSTEAD, read_settings

SHORT = {
    "--data": "--data.name",
    "--data-root": "--data.root",
    "--label": "--data.label",
    "--drop": "--data.drop",
    "--columns": "--data.columns",
    "--size": "--data.size",
    "--model": "--model.name",
    "--latent-dim": "--model.latent_dim",
    "--net": "--model.net",
    "--likelihood": "--model.likelihood",
    "--alpha": "--model.alpha",
    "--gates": "--model.gates",
    "--steps": "--train.steps",
    "--batch-size": "--train.batch_size",
    "--lr": "--train.lr",
    "--beta": "--train.beta",
    "--cap": "--train.cap",
    "--target-l0": "--train.target_l0",
    "--seed": "--train.seed",
    "--device": "--train.device",
}
"""Short forms of the options that are typed most, for commands that take a whole configuration."""


def parse(name: str, kind: type, words: list[str]) -> Any:
    """
    Build a command's dataclass from words, a YAML file and defaults.

    None where only help or the configuration was asked for; an unknown option or a value of the wrong type is a
    UsageError.
    """
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser, set_parsing_settings
    from jsonargparse.typing import register_type

    bare = getattr(kind, "words", "").split()
    helps = any(word.startswith(("-h", "--help", "--print_config")) for word in words)
    set_parsing_settings(docstring_parse_attribute_docstrings=helps)  # which takes as long as all else together
    register_type(Schedule, lambda schedule: schedule.plain, Schedule.parse)
    parser = ArgumentParser(
        prog=f"vsc {name}",
        usage=f"vsc {name} {' '.join([*bare, '']).upper()}[options]",
        description=f"{kind.__doc__} {_short_forms(kind)}",
        epilog=f"Example: {kind.example}. With --debug, an error is shown with its whole story.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file of settings; later options override it.")
    parser.add_argument("--format", type=int, help=SUPPRESS)  # of a run's own config.yaml
    parser.add_class_arguments(kind)
    if "-h" in words or "--help" in words:
        _add_choices(parser)
        _hide_groups(parser)
    words = _expand(kind, _presets(words) if kind in (TrainRun, Tune) else words)
    if issubclass(kind, Config):
        words = _settings_of_files(words)
        _refuse_gone(words)
    try:
        parsed = parser.parse_args(words)
        if kind in (TrainRun, Compare) and parsed.resume:
            _default_to_saved(parser, parsed)
            parsed = parser.parse_args(words)
        values = vars(parser.instantiate(parsed))
    except SystemExit as stop:  # --help and --print_config
        if stop.code:
            raise
        return None
    except ArgumentError as error:
        options = [option for action in parser._actions for option in action.option_strings]
        options += SHORT if issubclass(kind, Config) else ()
        text = _reword(" ".join(str(error).split()), options)
        raise UsageError(text.replace("HELP", f"vsc {name} --help")) from error
    values.pop("config", None)
    values.pop("format", None)
    return kind(**values)


def _presets(words: list[str]) -> list[str]:
    """Put what `--model NAME` stands for before all other options, but after a file of settings."""
    from vsc.settings.presets import PRESETS, named, word

    first = 0
    for i, typed in enumerate(words):
        option, equals, value = typed.partition("=")
        behind = i + (1 if equals else 2)
        first = behind if option == "--config" else first
        name = value if equals else "".join(words[i + 1 : behind])
        if option == "--model" and name and (name in PRESETS or name not in get_args(Kind)):
            settings = [f"--{setting}={word(value)}" for setting, value in named(name)[1].items()]
            return [*words[:first], *settings, *words[first:i], *words[behind:]]
    return words


def _expand(kind: type, words: list[str]) -> list[str]:
    """Write out short forms, the bare word and flags without a value."""
    flags, short = set(_flags(kind)), SHORT if issubclass(kind, Config) else {"--data-root": "--data_root"}
    bare = getattr(kind, "words", "").split()
    expanded, rest = [], list(words)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        option = short.get(option, option)
        if kind is ShowData and option in ("--n", "--presence", "--seed"):
            raise UsageError(
                f'vsc data has no {option}; new Smileys: python -c "from vsc.data import smiley; '
                "smiley.export('faces.npz', n=60000, presence=0.5, seed=0)\""
            )
        if bare and not option.startswith("-"):
            expanded += [f"--{bare.pop(0)}", option + equals + value]
        elif option in flags and not equals and rest[:1] not in (["true"], ["false"], ["yes"], ["no"]):
            expanded += [option, "true"]
        elif equals or not option.startswith("-") or option in ("-h", "--help", "--print_config"):
            expanded += [option + equals + value]
        else:
            expanded += [option, *rest[:1]]
            rest = rest[1:]
    return expanded


def _settings_of_files(words: list[str]) -> list[str]:
    """Read the files that --config names, of whatever format, and put their settings in their place."""
    words = list(words)
    for i, word in enumerate(words):
        option, equals, path = word.partition("=")
        if option == "--config" and (equals or i + 1 < len(words)):
            plain = json.dumps(_read(path if equals else words[i + 1]), default=str)
            words[i : i + (1 if equals else 2)] = ["--config", plain]
    return words


def _read(path: str) -> dict[str, Any]:
    try:
        return read_settings(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def _refuse_gone(words: list[str]) -> None:
    """Say what to type instead of options of earlier versions."""
    for word in words:
        option = word.partition("=")[0]
        dotted = {"--prior": "model.prior"}.get(option, option.removeprefix("--"))
        if dotted in INSTEAD:
            instead = re.sub(r"\b(model|train)\.", r"--\1.", INSTEAD[dotted])
            raise UsageError(f"{option} no longer exists; take {instead}")
        if option.startswith("--train.") and (parts := GONE.get(dotted.removeprefix("train."))):
            into = " or ".join(f"--train.{part}" for part in parts)
            raise UsageError(f"{option} is part of a schedule now: type {into} with {SYNTAX}")


def _flags(kind: type, prefix: str = "--") -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        if hint is bool:
            yield prefix + name
        elif is_dataclass(hint):
            yield from _flags(hint, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]


def _default_to_saved(parser, parsed) -> None:
    """Let the settings of the run to resume stand in for what is not given."""
    from vsc.studies import comparison
    from vsc.training import runs

    if "models" in parsed:
        saved = comparison.read_settings(comparison_folder(parsed))
    else:
        saved = asdict(runs.read_config(run_folder(parsed)))
    flat = {part: value for part, value in saved.items() if not isinstance(value, dict)}
    nested = {f"{part}.{name}": value for part in saved.keys() - flat for name, value in saved[part].items()}
    parser.set_defaults(flat | nested)


WORDS = {kind.__name__: words for kind, words in KINDS.items()}


def _reword(text: str, options: Collection[str]) -> str:
    """Say in our words what the argument parser complains about; HELP stands for the command that helps."""
    if found := re.search(r'Parser key "([\w.]+)": .*Not of type Schedule: (.*?)( - Expected .*)?$', text):
        return f"{found[1]}: {found[2]}"
    if found := re.search(r'Parser key "([\w.]+)": Expected a typing.Literal\[(.*)\]\. Got value: (.*)', text):
        return _one_of(re.findall(r"'([^']+)'", found[2]), found[3], found[1])
    if found := re.search(r'Parser key "([\w.]+)": .*Expected .*(?:Got|Given) value: (.*)', text):
        kinds: dict[str, None] = dict.fromkeys(re.findall(r"Expected an? <class '(\w+)'>", text))
        return f"{found[1]} must be {' or '.join(WORDS.get(kind) or kind for kind in kinds)}, not {found[2]}"
    if found := re.match(r"unrecognized arguments: (-\S+)", text):
        near = get_close_matches(found[1], options, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"unknown option {found[1]}; {hint}HELP lists all"
    if found := re.match(r"unrecognized arguments: (.*)", text):
        word = found[1].split()[0]
        hint = f"did you mean --data {word}? " if "--data" in options else ""
        return f"unexpected {short(word)}; {hint}see HELP"
    if found := re.match(r"argument (\S+): expected one argument", text):
        return f"{found[1]} needs a value; HELP says which"
    if found := re.match(r"the following arguments are required: (.*)", text):
        return f"{found[1]} is missing; see HELP"
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        return f"unknown setting {found[1]}.{found[2]}; HELP lists all"
    if found := re.search(r"Option '([\w.]+)' is not accepted", text):
        return f"unknown setting {found[1]}; HELP lists all"
    if found := re.search(r'Parser key "(data|model|train)": Unable to load', text):
        return f"{found[1]} is a group of settings, --{found[1]}.NAME; HELP lists all"
    return re.sub(r'Parser key "(.*?)": ', r"\1: ", text.replace('in "<unicode string>", ', "in "))


def _one_of(choices: list[str], given: str, what: str) -> str:
    try:
        return choose(dict.fromkeys(choices, ""), given, what)
    except UsageError as error:
        return str(error)


def _short_forms(kind: type) -> str:
    if not issubclass(kind, Config):
        return ""
    forms = ", ".join(f"{short} = {full}" for short, full in SHORT.items())
    return (
        f"Short forms: {forms}. A schedule is a number, or text with corners in shares of the steps: '0 -> 1 at 0.2 "
        "over 0.1' is 0 for a fifth of the steps and then rises to 1 over a tenth of them; without 'over' it jumps; "
        "'0.7 -> 0.3' takes all steps; corners may follow each other, '1e-3 -> 2e-3 at 0.2 -> 4e-5 at 0.5 over 0.5'."
    )


def _hide_groups(parser) -> None:
    """Leave out of the help that --data, --model and --train take a YAML file each: as words they are short forms."""
    nested = {action.dest.partition(".")[0] for action in parser._actions if "." in action.dest}
    for action in parser._actions:
        if action.dest in nested:
            action.help = SUPPRESS


def _add_choices(parser) -> None:
    """Append to the help of every option that names a member of a registry what its members are."""
    from vsc.data import DATASETS
    from vsc.metrics import METRICS
    from vsc.settings.presets import PRESETS
    from vsc.sweep.engine import ENGINES
    from vsc.sweep.tune import SCORES

    registries = {
        "data.name": DATASETS,
        "metrics": {"all": None, **METRICS},
        "metric": {**SCORES, **{name: None for name, metric in METRICS.items() if metric.better}},
        "engine": ENGINES,
        "models": PRESETS,
        "name": DATASETS,
    }
    for action in parser._actions:
        if action.dest == "model.name":
            own = [name for name, (_, settings) in PRESETS.items() if len(settings) > 1]
            action.help = f"{action.help} As --model NAME these stand for several settings: {', '.join(own)}."
        if action.dest in registries:
            action.help = f"{(action.help or '').rstrip('.')}. One of: {', '.join(registries[action.dest])}."


def run_folder(config: Any) -> Path:
    """Return the folder of a training run, given or by default runs/DATA-MODEL."""
    return Path(config.out or f"runs/{stem(config.data.name)}-{config.model.name}")


def comparison_folder(config: Any) -> Path:
    """Return the folder of a comparison, given or by default runs/compare-DATA."""
    return Path(config.out or f"runs/compare-{stem(config.data.name)}")


def tuning_folder(config: Any) -> Path:
    """Return the folder of a search, given or by default runs/tune-DATA."""
    return Path(config.out or f"runs/tune-{stem(config.data.name)}")


def stem(name: str) -> str:
    """Return the name of a data set for use in a folder's name."""
    return Path(name).stem if is_path(name) else name
