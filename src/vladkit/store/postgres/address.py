"""`Address`: where a collection is in PostgreSQL; connections to it, and psycopg's errors as ours.

No message holds a password: shown are user, host, database and schema. psycopg is imported when a
connection is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeGuard
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from vladkit.errors import MissingDependencyError, ParameterError, StorageError

if TYPE_CHECKING:
    import psycopg

__all__ = ["Address", "connect", "is_database", "shown_url", "translated", "with_schema"]

_SCHEMES: Final = ("postgresql://", "postgres://")
_SCHEMA: Final = "vladkit"
_SHOWN: Final = ("host", "port", "schema")
"""Parameters of a URL that messages show; of the others one is ``password``."""


def is_database(name: object) -> TypeGuard[str]:
    """Whether that is the URL of a database, and no file."""
    return isinstance(name, str) and name.lower().startswith(_SCHEMES)


def shown_url(name: str) -> str:
    """A name for messages: the URL of a database without its password, another name as it is."""
    return str(Address.parse(name)) if is_database(name) else name


def with_schema(name: str, schema: str | None) -> str:
    """The URL of a database with a schema, which None leaves as it is.

    Raises
    ------
    ParameterError
        If a schema is given for a file.
    """
    if schema is None:
        return name
    if not is_database(name):
        raise ParameterError(f"schema {schema} is for postgresql://..., {name} is a file")
    Address.parse(name, schema)  # raises if it says another
    return f"{name}{'&' if '?' in name else '?'}schema={quote(schema)}"


@dataclass(frozen=True, slots=True)
class Address:
    """A collection in a database: a libpq URL and the schema that holds its tables.

    ``str()`` of it is for messages, and lacks the password.
    """

    url: str = field(repr=False)
    schema: str
    shown: str

    @classmethod
    def parse(cls, url: str, schema: str | None = None) -> Self:
        """Read a URL, ``postgresql://USER@HOST/DATABASE?schema=NAME``.

        Parameters
        ----------
        url : str
            As libpq takes it. `schema` is ours; "vladkit" without it.
        schema : str or None
            The schema, if the URL does not say it.

        Raises
        ------
        ParameterError
            If it cannot be read, or says another schema.
        """
        try:
            parts = urlsplit(url)
        except ValueError:  # its message may hold the password
            parts = SplitResult("", "", "", "", "")
        # libpq would take what follows such a character for the host, and name it in its message
        if url.count("@") > min(parts.netloc.count("@"), 1) or parts.fragment or not parts.scheme:
            raise ParameterError(
                "the URL of PostgreSQL cannot be read: write @ / ? # % in a user or password as "
                "%40 %2F %3F %23 %25, or leave the password to PGPASSWORD or ~/.pgpass"
            )
        given = parts.query.split("&") if parts.query else []
        named = [unquote(each[7:]) for each in given if each.startswith("schema=")]
        if schema and named and schema != named[-1]:
            raise ParameterError(f"schema {schema}, but the URL says {named[-1]}: give one")
        chosen = schema or (named[-1] if named else _SCHEMA)
        if chosen == "$user":  # which search_path reads as another schema, quoted or not
            raise ParameterError("schema $user stands for the one of a user: give it by its name")
        rest = "&".join(each for each in given if not each.startswith("schema="))
        user, at, host = parts.netloc.rpartition("@")
        kept = [each for each in rest.split("&") if each.partition("=")[0] in _SHOWN]
        kept += [f"schema={chosen}"] if chosen != _SCHEMA else []
        netloc = f"{user.partition(':')[0]}{at}{host}"
        shown = parts._replace(scheme="postgresql", netloc=netloc, query="&".join(kept))
        return cls(urlunsplit(parts._replace(query=rest)), chosen, f"postgresql://{_behind(shown)}")

    def __str__(self) -> str:
        return self.shown


def _behind(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.netloc}{parts.path}{query}"


def connect(address: Address) -> psycopg.Connection[Any]:
    """Connect; transactions are the caller's.

    Raises
    ------
    MissingDependencyError
        If psycopg is not installed.
    StorageError
        If there is no connection.
    """
    try:
        import psycopg
    except ImportError as error:
        raise MissingDependencyError(
            f"{address}: psycopg, which talks to PostgreSQL, is not installed: "
            "pip install 'vladkit[postgres]'",
            name="psycopg",
        ) from error
    try:
        # Nothing is prepared, and nothing set for a session: poolers share those.
        return psycopg.connect(
            address.url,
            autocommit=True,
            prepare_threshold=None,
            client_encoding="utf8",
            fallback_application_name="vladkit",
        )
    except psycopg.OperationalError as error:
        reason = _without_password(str(error), address)
    except psycopg.Error:  # of the URL, parts of which it may hold
        reason = "libpq cannot read the URL"
    raise StorageError(f"cannot connect to {address}: {reason}")


def _without_password(text: str, address: Address) -> str:
    user = urlsplit(address.url).netloc.rpartition("@")[0]
    for secret in {user.partition(":")[2], unquote(user.partition(":")[2])} - {""}:
        text = text.replace(secret, "***")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


@contextmanager
def translated(address: Address, verb: str) -> Iterator[None]:
    """Raise psycopg's errors as StorageError, with the database's name and what to do."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        text = error.diag.message_primary or str(error).strip().partition("\n")[0]
        hint = _HINTS.get(error.sqlstate or "", "")
        if verb == "write" and error.sqlstate in ("42P01", "42703"):
            hint = ": its tables are not as they were made: drop the schema, or give another"
        raise StorageError(f"cannot {verb} {address}: {text}{hint}") from error


_HINTS: Final = {
    "42501": ": ask for that right, or give a schema that is yours",  # insufficient_privilege
    "42P01": ": export the collection again",  # undefined_table
    "42703": ": export the collection again",  # undefined_column
    "53100": ": what was there before is as it was",  # disk_full
    "2BP01": ": drop what depends on it, and make it again afterwards",
    "0A000": ": drop what depends on it, and make it again afterwards",  # a view of a view
}
