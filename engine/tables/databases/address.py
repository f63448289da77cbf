"""Parse the URL of a database, and keep its secrets out of everything that is shown.

    'postgresql://reader:${DB_PASSWORD}@host/db' + environment  ->  Address: URL to connect with, text to show, secrets

A secret is a password, or the value of any parameter after the question mark.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from engine.errors import DatabaseError, UsageError, first_line

FILES = ("duckdb", "sqlite")  # schemes of databases that are files
POSTGRESQL = ("postgresql", "postgres")
_SERVERS = {
    *POSTGRESQL, "mysql", "mariadb", "mssql", "oracle", "snowflake", "bigquery", "redshift", "cockroachdb",
    "databricks", "trino", "presto", "clickhouse", "clickhousedb", "teradatasql", "db2", "hana",
}  # fmt: skip
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9]*)(\+[A-Za-z0-9_]+)?://")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SQL_SECRET = re.compile(
    r"(?i)(\w*(?:pass|pwd|secret|token|credential|api_?key)\w*)(\s*(?:=>|=|:)?\s*)('[^']*'|\"[^\"]*\")"
)
HIDDEN = "***"
# Classes of drivers' errors whose messages speak of names, files and connections, and of no values of a table.
_WITHOUT_VALUES = {
    "OperationalError", "ProgrammingError", "NotSupportedError", "NoSuchModuleError", "ArgumentError",
    "CatalogException", "BinderException", "ParserException", "SyntaxException", "IOException", "ConnectionException",
    "PermissionException", "TransactionException", "DatabaseError", "NoSuchTableError",
}  # fmt: skip


@dataclass(frozen=True)
class Address:
    """The URL of a database.

    Attributes
    ----------
    url : str
        With the values of environment variables; never shown.
    shown : str
        Without user, password and parameters.
    scheme : str
        In lower case, without the driver.
    path : str
        Of a database that is a file, its path.
    secrets : tuple of str
        Texts that no message may hold, the longest first.
    driver : str
        That the URL names after a plus sign, "" for none.
    """

    url: str = field(repr=False)
    shown: str
    scheme: str
    path: str
    secrets: tuple[str, ...] = field(repr=False)
    driver: str = ""

    @property
    def library(self) -> str:
        """What reads and writes it: duckdb, sqlite, postgresql (ADBC), or sqlalchemy for all else and named drivers."""
        if self.scheme in FILES:
            return self.scheme
        return "postgresql" if self.scheme in POSTGRESQL and not self.driver else "sqlalchemy"

    def hide(self, text: str) -> str:
        """Return a text with the secrets replaced, and what follows the names of secrets in SQL."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return _SQL_SECRET.sub(rf"\1\2'{HIDDEN}'", text)

    @contextmanager
    def explain_errors(self, action: str) -> Iterator[None]:
        """Raise DatabaseError for the errors of drivers, without secrets and without values of a table."""
        try:
            yield
        except ImportError as error:
            raise missing_library(error.name or "a driver", self.shown) from None
        except Exception as error:
            if not _is_of_driver(error):
                raise
            # The cause is left out: --debug would print its message.
            raise DatabaseError(
                f"{self.shown} {action}: {self.hide(_reason(error))}.",
                hint="try the URL and the query in a client of the database.",
            ) from None


def missing_library(module: str, where: str) -> UsageError:
    """Return the error that says how to install what reads a database."""
    module = module.split(".")[0]
    return UsageError(
        f"{where} needs the extra 'databases', and {module} is not installed.",
        hint="pip install 'rooms-engine[databases]', and the driver of the database if it is another than PostgreSQL.",
    )


def is_database_url(text: str) -> bool:
    """Tell whether a text is the URL of a database, by its scheme."""
    match = _SCHEME.match(text)
    return match is not None and (match[1].lower() in (*FILES, *_SERVERS) or match[2] is not None)


def hide_url(text: str) -> str:
    """Return a path as it is, and a URL without user, password and parameters, also one whose slashes are wrong."""
    if "://" not in text:
        before, _, rest = text.rpartition("@")
        return f"{HIDDEN}@{rest}" if ":" in before else text
    scheme, _, rest = text.partition("://")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{place.rpartition('@')[2]}"


def parse_address(url: str) -> Address:
    """Parse the URL of a database: `${NAME}` in it is the value of an environment variable.

    Raises
    ------
    UsageError
        If it is no such URL, or a variable is not set.
    """
    expanded = _expand(url)
    match = _SCHEME.match(expanded)
    if match is None:
        raise UsageError(
            f"{hide_url(url).partition('?')[0]} is no URL of a database.",
            hint="write it like postgresql://user:${PASSWORD}@host/name, duckdb:///file.duckdb or sqlite:///file.db.",
        )
    scheme, driver = match[1].lower(), (match[2] or "").removeprefix("+")
    if scheme in FILES:
        path = unquote(urlsplit(expanded).path).removeprefix("/")
        if not path or urlsplit(expanded).netloc:
            raise UsageError(
                f"The URL of a {scheme} file has three slashes: {scheme}:///members.db, or four for a path from /.",
            )
        return Address(expanded, f"{scheme}:///{path}", scheme, path, ())
    try:
        parts = urlsplit(expanded)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise _unreadable(scheme) from None
    # The end of a password that was cut at / ? or #, or one with @: drivers differ in where they cut that.
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or parts.netloc.count("@") > 1:
        raise _unreadable(scheme)
    values = [value for _, value in parse_qsl(parts.query)] + ([parts.password] if parts.password else [])
    secrets = {expanded, url if "${" not in url else expanded, *values, *map(unquote, values), *map(quote, values)}
    shown = f"{match[0].lower()}{parts.hostname or ''}{port}{parts.path}"
    return Address(expanded, shown, scheme, "", tuple(sorted(filter(None, secrets), key=len, reverse=True)), driver)


def _unreadable(scheme: str) -> UsageError:
    return UsageError(
        f"The URL of {scheme} cannot be read.",
        hint="write the letters / ? # @ : of a password as %2F %3F %23 %40 %3A, or put it into ${A_VARIABLE}.",
    )


def _expand(url: str) -> str:
    """Return a URL with the values of variables, percent-encoded; a URL that is one variable is its value as it is."""

    def value_of(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise UsageError(f"The environment variable {match[1]} of the URL is not set.")
        return value if match[0] == url else quote(value, safe="")

    return _VARIABLE.sub(value_of, url)


def _is_of_driver(error: Exception) -> bool:
    module = type(error).__module__.split(".")[0]
    return module not in ("engine", "builtins") or isinstance(error, OSError)


def _reason(error: Exception) -> str:
    """Return the reason that a driver gives, and only its code where the message may hold values of a table."""
    state = getattr(error, "sqlstate", None)
    if type(error).__name__ not in _WITHOUT_VALUES and not isinstance(error, FileNotFoundError | PermissionError):
        code = type(error).__name__ + (f", SQLSTATE {state}" if state else "")
        return f"{code}, whose message is not shown, because it may hold values"
    return first_line(getattr(error, "orig", None) or error).rstrip(".")
