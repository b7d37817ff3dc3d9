"""The verbs that check, prepare and serve what a configuration describes, and the sandbox."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from warehouse_sync.cli.app import Json, Syncs, app, named, opened, show
from warehouse_sync.cli.exit_codes import CONFIGURATION, each, end
from warehouse_sync.cli.signals import stop_of

if TYPE_CHECKING:
    from warehouse_sync.config.loader import Config
    from warehouse_sync.reports import Check


@app.command()
def validate(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Only the configuration itself.")] = False,
    as_json: Json = False,
) -> None:
    """Check the configuration, then connections, queries, accounts and audiences."""
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.reports import Check

    display = context.obj[1]
    checks: Iterable[Check]
    try:
        config, _ = opened(context)
    except ConfigurationError as error:
        checks = [Check("configuration", False, str(problem)) for problem in error.problems]
    else:
        read = Check("configuration", True, f"syncs in {context.obj[0]}: {len(config.syncs)}")
        checks = chain([read], () if offline else _connected(config))
    made = []
    for check in checks:
        made.append(check)
        if not as_json:
            display.check(check)
    valid = all(check.ok for check in made)
    if as_json:
        display.json({"valid": valid, "checks": [check.as_dict() for check in made]})
    end([] if valid else [CONFIGURATION])


def _connected(config: Config) -> Iterable[Check]:
    from warehouse_sync.admin.validate import validate

    return validate(config)


@app.command()
def migrate(context: typer.Context, as_json: Json = False) -> None:
    """Bring the state tables of every warehouse to this release (a run does it by itself)."""
    from warehouse_sync.admin.setup import prepare
    from warehouse_sync.reports import Preparation

    config, display = opened(context)

    def failed(name: str, reason: str, _: object) -> Preparation:
        return Preparation(name, error=reason)

    names = list(config.warehouses)
    done, codes = each(
        names,
        lambda name: prepare(config.warehouses[name]),
        failed,
        told=not as_json and display.live,
        what="warehouse",
    )
    show(display, done, display.preparations, as_json=as_json)
    end(codes)


@app.command()
def grants(
    context: typer.Context,
    warehouses: Annotated[list[str] | None, typer.Argument(metavar="WAREHOUSE", show_default=False)] = None,
    role: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Who gets them; by default who the URL names.")
    ] = None,
    create_schema: Annotated[
        bool, typer.Option("--create-schema", help="The role makes the schema of the worker's tables itself.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the SQL that gives the worker its rights (no WAREHOUSE: all)."""
    from warehouse_sync.admin.setup import grants
    from warehouse_sync.reports import Grants

    config, display = opened(context)

    def one(name: str) -> Grants:
        return grants(config, name, role=role, may_create_schema=create_schema)

    def failed(name: str, reason: str, _: object) -> Grants:
        return Grants(name, error=reason)

    found, codes = each(
        warehouses or list(config.warehouses), one, failed, told=not as_json and display.live, what="warehouse"
    )
    show(display, found, display.grants, as_json=as_json)
    end(codes)


@app.command()
def serve(
    context: typer.Context,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="How many syncs run at once.")] = 4,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of /healthz, /readyz and /metrics; 0 takes a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where that port is open.")] = "0.0.0.0",  # noqa: S104
) -> None:
    """Run every sync on its schedule until Ctrl-C or SIGTERM; SIGHUP reads the configuration again."""
    from warehouse_sync.service.serve import serve

    serve(context.obj[0], workers=workers, port=port, host=host, stop=stop_of(context))


@app.command()
def kubernetes(
    context: typer.Context,
    syncs: Syncs = None,
    image: Annotated[str, typer.Option(metavar="IMAGE", help="Of the container.")] = "warehouse-sync",
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the CronJobs; left out, it is said when they are applied.")
    ] = None,
    config_map: Annotated[
        str, typer.Option(metavar="NAME", help="The ConfigMap with the files of the configuration.")
    ] = "warehouse-sync",
    variables: Annotated[
        str, typer.Option("--secret", metavar="NAME", help="The Secret whose keys become environment variables.")
    ] = "warehouse-sync",
    secret_files: Annotated[
        str | None, typer.Option(metavar="NAME", help="A Secret to mount as files in /run/secrets/warehouse-sync.")
    ] = None,
    data_claim: Annotated[
        str | None, typer.Option(metavar="NAME", help="The volume claim to mount in /data, for DuckDB files.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a CronJob for each scheduled sync, as YAML (no SYNC: all that are enabled)."""
    from warehouse_sync.admin.kubernetes import Cluster, as_yaml, cron_jobs

    cluster = Cluster(image, namespace, config_map, variables, secret_files, data_claim)
    config, display = opened(context)
    jobs = cron_jobs(config, named(config, syncs or []), cluster)
    display.json(jobs) if as_json else display.text(as_yaml(jobs).rstrip())


@app.command()
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On this machine only; 0 takes a free one.")] = 8080,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="FAULT", help="What goes wrong, as in 503:users:times=3; repeatable.")
    ] = None,
    ready_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long a new audience cannot be written to.")
    ] = 5.0,
) -> None:
    """Run a LinkedIn of your own until Ctrl-C."""
    from warehouse_sync.cli import formatting
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.sandbox import Fault, Sandbox, SandboxSettings

    faults = tuple(Fault.parse(text) for text in fault or ())
    settings = SandboxSettings(port=port, faults=faults, ready_after=ready_after)
    server = Sandbox(settings)
    try:
        server.start()
    except OSError as error:
        raise ConfigurationError(f"cannot listen on port {port}: {error.strerror}; choose another --port") from None
    context.obj[1].text(formatting.sandbox(server.url, settings))
    server.serve_forever()
