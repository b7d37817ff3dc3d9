"""dlt: a custom destination that posts batches of 5,000, fed with Arrow from a query that hashes. First syncs only.

`python -m benchmarks.contenders.with_dlt KIND DATABASE FOLDER SINK`; docs/performance.md lists what else was tried.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.contenders.by_hand import BATCH, CONNECTIONS
from benchmarks.measuring import peak_memory_mb, seconds_since_start, written_bytes

FETCH_SIZE = 50_000
FILES = "parquet"
SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "LOAD__WORKERS": str(CONNECTIONS),
    "NORMALIZE__WORKERS": "1",
    "DATA_WRITER__FILE_MAX_ITEMS": str(FETCH_SIZE),
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


def query(kind: str) -> str:
    """Return the query of the members, which hashes in the warehouse."""
    hashed = {
        "duckdb": "sha256(lower(trim(email)))",
        "postgres": "encode(sha256(convert_to(lower(trim(email)), 'UTF8')), 'hex')",
    }[kind]
    return (
        f"SELECT {hashed} AS sha256_email, lower(trim(gaid)) AS google_aid, left(trim(first_name), 35) AS first_name, "
        "left(trim(last_name), 35) AS last_name, left(trim(title), 50) AS title, left(trim(company), 50) AS company, "
        "upper(country) AS country FROM people"
    )


def rows(kind: str, database: str) -> Iterator[Any]:
    """Yield Arrow tables; each becomes a file and thus a load job."""
    import pyarrow

    if kind == "duckdb":
        import duckdb

        with duckdb.connect(database, read_only=True) as connection:
            for batch in connection.sql(query(kind)).to_arrow_reader(FETCH_SIZE):
                yield pyarrow.Table.from_batches([batch])
    else:
        import connectorx

        found = connectorx.read_sql(database, query(kind), return_type="arrow_stream", batch_size=FETCH_SIZE)
        for batch in found:
            yield pyarrow.Table.from_batches([batch])


def main() -> None:
    """Run a first sync."""
    kind, database, folder, sink_url = sys.argv[1:]
    os.environ.update(SETTINGS)
    import dlt
    from benchmarks.contenders.posting import Poster

    poster = Poster(sink_url)

    @dlt.destination(  # type: ignore[untyped-decorator]
        batch_size=BATCH,
        loader_file_format=FILES,
        name="linkedin",
        max_parallel_load_jobs=CONNECTIONS,
        loader_parallelism_strategy="parallel",
    )
    def linkedin(items: Any, table: Any) -> None:
        poster.post("ADD", items if isinstance(items, list) else items.to_pylist())

    phases = {"start": seconds_since_start()}
    now = time.monotonic()
    pipeline = dlt.pipeline("benchmark", destination=linkedin, pipelines_dir=folder)
    resource = dlt.resource(rows, name="people")(kind, database)
    for name, step in (
        ("extract", lambda: pipeline.extract(resource, loader_file_format=FILES)),
        ("normalize", pipeline.normalize),
        ("load", pipeline.load),
    ):
        step()
        phases[name], now = time.monotonic() - now, time.monotonic()
    print(json.dumps({"phases": phases, "write_bytes": written_bytes(), "rss_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
