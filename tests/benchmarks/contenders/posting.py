"""Post members from Python dictionaries in the usual way: requests, orjson, and a check of each status."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import requests
from benchmarks.contenders.by_hand import BATCH, CONNECTIONS, HEADERS
from benchmarks.sink import SEGMENT

WIRE_NAMES = {
    "first_name": "firstName",
    "last_name": "lastName",
    "title": "title",
    "company": "company",
    "country": "country",
}


def element(action: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the element of a member as LinkedIn expects it; a REMOVE has identifiers only."""
    ids = [{"idType": "SHA256_EMAIL", "idValue": row["sha256_email"]}] if row["sha256_email"] else []
    if row["google_aid"]:
        ids.append({"idType": "GOOGLE_AID", "idValue": row["google_aid"]})
    found: dict[str, Any] = {"action": action, "userIds": ids}
    if action == "ADD":
        for name, wire in WIRE_NAMES.items():
            if row[name] is not None:
                found[wire] = row[name]
    return found


class Poster:
    """A client that posts members. Thread-safe, with a session per thread."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/rest/dmpSegments/{SEGMENT}/users"
        self._local = threading.local()

    def post(self, action: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Send one batch.

        Raises:
            RuntimeError: Not all elements were accepted.
        """
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.headers.update(HEADERS)
        elements = [element(action, row) for row in rows]
        answer = self._local.session.post(self._url, data=orjson.dumps({"elements": elements}))
        answer.raise_for_status()
        statuses = [each["status"] for each in orjson.loads(answer.content)["elements"]]
        if statuses != [201] * len(elements):
            raise RuntimeError(f"not all of {len(elements)} elements were accepted")

    def post_all(self, action: str, rows: Sequence[Any], cut: Any) -> None:
        """Send `rows` in batches from eight threads; `cut(rows, start, length)` returns the dictionaries of a batch."""
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(lambda start: self.post(action, cut(rows, start, BATCH)), range(0, len(rows), BATCH)))
