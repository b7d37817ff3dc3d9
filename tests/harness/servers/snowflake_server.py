"""The server of fakesnow, patched to work with the current connector and to treat patterns and texts as Snowflake does.

`PYTHONPATH=tests python -m harness.servers.snowflake_server` starts it; it ends with its standard input.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import logging
import os
import re
import sys
import threading
import time
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

NO_OP_STATEMENTS = [r"\s*alter\s+session", r"\s*create\s+warehouse", r"\s*grant\b", r"\s*use\s+(role|warehouse)\b"]
"""Statements that the local server accepts without effect."""

REFUSED_USER = "stranger"
"""The user that may not log in. All others may, with any password, key or token."""


def provide_removed_connector_modules() -> None:
    """Provide two modules that fakesnow imports and that the connector removed in version 5."""

    class SnowflakeConverter:
        def to_snowflake(self, value: Any) -> Any:
            return value

        def escape(self, value: Any) -> Any:
            return value.replace("\\", "\\\\").replace("'", "\\'") if isinstance(value, str) else value

        def quote(self, value: Any) -> str:
            return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)

    class SnowflakeFileUtil:
        @staticmethod
        def compress_file_with_gzip(source: str, folder: str) -> tuple[str, int]:
            target = Path(folder) / (Path(source).name + "_c.gz")
            target.write_bytes(gzip.compress(Path(source).read_bytes()))
            return str(target), target.stat().st_size

    for name, content in (("converter", SnowflakeConverter), ("file_util", SnowflakeFileUtil)):
        module = types.ModuleType(f"snowflake.connector.{name}")
        setattr(module, content.__name__, content)
        sys.modules[module.__name__] = module
        setattr(importlib.import_module("snowflake.connector"), name, module)


class ClientLog:
    """The logins and statements of clients, for tests of the client."""

    def __init__(self) -> None:
        self.logins: list[dict[str, Any]] = []
        self.statements: list[dict[str, Any]] = []
        self.tags: dict[str, str] = {}
        self.databases: dict[str, str] = {}

    def add_statement(self, token: str, text: str) -> dict[str, Any]:
        if found := re.match(r"\s*alter\s+session\s+set\s+query_tag\s*=\s*'(.*)'", text, re.I | re.S):
            self.tags[token] = found[1]
        record = {"database": self.databases.get(token, ""), "tag": self.tags.get(token, ""), "sql": text}
        self.statements.append(record)
        return record


def patch_translation() -> None:
    """Add functions that fakesnow does not have, and correct those whose patterns and texts differ from Snowflake."""
    from fakesnow import cursor
    from sqlglot import exp

    def called(name: str, *arguments: Any) -> Any:
        return exp.Anonymous(this=name, expressions=list(arguments))

    def replacement_of(node: Any) -> Any:
        match node:
            case exp.GT(this=exp.RegexpInstr() as found, expression=exp.Literal(this="0")):
                return called("regexp_matches", found.this, found.expression)
            case exp.LTE(this=exp.RegexpInstr() as found, expression=exp.Literal(this="0")):
                return exp.Not(this=called("regexp_matches", found.this, found.expression))
            case exp.RegexpReplace():
                replacement = node.args.get("replacement") or exp.Literal.string("")
                return called("regexp_replace", node.this, node.expression, replacement, exp.Literal.string("g"))
            case exp.RegexpExtract():
                found = called("regexp_extract", node.this, node.expression, node.args["group"])
                return exp.Nullif(this=found, expression=exp.Literal.string(""))
            case exp.SHA2() if (length := node.args.get("length")) and length.name == "512":
                return called("sha512", node.this)
            case exp.Transform() | exp.ArrayFilter():
                # A VARIANT cast to VARCHAR is a text, so lambdas get texts. DuckDB's JSON would keep the quotes.
                as_json = called("to_json", node.this)
                node.set("this", called("from_json", as_json, exp.Literal.string('["VARCHAR"]')))
            case exp.ToArray():
                return node.this
            case exp.ByteLength():
                return called("strlen", node.this)
        return node

    FakeSnowflakeCursor: Any = cursor.FakeSnowflakeCursor  # noqa: N806 - a class
    expressions: Any = exp.Expression
    original = FakeSnowflakeCursor._transform

    def transform(self: Any, expression: Any, params: Any) -> Any:
        # From the leaves up: the walk of sqlglot does not enter nodes that it has just replaced.
        for node in reversed(list(expression.dfs())):
            if (better := replacement_of(node)) is not node:
                node.replace(better)
        return original(self, expression, params)

    def describe(self: Any) -> list[Any]:
        # The statement is already in DuckDB's SQL. Parsing it again took a third of a run.
        with self._conn.cursor() as other:
            described: list[Any] = other._duck_conn.execute(f"DESCRIBE {self._last_sql}", self._last_params).fetchall()
            return described

    FakeSnowflakeCursor._transform = transform
    FakeSnowflakeCursor._describe_last_sql = describe
    expressions.transform = transform_in_place
    # A dollar sign in a text is not a variable.
    FakeSnowflakeCursor._inline_variables = lambda self, sql: sql


TRANSLATION = threading.local()
"""The statement that is being translated (`root`), its `nodes` and their `types`."""


@cache
def node_types_in(code: types.CodeType) -> tuple[type, ...]:
    """Return the types of nodes that a step of the translation handles. Without such a node it changes nothing."""
    import fakesnow.transforms
    from sqlglot import exp

    found = [getattr(exp, name) for name in code.co_names if isinstance(getattr(exp, name, None), type)]
    for name in code.co_names if code.co_name == "<lambda>" else ():
        inner = getattr(fakesnow.transforms, name, None)
        found += node_types_in(inner.__code__) if isinstance(inner, types.FunctionType) else ()
    return tuple(kind for kind in found if issubclass(kind, exp.Expression))


def iterate_nodes(root: Any) -> Iterator[Any]:
    from sqlglot import exp

    rest = [root]
    while rest:
        node = rest.pop()
        yield node
        for value in node.args.values():
            if type(value) is list:
                rest += [child for child in value if isinstance(child, exp.Expression)]
            elif isinstance(value, exp.Expression):
                rest.append(value)


def transform_in_place(root: Any, change: Any, *given: Any, copy: bool = False, **named: Any) -> Any:
    """Do what sqlglot's `transform` does without a copy of the tree: its many walks took most of a run."""
    if getattr(TRANSLATION, "root", None) is not root:
        TRANSLATION.root, TRANSLATION.nodes = root, list(iterate_nodes(root))
        TRANSLATION.types = {type(node) for node in TRANSLATION.nodes}
    wanted = node_types_in(change.__code__)
    if wanted and not any(issubclass(kind, wanted) for kind in TRANSLATION.types):
        return root
    for node in TRANSLATION.nodes:
        if wanted and not isinstance(node, wanted):
            continue
        better = change(node, *given, **named)
        if better is not node:
            TRANSLATION.root = None
            if node is root:
                return better
            node.replace(better)
    return root


