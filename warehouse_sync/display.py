"""What the command line shows: progress while a run is under way, and its results as text."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, cast

import structlog
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.padding import Padding
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from warehouse_sync.operations import PlanReport, RunReport
from warehouse_sync.progress import Phase, Progress
from warehouse_sync.status import AudienceStatus, SyncStatus
from warehouse_sync.validate import Check

log = structlog.get_logger(__name__)

WIDTH = 100
"""Columns of what goes into a file or a pipe."""

LOG_EVERY = 15.0
"""Seconds between two log lines about the progress of one phase."""

TITLES = {
    Phase.AUDIENCE: "look for the audience",
    Phase.SNAPSHOT: "take the snapshot",
    Phase.CHANGES: "work out the changes",
    Phase.REMOVE: "remove members",
    Phase.ADD: "add members",
    Phase.FINISH: "tidy up",
}
"""Phases that can take time; the others are over before they could be read."""

COLOURS = {
    "succeeded": "green",
    "ok": "green",
    "running": "cyan",
    "skipped": "cyan",
    "incomplete": "yellow",
    "blocked": "yellow",
    "warning": "yellow",
    "failed": "red",
}


class Display:
    """Standard output for results, standard error for everything else; colours only on a terminal without NO_COLOR."""

    def __init__(self) -> None:
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    @property
    def live(self) -> bool:
        """Whether somebody watches standard error."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def log_stream(self) -> TextIO:
        """Where log lines go: on a terminal above the progress bars, not through them."""
        return cast(TextIO, FileProxy(self.err, sys.stderr)) if self.live else sys.stderr

    @contextmanager
    def progress(self, sync: str) -> Iterator[Progress]:
        """What a run of `sync` reports to: bars on a terminal, else a log line now and then."""
        if not self.live:
            yield LoggedProgress()
            return
        columns = (TextColumn("{task.description}"), BarColumn(24), _Count(), _Rate(), TimeRemainingColumn(compact=True))
        with Bars(*columns, console=self.err, redirect_stdout=False, redirect_stderr=False) as bars:
            shown = BarProgress(bars, sync)
            yield shown
            shown.done()

    def json(self, value: Any) -> None:
        """One JSON value on standard output."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def line(self, text: str, style: str = "") -> None:
        """Text on standard output as it stands; lines are neither cut nor wrapped."""
        self.out.print(Text(text, style), soft_wrap=True)

    def error(self, message: str) -> None:
        """What went wrong, on standard error."""
        self.err.print(Text("error: ", "bold red").append(message, "not bold default"), soft_wrap=True)

    def reports(self, reports: Sequence[RunReport]) -> None:
        """A line per run, and beneath why those ended as they did that have a reason."""
        table = _table("sync", "run", "status", *_right("members", "rejected", "added", "removed", "waiting", "dead", "time"))
        for report in reports:
            planned, delivered = report.planned, report.delivered
            table.add_row(
                report.sync,
                str(report.run_id or ""),
                _status(report.status),
                f"{report.members:,}",
                f"{report.rejected:,}",
                _of(delivered.add, planned.add),
                _of(delivered.remove, planned.remove),
                f"{report.deferred:,}",
                f"{report.dead:,}",
                f"{report.seconds:.1f} s",
            )
        self.out.print(table)
        self._reasons((report.sync, report.status, report.reason) for report in reports)

    def plans(self, plans: Sequence[PlanReport]) -> None:
        """A block per plan."""
        for plan in plans:
            facts = {
                "query": f"{plan.rows:,} rows are {plan.members:,} members; {plan.rejected:,} rows are rejected",
                "remove": f"{plan.planned.remove:,}",
                "add": f"{plan.planned.add:,}" + _readds(plan.readds),
                "pending": f"{plan.pending:,} from earlier runs are sent; {plan.deferred:,} wait, {plan.dead:,} are dead",
                "takes": f"{plan.requests:,} requests, {_minutes(plan.minutes)}",
                "values": "\n".join(f"{count:,} {reason}" for reason, count in plan.rejections.items()),
                "for example": "\n".join(map(_sample, plan.samples)),
            }
            known = plan.status in ("succeeded", "blocked")
            self._block(plan.sync, plan.status, facts if known else {}, plan.reason)

    def statuses(self, statuses: Sequence[SyncStatus]) -> None:
        """A block per sync."""
        for status in statuses:
            run = status.last_run
            facts = {
                "last run": _run(run, status.running) if run else "none yet",
                "": (run or {}).get("reason") or "",
                "next run": status.next_run or "not scheduled",
                "members": f"{status.members:,}; {status.pending:,} operations wait, {status.dead:,} are dead",
                "audience": _audience(status.audience) if status.audience else status.audience_error or "none yet",
                "token": status.refresh_token_warning or _until(status.refresh_token_expires),
            }
            stale = run is not None and run["status"] == "running" and not status.running
            word = "failed" if status.error or stale else run["status"] if run else "new"
            word = word if status.enabled else "disabled"
            self._block(status.sync, word, {} if status.error else facts, status.error)

    def log_lines(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """A row per line of the sync log."""
        table = _table("time", "run", "operation", "outcome", "key", "tries", "why")
        for line in lines:
            why = ": ".join(part for part in (line["reason"], line["message"]) if part)
            cells = (line["logged_at"], line["run_id"], line["operation"], line["outcome"], line["primary_key"])
            table.add_row(*("" if cell is None else str(cell) for cell in (*cells, line["attempt"])), why)
        self.out.print(table)

    def check(self, check: Check) -> None:
        """A line for one check of `validate`."""
        word = "failed" if not check.ok else "warning" if check.warning else "ok"
        line = Text(f"{word:8}", COLOURS[word]).append(f"{check.subject}: ", "default").append(check.message, "default")
        self.out.print(line, soft_wrap=True)

    def _block(self, name: str, status: str, facts: Mapping[str, str], reason: str | None) -> None:
        self.out.print(Text(name, "bold").append("  ").append(_status(status)), soft_wrap=True)
        if reason:
            self.out.print(Padding(Text(reason), (0, 0, 0, 2)))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for title, fact in facts.items():
            if fact:
                grid.add_row(title, fact)
        if grid.rows:
            self.out.print(Padding(grid, (0, 0, 0, 2)))

    def _reasons(self, reasons: Iterable[tuple[str, str, str | None]]) -> None:
        for sync, status, reason in reasons:
            if reason:
                self.out.print(Text(f"{sync}: ", COLOURS.get(status, "")).append(reason, "default"), soft_wrap=True)


class BarProgress(Progress):
    """A bar per phase; the last one stays unfinished when the run ends in it."""

    def __init__(self, bars: Bars, sync: str) -> None:
        self.bars = bars
        self.sync = sync
        self.task: TaskID | None = None

    def begin(self, phase: Phase, total: int | None = None) -> None:
        self.done()
        if phase in TITLES:
            self.task = self.bars.add_task(f"{self.sync}: {TITLES[phase]}", total=total)

    def advance(self, count: int) -> None:
        if self.task is not None:
            self.bars.advance(self.task, count)

    def note(self, message: str) -> None:
        self.bars.console.print(Text(message), soft_wrap=True)

    def done(self) -> None:
        """The current phase is over."""
        if self.task is not None and self.bars.tasks[self.task].total is None:
            self.bars.update(self.task, total=1, completed=1)
        self.task = None


class LoggedProgress(Progress):
    """A log line for a phase that takes long, every LOG_EVERY seconds."""

    def __init__(self) -> None:
        self._begin(None, None)

    def begin(self, phase: Phase, total: int | None = None) -> None:
        self._begin(phase, total)

    def _begin(self, phase: Phase | None, total: int | None) -> None:
        self.phase, self.total, self.done = phase, total, 0
        self.started = self.told = time.monotonic()

    def advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if self.phase is not None and now - self.told >= LOG_EVERY:
            self.told = now
            rate = round(self.done / (now - self.started))
            log.info("progress", phase=self.phase.value, done=self.done, total=self.total, members_per_second=rate)


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.total is None or task.fields.get("single") or (task.total == 1 and task.completed == 1):
            return Text("")
        return Text(f"{int(task.completed):,} of {int(task.total):,}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} members/s" if speed and task.total and task.total > 1 else "", "dim")


def _console(file: TextIO) -> Console:
    width = None if file.isatty() else WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def _table(*columns: str | tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        if isinstance(column, tuple):
            table.add_column(column[0], justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def _right(*names: str) -> list[tuple[str, str]]:
    return [(name, "right") for name in names]


def _status(status: str) -> Text:
    return Text(str(status), COLOURS.get(status, ""))


def _of(done: int, planned: int) -> str:
    return f"{done:,}" if done == planned else f"{done:,} of {planned:,}"


def _readds(count: int) -> str:
    return f", {count:,} of them again: they share an identifier with somebody who is removed" if count else ""


def _minutes(minutes: float) -> str:
    return "less than a minute" if minutes < 1 else f"about {minutes:,.0f} minutes"


def _sample(sample: Mapping[str, Any]) -> str:
    identifiers = ", ".join(f"{name} {value}" for name, value in sample["identifiers"].items())
    return f"{sample['operation']} ({sample['cause']}) key {sample['primary_key']}: {identifiers}"


def _run(run: Mapping[str, Any], running: bool) -> str:
    planned, delivered = run["planned"], run["delivered"]
    when = f"since {run['started_at']}" if run["finished_at"] is None else f"at {run['finished_at']}"
    state = run["status"]
    if state == "running":
        state = f"running ({run['phase']})" if running else "interrupted: its worker died; the next run goes on from there"
    return (
        f"{run['run_id']} ({run['kind']}) {state} {when}, added {_of(delivered['add'], planned['add'])}, "
        f"removed {_of(delivered['remove'], planned['remove'])}, rejected {run['rejected']:,}"
    )


def _audience(audience: AudienceStatus) -> str:
    numbers = (("size", audience.size), ("matched in 7 days", audience.matched), ("sent in 7 days", audience.input_count))
    told = ", ".join(f"{name} {number:,}" for name, number in numbers if number is not None)
    return f"{audience.id} {audience.status or ''}" + (f", {told}" if told else "") + f": {audience.usable}"


def _until(expires: str | None) -> str:
    return f"the refresh token ends on {expires}" if expires else ""
