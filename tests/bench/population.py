"""Databases with as many accounts and live sessions as wanted."""

import itertools
import random
import secrets
import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, create_engine, insert, text, update

from authsvc.config import load
from authsvc.passwords import Passwords
from authsvc.store import tables
from authsvc.tokens import Tokens
from tests.bench.hashing import HASHER
from tests.databases import PASSWORD, SECRET_KEY, fill

_TOKENS = 1000
_LIFETIME = 43200.0
_BATCH = 10_000
_FIRST_ID = 1000  # behind those of `fill`
_ADMIN_ROLE = 1  # it grants something
_tables = tables.metadata.tables
_accounts, _sessions = _tables["account"], _tables["session"]


def account_name(number: int) -> str:
    """What the accounts are called; their password is `PASSWORD`."""
    return f"account-{number}"


class Population:
    """A database with `count` accounts, each with a live session; the tokens of up to 1,000 of them, from anywhere."""

    def __init__(self, url: str, count: int) -> None:
        """Fill the empty database at `url`."""
        fill(url)
        self.url, self.count = url, count
        self._engine = create_engine(
            load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}).database_url,
            isolation_level="AUTOCOMMIT",
        )
        tokens, numbers = Tokens([SECRET_KEY]), random.sample(range(count), min(count, _TOKENS))
        issued = {number: tokens.issue() for number in numbers}
        self.tokens = [token for token, _ in issued.values()]
        self._id_hashes = {number: id_hash for number, (_, id_hash) in issued.items()}
        self._insert()

    def see(self) -> None:
        """Let all sessions that have a token be seen now, so that no check within the next minute writes."""
        seen = update(_sessions).where(_sessions.c.id_hash == bindparam("id")).values(last_seen_at=time.time())
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            connection.execute(seen, [{"id": id_hash} for id_hash in self._id_hashes.values()])
            connection.exec_driver_sql("COMMIT")

    def hash_as_the_service(self) -> None:
        """Give all accounts a hash that an import does not refuse as weak."""
        with self._engine.connect() as connection:
            connection.execute(update(_accounts).values(password_hash=Passwords().hash(PASSWORD)))

    def _insert(self) -> None:
        now, hashed, numbers = time.time(), HASHER.hash(PASSWORD), range(self.count)
        account = {"role_id": _ADMIN_ROLE, "permission": 0, "disabled": False, "created_at": now, "login_count": 0}
        session = {"opened_at": now, "last_seen_at": now, "ends_at": now + _LIFETIME, "address": "127.0.0.1"}
        self._insert_rows(
            "account",
            (
                {"id": _FIRST_ID + n, "name": account_name(n), "name_key": account_name(n), "password_hash": hashed}
                | account
                for n in numbers
            ),
        )
        self._insert_rows(
            "session",
            (
                {"id_hash": self._id_hashes.get(n) or secrets.token_bytes(32), "account_id": _FIRST_ID + n}
                | {"user_agent": "bench"}
                | session
                for n in numbers
            ),
        )
        if self._engine.dialect.name == "postgresql":
            with self._engine.connect() as connection:
                connection.execute(text("VACUUM ANALYZE"))  # as autovacuum does it in time

    def _insert_rows(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        left = iter(rows)
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            while batch := list(itertools.islice(left, _BATCH)):
                connection.execute(insert(_tables[table]), batch)
            connection.exec_driver_sql("COMMIT")
