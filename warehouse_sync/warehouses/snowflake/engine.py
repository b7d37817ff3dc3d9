"""Connections to Snowflake: what the connector is given, and no statement that can be spared."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa


def make_engine(url: sa.URL, arguments: Mapping[str, Any] | None = None, **options: Any) -> sa.Engine:
    """An engine for a URL of the configuration; `arguments` are the connector's.

    `host`, `port` and `protocol` may stand in the URL's query: the dialect takes them as arguments only.
    """
    given = dict(url.query)
    address: dict[str, Any] = {name: str(given.pop(name)) for name in ("host", "port", "protocol") if name in given}
    connect: dict[str, Any] = {"paramstyle": "qmark", **address, **(arguments or {})}
    if "workload_identity_provider" not in given:
        connect["platform_detection_timeout_seconds"] = 0  # It asks clouds' metadata services at each login.
    engine = sa.create_engine(
        url.set(query=given),
        # Values go to the server beside the statement: per cent signs mean nothing, and histories hold no values.
        paramstyle="qmark",
        connect_args=connect,
        hide_parameters=True,
        **options,
    )
    _skip_empty_transactions(engine)
    return engine


def _skip_empty_transactions(engine: sa.Engine) -> None:
    """No COMMIT or ROLLBACK is sent where no transaction is open: a third of all statements of a run would be these.

    Reading opens none here, and what makes or drops tables commits by itself.
    """
    writing: weakref.WeakSet[Any] = weakref.WeakSet()
    dialect: Any = engine.dialect
    commit, rollback = dialect.do_commit, dialect.do_rollback

    def note(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE", "MERGE "):
            writing.add(connection.connection.dbapi_connection)

    def end(how: Any, connection: Any) -> None:
        driver = getattr(connection, "dbapi_connection", connection)  # The pool's cover over it, or itself.
        if driver in writing:
            how(connection)
            writing.discard(driver)

    sa.event.listen(engine, "before_cursor_execute", note)
    dialect.do_commit = lambda connection: end(commit, connection)
    dialect.do_rollback = lambda connection: end(rollback, connection)


def login_arguments(private_key: bytes | None, oauth_token: str | None) -> dict[str, Any]:
    """The connector's arguments for the ways to log in."""
    if private_key is not None:
        return {"authenticator": "SNOWFLAKE_JWT", "private_key": private_key}
    if oauth_token is not None:
        return {"authenticator": "OAUTH", "token": oauth_token}
    return {}
