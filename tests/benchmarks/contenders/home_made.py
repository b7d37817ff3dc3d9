"""Home-made: a script with polars that reads the whole table, hashes, compares with its last file, and posts.

`python -m benchmarks.contenders.home_made KIND DATABASE FOLDER SINK` keeps the last members as Parquet in FOLDER.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import polars as pl
from benchmarks.contenders.posting import Poster
from benchmarks.measuring import peak_memory_mb, seconds_since_start, written_bytes

IDENTIFIERS = ["sha256_email", "google_aid"]
FIELDS = ["first_name", "last_name", "title", "company", "country"]
TABLE = "SELECT id, email, first_name, last_name, title, company, country, gaid FROM people"


def read(kind: str, database: str) -> pl.DataFrame:
    """Return the whole table, read with the fastest way that polars has for each warehouse."""
    if kind == "duckdb":
        import duckdb

        with duckdb.connect(database, read_only=True) as connection:
            return connection.sql(TABLE).pl()
    return pl.read_database_uri(TABLE, database, engine="connectorx")


def members(table: pl.DataFrame) -> pl.DataFrame:
    """Return the members of the table, normalised and hashed, each identity once."""
    emails = table.get_column("email").str.strip_chars().str.to_lowercase()
    hashes = [None if email is None else hashlib.sha256(email.encode()).hexdigest() for email in emails]
    lengths = {"first_name": 35, "last_name": 35, "title": 50, "company": 50}
    return (
        table.select(
            "id",
            pl.Series("sha256_email", hashes, pl.String),
            pl.col("gaid").str.strip_chars().str.to_lowercase().alias("google_aid"),
            *(pl.col(name).str.strip_chars().str.slice(0, length) for name, length in lengths.items()),
            pl.col("country").str.to_uppercase(),
        )
        .sort("id")
        .unique(IDENTIFIERS, keep="first", maintain_order=True)
        .drop("id")
    )


def main() -> None:
    """Run a sync."""
    kind, database, folder, sink_url = sys.argv[1:]
    phases = {"start": seconds_since_start()}
    now = time.monotonic()

    def timed(name: str) -> None:
        nonlocal now
        phases[name], now = time.monotonic() - now, time.monotonic()

    table = read(kind, database)
    timed("read")
    current = members(table)
    del table
    timed("hash")
    last = Path(folder, "members.parquet")
    poster = Poster(sink_url)
    removes, adds = current.clear(), current
    if last.exists():
        previous = pl.read_parquet(last)
        removes = previous.join(current, on=IDENTIFIERS, how="anti", nulls_equal=True)
        adds = current.join(previous, on=IDENTIFIERS + FIELDS, how="anti", nulls_equal=True)
        del previous
    timed("changes")
    for action, rows in (("REMOVE", removes), ("ADD", adds)):
        poster.post_all(action, rows, lambda frame, start, length: frame.slice(start, length).iter_rows(named=True))
        timed(action.lower())
    current.write_parquet(last)
    timed("finish")
    print(json.dumps({"phases": phases, "write_bytes": written_bytes(), "rss_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
