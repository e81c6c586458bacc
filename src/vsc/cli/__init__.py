"""The command line: `vsc COMMAND`."""

import codecs
import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType

PLAIN = {"–": "-", "±": "+-", "×": "x", "·": ".", "→": "->", "≤": "<=", "≥": ">=", "…": "...", "“": '"', "”": '"'}
"""What stands for a character that a terminal does not have; a question mark for all others."""


def main() -> int:
    """Run what was typed, as a process of its own, and return its exit code; Ctrl-C stops it with one line."""
    try:
        signal.signal(signal.SIGINT, _leave)
        codecs.register_error("vsc", _plain)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="vsc")
        from vsc.cli import running

        return running.main(ready=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    except KeyboardInterrupt:  # the second one, while the first was being told of
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to stop but the interpreter's own end


def _leave(signum: int, frame: FrameType | None) -> None:
    """End at once: inside an import, an exception would not come out as what it is, or not come out at all."""
    os.write(2, b"vsc: stopped\n")
    os._exit(128 + signum)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
