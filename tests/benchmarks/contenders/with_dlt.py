"""dlt: a custom destination that posts batches of 5,000, fed with Arrow from a query that hashes. First syncs only.

`python -m benchmarks.contenders.with_dlt KIND DATABASE FOLDER SINK`; what was tried besides is in docs/performance.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.contenders.by_hand import BATCH, CONNECTIONS
from benchmarks.measuring import high_water, since_begun, written_bytes

ROWS_AT_ONCE = 50_000
FILES = "parquet"
SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "LOAD__WORKERS": str(CONNECTIONS),
    "NORMALIZE__WORKERS": "1",
    "DATA_WRITER__FILE_MAX_ITEMS": str(ROWS_AT_ONCE),
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


def query(kind: str) -> str:
    """The members, hashed in the warehouse."""
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
    """Arrow tables; files and so load jobs are cut where these end."""
    import pyarrow

    if kind == "duckdb":
        import duckdb

        with duckdb.connect(database, read_only=True) as connection:
            for batch in connection.sql(query(kind)).to_arrow_reader(ROWS_AT_ONCE):
                yield pyarrow.Table.from_batches([batch])
    else:
        import connectorx

        found = connectorx.read_sql(database, query(kind), return_type="arrow_stream", batch_size=ROWS_AT_ONCE)
        for batch in found:
            yield pyarrow.Table.from_batches([batch])


def main() -> None:
    """One first sync."""
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

    phases = {"start": since_begun()}
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
    print(json.dumps({"phases": phases, "write_bytes": written_bytes(), "rss_mb": high_water()}))


if __name__ == "__main__":
    main()
