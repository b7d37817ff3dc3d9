"""What the command line shows: progress during a run, and results as text."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from warehouse_sync.cli import formatting
from warehouse_sync.events import Event, Listener, MembersProcessed, NoteAdded, Phase, PhaseStarted

if TYPE_CHECKING:
    from warehouse_sync.reports import Check, Grants, PlanReport, Preparation, RunReport, SyncStatus


log = structlog.get_logger(__name__)

WIDTH = 100
"""Columns of output that goes to a file or a pipe."""

LOG_EVERY = 15.0
"""Seconds between two log lines about the progress of a phase."""

TITLES = {
    Phase.AUDIENCE: "audience",
    Phase.SNAPSHOT: "snapshot",
    Phase.CHANGES: "changes",
    Phase.REMOVE: "remove members",
    Phase.ADD: "add members",
    Phase.FINISH: "finish",
}
"""Phases that can take long enough to be shown."""

COLOURS = {
    "succeeded": "green",
    "ok": "green",
    "running": "cyan",
    "skipped": "cyan",
    "incomplete": "yellow",
    "blocked": "yellow",
    "warning": "yellow",
    "interrupted": "yellow",
    "failed": "red",
}


class Display:
    """Output: results to standard output, all else to standard error; colours only on a terminal without NO_COLOR."""

    def __init__(self, *, plain: bool = False) -> None:
        """Open the streams.

        Args:
            plain: Show no progress bars, also on a terminal, because programs read standard error.
        """
        self._plain = plain
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    @property
    def live(self) -> bool:
        """Whether standard error is a terminal that shows progress bars."""
        return not self._plain and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def log_stream(self) -> TextIO:
        """Return the stream for log lines; on a terminal it writes above the progress bars."""
        return cast(TextIO, FileProxy(self.err, sys.stderr)) if self.live else sys.stderr

    @contextmanager
    def progress(self, sync: str) -> Iterator[Listener]:
        """Yield a listener that shows the progress of a run of `sync`: bars on a terminal, otherwise log lines."""
        if not self.live:
            yield ProgressLog().handle
            return
        one_line = Column(no_wrap=True)
        columns = (
            TextColumn("  {task.description}", table_column=one_line),
            BarColumn(16),
            _Count(table_column=one_line),
            _Rate(table_column=one_line),
            TimeRemainingColumn(compact=True),
        )
        self.err.print(Text(sync, "bold"))
        with Progress(*columns, console=self.err, redirect_stdout=False, redirect_stderr=False) as bars:
            progress = ProgressBars(bars)
            yield progress.handle
            progress.end_phase()

    def json(self, value: Any) -> None:
        """Print one JSON value."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def reports(self, reports: Sequence[RunReport]) -> None:
        """Print a line per run, and below it the reasons."""
        has_pending = any(report.deferred or report.dead for report in reports)
        numbers = ("members", "rejected", "added", "removed", *(("waiting", "dead") if has_pending else ()), "time")
        table = _table("sync", "run", "status", *((number, "right") for number in numbers))
        for report in reports:
            planned, delivered = report.planned, report.delivered
            table.add_row(
                report.sync,
                str(report.run_id or ""),
                _status(report.status),
                f"{report.members:,}",
                f"{report.rejected:,}",
                formatting.delivered_of(delivered.add, planned.add),
                formatting.delivered_of(delivered.remove, planned.remove),
                *((f"{report.deferred:,}", f"{report.dead:,}") if has_pending else ()),
                f"{report.seconds:.1f} s",
            )
        self.out.print(table)
        self._reasons(reports)

    def plans(self, plans: Sequence[PlanReport]) -> None:
        """Print a block per plan."""
        for plan in plans:
            known = plan.status in ("succeeded", "blocked")
            self._block(plan.sync, plan.status, formatting.plan_facts(plan) if known else {}, plan.reason)

    def statuses(self, statuses: Sequence[SyncStatus]) -> None:
        """Print a block per sync."""
        for status in statuses:
            self._block(status.sync, formatting.status_word(status), formatting.status_facts(status), status.error)

    def log_lines(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Print a row per line of the sync log, and below them the message of each reason."""
        table = _table("time", "run", "operation", "outcome", "tries", "key", "reason")
        for line in lines:
            cells = [line[name] for name in ("logged_at", "run_id", "operation", "outcome", "attempt")]
            table.add_row(
                *(
                    "" if cell is None else formatting.printable(str(cell))
                    for cell in (*cells, line["primary_key"], line["reason"])
                )
            )
        self.out.print(table)
        messages = dict.fromkeys((line["reason"], line["message"]) for line in lines if line["message"])
        for reason, message in messages:
            self.out.print(Text(f"{reason}: {message}"), soft_wrap=True)

    def check(self, check: Check) -> None:
        """Print a line for one check of `validate`."""
        self._verdict("failed" if not check.ok else "warning" if check.warning else "ok", check.subject, check.message)

    def preparations(self, preparations: Sequence[Preparation]) -> None:
        """Print a line per warehouse."""
        for one in preparations:
            self._verdict("failed" if one.error else "ok", one.warehouse, formatting.preparation(one))

    def grants(self, grants: Sequence[Grants]) -> None:
        """Print SQL to copy, warehouse by warehouse."""
        for one in grants:
            self.text(formatting.grants(one))

    def text(self, text: str) -> None:
        """Print text unchanged, and flush."""
        self.out.print(Text(text), soft_wrap=True)
        sys.stdout.flush()

    def _verdict(self, verdict: str, subject: str, message: str) -> None:
        line = Text(f"{verdict:8}", COLOURS[verdict]).append(f"{subject}: ", "default").append(message, "default")
        self.out.print(line, soft_wrap=True)

    def _block(self, name: str, status: str, facts: Mapping[str, str], reason: str | None) -> None:
        self.out.print(Text(name, "bold").append("  ").append(_status(status)), soft_wrap=True)
        if reason:
            self.out.print(Padding(Text(reason), (0, 0, 0, 2), expand=False))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for title, fact in facts.items():
            if fact:
                grid.add_row(title, fact)
        if grid.rows:
            self.out.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def _reasons(self, reports: Sequence[RunReport]) -> None:
        for report in reports:
            if report.reason:
                line = Text(f"{report.sync}: ", COLOURS.get(report.status, "")).append(report.reason, "default")
                self.out.print(line, soft_wrap=True)


class ProgressBars:
    """A progress bar per phase. The last bar stays unfinished if the run ends in its phase."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.task: TaskID | None = None

    def handle(self, _sync: str, event: Event) -> None:
        """Update the bars; a listener of events."""
        match event:
            case PhaseStarted(phase, total):
                self.end_phase()
                if phase in TITLES:
                    self.task = self.bars.add_task(TITLES[phase], total=total)
            case MembersProcessed(count) if self.task is not None:
                self.bars.advance(self.task, count)
            case NoteAdded(message):
                self.bars.console.print(Text(message), soft_wrap=True)

    def end_phase(self) -> None:
        """Complete the bar of the current phase if the phase has no total."""
        if self.task is not None and self.bars.tasks[self.task].total is None:
            self.bars.update(self.task, total=1, completed=1)
        self.task = None


class ProgressLog:
    """A log line every LOG_EVERY seconds while a phase processes members."""

    def __init__(self) -> None:
        self._start(None, None)

    def handle(self, _sync: str, event: Event) -> None:
        """Write a log line if one is due; a listener of events."""
        match event:
            case PhaseStarted(phase, total):
                self._start(phase, total)
            case MembersProcessed(count):
                self._advance(count)

    def _start(self, phase: Phase | None, total: int | None) -> None:
        self.phase, self.total, self.done = phase, total, 0
        self.started = self.logged = time.monotonic()

    def _advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if self.phase is not None and now - self.logged >= LOG_EVERY:
            self.logged = now
            rate = round(self.done / (now - self.started))
            log.info("progress", phase=self.phase.value, done=self.done, total=self.total, members_per_second=rate)


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.total is None or (task.total == 1 and task.completed == 1):
            return Text("")
        return Text(f"{int(task.completed):,}/{int(task.total):,}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        # Not rich's own speed: it is wrong if several batches end at the same moment.
        speed = task.completed / task.elapsed if task.elapsed else None
        return Text(f"{speed:,.0f} members/s" if speed and task.total and task.total > 1 else "", "dim")


def _console(file: TextIO) -> Console:
    width = None if file.isatty() else WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def _table(*columns: str | tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        if isinstance(column, tuple):
            table.add_column(column[0], justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def _status(status: str) -> Text:
    return Text(str(status), COLOURS.get(status, ""))
