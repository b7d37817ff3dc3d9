"""What must hold after any history, once calm runs got through; worked out without the product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.worlds.world import READINGS, Member, Row, World, member_of

from warehouse_sync.state.tables import VERSION_TABLE, state_tables


def check_converged(world: World, rows: Sequence[Row]) -> None:
    """The audience equals the query under every reading of REMOVE, nothing is left to do, and every operation is told.

    Dead work must have been sent again before (`world.retry(dead=True)`).
    """
    world.check(rows)
    # What waits for an audience that the sync has left waits until it comes back.
    waiting = world.query(
        "select q.seq from warehouse_sync.retry_queue q join warehouse_sync.runs r on r.run_id = q.run_id "
        f"where r.audience_id = '{world.audience_id}'"
    )
    assert waiting == []
    check_log(world)
    check_tables(world)


def check_tables(world: World) -> None:
    """Each table in the worker's schema is of its state, or of a run that names it."""
    found = world.query("select table_name from information_schema.tables where lower(table_schema) = 'warehouse_sync'")
    named = world.query(
        "select snapshot_table from warehouse_sync.runs union select changes_table from warehouse_sync.runs"
    )
    state = {*(table.name for table in state_tables("warehouse_sync").metadata.sorted_tables), VERSION_TABLE}
    runs = {name for (name,) in named if name}
    assert {name.lower() for (name,) in found} <= state | runs | {f"{name}_rows" for name in runs}


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
    expected = {int(row.run_id): (row.told, row.told, 1, row.told) for row in promoted if row.told}
    told: dict[int, tuple[int, ...]] = {int(line.run_id): tuple(line[1:]) for line in lines}
    assert told == expected, {run: (told.get(run), expected.get(run)) for run in told | expected}


def check_fields(world: World, rows: Sequence[Row], columns: Iterable[str]) -> None:
    """Each member is held with the fields of a row with its smallest primary key, under every reading that tells."""
    speakers: dict[Member, list[Row]] = {}
    for row in sorted(rows, key=lambda each: int(each["id"])):
        speaking = speakers.setdefault(member_of(row), [row])
        if row is not speaking[0] and row["id"] == speaking[0]["id"]:
            speaking.append(row)
    held = {
        reading: {
            frozenset(key): dict(fields) for key, fields in world.sandbox.members(world.audience_id, reading).items()
        }
        for reading in ("elements", "persons")
    }
    names = [column for column in ("first_name", "country") if column in columns]
    for member, speaking in speakers.items():
        expected = [on_the_wire(row, names) for row in speaking]
        for reading, members in held.items():
            assert not member or members[member] in expected, f"fields under {reading}"


def on_the_wire(row: Row, columns: Iterable[str]) -> dict[str, str]:
    """The fields of a row as LinkedIn is told them, for clean values."""
    wire = {"first_name": "firstName", "country": "country"}
    values = {"first_name": row.get("first_name"), "country": (row.get("country") or "").upper() or None}
    return {wire[column]: value for column in columns if (value := values[column]) is not None}


def check_nobody_surplus(world: World, rows: Sequence[Row], refused: set[Member]) -> None:
    """The audience holds nobody but the query's members, and all of them but those whose ADD was refused for good."""
    for reading in READINGS:
        held, expected = world.actual_members(reading), world.expected_members(rows, reading)
        excused = refused if reading == "elements" else {frozenset([each]) for member in refused for each in member}
        assert held - expected == set(), f"surplus under {reading}"
        assert expected - held <= excused, f"missing under {reading}"
    assert world.sandbox.violations() == []


def refused_members(world: World) -> set[Member]:
    """Members of the promoted snapshot of whom the sync log tells a refused ADD."""
    found = world.query(
        "select snapshot_table from warehouse_sync.runs r join warehouse_sync.syncs s on "
        "s.promoted_run = r.run_id where s.destination = '" + world.destination_name + "'"
    )
    if not found or found[0][0] is None:
        return set()
    rows = world.query(
        f"select sha256_email, google_aid from warehouse_sync.{found[0][0]} where identity in "
        "(select identity from warehouse_sync.sync_log where operation = 'ADD' and outcome = 'rejected')"
    )
    names = ("SHA256_EMAIL", "GOOGLE_AID")
    return {frozenset((name, value) for name, value in zip(names, row, strict=True) if value) for row in rows}
