"""A local Snowflake in a process of its own, for the real driver and the real dialect.

docs/snowflake.md says what it can test and what it cannot.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from harness.processes.command import harness_environment


@dataclass(frozen=True, slots=True)
class SnowflakeServer:
    """A running local server.

    Attributes:
        port: Its port on 127.0.0.1.
    """

    port: int

    def url(self, database: str, **query: str) -> str:
        """Return the URL that a user would write for this database."""
        parameters = {"host": "127.0.0.1", "port": str(self.port), "protocol": "http", "warehouse": "wh", **query}
        return f"snowflake://worker:secret-of-snowflake@local/{database}/public?" + "&".join(
            f"{name}={value}" for name, value in parameters.items()
        )

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Yield the URL of a new database of this name; it is dropped at the end of the block."""
        yield self.url(name)
        self._ask("forget", name)

    def logins(self, url: str) -> list[dict[str, Any]]:
        """Return what clients sent to log in to the database of this URL, in order."""
        return list(self._ask("logins", _database(url)))

    def statements(self, url: str) -> list[dict[str, Any]]:
        """Return the statements (`sql`, `tag`) that the database of this URL was sent, in order."""
        return list(self._ask("statements", _database(url)))

    def _ask(self, what: str, database: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/harness/{what}?database={database}", timeout=300) as answer:
            return json.load(answer)


def _database(url: str) -> str:
    return urlsplit(url).path.split("/")[1]


@contextmanager
def snowflake_server() -> Iterator[SnowflakeServer]:
    """Yield a local server on a free port that runs until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.servers.snowflake_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=harness_environment(),
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("port "), "the local Snowflake did not start"
        yield SnowflakeServer(int(line.split()[1]))
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
