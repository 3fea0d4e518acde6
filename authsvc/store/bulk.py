"""The queries that bring many accounts in and out: page by page, and many rows a statement."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from authsvc.errors import ChangedMeanwhile
from authsvc.store import tables

PAGE = 500
"""Rows that are read or written at a time; on PostgreSQL a statement has 2 seconds."""

Row = Mapping[str, Any]

_account, _session, _recovery = tables.account.c, tables.session.c, tables.recovery_code.c


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
        statement = select(tables.account).where(_account.id > after).order_by(_account.id).limit(PAGE)
        rows = [{**row._mapping, "recovery_hashes": []} for row in self._connection.execute(statement)]  # noqa: SLF001
        if rows:
            by_id = {row["id"]: row for row in rows}
            codes = select(_recovery.account_id, _recovery.code_hash).order_by(_recovery.code_hash)
            within = _recovery.account_id.between(rows[0]["id"], rows[-1]["id"])
            for account_id, code_hash in self._connection.execute(codes.where(within)):
                by_id[account_id]["recovery_hashes"].append(code_hash.hex())
        return rows

    def secrets(self, after: int) -> Sequence[tuple[int, str, str | None]]:
        """The next PAGE accounts behind an id: id, password hash, encrypted seed."""
        columns = select(_account.id, _account.password_hash, _account.otp_seed)
        statement = columns.where(_account.id > after).order_by(_account.id).limit(PAGE)
        return [tuple(row) for row in self._connection.execute(statement)]

    def seeds(self, after: int) -> Sequence[tuple[int, str]]:
        """The next PAGE accounts behind an id that have two-step verification on: id and encrypted seed."""
        columns = select(_account.id, _account.otp_seed).where(_account.otp_seed.is_not(None))
        statement = columns.where(_account.id > after).order_by(_account.id).limit(PAGE)
        return [tuple(row) for row in self._connection.execute(statement)]

    def sessions(self, after: bytes) -> list[dict[str, Any]]:
        """The next PAGE sessions behind an `id_hash`."""
        statement = select(tables.session).where(_session.id_hash > after).order_by(_session.id_hash).limit(PAGE)
        return [dict(row._mapping) for row in self._connection.execute(statement)]  # noqa: SLF001

    def live_sessions(self, now: float, before: float) -> int:
        """How many sessions were opened before a time and have not come to their end."""
        statement = select(func.count()).where(_session.ends_at > now, _session.opened_at < before)
        return int(self._connection.execute(statement).scalar_one())

    # Look up

    def find(self, column: str, values: Iterable[Any]) -> list[dict[str, Any]]:
        """What an import must know of the accounts whose `column` (`id`, `name_key`, `phone`) is one of `values`."""
        columns = select(
            _account.id,
            _account.name,
            _account.name_key,
            _account.phone,
            _account.password_hash,
            _account.otp_seed,
            _account.disabled,
        )
        statement = columns.where(_account[column].in_(list(values)))
        return [dict(row._mapping) for row in self._connection.execute(statement)]  # noqa: SLF001

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
            self._many(
                statement,
                [{"key" if name == "name_key" else f"new_{name}": row[name] for name in names} for row in alike],
                each_one=True,
            )

    def number_on(self) -> None:
        """Number accounts and roles behind the highest id from now on."""
        for table in (tables.account, tables.role):
            self._backend.number_on(self._connection, table.name)

    def replace_recovery_codes(self, rows: list[dict[str, Any]]) -> None:
        """Give each account (`name_key`) those codes alone whose hashes (`recovery_hashes`) are given in hex."""
        owner = select(_account.id).where(_account.name_key == bindparam("key")).scalar_subquery()
        self._many(
            delete(tables.recovery_code).where(_recovery.account_id == owner),
            [{"key": row["name_key"]} for row in rows],
        )
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
        self._put(tables.session, [{**row, "id_hash": bytes.fromhex(row["id_hash"])} for row in rows])

    def change_seeds(self, rows: list[dict[str, Any]]) -> int:
        """Replace `old` by `new` where it is still the seed of account `owner`; return how many were."""
        statement = update(tables.account).where(
            _account.id == bindparam("owner"), _account.otp_seed == bindparam("old")
        )
        return self._connection.execute(statement.values(otp_seed=bindparam("new")), rows).rowcount

    def _put(self, table: Table, rows: list[dict[str, Any]]) -> None:
        statement = self._backend.upsert(table).inline()
        new = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
        self._many(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new), rows)

    def _many(self, statement: Any, rows: list[dict[str, Any]], *, each_one: bool = False) -> None:
        try:
            changed = self._connection.execute(statement, rows).rowcount
        except IntegrityError:
            raise ChangedMeanwhile from None
        if each_one and changed != len(rows):
            raise ChangedMeanwhile
