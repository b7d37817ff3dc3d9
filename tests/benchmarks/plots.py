"""Figures of the results: `python -m benchmarks.plots RESULTS FOLDER`, in the environment of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from benchmarks.results import read
from benchmarks.runs import CASES, ENGINES, Results, seconds_of
from matplotlib.ticker import LogLocator

COLOURS = {
    "ours": "#0a66c2",
    "ours 4 GB": "#63a4e8",
    "floor": "#8c8c8c",
    "floor 512 MB": "#bdbdbd",
    "by hand": "#2f7d32",
    "home-made": "#c2570a",
    "dlt": "#8a2be2",
}
PHASES = ("start", "audience", "lease", "snapshot", "changes", "promote", "remove", "add", "finish", "exit")
SHOWN = ("first", "0.01")


def cost(results: Results, path: Path) -> None:
    """Plot seconds over rows, both logarithmic, with a panel per warehouse and kind of run."""
    figure, axes = plt.subplots(len(results.sizes), len(SHOWN), figsize=(9, 3.6 * len(results.sizes)), squeeze=False)
    for row, (warehouse, sizes) in zip(axes, results.sizes.items(), strict=True):
        for axis, churn in zip(row, SHOWN, strict=True):
            for contender, colour in COLOURS.items():
                found = {size: results.median((warehouse, size, churn, contender)) for size in sizes}
                points = [(size, seconds) for size, seconds in found.items() if seconds is not None]
                if points:
                    axis.loglog(*zip(*points, strict=True), marker="o", label=contender, color=colour)
            axis.set_title(f"{ENGINES[warehouse]}, {CASES[churn]}", fontsize=10)
            axis.set_xlabel("rows")
            axis.set_ylabel("seconds")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_major_formatter("{x:,.0f}")
            axis.minorticks_off()
            axis.grid(visible=True, alpha=0.3)
            if axis.lines:
                axis.legend(fontsize=8)
    _save(figure, path)


def phases(results: Results, path: Path) -> None:
    """Plot the share of each phase in a run of the product, for the largest number of rows."""
    bars = [
        (f"{ENGINES[warehouse]} {sizes[-1]:,}: {name}", (warehouse, sizes[-1], churn, "ours"))
        for warehouse, sizes in results.sizes.items()
        for churn, name in CASES.items()
        if results.values((warehouse, sizes[-1], churn, "ours"))
    ]
    figure, axis = plt.subplots(figsize=(9, 0.5 + 0.45 * max(len(bars), 2)))
    colours = mpl.colormaps["tab10"].colors
    for position, (_, key) in enumerate(bars):
        found = [results.median(key, seconds_of(phase)) or 0.0 for phase in PHASES]
        left = 0.0
        for number, seconds in enumerate(found):
            share = seconds / (sum(found) or 1) * 100
            axis.barh(position, share, left=left, color=colours[number], label=None if position else PHASES[number])
            left += share
    axis.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("% of the run")
    axis.legend(fontsize=7, ncols=len(PHASES), loc="lower center", bbox_to_anchor=(0.4, 1.0), columnspacing=0.8)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    """Draw both figures."""
    results, folder = Results(read(Path(sys.argv[1]))), Path(sys.argv[2])
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "warehouse-sync", "font.family": "sans-serif"})
    cost(results, folder / "performance-cost.svg")
    phases(results, folder / "performance-phases.svg")


if __name__ == "__main__":
    main()
