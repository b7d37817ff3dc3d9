"""Kubernetes manifests: a CronJob for each scheduled sync, and cron expressions as Kubernetes reads them.

They are made from the configuration alone, without a cluster. docs/kubernetes.md says what they require: the ConfigMap
with the configuration, the Secret with its variables, the exit codes.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import yaml
from cronsim import CronSim

from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import SyncConfig, WarehouseConfig
from warehouse_sync.errors import ConfigurationError, Problem
from warehouse_sync.schedule import Schedule

NAME_LENGTH: Final = 52
"""Maximum length of a CronJob's name: its Jobs append 11 characters, and a label may have 63."""

PREFIX: Final = "warehouse-sync"
CONFIGURATION_FOLDER: Final = "/etc/warehouse-sync"
SECRETS_FOLDER: Final = "/run/secrets/warehouse-sync"
DATA_FOLDER: Final = "/data"
USER: Final = 10001
"""User id of the image."""

NOT_RETRIED: Final = (2, 4)
"""Exit codes that a retry cannot change: the operator must edit or grant something, or check the query."""

GRACE: Final = 90
"""Seconds from SIGTERM to SIGKILL; a run that is sending waits for its last answers for a minute at most."""

RETRIES: Final = 2
HOUR, DAY = 3600, 86400

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}([.]{_LABEL})*")
_PLAIN_SYNC = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the CronJobs use in their cluster.

    Attributes:
        image: Image of the container.
        namespace: Namespace of the CronJobs; None leaves it open.
        config_map: ConfigMap with the files of the configuration.
        secret: Secret whose keys become environment variables.
        secret_files: Secret whose keys become files in SECRETS_FOLDER.
        data_claim: Volume claim with the DuckDB files, mounted at DATA_FOLDER.

    Raises:
        ConfigurationError: Kubernetes does not accept one of the names.
    """

    image: str = PREFIX
    namespace: str | None = None
    config_map: str = PREFIX
    secret: str = PREFIX
    secret_files: str | None = None
    data_claim: str | None = None

    def __post_init__(self) -> None:
        names = {
            "--namespace": self.namespace,
            "--config-map": self.config_map,
            "--secret": self.secret,
            "--secret-files": self.secret_files,
            "--data-claim": self.data_claim,
        }
        problems = [
            Problem(f"{option}: {name!r} is not a valid Kubernetes name; use lower-case letters, digits and -")
            for option, name in names.items()
            if name is not None and not (_NAME.fullmatch(name) and ("." not in name or option != "--namespace"))
        ]
        if not self.image.strip() or re.search(r"\s", self.image):
            problems.append(Problem("--image: expected the name of an image, such as registry.example.com/name:1.0"))
        if problems:
            raise ConfigurationError(problems)


def make_cron_jobs(config: Config, names: Sequence[str], cluster: Cluster) -> list[dict[str, Any]]:
    """Return a CronJob for each of the syncs `names`; without names, for each that is enabled and has a schedule.

    A named sync that is disabled becomes a suspended CronJob.

    Raises:
        ConfigurationError: Lists every sync that cannot become a CronJob: it has no schedule, Kubernetes cannot express
            its schedule, or its warehouse is a file without a volume.
    """
    scheduled = [name for name, sync in config.syncs.items() if sync.schedule is not None and sync.enabled]
    selected = list(dict.fromkeys(names)) or scheduled
    if not selected:
        raise ConfigurationError(
            Problem("no enabled sync has a schedule, so there is no CronJob to print", path="syncs.*.schedule")
        )
    job_names = _job_names(config.syncs)
    jobs: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for name in selected:
        try:
            jobs.append(_cron_job(config, config.sync(name), job_names[name], cluster))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    return jobs


def to_yaml(manifests: Sequence[Mapping[str, Any]]) -> str:
    """Return the manifests as one stream of YAML documents."""
    return yaml.dump_all(
        manifests, Dumper=_NoAliasesDumper, sort_keys=False, explicit_start=True, width=120, allow_unicode=True
    )


class _NoAliasesDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _cron_job(config: Config, sync: SyncConfig, name: str, cluster: Cluster) -> dict[str, Any]:
    if sync.schedule is None:
        raise ConfigurationError(
            Problem(
                "the sync has no schedule, so it cannot become a CronJob; give it one",
                path=f"syncs.{sync.name}.schedule",
            )
        )
    schedule = sync.schedule.schedule
    cron, interval = to_kubernetes_cron(schedule, f"syncs.{sync.name}.schedule"), shortest_interval(schedule)
    has_data = _needs_volume(config.warehouse_of(sync), cluster)
    labels = {
        "app.kubernetes.io/name": PREFIX,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "sync",
    }
    namespace = {} if cluster.namespace is None else {"namespace": cluster.namespace}
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "automountServiceAccountToken": False,
        # Otherwise the Services of the namespace add environment variables.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(sync.name, cluster, has_data=has_data)],
        "volumes": _volumes(cluster, has_data=has_data),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, **namespace, "labels": labels, "annotations": {"warehouse-sync/sync": sync.name}},
        "spec": {
            "schedule": cron,
            "timeZone": schedule.timezone,
            **({} if sync.enabled else {"suspend": True}),
            "concurrencyPolicy": "Forbid",
            # A tick that is missed for longer is skipped; the next one does its work.
            "startingDeadlineSeconds": min(interval, HOUR),
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": labels},
                "spec": {
                    "backoffLimit": RETRIES,
                    # At least an hour: otherwise a query that is slower than its interval would never finish.
                    "activeDeadlineSeconds": min(max(interval, HOUR), DAY),
                    "podFailurePolicy": {"rules": _failure_rules()},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            },
        },
    }


def _failure_rules() -> list[dict[str, Any]]:
    """Return the rules; all other ends count against backoffLimit: exit codes 1 and 3, out of memory."""
    codes = {"containerName": "sync", "operator": "In", "values": list(NOT_RETRIED)}
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return [{"action": "FailJob", "onExitCodes": codes}, {"action": "Ignore", "onPodConditions": [disrupted]}]


def _container(sync: str, cluster: Cluster, *, has_data: bool) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"name": "configuration", "mountPath": CONFIGURATION_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
    ]
    if cluster.secret_files:
        mounts.append({"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True})
    if has_data:
        mounts.append({"name": "data", "mountPath": DATA_FOLDER})
    end_of_options = ["--"] if sync.startswith("-") else []
    return {
        "name": "sync",
        "image": cluster.image,
        # Kubernetes expands $(NAME); $$( stands for a literal $(.
        "args": ["run", "--trigger", "schedule", *end_of_options, sync.replace("$(", "$$(")],
        "env": [
            {"name": "WAREHOUSE_SYNC_CONFIG", "value": CONFIGURATION_FOLDER},
            {"name": "WAREHOUSE_SYNC_LOG_FORMAT", "value": "json"},
        ],
        "envFrom": [{"secretRef": {"name": cluster.secret}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": mounts,
    }


def _volumes(cluster: Cluster, *, has_data: bool) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "configuration", "configMap": {"name": cluster.config_map}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]
    if cluster.secret_files:
        # 0440: the pod's group, which is the worker's, may read them.
        volumes.append({"name": "secrets", "secret": {"secretName": cluster.secret_files, "defaultMode": 0o440}})
    if has_data:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": cluster.data_claim}})
    return volumes


def _needs_volume(warehouse: WarehouseConfig, cluster: Cluster) -> bool:
    """Whether the warehouse is a file. Raises ConfigurationError if no volume contains it."""
    url = urlsplit(warehouse.url.get_secret_value())
    if url.netloc or "host=" in url.query:
        return False
    path, file = f"warehouses.{warehouse.name}.url", PurePosixPath(unquote(url.path.removeprefix("/")))
    if cluster.data_claim is None:
        message = f"the warehouse is a file, and a pod keeps no files: give --data-claim, a volume for {DATA_FOLDER}"
        raise ConfigurationError(Problem(message, path=path))
    if not PurePosixPath(DATA_FOLDER, file).is_relative_to(DATA_FOLDER) or ".." in file.parts:
        message = f"the file {file} is outside of {DATA_FOLDER}, where the volume of --data-claim is mounted"
        raise ConfigurationError(Problem(message, path=path))
    return True


def _job_names(syncs: Mapping[str, SyncConfig]) -> dict[str, str]:
    """Return the CronJob's name of each sync: its own if valid and unique, otherwise a valid one with a hash."""
    plain = {name: f"{PREFIX}-{name.replace('_', '-')}" for name in syncs if _PLAIN_SYNC.fullmatch(name)}
    uses = Counter(plain.values())
    return {
        name: plain[name]
        if name in plain and uses[plain[name]] == 1 and len(plain[name]) <= NAME_LENGTH
        else _hashed_name(name)
        for name in syncs
    }


