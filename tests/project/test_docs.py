"""The documentation matches the project: configurations load, links resolve, and commands and messages exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from typer.main import get_command

import warehouse_sync
from warehouse_sync.config.loader import load_config
from warehouse_sync.destinations.linkedin.config import LinkedInConfig
from warehouse_sync.events import Action, DelayCause, Phase
from warehouse_sync.monitoring.metric_definitions import (
    METRICS,
    OPEN_PHASE,
    OPERATION_REASONS,
    ROW_REASONS,
    VALUE_REASONS,
)
from warehouse_sync.operations import RunStatus
from warehouse_sync.reports import PlanReport, RunReport
from warehouse_sync.sandbox import Fault, SandboxSettings
from warehouse_sync.sandbox.faults import KINDS, OPERATIONS
from warehouse_sync.state.tables import VERSION_TABLE, StateTables

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ENVIRONMENT = {"LINKEDIN_CLIENT_ID": "app", "LINKEDIN_CLIENT_SECRET": "shh-secret", "LINKEDIN_REFRESH_TOKEN": "a-token"}
SECTIONS = {"warehouses", "destinations", "syncs"}
INLINE = re.compile(r"`([^`\n]+)`")


def fences(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of each fenced block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the texts of the fenced blocks of a page in these languages."""
    return [text for language, text in fences(page) if language in languages]


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def section(page: str, title: str) -> str:
    """Return the text under a heading of a page, up to the next heading of any level."""
    (found,) = re.findall(
        rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return str(found)


def cells(text: str, column: int = 0) -> list[str]:
    """Return the texts in backticks in one column of the tables of a text, without the table heads."""
    rows = [line.replace(r"\|", "¦").strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [name for row in rows for name in INLINE.findall(row[column])]


def paragraphs(text: str) -> list[str]:
    return re.split(r"\n\s*\n", text)


def test_pages_are_found() -> None:
    """The pages that the tests below read are found."""
    assert {"README.md", "state.md", "operations.md", "promise.md", "sandbox.md"} <= {page.name for page in PAGES}


CONFIGURATIONS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "yaml"))
    if set(yaml.safe_load(text)) >= SECTIONS
]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_whole_configuration_of_the_documentation_loads(text: str, tmp_path: Path) -> None:
    """Every YAML example with all three sections loads as a configuration without changes."""
    (tmp_path / "linkedin-refresh-token").write_text("a-token\n")
    (tmp_path / "slack-webhook").write_text("https://hooks.slack.com/services/T0/B0/a-token\n")
    path = tmp_path / "sync.yaml"
    path.write_text(text.replace("/run/secrets", str(tmp_path)))
    assert load_config(path, environ=ENVIRONMENT).syncs


def test_the_first_page_shows_a_configuration() -> None:
    """The YAML example of the README is one of the configurations that are loaded."""
    assert any(str(parameter.id).startswith("README") for parameter in CONFIGURATIONS)


