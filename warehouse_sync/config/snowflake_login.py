"""How a worker logs in to Snowflake: what a URL may say, and that exactly one way to log in is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from warehouse_sync.config.types import is_loopback
from warehouse_sync.config.validation import Violation, invalid_value, join_names

LOGIN_KEYS = ("private_key", "private_key_passphrase", "oauth_token")
"""Keys of a warehouse that belong to Snowflake alone."""

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
"""What may stand in the query of a URL."""

PLACES_OF_OTHER_PARAMETERS = {
    "password": "between user and @",
    "account": "as the host",
    "user": "in front of @",
    "database": "as the path",
    "schema": "behind the database, as in snowflake://account/database/schema",
    "token": "under oauth_token",
    "private_key": "under private_key",
    "private_key_file": "under private_key, as {file: /path}",
    "private_key_passphrase": "under private_key_passphrase",
    "private_key_file_pwd": "under private_key_passphrase",
}
"""What is known of a Snowflake URL from elsewhere, and where it stands here."""

URL_FORM = "snowflake://user@account/database/schema?warehouse=…&role=… is expected"


class SnowflakeAddress(NamedTuple):
    """The parts of a URL that decide how one logs in."""

    user: str
    password: str
    account: str
    query: dict[str, str]


def parse_address(url: str) -> SnowflakeAddress:
    """The parts of a snowflake:// URL."""
    rest, _, query = url.partition("://")[2].partition("?")
    login, _, account = rest.partition("/")[0].rpartition("@")
    user, _, password = login.partition(":")
    return SnowflakeAddress(unquote(user), unquote(password), account, dict(parse_qsl(query, keep_blank_values=True)))


def validate_url(rest: str) -> str:
    """The URL whose part behind :// is `rest`. Raises what a validator raises."""
    url = f"snowflake://{rest}"
    parts = parse_address(url)
    path = [unquote(part) for part in rest.partition("?")[0].partition("/")[2].split("/")]
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(?::[0-9]+)?", parts.account):
        raise invalid_value(f"the account is missing or odd; {URL_FORM}")
    if not path[0] or len(path) > 2 or not path[-1]:
        raise invalid_value(f"a database, and a schema if need be, are expected behind the account; {URL_FORM}")
    for name in parts.query:
        if name not in URL_PARAMETERS:
            place = (
                f"; it stands {PLACES_OF_OTHER_PARAMETERS[name]}"
                if name in PLACES_OF_OTHER_PARAMETERS
                else f"; known here: {join_names(URL_PARAMETERS)}"
            )
            raise invalid_value(f"{name} must not stand in the query of this address{place}")
    if parts.query.get("protocol", "https") != "https":
        host = parts.query.get("host", parts.account.partition(":")[0])
        if parts.query["protocol"] != "http" or not is_loopback(host):
            raise invalid_value("protocol=http is taken for this machine only (127.0.0.1, localhost); leave it out")
    return url


def check_login(
    url: str, private_key: str | None, passphrase: str | None, oauth_token: str | None
) -> Iterator[Violation]:
    """What is wrong with how a warehouse at `url` is logged in to; key by key."""
    given = {"private_key": private_key, "private_key_passphrase": passphrase, "oauth_token": oauth_token}
    if not url.startswith("snowflake:"):
        for key, value in given.items():
            if value is not None:
                yield (key,), "belongs to snowflake:// addresses; leave this key out"
        return
    parts = parse_address(url)
    ways = [
        name
        for name, used in (
            ("a password in url", parts.password),
            ("private_key", private_key),
            ("oauth_token", oauth_token),
            ("authenticator in url", parts.query.get("authenticator")),
        )
        if used
    ]
    if not ways:
        yield ("url",), "no way to log in: give a password in the address, or private_key, or oauth_token"
    for way in ways[1:]:
        yield (way if way in LOGIN_KEYS else "url",), f"one way to log in is enough, found {join_names(ways)}"
    if not parts.user and (parts.password or private_key):
        yield ("url",), f"the user is missing; {URL_FORM}"
    if private_key is not None:
        yield from _check_private_key(private_key, passphrase)
    elif passphrase is not None:
        yield ("private_key_passphrase",), "there is no private_key that it could open"


def _check_private_key(private_key: str, passphrase: str | None) -> Iterator[Violation]:
    try:
        private_key_to_der(private_key, passphrase)
    except ImportError:
        return  # The driver brings what reads keys; who opens the warehouse is told that it is missing.
    except TypeError:
        if passphrase is None:
            yield ("private_key",), "this key is encrypted; give its private_key_passphrase"
        else:
            yield ("private_key_passphrase",), "the private key is not encrypted; leave this key out"
    except ValueError:
        if passphrase is None:
            yield (("private_key",), "is no private key in PEM (-----BEGIN PRIVATE KEY-----) that can be read")
        else:
            yield (("private_key_passphrase",), "does not open the private key, or that is damaged")
    except Exception as error:  # noqa: BLE001 - each kind of key has errors of its own
        yield ("private_key",), f"cannot be used ({type(error).__name__}); an RSA key of 2048 bits is expected"


def private_key_to_der(pem: str, passphrase: str | None) -> bytes:
    """The key as the driver wants it: PKCS #8 in DER, not encrypted.

    Raises TypeError when the passphrase is missing or superfluous, ValueError when the key cannot be read with it,
    ImportError when nothing is installed that reads keys.
    """
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pem.encode(), passphrase.encode() if passphrase is not None else None)
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
