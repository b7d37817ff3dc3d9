"""One server for all test processes of a session: the first user starts it, and it ends after the last one.

A holder process runs the server, so that it outlives the test process that started it. Each user holds a shared lock on
a file. When the holder gets an exclusive lock on that file, the server has no users and the holder ends. The kernel
releases the lock of a killed process, so no server is left over.

    PYTHONPATH=tests python -m harness.servers.shared postgres FOLDER
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from harness.processes.command import harness_environment
from harness.servers.postgres import PostgresUnavailable, Server, postgres_server
from harness.servers.snowflake import SnowflakeServer, snowflake_server

CHECK_INTERVAL = 0.5
"""Seconds between two checks of the holder whether its server still has users."""


@contextmanager
def shared_postgres(folder: Path) -> Iterator[Server]:
    """Yield the PostgreSQL of the session whose files are in `folder`. Raises PostgresUnavailable."""
    with _shared("postgres", folder) as found:
        if "missing" in found:
            raise PostgresUnavailable(found["missing"])
        yield Server(**found)


@contextmanager
def shared_snowflake(folder: Path) -> Iterator[SnowflakeServer]:
    """Yield the local Snowflake of the session whose files are in `folder`."""
    with _shared("snowflake", folder) as found:
        yield SnowflakeServer(**found)


@contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file, which processes share, until the end of the block."""
    with path.open("w") as file:
        fcntl.flock(file, kind)
        yield


@contextmanager
def _shared(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the description of the server of this name. It runs at least until the end of the block."""
    with locked(folder / f"{name}.users", fcntl.LOCK_SH):
        with locked(folder / f"{name}.starting", fcntl.LOCK_EX):
            description = folder / f"{name}.json"
            if not description.exists():
                description.write_text(_start_holder(name, folder))
            found: dict[str, Any] = json.loads(description.read_text())
        yield found


def _start_holder(name: str, folder: Path) -> str:
    holder = subprocess.Popen(
        [sys.executable, "-m", "harness.servers.shared", name, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=harness_environment(),
        start_new_session=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        line = holder.stdout.readline()
    assert line, f"the {name} server for the tests did not start"
    return line


@contextmanager
def _postgres() -> Iterator[dict[str, Any]]:
    try:
        with postgres_server() as server:
            yield {"url": server.url, "origin": server.origin}
    except PostgresUnavailable as reason:
        yield {"missing": str(reason)}


@contextmanager
def _snowflake() -> Iterator[dict[str, Any]]:
    with snowflake_server() as server:
        yield {"port": server.port}


SERVERS: dict[str, Callable[[], AbstractContextManager[dict[str, Any]]]] = {
    "postgres": _postgres,
    "snowflake": _snowflake,
}


def run_until_unused(name: str, folder: Path) -> None:
    """Run the server until it has no users. Write its description as the only line of standard output."""
    with SERVERS[name]() as description:
        sys.stdout.write(json.dumps(description) + "\n")
        sys.stdout.flush()
        while True:
            time.sleep(CHECK_INTERVAL)
            if not folder.exists():
                return
            try:
                with (
                    locked(folder / f"{name}.starting", fcntl.LOCK_EX | fcntl.LOCK_NB),
                    locked(folder / f"{name}.users", fcntl.LOCK_EX | fcntl.LOCK_NB),
                ):
                    (folder / f"{name}.json").unlink(missing_ok=True)
                    return
            except BlockingIOError:
                continue


if __name__ == "__main__":
    run_until_unused(sys.argv[1], Path(sys.argv[2]))
