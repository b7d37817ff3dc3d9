"""`python -m benchmarks VERB`: measure, print a table as it goes, append each run to the results, render them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import once, report, results
from benchmarks.cases import Series
from benchmarks.contenders.registry import CONTENDERS, LITTLE_MEMORY, WITH_MEMORY
from benchmarks.data import Churn
from benchmarks.measuring import module, search_path
from benchmarks.runs import Results
from benchmarks.sinks import ceiling, running_sink
from benchmarks.warehouses import warehouse

USUAL = [name for name in CONTENDERS if name not in {WITH_MEMORY, LITTLE_MEMORY}]
"""Those that take part unless they are named; the others are for ten million rows."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    verbs = parser.add_subparsers(dest="verb", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--results", type=Path, default=results.DEFAULT)
    shared.add_argument("--folder", type=Path, default=Path(".bench"), help="where states are kept")
    cases = verbs.add_parser("run", parents=[shared], help="the cases, each contender in turn")
    cases.add_argument("--warehouse", type=_words, default=["duckdb", "postgres"])
    cases.add_argument("--rows", type=_words, default=["100000"])
    cases.add_argument("--churn", type=_words, default=["first", "0", "0.01", "1"])
    cases.add_argument("--contenders", type=_words, default=USUAL)
    cases.add_argument("--repeats", type=int, default=3)
    pace = verbs.add_parser("pace", parents=[shared], help="a first sync at LinkedIn's pace")
    pace.add_argument("--warehouse", type=_words, default=["duckdb"])
    pace.add_argument("--rows", type=int, default=1_000_000)
    start = verbs.add_parser("start-up", parents=[shared], help="commands that connect to nothing")
    start.add_argument("--repeats", type=int, default=9)
    rendered = verbs.add_parser("report", parents=[shared], help="tables and pictures from the results")
    rendered.add_argument("--page", type=Path, default=Path("docs", "performance.md"))
    rendered.add_argument("--published", type=Path, default=results.PUBLISHED, help="the runs that the page shows")
    given = parser.parse_args()
    {"run": _run, "pace": _pace, "start-up": _start_up, "report": _report}[given.verb](given)


def _words(text: str) -> list[str]:
    return text.split(",")


def _run(given: argparse.Namespace) -> None:
    unknown = set(given.contenders) - set(CONTENDERS)
    if unknown:
        sys.exit(f"no contender {', '.join(sorted(unknown))}; there are {', '.join(CONTENDERS)}")
    contenders = [CONTENDERS[name] for name in given.contenders]
    folder = given.folder.resolve()
    with running_sink() as sink:
        found = ceiling(sink)
        print(f"The sink takes {found.members_per_second:,.0f} members/s, {found.mb_per_second:,.0f} MB/s")
        for kind in given.warehouse:
            with warehouse(kind, folder) as opened:
                _note(given, {**results.machine(sys.argv[1:]), "engine": opened.version, "sink": vars(found)})
                print(f"{opened.version}\n{results.head()}", flush=True)
                for rows in map(int, given.rows):
                    series = Series(opened, sink, folder, rows)
                    for name in given.churn:
                        for record in series.run(Churn(name, rows), contenders, given.repeats):
                            _note(given, {"kind": "run", **record})
                            print(results.line(record), flush=True)
                    series.end()


def _pace(given: argparse.Namespace) -> None:
    folder = given.folder.resolve()
    print(results.head())
    for kind in given.warehouse:
        with warehouse(kind, folder) as opened:
            _note(given, {**results.machine(sys.argv[1:]), "engine": opened.version})
            for record in once.paces(opened, folder, given.rows):
                _note(given, record)
                print(f"{results.line(record)}   [{record['server']}]", flush=True)


def _start_up(given: argparse.Namespace) -> None:
    _note(given, results.machine(sys.argv[1:]))
    for record in once.start_ups(given.folder.resolve(), given.repeats):
        _note(given, record)
        print(f"{sorted(record['seconds'])[len(record['seconds']) // 2]:.2f} s  {record['command']}", flush=True)


def _note(given: argparse.Namespace, record: dict[str, Any]) -> None:
    results.append(given.results, record)


def _report(given: argparse.Namespace) -> None:
    found = Results([*results.read(given.published), *results.read(given.results)])
    results.write(given.published, found.records)
    report.put(given.page, report.tables(found))
    if not results.PYTHON.exists():
        sys.exit(f"The tables are in {given.page}, but no pictures were drawn: there is no {results.PYTHON}.")
    words = (str(given.published), str(given.page.parent))
    subprocess.run(module("plots", *words, python=str(results.PYTHON)), env=search_path(), check=True)
    print(f"Rendered into {given.page}")


if __name__ == "__main__":
    main()
