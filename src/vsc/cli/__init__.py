"""The command line: `vsc COMMAND`."""

from vsc.cli.commands import main as main
