"""The CronJobs that run the scheduled syncs of a configuration; made from it alone, no cluster is asked.

What they count on is said in docs/kubernetes.md: the ConfigMap with the configuration, the Secret with its variables,
the exit codes.
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
"""A CronJob's name may have 52 characters: its Jobs get 11 more, up to the 63 of a label."""

PREFIX: Final = "warehouse-sync"
CONFIGURATION_FOLDER: Final = "/etc/warehouse-sync"
SECRETS_FOLDER: Final = "/run/secrets/warehouse-sync"
DATA_FOLDER: Final = "/data"
USER: Final = 10001
"""The user of the image."""

NOT_RETRIED: Final = (2, 4)
"""Exit codes that a retry cannot change: somebody must edit or grant something, or look at the query."""

GRACE: Final = 90
"""Seconds from SIGTERM to SIGKILL; a run that is sending awaits its last answers for a minute at most."""

RETRIES: Final = 2
HOUR, DAY = 3600, 86400

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}([.]{_LABEL})*")
_PLAIN_SYNC = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the CronJobs find in their cluster.

    image: of the container. namespace: of everything, None leaves it open. config_map: holds the files of the
    configuration. secret: its keys are the environment variables. secret_files: a Secret whose keys become files under
    SECRETS_FOLDER. data_claim: the volume claim with the DuckDB files, under DATA_FOLDER. Raises ConfigurationError for
    a name that Kubernetes would not take.
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
            Problem(f"{option}: {name!r} is no name to Kubernetes; small letters, digits and - make one")
            for option, name in names.items()
            if name is not None and not (_NAME.fullmatch(name) and ("." not in name or option != "--namespace"))
        ]
        if not self.image.strip() or re.search(r"\s", self.image):
            problems.append(Problem("--image: the name of an image is expected, such as registry.example.com/name:1.0"))
        if problems:
            raise ConfigurationError(problems)


def make_cron_jobs(config: Config, names: Sequence[str], cluster: Cluster) -> list[dict[str, Any]]:
    """A CronJob for each of the syncs `names`; without names, for each that is enabled and has a schedule.

    A named sync that is disabled becomes a suspended one. Raises ConfigurationError that tells of every sync that
    cannot be one: it has no schedule, Kubernetes reads its schedule otherwise, its warehouse is a file without volume.
    """
    scheduled = [name for name, sync in config.syncs.items() if sync.schedule is not None and sync.enabled]
    wanted = list(dict.fromkeys(names)) or scheduled
    if not wanted:
        raise ConfigurationError(
            Problem("no enabled sync has a schedule, so there is no CronJob to print", path="syncs.*.schedule")
        )
    known = _names(config.syncs)
    made: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for name in wanted:
        try:
            made.append(_cron_job(config, config.sync(name), known[name], cluster))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    return made


def to_yaml(manifests: Sequence[Mapping[str, Any]]) -> str:
    """The manifests as one stream of YAML documents."""
    return yaml.dump_all(manifests, Dumper=_Plain, sort_keys=False, explicit_start=True, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _cron_job(config: Config, sync: SyncConfig, name: str, cluster: Cluster) -> dict[str, Any]:
    if sync.schedule is None:
        raise ConfigurationError(
            Problem("the sync has no schedule, so it makes no CronJob; give it one", path=f"syncs.{sync.name}.schedule")
        )
    schedule = sync.schedule.schedule
    cron, interval = to_kubernetes_cron(schedule, f"syncs.{sync.name}.schedule"), shortest_interval(schedule)
    has_data = _needs_volume(config.warehouse_of(sync), cluster)
    labels = {
        "app.kubernetes.io/name": PREFIX,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "sync",
    }
    place = {} if cluster.namespace is None else {"namespace": cluster.namespace}
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "automountServiceAccountToken": False,
        # A Service in the namespace would otherwise put variables of its name into the worker's environment.
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
        "metadata": {"name": name, **place, "labels": labels, "annotations": {"warehouse-sync/sync": sync.name}},
        "spec": {
            "schedule": cron,
            "timeZone": schedule.timezone,
            **({} if sync.enabled else {"suspend": True}),
            "concurrencyPolicy": "Forbid",
            # Behind it a tick is missed, and the next one does its work.
            "startingDeadlineSeconds": min(interval, HOUR),
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": labels},
                "spec": {
                    "backoffLimit": RETRIES,
                    # Never below an hour: a query slower than its interval would be cut off each time.
                    "activeDeadlineSeconds": min(max(interval, HOUR), DAY),
                    "podFailurePolicy": {"rules": _failure_rules()},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            },
        },
    }


