"""The queries that bring many accounts in and out: page by page, and many rows a statement."""

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from authsvc.errors import ChangedMeanwhile
from authsvc.store import tables

PAGE = 500
"""Rows that are read or written at a time; on PostgreSQL a statement has 2 seconds."""

_account, _session, _recovery = tables.account.c, tables.session.c, tables.recovery_code.c
_KNOWN = [_account[name] for name in ("id", "name", "name_key", "phone", "password_hash", "otp_seed", "disabled")]


class Backend(Protocol):
    """What these queries need to know of their database."""

    upsert: Callable[..., Any]
    """Its own INSERT ... ON CONFLICT."""

    def number_on(self, connection: Connection, table: str) -> None:
        """Number rows behind the highest id from now on."""


class Bulk:
    """Rows as they are: columns by name. An account that has no id yet is named by its `name_key`."""

    def __init__(self, connection: Connection, backend: Backend) -> None:
        self._connection = connection
        self._backend = backend

    # Out

    def accounts(self, after: int) -> list[dict[str, Any]]:
        """The next PAGE accounts behind an id, all columns, and `recovery_hashes` in hex."""
        rows = [{**row, "recovery_hashes": []} for row in self._page(select(tables.account), _account.id, after)]
        if rows:
            by_id = {row["id"]: row for row in rows}
            codes = select(_recovery.account_id, _recovery.code_hash).order_by(_recovery.code_hash)
            within = _recovery.account_id.between(rows[0]["id"], rows[-1]["id"])
            for account_id, code_hash in self._connection.execute(codes.where(within)):
                by_id[account_id]["recovery_hashes"].append(code_hash.hex())
        return rows

    def secrets(self, after: int) -> list[tuple[int, str, str | None]]:
        """The next PAGE accounts behind an id: id, password hash, encrypted seed."""
        statement = select(_account.id, _account.password_hash, _account.otp_seed)
        return [(*row.values(),) for row in self._page(statement, _account.id, after)]

    def seeds(self, after: int) -> list[tuple[int, str]]:
        """The next PAGE accounts behind an id that have two-step verification on: id and encrypted seed."""
        statement = select(_account.id, _account.otp_seed).where(_account.otp_seed.is_not(None))
        return [(*row.values(),) for row in self._page(statement, _account.id, after)]

    def sessions(self, after: bytes) -> list[dict[str, Any]]:
        """The next PAGE sessions behind an `id_hash`."""
        return self._page(select(tables.session), _session.id_hash, after)

    def _page(self, statement: Select[Any], place: ColumnElement[Any], after: object) -> list[dict[str, Any]]:
        return self._rows(statement.where(place > after).order_by(place).limit(PAGE))

    def _rows(self, statement: Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def live_sessions(self, now: float, before: float) -> int:
        """How many sessions were opened before a time and have not come to their end."""
        statement = select(func.count()).where(_session.ends_at > now, _session.opened_at < before)
        return int(self._connection.execute(statement).scalar_one())

    # Look up

    def find(self, column: str, values: Iterable[Any]) -> list[dict[str, Any]]:
        """What an import must know of the accounts whose `column` (`id`, `name_key`, `phone`) is one of `values`."""
        return self._rows(select(*_KNOWN).where(_account[column].in_(list(values))))

    # In. Each raises ChangedMeanwhile where a row is not, or no longer, as the import was planned.

    def add_accounts(self, rows: list[dict[str, Any]]) -> None:
        """Insert accounts, with or without their ids."""
        self._many(insert(tables.account).inline(), rows)

    def rename_accounts(self, rows: list[dict[str, Any]]) -> None:
        """Give each account (`account_id`) the name that is compared (`new_key`)."""
        statement = update(tables.account).where(_account.id == bindparam("account_id"))
        self._many(statement.values(name_key=bindparam("new_key")), rows, each_one=True)

    def change_accounts(self, rows: list[dict[str, Any]]) -> None:
        """Set what each row has besides its `name_key`."""
        # One statement for all that set the same columns.
        for names, alike in groupby(rows, key=lambda row: tuple(sorted(row))):
            columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names if name != "name_key"}
            if not columns:
                continue
            statement = update(tables.account).where(_account.name_key == bindparam("key")).values(columns)
            new = [{"key" if name == "name_key" else f"new_{name}": row[name] for name in names} for row in alike]
            self._many(statement, new, each_one=True)

    def number_on(self) -> None:
        """Number accounts and roles behind the highest id from now on."""
        for table in (tables.account, tables.role):
            self._backend.number_on(self._connection, table.name)

    def replace_recovery_codes(self, rows: list[dict[str, Any]]) -> None:
        """Give each account (`name_key`) those codes alone whose hashes (`recovery_hashes`) are given in hex."""
        owner = select(_account.id).where(_account.name_key == bindparam("key")).scalar_subquery()
        old = delete(tables.recovery_code).where(_recovery.account_id == owner)
        self._many(old, [{"key": row["name_key"]} for row in rows])
        codes = [
            {"key": row["name_key"], "hash": bytes.fromhex(code_hash)}
            for row in rows
            for code_hash in dict.fromkeys(row["recovery_hashes"])
        ]
        if codes:
            statement = insert(tables.recovery_code).values(account_id=owner, code_hash=bindparam("hash"))
            self._many(statement, codes)

    def end_sessions(self, rows: list[dict[str, Any]]) -> None:
        """End all sessions of each account (`account_id`)."""
        statement = delete(tables.session).where(_session.account_id == bindparam("owner"))
        self._many(statement, [{"owner": row["account_id"]} for row in rows])

    def put_sessions(self, rows: list[dict[str, Any]]) -> None:
        """Insert sessions, or make those that are there so. `id_hash` is in hex."""
        statement = self._backend.upsert(tables.session).inline()
        new = {column.name: statement.excluded[column.name] for column in _session if not column.primary_key}
        put = statement.on_conflict_do_update(index_elements=["id_hash"], set_=new)
        self._many(put, [{**row, "id_hash": bytes.fromhex(row["id_hash"])} for row in rows])

    def change_seeds(self, rows: list[dict[str, Any]]) -> int:
        """Replace `old` by `new` where it is still the seed of account `owner`; return how many were."""
        is_old = (_account.id == bindparam("owner"), _account.otp_seed == bindparam("old"))
        statement = update(tables.account).where(*is_old).values(otp_seed=bindparam("new"))
        return self._connection.execute(statement, rows).rowcount

    def _many(self, statement: Any, rows: list[dict[str, Any]], *, each_one: bool = False) -> None:
        try:
            changed = self._connection.execute(statement, rows).rowcount
        except IntegrityError:
            raise ChangedMeanwhile from None
        if each_one and changed != len(rows):
            raise ChangedMeanwhile