def patch_arrow_results() -> None:
    """Correct results that have NULL timestamps or several record batches, so that the connector can read them."""
    import fakesnow.arrow
    import pyarrow
    import pyarrow.compute

    arrow: Any = fakesnow.arrow
    server: Any = importlib.import_module("fakesnow.server")
    original, to_ipc = arrow.timestamp_to_sf_struct, arrow.to_ipc

    def timestamps(column: Any) -> Any:
        column = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
        filled = original(column.fill_null(datetime(1970, 1, 1, tzinfo=UTC if column.type.tz else None)))
        fields = [filled.type.field(place) for place in range(filled.type.num_fields)]
        return pyarrow.StructArray.from_arrays(filled.flatten(), fields=fields, mask=column.is_null())

    arrow.timestamp_to_sf_struct = timestamps
    server.to_ipc = lambda table: to_ipc(table.combine_chunks())


def inline_parameters(body: dict[str, Any]) -> None:
    """Write the parameters into the statement: the translation may duplicate an expression with a question mark."""
    import sqlglot
    from fakesnow.converter import from_binding

    def literal(kind: str, value: Any) -> str:
        given = None if value is None else from_binding({"type": kind, "value": value})
        if isinstance(given, str) and kind == "TEXT":
            return "'" + given.replace("\\", "\\\\").replace("'", "''") + "'"
        if isinstance(given, datetime):
            return f"'{given:%Y-%m-%d %H:%M:%S.%f}'::timestamp_ntz"
        return "null" if given is None else str(given)

    bindings = body.pop("bindings", None) or {}
    columns = [bindings[str(place)] for place in range(1, len(bindings) + 1)]
    text, parts, last = body["sqlText"], list[str](), 0
    if any(isinstance(column["value"], list) for column in columns):
        # Many rows at once: an INSERT of the tests, whose values are all parameters.
        head = text[: text.lower().rindex("values")]
        given = [[literal(column["type"], value) for value in column["value"]] for column in columns]
        rows = ", ".join(f"({', '.join(row)})" for row in zip(*given, strict=True))
        body["sqlText"] = f"{head} values {rows}"
        return
    tokens = sqlglot.tokenize(text, read="snowflake") if columns else []
    marks = [token for token in tokens if token.text == "?" and token.end == token.start]
    for column, mark in zip(columns, marks, strict=True):
        parts += [text[last : mark.start], literal(column["type"], column["value"])]
        last = mark.end + 1
    body["sqlText"] = "".join(parts) + text[last:]


