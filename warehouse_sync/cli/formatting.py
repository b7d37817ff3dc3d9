"""Numbers and states as an operator reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warehouse_sync.reports import AudienceStatus, Grants, PlanReport, Preparation, SyncStatus
    from warehouse_sync.sandbox import SandboxSettings


Facts = dict[str, str]
"""A title and what there is to say under it; empty texts are not shown."""


def share(done: int, planned: int) -> str:
    """`done`, with `planned` where they differ."""
    return f"{done:,}" if done == planned else f"{done:,} of {planned:,}"


def visible(text: str) -> str:
    """What came from a row, without characters that would steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def plan_facts(plan: PlanReport) -> Facts:
    """What a run would do."""
    again = f", {plan.readds:,} of them again: they share an identifier with somebody removed" if plan.readds else ""
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
    return visible(f"{sample['operation']} ({sample['cause']}) key {sample['primary_key']}: {identifiers}")


def status_word(status: SyncStatus) -> str:
    """How a sync stands, in one word."""
    if status.error:
        return "failed"
    if not status.enabled:
        return "disabled"
    if status.last_run is None:
        return "new"
    return "interrupted" if _interrupted(status) else str(status.last_run["status"])


def status_facts(status: SyncStatus) -> Facts:
    """How a sync stands; nothing when its state could not be read."""
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
            f"{members:,} members in audience {audience}, which it feeds no more: `run {status.sync} --purge`"
            for audience, members in status.left.items()
        ),
        "token": status.refresh_token_warning or (f"the refresh token ends on {ends}" if ends else ""),
    }


def _dead(dead: int, removes: int) -> str:
    """Dead operations; a REMOVE among them is told apart, since it means that somebody is targeted still."""
    told = f"{dead:,} {'is' if dead == 1 else 'are'} dead"
    if not removes:
        return told
    if removes == 1:
        which = "a REMOVE" if dead == 1 else "1 of them a REMOVE"
        return f"{told}, {which}: that member is still in the audience"
    which = "all of them" if dead == removes else f"{removes:,} of them"
    return f"{told}, {which} REMOVEs: those members are still in the audience"


def _interrupted(status: SyncStatus) -> bool:
    return status.last_run is not None and status.last_run["status"] == "running" and not status.running


def _last_run(run: Mapping[str, Any], status: SyncStatus) -> str:
    planned, delivered = run["planned"], run["delivered"]
    state = run["status"]
    if _interrupted(status):
        state = "interrupted, its worker died; the next run goes on from there; begun"
    elif status.running:
        state = f"in phase {run['phase']}, begun"
    return (
        f"{run['run_id']} ({run['kind']}) {state} {run['finished_at'] or run['started_at']}: "
        f"{share(delivered['add'], planned['add'])} added, {share(delivered['remove'], planned['remove'])} removed, "
        f"{run['rejected']:,} rejected"
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
    """What was done to a warehouse, or why it could not be."""
    if done.error:
        return done.error
    file = "the file was made, " if done.created else ""
    did = "were brought to" if done.migrated else "were already at"
    return f"{file}the state tables {did} version {done.version}"


def grants(found: Grants) -> str:
    """The SQL for one warehouse, with what it does not cover as comments."""
    if found.error:
        return f"-- warehouse {found.warehouse}: {found.error}"
    if found.role is None:
        return f"-- warehouse {found.warehouse} has no roles: whoever may write its file and the folder may run syncs."
    lines = [f"-- warehouse {found.warehouse}: as an administrator"]
    lines += [f"{statement};" for statement in found.statements]
    lines += [f"-- and SELECT on whatever the query of sync {name} reads" for name in found.queries]
    return "\n".join(lines)


def sandbox(url: str, settings: SandboxSettings) -> str:
    """How to reach a running sandbox, as a destination to copy, and where to look into it."""
    return f"""A LinkedIn of your own answers on {url} until Ctrl-C. It keeps nothing on disk.

destinations:
  sandbox:
    type: linkedin
    account_id: {min(settings.account_ids)}
    client_id: {settings.client_id}
    client_secret: {settings.client_secret}
    refresh_token: {settings.refresh_token}
    api_url: {url}
    oauth_url: {url}

Look into it:
  {url}/_sandbox/state
  {url}/_sandbox/requests
  {url}/_sandbox/segments/ID/members?reading=elements   (or identifiers, or persons)
Break it:
  curl -d '{{"fault": "503:users:times=3"}}' {url}/_sandbox/faults
"""
