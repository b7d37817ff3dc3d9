"""The verbs that check, set up and serve a configuration, and the sandbox."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from warehouse_sync.cli.app import Json, Syncs, app, check_names, open_config, print_results
from warehouse_sync.cli.exit_codes import CONFIGURATION, exit_with, run_each
from warehouse_sync.cli.signals import cancel_token

if TYPE_CHECKING:
    from warehouse_sync.config.loader import Config
    from warehouse_sync.reports import Check


@app.command()
def validate(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Check only the configuration itself.")] = False,
    as_json: Json = False,
) -> None:
    """Check the configuration, then connections, queries, accounts and audiences."""
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.reports import Check

    display = context.obj[1]
    checks: Iterable[Check]
    try:
        config, _ = open_config(context)
    except ConfigurationError as error:
        checks = [Check("configuration", False, str(problem)) for problem in error.problems]
    else:
        read = Check("configuration", True, f"syncs in {context.obj[0]}: {len(config.syncs)}")
        checks = chain([read], () if offline else _connected(config))
    done = []
    for check in checks:
        done.append(check)
        if not as_json:
            display.check(check)
    valid = all(check.ok for check in done)
    if as_json:
        display.json({"valid": valid, "checks": [check.as_dict() for check in done]})
    exit_with([] if valid else [CONFIGURATION])


def _connected(config: Config) -> Iterable[Check]:
    from warehouse_sync.admin.validate import validate

    return validate(config)


@app.command()
def migrate(context: typer.Context, as_json: Json = False) -> None:
    """Migrate the state tables of every warehouse to this release (runs do it automatically)."""
    from warehouse_sync.admin.setup import prepare_warehouse
    from warehouse_sync.reports import Preparation

    config, display = open_config(context)

    def failed(name: str, reason: str, _: object) -> Preparation:
        return Preparation(name, error=reason)

    names = list(config.warehouses)
    done, codes = run_each(
        names,
        lambda name: prepare_warehouse(config.warehouses[name]),
        failed,
        log_failures=as_json or not display.live,
        log_key="warehouse",
    )
    print_results(display, done, display.preparations, as_json=as_json)
    exit_with(codes)


@app.command()
def grants(
    context: typer.Context,
    warehouses: Annotated[list[str] | None, typer.Argument(metavar="WAREHOUSE", show_default=False)] = None,
    role: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Role that gets the rights; by default the one in the URL."),
    ] = None,
    create_schema: Annotated[
        bool, typer.Option("--create-schema", help="Let the role create the schema of the worker's tables itself.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the SQL that grants the worker its rights (no WAREHOUSE: all)."""
    from warehouse_sync.admin.setup import list_grants
    from warehouse_sync.reports import Grants

    config, display = open_config(context)

    def list_one(name: str) -> Grants:
        return list_grants(config, name, role=role, may_create_schema=create_schema)

    def failed(name: str, reason: str, _: object) -> Grants:
        return Grants(name, error=reason)

    names = warehouses or list(config.warehouses)
    found, codes = run_each(names, list_one, failed, log_failures=as_json or not display.live, log_key="warehouse")
    print_results(display, found, display.grants, as_json=as_json)
    exit_with(codes)


@app.command()
def serve(
    context: typer.Context,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Number of syncs that run in parallel.")] = 4,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /healthz, /readyz and /metrics; 0 chooses a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of that port.")] = "0.0.0.0",  # noqa: S104
) -> None:
    """Run every sync on its schedule until Ctrl-C or SIGTERM; SIGHUP reloads the configuration."""
    from warehouse_sync.service.serve import serve

    serve(context.obj[0], workers=workers, port=port, host=host, stop=cancel_token(context))


@app.command()
def kubernetes(
    context: typer.Context,
    syncs: Syncs = None,
    image: Annotated[str, typer.Option(metavar="IMAGE", help="Image of the container.")] = "warehouse-sync",
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Namespace of the CronJobs; by default chosen when applied."),
    ] = None,
    config_map: Annotated[
        str, typer.Option(metavar="NAME", help="ConfigMap with the files of the configuration.")
    ] = "warehouse-sync",
    variables: Annotated[
        str, typer.Option("--secret", metavar="NAME", help="Secret whose keys become environment variables.")
    ] = "warehouse-sync",
    secret_files: Annotated[
        str | None, typer.Option(metavar="NAME", help="Secret to mount as files in /run/secrets/warehouse-sync.")
    ] = None,
    data_claim: Annotated[
        str | None, typer.Option(metavar="NAME", help="Volume claim to mount in /data, for DuckDB files.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a CronJob for each scheduled sync, as YAML (no SYNC: all that are enabled)."""
    from warehouse_sync.admin.kubernetes import Cluster, make_cron_jobs, to_yaml

    cluster = Cluster(image, namespace, config_map, variables, secret_files, data_claim)
    config, display = open_config(context)
    jobs = make_cron_jobs(config, check_names(config, syncs or []), cluster)
    display.json(jobs) if as_json else display.text(to_yaml(jobs).rstrip())


@app.command()
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 chooses a free one.")] = 8080,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="FAULT", help="Fault to inject, such as 503:users:times=3; repeatable.")
    ] = None,
    ready_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Seconds that a new audience cannot be written to.")
    ] = 5.0,
) -> None:
    """Run the sandbox, a local LinkedIn API, until Ctrl-C."""
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
