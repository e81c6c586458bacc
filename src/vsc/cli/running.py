"""The command line: one command is found, given its options and run, and what goes wrong is told in one line."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from vsc.cli.commands import COMMANDS, takes, train
from vsc.cli.options import parse
from vsc.errors import RunError, UsageError


def main(arguments: Sequence[str] | None = None, ready: Callable[[], Any] = lambda: None) -> int:
    """
    Run one command: the words after `vsc`, by default the process's own.

    `ready` is called when a command, with all that it needs imported, begins with work that Ctrl-C may not end without
    tidying up; `train` sees to that itself. Returns 0 for success, 1 for a failure, 2 for wrong use, 130 or 143 where a
    signal stopped a run.
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
    config = parse(words[0], takes(command), words[1:])
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


def _overview() -> str:
    lines = ["usage: vsc COMMAND [options]", "", "Sparse, interpretable codes from a deep generative model.", ""]
    lines += [f"  {name:10} {(takes(command).__doc__ or '').strip()}" for name, command in COMMANDS.items()]
    lines += ["", "vsc COMMAND --help shows a command's options; vsc --version the version.", "Start with: vsc demo"]
    return "\n".join(lines)
