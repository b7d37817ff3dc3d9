"""`python -m benchmarks COMMAND`: measure runs, print and store each result, and render the results."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import extra_cases, report, results
from benchmarks.cases import Series
from benchmarks.contenders.registry import CONTENDERS, LESS_MEMORY, MORE_MEMORY
from benchmarks.data import Churn
from benchmarks.measuring import module_command, module_environment
from benchmarks.runs import Results
from benchmarks.sinks import measure_ceiling, running_sink
from benchmarks.warehouses import warehouse

DEFAULT_CONTENDERS = [name for name in CONTENDERS if name not in {MORE_MEMORY, LESS_MEMORY}]
"""The contenders that run by default; the others are for ten million rows."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    verbs = parser.add_subparsers(dest="verb", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--results", type=Path, default=results.DEFAULT)
    shared.add_argument("--folder", type=Path, default=Path(".bench"), help="folder for the warehouse states")
    cases = verbs.add_parser("run", parents=[shared], help="measure the cases, with each contender in turn")
    cases.add_argument("--warehouse", type=_comma_separated, default=["duckdb", "postgres"])
    cases.add_argument("--rows", type=_comma_separated, default=["100000"])
    cases.add_argument("--churn", type=_comma_separated, default=["first", "0", "0.01", "1"])
    cases.add_argument("--contenders", type=_comma_separated, default=DEFAULT_CONTENDERS)
    cases.add_argument("--repeats", type=int, default=3)
    pace = verbs.add_parser("pace", parents=[shared], help="measure a first sync at the rate limit of LinkedIn")
    pace.add_argument("--warehouse", type=_comma_separated, default=["duckdb"])
    pace.add_argument("--rows", type=int, default=1_000_000)
    start = verbs.add_parser("start-up", parents=[shared], help="measure commands without connections")
    start.add_argument("--repeats", type=int, default=9)
    rendered = verbs.add_parser("report", parents=[shared], help="render tables and figures from the results")
    rendered.add_argument("--page", type=Path, default=Path("docs", "performance.md"))
    rendered.add_argument(
        "--published", type=Path, default=results.PUBLISHED, help="file with the runs that the page shows"
    )
    arguments = parser.parse_args()
    {"run": _run, "pace": _pace, "start-up": _start_up, "report": _report}[arguments.verb](arguments)


def _comma_separated(text: str) -> list[str]:
    return text.split(",")


def _run(arguments: argparse.Namespace) -> None:
    unknown = set(arguments.contenders) - set(CONTENDERS)
    if unknown:
        sys.exit(f"unknown contender {', '.join(sorted(unknown))}; known contenders: {', '.join(CONTENDERS)}")
    contenders = [CONTENDERS[name] for name in arguments.contenders]
    folder = arguments.folder.resolve()
    with running_sink() as sink:
        found = measure_ceiling(sink)
        print(f"The sink takes {found.members_per_second:,.0f} members/s, {found.mb_per_second:,.0f} MB/s")
        for kind in arguments.warehouse:
            with warehouse(kind, folder) as opened:
                _append(
                    arguments, {**results.describe_machine(sys.argv[1:]), "engine": opened.version, "sink": vars(found)}
                )
                print(f"{opened.version}\n{results.head()}", flush=True)
                for rows in map(int, arguments.rows):
                    series = Series(opened, sink, folder, rows)
                    for name in arguments.churn:
                        for record in series.run(Churn(name, rows), contenders, arguments.repeats):
                            _append(arguments, {"kind": "run", **record})
                            print(results.line(record), flush=True)
                    series.end()


def _pace(arguments: argparse.Namespace) -> None:
    folder = arguments.folder.resolve()
    print(results.head())
    for kind in arguments.warehouse:
        with warehouse(kind, folder) as opened:
            _append(arguments, {**results.describe_machine(sys.argv[1:]), "engine": opened.version})
            for record in extra_cases.paces(opened, folder, arguments.rows):
                _append(arguments, record)
                print(f"{results.line(record)}   [{record['server']}]", flush=True)


def _start_up(arguments: argparse.Namespace) -> None:
    _append(arguments, results.describe_machine(sys.argv[1:]))
    for record in extra_cases.start_ups(arguments.folder.resolve(), arguments.repeats):
        _append(arguments, record)
        print(f"{sorted(record['seconds'])[len(record['seconds']) // 2]:.2f} s  {record['command']}", flush=True)


def _append(arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    results.append(arguments.results, record)


def _report(arguments: argparse.Namespace) -> None:
    found = Results([*results.read(arguments.published), *results.read(arguments.results)])
    results.write(arguments.published, found.records)
    report.replace_tables(arguments.page, report.tables(found))
    if not results.BENCH_PYTHON.exists():
        sys.exit(f"The tables are in {arguments.page}, but the figures need {results.BENCH_PYTHON}.")
    words = (str(arguments.published), str(arguments.page.parent))
    subprocess.run(
        module_command("plots", *words, python=str(results.BENCH_PYTHON)), env=module_environment(), check=True
    )
    print(f"Rendered into {arguments.page}")


if __name__ == "__main__":
    main()
