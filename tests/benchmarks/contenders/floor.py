"""The floor: the same task as one SQL script without a worker, in the fastest form that was found.

It hashes, keeps each identity once, and compares with the previous snapshot. It sends nothing, keeps no log, rejects no
row with a reason, and cannot continue after an interruption.

`python -m benchmarks.contenders.floor FILE SCRIPT [MEMORY_LIMIT]` is the client for DuckDB: it executes the script in
the database.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
from benchmarks.measuring import peak_memory_mb, written_bytes

FIELDS = ("sha256_email", "google_aid", "first_name", "last_name", "title", "company", "country")
SEPARATOR = "chr(31)"


def script(kind: str, *, first: bool) -> str:
    """Return the script. The names of its tables end in 1 in the first run of a sync, and in 2 in the next."""
    statements = _duckdb(first=first) if kind == "duckdb" else _postgres(first=first)
    return ";\n\n".join(statements) + ";\n"


def _duckdb(*, first: bool) -> list[str]:
    number = 1 if first else 2
    snapshot = f"floor.snapshot_{number}"
    taken = [
        "SET preserve_insertion_order = false",
        "CREATE SCHEMA IF NOT EXISTS floor",
        f"CREATE TABLE {snapshot} AS SELECT md5_number({_joined(FIELDS[:2])}) AS identity, "
        f"md5_number({_joined(FIELDS)}) AS fingerprint, * FROM ({_cleaned('sha256(lower(trim(email)))')})",
        # Duplicates are few: deleting them afterwards is twice as fast as a window over all rows.
        f"DELETE FROM {snapshot} WHERE rowid IN (SELECT rowid FROM {snapshot} WHERE identity IN "
        f"(SELECT identity FROM {snapshot} GROUP BY identity HAVING count(*) > 1) "
        "QUALIFY row_number() OVER (PARTITION BY identity ORDER BY id) > 1)",
    ]
    if first:
        return [*taken, _all_added(snapshot)]
    compared = (
        "CREATE TEMP TABLE differing AS SELECT before.rowid AS before_row, now.rowid AS now_row "
        "FROM floor.snapshot_1 AS before FULL JOIN floor.snapshot_2 AS now USING (identity) "
        "WHERE before.fingerprint IS DISTINCT FROM now.fingerprint"
    )
    fields = ", ".join(FIELDS)
    return [
        *taken,
        compared,
        f"CREATE TABLE floor.changes_2 AS SELECT 'REMOVE' AS operation, identity, {fields} FROM floor.snapshot_1 "
        "WHERE rowid IN (SELECT before_row FROM differing WHERE now_row IS NULL) UNION ALL "
        f"SELECT 'ADD', identity, {fields} FROM floor.snapshot_2 WHERE rowid IN (SELECT now_row FROM differing)",
    ]


def _postgres(*, first: bool) -> list[str]:
    number = 1 if first else 2
    snapshot = f"floor.snapshot_{number}"
    hashed = "encode(sha256(convert_to(lower(trim(email)), 'UTF8')), 'hex')"
    taken = [
        "SET work_mem = '256MB'",
        "CREATE SCHEMA IF NOT EXISTS floor",
        # OFFSET NULL stops the planner from hashing three times, and lets it use several processes.
        f"CREATE TABLE {snapshot} AS SELECT DISTINCT ON (identity) md5({_joined(FIELDS[:2])})::uuid AS identity, "
        f"md5({_joined(FIELDS)})::uuid AS fingerprint, * FROM ({_cleaned(hashed)} OFFSET NULL) AS cleaned "
        "ORDER BY identity, id",
    ]
    if first:
        return [*taken, _all_added(snapshot)]
    fields = ", ".join(FIELDS)
    return [
        *taken,
        "ANALYZE floor.snapshot_2 (identity, fingerprint)",
        f"CREATE TABLE floor.changes_2 AS SELECT 'REMOVE' AS operation, identity, {fields} FROM floor.snapshot_1 "
        "AS before WHERE NOT EXISTS (SELECT FROM floor.snapshot_2 AS now WHERE now.identity = before.identity) "
        f"UNION ALL SELECT 'ADD', identity, {fields} FROM floor.snapshot_2 AS now WHERE NOT EXISTS "
        "(SELECT FROM floor.snapshot_1 AS before WHERE before.fingerprint = now.fingerprint)",
    ]


def _all_added(snapshot: str) -> str:
    # A view, because in the first run every member of the snapshot is an ADD.
    return f"CREATE VIEW floor.changes_1 AS SELECT 'ADD' AS operation, identity, {', '.join(FIELDS)} FROM {snapshot}"


def _cleaned(hashed: str) -> str:
    texts = {"first_name": 35, "last_name": 35, "title": 50, "company": 50}
    return (
        f"SELECT id, {hashed} AS sha256_email, lower(trim(gaid)) AS google_aid, "
        + ", ".join(f"left(trim({name}), {length}) AS {name}" for name, length in texts.items())
        + ", upper(country) AS country FROM people WHERE email LIKE '%_@_%._%' OR gaid IS NOT NULL"
    )


def _joined(names: tuple[str, ...]) -> str:
    return f"concat_ws({SEPARATOR}, " + ", ".join(f"coalesce({name}, '')" for name in names) + ")"


def main() -> None:
    """Execute the script in a DuckDB database."""
    database, script_path, *limit = sys.argv[1:]
    with duckdb.connect(database) as connection:
        if limit:
            connection.execute(f"SET memory_limit = '{limit[0]}'")
        connection.execute(Path(script_path).read_text())
    print(json.dumps({"write_bytes": written_bytes(), "rss_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
