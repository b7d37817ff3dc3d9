"""Connections to Snowflake: the arguments of the connector, and no statement that is not needed."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa


def make_engine(url: sa.URL, arguments: Mapping[str, Any] | None = None, **options: Any) -> sa.Engine:
    """Return an engine for a URL of the configuration.

    `host`, `port` and `protocol` may be in the URL's query: the dialect accepts them as arguments only.

    Args:
        url: The URL.
        arguments: Arguments of the connector.
        options: Options of `sqlalchemy.create_engine`.
    """
    given = dict(url.query)
    address: dict[str, Any] = {name: str(given.pop(name)) for name in ("host", "port", "protocol") if name in given}
    connect: dict[str, Any] = {"paramstyle": "qmark", **address, **(arguments or {})}
    if "workload_identity_provider" not in given:
        connect["platform_detection_timeout_seconds"] = 0  # Else it asks the metadata services of clouds at each login.
    engine = sa.create_engine(
        url.set(query=given),
        # Values are sent beside the statement: per cent signs have no meaning, and the query history has no values.
        paramstyle="qmark",
        connect_args=connect,
        hide_parameters=True,
        **options,
    )
    _skip_empty_transactions(engine)
    return engine


def _skip_empty_transactions(engine: sa.Engine) -> None:
    """Send no COMMIT or ROLLBACK where no transaction is open: they would be a third of the statements of a run.

    Reading opens no transaction here, and DDL commits by itself.
    """
    writing: weakref.WeakSet[Any] = weakref.WeakSet()
    dialect: Any = engine.dialect
    commit, rollback = dialect.do_commit, dialect.do_rollback

    def note(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE", "MERGE "):
            writing.add(connection.connection.dbapi_connection)

    def end(how: Any, connection: Any) -> None:
        driver = getattr(connection, "dbapi_connection", connection)  # The pool's wrapper, or the connection itself.
        if driver in writing:
            how(connection)
            writing.discard(driver)

    sa.event.listen(engine, "before_cursor_execute", note)
    dialect.do_commit = lambda connection: end(commit, connection)
    dialect.do_rollback = lambda connection: end(rollback, connection)


def login_arguments(private_key: bytes | None, oauth_token: str | None) -> dict[str, Any]:
    """Return the arguments of the connector for a login by key pair or OAuth token."""
    if private_key is not None:
        return {"authenticator": "SNOWFLAKE_JWT", "private_key": private_key}
    if oauth_token is not None:
        return {"authenticator": "OAUTH", "token": oauth_token}
    return {}
