"""Check how a worker logs in to Snowflake: the content of the URL, and that there is exactly one login method."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from warehouse_sync.config.types import is_loopback
from warehouse_sync.config.validation import Violation, invalid_value, join_names

LOGIN_KEYS = ("private_key", "private_key_passphrase", "oauth_token")
"""Keys of a warehouse that are for Snowflake only."""

URL_PARAMETERS = (
    "warehouse",
    "role",
    "host",
    "port",
    "protocol",
    "authenticator",
    "workload_identity_provider",
    "proxy_host",
    "proxy_port",
)
"""The parameters that the query of a URL may have."""

PLACES_OF_OTHER_PARAMETERS = {
    "password": "between user and @",
    "account": "as the host",
    "user": "in front of @",
    "database": "as the path",
    "schema": "after the database, as in snowflake://account/database/schema",
    "token": "under oauth_token",
    "private_key": "under private_key",
    "private_key_file": "under private_key, as {file: /path}",
    "private_key_passphrase": "under private_key_passphrase",
    "private_key_file_pwd": "under private_key_passphrase",
}
"""Parameters that other programs accept in the query of a Snowflake URL, and where they belong here."""

URL_FORM = "snowflake://user@account/database/schema?warehouse=…&role=… is expected"


class SnowflakeAddress(NamedTuple):
    """The parts of a snowflake:// URL that determine the login."""

    user: str
    password: str
    account: str
    query: dict[str, str]


def parse_address(url: str) -> SnowflakeAddress:
    """Return the parts of a snowflake:// URL."""
    rest, _, query = url.partition("://")[2].partition("?")
    login, _, account = rest.partition("/")[0].rpartition("@")
    user, _, password = login.partition(":")
    return SnowflakeAddress(unquote(user), unquote(password), account, dict(parse_qsl(query, keep_blank_values=True)))


def validate_url(rest: str) -> str:
    """Return the URL of a Snowflake account.

    Args:
        rest: The URL without snowflake://.

    Raises:
        PydanticCustomError: The URL is invalid.
    """
    url = f"snowflake://{rest}"
    parts = parse_address(url)
    path = [unquote(part) for part in rest.partition("?")[0].partition("/")[2].split("/")]
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(?::[0-9]+)?", parts.account):
        raise invalid_value(f"the account is missing or malformed; {URL_FORM}")
    if not path[0] or len(path) > 2 or not path[-1]:
        raise invalid_value(f"a database, and a schema if need be, are expected after the account; {URL_FORM}")
    for name in parts.query:
        if name not in URL_PARAMETERS:
            place = (
                f"; it belongs {PLACES_OF_OTHER_PARAMETERS[name]}"
                if name in PLACES_OF_OTHER_PARAMETERS
                else f"; known here: {join_names(URL_PARAMETERS)}"
            )
            raise invalid_value(f"{name} is not allowed in the query of this address{place}")
    if parts.query.get("protocol", "https") != "https":
        host = parts.query.get("host", parts.account.partition(":")[0])
        if parts.query["protocol"] != "http" or not is_loopback(host):
            raise invalid_value("protocol=http is allowed for this machine only (127.0.0.1, localhost); leave it out")
    return url


def check_login(
    url: str, private_key: str | None, passphrase: str | None, oauth_token: str | None
) -> Iterator[Violation]:
    """Yield what is wrong with the login to the warehouse at `url`, each problem at its key."""
    given = {"private_key": private_key, "private_key_passphrase": passphrase, "oauth_token": oauth_token}
    if not url.startswith("snowflake:"):
        for key, value in given.items():
            if value is not None:
                yield (key,), "belongs to snowflake:// addresses; leave this key out"
        return
    parts = parse_address(url)
    methods = [
        name
        for name, used in (
            ("a password in url", parts.password),
            ("private_key", private_key),
            ("oauth_token", oauth_token),
            ("authenticator in url", parts.query.get("authenticator")),
        )
        if used
    ]
    if not methods:
        yield ("url",), "no way to log in: give a password in the address, or private_key, or oauth_token"
    for method in methods[1:]:
        yield (method if method in LOGIN_KEYS else "url",), f"one way to log in is enough, found {join_names(methods)}"
    if not parts.user and (parts.password or private_key):
        yield ("url",), f"the user is missing; {URL_FORM}"
    if private_key is not None:
        yield from _check_private_key(private_key, passphrase)
    elif passphrase is not None:
        yield ("private_key_passphrase",), "there is no private_key to decrypt"


def _check_private_key(private_key: str, passphrase: str | None) -> Iterator[Violation]:
    try:
        private_key_to_der(private_key, passphrase)
    except ImportError:
        return  # The library comes with the driver; opening the warehouse reports that the driver is missing.
    except TypeError:
        if passphrase is None:
            yield ("private_key",), "this key is encrypted; give its private_key_passphrase"
        else:
            yield ("private_key_passphrase",), "the private key is not encrypted; leave this key out"
    except ValueError:
        if passphrase is None:
            yield (("private_key",), "is no private key in PEM (-----BEGIN PRIVATE KEY-----) that can be read")
        else:
            yield (("private_key_passphrase",), "does not decrypt the private key, or the key is damaged")
    except Exception as error:  # noqa: BLE001 - each type of key has its own errors
        yield ("private_key",), f"cannot be used ({type(error).__name__}); an RSA key of 2048 bits is expected"


def private_key_to_der(pem: str, passphrase: str | None) -> bytes:
    """Return the key in the format that the driver takes: PKCS #8 in DER, not encrypted.

    Raises:
        TypeError: The passphrase is missing, or the key is not encrypted.
        ValueError: The key cannot be read with this passphrase.
        ImportError: The library that reads keys is not installed.
    """
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pem.encode(), passphrase.encode() if passphrase is not None else None)
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
