"""`warehouse-sync kubernetes`, and the manifests of configs/kubernetes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_validate.utils import latest_version, validate
from typer.main import get_command
from typer.testing import CliRunner, Result

from warehouse_sync.admin import kubernetes
from warehouse_sync.cli import exit_codes
from warehouse_sync.cli.main import app
from warehouse_sync.config.loader import load_config

FOLDER = Path(__file__).parents[2] / "configs" / "kubernetes"
CONFIGURATION = FOLDER / "configuration"
ENVIRON = dict(
    line.split("=", 1) for line in (CONFIGURATION / "example.env").read_text().splitlines() if not line.startswith("#")
)
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

Manifest = dict[str, Any]


def call(*words: str, path: Path = CONFIGURATION / "sync.yaml", **more: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(path), *words], env={**ENVIRON, **more}, color=False)


def printed(*words: str, **more: Any) -> list[Manifest]:
    result = call("kubernetes", *words, **more)
    assert result.exit_code == 0, result.output
    return [*yaml.safe_load_all(result.stdout)]


def valid(manifest: Manifest) -> Manifest:
    """Return the manifest after checking it against Kubernetes' schema; unknown keys are errors."""
    validate(manifest, latest_version(), strict=True)
    return manifest


def pod_of(manifest: Manifest) -> Manifest:
    """Return the pod of a CronJob or a Deployment."""
    spec = manifest["spec"]["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else manifest["spec"]
    return dict(spec["template"]["spec"])


def configuration(
    folder: Path,
    *,
    url: str = "postgresql+psycopg://h/db",
    syncs: Mapping[str, Manifest] | None = None,
    **more: Manifest,
) -> Path:
    """Write a file with these syncs, which differ from an hourly one in the given keys."""
    ordinary = {
        "warehouse": "analytics",
        "destination": "ads",
        "model": {"table": "people", "primary_key": "id"},
        "audience": {"type": "user", "name": "People"},
        "identifiers": {"sha256_email": "email"},
        "schedule": {"every": "1h"},
    }
    written = {
        "warehouses": {"analytics": {"url": url}},
        "destinations": {"ads": {"type": "linkedin", "account_id": 1, "access_token": "a-token-of-the-test"}},
        "syncs": {
            name: {key: value for key, value in {**ordinary, **changes}.items() if value is not None}
            for name, changes in {**(syncs or {}), **more}.items()
        },
    }
    path = folder / "sync.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


def test_the_checked_in_cron_jobs_are_what_is_printed_for_the_checked_in_configuration() -> None:
    """After an edit of either: `make cronjobs`."""
    result = call("kubernetes")
    assert result.exit_code == 0
    assert (FOLDER / "cronjobs" / "cronjobs.yaml").read_text() == result.stdout


def test_every_scheduled_sync_becomes_a_valid_cron_job_at_its_time() -> None:
    config = load_config(CONFIGURATION / "sync.yaml", environ=ENVIRON)
    jobs = [valid(job) for job in printed()]
    assert [job["metadata"]["annotations"]["warehouse-sync/sync"] for job in jobs] == list(config.syncs)
    assert [(job["spec"]["schedule"], job["spec"]["timeZone"]) for job in jobs] == [
        ("*/30 * * * *", "UTC"),
        ("15 4 * * *", "Europe/Berlin"),
    ]


def test_json_is_one_list_of_the_same() -> None:
    assert json.loads(call("kubernetes", "--json").stdout) == printed()


def test_a_job_runs_its_sync_with_the_trigger_schedule(tmp_path: Path) -> None:
    """The arguments are understood by the command line, also for names that look like something else."""
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    for name in ("people", "-x", "--all", "a b", "$(HOME)"):
        (job,) = printed(path=configuration(tmp_path, syncs={name: {}}))
        (container,) = pod_of(valid(job))["containers"]
        verb, *rest = container["args"]
        context = run.make_context("run", [word.replace("$$(", "$(") for word in rest])
        assert (verb, context.params["syncs"], context.params["trigger"]) == ("run", [name], "schedule")
        assert context.params["all_syncs"] is False
        assert "$(HOME)" not in " ".join(container["args"]).replace("$$(", "")


def test_a_manual_run_has_its_trigger_and_others_are_refused() -> None:
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert run.make_context("run", ["people"]).params["trigger"] == "manual"
    assert call("run", "--trigger", "cron", "newsletter_readers").exit_code == exit_codes.CONFIGURATION


def test_no_two_runs_of_a_job_overlap_and_none_hangs_for_ever(tmp_path: Path) -> None:
    """Forbid, and deadlines that fit the interval, but leave a slow query its hour."""
    path = configuration(
        tmp_path, often={"schedule": {"every": "5m"}}, nightly={"schedule": {"cron": "0 2 * * *"}}, hourly={}
    )
    deadlines = {}
    for job in printed(path=path):
        spec = job["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        deadlines[job["metadata"]["annotations"]["warehouse-sync/sync"]] = (
            spec["startingDeadlineSeconds"],
            spec["jobTemplate"]["spec"]["activeDeadlineSeconds"],
        )
    assert deadlines == {"often": (300, 3600), "hourly": (3600, 3600), "nightly": (3600, 86400)}


def test_what_a_retry_cannot_change_is_not_retried() -> None:
    """Configuration and blocked fail the Job, a drained node does not count, failed and incomplete count."""
    assert {exit_codes.CONFIGURATION, exit_codes.EXIT_CODES["blocked"]} == {*kubernetes.NOT_RETRIED}
    for job in printed():
        spec = job["spec"]["jobTemplate"]["spec"]
        fail, ignore = spec["podFailurePolicy"]["rules"]
        (container,) = spec["template"]["spec"]["containers"]
        assert fail == {
            "action": "FailJob",
            "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2, 4]},
        }
        assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        # Kubernetes takes a failure policy with Never only.
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        assert spec["backoffLimit"] == 2


def hardened(pod: Manifest) -> None:
    """The pod passes the Pod Security Standard `restricted`, and has a read-only root file system."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == kubernetes.USER
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["terminationGracePeriodSeconds"] == 90
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"]["memory"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["configuration"]["readOnly"] is True
        assert mounts["tmp"]["mountPath"] == "/tmp"
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert not {volume_kind for volume in pod["volumes"] for volume_kind in volume if "hostPath" in volume_kind}


def test_a_worker_has_minimal_rights() -> None:
    """CronJobs and Deployments alike."""
    pods = [pod_of(job) for job in printed("--secret-files", "tokens")]
    pods += [pod_of(made) for made in resources(FOLDER / "serve") if made["kind"] == "Deployment"]
    assert len(pods) == 3
    for pod in pods:
        hardened(pod)


def test_the_names_of_the_cluster_can_be_chosen() -> None:
    words = ["--image", "r.example/w:1", "--namespace", "ads", "--config-map", "files.v2", "--secret", "variables"]
    for job in printed(*words, "--secret-files", "tokens"):
        pod = pod_of(valid(job))
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert (job["metadata"]["namespace"], container["image"]) == ("ads", "r.example/w:1")
        assert container["envFrom"] == [{"secretRef": {"name": "variables"}}]
        assert volumes["configuration"]["configMap"] == {"name": "files.v2"}
        assert volumes["secrets"]["secret"]["secretName"] == "tokens"
        assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/run/secrets/warehouse-sync"}
    assert all("namespace" not in job["metadata"] for job in printed())


def test_secret_files_can_be_replaced_without_a_cluster(tmp_path: Path) -> None:
    """As docs/kubernetes.md writes them: a variable names the folder."""
    path = configuration(tmp_path, a={})
    written = path.read_text().replace("a-token-of-the-test", '{file: "${SECRETS:-/run/secrets/none}/token"}')
    path.write_text(written)
    (tmp_path / "token").write_text("a-placeholder")
    assert call("kubernetes", path=path).exit_code == exit_codes.CONFIGURATION
    assert len(printed(path=path, SECRETS=str(tmp_path))) == 1


def test_names_that_kubernetes_would_refuse_are_refused_here_together() -> None:
    result = call("kubernetes", "--namespace", "My.Team", "--secret", "a_b", "--image", "two words")
    assert result.exit_code == exit_codes.CONFIGURATION
    assert [line.split(":")[1].strip() for line in result.output.splitlines()] == ["--namespace", "--secret", "--image"]


NAMES = st.lists(
    st.text(st.sampled_from("abz09_-. AÄß/"), min_size=1, max_size=70).filter(str.strip), min_size=1, unique=True
)


@given(NAMES)
def test_every_cron_job_has_a_unique_valid_name(names: list[str]) -> None:
    """Up to 52 characters, for any names of syncs; a plain name is unchanged."""
    made = kubernetes._job_names(dict.fromkeys(names))  # type: ignore[arg-type]
    assert list(made) == names
    assert len(set(made.values())) == len(names)
    for name, given_name in made.items():
        assert DNS_LABEL.fullmatch(given_name), given_name
        assert len(given_name) <= 52
        if re.fullmatch("[a-z0-9]+", name) and len(name) <= 37:
            assert given_name == f"warehouse-sync-{name}"


def test_a_name_does_not_depend_on_the_other_syncs() -> None:
    """Except for two whose names differ only in - and _."""
    alone = kubernetes._job_names({"high_value": None})  # type: ignore[dict-item]
    among = kubernetes._job_names({"high_value": None, "other": None, "Ähnlich": None})  # type: ignore[dict-item]
    assert alone["high_value"] == among["high_value"] == "warehouse-sync-high-value"
    twins = kubernetes._job_names({"high_value": None, "high-value": None})  # type: ignore[dict-item]
    assert len({*twins.values(), alone["high_value"]}) == 3


def test_only_scheduled_syncs_become_jobs(tmp_path: Path) -> None:
    """Without names: enabled and scheduled. A disabled sync that is named is suspended."""
    path = configuration(tmp_path, a={}, off={"enabled": False}, manual={"schedule": None})
    assert [job["metadata"]["name"] for job in printed(path=path)] == ["warehouse-sync-a"]
    (job,) = printed("off", path=path)
    assert valid(job)["spec"]["suspend"] is True
    assert "suspend" not in printed("a", path=path)[0]["spec"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("manual",), "syncs.manual.schedule: the sync has no schedule"),
        (("a", "manual", "both_days"), "syncs.both_days.schedule: Kubernetes cannot express '0 2 */2 * 1'"),
        (("unknown",), "there is no sync 'unknown'"),
    ],
)
def test_a_sync_that_cannot_become_a_job_is_refused(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """With its YAML path, exit code 2 and nothing on standard output; all of them are listed."""
    both_days = {"schedule": {"cron": "0 2 */2 * 1"}}
    result = call(
        "kubernetes", *words, path=configuration(tmp_path, a={}, manual={"schedule": None}, both_days=both_days)
    )
    assert (result.exit_code, result.stdout) == (exit_codes.CONFIGURATION, "")
    assert message in result.stderr
    assert ("syncs.manual.schedule" in result.stderr) is ("manual" in words)


def test_a_configuration_without_schedules_makes_nothing(tmp_path: Path) -> None:
    result = call("kubernetes", path=configuration(tmp_path, a={"schedule": None}, off={"enabled": False}))
    assert (result.exit_code, result.stdout) == (exit_codes.CONFIGURATION, "")
    assert "no enabled sync has a schedule" in result.stderr


@pytest.mark.parametrize("url", ["duckdb:////data/shop.duckdb", "duckdb:///shop.duckdb"])
def test_a_duckdb_file_is_on_a_volume(url: str, tmp_path: Path) -> None:
    """Without a claim the sync is refused: a pod keeps no files."""
    path = configuration(tmp_path, url=url, a={}, b={})
    refused = call("kubernetes", path=path)
    assert (refused.exit_code, refused.stderr.count("warehouses.analytics.url")) == (exit_codes.CONFIGURATION, 1)
    for job in printed("--data-claim", "shop", path=path):
        pod = pod_of(valid(job))
        hardened(pod)
        claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if volume["name"] == "data"]
        assert claims == [{"claimName": "shop"}]


@pytest.mark.parametrize("url", ["duckdb:////srv/shop.duckdb", "duckdb:////data/../srv/shop.duckdb"])
def test_a_duckdb_file_outside_of_the_volume_is_refused(url: str, tmp_path: Path) -> None:
    result = call("kubernetes", "--data-claim", "shop", path=configuration(tmp_path, url=url, a={}))
    assert result.exit_code == exit_codes.CONFIGURATION
    assert "outside of /data" in result.stderr


def test_a_warehouse_on_a_server_gets_no_volume() -> None:
    assert "data" not in {volume["name"] for job in printed("--data-claim", "x") for volume in pod_of(job)["volumes"]}


def resources(folder: Path) -> Iterator[Manifest]:
    """Yield the resources of a kustomization from their files, without patches and generated ones."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in kustomization.get("resources", ()):
        path = (folder / name).resolve()
        if path.is_dir():
            yield from resources(path)
        else:
            yield from yaml.safe_load_all(path.read_text())


def kustomized(name: str) -> list[Manifest]:
    """Return what `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("NO KUBECTL, kustomizations are not built; their files are validated one by one")
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [*yaml.safe_load_all(done.stdout)]


APPLIED = {
    "cronjobs": ["ConfigMap", "CronJob", "CronJob", "Secret"],
    "serve": ["ConfigMap", "Deployment", "PodDisruptionBudget", "Secret"],
    "serve-duckdb": ["ConfigMap", "Deployment", "PersistentVolumeClaim", "PodDisruptionBudget", "Secret"],
}


def test_all_kustomizations_are_checked() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/kustomization.yaml")} == {
        *APPLIED,
        "configuration",
        "pod-monitor",
    }


@pytest.mark.parametrize("name", APPLIED)
def test_the_files_of_a_kustomization_are_valid(name: str) -> None:
    """As they stand, also where there is no kubectl."""
    made = [valid(resource)["kind"] for resource in resources(FOLDER / name)]
    assert sorted(made) == [kind for kind in APPLIED[name] if kind not in ("ConfigMap", "Secret")]


@pytest.mark.parametrize("name", APPLIED)
def test_a_kustomization_is_valid_and_holds_together(name: str) -> None:
    """Everything is in one namespace; pods use the ConfigMap, the Secret and the claim that it creates."""
    made = [valid(manifest) for manifest in kustomized(name)]
    assert sorted(manifest["kind"] for manifest in made) == APPLIED[name]
    assert {manifest["metadata"]["namespace"] for manifest in made} == {"warehouse-sync"}
    there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in made}
    for manifest in made:
        if manifest["kind"] not in ("CronJob", "Deployment"):
            continue
        pod = pod_of(manifest)
        (container,) = pod["containers"]
        assert re.fullmatch(r"registry\.example\.com/warehouse-sync:\d+\.\d+\.\d+", container["image"])
        assert ("Secret", container["envFrom"][0]["secretRef"]["name"]) in there
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there


def test_a_service_on_a_duckdb_file_never_has_two_pods() -> None:
    (deployment,) = (made for made in kustomized("serve-duckdb") if made["kind"] == "Deployment")
    hardened(pod_of(deployment))
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    (shared,) = (made for made in kustomized("serve") if made["kind"] == "Deployment")
    assert (shared["spec"]["replicas"], shared["spec"]["strategy"]["type"]) == (2, "RollingUpdate")


def test_the_service_is_monitored_on_its_port() -> None:
    """Probes, annotations, budget and PodMonitor select the Deployment's pods and their port."""
    deployment = yaml.safe_load((FOLDER / "serve" / "deployment.yaml").read_text())
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (port,) = container["ports"]
    serve = get_command(app).commands[container["args"][0]]  # type: ignore[attr-defined]
    assert serve.make_context("serve", container["args"][1:]).command.name == "serve"
    assert [option.default for option in serve.params if "--port" in option.opts] in ([], [port["containerPort"]])
    annotations = template["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == port["containerPort"]
    paths = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {name: probe["path"] for name, probe in paths.items()} == {
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
        "startupProbe": "/healthz",
    }
    assert {probe["port"] for probe in paths.values()} == {port["name"]}
    monitor = yaml.safe_load((FOLDER / "pod-monitor" / "pod-monitor.yaml").read_text())
    budget = yaml.safe_load((FOLDER / "serve" / "disruption-budget.yaml").read_text())
    for selector in (deployment["spec"]["selector"], monitor["spec"]["selector"], budget["spec"]["selector"]):
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], annotations["prometheus.io/path"])


def test_the_configuration_works_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    """A ConfigMap is a folder of links into a hidden one; its variables are those of the example's Secret."""
    kustomization = yaml.safe_load((CONFIGURATION / "kustomization.yaml").read_text())
    (files,) = (generator["files"] for generator in kustomization["configMapGenerator"])
    hidden = tmp_path / "..2026_11_22_10_00_00.1"
    hidden.mkdir()
    (tmp_path / "..data").symlink_to(hidden.name)
    for name in files:
        shutil.copy(CONFIGURATION / name, hidden / name)
        (tmp_path / name).symlink_to(Path("..data") / name)
    assert set(load_config(tmp_path, environ=ENVIRON).syncs) == {"newsletter_readers", "customers_by_night"}
    asked = set(re.findall(r"\$\{(\w+)\}", (CONFIGURATION / "sync.yaml").read_text()))
    assert asked == set(ENVIRON)


def test_the_example_secret_contains_no_secret() -> None:
    """Its secret values are obvious placeholders."""
    public = {"LINKEDIN_ACCOUNT_ID": "507404993"}
    for name, value in ENVIRON.items():
        assert "REPLACE-ME" in value or public[name] == value
