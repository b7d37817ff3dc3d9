"""Tables of the results, for the section between the markers in docs/performance.md."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import goals
from benchmarks.runs import CASES, ENGINES, Results, seconds_of

ORDER = ("ours", "ours 4 GB", "floor", "floor 512 MB", "by hand", "home-made", "dlt")
BATCH = 5000


def tables(results: Results) -> str:
    """Return the text between the markers."""
    parts = [_machine(results), _sink(results)]
    for warehouse, sizes in results.sizes.items():
        parts += [
            f"### {ENGINES[warehouse]}\n\nSeconds of the whole process: median (lowest–highest).",
            _by_contender(results, warehouse, sizes, "seconds", _spread),
            "Largest resident memory of the process in MB. Of `floor` on PostgreSQL it is that of `psql`; the "
            "memory of the server itself is not counted.",
            _by_contender(results, warehouse, sizes, "rss_mb", lambda found: f"{statistics.median(found):,.0f}"),
            "Seconds of the processor, of the process itself.",
            _by_contender(results, warehouse, sizes, "cpu_seconds", lambda found: f"{statistics.median(found):,.2f}"),
            "A run of the product by phase, seconds.",
            _phases(results, warehouse, sizes),
            "What a run of the product moves.",
            _traffic(results, warehouse, sizes),
        ]
    parts += [
        "### Against the goals",
        _table(["warehouse", "rows", "what", "measured", "goal"], goals.rows(results)),
        "### At LinkedIn's pace",
        _paces(results),
    ]
    parts += ["### Start-up", _start_ups(results)]
    return "\n\n".join(part for part in parts if part)


def _machine(results: Results) -> str:
    machines, commands = [], []
    for machine in results.machines:
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items() if number)
        machines.append(
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
            f"Python {machine['python']}; {packages}."
        )
        command = shlex.join(machine["command"])
        commands.append(
            f"- `python -m benchmarks {command}`, {machine.get('engine', 'no warehouse')}, commit "
            f"{machine['commit']}, load before {machine.get('load', 'unknown')}"
        )
    return "\n\n".join([*dict.fromkeys(machines), "\n".join(dict.fromkeys(commands))])


def _sink(results: Results) -> str:
    ceilings = [machine["sink"] for machine in results.machines if "sink" in machine]
    if not ceilings:
        return ""
    members = statistics.median(each["members_per_second"] for each in ceilings)
    megabytes = statistics.median(each["mb_per_second"] for each in ceilings)
    return (
        f"The sink by itself takes {members:,.0f} members/s ({megabytes:,.0f} MB/s) from a client that only sends "
        "prebuilt bodies over eight connections."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def _spread(found: list[float]) -> str:
    return f"{statistics.median(found):,.2f} ({min(found):,.2f}–{max(found):,.2f})"


def _by_contender(
    results: Results, warehouse: str, sizes: list[int], value: str, show: Callable[[list[float]], str]
) -> str:
    cases = [(size, churn) for size in sizes for churn in CASES]
    present = [name for name in ORDER if any(results.values((warehouse, *case, name), value) for case in cases)]
    rows = []
    for size, churn in cases:
        found = [results.values((warehouse, size, churn, contender), value) for contender in present]
        if any(found):
            rows.append([f"{size:,}", CASES[churn], *(show(each) if each else "—" for each in found)])
    return _table(["rows", "run", *present], rows)


def _phases(results: Results, warehouse: str, sizes: list[int]) -> str:
    names = ("start", "lease", "audience", "snapshot", "changes", "promote", "remove", "add", "finish", "exit")
    rows = []
    for size in sizes:
        for churn, name in CASES.items():
            key = (warehouse, size, churn, "ours")
            if results.values(key):
                found = [results.median(key, seconds_of(phase)) for phase in names]
                rows.append([f"{size:,}", name, *("—" if each is None else f"{each:,.2f}" for each in found)])
    return _table(["rows", "run", *names], rows)


def _traffic(results: Results, warehouse: str, sizes: list[int]) -> str:
    """Return the table of statements and of megabytes read, sent and written."""
    columns = {
        "statements": ("statements", 1.0),
        "MB to the worker": ("received_bytes", 1e6),
        "MB to the warehouse": ("sent_bytes", 1e6),
        "MB of write-ahead log": ("wal_bytes", 1e6),
        "MB of the worker's tables": ("table_bytes", 1e6),
        "MB written by the process": ("write_bytes", 1e6),
        "MB to LinkedIn": ("body_bytes", 1e6),
    }
    rows = []
    for size in sizes:
        for churn, name in CASES.items():
            key = (warehouse, size, churn, "ours")
            if results.values(key):
                found = [(results.median(key, field), unit) for field, unit in columns.values()]
                cells = ["—" if each is None else f"{each / unit:,.{0 if unit == 1 else 1}f}" for each, unit in found]
                rows.append([f"{size:,}", name, *cells])
    return _table(["rows", "run", *columns], rows)


def _paces(results: Results) -> str:
    rows = []
    for (warehouse, size, server), record in results.paces.items():
        requests = -(-size // BATCH)
        ideal = requests * 60 / record["per_minute"]
        delivery = record["phases"]["add"]
        goal = ""
        if server.startswith("a request"):
            goal = f"{delivery / ideal:.2f}, {goals.at_most(delivery / ideal, goals.PACE)}"
        ceiling = record.get("ceiling")
        alone = f"{ceiling['members_per_second']:,.0f}" if ceiling else "—"
        name = ENGINES[warehouse]
        numbers = [f"{delivery:.2f}", f"{record['seconds']:.2f}", f"{ideal:.1f}", goal or "—", alone]
        rows.append([name, f"{size:,}", server, str(requests), *numbers])
    head = ["warehouse", "rows", "server", "requests", "delivery s", "whole run s", "ideal s", "delivery / ideal"]
    return _table([*head, "server alone, members/s"], rows) if rows else "Not measured."


def _start_ups(results: Results) -> str:
    rows = [[f"`{name}`", _spread(record["seconds"])] for name, record in results.start_ups.items()]
    for warehouse, sizes in results.sizes.items():
        for size in sizes:
            found = results.values((warehouse, size, "first", "start-up"))
            if found:
                rows.append(
                    [f"a run's imports and configuration, {ENGINES[warehouse]} ({size:,} rows)", _spread(found)]
                )
    return _table(["process", "seconds"], rows) if rows else "Not measured."


def replace_tables(page: Path, text: str) -> None:
    """Replace the text between the markers of the page.

    Raises:
        ValueError: The page has no markers.
    """
    before, begin, rest = page.read_text().partition("<!-- results -->\n")
    _, end, after = rest.partition("<!-- end of results -->")
    if not end:
        raise ValueError(f"{page} has no markers")
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")