def test_the_sandbox_destination_loads_in_the_readme_configuration(tmp_path: Path) -> None:
    """The destination in docs/sandbox.md loads within the configuration of the README."""
    (whole,) = (yaml.safe_load(text) for text in blocks(ROOT / "README.md", "yaml"))
    (part,) = (yaml.safe_load(text) for text in blocks(ROOT / "docs" / "sandbox.md", "yaml"))
    path = tmp_path / "sync.yaml"
    path.write_text(yaml.safe_dump({**whole, **part}))
    assert cast(LinkedInConfig, load_config(path, environ={}).destinations["ads"]).account_id == 507404993


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """Every relative link names an existing file and, with an anchor, an existing heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_the_readme_links_every_page() -> None:
    """The README links to each page of docs/."""
    linked = set(re.findall(r"\]\(([^)\s#]+)", (ROOT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked


def command() -> Any:
    from warehouse_sync.cli.main import app

    return get_command(app)


def documented_commands() -> list[tuple[str, list[str]]]:
    """Return the place and the words of each command in the pages: after `warehouse-sync`, or a verb with flags."""
    verbs = set(command().commands)
    found = []
    for page in PAGES:
        lines = [line for block in blocks(page, "sh", "") for line in block.splitlines()]
        for text in [*lines, *INLINE.findall(without_blocks(page))]:
            if text.startswith(("kubectl ", "docker build ")):  # Here it is the name of a resource or an image.
                continue
            typed = re.search(r"^(?:.*[/=\s])?warehouse-sync +([^#>&…]+)", text)
            if typed:
                found.append((f"{page.name}: {text}", shlex.split(typed[1])))
            elif text.partition(" ")[0] in verbs and " --" in text:
                found.append((f"{page.name}: {text}", shlex.split(text)))
    return found


def test_commands_and_flags_exist() -> None:
    """Every verb and flag that the pages name exists, and every verb is named."""
    top = command()
    documented = documented_commands()
    assert {words[0] for _, words in documented if words[0] in top.commands} == set(top.commands)
    own = {flag: parameter for parameter in top.params for flag in parameter.opts}
    unknown = []
    for place, words in documented:
        while words and words[0] in own:
            words = words[1 if own[words[0]].is_flag else 2 :]
        verb = top.commands.get(words[0]) if words else None
        flags = {flag for parameter in verb.params for flag in parameter.opts} if verb else set()
        if words and (verb is None or {word for word in words[1:] if word.startswith("--")} - flags):
            unknown.append(place)
    assert unknown == []


def test_every_flag_is_documented() -> None:
    """Every option of every verb is in the pages."""
    text = "\n".join(page.read_text() for page in PAGES)
    flags = {flag for verb in command().commands.values() for parameter in verb.params for flag in parameter.opts}
    assert [flag for flag in sorted(flags) if flag.startswith("--") and flag not in text] == []


EXAMPLES = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    if page.name != "orchestrators.md"  # Its libraries are not installed; test_orchestrators.py checks it.
    for number, text in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_python_examples_use_existing_names(text: str) -> None:
    """Every Python example is valid, and its imports and keyword arguments exist."""
    tree = ast.parse(text)
    imported: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            imported |= {alias.name: getattr(module, alias.name) for alias in node.names}
    assert imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported:
            given = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(imported[node.func.id]).bind(*node.args, **given)


def test_the_library_page_documents_every_function() -> None:
    """docs/library.md lists the functions of the package, with existing parameters."""
    documented = {
        text.partition("(")[0]: text for text in cells((ROOT / "docs" / "library.md").read_text()) if "(" in text
    }
    assert set(documented) == {name for name in warehouse_sync.__all__ if name.islower()}
    for name, text in documented.items():
        parameters = inspect.signature(getattr(warehouse_sync, name)).parameters
        assert set(re.findall(r"(\w+)(?=[,)=])(?!=\))", text)) - {"False", "True"} <= set(parameters)


def test_the_library_page_documents_every_field_of_a_report() -> None:
    """The tables of docs/library.md list the fields of RunReport and of PlanReport."""
    run, plan = cells(section("docs/library.md", "RunReport")), cells(section("docs/library.md", "PlanReport"))
    assert run == [field.name for field in fields(RunReport)]
    assert {*run, *plan} - {"delivered"} == {field.name for field in fields(PlanReport)}
    assert set(run).isdisjoint(plan)


TABLES = StateTables("warehouse_sync")


@pytest.mark.parametrize("table", TABLES.metadata.sorted_tables, ids=lambda table: str(table.name))
def test_the_state_page_documents_every_column(table: Any) -> None:
    """docs/state.md lists exactly the columns of each static table."""
    assert set(cells(section("docs/state.md", table.name))) == set(table.columns.keys())


def test_the_state_page_documents_the_tables_of_a_run() -> None:
    """docs/state.md lists the columns of snapshot and changes, with two fields as examples."""
    some = ("sha256_email", "first_name")
    assert set(cells(section("docs/state.md", "snapshot"))) == set(TABLES.snapshot("x", some).c.keys())
    assert set(cells(section("docs/state.md", "changes"))) == set(TABLES.changes("x", some).c.keys())
    assert section("docs/state.md", VERSION_TABLE)


def test_the_sandbox_page_documents_every_fault_and_setting() -> None:
    """docs/sandbox.md lists the kinds, operations and options of faults, and all settings of the sandbox."""
    text = section("docs/sandbox.md", "Faults")
    kinds, options = (part for part in paragraphs(text) if part.startswith("| "))
    assert set(cells(kinds)) == set(KINDS)
    assert {"on", *cells(options)} == {field.name for field in fields(Fault)} - {"kind"}
    (on,) = (part for part in paragraphs(text) if part.startswith("`on` is"))
    assert set(INLINE.findall(on)) == {"on", *OPERATIONS}
    assert set(cells(section("docs/sandbox.md", "Settings"), 1)) == {field.name for field in fields(SandboxSettings)}


def test_the_faults_of_the_sandbox_page_can_be_parsed() -> None:
    """Every example of a fault in docs/sandbox.md can be parsed."""
    examples = re.findall(r"`([a-z0-9_]+:(?:users|create|any)[^`]*)`", section("docs/sandbox.md", "Faults"))
    assert len(examples) == 4
    for text in examples:
        assert Fault.parse(text).kind in KINDS


def test_the_messages_of_the_operations_page_exist() -> None:
    """Every message that docs/operations.md quotes is in the source."""
    source = "\n".join(path.read_text() for path in (ROOT / "warehouse_sync").rglob("*.py"))
    quoted = cells(section("docs/operations.md", "Messages and what to do"))
    assert len(quoted) > 20
    assert [text for text in quoted if text.rstrip(" …") not in source] == []


def rows_in_backticks(title: str) -> list[list[str]]:
    """Return the rows of the table under a heading whose first cell is a name."""
    rows = [line.strip("| ").split(" | ") for line in section("docs/observability.md", title).splitlines()]
    return [row for row in rows if row[0].startswith("`")]


def test_the_observability_page_documents_every_metric() -> None:
    """docs/observability.md lists name, type, labels and meaning of each metric, in the order of METRICS."""
    rows = [line.strip("| ").split(" | ") for line in section("docs/observability.md", "Metrics").splitlines()]
    documented = [
        (*INLINE.findall(row[0]), row[1], tuple(INLINE.findall(row[2])), row[3]) for row in rows if row[0][:1] == "`"
    ]
    assert documented == [(metric.name, metric.kind, metric.labels, metric.help) for metric in METRICS]


def test_the_observability_page_documents_the_values_of_labels() -> None:
    """docs/observability.md lists all values of each closed set, and existing reasons as examples."""
    rows = [
        line.strip("| ").split(" | ") for line in section("docs/observability.md", "Values of the labels").splitlines()
    ]
    documented = {
        label: set(INLINE.findall(row[1])) for row in rows if row[0][:1] == "`" for label in INLINE.findall(row[0])
    }
    assert set(documented) == {label for metric in METRICS for label in metric.labels} - {"version"}
    assert documented["phase"] == {OPEN_PHASE, *Phase}
    assert documented["action"] == set(Action)
    assert documented["cause"] == set(DelayCause)
    assert documented["kind"] == {"run", "retry"}
    assert documented["status"] == set(RunStatus) - {"running"}
    assert documented["reason"] - {"http_503"} <= VALUE_REASONS | OPERATION_REASONS | set(ROW_REASONS)


def test_pages_and_rules_name_existing_metrics() -> None:
    """Every metric in a page exists, and each alert rule uses one."""
    names = {metric.name for metric in METRICS}
    for page in PAGES:
        documented = re.findall(
            r"\bwarehouse_sync_[a-z_]*(?:total|seconds|info|left|members|rows|operations)\b", page.read_text()
        )
        assert set(documented) <= names, page
    (rules,) = (yaml.safe_load(text) for text in blocks(ROOT / "docs" / "observability.md", "yaml"))
    assert all(names & set(re.findall(r"\w+", rule["expr"])) for rule in rules["groups"][0]["rules"])
