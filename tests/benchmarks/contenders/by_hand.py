"""By hand: the fastest script for a first sync: the snapshot of the floor, the delivery, and a log.

The warehouse writes the JSON of the elements. DuckDB returns the texts as Arrow buffers, of which bodies are slices;
PostgreSQL joins them to complete bodies, by ranges of pages. So Python processes no single row. The script has no
retries, cannot continue after an interruption, and fails at any refused element.

`python -m benchmarks.contenders.by_hand KIND DATABASE SCRIPT SINK` prints the seconds of each step.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import urllib3
from benchmarks.measuring import peak_memory_mb, seconds_since_start, written_bytes
from benchmarks.sink import SEGMENT

CONNECTIONS = 8
BATCH = 5000
FETCH_SIZE = 100_000
HEADERS = {
    "Authorization": "Bearer benchmark",
    "Content-Type": "application/json",
    "LinkedIn-Version": "202609",
    "X-Restli-Protocol-Version": "2.0.0",
    "X-RestLi-Method": "BATCH_CREATE",
}
LOG = (
    "CREATE TABLE floor.sync_log AS SELECT current_timestamp AS logged_at, 1 AS run, operation, "
    "'delivered' AS outcome, identity FROM floor.changes_1"
)


def element_sql(kind: str) -> str:
    """Return an SQL expression for the JSON of an element without the values that are NULL."""

    def quoted(name: str) -> str:
        return f"to_json({name})" if kind == "duckdb" else f"to_json({name})::text"

    names = {"first_name": "firstName", "last_name": "lastName", "title": "title", "company": "company"}
    fields = [f"""coalesce(',"{wire}":' || {quoted(name)}, '')""" for name, wire in names.items()]
    parts = [
        """'{"action":"ADD","userIds":[{"idType":"SHA256_EMAIL","idValue":"' || sha256_email || '"}'""",
        """coalesce(',{"idType":"GOOGLE_AID","idValue":"' || google_aid || '"}', '') || ']'""",
        *fields,
        """coalesce(',"country":"' || country || '"', '') || '}'""",
    ]
    return " || ".join(parts)


class Sender:
    """A client that posts batches. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._pool = urllib3.HTTPConnectionPool(
            url.partition("//")[2].partition(":")[0], int(url.rpartition(":")[2]), maxsize=CONNECTIONS, block=True
        )

    def send(self, elements: bytes, count: int) -> None:
        """Post `count` elements that are joined by commas.

        Raises:
            RuntimeError: Not all elements were accepted.
        """
        body = b'{"elements":[' + elements + b"]}"
        answer = self._pool.request(
            "POST", f"/rest/dmpSegments/{SEGMENT}/users", body=body, headers=HEADERS, retries=False
        )
        if answer.status != 200 or answer.data.count(b'"status":201') != count:
            raise RuntimeError(f"{count} elements were answered {answer.status}: {answer.data[:300]!r}")


def deliver_duckdb(connection: Any, send: Callable[[bytes, int], None]) -> None:
    """Read changes_1 once and send all of it from eight threads."""
    reader = connection.sql(f"SELECT {element_sql('duckdb')} || ',' FROM floor.changes_1").to_arrow_reader(FETCH_SIZE)
    _send_in_parallel(_cut_batches(reader), send)


def _cut_batches(reader: Iterable[Any]) -> Iterator[tuple[bytes, int]]:
    """Yield batches of 5,000 texts of the only column, as slices of its contiguous buffers, with their counts."""
    kept, waiting = b"", 0
    for batch in reader:
        column = batch.column(0)
        _, offsets, texts = column.buffers()
        wide = str(column.type).startswith("large")
        positions = memoryview(offsets).cast("q" if wide else "i")[column.offset : column.offset + len(column) + 1]
        all_texts = memoryview(texts)
        start = 0
        while start < len(column):
            end = min(start + BATCH - waiting, len(column))
            kept += all_texts[positions[start] : positions[end]]
            waiting += end - start
            start = end
            if waiting == BATCH:
                yield kept[:-1], waiting
                kept, waiting = b"", 0
    if waiting:
        yield kept[:-1], waiting


def _send_in_parallel(work: Iterator[tuple[bytes, int]], send: Callable[[bytes, int], None]) -> None:
    permits = threading.Semaphore(CONNECTIONS * 2)

    def send_one(elements: bytes, count: int) -> None:
        try:
            send(elements, count)
        finally:
            permits.release()

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        sent = []
        for elements, count in work:
            permits.acquire()
            sent.append(threads.submit(send_one, elements, count))
        for each in sent:
            each.result()


def deliver_postgres(url: str, send: Callable[[bytes, int], None]) -> None:
    """Send all of snapshot_1 from eight threads, each of which reads ranges of pages over its own connection."""
    import psycopg

    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_relation_size('floor.snapshot_1') / 8192, count(*) FROM floor.snapshot_1")
        pages, rows = found.fetchone() or (0, 0)
    step = max(1, int(BATCH * 0.95 * pages / max(rows, 1)))
    ranges = iter(range(0, pages, step))
    lock = threading.Lock()

    def work() -> None:
        query = (
            f"SELECT string_agg({element_sql('postgres')}, ','), count(*) FROM floor.snapshot_1 "
            "WHERE ctid >= %s::tid AND ctid < %s::tid"
        )
        with psycopg.connect(url) as connection, connection.cursor(binary=True) as cursor:
            while True:
                with lock:
                    first = next(ranges, None)
                if first is None:
                    return
                cursor.execute(query, (f"({first},0)", f"({first + step},0)"))
                result = cursor.pgresult
                assert result is not None
                count = int.from_bytes(result.get_value(0, 1) or b"")
                if count > BATCH:
                    raise RuntimeError(f"{count} rows on {step} pages")
                if count:
                    send(result.get_value(0, 0) or b"", count)

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for each in [threads.submit(work) for _ in range(CONNECTIONS)]:
            each.result()


def main() -> None:
    """Run a first sync."""
    kind, database, script, sink_url = sys.argv[1:]
    phases = {"start": seconds_since_start()}
    sender = Sender(sink_url)

    def timed(name: str, started: float) -> float:
        phases[name] = time.monotonic() - started
        return time.monotonic()

    now = time.monotonic()
    if kind == "duckdb":
        import duckdb

        with duckdb.connect(database) as connection:
            connection.execute(Path(script).read_text())
            now = timed("tables", now)
            deliver_duckdb(connection, sender.send)
            now = timed("add", now)
            connection.execute(LOG)
            now = timed("log", now)
    else:
        import psycopg

        with psycopg.connect(database, autocommit=True) as session:
            for statement in Path(script).read_text().split(";\n"):
                if statement.strip():
                    session.execute(statement)
            now = timed("tables", now)
            deliver_postgres(database, sender.send)
            now = timed("add", now)
            session.execute(LOG)
            now = timed("log", now)
    print(json.dumps({"phases": phases, "write_bytes": written_bytes(), "rss_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
