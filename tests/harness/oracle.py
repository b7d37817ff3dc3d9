"""What must hold after any history, once calm runs got through; worked out without the product."""

from __future__ import annotations

from collections.abc import Sequence

from harness.world import Row, World


def check_converged(world: World, rows: Sequence[Row]) -> None:
    """The audience equals the query under every reading of REMOVE, nothing is left to do, and every operation is told.

    Dead work must have been sent again before (`world.retry(dead=True)`).
    """
    world.check(rows)
    assert world.query("select seq from warehouse_sync.retry_queue") == []
    check_log(world)


def check_log(world: World) -> None:
    """Each operation of each promoted run has exactly one final line in the sync log.

    A run that is still open (its worker died) has lines up to its watermark.
    """
    promoted = world.query(
        "select run_id, case when status = 'running' then watermark else last_seq end as told "
        "from warehouse_sync.runs where promoted_at is not null"
    )
    lines = world.query(
        "select run_id, count(*) as lines, count(distinct seq) as operations, min(seq) as first, max(seq) as last "
        "from warehouse_sync.sync_log where seq is not null group by run_id"
    )
    expected = {run_id: (told, told, 1, told) for run_id, told in promoted if told}
    assert {line.run_id: tuple(line[1:]) for line in lines} == expected
