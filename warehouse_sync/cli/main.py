"""The command line: verbs call functions; exit_codes.py turns their errors into exit codes.

Results go to standard output, everything else to standard error. Modules that are slow to import are imported where
they are used, so that `--help` does not wait for drivers.
"""

from __future__ import annotations

from warehouse_sync.cli import sync_commands, system_commands
from warehouse_sync.cli.app import app
from warehouse_sync.cli.signals import SIGINT_EXIT_CODE, ignore_signals_after_verb

__all__ = ["app", "main", "sync_commands", "system_commands"]


def main() -> None:
    """Run the program `warehouse-sync`."""
    ignore_signals_after_verb()
    try:
        app(prog_name="warehouse-sync")
    except KeyboardInterrupt:  # Before any verb is known.
        raise SystemExit(SIGINT_EXIT_CODE) from None
