"""The database's URL, as it is accepted. Whatever is wrong with it is told without quoting it."""

import re
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_LIBPQ = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
_OURS = {"options", "connect_timeout", "client_encoding", "replication"}
_PRIMARY = {"primary", "read-write"}
_SEVERAL_HOSTS = "must list several hosts as postgresql://user:password@/name?host=h1:5432&host=h2:5432"
_HOST = re.compile(r"[^@/?#\s\x00-\x1f]*")


def parse_url(text: str) -> URL:
    """A URL that leads to a database. Raises ValueError."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # libpq's own spelling of several hosts ends with a port that is no number.
        raise ValueError(_SEVERAL_HOSTS if "," in text.rpartition("@")[2] else "is not a database URL") from None
    if url.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return _postgresql(url.set(drivername="postgresql+psycopg"))
    if url.drivername != "sqlite":
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if url.database in {None, "", ":memory:"} or url.query or url.host:
        raise ValueError("must name a file, as sqlite:///path or sqlite:////absolute/path")
    return url.set(database=str(Path(str(url.database)).absolute()))


def _postgresql(url: URL) -> URL:
    if url.host and "@" in url.host:
        raise ValueError("has an @ in its host: in a password, write it as %40")
    if url.host and not _HOST.fullmatch(url.host):
        raise ValueError("has a host that cannot be one: in a password, write / ? # as %2F %3F %23")
    if url.host and "," in url.host:
        raise ValueError(_SEVERAL_HOSTS)
    for key, value in url.query.items():
        _check_parameter(key, value)
    return url


def _check_parameter(key: str, value: str | tuple[str, ...]) -> None:
    if key in _OURS:
        raise ValueError(f"must not have ?{key}=, which the service sets itself (see deploy/README.md)")
    if key == "prepare_threshold":
        if not (isinstance(value, str) and re.fullmatch(r"none|[0-9]{1,4}", value)):
            raise ValueError("?prepare_threshold= must be none or a whole number")
    elif key == "target_session_attrs":
        if value not in _PRIMARY:
            raise ValueError("?target_session_attrs= must be primary or read-write: a standby's answers may be old")
    elif key not in _LIBPQ:
        raise ValueError("has a parameter after its ? that PostgreSQL's client library does not know")
    elif isinstance(value, tuple) and key != "host":
        raise ValueError(f"has ?{key}= more than once")
