"""PostgreSQL 13 and later."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
from warehouse_sync.fields import Field
from warehouse_sync.operations import Elements
from warehouse_sync.warehouses.base import Text, Warehouse, as_told, texts_select
from warehouse_sync.warehouses.values import EMAIL_WITHIN, JSON_ARRAY, JSON_BEGINS, NOT_A_LIST

NAMES_ONLY = ("08", "28", "3D", "3F", "42", "53", "57")
"""SQLSTATE classes whose messages speak of names, rights and resources, not of values."""


GONE = ("08", "25P03", "57P")
"""SQLSTATEs of a session or a server that went away begin so; without any, libpq itself could not talk to it."""


SILENT = re.compile(
    "refused|timeout|timed out|failed to resolve|could not translate|unreachable|No route|reset by peer|closed the "
    "connection|starting up|shutting down|too many clients|recovery mode"
)
"""In messages of libpq, and of a server that is not ready yet."""


class PostgreSQL(Warehouse):
    """A PostgreSQL database, through psycopg 3."""

    def make_engine(self) -> sa.Engine:
        engine = sa.create_engine(
            self.url,
            hide_parameters=True,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "application_name": "warehouse-sync"},
        )
        sa.event.listen(engine, "connect", self._limit_idle_transactions)
        return engine

    def _limit_idle_transactions(self, driver: Any, _: Any) -> None:
        """A worker that stands still keeps its locks for no longer than its lease: another one waits for them."""
        # Not as an option of the connection: poolers refuse those.
        driver.execute(f"SET idle_in_transaction_session_timeout = {round(self.lease * 1000)}")
        driver.commit()

    def grants(self, role: str, tables: Sequence[tuple[str, ...]], *, may_create_schema: bool) -> list[str]:
        worker, schema = self.quote(role), self.quote(self.schema)
        database = self.quote(self.url.database or role)  # As libpq has it.
        on_database = "CONNECT, TEMPORARY, CREATE" if may_create_schema else "CONNECT, TEMPORARY"
        own = [f"CREATE SCHEMA IF NOT EXISTS {schema}", f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {worker}"]
        homes = dict.fromkeys(self.quote(table[-2]) for table in tables if len(table) > 1)
        return [
            f"GRANT {on_database} ON DATABASE {database} TO {worker}",
            *([] if may_create_schema else own),
            *(f"GRANT USAGE ON SCHEMA {home} TO {worker}" for home in homes),
            *dict.fromkeys(f"GRANT SELECT ON TABLE {self.quote(*table)} TO {worker}" for table in tables),
        ]

    @contextmanager
    def lock_migrations(self, connection: sa.Connection) -> Iterator[None]:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("warehouse-sync " + self.schema))))
        yield

    def is_silent(self, error: sa.exc.DBAPIError) -> bool:
        # libpq tells neither by a code.
        return SILENT.search(str(error.orig)) is not None

    def check_server(self, connection: sa.Connection) -> None:
        encoding = connection.scalar(sa.text("show server_encoding"))
        if encoding != "UTF8":
            raise ConfigurationError(
                f"warehouses.{self.name}.url: the database is encoded in {encoding}, but hashes of e-mail addresses "
                "are taken from UTF-8. Nothing was touched; use a database with ENCODING 'UTF8'."
            )

    def cancel(self, driver: Any) -> None:
        driver.cancel_safe(timeout=5.0)

    def translate(self, error: sa.exc.DBAPIError, doing: str) -> WarehouseSyncError:
        state = getattr(error.orig, "sqlstate", None)
        if isinstance(error, sa.exc.OperationalError) and (state is None or state.startswith(GONE)):
            return self.lost(doing)
        return super().translate(error, doing)

    def explain(self, error: sa.exc.DBAPIError) -> str:
        cause = error.orig
        state = getattr(cause, "sqlstate", None)
        if state is None:
            # No answer from a server: the text is libpq's own (no route, refused, password missing).
            return as_told(str(cause))
        if state[:2] in NAMES_ONLY:
            primary = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause)
            return as_told(primary)
        return f"{type(cause).__name__}, SQLSTATE {state} (the message is not shown because it may hold values of rows)"

    def computed_once(self, select: sa.Select[Any], name: str) -> sa.Subquery:
        # The planner merges plain subqueries into the query above and repeats each expression wherever it is named:
        # hashing a snapshot took thirty times as long.
        return select.offset(0).subquery(name)

    def after_load(self, connection: sa.Connection, table: sa.TableClause, *columns: str, ordered_by: str = "") -> None:
        name = self.quote(*filter(None, (table.schema, table.name)))
        if ordered_by:
            # Rows are read in this order without sorting them, and any window of them is found.
            connection.execute(self.verbatim(f"CREATE INDEX ON {name} ({self.quote(ordered_by)})"))
        # A table made by CREATE TABLE AS has no statistics until autovacuum comes by, and the diff comes first.
        connection.execute(self.verbatim(f"ANALYZE {name} ({', '.join(map(self.quote, columns))})"))

    def stream(
        self, connection: sa.Connection, changes: sa.TableClause, text: Text, after: int, last: int, size: int
    ) -> Generator[Elements, None, None]:
        # Each piece is one row, made by the server, so that the worker has next to nothing to do for it; and no cursor
        # is open while pieces are sent, which would be a transaction that the server ends with the lease.
        first, until = sa.bindparam("first", type_=sa.BigInteger), sa.bindparam("until", type_=sa.BigInteger)
        seq, each = texts_select(changes, text, first, until).subquery().c
        texts = sa.func.string_agg(each, postgresql.aggregate_order_by(sa.literal("", sa.Text), seq))
        select = sa.select(texts, sa.func.count(), sa.func.count(seq.distinct()))
        while after < last:
            piece = min(size, last - after)
            joined, rows, numbers = connection.execute(select, {"first": after, "until": after + piece}).one()
            connection.rollback()
            if not rows == numbers == piece:
                break
            after += piece
            elements = Elements(joined.encode(), piece)
            del joined  # Not to be kept while the piece is sent.
            yield elements

    def seconds(self, count: float | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.cast(count, sa.Double))

    def as_text(self, column: sa.ColumnElement[Any]) -> Text:
        # The column's own collation may be one that regular expressions refuse, or that clashes with another column's.
        return sa.collate(super().as_text(column), "C")

    def lower_ascii(self, value: Text) -> Text:
        # In a Turkish locale lower('I') is a dotless i.
        return sa.func.lower(sa.collate(value, "C"))

    def upper_ascii(self, value: Text) -> Text:
        return sa.func.upper(sa.collate(value, "C"))

    def hash_text(self, value: Text, algorithm: str) -> Text:
        # A cast to bytea would read backslashes as escapes.
        octets = sa.func.convert_to(value, "UTF8")
        return sa.func.encode(sa.Function(algorithm, octets), "hex")

    def digest(self, value: Text) -> sa.ColumnElement[Any]:
        octets = sa.func.substr(sa.func.sha256(sa.func.convert_to(value, "UTF8")), 1, 16)
        return sa.cast(sa.func.encode(octets, "hex"), sa.Uuid)

    def text_list(self, column: sa.ColumnElement[Any], field: Field) -> Text:
        # A column of type json may hold escapes and numbers that the server stores but cannot read (NUL, half a
        # surrogate pair, 1e400000). to_jsonb would raise; so whatever has an escape is looked at before it is read.
        json = sa.func.to_json(column)
        octets = sa.cast(json, sa.Text)
        escaped = sa.func.strpos(octets, "\\u") > 0
        text = sa.case((~escaped | self.matches("[" + octets + "]", JSON_ARRAY), json.op("#>>")(sa.text("'{}'"))))
        items = sa.case(
            (
                sa.func.json_typeof(json) == "array",
                sa.case((~escaped | self.matches(octets, JSON_ARRAY), json)),
            ),
            (self.matches(text, JSON_ARRAY), sa.cast(text, postgresql.JSON)),
            (~self.matches(text, JSON_BEGINS), sa.func.to_json(sa.func.string_to_array(text, ","))),
        )
        each = sa.func.json_array_elements_text(items).table_valued("item", with_ordinality="place", name="items")
        each = each.render_derived()
        item = self.trim(sa.collate(each.c.item, "C"))
        first = (
            sa.select(sa.func.left(item, field.max_length).label("item"), each.c.place)
            .where(item != "", ~self.matches(item, EMAIL_WITHIN))
            .order_by(each.c.place)
            .limit(field.max_items)
            .subquery("first_items")
        )
        ordered = postgresql.aggregate_order_by(first.c.item, first.c.place)
        found = sa.select(sa.cast(sa.func.json_agg(ordered), sa.Text)).select_from(first).scalar_subquery()
        unreadable = items.is_(None) & (sa.func.json_typeof(json) != "null")
        return sa.case((unreadable, sa.literal(NOT_A_LIST, sa.Text)), else_=found)
