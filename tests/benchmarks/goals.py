"""The performance goals, mostly ratios of runs of one command, and whether they are met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from benchmarks.results import Key, Record
from benchmarks.runs import CASES, ENGINES, Results, seconds_of

BY_HAND = 1.3
FASTER_THAN_DLT = {"duckdb": 3.0, "postgres": 1.5}
OVER_THE_FLOOR = 1.3
OVER_THE_FLOOR_LARGE = 1.15
LARGE = 10_000_000
MEMBERS_PER_SECOND = {"duckdb": 500_000, "postgres": 250_000}
PROCESSOR = {"duckdb": 3.0, "postgres": 6.0}
POSTGRES_MEMORY = 120
GROWTH = 1.2
PACE = 1.1
START_UP = {"--help": 0.25, "validate --offline": 0.5}

Value = str | Callable[[Record], Any]


def rows(results: Results) -> Iterator[list[str]]:
    """Yield warehouse, rows, quantity, measured value and goal, with "met" or "missed"."""
    for warehouse, sizes in results.sizes.items():
        for size in sizes:
            for what, measured, goal in _of_size(results, warehouse, size):
                yield [ENGINES[warehouse], f"{size:,}", what, measured, goal]
        if warehouse == "duckdb":
            yield from _growth(results, warehouse, sizes)
    for command, seconds in START_UP.items():
        if command in results.start_ups:
            found = results.start_ups[command]["seconds"]
            median = sorted(found)[len(found) // 2]
            yield ["—", "—", f"`{command}`, seconds", f"{median:.2f}", at_most(median, seconds)]


def at_most(found: float, goal: float) -> str:
    """Return the goal, and whether the value is at most the goal."""
    return f"≤ {goal:g}: {'met' if found <= goal else 'missed'}"


def _at_least(found: float, goal: float) -> str:
    return f"≥ {goal:,g}: {'met' if found >= goal else 'missed'}"


def _of_size(results: Results, warehouse: str, size: int) -> Iterator[tuple[str, str, str]]:
    def of(churn: str, contender: str, value: Value = "seconds") -> float | None:
        key: Key = (warehouse, size, churn, contender)
        return results.median(key, value)

    first, by_hand, dlt = (of("first", name) for name in ("ours", "by hand", "dlt"))
    start = of("first", "start-up")
    if first and by_hand:
        yield "first sync: ours / by hand", f"{first / by_hand:.2f}", at_most(first / by_hand, BY_HAND)
    if first and dlt:
        yield "first sync: dlt / ours", f"{dlt / first:.2f}", _at_least(dlt / first, FASTER_THAN_DLT[warehouse])
    goal = OVER_THE_FLOOR_LARGE if size >= LARGE else OVER_THE_FLOOR
    for name, reference in (("ours", "floor"), ("ours 4 GB", "floor"), ("ours", "floor 512 MB")):
        for churn in ("0.01", "0"):
            ours, floor = of(churn, name), of(churn, reference)
            if ours and floor and start:
                ratio = (ours - start) / floor
                verdict = at_most(ratio, goal) if reference == "floor" else "as much memory for both"
                yield f"{CASES[churn]}: ({name} − start-up) / {reference}", f"{ratio:.2f}", verdict
    adds, seconds = of("first", "ours", "adds"), of("first", "ours", seconds_of("add"))
    if adds and seconds:
        speed = adds / seconds
        verdict = _at_least(speed, MEMBERS_PER_SECOND[warehouse])
        yield "delivery with its log, members a second", f"{speed:,.0f}", verdict
    in_delivery = of("first", "ours", lambda record: record["phase_cpu"].get("add"))
    if adds and in_delivery is not None:
        cpu = in_delivery / adds * 1e6
        verdict = at_most(cpu, PROCESSOR[warehouse])
        yield "processor seconds of the worker per million ADDs, delivery", f"{cpu:.1f}", verdict
    whole = of("first", "ours", "cpu_seconds")
    if adds and whole:
        cpu = whole / adds * 1e6
        verdict = at_most(cpu, PROCESSOR[warehouse])
        yield "the same, the whole process, start-up and engine included", f"{cpu:.1f}", verdict
    peaks = [peak for churn in CASES for peak in results.values((warehouse, size, churn, "ours"), "rss_mb")]
    peaks += [record["rss_mb"] for key, record in results.paces.items() if key[:2] == (warehouse, size)]
    if peaks:
        peak = max(peaks)
        verdict = at_most(peak, POSTGRES_MEMORY) if warehouse == "postgres" else "512 MB of it are the engine's limit"
        yield "largest memory of the worker in any run, MB", f"{peak:,.0f}", verdict


def _growth(results: Results, warehouse: str, sizes: list[int]) -> Iterator[list[str]]:
    for smaller, larger in pairwise(sizes):
        for churn, name in CASES.items():
            small, large = (results.median((warehouse, size, churn, "ours"), "rss_mb") for size in (smaller, larger))
            if small and large:
                what = f"{name}: memory at {larger:,} / at {smaller:,}"
                verdict = at_most(large / small, GROWTH) if larger >= LARGE else ""
                yield [ENGINES[warehouse], "", what, f"{large / small:.2f}", verdict]
