"""The worker's own tables and views: how most engines make and drop them, and number their rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

MEMBER_NUMBER = "line"
"""The column of a snapshot that numbers its members, where the engine has to be told to number them."""


class Tables:
    """What a warehouse does with the tables of its schema. None of it commits."""

    schema: str

    def has_schema(self, connection: sa.Connection) -> bool:
        """Whether the schema of the worker's own tables is there."""
        return sa.inspect(connection).has_schema(self.schema)

    def has_table(self, connection: sa.Connection, name: str) -> bool:
        """Whether one of the worker's own tables is there."""
        return sa.inspect(connection).has_table(name, schema=self.schema)

    def create_schema(self, connection: sa.Connection) -> None:
        """Make the schema of the worker's own tables unless it is there."""
        if not self.has_schema(connection):
            connection.execute(sa.schema.CreateSchema(self.schema, if_not_exists=True))

    def prepare_migrations(self) -> None:
        """Called before Alembic is used, for dialects that it does not know by itself."""

    @contextmanager
    def lock_migrations(self, connection: sa.Connection) -> Iterator[None]:
        """Within this block no other worker migrates; for engines that let several in at a time."""
        yield

    def serialise_writers(self, connection: sa.Connection, table: sa.Table) -> None:
        """Until this transaction ends others that come here wait; for engines that do not keep keys unique."""

    @contextmanager
    def prefer_full_joins(self, connection: sa.Connection) -> Iterator[None]:
        """Within this block rows are not looked up one by one, however few of them the engine expects to be looked up.

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
        """`table` holds the rows of `select`. A temporary one is gone with the connection.

        ordered_by: a column by whose windows the table is read; for engines that find rows by where they lie. What is
        made so is read once or twice and dropped after the next run.
        """
        connection.execute(sa.CreateTableAs(select, table.name, schema=table.schema, temporary=temporary))

    def create_view_as(
        self, connection: sa.Connection, view: sa.TableClause, select: sa.SelectBase, *, temporary: bool = False
    ) -> None:
        """`view` shows the rows of `select`. A temporary one is gone with the connection."""
        connection.execute(sa.CreateView(select, view.name, schema=view.schema, temporary=temporary))

    def create_numbered_table(
        self, connection: sa.Connection, table: sa.TableClause, select: sa.SelectBase, *, temporary: bool = False
    ) -> None:
        """`table` shows the rows of `select` in any order, and their numbers as `seq`.

        They run from 1 without gaps once that is committed; before, only their order is right. What is made so is read
        once or twice and dropped after the next run. A temporary one is gone with the connection.
        """
        raise NotImplementedError

    def append_numbered_rows(self, connection: sa.Connection, table: sa.TableClause, select: sa.SelectBase) -> None:
        """`table`, which this transaction has made by `create_numbered`, shows these rows too, behind those before."""
        raise NotImplementedError

    def member_number(self, is_member: sa.ColumnElement[bool]) -> sa.ColumnElement[int] | None:
        """What a snapshot keeps as LINE if its members shall be numbered, from 1 and without gaps.

        None for engines that number rows by themselves, or none cheaper than writing the snapshot once more.
        """
        return None

    def stored_member_number(self, *, all_members: bool) -> sa.ColumnElement[int] | None:
        """The number of each member, the same in each statement, in a snapshot that was made to be numbered.

        all_members: it has no other rows. None where there are no such numbers.
        """
        return None

    def analyse(self, connection: sa.Connection, table: sa.TableClause, *columns: str, ordered_by: str = "") -> None:
        """Called once behind `create_table_as`: whatever the engine needs to find rows and to plan joins well."""

    def row_id(self, table: str) -> sa.ColumnElement[int]:
        """What tells a row of the table, which the statement knows by this name, from all others in a transaction."""
        raise NotImplementedError

    def drop_created_table(self, connection: sa.Connection, table: sa.TableClause) -> None:
        """What this transaction has made by `create_table_as` is gone."""
        connection.execute(sa.schema.DropTable(sa.Table(table.name, sa.MetaData(), schema=table.schema)))

    def drop_table(self, connection: sa.Connection, name: str) -> None:
        """One of the worker's own tables or views is gone afterwards, whether it was there or not."""
        table = sa.Table(name, sa.MetaData(), schema=self.schema)
        may_be_view = self.stored_member_number(all_members=True) is not None
        is_view = may_be_view and name in sa.inspect(connection).get_view_names(self.schema)
        drop = sa.schema.DropView if is_view else sa.schema.DropTable
        connection.execute(drop(table, if_exists=True))
