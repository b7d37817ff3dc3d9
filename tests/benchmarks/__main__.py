"""`python -m benchmarks run …`: measure, print a table as it goes, and append each run to the results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import results
from benchmarks.cases import Series
from benchmarks.contenders.registry import CONTENDERS
from benchmarks.data import Churn
from benchmarks.sinks import ceiling, running_sink
from benchmarks.warehouses import warehouse


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="measure")
    run.add_argument("--warehouse", type=_words, default=["duckdb", "postgres"])
    run.add_argument("--rows", type=_words, default=["100000"])
    run.add_argument("--churn", type=_words, default=["first", "0", "0.01", "1"])
    run.add_argument("--contenders", type=_words, default=list(CONTENDERS))
    run.add_argument("--repeats", type=int, default=3)
    run.add_argument("--results", type=Path, default=results.DEFAULT)
    run.add_argument("--folder", type=Path, default=Path(".bench"), help="where states are kept")
    given = parser.parse_args()
    _run(given)


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
        about = results.machine(sys.argv[1:])
        for kind in given.warehouse:
            with warehouse(kind, folder) as opened:
                engine = {"warehouse": kind, "engine": opened.version}
                results.append(given.results, {**about, **engine, "sink": vars(found)})
                print(f"{opened.version}\n{results.head()}", flush=True)
                for rows in map(int, given.rows):
                    series = Series(opened, sink, folder, rows)
                    for name in given.churn:
                        for record in series.run(Churn(name, rows), contenders, given.repeats):
                            results.append(given.results, {"kind": "run", **record})
                            print(results.line(record), flush=True)
                    series.end(contenders)


if __name__ == "__main__":
    main()