def _failure_rules() -> list[dict[str, Any]]:
    """What is not among them counts against backoffLimit: 1 failed, 3 incomplete, killed for its memory."""
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
        # Kubernetes would fill in $(NAME); $$( is a plain $( to it.
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
    """Whether the warehouse is a file. Raises ConfigurationError when no volume would hold it."""
    url = urlsplit(warehouse.url.get_secret_value())
    if url.netloc or "host=" in url.query:
        return False
    path, file = f"warehouses.{warehouse.name}.url", PurePosixPath(unquote(url.path.removeprefix("/")))
    if cluster.data_claim is None:
        message = f"the warehouse is a file, and nothing of a pod stays: give --data-claim, a volume for {DATA_FOLDER}"
        raise ConfigurationError(Problem(message, path=path))
    if not PurePosixPath(DATA_FOLDER, file).is_relative_to(DATA_FOLDER) or ".." in file.parts:
        message = f"the file {file} lies outside of {DATA_FOLDER}, where the volume of --data-claim is"
        raise ConfigurationError(Problem(message, path=path))
    return True


def _names(syncs: Mapping[str, SyncConfig]) -> dict[str, str]:
    """A name of a CronJob for each sync: its own where that is plain, otherwise cleaned and told apart."""
    plain = {name: f"{PREFIX}-{name.replace('_', '-')}" for name in syncs if _PLAIN_SYNC.fullmatch(name)}
    taken = Counter(plain.values())
    return {
        name: plain[name]
        if name in plain and taken[plain[name]] == 1 and len(plain[name]) <= NAME_LENGTH
        else _cleaned(name)
        for name in syncs
    }


def _cleaned(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    cleaned = re.sub(r"[^a-z0-9]+", "-", f"{PREFIX}-{name.lower()}")[: NAME_LENGTH - 9].strip("-")
    return f"{cleaned}-{digest}"


_PLAIN_FIELD = re.compile(r"\*(/[0-9]+)?|[0-9]+-[0-9]+/[0-9]+|[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
_STEP_IN_ONE = re.compile(r"0*([0-9]+)-0*\1/[0-9]+")
"""5-5/10 is 5 to Kubernetes, and 5, 15, 25 … to cronsim."""

_WEEKDAYS = re.compile(r"[0-6](-[0-6])?(,[0-6](-[0-6])?)*|[A-Za-z]{3}(-[A-Za-z]{3})?(,[A-Za-z]{3}(-[A-Za-z]{3})?)*")


def to_kubernetes_cron(schedule: Schedule, path: str) -> str:
    """The expression as Kubernetes has to be told it. Raises ConfigurationError where it cannot be told, at `path`.

    The two differ in what a weekday and a day together mean: here they are joined by AND as soon as one of them begins
    with *, in Kubernetes only when one of them is * alone.
    """
    fields = schedule.cron.split()
    meaning = CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC))
    numbers = (meaning.minutes, meaning.hours, meaning.days, meaning.months)
    told = [
        field if _PLAIN_FIELD.fullmatch(field) and not _STEP_IN_ONE.fullmatch(field) else _list(meant)
        for field, meant in zip(fields[:4], numbers, strict=True)
    ]
    weekdays = {int(day) % 7 for day in meaning.weekdays}  # type: ignore[arg-type]
    told.append(fields[4] if fields[4] == "*" or _WEEKDAYS.fullmatch(fields[4]) else _list(weekdays))
    every_day, every_weekday = len(meaning.days) == 31, len(weekdays) == 7
    if meaning.day_and:
        told[2], told[4] = "*" if every_day else told[2], "*" if every_weekday else told[4]
        if told[2] != "*" and told[4] != "*":
            message = f"Kubernetes reads {schedule.cron!r} otherwise: days that must be both cannot be told to it"
            raise ConfigurationError(Problem(message, path=path))
    elif every_day or every_weekday:
        told[2] = told[4] = "*"
    return " ".join(told)


def _list(numbers: set[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def shortest_interval(schedule: Schedule) -> int:
    """Seconds between the two ticks that are nearest to each other, leaving clock changes aside."""
    ticks = CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC))
    some = [next(ticks, None) for _ in range(100)]
    gaps = [int((later - earlier).total_seconds()) for earlier, later in pairwise(some) if earlier and later]
    return min(gaps)
