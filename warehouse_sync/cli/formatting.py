"""Numbers and states as text for operators. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warehouse_sync.reports import AudienceStatus, Grants, PlanReport, Preparation, SyncStatus
    from warehouse_sync.sandbox import SandboxSettings


Facts = dict[str, str]
"""Text by title; an empty text is not shown."""


def delivered_of(done: int, planned: int) -> str:
    """Return `done`, and `planned` too if they differ."""
    return f"{done:,}" if done == planned else f"{done:,} of {planned:,}"


def printable(text: str) -> str:
    """Replace characters that would control a terminal; for text from rows."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def plan_facts(plan: PlanReport) -> Facts:
    """Return what a run would do."""
    again = f", {plan.readds:,} of them again: they share an identifier with a removed member" if plan.readds else ""
    minutes = "less than a minute" if plan.minutes < 1 else f"about {plan.minutes:,.0f} minutes"
    pending = f"{plan.pending:,} from earlier runs are sent; {plan.deferred:,} wait, {plan.dead:,} are dead"
    return {
        "query": f"{plan.rows:,} rows are {plan.members:,} members; {plan.rejected:,} rows are rejected",
        "remove": f"{plan.planned.remove:,}",
        "add": f"{plan.planned.add:,}{again}",
        "pending": pending if plan.pending + plan.deferred + plan.dead else "",
        "takes": f"{plan.requests:,} request{'s' if plan.requests > 1 else ''}, {minutes}"
        if plan.requests
        else "no request",
        "left out": "\n".join(f"{count:,} {reason}" for reason, count in plan.rejections.items()),
        "for example": "\n".join(map(_sample, plan.samples)),
    }


def _sample(sample: Mapping[str, Any]) -> str:
    identifiers = ", ".join(f"{name} {value}" for name, value in sample["identifiers"].items())
    return printable(f"{sample['operation']} ({sample['cause']}) key {sample['primary_key']}: {identifiers}")


def status_word(status: SyncStatus) -> str:
    """Return the state of a sync in one word."""
    if status.error:
        return "failed"
    if not status.enabled:
        return "disabled"
    if status.last_run is None:
        return "new"
    return "interrupted" if _interrupted(status) else str(status.last_run["status"])


def status_facts(status: SyncStatus) -> Facts:
    """Return the state of a sync; empty if it could not be read."""
    if status.error:
        return {}
    run = status.last_run
    ends = status.refresh_token_expires
    return {
        "last run": _last_run(run, status) if run else "none yet",
        "because": (run and run["reason"]) or "",
        "next run": status.next_run or "not scheduled",
        "members": f"{status.members:,}; {status.pending:,} operations wait, {_dead(status.dead, status.dead_removes)}",
        "audience": _audience(status.audience) if status.audience else status.audience_error or "none yet",
        "warning": (status.audience and status.audience.warning) or "",
        "left": "\n".join(
            f"{members:,} members in audience {audience}, which it no longer feeds: `run {status.sync} --purge`"
            for audience, members in status.left.items()
        ),
        "token": status.refresh_token_warning or (f"the refresh token ends on {ends}" if ends else ""),
    }


def _dead(dead: int, removes: int) -> str:
    """Return the number of dead operations. REMOVEs are named because their members are still in the audience."""
    text = f"{dead:,} {'is' if dead == 1 else 'are'} dead"
    if not removes:
        return text
    if removes == 1:
        which = "a REMOVE" if dead == 1 else "1 of them a REMOVE"
        return f"{text}, {which}: that member is still in the audience"
    which = "all of them" if dead == removes else f"{removes:,} of them"
    return f"{text}, {which} REMOVEs: those members are still in the audience"


def _interrupted(status: SyncStatus) -> bool:
    return status.last_run is not None and status.last_run["status"] == "running" and not status.running


def _last_run(run: Mapping[str, Any], status: SyncStatus) -> str:
    planned, delivered = run["planned"], run["delivered"]
    state = run["status"]
    if _interrupted(status):
        state = "interrupted, its worker died; the next run continues from there; started"
    elif status.running:
        state = f"in phase {run['phase']}, started"
    added = delivered_of(delivered["add"], planned["add"])
    removed = delivered_of(delivered["remove"], planned["remove"])
    return (
        f"{run['run_id']} ({run['kind']}) {state} {run['finished_at'] or run['started_at']}: "
        f"{added} added, {removed} removed, {run['rejected']:,} rejected"
    )


def _audience(audience: AudienceStatus) -> str:
    numbers = {
        "reachable": audience.size,
        "matched in 7 days": audience.matched,
        "sent in 7 days": audience.input_count,
    }
    known = [f"{audience.id} {audience.status or ''}".rstrip()]
    known += [f"{number:,} {name}" for name, number in numbers.items() if number is not None]
    known += [f"match rate {audience.match_rate} %"] if audience.match_rate is not None else []
    return f"{', '.join(known)}: {audience.usable}"


def preparation(done: Preparation) -> str:
    """Return what was done to a warehouse, or why it failed."""
    if done.error:
        return done.error
    file = "the file was created, " if done.created else ""
    did = "were migrated to" if done.migrated else "were already at"
    return f"{file}the state tables {did} version {done.version}"


def grants(found: Grants) -> str:
    """Return the SQL for one warehouse; comments name what it does not cover."""
    if found.error:
        return f"-- warehouse {found.warehouse}: {found.error}"
    if found.role is None:
        return f"-- warehouse {found.warehouse} has no roles: users who may write its file and folder may run syncs."
    lines = [f"-- warehouse {found.warehouse}: as an administrator"]
    lines += [f"{statement};" for statement in found.statements]
    lines += [f"-- and SELECT on everything that the query of sync {name} reads" for name in found.queries]
    return "\n".join(lines)


def sandbox(url: str, settings: SandboxSettings) -> str:
    """Return how to reach a running sandbox: a destination to copy, and addresses to inspect it."""
    return f"""The sandbox, a local LinkedIn API, answers on {url} until Ctrl-C. It stores nothing on disk.

destinations:
  sandbox:
    type: linkedin
    account_id: {min(settings.account_ids)}
    client_id: {settings.client_id}
    client_secret: {settings.client_secret}
    refresh_token: {settings.refresh_token}
    api_url: {url}
    oauth_url: {url}

Inspect it:
  {url}/_sandbox/state
  {url}/_sandbox/requests
  {url}/_sandbox/segments/ID/members?reading=elements   (or identifiers, or persons)
Break it:
  curl -d '{{"fault": "503:users:times=3"}}' {url}/_sandbox/faults
"""
