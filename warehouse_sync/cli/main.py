"""The command line: verbs to function calls; exits.py turns what they raise into exit codes.

Results go to standard output, everything else to standard error. What is slow to import is imported where it is used:
`--help` must not wait for drivers.
"""

from __future__ import annotations

from warehouse_sync.cli import sync_commands, system_commands
from warehouse_sync.cli.app import app
from warehouse_sync.cli.signals import STOPPED, own_process

__all__ = ["app", "main", "sync_commands", "system_commands"]


def main() -> None:
    """The entry point of `warehouse-sync`."""
    own_process()
    try:
        app(prog_name="warehouse-sync")
    except KeyboardInterrupt:  # Before any verb is known.
        raise SystemExit(STOPPED) from None
