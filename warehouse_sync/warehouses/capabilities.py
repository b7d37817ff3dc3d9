"""What a warehouse engine can do beyond what every run needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """The optional abilities of an engine; each engine declares its own as `Warehouse.capabilities`.

    Attributes:
        row_hashes: `Dialect.row_hash` returns a hash per row, so unchanged rows of the query can be reused. Without it
            every run normalises and hashes all rows again.
        row_ids: `Tables.row_id` identifies a row, and the engine finds a row by it as fast as it reads the row.
        numbered_tables: Rows are numbered in the order of their insertion. Enables `Tables.create_numbered_table` and
            `Tables.append_numbered_rows`.
        transactional_ddl: A rollback also removes the tables that its transaction created. Without it migrations must
            be repeatable.
    """

    row_hashes: bool = False
    row_ids: bool = False
    numbered_tables: bool = False
    transactional_ddl: bool = True