def make_app() -> Any:
    """Return the application of fakesnow with all corrections that the connector and the tests need."""
    provide_removed_connector_modules()
    import duckdb

    # `from fakesnow import server` would import a function of that name.
    server: Any = importlib.import_module("fakesnow.server")
    patch_translation()
    patch_arrow_results()
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    logging.getLogger("fakesnow.server").setLevel(logging.CRITICAL if "-q" in sys.argv else logging.ERROR)
    log = ClientLog()
    server.shared_fs.nop_regexes = NO_OP_STATEMENTS

    def sha512(text: str) -> str:
        return hashlib.sha512(text.encode()).hexdigest()

    server.shared_fs.duck_conn.create_function("sha512", sha512, ["VARCHAR"], "VARCHAR")

    async def body_of(request: Request) -> dict[str, Any]:
        body = await request.body()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        found: dict[str, Any] = json.loads(body)
        return found

    def with_body(request: Request, body: dict[str, Any]) -> Request:
        request._body = json.dumps(body).encode()
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"content-encoding"]
        copy = Request(request.scope)
        copy._body = request._body
        return copy

    async def login(request: Request) -> JSONResponse:
        body = await body_of(request)
        data = body["data"]
        parameters = data.setdefault("SESSION_PARAMETERS", {})
        database = (request.query_params.get("databaseName") or "").upper()
        log.logins.append({**data, "query": dict(request.query_params), "database": database})
        if data.get("LOGIN_NAME") == REFUSED_USER:
            message = "Incorrect username or password was specified."
            return JSONResponse({"data": {}, "code": "390100", "message": message, "success": False})
        if isinstance(parameters.get("AUTOCOMMIT"), str):
            parameters["AUTOCOMMIT"] = parameters["AUTOCOMMIT"].lower() == "true"
        answer = await server.login_request(with_body(request, body))
        content = json.loads(answer.body)
        token = content["data"]["token"]
        log.tags[token] = parameters.get("QUERY_TAG", "")
        log.databases[token] = database
        content["data"] |= {
            "masterToken": token,
            "validityInSeconds": 3600,
            "masterValidityInSeconds": 14400,
            "sessionId": len(log.logins),
        }
        return JSONResponse(content)

    async def query(request: Request) -> Any:
        body = await body_of(request)
        token = request.headers.get("Authorization", "")[17:-1]
        record = log.add_statement(token, body["sqlText"])
        inline_parameters(body)
        if described := re.fullmatch(r"\s*describe schema (\w+)\s*", body["sqlText"], re.I):
            connection = server.sessions[token]
            known = connection._duck_conn.execute(
                "select 1 from information_schema.schemata where catalog_name ilike ? and schema_name ilike ?",
                [connection.database, described[1]],
            ).fetchone()
            if not known:
                return schema_not_found(described[1])
            body["sqlText"] = "select 1"
        began = time.monotonic()
        answer = await server.query_request(with_body(request, body))
        record["seconds"] = str(round(time.monotonic() - began, 4))
        if b"already exists" in answer.body[:1000]:
            answer = JSONResponse({**json.loads(answer.body), "code": "002002"})
        return answer

    def schema_not_found(name: str) -> JSONResponse:
        message = f"SQL compilation error:\nSchema '{name}' does not exist or not authorized."
        data = {"errorCode": "002043", "sqlState": "02000"}
        return JSONResponse({"data": data, "code": "002043", "message": message, "success": False})

    def records_of_database(request: Request, records: list[dict[str, Any]]) -> JSONResponse:
        database = request.query_params["database"].upper()
        return JSONResponse([record for record in records if record["database"] == database])

    async def logins(request: Request) -> JSONResponse:
        return records_of_database(request, log.logins)

    async def statements(request: Request) -> JSONResponse:
        return records_of_database(request, log.statements)

    async def forget(request: Request) -> JSONResponse:
        """Drop a database, its sessions and its records, so that no test sees what another one did."""
        database = request.query_params["database"].upper()
        for token in [token for token, name in log.databases.items() if name == database]:
            if connection := server.sessions.pop(token, None):
                connection._duck_conn.close()
            del log.databases[token]
        log.logins = [login for login in log.logins if login["database"] != database]
        log.statements = [statement for statement in log.statements if statement["database"] != database]
        try:
            server.shared_fs.duck_conn.execute(f"DETACH DATABASE IF EXISTS {database}")
        except duckdb.Error as error:
            return JSONResponse({"error": str(error)})
        return JSONResponse({})

    replaced = {
        "/session/v1/login-request": Route("/session/v1/login-request", login, methods=["POST"]),
        "/queries/v1/query-request": Route("/queries/v1/query-request", query, methods=["POST"]),
    }
    routes = [replaced.get(route.path, route) for route in server.routes]
    routes += [
        Route("/telemetry/send", lambda _: JSONResponse({"success": True, "data": None}), methods=["POST"]),
        Route("/harness/logins", logins),
        Route("/harness/statements", statements),
        Route("/harness/forget", forget),
    ]
    return Starlette(routes=routes)


def serve() -> None:
    """Serve until standard input is closed, so that the server does not outlive the process that started it."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            sys.stdout.write(f"port {self.servers[0].sockets[0].getsockname()[1]}\n")
            sys.stdout.flush()

    running = Server(uvicorn.Config(make_app(), host="127.0.0.1", port=0, log_level="error"))

    def end_with_input() -> None:
        sys.stdin.read()
        running.should_exit = True
        time.sleep(3)
        os._exit(0)

    threading.Thread(target=end_with_input, daemon=True).start()
    running.run()


if __name__ == "__main__":
    serve()
