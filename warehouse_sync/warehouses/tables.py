"""How most engines create, drop and number the worker's own tables and views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

MEMBER_NUMBER = "line"
"""The column of a snapshot with the numbers of its members, on engines that do not number rows by themselves."""


class Tables:
    """The operations of a warehouse on the tables of its schema. None of them commits.

    Attributes:
        schema: The schema of the worker's own tables.
    """

    schema: str

    def has_schema(self, connection: sa.Connection) -> bool:
        """Return whether the schema of the worker's own tables exists."""
        return sa.inspect(connection).has_schema(self.schema)

    def has_table(self, connection: sa.Connection, name: str) -> bool:
        """Return whether one of the worker's own tables exists."""
        return sa.inspect(connection).has_table(name, schema=self.schema)

    def create_schema(self, connection: sa.Connection) -> None:
        """Create the schema of the worker's own tables unless it exists."""
        if not self.has_schema(connection):
            connection.execute(sa.schema.CreateSchema(self.schema, if_not_exists=True))

    def prepare_migrations(self) -> None:
        """Register the engine with Alembic, where Alembic does not know it by itself."""

    @contextmanager
    def lock_migrations(self, connection: sa.Connection) -> Iterator[None]:
        """Keep other workers from migrating within this block, on engines that several processes use at a time."""
        yield

    def serialise_writers(self, connection: sa.Connection, table: sa.Table) -> None:
        """Make other transactions that call this wait for the end of this one, on engines without unique keys."""

    @contextmanager
    def prefer_full_joins(self, connection: sa.Connection) -> Iterator[None]:
        """Keep the engine from nested-loop joins within this block, however few rows it expects.

        For engines that plan by estimates. It belongs to a transaction, which a failure must end.
        """
        yield

    def create_table_as(
        self,
        connection: sa.Connection,
        table: sa.TableClause,
        select: sa.SelectBase,
        *,
        temporary: bool = False,
        ordered_by: str = "",
    ) -> None:
        """Create `table` from the rows of `select`.

        Args:
            connection: A connection.
            table: The name and the schema of the new table.
            select: Its rows.
            temporary: Drop the table with the connection.
            ordered_by: A column by whose ranges the table is read, for engines that find rows by their position. Such
                a table is read once or twice and dropped after the next run.
        """
        connection.execute(sa.CreateTableAs(select, table.name, schema=table.schema, temporary=temporary))

    def create_view_as(
        self, connection: sa.Connection, view: sa.TableClause, select: sa.SelectBase, *, temporary: bool = False
    ) -> None:
        """Create a view of `select`; a temporary one is dropped with the connection."""
        connection.execute(sa.CreateView(select, view.name, schema=view.schema, temporary=temporary))

    def create_numbered_table(
        self, connection: sa.Connection, table: sa.TableClause, select: sa.SelectBase, *, temporary: bool = False
    ) -> None:
        """Create `table` from the rows of `select` in any order, with their numbers as `seq`.

        The numbers run from 1 without gaps once the transaction is committed; before, only their order is right. Such
        a table is read once or twice and dropped after the next run; a temporary one is dropped with the connection.
        """
        raise NotImplementedError

    def append_numbered_rows(self, connection: sa.Connection, table: sa.TableClause, select: sa.SelectBase) -> None:
        """Append rows to `table`, which this transaction has created by `create_numbered_table`."""
        raise NotImplementedError

    def member_number(self, is_member: sa.ColumnElement[bool]) -> sa.ColumnElement[int] | None:
        """Return what a snapshot stores as MEMBER_NUMBER: numbers of its members from 1 without gaps.

        Returns:
            None for engines that number rows by themselves, or not more cheaply than by writing the snapshot again.
        """
        return None

    def stored_member_number(self, *, all_members: bool) -> sa.ColumnElement[int] | None:
        """Return the number of each member in a stored snapshot, the same in each statement.

        Args:
            all_members: All rows of the snapshot are members.

        Returns:
            None where there are no such numbers.
        """
        return None

    def analyse(self, connection: sa.Connection, table: sa.TableClause, *columns: str, ordered_by: str = "") -> None:
        """Give the engine what it needs to find rows and to plan joins; called once after `create_table_as`."""

    def row_id(self, table: str) -> sa.ColumnElement[int]:
        """Return what identifies a row of the table, which the statement knows by this name, within a transaction."""
        raise NotImplementedError

    def drop_created_table(self, connection: sa.Connection, table: sa.TableClause) -> None:
        """Drop a table that this transaction has created by `create_table_as`."""
        connection.execute(sa.schema.DropTable(sa.Table(table.name, sa.MetaData(), schema=table.schema)))

    def drop_table(self, connection: sa.Connection, name: str) -> None:
        """Drop one of the worker's own tables or views, if it exists."""
        table = sa.Table(name, sa.MetaData(), schema=self.schema)
        may_be_view = self.stored_member_number(all_members=True) is not None
        is_view = may_be_view and name in sa.inspect(connection).get_view_names(self.schema)
        drop = sa.schema.DropView if is_view else sa.schema.DropTable
        connection.execute(drop(table, if_exists=True))
