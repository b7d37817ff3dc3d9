"""What must hold after any history, once runs without faults have succeeded; computed without the product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.worlds.world import READINGS, Member, Row, World, member_of

from warehouse_sync.state.tables import VERSION_TABLE, state_tables


def check_converged(world: World, rows: Sequence[Row]) -> None:
    """Check that the audience equals the query under each reading of REMOVE, with an empty queue and a complete log.

    Dead operations must have been sent before (`world.retry(dead=True)`).
    """
    world.check(rows)
    # Operations for an audience that the sync no longer uses wait until the sync uses it again.
    waiting = world.query(
        "select q.seq from warehouse_sync.retry_queue q join warehouse_sync.runs r on r.run_id = q.run_id "
        f"where r.audience_id = '{world.audience_id}'"
    )
    assert waiting == []
    check_log(world)
    check_tables(world)


def check_tables(world: World) -> None:
    """Check that each table in the schema belongs to the state or to a run that names it."""
    found = world.query("select table_name from information_schema.tables where lower(table_schema) = 'warehouse_sync'")
    named = world.query(
        "select snapshot_table from warehouse_sync.runs union select changes_table from warehouse_sync.runs"
    )
    state = {*(table.name for table in state_tables("warehouse_sync").metadata.sorted_tables), VERSION_TABLE}
    runs = {name for (name,) in named if name}
    assert {name.lower() for (name,) in found} <= state | runs | {f"{name}_rows" for name in runs}


def check_log(world: World) -> None:
    """Check that each operation of each promoted run has exactly one final line in the sync log.

    A run that is still open (its worker died) has lines up to its watermark.
    """
    promoted = world.query(
        "select run_id, case when status = 'running' then watermark else last_seq end as logged "
        "from warehouse_sync.runs where promoted_at is not null"
    )
    lines = world.query(
        "select run_id, count(*) as lines, count(distinct seq) as operations, min(seq) as first, max(seq) as last "
        "from warehouse_sync.sync_log where seq is not null group by run_id"
    )
    expected = {int(row.run_id): (row.logged, row.logged, 1, row.logged) for row in promoted if row.logged}
    found: dict[int, tuple[int, ...]] = {int(line.run_id): tuple(line[1:]) for line in lines}
    assert found == expected, {run: (found.get(run), expected.get(run)) for run in found | expected}


def check_fields(world: World, rows: Sequence[Row], columns: Iterable[str]) -> None:
    """Check that each member has the fields of a row with its smallest primary key, under each reading with fields."""
    first_rows: dict[Member, list[Row]] = {}
    for row in sorted(rows, key=lambda each: int(each["id"])):
        candidates = first_rows.setdefault(member_of(row), [row])
        if row is not candidates[0] and row["id"] == candidates[0]["id"]:
            candidates.append(row)
    held = {
        reading: {
            frozenset(key): dict(fields) for key, fields in world.sandbox.members(world.audience_id, reading).items()
        }
        for reading in ("elements", "persons")
    }
    names = [column for column in ("first_name", "country") if column in columns]
    for member, candidates in first_rows.items():
        expected = [wire_fields(row, names) for row in candidates]
        for reading, members in held.items():
            assert not member or members[member] in expected, f"fields under {reading}"


def wire_fields(row: Row, columns: Iterable[str]) -> dict[str, str]:
    """Return the fields of a row as requests contain them, for values that need no cleaning."""
    wire = {"first_name": "firstName", "country": "country"}
    values = {"first_name": row.get("first_name"), "country": (row.get("country") or "").upper() or None}
    return {wire[column]: value for column in columns if (value := values[column]) is not None}


def check_no_surplus(world: World, rows: Sequence[Row], refused: set[Member]) -> None:
    """Check that the audience equals the query, except for members whose ADD was refused permanently."""
    for reading in READINGS:
        held, expected = world.actual_members(reading), world.expected_members(rows, reading)
        excused = refused if reading == "elements" else {frozenset([each]) for member in refused for each in member}
        assert held - expected == set(), f"surplus under {reading}"
        assert expected - held <= excused, f"missing under {reading}"
    assert world.sandbox.violations() == []


def refused_members(world: World) -> set[Member]:
    """Return the members of the promoted snapshot whose ADD was rejected according to the sync log."""
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
