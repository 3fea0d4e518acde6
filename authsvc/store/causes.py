"""Why a database cannot be worked with, in one of a few fixed phrases: an error's own text may quote the URL."""

import re
from typing import Any

TABLES = "its tables are missing or too old (`flask db upgrade` makes them)"
RIGHTS = "the role lacks a right that it needs"
STANDBY = "no server that was reached is the primary"
LOGIN = "the password or the role is wrong"
STALE = "the connection was no longer of use"
SLOW = "a lock or a statement took too long"
FULL = "the server has no free connection for us"
READ_ONLY = "it is read-only"
SILENT = "no answer came in time"
BUSY = "all of our connections to it are in use"
WRITER = "another transaction writes for too long"
ENCODING = "its encoding is neither UTF8 nor SQL_ASCII"
SCHEMA = "its schema is not one that this code can upgrade"
UNKNOWN = "none of the known causes"

_SQLSTATES = {
    "42P01": TABLES,
    "42703": TABLES,
    "42501": RIGHTS,
    "22012": STANDBY,  # see IsPrimary
    "25006": READ_ONLY,
    "0A000": STALE,
    "26000": STALE,
    "42P05": STALE,
    "57014": SLOW,
    "55P03": SLOW,
    "25P03": SLOW,
    "53300": FULL,
    "53100": "its disk is full",
    "SQLITE_BUSY": WRITER,
    "SQLITE_LOCKED": WRITER,
    "SQLITE_FULL": "its disk is full",
    "SQLITE_READONLY": READ_ONLY,
    "SQLITE_CANTOPEN": "its file is not there, or cannot be opened",
    "SQLITE_NOTADB": "its file is damaged, or no database",
    "SQLITE_CORRUPT": "its file is damaged, or no database",
    "SQLITE_IOERR": "its disk cannot be read or written",
}

# Classes of codes (PostgreSQL documentation, appendix A) that are met in connecting, too.
_CONNECTING = ("08", "28", "3D", "57")

# What libpq, PostgreSQL and PgBouncer say where there is no code: at connecting. The first that matches is told.
_TEXTS = [
    (re.compile(pattern, re.IGNORECASE), phrase)
    for pattern, phrase in (
        (r"authentication failed|no password supplied", LOGIN),
        (r"role .* does not exist|not permitted to log in", LOGIN),
        (r"database .* does not exist|no such database", "there is no database of this name"),
        (r"pg_hba\.conf|permission denied for database", "the role may not connect to it"),
        (r"too many (clients|connections)|connection slots|no more connections|client_conn", FULL),
        (r"unsupported startup parameter", "the pooler refuses the parameter `options` (see deploy/README.md)"),
        (r"invalid .* value|invalid port|invalid connection option", "a parameter of its URL has an unknown value"),
        (r"ssl|certificate|tls", "TLS cannot be agreed on, or a certificate is not trusted"),
        (r"server_encoding", ENCODING),
        (r"hot standby|session is (not )?read|pg_is_in_recovery", STANDBY),
        (r"starting up|shutting down|shut down|recovery mode|not (yet )?accepting", "it is starting or stopping"),
        (r"failed to resolve host|could not translate host name", "its host's name is unknown"),
        (r"connection refused|no such file or directory", "nobody listens at its address"),
        (r"no route to host|unreachable", "its network cannot be reached"),
        (r"no such (table|column)|has no column", TABLES),
        (r"timeout|timed out", SILENT),
        (r"closed the connection|connection is (lost|closed)|terminating connection", "it ended the connection"),
        (r"server login has been failing|server conn crashed|query_wait_timeout", "the pooler does not reach it"),
    )
]  # fmt: skip


def known_cause(error: Any) -> str | None:
    """The phrase for what a driver raised, where there is one."""
    # SQLite's extended codes begin with the primary one's name.
    code = getattr(error, "sqlstate", None) or "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
    if code in _SQLSTATES:
        return _SQLSTATES[code]
    if getattr(error, "sqlstate", None) and not error.sqlstate.startswith(_CONNECTING):
        return None
    return next((phrase for pattern, phrase in _TEXTS if pattern.search(str(error))), None)
