"""The part of a configuration that says where the data is, and how to log in there."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from warehouse_sync import config_values as kind
from warehouse_sync import snowflake_login
from warehouse_sync.config_problems import Found, Part, validate
from warehouse_sync.config_secrets import PrivateKey, Secret, WarehouseUrl


class WarehouseConfig(Part):
    """Where the data is, and the worker's own tables with it."""

    named: ClassVar[bool] = True

    name: kind.Name
    url: Annotated[
        WarehouseUrl,
        Field(
            description="SQLAlchemy address: duckdb:///file.duckdb, postgresql+psycopg://user:password@host/db or "
            "snowflake://user@account/db/schema?warehouse=w&role=r"
        ),
    ]
    schema_: Annotated[
        kind.Schema,
        Field(alias="schema", description="Where the worker keeps its own tables; made by the first run"),
    ] = "warehouse_sync"
    lease: Annotated[
        kind.Seconds,
        Field(ge=5, description="How long a worker that has fallen silent keeps its sync; at least 5s"),
    ] = 60.0
    memory_limit: Annotated[
        kind.MemoryLimit | None,
        Field(description="DuckDB only: what the engine may use in the worker, 512MB unless given"),
    ] = None
    private_key: Annotated[
        PrivateKey | None,
        Field(description="Snowflake only: the user's private key in PEM, in place of a password"),
    ] = None
    private_key_passphrase: Annotated[
        Secret | None,
        Field(description="Snowflake only: opens private_key where that is encrypted"),
    ] = None
    oauth_token: Annotated[
        Secret | None,
        Field(description="Snowflake only: an OAuth access token, in place of a password; it is not renewed"),
    ] = None

    @model_validator(mode="wrap")
    @classmethod
    def _has_room(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        problem = kind.schema_problem(made.url.get_secret_value(), made.schema_)
        found: list[Found] = [(("schema",), problem)] if problem else []
        if made.memory_limit is not None and not made.url.get_secret_value().startswith("duckdb:"):
            found.append((("memory_limit",), "is for DuckDB only: elsewhere the warehouse's own server has the work"))
        return validate(
            lambda _: made, data, [*found, *snowflake_login.problems(made.url.get_secret_value(), *made.login)]
        )

    @property
    def login(self) -> tuple[str | None, str | None, str | None]:
        """Private key, its passphrase, OAuth token."""
        given = (self.private_key, self.private_key_passphrase, self.oauth_token)
        key, passphrase, token = (None if secret is None else secret.get_secret_value() for secret in given)
        return key, passphrase, token
