"""The benchmark works: right counts, complete records, tables and a page. These tests do not measure speed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from benchmarks import extra_cases, report
from benchmarks.cases import Series
from benchmarks.contenders.base import Contender, RunSetup, WrongResult
from benchmarks.contenders.by_hand import HEADERS, Sender
from benchmarks.contenders.registry import CONTENDERS, Ours
from benchmarks.data import COLUMNS, Churn, fill
from benchmarks.measuring import measure
from benchmarks.results import describe_machine, read, write
from benchmarks.runs import Results
from benchmarks.sinks import Ceiling, RunningSink, measure_ceiling, running_sink
from benchmarks.warehouses import BenchWarehouse, DuckDBFiles
from harness.selection import thorough

ROWS = 2000
FIELDS = {
    *("at", "warehouse", "rows", "churn", "contender", "repeat", "seconds", "cpu_seconds", "rss_mb", "phases"),
    *("phase_cpu", "statements", "received_bytes", "sent_bytes", "write_bytes", "wal_bytes", "table_bytes"),
    *("adds", "removes", "requests", "body_bytes", "sink_cpu_seconds"),
}


@pytest.fixture
def sink() -> Iterator[RunningSink]:
    with running_sink() as running:
        yield running


@pytest.fixture
def series(sink: RunningSink, tmp_path: Path) -> Series:
    return Series(DuckDBFiles(tmp_path / "duckdb"), sink, tmp_path, ROWS)


CHURNS = {"first": (ROWS, 0), "0": (0, 0), "0.01": (20, 10), "1": (ROWS, ROWS)}
"""The ADDs and REMOVEs of each churn."""


def test_churn_gives_the_documented_operations() -> None:
    """Of the churn of 1 % half is replaced and half is changed, also for few rows and uneven numbers."""
    assert {name: (Churn(name, ROWS).adds, Churn(name, ROWS).removes) for name in CHURNS} == CHURNS
    assert (Churn("0.01", 100).adds, Churn("0.01", 100).removes) == (1, 0)
    assert (Churn("0.1", 1999).adds, Churn("0.1", 1999).removes) == (199, 99)


def test_the_people_are_the_same_each_time(tmp_path: Path) -> None:
    """Two fills give equal people, each with a different address, and a third with a device."""
    warehouse = DuckDBFiles(tmp_path)
    for state in ("one", "two"):
        warehouse.execute(state, fill(ROWS))
    (people, second_people) = (warehouse.rows(state, "SELECT * FROM people ORDER BY id") for state in ("one", "two"))
    assert people == second_people
    assert len(people[0]) == len(COLUMNS)
    assert len({row[1].strip().lower() for row in people}) == ROWS
    assert sum(row[-1] is not None for row in people) == pytest.approx(ROWS / 3, abs=1)


def check(record: dict[str, Any], contender: Contender, churn: str) -> None:
    assert record.keys() == FIELDS
    assert (record["contender"], record["churn"]) == (contender.name, churn)
    assert record["seconds"] > 0
    assert record["rss_mb"] > 10
    if contender.delivers:
        assert (record["adds"], record["removes"]) == CHURNS[churn]
        assert sum(record["phases"].values()) == pytest.approx(record["seconds"])
    if contender.name == "ours":
        assert record["statements"] > 10
        assert record["write_bytes"] > 0


@thorough
def test_contenders_are_measured_and_rendered(series: Series, tmp_path: Path) -> None:
    """The product, the floor and the script by hand send the right operations in each case and are in the page."""
    contenders = [CONTENDERS[name] for name in ("ours", "start-up", "floor", "by hand")]
    records = [{"kind": "machine", "command": [], **MACHINE}]
    for churn in CHURNS:
        expected = contenders if churn == "first" else [CONTENDERS["ours"], CONTENDERS["floor"]]
        found = list(series.run(Churn(churn, ROWS), contenders, 1))
        for record, contender in zip(found, expected, strict=True):
            check(record, contender, churn)
        records += [{"kind": "run", **record} for record in found]
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- results -->\nold\n<!-- end of results -->\nbelow\n")
    for _ in range(2):
        report.replace_tables(page, report.tables(Results(records)))
    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith("\nbelow\n")
    assert "old" not in text
    assert text.count("| 2,000 | first sync |") == 5
    assert "first sync: ours / by hand" in text
    assert "1 % changed: (ours − start-up) / floor" in text


def test_paths_are_not_published() -> None:
    """The published command has no paths of files."""
    words = ["run", "--results", "/home/me/results.jsonl", "--rows", "1000", "--folder=/srv/states", "--churn", "first"]
    assert describe_machine(words)["command"] == ["run", "--rows", "1000", "--churn", "first"]


MACHINE = {
    "processor": "some",
    "cores": 1,
    "memory_gib": 1,
    "system": "some",
    "python": "3",
    "packages": {},
    "commit": "some",
    "sink": {"members_per_second": 1.0, "mb_per_second": 1.0},
}


@pytest.mark.parametrize("name", ["home-made", "dlt"])
def test_external_contenders_are_measured(series: Series, name: str) -> None:
    """Contenders with other packages send the right operations, where these packages are installed."""
    contender = CONTENDERS[name]
    if reason := contender.missing(series.warehouse):
        pytest.skip(f"NOT TESTED, {name}: {reason}")
    for churn in ("first",) if contender.only_first else CHURNS:
        (record,) = series.run(Churn(churn, ROWS), [contender], 1)
        check(record, contender, churn)


def test_a_run_that_sends_wrong_operations_is_no_result(series: Series) -> None:
    """A contender that sends wrong operations raises WrongResult."""

    class Silent(Ours):
        def command(self, setup: RunSetup) -> list[str]:
            return [*super().command(setup), "--only-load"]

    with pytest.raises(WrongResult, match=r"add=0.*\(2000, 0, 0\)"):
        list(series.run(Churn("first", ROWS), [Silent()], 1))


def test_a_process_that_fails_is_no_result(tmp_path: Path) -> None:
    """A process that fails raises an error with its output."""
    with pytest.raises(RuntimeError, match="No such file"):
        measure(["ls", str(tmp_path / "nothing")])


def test_the_sink_counts_elements(sink: RunningSink) -> None:
    """The sink counts elements by the first action of each batch, with any spaces, on several connections."""
    sender = Sender(sink.url)
    sender.send(b'{"action":"ADD"},{"action":"ADD","title":"\\"action\\""}', 2)
    sender.send(b'{"action": "REMOVE"}', 1)
    sender.send(b'{"action":"SOMETHING"}', 1)
    threads = [threading.Thread(target=sender.send, args=(b'{"action":"ADD"}', 1)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = sink.counts()
    assert (counts.add, counts.remove, counts.unclear, counts.batches) == (10, 1, 1, 11)
    assert counts.requests == 11
    sink.reset()
    assert sink.counts().bytes == 0
    assert isinstance(measure_ceiling(sink, batches=8), Ceiling)


def test_the_sink_answers_as_linkedin_does(sink: RunningSink) -> None:
    """The sink answers one status per element, has its audience, and answers 404 for an unknown one."""
    import requests

    path = f"{sink.url}/rest/dmpSegments/{sink.segment}"
    answer = requests.post(f"{path}/users", data=b'{"elements":[{"action":"ADD"},{"action":"ADD"}]}', headers=HEADERS)
    assert answer.status_code == 200
    assert answer.json() == {"elements": [{"status": 201}, {"status": 201}]}
    found = requests.get(path, headers=HEADERS).json()
    assert (found["id"], found["type"], found["destinations"][0]["status"]) == (sink.segment, "USER", "READY")
    assert requests.get(f"{sink.url}/rest/dmpSegments/1", headers=HEADERS).status_code == 404
    with urlopen(f"{sink.url}/counts") as counts:
        assert counts.status == 200


@thorough
def test_paces_and_start_ups_are_measured(tmp_path: Path) -> None:
    """First syncs are measured with all three servers, and each command as often as requested."""
    warehouse: BenchWarehouse = DuckDBFiles(tmp_path / "duckdb")
    records = list(extra_cases.paces(warehouse, tmp_path, ROWS))
    assert [record["server"] for record in records] == ["answers at once", "a request every 0.1 s", "sandbox"]
    assert all(record["adds"] == ROWS for record in records)
    assert records[-1]["ceiling"]["members_per_second"] > 0
    starts = list(extra_cases.start_ups(tmp_path, 2))
    assert [(record["command"], len(record["seconds"])) for record in starts] == [
        ("--help", 2),
        ("validate --offline", 2),
    ]
    results = Results([*records, *starts])
    assert "| DuckDB | 2,000 | sandbox | 1 |" in report.tables(results)


def test_the_last_command_of_each_case_is_published(tmp_path: Path) -> None:
    """The runs of the last command and their machines are published; publishing them again changes nothing."""

    def machine(name: str) -> dict[str, Any]:
        return {"kind": "machine", "command": [name]}

    def run(rows: int, seconds: float) -> dict[str, Any]:
        key = {"warehouse": "duckdb", "rows": rows, "churn": "first", "contender": "ours"}
        return {"kind": "run", **key, "seconds": seconds}

    start_up = {"kind": "start-up", "command": "--help", "seconds": [0.1]}
    older = [machine("older"), run(1, 1.0), run(1, 2.0), run(2, 3.0), machine("replaced"), run(1, 4.0)]
    newer = [machine("newer"), run(1, 5.0), run(1, 6.0), start_up]
    published = Results([*older, *newer]).records
    assert published == [machine("older"), run(2, 3.0), *newer]
    path = tmp_path / "published.jsonl"
    write(path, published)
    assert Results([*read(path), *newer]).records == published
    assert Results(published).values(("duckdb", 1, "first", "ours")) == [5.0, 6.0]
    assert read(tmp_path / "nothing.jsonl") == []