def _hashed_name(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    cleaned = re.sub(r"[^a-z0-9]+", "-", f"{PREFIX}-{name.lower()}")[: NAME_LENGTH - 9].strip("-")
    return f"{cleaned}-{digest}"


_PLAIN_FIELD = re.compile(r"\*(/[0-9]+)?|[0-9]+-[0-9]+/[0-9]+|[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
_SINGLE_VALUE_STEP = re.compile(r"0*([0-9]+)-0*\1/[0-9]+")
"""5-5/10 means 5 in Kubernetes, and 5, 15, 25 … in cronsim."""

_WEEKDAYS = re.compile(r"[0-6](-[0-6])?(,[0-6](-[0-6])?)*|[A-Za-z]{3}(-[A-Za-z]{3})?(,[A-Za-z]{3}(-[A-Za-z]{3})?)*")


def to_kubernetes_cron(schedule: Schedule, path: str) -> str:
    """Return the cron expression that has the same ticks in Kubernetes.

    Day and weekday together differ: here both must match if one of them starts with *, in Kubernetes only if one of
    them is exactly *.

    Args:
        schedule: The schedule of a sync.
        path: Where it is in the configuration, for the error.

    Raises:
        ConfigurationError: Kubernetes cannot express the schedule.
    """
    fields = schedule.cron.split()
    parsed = CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC))
    numbers = (parsed.minutes, parsed.hours, parsed.days, parsed.months)
    result = [
        field if _PLAIN_FIELD.fullmatch(field) and not _SINGLE_VALUE_STEP.fullmatch(field) else _list(values)
        for field, values in zip(fields[:4], numbers, strict=True)
    ]
    weekdays = {int(day) % 7 for day in parsed.weekdays}  # type: ignore[arg-type]
    result.append(fields[4] if fields[4] == "*" or _WEEKDAYS.fullmatch(fields[4]) else _list(weekdays))
    every_day, every_weekday = len(parsed.days) == 31, len(weekdays) == 7
    if parsed.day_and:
        result[2], result[4] = "*" if every_day else result[2], "*" if every_weekday else result[4]
        if result[2] != "*" and result[4] != "*":
            message = f"Kubernetes cannot express {schedule.cron!r}: it cannot require both a day and a weekday"
            raise ConfigurationError(Problem(message, path=path))
    elif every_day or every_weekday:
        result[2] = result[4] = "*"
    return " ".join(result)


def _list(numbers: set[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def shortest_interval(schedule: Schedule) -> int:
    """Return the seconds between the two closest ticks, without clock changes."""
    ticks = CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC))
    first_ticks = [next(ticks, None) for _ in range(100)]
    gaps = [int((later - earlier).total_seconds()) for earlier, later in pairwise(first_ticks) if earlier and later]
    return min(gaps)
